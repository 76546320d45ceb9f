"""A ticket beside its control: rows of sweeps whose difference is taken seed by seed.

docs/results/compared.yaml names them, for every sweep a list of rows::

    cifar10-small:
      dense binary: method=dense binary=True epochs=8
      binary ticket: method=scores binary=True sparsity=0.5 | dense binary

behind the bar stand the rows that this one is set against.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import SpikeTicketError
from . import tables
from .tables import Row

METRIC = "accuracy_ticket"


@dataclass(frozen=True)
class ComparedRow:
    """conditions: settings, "KEY=VALUE ...", of one cell a seed. controls: labels of other rows."""

    conditions: str
    controls: tuple[str, ...] = ()


def read(path: Path) -> dict[str, dict[str, ComparedRow]]:
    """{sweep: {label: entry}}. Raises SpikeTicketError for what is none, or a control that is not
    a row."""
    from ..tickets.config import read as read_settings
    result: dict[str, dict[str, ComparedRow]] = {}
    for name, rows in read_settings(path).items():
        if not isinstance(rows, dict) or not all(isinstance(text, str) for text in rows.values()):
            raise SpikeTicketError(f"{path}: {name} must be labels with settings, e.g. "
                                   "'ConnS: method=scores seed=0 | dense'")
        entries = {}
        for label, text in rows.items():
            conditions, *rest = text.split("|")
            controls = tuple(part.strip() for part in "|".join(rest).split(",") if part.strip())
            for control in controls:
                if control not in rows:
                    raise SpikeTicketError(f"{path}: {name}: {label!r} is set against "
                                           f"{control!r}, which is no row")
            entries[label] = ComparedRow(conditions.strip(), controls)
        result[name] = entries
    return result


def points(rows: list[Row], control: list[Row]) -> tuple[float, float, int] | None:
    """Accuracy minus the control's of the same seed: (mean, sample deviation, seeds); None where
    no seed has both."""
    other = {row["seed"]: row[METRIC] for row in control}
    found = [row[METRIC] - other[row["seed"]] for row in rows if row["seed"] in other]
    if not found:
        return None
    return (statistics.fmean(found), statistics.stdev(found) if len(found) > 1 else 0.0,
            len(found))


def markdown(entries: dict[str, ComparedRow], rows_of: Callable[[str], list[Row]]) -> str:
    """The rows as a table. Raises SpikeTicketError where a seed has two cells."""
    found = {label: rows_of(entry.conditions) for label, entry in entries.items()}
    for label, rows in found.items():
        if len({row["seed"] for row in rows}) != len(rows):
            raise SpikeTicketError(f"row {label!r}: {entries[label].conditions!r} are several "
                                   "cells of a seed; give more settings")
    head = ["", "connections removed", "epochs of it, of its whole search", "seeds", "accuracy (%)",
            "points from"]
    text = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for label, entry in entries.items():
        rows = found[label]
        if not rows:
            text.append(f"| {label} | | | 0 | not run | |")
            continue
        against = []
        for control in entry.controls:
            gap = points(rows, found[control])
            if gap:
                against.append(f"{control}: **{_signed(gap)}**")
        text.append(f"| {label} | {100 * rows[0]['sparsity_mask']:.1f} % | "
                    f"{rows[0]['epochs_ticket']:.0f}, {rows[0]['epochs_trained']:.0f} | "
                    f"{len(rows)} | {tables.percent(tables.mean(rows))} | "
                    f"{'; '.join(against)} |")
    return "\n".join(text)


def _signed(gap: tuple[float, float, int]) -> str:
    mean, spread, count = gap
    return f"{100 * mean:+.1f}" + (f" ± {100 * spread:.1f}" if count > 1 else "")
