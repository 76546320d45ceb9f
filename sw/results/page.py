"""docs/results.md from docs/results/*.csv and the words in docs/results/template.md.

A template's fields stand in double braces:

    {{table1}} {{table2}} {{imp}}      the papers' rows beside ours
    {{compare NAME}}                   rows of docs/results/compared.yaml beside their controls
    {{sweep NAME AXIS}}                mean and deviation of every line of a sweep along a setting
    {{mean NAME KEY=VALUE ...}}        of the rows with these settings, in percent
    {{gap NAME K=V ... : K=V ...}}     mean of the first minus mean of the second, in points
    {{value NAME COLUMN K=V ...}}      a column of the only such row
    {{setup NAME}}                     networks, data and length of a sweep's runs
    {{analysis NAME}} {{images}}       docs/results/NAME.json, see `sw.results.tickets`
    {{median_seconds NAME}}            of training, of a sweep's runs
    {{pictures NAME}} {{beyond NAME...}}
    {{tokens TICKET}} {{token_images}} docs/results/tokens-TICKET.json, see `sw.ladder.tokens`
"""

from __future__ import annotations

import re
import statistics
from pathlib import Path

from ..errors import SpikeTicketError
from ..ladder import tokens
from ..sweeps import labels
from ..sweeps.plan import read_plan
from ..sweeps.plots import series
from . import compare, front, paper, tables, tickets
from .tables import Row

FIELD = re.compile(r"\{\{([^{}]*)\}\}")

