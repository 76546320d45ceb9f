"""Pictures of `sw.ladder`: the ladder with its sweeps, and the patches that a gate kept."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from ..data.datasets import Images
from ..integer.gate import Gate
from ..ladder.result import PHASES, Ladder
from .style import STYLE, save

SHOWN = 12
"""Samples in the picture of patches."""


def plot_ladder(path: str, ladder: Ladder) -> None:
    """Stacked bars of the rungs by phase; cycles over each quantity that was swept."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 7), layout="constrained")
        top, bottom = figure.subfigures(2, 1, height_ratios=(1, 1.1))
        axis = top.subplots()
        names = list(ladder.rungs)
        left = np.zeros(len(names))
        for phase in PHASES:
            part = np.array([ladder.rungs[name].phases[phase] for name in names]) / 1e3
            axis.barh(names, part, left=left, label=phase)
            left += part
        for name, end in zip(names, left, strict=True):
            axis.text(end, name, f" {ladder.rungs[name].total:,.0f}", va="center", fontsize=9)
        axis.invert_yaxis()
        axis.margins(x=0.12)
        axis.set_xlabel("kilocycles per sample")
        axis.legend(frameon=False, fontsize=9, ncols=2, loc="lower right")
        axis.set_title(f"{ladder.ticket}: cycles of a sample, mean of {ladder.images}",
                       fontsize=10, loc="left")
        axes = bottom.subplots(1, len(ladder.sweeps), squeeze=False, sharey=True)[0]
        for axis, sweep in zip(axes, ladder.sweeps, strict=True):
            points = sorted(sweep.points, key=lambda p: p.x)
            x = [p.x for p in points]
            axis.loglog(x, [p.scaling for p in points], marker="o", markersize=3,
                        label="synapses + attention")
            rest = [sum(p.phases.values()) - p.scaling for p in points]
            axis.loglog(x, rest, marker="s", markersize=3, label="all other phases")
            axis.loglog(x, [points[-1].scaling * v / x[-1] for v in x], "k:", linewidth=0.8,
                        label="slope 1")
            axis.set(xlabel=f"{sweep.name}\n({sweep.layers})")
            axis.set_title(f"slope {sweep.slope:.2f}", fontsize=10)
            axis.set_xticks(apart := ticks(x), [f"{value:.2g}" for value in apart])
            axis.xaxis.set_minor_locator(NullLocator())
        axes[0].set_ylabel("cycles")
        bottom.legend(*axes[0].get_legend_handles_labels(), frameon=False, fontsize=9,
                      loc="outside upper center", ncols=3)
        save(figure, path)


def ticks(values: list[float]) -> list[float]:
    """Of ascending positive values those that have room on a logarithmic axis, ends included."""
    if len(values) < 2:
        return values
    room = np.log(values[-1] / values[0]) / 4
    kept = [values[0]]
    for value in values[1:-1]:
        if min(np.log(value / kept[-1]), np.log(values[-1] / value)) >= room:
            kept.append(value)
    return [*kept, values[-1]]


def plot_patches(path: str, samples: Images, gate: Gate, kept: np.ndarray) -> None:
    """The first samples, with dropped patches dark; kept: int64 [B, keep]."""
    count = min(SHOWN, len(samples))
    columns = min(6, count)
    rows = -(-count // columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(1.3 * columns, 1.5 * rows + 0.3), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis in axes:
            axis.axis("off")
        for n, axis in enumerate(axes[:count]):
            picture = _picture(samples.images[n])
            seen = np.zeros(gate.tokens)
            seen[kept[n]] = 1
            height, width = picture.shape[:2]
            seen = seen.reshape(gate.grid)[np.arange(height) * gate.grid[0] // height]
            seen = seen[:, np.arange(width) * gate.grid[1] // width]
            shown = picture * (0.25 + 0.75 * seen[..., None])
            shown[..., 0] += 0.25 * (1 - seen)              # dropped patches are reddish
            axis.imshow(np.clip(shown, 0, 1))
            if samples.names:
                axis.set_title(samples.names[int(samples.labels[n])], fontsize=7)
        figure.suptitle(f"kept patches: {gate.keep} of {gate.tokens} (mode {gate.mode})",
                        fontsize=8)
        save(figure, path)


def _picture(sample: np.ndarray) -> np.ndarray:
    """A sample as float RGB [H, W, 3]: an image, or event frames (OFF blue, ON green)."""
    if sample.ndim == 4:
        counts = sample.sum(0).astype(float)
        counts /= max(1.0, counts.max())
        off, on = (np.sqrt(c) for c in (counts[0], counts[-1]))
        return np.stack([np.zeros_like(on), on, off], -1)
    image = sample.transpose(1, 2, 0) / 255
    return image if image.shape[2] == 3 else np.repeat(image[..., :1], 3, axis=2)
