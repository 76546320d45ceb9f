"""Plots of a sweep: accuracy against sparsity, T, lambda and patch sparsity, bars over seeds.

A title names data and network, a dashed line is chance, a dotted one the dense network."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from pathlib import Path

from ..errors import BadInput
from ..plots.style import STYLE, save
from . import labels

PLOTS = (
    # file, x setting, whether it needs (True) or excludes (False) dropped patches
    ("accuracy-sparsity", "sparsity", False),
    ("accuracy-sparsity-at-patches", "sparsity", True),
    ("accuracy-patches", "patch_sparsity", None),
    ("accuracy-timesteps", "timesteps", None),
    ("accuracy-decay", "decay", None),
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
        raise BadInput(f"metric {metric or 'accuracy'!r} is no column of numbers; there "
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
        label = ", ".join(labels.setting(others[i], key[i]) for i in telling)
        result[label] = [(at, statistics.fmean(values),
                          statistics.stdev(values) if len(values) > 1 else 0.0, len(values))
                         for at, values in sorted(points.items())]
    return result


def write_plots(rows: list[dict], axes: Iterable[str], folder: Path,
                metric: str | None = None, prefix: str = "") -> list[Path]:
    """Draw every plot that the finished cells allow, as SVG; returns the files. prefix: of names.
    """
    rows = [row for row in rows if row["status"] == "done"]
    if not rows:
        return []
    metric = metric_of(rows, metric)
    axes, paths = list(axes), []
    for name, x, patches in PLOTS:
        chosen = rows if patches is None else [
            row for row in rows if bool(row.get("patch_sparsity")) == patches]
        lines = series(chosen, x, axes, metric)
        if lines:
            shown = [row for row in chosen if row.get("method") != "dense"] or chosen
            said = [labels.subject(shown)]
            if patches:
                dropped = sorted({row["patch_sparsity"] for row in shown})
                said += [", ".join(labels.at("patch_sparsity", p) for p in dropped)
                         + " of the patches dropped"]
            paths.append(_draw(lines, x, metric, folder / f"{prefix}{name}.svg",
                               ", ".join(filter(None, said)), *_bounds(rows, chosen, metric)))
    return paths


def _bounds(rows: list[dict], chosen: list[dict], metric: str) -> tuple[float | None, float | None]:
    """Chance, and the mean of the dense networks of the plotted rows, real weights, those trained
    longest; None: unknown."""
    if "accuracy" not in metric:
        return None, None
    models = {row.get("model") for row in chosen}
    dense = [row for row in rows if row.get("method") == "dense" and not row.get("binary")
             and row.get("model") in models and isinstance(row.get(metric), int | float)]
    longest = max((row.get("epochs") or 0 for row in dense), default=0)
    dense = [row[metric] for row in dense if (row.get("epochs") or 0) == longest]
    one = len(models) == 1 and dense
    return labels.chance(chosen), statistics.fmean(dense) if one else None


def _draw(lines: Series, x: str, metric: str, path: Path, subject: str, chance: float | None,
          dense: float | None) -> Path:
    import matplotlib
    from matplotlib.figure import Figure
    scale, unit = (100, " (%)") if "accuracy" in metric else (1, "")
    across = 100 if x in labels.SHARES else 1
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.8, 3.4), layout="constrained")
        axis = figure.subplots()
        for name, points in lines.items():
            where, mean, spread, _ = zip(*points, strict=True)
            axis.errorbar([across * w for w in where], [scale * m for m in mean],
                          [scale * s for s in spread], marker="o", markersize=4, capsize=3,
                          linewidth=1.2, label=name or None)
        if dense is not None:
            axis.axhline(scale * dense, linestyle=":", color="black", linewidth=1,
                         label=f"dense network, {scale * dense:.1f} %")
        lowest = min(mean - spread for points in lines.values() for _, mean, spread, _ in points)
        below = ""
        if chance is not None and lowest < 0.5:
            axis.axhline(scale * chance, linestyle="--", color="grey", linewidth=1,
                         label=f"chance, {scale * chance:.0f} %")
        elif chance is not None:
            below = f"; chance, {scale * chance:.0f} %, is below the axis"
        seeds = {n for points in lines.values() for *_, n in points}
        count = str(min(seeds)) if len(seeds) == 1 else f"{min(seeds)} to {max(seeds)}"
        axis.set(xlabel=labels.axis(x) + (" (%)" if across > 1 else ""),
                 ylabel=labels.axis(metric) + unit)
        if x == "timesteps":
            axis.set_xticks(sorted({math.floor(p[0]) for ps in lines.values() for p in ps}))
        told = f"mean and deviation of {count} seed{'s' * (seeds != {1})}{below}"
        axis.set_title("\n".join(filter(None, (subject, told))), fontsize=9, loc="left")
        if axis.get_legend_handles_labels()[1]:
            axis.legend(frameon=False, fontsize=8)
        path.parent.mkdir(parents=True, exist_ok=True)
        return save(figure, path)
