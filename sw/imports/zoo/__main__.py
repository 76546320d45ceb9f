"""Import every network of the zoo and compare it with its own run.

SpikingJelly's model classes, small, and networks written the ways people write them, with random
weights: on whole numbers every spike must be the module's. Exit code 1 where one is not, or where
something is refused that should not be.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from pathlib import Path

from tqdm import tqdm

from ...errors import SpikeTicketError, command
from . import check, page
from .all import entries
from .entry import Entry

EXAMPLES = """\
examples:
  python -m sw.imports.zoo --quick                    # one kind of neuron each, whole numbers only
  python -m sw.imports.zoo --only spikformer --json
  python -m sw.imports.zoo --page docs/zoo.md         # the table of the documentation
"""


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python -m sw.imports.zoo", description=__doc__,
                                epilog=EXAMPLES,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", metavar="NAME", action="append",
                   help="networks whose name contains NAME (may be given several times)")
    p.add_argument("--quick", action="store_true",
                   help="one kind of neuron each, and not near whole numbers")
    p.add_argument("--list", action="store_true", help="say what is in the zoo, run nothing")
    p.add_argument("--json", action="store_true", help="print JSON instead of a table")
    p.add_argument("--rows", metavar="FILE",
                   help="keep every finished row here; a later run with it leaves those out")
    p.add_argument("--page", metavar="FILE", help="write the table as a page of Markdown")
    return p


@command
def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    chosen = _chosen(options.only)
    if options.list:
        for entry in chosen:
            print(f"{entry.name:28} {', '.join(entry.neurons) or 'its own neurons':16} {entry.way}")
        return 0
    kept = _kept(options.rows)
    total = sum(1 if options.quick else len(entry.kinds) for entry in chosen)
    with tqdm(total=total, unit="network", disable=options.json) as bar:
        def done(row: check.Verdict) -> None:
            bar.set_description(row.name)
            bar.update()
            if options.rows and (row.name, row.neuron) not in kept:
                with Path(options.rows).open("a") as file:
                    file.write(json.dumps(row.as_dict()) + "\n")
        rows = check.rows(chosen, not options.quick, options.quick, done, kept)
    if options.page:
        Path(options.page).write_text(page.page(rows))
    if options.json:
        print(json.dumps([row.as_dict() for row in rows], indent=1))
    else:
        print(page.table(rows))
        print(page.summary(rows))
    return 0 if all(row.right for row in rows) else 1


def _kept(path: str | None) -> dict[tuple[str, str], check.Verdict]:
    """Finished rows by name and neuron."""
    if path is None or not Path(path).exists():
        return {}
    try:
        found = [check.Verdict.of(json.loads(line)) for line in Path(path).read_text().splitlines()]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SpikeTicketError(f"--rows {path}: not a file of finished rows ({error}); give "
                               "another name, or remove it") from error
    return {(row.name, row.neuron): row for row in found}


def _chosen(only: list[str] | None) -> list[Entry]:
    known = entries()
    if not only:
        return known
    for name in only:
        if not any(name in entry.name for entry in known):
            near = difflib.get_close_matches(name, [entry.name for entry in known], 1)
            hint = f"did you mean {near[0]!r}?" if near else "--list shows the names"
            raise SpikeTicketError(f"--only {name}: no network of the zoo has this name; {hint}")
    return [entry for entry in known if any(name in entry.name for name in only)]


if __name__ == "__main__":
    sys.exit(main())
