"""What lies between neurons, found by running it: the operator as synapses and a bias.

An operator may be made of anything (convolutions, linear layers, norms, pools of averages, sums,
concatenations, permutes): if it is affine and alike for all timesteps and images it is a matrix,
read here row by row and written as few weights as its structure allows: convolutions where the rows
of different positions are the same kernel, one connection for maps with equal weights, sum pools
where a kernel is constant in blocks. The result is compared with the operator on random maps
(float64, 1e-9 of the largest value), so that a wrong guess cannot pass.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..integer.floats import FloatSynapses, Pair
from ..integer.network import INPUT
from ..ticket import MAX_WEIGHTS
from .kernels import Axis, locate, read, synapses
from .layouts import Layout, candidates, features
from .probing import NOISE, TOLERANCE, Map, NotAffine, Operator, Probe, equal, why

__all__ = ["COPY_BITS", "ONES", "SHORTCUT_BITS", "USER_BITS", "Affine", "Map", "NotAffine",
           "affine", "readout"]

ONES = "ones"
"""The map [1, 1, 1] that spikes at every timestep: what a bias that differs by position reads."""

USER_BITS = 4
"""`FloatSynapses.bits` of a connection whose width the user chooses."""

SHORTCUT_BITS = 8
"""Width of a shortcut (every spike feeds one channel), and of the weights from `ONES`."""

COPY_BITS = 1
"""Width where a readout counts spikes, or a neuron without memory passes them on."""

MAX_CLASSES = 4096
"""Values of an output."""

MAX_SPREAD = 1 << 22
"""Weights of an operator that is no convolution and is stored whole."""


@dataclass(frozen=True, eq=False)
class Affine:
    """synapses (of width USER_BITS, SHORTCUT_BITS or COPY_BITS), bias float64 [C] and the layout of
    the operand. needs_ones: a connection reads the map `ONES`."""

    synapses: tuple[FloatSynapses, ...]
    bias: Tensor
    layout: Layout

    @property
    def needs_ones(self) -> bool:
        return any(ONES in s.sources for s in self.synapses)


def affine(operator: Operator, maps: Mapping[str, Map], dims: Sequence[int],
           layout: Layout | None = None) -> Affine:
    """The operand [T, B, *dims] of a neuron as synapses of `maps`; else NotAffine says why.

    layout: the operand's, if it has to be this one.
    """
    probe, found = _identified(operator, maps, dims, layout)
    return _named(found, probe.used, common=False)


def readout(operator: Operator, maps: Mapping[str, Map]) -> Affine:
    """The output [B, K], or summed over its timesteps [T, B, K], as a sum of currents over all
    timesteps and positions, each of which must count alike; NotAffine where it is not."""
    steps = max((m.steps for m in maps.values()), default=1)

    def held(given: Mapping[str, Tensor]) -> Tensor:
        """The output [1, B, K] of maps [1, B, *dims] that stay the same at all timesteps."""
        return _output(operator, {n: x.expand(maps[n].steps, *x.shape[1:])
                                  for n, x in given.items()})

    classes = held({}).shape[2:]
    if math.prod(classes) > MAX_CLASSES:
        raise NotAffine(f"has {math.prod(classes)} values, more than {MAX_CLASSES} classes")
    probe, found = _identified(held, {n: replace(m, steps=1) for n, m in maps.items()}, classes,
                               features(classes))
    terms = [replace(s, weight=s.weight / steps) for s in found.synapses]
    found = replace(found, synapses=tuple(terms), bias=found.bias / steps)
    _alike(operator, maps, probe, found, steps)
    return _named(_everywhere(found, maps), maps, common=True)


def _output(operator: Operator, given: Mapping[str, Tensor]) -> Tensor:
    """The output [1, B, K], summed over timesteps."""
    out = operator(given).double()
    return out[None] if out.dim() == 2 else out.sum(0, keepdim=True)


def _alike(operator: Operator, maps: Mapping[str, Map], probe: Probe, found: Affine,
           steps: int) -> None:
    """Raises NotAffine where the timesteps do not count alike."""
    generator = torch.Generator().manual_seed(31)
    given = {n: m.draw(probe.batch, generator) for n, m in maps.items()}
    with torch.no_grad():
        real = _output(operator, given)[0]
        values = {n: maps[n].layout.to_map(x.expand(steps, *x.shape[1:]))
                  for n, x in given.items()}
        made = (currents(found.synapses, values) + found.bias.view(-1, 1, 1)).expand(
            steps, probe.batch, *found.layout.shape).sum(0)
        if equal(real, made.reshape(real.shape)):
            return
        counted = []
        for t in range(steps):
            one = {n: torch.zeros_like(x) for n, x in given.items()}
            for n, x in given.items():
                one[n][t if maps[n].steps > 1 else 0] = x[t if maps[n].steps > 1 else 0]
            if not equal(_output(operator, one)[0], probe.zero[0], float(real.abs().max())):
                counted.append(t)
    if len(counted) < steps:
        raise NotAffine(f"counts the timesteps {counted} of {steps} only; let it sum or average "
                        "over all of them")
    raise NotAffine("weighs the timesteps differently (a leaky readout?); let it sum or average "
                    "over them")


def _everywhere(found: Affine, maps: Mapping[str, Map]) -> Affine:
    """A readout of kernels that are the same at all positions reads one position at a time."""
    if not found.synapses or any(s.sources[0] not in maps for s in found.synapses):
        return found
    sizes = {maps[s.sources[0]].layout.size for s in found.synapses}
    plain = [_alike_everywhere(s, size) for s in found.synapses for size in sizes]
    if len(sizes) > 1 or None in plain:
        return found
    return replace(found, synapses=tuple(plain), bias=found.bias / math.prod(*sizes))


def _alike_everywhere(s: FloatSynapses, size: Pair) -> FloatSynapses | None:
    """The connection with one weight for all positions of a map of this size, if it is one."""
    corner = s.weight[:, :, :1, :1]
    covered = all(k * p == n for k, p, n in zip(s.weight.shape[2:], s.sum_pool, size, strict=True))
    if (s.weight.shape[2:] == (1, 1) or not covered
            or not equal(s.weight, corner.expand_as(s.weight))):
        return None
    return FloatSynapses(corner.clone(), s.sources)


def _identified(operator: Operator, maps: Mapping[str, Map], dims: Sequence[int],
                layout: Layout | None = None) -> tuple[Probe, Affine]:
    """The operator, verified; its synapses read maps by their names."""
    probe, given = Probe(operator, maps, dims), layout
    refuted: list[Layout] = []
    wrong: str | None = None
    while True:
        try:
            layout, axes = _layout(probe, given, refuted)
        except NotAffine:
            if wrong is None:
                raise
            raise NotAffine(wrong) from None
        terms = [synapses(read(probe, layout, n, found), found, n) for n, found in axes.items()]
        values = layout.to_map(probe.bias[None, None])
        wrong = _wrong(probe, layout, terms, values)
        if wrong is None:
            bias, ones = _bias(values[0, 0])
            return probe, Affine((*terms, *([ones] if ones else [])), bias, layout)
        # Kernels are looked for at a few positions, so one may fit there and nowhere else.
        if given is not None or not axes:
            raise NotAffine(wrong)
        refuted.append(layout)


def _named(found: Affine, maps: Mapping[str, Map], common: bool) -> Affine:
    """Equal connections as one, widths, and names of layers for names of maps."""
    spikes = [s for s in found.synapses if s.sources != (ONES,)]
    ones = [s for s in found.synapses if s.sources == (ONES,)]
    named = []
    for s in spikes:
        layers = tuple(layer for n in s.sources for layer in maps[n].layers)
        unit = 1 if INPUT in layers else maps[s.sources[0]].unit
        named.append(replace(s, weight=s.weight * unit, sources=layers))
    named = _widths(_merged(named), common and not ones)
    return replace(found, synapses=(*named, *ones))


def currents(connections: Sequence[FloatSynapses], maps: Mapping[str, Tensor]) -> Tensor | float:
    """Sum of the connections' currents [T, B, C, H, W] from maps of their sources; no bias."""
    total: Tensor | float = 0.0
    for s in connections:
        x = sum(maps[name] for name in s.sources)
        made = []
        for image in x.flatten(0, 1).unsqueeze(1):        # one at a time, as columns take memory
            if s.sum_pool != (1, 1):
                image = F.avg_pool2d(image, s.sum_pool, divisor_override=1)
            made.append(F.conv2d(image, s.weight, stride=s.stride, padding=s.padding))
        total = total + torch.cat(made).unflatten(0, x.shape[:2])
    return total


