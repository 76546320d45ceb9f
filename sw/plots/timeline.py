"""Picture of `sw.link_timeline`: line and core over time, an input a colour."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
from matplotlib.figure import Figure

from ..link_timeline import Timeline
from .style import STYLE, save

LANES = ("there", "to the board"), ("core", "core"), ("back", "from the board")


def plot_timelines(path: str, title: str, timelines: Sequence[Timeline]) -> None:
    """One panel a line, all on the same scale. Raises BadInput where it cannot be written."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 0.4 + 1.5 * len(timelines)), layout="constrained")
        axes = figure.subplots(len(timelines), 1, squeeze=False, sharex=True)[:, 0]
        for axis, timeline in zip(axes, timelines, strict=True):
            for n, passage in enumerate(timeline.passages):
                for lane, (name, _) in enumerate(LANES):
                    begin, end = getattr(passage, name)
                    axis.broken_barh([(1e3 * begin, 1e3 * (end - begin))], (lane - 0.4, 0.8),
                                     color=f"C{n}", alpha=0.85, linewidth=0)
                    if name != "back":
                        axis.text(5e2 * (begin + end), lane, str(n + 1), ha="center", va="center",
                                  fontsize=8, clip_on=True)
            axis.set_yticks(range(len(LANES)), [text for _, text in LANES])
            axis.invert_yaxis()
            axis.set_title(f"{timeline.line}: while the core computes, the next input arrives "
                           f"{timeline.overlapped:.0%} of the time", fontsize=9, loc="left")
        axes[-1].set_xlabel("milliseconds")
        figure.suptitle(title, fontsize=10, x=0.01, ha="left")
        save(figure, path)
