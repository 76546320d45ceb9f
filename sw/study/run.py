"""The tables of docs/architecture.md (`spiketicket bench study`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm import tqdm

from hw.config import PRESETS, CoreConfig

from ..errors import SpikeTicketError
from . import report
from .workloads import event_statistics

TABLES = ("comparison", "comparison-100t", "causes", "parameters", "event-driven", "sensitivity",
          "ladder", "formats")


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


def run(names: Sequence[str], workloads: Sequence[str] | None, *, config: CoreConfig,
        ticket: Path | None = None, nmnist: Path | None = None, image: int = 0
        ) -> dict[str, object]:
    """The tables of these names, of `report.workloads` (None: all); config: core of some of them.

    ticket, nmnist, image: of `report.workloads`. Raises SpikeTicketError.
    """
    makers = report.workloads(ticket, nmnist, image)
    cases = [makers[key]() for key in tqdm(workloads or makers, desc="workloads", leave=False)]
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
    result: dict[str, object] = {name: tables[name]() for name in tqdm(names, desc="tables")}
    result["workloads"] = [{"workload": case.key, "title": case.title,
                            "activity": round(case.activity, 3),
                            "useful": round(case.useful / case.images),
                            "weights": case.network.weights_total,
                            "surviving": case.network.weights_surviving} for case in cases]
    if nmnist:
        result["event statistics"] = [event_statistics(nmnist)]
    return result


def show(result: dict[str, object]) -> None:
    """Print tables as Markdown."""
    for name, rows in result.items():
        print(f"\n## {name}\n\n{markdown(rows)}")
