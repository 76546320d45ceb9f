"""Whether weights that are set to 0 are 0 where the module uses them: every ticket stands on it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..errors import SpikeTicketError
from ..imports.inputs import copied
from .classifier import Classifier
from .masks import random_masks
from .scores import connections

USES = (F.linear, F.conv1d, F.conv2d)


class _Weights(TorchFunctionMode):
    """used: the weight of every call of USES while it lasts."""

    def __init__(self) -> None:
        super().__init__()
        self.used: list[Tensor] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in USES:
            self.used.append(kwargs["weight"] if "weight" in kwargs else args[1])
        return func(*args, **kwargs)


@torch.no_grad()
def check_zeros_stay(net: Classifier) -> None:
    """Run a copy of which every second weight, drawn at random, is 0.

    Raises SpikeTicketError where a layer's weights are used with other values there: a layer that
    standardises its weights, say, makes them all differ from 0 again.
    """
    twin = copied(net).eval()
    layers = connections(twin)
    masks = random_masks({n: m.weight for n, m in layers.items()}, 0.5, 0, "layer")
    for name, layer in layers.items():
        layer.weight.masked_fill_(~masks[name], 0.0)
    device = next((m.weight.device for m in layers.values()), None)
    with torch.random.fork_rng(devices=[]), _Weights() as weights:
        twin(torch.rand((1, *net.shape), device=device))
    kept = set()
    for used in weights.used:
        alike = [n for n, mask in masks.items() if mask.shape == used.shape]
        fitting = {n for n in alike if not used[~masks[n]].any()}
        if alike and not fitting:
            name = next(n for n in alike if n not in kept)
            raise SpikeTicketError(
                f"{name}: {type(layers[name]).__name__} computes the weights that it uses from "
                "these, and a pruned weight, 0, does not stay 0 (weight standardisation does so); "
                "fold what it computes into a plain layer's weight before the search")
        kept |= fitting
