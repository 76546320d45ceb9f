"""The network of docs/tutorial.md: two convolutions and two linear layers of LIF neurons, written
for SpikingJelly as anybody might, without a thought of FPGAs.

    python examples/tutorial/my_network.py            # trains it: my_network.safetensors
"""

from __future__ import annotations

import argparse
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn
from tqdm import tqdm

from sw.errors import command

TIMESTEPS = 4


class MyNetwork(nn.Module):
    """Images [B, 1, 28, 28] in 0..1 -> logits [B, 10], the mean over the timesteps."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            layer.Conv2d(1, 8, 3, padding=1, bias=False), layer.BatchNorm2d(8), self.node(),
            layer.MaxPool2d(2),
            layer.Conv2d(8, 16, 3, padding=1, bias=False), layer.BatchNorm2d(16), self.node(),
            layer.MaxPool2d(2), layer.Flatten(),
            layer.Linear(16 * 7 * 7, 64, bias=False), self.node(),
            layer.Linear(64, 10))
        functional.set_step_mode(self, "m")

    @staticmethod
    def node() -> nn.Module:
        return neuron.LIFNode(surrogate_function=surrogate.ATan(), detach_reset=True)

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images.repeat(TIMESTEPS, 1, 1, 1, 1)).mean(0)


def load(path: str = "my_network.safetensors") -> MyNetwork:
    """The trained network, ready for inference."""
    net = MyNetwork()
    net.load_state_dict(load_file(path))
    return net.eval()


@command
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=6000, help="to train on (%(default)s)")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--out", default="my_network.safetensors")
    options = parser.parse_args()

    from sw.data import datasets  # any other source of images does as well
    torch.manual_seed(0)
    data = {split: datasets.load("fashion-mnist", split) for split in ("train", "test")}
    images, labels = (torch.from_numpy(a[:options.images]) for a in
                      (data["train"].images, data["train"].labels))
    net = MyNetwork()
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    for epoch in range(options.epochs):
        for chosen in tqdm(torch.randperm(len(images)).split(50), f"epoch {epoch}", leave=False):
            loss = F.cross_entropy(net(images[chosen] / 255), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            functional.reset_net(net)
    net.eval()
    with torch.no_grad():
        guess = net(torch.from_numpy(data["test"].images[:1000]) / 255).argmax(1)
    right = (guess == torch.from_numpy(data["test"].labels[:1000])).float().mean()
    functional.reset_net(net)
    save_file(net.state_dict(), options.out)
    print(f"{options.out}: {100 * right:.1f} % of {len(guess)} test images, in floating point")
    return 0


if __name__ == "__main__":
    sys.exit(main())
