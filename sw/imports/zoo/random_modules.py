"""Modules of random blocks that the core can compute, whichever way they are written.

`random_entry(choose)` builds one by choices, so that a property-based test may make them:
`choose(options)` returns one of a sequence. Convolutions with any stride, padding and groups, pools
of currents and of spikes, residuals of both kinds, AND and IAND, concatenated channels, constants,
depthwise-separable pairs, attention, permuted linear layers; time folded into the batch, looped
over inside or outside, first or second axis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from .entry import NEURONS, Entry

T = TypeVar("T")
Choose = Callable[[Sequence[T]], T]

FORMS = ("folded", "image", "batch first", "loop", "steps")
"""How time is written: folded into the batch ("folded", "image", "batch first"), a loop in forward,
or the caller's loop."""

CONTAINERS = ("Sequential", "ModuleList", "ModuleDict")

RESETS = ({}, {"v_reset": None})


class Fire(nn.Module):
    """A neuron on [T * B, ...] (steps set) or on one timestep (steps None)."""

    def __init__(self, node: nn.Module):
        super().__init__()
        self.node, self.steps = node, None

    def forward(self, x: Tensor) -> Tensor:
        if self.steps is None:
            return self.node(x)
        return self.node(x.view(self.steps, -1, *x.shape[1:])).flatten(0, 1)


@dataclass(frozen=True)
class Extent:
    """Shape of what a block is given, and the largest value in it (1: spikes). even: no layer so
    far has weights that differ between positions, as a padded pool of currents behind a padded
    convolution has at the border; its map may be read as any axes, and attention needs tokens."""

    channels: int
    height: int
    width: int
    top: int = 1
    even: bool = True


class Weighted(nn.Sequential):
    """Linear operations, a pool of currents perhaps, and a neuron."""


class Residual(nn.Module):
    """kind "spikes": x + fire(f(x)); "currents": fire(f(x) + x); "and": x * fire(f(x));
    "iand": x * (1 - fire(f(x))); "cat": [x, fire(f(x))]."""

    def __init__(self, kind: str, body: nn.Module, fire: Fire):
        super().__init__()
        self.kind, self.body, self.fire = kind, body, fire

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "currents":
            return self.fire(self.body(x) + x)
        out = self.fire(self.body(x))
        if self.kind == "spikes":
            return out + x
        if self.kind == "cat":
            return torch.cat((x, out), 1)
        return x * out if self.kind == "and" else x * (1 - out)


class AttentionBlock(nn.Module):
    """q k^T v over the positions, by heads, and the map it came from added."""

    def __init__(self, width: int, heads: int, fires: list[Fire]):
        super().__init__()
        self.heads = heads
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(3))
        self.fires = nn.ModuleList(fires)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (fire(conv(x)).flatten(2).unflatten(1, (self.heads, -1)).mT
                   for fire, conv in zip(self.fires, self.convs, strict=False))
        out = (q @ k.mT @ v) * 0.125
        return self.fires[3](out.mT.flatten(1, 2).view(x.shape)) + x


class ChannelsLast(nn.Module):
    """A linear layer over the channels, as tokens hold them."""

    def __init__(self, a: int, b: int):
        super().__init__()
        self.fc = nn.Linear(a, b)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Constant(nn.Module):
    """x * factor + offset."""

    def __init__(self, factor: float, offset: float):
        super().__init__()
        self.factor, self.offset = factor, offset

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor + self.offset


class RandomModule(nn.Module):
    """Blocks in a container, a head, and time written in one of `FORMS`."""

    def __init__(self, blocks: list[nn.Module], container: str, head: nn.Module, form: str,
                 steps: int, mean: bool):
        super().__init__()
        named = {f"block{i}": block for i, block in enumerate(blocks)}
        self.blocks = (nn.ModuleDict(named) if container == "ModuleDict"
                       else nn.ModuleList(blocks) if container == "ModuleList"
                       else nn.Sequential(*blocks))
        self.head, self.form, self.steps, self.mean = head, form, steps, mean

    def _step(self, x: Tensor) -> Tensor:
        """Logits of [N, C, H, W]."""
        if isinstance(self.blocks, nn.Sequential):
            return self.head(self.blocks(x))
        parts = self.blocks.values() if isinstance(self.blocks, nn.ModuleDict) else self.blocks
        for block in parts:
            x = block(x)
        return self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        if self.form == "steps":
            return self._step(x)
        if self.form == "loop":
            outs = [self._step(step) for step in x]
            return sum(outs) / (len(outs) if self.mean else 1)
        if x.ndim == 4:
            x = x.unsqueeze(0).repeat(self.steps, 1, 1, 1, 1)
        elif self.form == "batch first":
            x = x.transpose(0, 1)
        T, B, C, H, W = x.shape
        for module in self.modules():
            if isinstance(module, Fire):
                module.steps = T
        out = self._step(x.reshape(T * B, C, H, W)).view(T, B, -1)
        return out.mean(0) if self.mean else out


