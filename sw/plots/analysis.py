"""Pictures of an analysis: layers, overlap between tickets, patches kept by class."""

from __future__ import annotations

import json
import os
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from .style import STYLE, save


def write_all(result: dict, folder: Path) -> list[Path]:
    """analysis.json and every picture that `sw.analysis.analyse`'s result allows; the files."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "analysis.json"
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(result, indent=1) + "\n")
    os.replace(part, path)
    with matplotlib.rc_context(STYLE):
        paths = [path, save(_layers(result["tickets"]), folder / "layers.svg")]
        paths += write_overlap(result, folder / "overlap.svg")
        for name, entry in result["tickets"].items():
            for gate, found in entry.get("patches", {}).items():
                stem = "".join(c if c.isalnum() else "-" for c in f"patches-{name}-{gate}")
                paths.append(save(_patches(found, f"{name}, {gate}"), folder / f"{stem}.svg"))
    return paths


def write_overlap(result: dict, path: Path) -> list[Path]:
    """The picture of shared survivors alone; [] where no two tickets can be compared."""
    if not any("jaccard" in pair for pair in result["overlap"]):
        return []
    with matplotlib.rc_context(STYLE):
        return [save(_overlap(result), path)]


def _layers(tickets: dict[str, dict]) -> Figure:
    """Sparsity of every layer, and spike rates where images were run: a row for each network, a
    line per ticket of it. Networks of other layers have nothing that a line could join."""
    networks: dict[tuple[str, ...], dict[str, dict]] = {}
    for name, entry in tickets.items():
        networks.setdefault(tuple(entry["sparsity_by_layer"]), {})[name] = entry
    longest = max(map(len, networks))
    figure = Figure(figsize=(max(8, 4 + 0.45 * longest), 3.2 * len(networks)),
                    layout="constrained")
    rows = figure.subplots(len(networks), 2, squeeze=False)
    for (left, right), its in zip(rows, networks.values(), strict=True):
        for name, entry in its.items():
            layers = entry["sparsity_by_layer"]
            left.plot(list(layers), [100 * v for v in layers.values()], marker="o", markersize=4,
                      label=name)
            rates = {n: row["spike_rate"] for n, row in entry.get("layers", {}).items()
                     if row["spike_rate"] is not None}
            right.plot(list(rates), list(rates.values()), marker="o", markersize=4, label=name)
        left.set(ylabel="weights removed (%)", ylim=(None, 100))
        left.set_title(", ".join(its) if len(its) < 3 else f"{len(its)} tickets of one shape",
                       fontsize=9, loc="left")
        right.set(ylabel="spikes per neuron and timestep", ylim=(0, None))
        if not right.lines or not any(len(line.get_xdata()) for line in right.lines):
            right.set_axis_off()        # no images were run
        for axis in (left, right):
            axis.tick_params(axis="x", rotation=60)
        left.legend(frameon=False, fontsize=8)
    return figure


def _overlap(result: dict) -> Figure:
    """Survivors that each pair of tickets shares, with what chance would share; the colour is the
    difference, so that a pair no more alike than random masks is white."""
    names = list(result["tickets"])
    excess = np.full((len(names), len(names)), np.nan)
    texts = {}
    for pair in result["overlap"]:
        if "jaccard" in pair:
            a, b = sorted((names.index(pair["a"]), names.index(pair["b"])))
            excess[b, a] = 100 * (pair["jaccard"] - pair["chance"])
            texts[b, a] = f"{100 * pair['jaccard']:.1f}\n({100 * pair['chance']:.1f})"
    excess = excess[1:, :-1]
    limit = max(5.0, float(np.nanmax(np.abs(excess))))
    side = 2.4 + 0.62 * (len(names) - 1)
    figure = Figure(figsize=(side + 1.2, side), layout="constrained")
    axis = figure.subplots()
    shown = axis.imshow(excess, vmin=-limit, vmax=limit, cmap="RdBu")
    for (row, column), text in texts.items():
        dark = abs(excess[row - 1, column]) > 0.6 * limit
        axis.text(column, row - 1, text, ha="center", va="center", fontsize=8,
                  color="white" if dark else "black")
    axis.set_xticks(range(len(names) - 1), names[:-1], rotation=60, ha="right")
    axis.set_yticks(range(len(names) - 1), names[1:])
    axis.set_title("survivors shared (%), in brackets by chance", fontsize=9)
    figure.colorbar(shown, ax=axis, shrink=0.7, label="points above chance")
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
    figure.suptitle(f"{title}: share of images that keep a patch ({found['keep']} of {total} kept)",
                    fontsize=8)
    figure.colorbar(shown, ax=list(axes.ravel()), shrink=0.6)
    return figure
