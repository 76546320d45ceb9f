"""Pictures of an analysis: layers, overlap between tickets, patches kept by class."""

from __future__ import annotations

import json
import os
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

STYLE = {"svg.fonttype": "none", "svg.hashsalt": "spiketicket", "font.size": 8,
         "axes.spines.top": False, "axes.spines.right": False}


def write_all(result: dict, folder: Path) -> list[Path]:
    """analysis.json and every picture that `sw.analysis.analyse`'s result allows; the files."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "analysis.json"
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(result, indent=1) + "\n")
    os.replace(part, path)
    with matplotlib.rc_context(STYLE):
        paths = [path, _save(_layers(result["tickets"]), folder / "layers.svg")]
        if any("jaccard" in pair for pair in result["overlap"]):
            paths.append(_save(_overlap(result), folder / "overlap.svg"))
        for name, entry in result["tickets"].items():
            for gate, found in entry.get("patches", {}).items():
                stem = "".join(c if c.isalnum() else "-" for c in f"patches-{name}-{gate}")
                paths.append(_save(_patches(found, f"{name}, {gate}"), folder / f"{stem}.svg"))
    return paths


def _save(figure: Figure, path: Path) -> Path:
    part = path.with_name(path.name + ".part")
    figure.savefig(part, format="svg", metadata={"Date": None})
    os.replace(part, path)
    return path


def _layers(tickets: dict[str, dict]) -> Figure:
    """Sparsity of every layer, and spike rates where images were run; one line per ticket."""
    figure = Figure(figsize=(7, 2.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, entry in tickets.items():
        layers = entry["sparsity_by_layer"]
        left.plot(list(layers), [100 * v for v in layers.values()], marker="o", markersize=3,
                  label=name)
        rates = {n: row["spike_rate"] for n, row in entry.get("layers", {}).items()
                 if row["spike_rate"] is not None}
        right.plot(list(rates), list(rates.values()), marker="o", markersize=3, label=name)
    left.set(ylabel="weights removed (%)", ylim=(None, 100))
    right.set(ylabel="spikes per neuron and timestep", ylim=(0, None))
    for axis in (left, right):
        axis.tick_params(axis="x", rotation=60)
    left.legend(frameon=False, fontsize=6)
    return figure


def _overlap(result: dict) -> Figure:
    """Shared survivors of every pair of tickets, and what chance would share below the diagonal."""
    names = list(result["tickets"])
    shares = np.full((len(names), len(names)), np.nan)
    for pair in result["overlap"]:
        if "jaccard" in pair:
            i, j = names.index(pair["a"]), names.index(pair["b"])
            shares[i, j], shares[j, i] = pair["jaccard"], pair["chance"]
    side = 1.6 + 0.5 * len(names)
    figure = Figure(figsize=(side + 0.6, side), layout="constrained")
    axis = figure.subplots()
    shown = axis.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    for (i, j), value in np.ndenumerate(shares):
        if not np.isnan(value):
            axis.text(j, i, f"{100 * value:.0f}", ha="center", va="center",
                      color="white" if value > 0.6 else "black")
    axis.set_xticks(range(len(names)), names, rotation=60, ha="right")
    axis.set_yticks(range(len(names)), names)
    axis.set_title("survivors shared (%); below: by chance", fontsize=8)
    figure.colorbar(shown, ax=axis, shrink=0.7)
    return figure


def _patches(found: dict, title: str) -> Figure:
    """By class: the mean image, darker where patches are dropped, and the share that keeps each."""
    classes = found["by_class"]
    columns = min(5, len(classes))
    rows = -(-len(classes) // columns)
    figure = Figure(figsize=(1.3 * columns + 0.6, 2.5 * rows + 0.4), layout="constrained")
    axes = figure.subplots(2 * rows, columns, squeeze=False)
    for axis in axes.ravel():
        axis.axis("off")
    for i, (name, share) in enumerate(classes.items()):
        row, column = 2 * (i // columns), i % columns
        share, image = np.array(share), np.array(found["mean_image"][name])
        edge = (-0.5, image.shape[1] - 0.5, image.shape[0] - 0.5, -0.5)
        seen = share[np.arange(image.shape[0]) * share.shape[0] // image.shape[0]][
            :, np.arange(image.shape[1]) * share.shape[1] // image.shape[1]]
        axes[row, column].imshow(image * (0.15 + 0.85 * seen), vmin=0, vmax=1, cmap="gray")
        axes[row, column].set_title(name, fontsize=7)
        shown = axes[row + 1, column].imshow(share, vmin=0, vmax=1, cmap="viridis", extent=edge)
    total = found["grid"][0] * found["grid"][1]
    figure.suptitle(f"{title}: share of images that keep a patch ({found['keep']} of {total})",
                    fontsize=8)
    figure.colorbar(shown, ax=list(axes.ravel()), shrink=0.6)
    return figure