def random_entry(choose: Choose) -> Entry:
    """An entry whose module is built anew, with the same choices, by every `make`."""
    form, kind = choose(FORMS), choose(tuple(NEURONS))
    given = choose(RESETS)
    shape = (choose((1, 2, 3)), *choose(((8, 8), (6, 6), (8, 4), (5, 7))))
    steps, mean = choose((2, 4, 5)), choose((True, False))
    static = form == "image" or choose((True, False))

    def fire() -> Fire:
        mode = "s" if form in ("loop", "steps") else "m"
        return Fire(NEURONS[kind](step_mode=mode, **given))

    found, blocks = Extent(*shape, top=3), []
    for index in range(choose((1, 2, 3))):
        block, found = _block(choose, found, fire, first=index == 0)
        blocks += block
    head, container = _head(choose, found), choose(CONTAINERS)
    feed = form if form in ("image", "batch first", "steps") else "sequence"
    thirds = any(isinstance(m, nn.AvgPool2d | nn.AdaptiveAvgPool2d) for block in blocks
                 for m in block.modules())
    return Entry(f"random/{form}", "random blocks",
                 lambda: RandomModule(blocks, container, head, form, steps, mean), shape, steps,
                 feed, static, noisy=thirds)


def _block(choose: Choose, given: Extent, fire: Callable[[], Fire],
           first: bool) -> tuple[list[nn.Module], Extent]:
    kinds = ["weighted", "separable"]
    if not first:
        kinds += ["spikes", "currents", "cat", "tokens"]
        kinds += ["and", "iand"] if given.top == 1 else []
        kinds += ["attention"] if (given.even and given.channels == 4
                                   and given.height * given.width <= 16) else []
    kind = choose(kinds)
    if kind == "attention":
        part = AttentionBlock(4, choose((1, 2)), [fire() for _ in range(4)])
        return [part], replace(given, top=given.top + 1)
    if kind == "tokens":
        return [Weighted(ChannelsLast(given.channels, 4), fire())], replace(given, channels=4,
                                                                          top=1)
    if kind in ("weighted", "separable"):
        return _weighted(choose, given, fire, kind)
    body = nn.Sequential(nn.Conv2d(given.channels, given.channels, 3, padding=1),
                         *_scaled(choose, given.channels))
    part = Residual(kind, body, fire())
    channels = given.channels * (2 if kind == "cat" else 1)
    top = given.top + 1 if kind == "spikes" else given.top if kind == "cat" else 1
    return [part], replace(given, channels=channels, top=top)


def _scaled(choose: Choose, channels: int) -> list[nn.Module]:
    """What may stand behind a convolution and is affine by channel."""
    return choose((lambda: [], lambda: [nn.BatchNorm2d(channels)],
                   lambda: [Constant(0.5, 0.25)]))()


def _weighted(choose: Choose, given: Extent, fire: Callable[[], Fire],
              kind: str) -> tuple[list[nn.Module], Extent]:
    channels, parts = choose((2, 4)), []
    if kind == "separable":
        parts.append(nn.Conv2d(given.channels, given.channels, 3, padding=1,
                               groups=given.channels, bias=choose((True, False))))
        parts.append(nn.Conv2d(given.channels, channels, 1))
    else:
        kernel, padding = choose(((1, 0), (3, 1), (3, 0), ((3, 1), (1, 0)), (5, 2)))
        parts.append(nn.Conv2d(given.channels, channels, kernel, choose((1, 2, (2, 1))), padding,
                               bias=choose((True, False))))
    parts += _scaled(choose, channels)
    parts += choose((lambda: [], lambda: [nn.AvgPool2d(2)], lambda: [nn.MaxPool2d(2)],
                     lambda: [nn.MaxPool2d(3, 2, 1)], lambda: [nn.AvgPool2d(3, 1, 1)]))()
    behind = choose((lambda: [], lambda: [nn.MaxPool2d(2)], lambda: [nn.AvgPool2d(2)],
                     lambda: [nn.AdaptiveAvgPool2d(1)]))()
    size = _size([*parts], given)
    if min(size) < 2:                       # too small for what was chosen: the convolution alone
        parts = [nn.Conv2d(given.channels, channels, 1)]
        size = (given.height, given.width)
    if min(size) < 2:
        behind = []
    summed = any(isinstance(m, nn.AvgPool2d | nn.AdaptiveAvgPool2d) for m in behind)
    size = _size([*parts, *behind], given)
    even = given.even and not any(isinstance(m, nn.AvgPool2d) and m.padding for m in parts)
    return [Weighted(*parts, fire()), *behind], Extent(channels, *size, 2 if summed else 1, even)


def _size(parts: list[nn.Module], given: Extent) -> tuple[int, int]:
    """Rows and columns behind some layers; (0, 0) where nothing is left."""
    try:
        out = nn.Sequential(*parts).eval()(
            torch.zeros(1, given.channels, given.height, given.width))
    except RuntimeError:
        return 0, 0
    return tuple(out.shape[2:])


def _head(choose: Choose, given: Extent) -> nn.Module:
    if choose((True, False)):
        return nn.Sequential(nn.Flatten(), nn.Linear(given.channels * given.height * given.width,
                                                     5))
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(given.channels, 5))