class Page:
    """The tables of a folder, and what a template may ask of them."""

    def __init__(self, folder: Path, sweeps: Path):
        self.folder, self.sweeps = folder, sweeps
        self.held: dict[str, list[Row]] = {}

    def rows(self, name: str, conditions: str = "") -> list[Row]:
        """Rows with these settings; none of a sweep in docs/sweeps that was not run."""
        if name not in self.held:
            file = self.folder / f"{name}.csv"
            planned = (self.sweeps / f"{name}.yaml").exists() and not file.exists()
            self.held[name] = [] if planned else tables.read(file)
        pairs = dict(part.split("=", 1) for part in conditions.split())
        return tables.matching(self.held[name], pairs)

    def render(self, template: str) -> str:
        """The page. Raises SpikeTicketError for a field that is none."""
        def field(match: re.Match) -> str:
            kind, *rest = match[1].split()
            maker = getattr(self, f"field_{kind}", None)
            if maker is None:
                raise SpikeTicketError(f"template: field {match[1]!r} is unknown")
            try:
                return maker(*rest)
            except (TypeError, ValueError, KeyError) as error:
                raise SpikeTicketError(f"template: field {match[1]!r}: {error}") from error
        return FIELD.sub(field, template)

    # -- fields ---------------------------------------------------------------------------------

    def field_mean(self, name: str, *conditions: str) -> str:
        return tables.percent(tables.mean(self.rows(name, " ".join(conditions))))

    def field_gap(self, name: str, *conditions: str) -> str:
        first, second = " ".join(conditions).split(" : ")
        found = [tables.mean(self.rows(name, part)) for part in (first, second)]
        if None in found:
            return "(not run)"
        return f"{100 * (found[0][0] - found[1][0]):.1f}"

    def field_value(self, name: str, column: str, *conditions: str) -> str:
        found = self.rows(name, " ".join(conditions))
        if not found:
            return "(not run)"
        (row,) = found
        value = row[column]
        if isinstance(value, float) and column.startswith(("accuracy", "sparsity")):
            return f"{100 * value:.2f}"
        return f"{value:,.0f}" if isinstance(value, float) and value == int(value) else str(value)

    def field_setup(self, name: str) -> str:
        rows = self.rows(name)
        if not rows:
            return "(not run)"
        parts = []
        for model in dict.fromkeys(row["model"] for row in rows):
            its = [row for row in rows if row["model"] == model]
            parts.append(f"`{model}`, {its[0]['weights']:,.0f} weights")
        first = rows[0]
        return (f"{'; '.join(parts)}; {labels.data_name(first['data'])}, "
                f"{first['images_train']:,.0f} training and "
                f"{first['images_test']:,.0f} test samples")

    def field_sweep(self, name: str, axis: str) -> str:
        """Lines of a sweep along a setting, as a Markdown table."""
        axes = [a for a in read_plan(self.sweeps / f"{name}.yaml").axes if a != axis]
        rows = self.rows(name)
        lines = series(rows, axis, axes, "accuracy_ticket")
        if not lines:
            return "(not run yet)"
        points = sorted({x for line in lines.values() for x, *_ in line})
        text = [f"| {labels.axis(axis)} | "
                + " | ".join(labels.at(axis, x) for x in points) + " |",
                "|---" * (len(points) + 1) + "|"]
        for label, line in lines.items():
            at = {x: tables.percent((m, s, n)) for x, m, s, n in line}
            text.append(f"| {label or 'accuracy (%)'} | "
                        + " | ".join(at.get(x, "") for x in points) + " |")
        return "\n".join(text)

    def field_table1(self) -> str:
        return paper.beside(self, "table1")

    def field_table2(self) -> str:
        return paper.beside(self, "table2")

    def field_imp(self) -> str:
        return paper.rounds(self)

    def field_compare(self, name: str) -> str:
        """Rows of compared.yaml, their epochs, and how many points they are from their controls."""
        entries = compare.read(self.folder / "compared.yaml")
        if name not in entries:
            raise KeyError(f"compared.yaml has no {name}")
        return compare.markdown(entries[name], lambda conditions: self.rows(name, conditions))

    def field_front(self, name: str) -> str:
        return front.markdown(self.folder, name)

    def field_analysis(self, name: str) -> str:
        return tickets.markdown(self.folder / f"{name}.json")

    def field_pictures(self, name: str) -> str:
        """The sweep's plots, and which patches its tickets keep, as far as there are any."""
        files = sorted((self.folder.parent / "img").glob(f"results-{name}-*.svg"))
        shown = [f"![{file.stem.removeprefix('results-').replace('-', ' ')}](img/{file.name})"
                 for file in files if "-layers" not in file.name]
        return "\n".join(shown)

    def field_beyond(self, *names: str) -> str:
        """Dense network, ticket and integer ticket of each sweep, over its seeds."""
        text = ["| | network | trained on | connections removed | patches kept | accuracy (%) |",
                "|---" * 6 + "|"]
        for rows in (self.rows(name) for name in names):
            if not rows:
                continue
            row = rows[0]
            gone, kept = f"{100 * row['sparsity_mask']:.2f} %", f"{row['tokens_kept']:.0f}"
            whole = f"{row['tokens']:.0f}"
            for what, removed, patches, key in (
                    ("dense, float", "0 %", whole, "dense"),
                    ("ticket, float", gone, kept, "ticket"),
                    (f"**ticket, {row.get('bits', 4):.0f}-bit integers**", gone, kept, "integer")):
                text.append(f"| {what} | `{row['model']}`, {row['weights']:,.0f} weights | "
                            f"{labels.data_name(row['data'])}, {row['images_train']:,.0f} samples "
                            f"| {removed} | {patches} of {whole} | "
                            f"{tables.percent(tables.mean(rows, f'accuracy_{key}'), 2)} |")
        return "\n".join(text)

    def field_tokens(self, ticket: str) -> str:
        """Numbers of tokens across, accuracy, the control and cycles below."""
        found = tokens.stored(self.folder / f"tokens-{ticket}.json")
        if not found:
            return "(not run yet)"
        lines = {"tokens kept": [f"**{p.keep}**" if p.trained else f"{p.keep}" for p in found],
                 "accuracy (%)": [f"{100 * p.accuracy:.2f}" for p in found],
                 "as many at random (%)": [f"{100 * p.random:.2f}" for p in found],
                 "cycles": ["no room" if p.cycles is None else f"{p.cycles:,.0f}" for p in found]}
        text = [f"| {name} | {' | '.join(cells)} |" for name, cells in lines.items()]
        text.insert(1, "|---" * (len(found) + 1) + "|")
        note = f"{found[0].images:,} test samples, {found[0].tokens} tokens; bold: as trained."
        return "\n".join([*text, "", note])

    def field_token_images(self) -> str:
        return str(tokens.CYCLE_IMAGES)

    def field_images(self) -> str:
        return str(tickets.IMAGES)

    def field_median_seconds(self, name: str) -> str:
        seconds = [float(row["train_seconds"]) for row in self.rows(name)]
        return f"{statistics.median(seconds):.0f}" if seconds else "(not run)"
