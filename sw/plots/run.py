"""One picture of a run: images and labels, cycles by layer, spikes by layer, logits."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..data import depth
from ..errors import BadInput
from ..report import Checked, RunReport
from .style import save

FORMATS = (".png", ".svg", ".pdf")
SHOWN = 8
"""Images in the picture."""


def check_format(path: str) -> None:
    """Raises SpikeTicketError if the name does not end in a format that can be drawn."""
    if Path(path).suffix not in FORMATS:
        raise BadInput(f"--plot {path}: the name must end in one of {', '.join(FORMATS)}")


def plot_run(path: str, run: RunReport, checked: Checked) -> None:
    """Draw a report and what it was made from; the file appears whole or not at all."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7), layout="constrained")
    low, high = run.accuracy_interval
    figure.suptitle(
        f"{run.network} on {run.place}\n{100 * run.accuracy:.1f} % of "
        f"{run.images} images (95 %: {100 * low:.1f} to {100 * high:.1f}), "
        f"{run.cycles_per_image:,.0f} cycles per image, "
        f"{100 * run.sparsity:.1f} % of weights removed")
    pictures, charts = figure.subfigures(2, 1, height_ratios=(1, 1.6))
    _pictures(pictures, checked)
    left, middle, right = charts.subplots(1, 3)

    layers = list(run.cycles_by_layer)
    left.barh(layers[::-1], [run.cycles_by_layer[name] for name in layers[::-1]],
              color="tab:blue")
    left.set(title="cycles by layer", xlabel="cycles per image")

    for name, rate in checked.rates.items():
        middle.plot(np.arange(1, len(rate) + 1), rate, marker="o", label=name)
    middle.set(title="firing rate by layer", xlabel="timestep", ylabel="spikes per neuron",
               ylim=(0, None))
    middle.set_xticks(np.arange(1, checked.network.timesteps + 1))
    middle.legend(frameon=False)

    truth, guess = checked.data.labels, checked.result.labels
    classes = checked.image.classes
    confusion = np.zeros((classes, classes), int)
    np.add.at(confusion, (np.minimum(truth, classes - 1), guess), 1)
    shown = right.imshow(confusion / np.maximum(1, confusion.sum(1, keepdims=True)), cmap="Blues",
                         vmin=0, vmax=1)
    names = list(checked.names[:classes])
    names += [str(i) for i in range(len(names), classes)]
    right.set_xticks(range(classes), names, rotation=90)
    right.set_yticks(range(classes), names)
    right.set(title="share of each class (rows) by answer")
    figure.colorbar(shown, ax=right, shrink=0.8)

    save(figure, path)


def _pictures(figure, checked: Checked) -> None:
    """The first images with the network's answer, red where it is wrong."""
    count = min(SHOWN, len(checked.data))
    names = checked.names
    for index, axes in enumerate(np.atleast_1d(figure.subplots(1, count))):
        array = checked.data.images[index]
        axes.imshow(picture(array, checked.image.input_bits), cmap="gray")
        answer = int(checked.result.labels[index])
        axes.set_title(names[answer] if answer < len(names) else str(answer), fontsize=9,
                       color="tab:green" if answer == checked.data.labels[index] else "tab:red")
        axes.axis("off")


def picture(array: np.ndarray, bits: int) -> np.ndarray:
    """An input as matplotlib draws it: grey [H, W] or colours [H, W, 3].

    uint8 [C, H, W] of so many bits, or event counts [T, C, H, W], which are summed: blue is the
    first channel (off), red the second (on).
    """
    if array.ndim == 4:
        counts = array.sum(axis=0, dtype=np.float64)
        array = counts / max(1.0, counts.max())
        if len(array) == 2:
            array = np.stack([array[1], np.zeros_like(array[0]), array[0]])
    else:
        array = depth.shown(array, bits)
    return array.transpose(1, 2, 0) if len(array) == 3 else array[0]