def _layout(probe: Probe, given: Layout | None,
            refuted: Sequence[Layout] = ()) -> tuple[Layout, dict[str, tuple[Axis, Axis]]]:
    """The operand's layout, none of the refuted ones, and by map where its kernel lies."""
    sources = [m.layout for m in probe.used.values()]
    whole = features(probe.dims)
    if not sources:
        return given or Layout.standard(probe.dims), {}
    full = math.prod(probe.dims) * sum(math.prod(s.dims) for s in sources)
    best, least, checked = None, full + 1, False
    for layout in [given] if given else candidates(probe.dims, sources):
        axes = None if layout in refuted else locate(probe, layout)
        if axes is not None:
            count, shared = _count(probe, layout, axes), _shared(axes)
            # A later layout has to be much better: one that happens to fit is in the way later.
            if given or count < (least if best is None and shared else min(least / 2, full)):
                best, least = (layout, axes), count
                if shared and any(_alike_grids(layout.size, s.size) for s in sources):
                    break
        if not checked:                          # before a search that would be in vain
            _check(probe)
            checked = True
    if best is None:
        raise NotAffine(f"has weights that differ between the positions of {list(probe.dims)}")
    shared = _shared(best[1])
    if not shared or (best[0] == whole and sum(n > 1 for n in probe.dims) > 1):
        if least > MAX_SPREAD:
            raise NotAffine(f"has weights that differ between positions, {least} in all; up to "
                            f"{MAX_SPREAD} are stored whole")
    if least > MAX_WEIGHTS:
        raise NotAffine(f"has {least} weights, more than {MAX_WEIGHTS}")
    return best


