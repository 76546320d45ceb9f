"""Write docs/results.md: the papers' tables beside what was run here.

Figures and plots come from docs/results/*.csv and *.json, words from docs/results/template.md;
nothing of ours is typed by hand. `collect` reads finished sweeps and writes those tables first.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ..errors import SpikeTicketError
from . import front, tables, tickets
from .page import Page


def collect(sweeps: Path, docs: Path) -> list[Path]:
    """Tables of every docs/sweeps/NAME.yaml that has finished cells in sweeps/NAME, and what the
    chosen tickets are made of."""
    files = []
    for file in sorted((docs / "sweeps").glob("*.yaml")):
        folder = sweeps / file.stem
        if not any(folder.glob("cells/*/result.json")):
            continue
        files += tables.collect(folder, file, docs / "results")
    for name, chosen in tickets.read_choice(docs / "results" / "tickets.yaml").items():
        if (docs / "results" / f"{name}.csv").is_file() and (sweeps / name).is_dir():
            files += tickets.store(name, chosen, sweeps / name, docs)
    if not files:
        raise SpikeTicketError(f"{sweeps}: no finished cell of a sweep of {docs / 'sweeps'}; run "
                               "spiketicket find sweep --config docs/sweeps/NAME.yaml --out "
                               f"{sweeps}/NAME")
    return files


def plots(docs: Path) -> list[Path]:
    """Draw the plots of every stored table, and the overlap of every stored analysis."""
    from ..ladder import tokens
    from ..plots import analysis
    from ..plots import front as front_plot
    from ..plots import tokens as token_plot
    from ..sweeps import labels
    from ..sweeps.plan import read_plan
    from ..sweeps.plots import write_plots
    files = []
    for file in sorted((docs / "sweeps").glob("*.yaml")):
        table = docs / "results" / f"{file.stem}.csv"
        if table.is_file():
            plan = read_plan(file)
            rows = [{**row, "status": "done"} for row in tables.read(table)]
            files += write_plots(rows, plan.axes, docs / "img", plan.metric,
                                 f"results-{file.stem}-")
            found = front.points(table.parent, file.stem)
            if found:
                files.append(front_plot.draw(found, labels.subject(rows),
                                             docs / "img" / f"results-{file.stem}-front.svg"))
        stored = table.with_suffix(".json")
        if stored.is_file():
            files += analysis.write_overlap(tickets.read_stored(stored),
                                            docs / "img" / f"results-{file.stem}-overlap.svg")
    for file in sorted((docs / "results").glob("tokens-*.json")):
        files.append(token_plot.plot_tokens(docs / "img" / f"results-{file.stem}-cycles.svg",
                                            tokens.stored(file)))
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
    for path in plots(docs):
        print(f"wrote {path}", file=sys.stderr)
    from ..tickets.checkpoint import replace
    replace(target, lambda part: part.write_text(text))
    print(f"wrote {target}")
    return 0
