"""Cycles against accuracy: what a sweep of searches by magnitude and by cycles came to."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import tables

LOSS = 0.005
"""Accuracy that a ticket by cycles may lose where it is set against one by magnitude."""

COSTS = {"weights": "by magnitude", "cycles": "by cycles"}


@dataclass(frozen=True)
class FrontPoint:
    """One round of a search, over its seeds.

    cost: what was removed; removed: fraction of the weights, mean; cycles: of each seed; accuracy:
    of each seed, on the validation samples.
    """

    cost: str
    stage: str
    removed: float
    cycles: tuple[float, ...]
    accuracy: tuple[float, ...]

    @property
    def mean(self) -> tuple[float, float]:
        """(cycles, accuracy)."""
        return statistics.fmean(self.cycles), statistics.fmean(self.accuracy)


def points(folder: Path, name: str) -> list[FrontPoint]:
    """The rounds of the sweep NAME whose cycles are stored, in order; [] where there are none."""
    if not (folder / f"{name}-rounds.csv").is_file():
        return []
    cells = {row["cell"]: row for row in tables.read(folder / f"{name}.csv")}
    groups: dict[tuple[str, str], list[tables.Row]] = {}
    for row in tables.read(folder / f"{name}-rounds.csv"):
        if row.get("cycles") is not None and row["stage"].startswith("round"):
            cost = str(cells[row["cell"]].get("cost", "weights"))
            groups.setdefault((cost, row["stage"]), []).append(row)
    return [FrontPoint(cost, stage, statistics.fmean(row["sparsity"] for row in rows),
                       tuple(row["cycles"] for row in rows),
                       tuple(row["accuracy"] for row in rows))
            for (cost, stage), rows in groups.items()]


def cheapest(point: FrontPoint, found: Sequence[FrontPoint], cost: str) -> FrontPoint | None:
    """The round of `cost` with the fewest cycles (mean) whose mean accuracy is at most LOSS below
    the point's; None where every one loses more."""
    near = [other for other in found
            if other.cost == cost and other.mean[1] >= point.mean[1] - LOSS]
    return min(near, key=lambda other: other.mean[0], default=None)


def markdown(folder: Path, name: str) -> str:
    """The rounds by magnitude, but those for which another one by magnitude could stand as well,
    with the round by cycles that stands against each, and the tickets."""
    found = points(folder, name)
    if not found:
        return "(not run yet)"
    head = ["by magnitude: weights removed", "accuracy (%)", "cycles",
            "by cycles: weights removed", "accuracy (%)", "cycles", "times fewer"]
    text = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for point in found:
        if point.cost != "weights" or cheapest(point, found, "weights") is not point:
            continue
        other = cheapest(point, found, "cycles")
        cells = [*_cells(point), *(_cells(other) if other else ["none", "", ""]),
                 f"**{point.mean[0] / other.mean[0]:.2f}**" if other else ""]
        text.append(f"| {' | '.join(cells)} |")
    text += ["", "The last round's tickets, their integers trained on, on the test samples:", "",
             "| pruned | cycles | accuracy (%), floats | accuracy (%), integers |",
             "|---" * 4 + "|"]
    rows = tables.read(folder / f"{name}.csv")
    for cost, label in COSTS.items():
        its = [row for row in rows if row.get("cost") == cost]
        if its:
            cycles = statistics.fmean(float(row["cycles"]) for row in its)
            text.append(f"| {label} | {cycles:,.0f} | "
                        + " | ".join(tables.percent(tables.mean(its, f"accuracy_{key}"))
                                     for key in ("ticket", "integer")) + " |")
    seeds = {len(point.cycles) for point in found}
    return "\n".join([*text, "", f"Rounds have {'/'.join(map(str, sorted(seeds)))} seeds."])


def _cells(point: FrontPoint) -> list[str]:
    cycles, accuracy = point.mean
    spread = (f" ± {100 * statistics.stdev(point.accuracy):.1f}" if len(point.accuracy) > 1
              else "")
    return [f"{100 * point.removed:.1f} %", f"{100 * accuracy:.1f}{spread}", f"{cycles:,.0f}"]
