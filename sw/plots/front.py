"""Cycles of the core against accuracy, as SVG: a line a way of pruning, a point a round."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from ..results.front import COSTS, FrontPoint
from .style import STYLE, save


def draw(points: Sequence[FrontPoint], title: str, path: Path) -> Path:
    """Draw rounds, means over seeds with their deviations; returns the file."""
    import matplotlib
    from matplotlib.figure import Figure
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.8, 3.4), layout="constrained")
        axis = figure.subplots()
        for cost, label in COSTS.items():
            its = [point for point in points if point.cost == cost]
            if not its:
                continue
            cycles, accuracy = zip(*(point.mean for point in its), strict=True)
            spread = [100 * statistics.stdev(p.accuracy) if len(p.accuracy) > 1 else 0.0
                      for p in its]
            axis.errorbar(cycles, [100 * a for a in accuracy], spread, marker="o", markersize=4,
                          capsize=3, linewidth=1.2, label=f"pruned {label}")
        axis.set(xlabel="cycles an image (cycle model)", ylabel="validation accuracy (%)",
                 xscale="log")
        ticks = sorted({round(t, -3) for p in points for t in (p.mean[0],) if t >= 1000})
        axis.set_xticks(ticks[::max(1, len(ticks) // 6)],
                        [f"{t / 1000:.0f}k" for t in ticks[::max(1, len(ticks) // 6)]])
        axis.minorticks_off()
        seeds = max(len(point.cycles) for point in points)
        axis.set_title(f"{title}\nmean and deviation of {seeds} seed{'s' * (seeds > 1)}",
                       fontsize=9, loc="left")
        axis.legend(frameon=False, fontsize=8)
        path.parent.mkdir(parents=True, exist_ok=True)
        return save(figure, path)
