"""Plots of a sweep: accuracy against sparsity, T, lambda and patch sparsity, bars over seeds."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Iterable
from pathlib import Path

from ..errors import SpikeTicketError

PLOTS = (
    # file, x setting, label, whether it needs (True) or excludes (False) dropped patches
    ("accuracy-sparsity", "sparsity", "connection sparsity", False),
    ("accuracy-sparsity-at-patches", "sparsity", "connection sparsity, patch ratio fixed", True),
    ("accuracy-patches", "patch_sparsity", "patch sparsity", None),
    ("accuracy-timesteps", "timesteps", "timesteps T", None),
    ("accuracy-decay", "decay", "decay $\\lambda$", None),
)

Series = dict[str, list[tuple[float, float, float, int]]]
"""Points (x, mean, sample deviation, seeds) of each line, by its label."""


def metric_of(rows: list[dict], metric: str | None = None) -> str:
    """The column to plot: the one asked for, or the first accuracy. Raises SpikeTicketError."""
    columns = [key for row in rows for key, value in row.items()
               if isinstance(value, int | float) and not isinstance(value, bool)]
    if metric is None:
        metric = next((key for key in ("accuracy_ticket", *columns) if key in columns
                       and "accuracy" in key), None)
    if metric not in columns:
        raise SpikeTicketError(f"metric {metric or 'accuracy'!r} is no column of numbers; there "
                               f"are {', '.join(dict.fromkeys(columns)) or 'none'}")
    return metric


def series(rows: Iterable[dict], x: str, axes: Iterable[str], metric: str) -> Series:
    """Lines over `x`: one for each combination of the other axes (seeds are averaged) that has at
    least two points. A label names axes by which the drawn lines differ, the earliest ones."""
    others = [key for key in axes if key not in (x, "seed")]
    groups: dict[tuple, dict[float, list[float]]] = {}
    for row in rows:
        if isinstance(row.get(x), int | float) and isinstance(row.get(metric), int | float):
            points = groups.setdefault(tuple(row.get(key) for key in others), {})
            points.setdefault(row[x], []).append(row[metric])
    groups = {key: points for key, points in groups.items() if len(points) > 1}
    telling = [i for i in range(len(others)) if len({key[i] for key in groups}) > 1]
    for i in telling[::-1]:  # an axis that only follows the others would but repeat them
        rest = [j for j in telling if j != i]
        if len({tuple(key[j] for j in rest) for key in groups}) == len(groups):
            telling = rest
    result: Series = {}
    for key, points in groups.items():
        label = ", ".join(f"{others[i]} {key[i]}" for i in telling)
        result[label] = [(at, statistics.fmean(values),
                          statistics.stdev(values) if len(values) > 1 else 0.0, len(values))
                         for at, values in sorted(points.items())]
    return result


def write_plots(rows: list[dict], axes: Iterable[str], folder: Path,
                metric: str | None = None) -> list[Path]:
    """Draw every plot that the finished cells allow, as SVG; returns the files."""
    rows = [row for row in rows if row["status"] == "done"]
    if not rows:
        return []
    metric = metric_of(rows, metric)
    axes, paths = list(axes), []
    for name, x, label, patches in PLOTS:
        chosen = rows if patches is None else [
            row for row in rows if bool(row.get("patch_sparsity")) == patches]
        lines = series(chosen, x, axes, metric)
        if lines:
            paths.append(_draw(lines, label, metric, folder / f"{name}.svg"))
    return paths


def _draw(lines: Series, label: str, metric: str, path: Path) -> Path:
    import matplotlib
    from matplotlib.figure import Figure
    scale, unit = (100, " (%)") if "accuracy" in metric else (1, "")
    settings = {"svg.fonttype": "none", "svg.hashsalt": "spiketicket", "font.size": 8,
                "axes.spines.top": False, "axes.spines.right": False}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(4.2, 2.8), layout="constrained")
        axis = figure.subplots()
        for name, points in lines.items():
            x, mean, spread, _ = zip(*points, strict=True)
            axis.errorbar(x, [scale * m for m in mean], [scale * s for s in spread], marker="o",
                          markersize=3, capsize=2, linewidth=1, label=name or None)
        seeds = {n for points in lines.values() for *_, n in points}
        count = str(min(seeds)) if len(seeds) == 1 else f"{min(seeds)} to {max(seeds)}"
        axis.set(xlabel=label, ylabel=metric.replace("_", " ") + unit)
        if label.startswith("timesteps"):
            axis.set_xticks(sorted({math.floor(p[0]) for ps in lines.values() for p in ps}))
        axis.set_title(f"mean and deviation of {count} seed{'s' * (seeds != {1})}", fontsize=7)
        if any(lines):
            axis.legend(frameon=False, fontsize=6)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        figure.savefig(part, format="svg", metadata={"Date": None})
    os.replace(part, path)
    return path
