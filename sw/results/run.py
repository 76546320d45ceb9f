"""Write docs/results.md: the papers' tables beside what was run here.

Figures come from docs/results/*.csv, words from docs/results/template.md; nothing of ours is typed
by hand. `collect` reads finished sweeps and writes those tables and the plots first.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ..errors import SpikeTicketError
from . import tables, tickets
from .page import Page


def collect(sweeps: Path, docs: Path) -> list[Path]:
    """Tables and plots of every docs/sweeps/NAME.yaml that has finished cells in sweeps/NAME."""
    from ..sweeps.plan import read_plan
    from ..sweeps.plots import write_plots
    files = []
    for file in sorted((docs / "sweeps").glob("*.yaml")):
        folder = sweeps / file.stem
        if not any(folder.glob("cells/*/result.json")):
            continue
        files += tables.collect(folder, file, docs / "results")
        plan = read_plan(file)
        rows = [{**row, "status": "done"}
                for row in tables.read(docs / "results" / f"{file.stem}.csv")]
        plots = folder / "plots"
        for path in write_plots(rows, plan.axes, plots, plan.metric):
            target = docs / "img" / f"results-{file.stem}-{path.name}"
            target.write_bytes(path.read_bytes())
            files.append(target)
    for name, chosen in tickets.read_choice(docs / "results" / "tickets.yaml").items():
        if (docs / "results" / f"{name}.csv").is_file() and (sweeps / name).is_dir():
            files += tickets.store(name, chosen, sweeps / name, docs)
    if not files:
        raise SpikeTicketError(f"{sweeps}: no finished cell of a sweep of {docs / 'sweeps'}; run "
                               "spiketicket find sweep --config docs/sweeps/NAME.yaml --out "
                               f"{sweeps}/NAME")
    return files


def page(docs: Path) -> str:
    """The text of the results page."""
    template = docs / "results" / "template.md"
    if not template.is_file():
        raise SpikeTicketError(f"{template}: missing; it holds the words of the page")
    return Page(docs / "results", docs / "sweeps").render(template.read_text())


def run(docs: Path, sweeps: Path | None = None, check: bool = False) -> int:
    """Write the page (check: only compare it); the exit code, 1 where it is another.

    sweeps: collect these first. Raises SpikeTicketError.
    """
    target = docs / "results.md"
    if sweeps:
        for path in collect(sweeps, docs):
            print(f"wrote {path}", file=sys.stderr)
    text = page(docs)
    if check:
        same = target.is_file() and target.read_text() == text
        print(f"{target} is {'' if same else 'not '}what the tables give")
        return int(not same)
    from ..tickets.checkpoint import replace
    replace(target, lambda part: part.write_text(text))
    print(f"wrote {target}")
    return 0
