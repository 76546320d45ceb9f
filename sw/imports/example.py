"""Train a small SpikingJelly network and import it: how near are the integers, by width?

Prints, for weights of 2 to 8 bits, the labels that float and integer network share, both
accuracies, and the same with corrected biases (`calibration`): `spiketicket import widths`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

from ..data import datasets
from ..errors import BadInput
from .calibration import calibrate
from .floats import compare
from .spikingjelly import from_spikingjelly

TIMESTEPS = 4
BATCH = 50
CALIBRATION = 200
WIDTHS = (2, 3, 4, 6, 8)


def network(channels: int, classes: int, side: int) -> nn.Sequential:
    """Two convolutions with max pools, two linear layers, LIF neurons; step mode "m"."""
    def node() -> neuron.LIFNode:
        return neuron.LIFNode(surrogate_function=surrogate.ATan(), detach_reset=True)
    net = nn.Sequential(
        layer.Conv2d(channels, 8, 3, padding=1, bias=False), layer.BatchNorm2d(8), node(),
        layer.MaxPool2d(2), layer.Conv2d(8, 16, 3, padding=1, bias=False), layer.BatchNorm2d(16),
        node(), layer.MaxPool2d(2), layer.Flatten(),
        layer.Linear(16 * (side // 4) ** 2, 64, bias=False), node(), layer.Linear(64, classes))
    functional.set_step_mode(net, "m")
    return net


def train(net: nn.Module, images: torch.Tensor, labels: torch.Tensor, epochs: int) -> None:
    """Adam on the cross entropy of the mean output over timesteps; images 0..1."""
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(epochs):
        for chosen in torch.randperm(len(images)).split(BATCH):
            functional.reset_net(net)
            out = net(images[chosen].expand(TIMESTEPS, -1, -1, -1, -1)).mean(0)
            loss = F.cross_entropy(out, labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    functional.reset_net(net)


def run(name: str, root: str | None, train_images: int, test_images: int, epochs: int, seed: int,
        show: bool = True) -> list[dict]:
    """A row for each width: bits, and what `floats.compare` finds, "rounded" and "calibrated".

    name, root: of `sw.data.datasets.load`. show: print each row when it is there. Raises
    SpikeTicketError.
    """
    torch.set_num_threads(1)    # maps are small, and sums have one order
    torch.manual_seed(seed)
    data = datasets.load(name, "train", root, limit=train_images)
    test = datasets.load(name, "test", root, limit=test_images)
    if not data.static or data.images.shape[2] != data.images.shape[3]:
        raise BadInput(f"--data {name} is not a set of square images")
    channels, side = data.images.shape[1:3]
    net = network(channels, int(data.labels.max()) + 1, side)
    train(net, torch.from_numpy(data.images.copy()).float() / 255,
          torch.from_numpy(data.labels.copy()), epochs)
    rows = []
    for bits in WIDTHS:
        imported = from_spikingjelly(net, (channels, side, side), TIMESTEPS, bits=bits)
        corrected = calibrate(imported, data.images[:CALIBRATION])
        rows.append({"bits": bits,
                     **{name: compare(found, test.images, test.labels).facts() for name, found in
                        (("rounded", imported), ("calibrated", corrected))}})
        if show:
            _print(rows[-1], first=len(rows) == 1)
    return rows


def _print(row: dict, first: bool) -> None:
    if first:
        print("bits  equal labels  accuracy float  integers  | calibrated: equal  integers")
    a, b = row["rounded"], row["calibrated"]
    print(f"{row['bits']:>4}  {a['equal_labels']:>12.1%}  {a['accuracy_float']:>14.1%}  "
          f"{a['accuracy_integer']:>8.1%}  | {b['equal_labels']:>17.1%}  "
          f"{b['accuracy_integer']:>8.1%}")
