"""Plots of the trade study, as small SVG files."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

from ..core.cycles import CAUSES
from ..plots.style import STYLE, save

plt.rcParams.update(STYLE | {"axes.titlesize": 9})


def _save(figure, folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    path = save(figure, folder / f"{name}.svg")
    plt.close(figure)
    return path


def _dataflows(rows: list[dict], folder: Path, device: str) -> Path:
    """Bars: useful updates per cycle by workload and dataflow, at equal area."""
    cases = list(dict.fromkeys(row["workload"] for row in rows))
    flows = list(dict.fromkeys(row["dataflow"] for row in rows))
    figure, axes = plt.subplots(figsize=(7, 3))
    width = 0.8 / len(flows)
    for n, flow in enumerate(flows):
        values = [next(r["useful/cycle"] for r in rows
                       if (r["workload"], r["dataflow"]) == (case, flow)) for case in cases]
        axes.bar([i + n * width for i in range(len(cases))], values, width, label=flow)
    axes.set_xticks([i + 0.4 - width / 2 for i in range(len(cases))], cases)
    axes.set_ylabel("useful updates / cycle")
    axes.set_title(f"Dataflows on as many engines as an {device} holds")
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.1))
    return _save(figure, folder, "study-dataflows")


def _causes(rows: list[dict], folder: Path) -> Path:
    """Stacked bars: where the cycles go."""
    figure, axes = plt.subplots(figsize=(7, 2.6))
    names = [row["workload"] for row in rows]
    left = [0.0] * len(rows)
    for cause in (*CAUSES, "sequencer"):
        share = [float(row[cause].rstrip("%")) for row in rows]
        axes.barh(names, share, left=left, label=cause.replace("_", " "))
        left = [a + b for a, b in zip(left, share, strict=True)]
    axes.invert_yaxis()      # as in the table
    axes.set_xlabel("% of the core's cycles")
    axes.legend(frameon=False, fontsize=8, ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1))
    return _save(figure, folder, "study-causes")


def _events(rows: list[dict], folder: Path) -> Path:
    """Cycles over activity, density and kept positions."""
    kinds = list(dict.fromkeys(row["varied"] for row in rows))
    figure, axes = plt.subplots(1, len(kinds), figsize=(7, 2.4), sharey=True)
    for axis, kind in zip(axes, kinds, strict=True):
        for key, label in (("cycles", "core"),
                           ("cycles if silent words are read", "silent words read")):
            points = [(row["value"], row[key] / 1e3) for row in rows if row["varied"] == kind]
            axis.plot(*zip(*points, strict=True), marker="o", markersize=3, label=label)
        axis.set_xlabel(kind)
    axes[0].set_ylim(0)      # of all; its upper end is known only now
    axes[1].set_title("Cycles of two convolutions as one quantity varies")
    axes[0].set_ylabel("kilocycles")
    axes[0].legend(frameon=False, fontsize=8)
    return _save(figure, folder, "study-events")


def _formats(rows: list[dict], folder: Path) -> Path:
    """Bits per surviving weight over density."""
    figure, axes = plt.subplots(1, 2, figsize=(7, 2.3))
    for axis, bits in zip(axes, (1, 4), strict=True):
        chosen = [row for row in rows if row["bits"] == bits]
        for name, style in (("bound", "k--"), ("ours (Rice)", "-"), ("bitmap", "-"), ("CSR", "-"),
                            ("banked columns", "-")):
            axis.plot([row["density"] for row in chosen], [row[name] for row in chosen], style,
                      label=name, linewidth=1)
        axis.set_xscale("log")
        axis.set_ylim(0, 30)
        axis.set_xlabel("density")
        axis.set_title(f"values of {bits} bit{'s' * (bits > 1)}")
    axes[0].set_ylabel("bits / surviving weight")
    axes[0].legend(frameon=False, fontsize=8, loc="upper right", labelspacing=0.2, borderaxespad=0)
    return _save(figure, folder, "study-formats")


def write_plots(tables: dict[str, list[dict]], folder: Path) -> list[Path]:
    """The plots whose tables were made."""
    paths = []
    if "comparison" in tables:
        paths.append(_dataflows(tables["comparison"], folder, "XC7A35T"))
    if "causes" in tables:
        paths.append(_causes(tables["causes"], folder))
    if "event-driven" in tables:
        paths.append(_events(tables["event-driven"], folder))
    if "formats" in tables:
        paths.append(_formats(tables["formats"], folder))
    return paths
