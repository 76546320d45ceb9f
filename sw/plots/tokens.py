"""Accuracy against cycles of tickets with fewer tokens (`sw.ladder.tokens`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from ..ladder.tokens import TokenPoint
from .style import STYLE, save


def plot_tokens(path: str | Path, points: Sequence[TokenPoint]) -> Path:
    """An axis a ticket; a point for every number of tokens that fits the core. The ticket's own
    number is ringed; the control, as many tokens at random, is dashed."""
    names = list(dict.fromkeys(point.ticket for point in points))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.4 * len(names), 3.4), layout="constrained")
        for axis, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
            its = [p for p in points if p.ticket == name and p.cycles is not None]
            cycles = [p.cycles / 1e3 for p in its]
            axis.plot(cycles, [100 * p.accuracy for p in its], marker="o", markersize=4,
                      label="chosen by the ticket's scores")
            axis.plot(cycles, [100 * p.random for p in its], "--", marker="s", markersize=3,
                      label="as many at random")
            for p, x in zip(its, cycles, strict=True):
                axis.annotate(f"{p.keep}", (x, 100 * p.accuracy), (0, 5), fontsize=7, ha="center",
                              textcoords="offset points")
                if p.trained:
                    axis.plot(x, 100 * p.accuracy, "o", markersize=9, fillstyle="none",
                              color="black", label="as trained")
            axis.set(xlabel="kilocycles of a sample", ylabel="accuracy of the integers (%)")
            axis.set_title(f"{name}: tokens kept of {its[0].tokens if its else '?'}, "
                           f"{its[0].images if its else 0:,} samples", fontsize=9, loc="left")
            axis.legend(frameon=False, fontsize=8, loc="lower right")
        return save(figure, path)
