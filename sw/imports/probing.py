"""An operator between neurons as a black box: runs, and rows of its matrix by reverse mode.

An operator takes the maps of earlier layers, raw tensors [T, B, *dims] by name (a missing one is
zeros), and gives the raw operand of a neuron [T, B, *dims]. What it is to be (affine, alike for all
timesteps and images) is assumed when rows are read, so that every timestep and image of a run
serves another row, and checked by `sw.imports.identify` on random maps afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import SpikeTicketError
from .layouts import Layout

Given = Mapping[str, Tensor]
Operator = Callable[[Given], Tensor]

TOLERANCE = 1e-9
"""Relative to the largest value of an operand, in float64: what counts as equal."""

NOISE = 1e-14
"""Weights this much smaller than the largest are cancellations and count as removed."""


class NotAffine(SpikeTicketError):
    """The operator is nothing that synapses compute; the message says what it is instead."""


@dataclass(frozen=True)
class Map:
    """A map that operators may read.

    steps: T, or 1 if one value stands for all timesteps. binary: 0 or 1; else the values are
    `unit` times 0 .. `top` (the input), or any number (top 0: the output of a pool of currents).
    sources: the layers whose maps add up to it; empty: the layer of its own name.
    """

    name: str
    layout: Layout
    binary: bool = True
    steps: int = 1
    unit: float = 1.0
    top: int = 1
    sources: tuple[str, ...] = ()

    @property
    def layers(self) -> tuple[str, ...]:
        return self.sources or (self.name,)

    def draw(self, batch: int, generator: torch.Generator, density: float = 0.5,
             spread: float = 0.0) -> Tensor:
        """A random value [steps, B, *dims], float64; densities go from density - spread to density
        + spread over the timesteps and images."""
        size = (self.steps, batch, *self.layout.dims)
        if self.top == 0:
            return torch.randn(size, generator=generator, dtype=torch.float64)
        chance = torch.rand(size, generator=generator, dtype=torch.float64)
        if self.top == 1:
            slots = torch.linspace(density - spread, density + spread, self.steps * batch)
            limits = slots.view(self.steps, batch, *(1 for _ in self.layout.dims))
            return (chance < limits).double() * self.unit
        return (chance * (self.top + 1)).floor().clamp_max(self.top) * self.unit


class Probe:
    """An operator with the maps that it may read, and one run of it for gradients.

    bias: raw [*dims], the operand without any spike. used: the maps with slopes.
    """

    def __init__(self, operator: Operator, maps: Mapping[str, Map], dims: Sequence[int]):
        self.operator, self.maps, self.dims = operator, dict(maps), tuple(dims)
        with torch.no_grad():
            zero = operator({}).double()
        self.steps, self.batch = zero.shape[:2]
        if tuple(zero.shape[2:]) != self.dims:
            raise ValueError(f"operand of shape {list(zero.shape)} for {list(self.dims)}")
        if not bool(torch.isfinite(zero).all()):
            raise NotAffine("gives infinite values or NaN without any spike")
        self.bias = zero[0, 0].clone()
        self.zero = self.bias.expand_as(zero)
        if not equal(zero, self.zero):
            raise NotAffine("adds a constant that differs between timesteps or images")
        del zero                                 # maps of gesture networks are large
        # Halfway between rest and spike: where x * x and relu(x) of spikes have slope 1.
        self.leaves = {m.name: torch.full((m.steps, self.batch, *m.layout.dims), 0.5 * m.unit,
                                          dtype=torch.float64, requires_grad=True)
                       for m in maps.values()}
        with torch.enable_grad():
            self.out = operator(self.leaves).double()
        generator = torch.Generator().manual_seed(1)
        weights = torch.randn(self.dims, generator=generator, dtype=torch.float64)
        grads = self.pull(weights.expand_as(self.out), maps)
        self.used = {name: m for name, m in maps.items() if bool((grads[name] != 0).any())}
        static = any(m.steps == 1 for m in self.used.values())
        self.slots = [(t, b) for t in range(1 if static else self.steps)
                      for b in range(self.batch)]

    def pull(self, weights: Tensor, names: Sequence[str] | Mapping[str, Map]) -> dict[str, Tensor]:
        """Gradients [steps, B, C, H, W] by map of the sum of weights [T, B, *dims] x operand."""
        if not self.out.requires_grad:
            return {n: self.maps[n].layout.to_map(torch.zeros_like(self.leaves[n])) for n in names}
        found = torch.autograd.grad(self.out, [self.leaves[n] for n in names], weights,
                                    retain_graph=True, materialize_grads=True)
        return {n: self.maps[n].layout.to_map(g) for n, g in zip(names, found, strict=True)}

    def run(self, given: Given) -> Tensor:
        """The operand [T, B, *dims] of these maps."""
        with torch.no_grad():
            return self.operator(given).double()

    def draw(self, seed: int, density: float = 0.5, spread: float = 0.0) -> dict[str, Tensor]:
        """Random values of all maps: one without slope may matter all the same."""
        generator = torch.Generator().manual_seed(seed)
        return {n: m.draw(self.batch, generator, density, spread) for n, m in self.maps.items()}

    def steep(self) -> str:
        """Which maps matter without a slope; "" if none does."""
        steps = [n for n, x in self.draw(13).items()
                 if n not in self.used and not equal(self.run({n: x}), self.zero)]
        return f"compares or rounds {_names(steps)}" if steps else ""


def equal(first: Tensor, second: Tensor, scale: float | None = None) -> bool:
    """Equal up to `TOLERANCE` of the largest value (or of `scale`)."""
    if not bool(torch.isfinite(first).all() and torch.isfinite(second).all()):
        return False
    top = max(float(first.abs().max()), float(second.abs().max())) if scale is None else scale
    return float((first - second).abs().max()) <= TOLERANCE * top if first.numel() else True


def why(probe: Probe) -> str:
    """What keeps an operator from being alike for all images and timesteps, and linear; "" if
    nothing does."""
    given = probe.draw(11)
    full = probe.run(given)
    if not bool(torch.isfinite(full).all()):
        return "gives infinite values or NaN"
    scale = float(full.abs().max())
    generator = torch.Generator().manual_seed(12)
    parts = {n: (torch.rand(x.shape, generator=generator) < 0.5).double() * x
             for n, x in given.items()}
    rests = {n: x - parts[n] for n, x in given.items()}
    crooked = [n for n in given if not equal(
        probe.run({n: parts[n]}) + probe.run({n: rests[n]}), probe.run({n: given[n]}) + probe.zero,
        scale)]
    if crooked:
        return f"is not linear in {_names(crooked)} (a ReLU, a norm, a softmax or a product of it)"
    alone = sum((probe.run({n: x}) - probe.zero for n, x in given.items()), probe.zero)
    if not equal(alone, full, scale):
        return f"multiplies or compares maps with each other: {_names(given)}"
    for axis, what in ((1, "images of a batch"), (0, "timesteps")):
        if axis == 0 and all(m.steps == 1 for m in probe.maps.values()):
            continue
        first = {n: x.clone() for n, x in given.items() if axis == 1 or len(x) > 1}
        for x in first.values():
            if x.shape[axis] > 1:
                x.narrow(axis, 1, x.shape[axis] - 1).zero_()
        seen = probe.run(first)
        rest = seen.narrow(axis, 1, seen.shape[axis] - 1) if seen.shape[axis] > 1 else None
        if rest is not None and not equal(rest, probe.zero.narrow(axis, 1, rest.shape[axis]),
                                          scale):
            return f"mixes {what}"
    same = probe.run({n: x[:1, :1].expand_as(x).clone() for n, x in given.items()})
    if not equal(same, same[:1].expand_as(same), scale):
        return "has weights that differ between timesteps"
    if not equal(same, same[:, :1].expand_as(same), scale):
        return "has weights that differ between the images of a batch"
    return ""


def _names(names: Sequence[str] | Mapping) -> str:
    return ", ".join(repr(n) for n in names)
