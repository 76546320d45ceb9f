"""`python -m sw.study`: the tables and plots of docs/architecture.md."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from hw.config import PRESETS

from .. import outputs
from ..errors import SpikeTicketError, command
from . import report
from .workloads import event_statistics

TABLES = ("comparison", "comparison-100t", "causes", "parameters", "event-driven", "sensitivity",
          "ladder", "formats")
EXAMPLES = """examples:
  python -m sw.study                                   all tables, about 2 minutes
  python -m sw.study --tables comparison --only ticket
  python -m sw.study --json > study.json
  python -m sw.study --update docs/architecture.md --plot docs/img
  python -m sw.study --nmnist nmnist_test100.npz --only nmnist --tables comparison"""


def markdown(rows: list[dict]) -> str:
    """Rows as a Markdown table."""
    if not rows:
        return ""
    head = list(rows[0])
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(f"{row[key]:,}" if isinstance(row[key], int) else str(row[key])
                                for key in head) + " |" for row in rows]
    return "\n".join(lines)


def update(path: Path, tables: dict[str, object]) -> None:
    """Put tables between `<!-- study NAME -->` and `<!-- end -->`; other text stays."""
    try:
        text = path.read_text()
    except OSError as error:
        raise SpikeTicketError(f"{path}: cannot be read ({error})") from error
    for name, rows in tables.items():
        mark = f"<!-- study {name} -->"
        if mark in text:
            before, rest = text.split(mark, 1)
            if "<!-- end -->" not in rest:
                raise SpikeTicketError(f"{path}: no <!-- end --> after {mark}")
            text = f"{before}{mark}\n{markdown(rows)}\n<!-- end -->" + rest.split(
                "<!-- end -->", 1)[1]
    part = path.with_name(path.name + ".tmp")
    part.write_text(text)
    os.replace(part, path)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m sw.study", description="Compare dataflows for spiking lottery tickets.",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES),
                        metavar="TABLE", help=f"which tables: {', '.join(TABLES)}")
    parser.add_argument("--only", nargs="+", metavar="WORKLOAD",
                        help="workloads: ticket vgg9 spikformer-95 spikformer-98.6 nmnist")
    parser.add_argument("--ticket", type=Path, help="ticket of workload (a); default: the bundled")
    parser.add_argument("--image", type=int, default=0,
                        help="first of four test images of workload (a), or N-MNIST recording")
    parser.add_argument("--nmnist", type=Path, metavar="FILE",
                        help=".npz of N-MNIST recordings; default: synthetic events alike")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="a35t",
                        help="core of the tables that show one (default a35t)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--update", type=Path, metavar="FILE",
                        help="replace the tables between `study` comments in a Markdown file")
    parser.add_argument("--plot", type=outputs.folder, metavar="DIR",
                        help="write the plots as SVG")
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> dict[str, object]:
    """All tables asked for, by name."""
    makers = report.workloads(args.ticket, args.nmnist, args.image)
    chosen = args.only or list(makers)
    unknown = sorted(set(chosen) - set(makers))
    if unknown:
        raise SpikeTicketError(f"--only names no workload {unknown[0]!r}; choose from "
                               f"{', '.join(makers)}")
    config = PRESETS[args.preset]
    cases = [makers[key]() for key in tqdm(chosen, desc="workloads", leave=False)]
    first = next((case for case in cases if case.key == "ticket"), cases[0])

    def shown() -> list:
        return tqdm(cases, desc="layers", leave=False)

    tables: dict[str, Callable[[], list[dict]]] = {
        "comparison": lambda: report.comparison(shown(), "XC7A35T", PRESETS["a35t"]),
        "comparison-100t": lambda: report.comparison(
            shown(), "XC7A100T", PRESETS["a100t"]),
        "causes": lambda: report.causes(shown(), config),
        "parameters": lambda: report.parameters(
            [case for case in cases if case.key != "vgg9"] or cases, config.engines),
        "event-driven": lambda: report.event_driven(config),
        "sensitivity": lambda: report.sensitivity(config),
        "ladder": lambda: report.ladder(first, config),
        "formats": report.formats,
    }
    result: dict[str, object] = {name: tables[name]() for name in tqdm(args.tables, desc="tables")}
    result["workloads"] = [{"workload": case.key, "title": case.title,
                            "activity": round(case.activity, 3),
                            "useful": round(case.useful / case.images),
                            "weights": case.network.weights_total,
                            "surviving": case.network.weights_surviving} for case in cases]
    if args.nmnist:
        result["event statistics"] = [event_statistics(args.nmnist)]
    return result


@command
def main(argv: list[str] | None = None) -> int:
    args = _arguments(argv)
    result = run(args)
    if args.update:
        update(args.update, result)
    if args.plot:
        from .plots import write_plots
        for path in write_plots(result, args.plot):
            print(f"wrote {path}", file=sys.stderr)
    if args.json:
        print(json.dumps(result, indent=1))
    else:
        for name, rows in result.items():
            print(f"\n## {name}\n\n{markdown(rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
