"""Train a network of networks.py on Fashion-MNIST, in plain SpikingJelly: what you have done before
you come here.

    python examples/tutorial/train.py csnn          # csnn.safetensors, half an hour on a core
    python examples/tutorial/train.py spikformer    # spikformer.safetensors, an hour and a half

The last 5,000 training images are for validation; the test images are looked at once, at the end.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from spikingjelly.activation_based import functional
from torch import Tensor, nn
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parent))

from networks import CSNN, spikformer

from sw.errors import command

NETWORKS = {"csnn": CSNN, "spikformer": spikformer}
LOSSES = {"csnn": lambda out, y: F.mse_loss(out, F.one_hot(y, 10).float()),
          "spikformer": F.cross_entropy}
"""As their authors train them: firing rates are drawn to 1 and 0."""

VALIDATION = 5000
BATCH = 64


def logits(net: nn.Module, images: Tensor) -> Tensor:
    """uint8 images [B, 1, 28, 28] -> [B, 10]; a network that returns every timestep is averaged."""
    functional.reset_net(net)
    with torch.autocast("cpu", torch.bfloat16, enabled=net.training):
        out = net(images.float() / 255)
    return (out.mean(0) if out.dim() == 3 else out).float()


@torch.no_grad()
def accuracy(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    net.eval()
    right = sum(int((logits(net, x).argmax(1) == y).sum())
                for x, y in zip(images.split(250), labels.split(250), strict=True))
    return right / len(images)


@command
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--images", type=int, default=60000, help="training images, validation "
                        "included (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", help="NETWORK.safetensors")
    options = parser.parse_args()

    from sw.data import datasets
    torch.manual_seed(options.seed)
    torch.set_num_threads(1)
    sets = {s: datasets.load("fashion-mnist", s) for s in ("train", "test")}
    images, labels = (torch.from_numpy(a[:options.images].copy())
                      for a in (sets["train"].images, sets["train"].labels))
    held = min(VALIDATION, len(images) // 4)
    images, labels, val = images[:-held], labels[:-held], (images[-held:], labels[-held:])
    net = NETWORKS[options.network]()
    optimizer = torch.optim.Adam(net.parameters(), options.lr)
    steps, step = options.epochs * math.ceil(len(images) / BATCH), 0
    for epoch in range(1, options.epochs + 1):
        net.train()
        for chosen in tqdm(torch.randperm(len(images)).split(BATCH), f"epoch {epoch}",
                           mininterval=1, disable=None):
            x = images[chosen]
            mirrored = torch.rand(len(x)) < 0.5
            x[mirrored] = x[mirrored].flip(-1)
            optimizer.param_groups[0]["lr"] = options.lr * min(
                1, (step + 1) / 100) * (1 + math.cos(math.pi * step / steps)) / 2
            loss = LOSSES[options.network](logits(net, x), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
        print(json.dumps({"epoch": epoch, "loss": round(float(loss.detach()), 4),
                          "validation": accuracy(net, *val)}), flush=True)
        functional.reset_net(net)
        save_file(net.state_dict(), options.out or f"{options.network}.safetensors")
    test = [torch.from_numpy(a.copy()) for a in (sets["test"].images, sets["test"].labels)]
    print(json.dumps({"test": accuracy(net, *test)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