def _alike_grids(first: tuple[int, int], second: tuple[int, int]) -> bool:
    """Rows are to columns about as they are in the other: no need to look for other layouts."""
    ratio = first[0] * second[1] / (first[1] * second[0])
    return 0.6 < ratio < 1.7 and first != (1, 1)


def _shared(axes: Mapping[str, tuple[Axis, Axis]]) -> bool:
    """Positions share weights in all kernels."""
    return all(axis.shared for pair in axes.values() for axis in pair)


def _count(probe: Probe, layout: Layout, axes: dict[str, tuple[Axis, Axis]]) -> int:
    """Weights of all kernels."""
    return sum(layout.shape[0] * m.layout.shape[0] * axes[n][0].taps * axes[n][1].taps
               for n, m in probe.used.items())


def _bias(values: Tensor) -> tuple[Tensor, FloatSynapses | None]:
    """(bias [C], connection from `ONES`) of values [C, H, W]; the bias is the one at the centre."""
    height, width = values.shape[1:]
    bias = values[:, height // 2, width // 2].clone()
    rest = values - bias[:, None, None]
    rest = torch.where(rest.abs() > 100 * NOISE * values.abs().max(), rest, 0.0)
    if not bool(rest.any()):
        return bias, None
    return bias, FloatSynapses(rest.flip((1, 2))[:, None].contiguous(), (ONES,),
                               padding=(height - 1, width - 1), bits=SHORTCUT_BITS)


def _check(probe: Probe) -> None:
    reason = why(probe)
    if reason:
        raise NotAffine(reason)


def _wrong(probe: Probe, layout: Layout, terms: list[FloatSynapses], bias: Tensor) -> str | None:
    """What is wrong where synapses and bias [.., C, H, W] do not give the operator's values; raises
    NotAffine where no others could."""
    for seed in range(1 if probe.steps * probe.batch > 3 else 4):
        given = probe.draw(21 + seed, spread=0.45)
        real = layout.to_map(probe.run(given))
        maps = {n: probe.maps[n].layout.to_map(x) for n, x in given.items()}
        top, error = float(real.abs().max()), 0.0
        for t in range(len(real)):
            made = currents(terms, {n: x[t:t + 1] if len(x) > 1 else x for n, x in maps.items()})
            error = max(error, float((made + bias - real[t:t + 1]).abs().max()))
        if not error <= TOLERANCE * top:         # NaN is an error
            _check(probe)
            return probe.steep() or "has weights that depend on the values"
    return None


def _merged(terms: list[FloatSynapses]) -> list[FloatSynapses]:
    """Maps of equal weights as one connection; the input has a unit of its own and stays apart."""
    merged: list[FloatSynapses] = []
    for term in terms:
        for i, other in enumerate(merged):
            if (INPUT not in term.sources + other.sources and torch.equal(term.weight, other.weight)
                    and (term.stride, term.padding, term.sum_pool)
                    == (other.stride, other.padding, other.sum_pool)):
                merged[i] = replace(other, sources=other.sources + term.sources)
                break
        else:
            merged.append(term)
    return merged


def _widths(terms: list[FloatSynapses], common: bool) -> list[FloatSynapses]:
    """The same with widths. common: all channels share a unit and there is no membrane, whose
    fractions need finer weights (a readout)."""
    passing = [bool(((t.weight != 0).sum(0) <= 1).all()) for t in terms]
    if common and all(passing) and _signs(terms):
        return [replace(t, bits=COPY_BITS) for t in terms]
    return [replace(t, bits=SHORTCUT_BITS if p and t.weight.shape[2:] == (1, 1) else USER_BITS)
            for t, p in zip(terms, passing, strict=True)]


def _signs(terms: list[FloatSynapses]) -> bool:
    """All weights differ in sign only."""
    sizes = torch.cat([t.weight.flatten().abs() for t in terms]) if terms else torch.zeros(1)
    return bool(((sizes == 0) | (sizes == sizes.max())).all())
