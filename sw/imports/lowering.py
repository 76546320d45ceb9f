"""From the operations of a foreign network to float layers that `sw.integer.quantize` takes.

An importer walks its graph and calls one method of `Lowering` for every operation. Between them
go two kinds of values: `Spikes`, sums of maps that earlier layers made (or the input), and
`Currents`, weighted sums on their way to a neuron. Batch norms, scales and biases are folded into
the currents on the spot, in float64; a neuron turns currents into a layer and its map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import SpikeTicketError
from ..integer.floats import FloatLayer, FloatNeuron, FloatSynapses
from ..integer.network import INPUT, Pool
from .weights import channel_weight

SHORTCUT_BITS = 8
"""Width of an identity added before a neuron: one weight per channel, in the main path's unit."""

COPY_BITS = 1
"""Width of weights that are all 1: spikes passed on, or counted by the readout of a network whose
last layer has neurons."""

MAX_COUNTED = 4096
"""Output neurons that such a readout may count."""

Size = tuple[int, int, int]


@dataclass(frozen=True)
class Spikes:
    """Sum of maps; `shape` is that of one timestep, behind the pending average pool `window`
    (kernel, stride, padding). gain multiplies the values. flat: features in one axis.
    averaged: over time, so only the readout may follow."""

    sources: tuple[str, ...]
    shape: Size
    window: tuple[int, int, int] | None = None
    gain: float = 1.0
    flat: bool = False
    averaged: bool = False


@dataclass(frozen=True, eq=False)
class Term:
    """One weighted connection, weight [C_out, C_in, kh, kw] float64."""

    weight: Tensor
    stride: int
    padding: int
    sources: tuple[str, ...]
    avg_pool: int = 1
    shortcut: bool = False


@dataclass(frozen=True, eq=False)
class Currents:
    """Sum of terms plus bias [C_out]; pool: a maximum behind it. `positions` says that the mean
    over all positions is taken, which only the readout can."""

    terms: tuple[Term, ...]
    bias: Tensor
    shape: Size
    pool: Pool | None = None
    flat: bool = False
    averaged: bool = False
    positions: bool = False


Value = Spikes | Currents


Bits = int | Mapping[str, int | Sequence[int]]
"""Width of the weights: one number, or by layer name one number or one for every connection."""


class Lowering:
    """Layers in the making; `shape` [C, H, W] is the input's. `where` begins every message."""

    def __init__(self, shape: Size, bits: Bits = 4):
        self.bits, self.layers = bits, []
        self.shapes: dict[str, Size] = {INPUT: shape}

    def input(self) -> Spikes:
        return Spikes((INPUT,), self.shapes[INPUT])

    def weigh(self, where: str, value: Value, weight: Tensor, bias: Tensor | None = None,
              stride: int = 1, padding: int = 0) -> Currents:
        """A convolution (`sw.imports.weights.normal_conv`), weight [C_out, C_in, kh, kw]."""
        value = self._spikes(where, value)
        if value.flat and value.shape[1:] != (1, 1):
            raise SpikeTicketError(f"{where}: a convolution of flattened maps; remove the flatten")
        if weight.shape[1] != value.shape[0]:
            raise SpikeTicketError(f"{where}: weight expects {weight.shape[1]} channels, its input "
                                   f"has {value.shape[0]}")
        return self._weighted(where, value, weight, bias, stride, padding)

    def linear(self, where: str, value: Value, weight: Tensor, bias: Tensor | None = None,
               ) -> Currents:
        """A fully connected layer over all values of a map, weight [C_out, features]."""
        value = self._spikes(where, value)
        features = value.shape[0] * value.shape[1] * value.shape[2]
        if not value.flat and value.shape[1:] != (1, 1):
            raise SpikeTicketError(f"{where}: a linear layer over the columns of a map "
                                   f"{_text(value.shape)}; flatten the map before it")
        if weight.dim() != 2 or weight.shape[1] != features:
            raise SpikeTicketError(f"{where}: weight of shape {list(weight.shape)} does not fit "
                                   f"{features} features")
        value = replace(value, flat=False)
        return self._weighted(where, value, weight.double().reshape(-1, *value.shape), bias, 1, 0)

    def affine(self, where: str, value: Value, scale: Tensor, shift: Tensor) -> Currents:
        """Channel c times scale[c] plus shift[c]: a batch norm in evaluation, a scale."""
        value = self.currents(where, value)
        scale, shift = scale.detach().double().flatten(), shift.detach().double().flatten()
        if len(scale) != value.shape[0]:
            raise SpikeTicketError(f"{where}: {len(scale)} channels, its input has "
                                   f"{value.shape[0]}")
        if value.pool is not None and bool((scale < 0).any()):
            raise SpikeTicketError(f"{where}: channel {int((scale < 0).nonzero()[0])} has a "
                                   "negative scale behind a max pool; put the pool behind the norm")
        terms = tuple(replace(t, weight=t.weight * scale.view(-1, 1, 1, 1)) for t in value.terms)
        return replace(value, terms=terms, bias=value.bias * scale + shift)

    def add(self, where: str, first: Value, second: Value) -> Value:
        """A residual: of maps (after the neuron) or with currents (before it)."""
        if first.shape != second.shape or first.flat != second.flat:
            raise SpikeTicketError(f"{where}: adds maps {_text(first.shape)} and "
                                   f"{_text(second.shape)}; give both one shape")
        if isinstance(first, Spikes) and isinstance(second, Spikes) and (
                first.window, first.gain, first.averaged) == (
                second.window, second.gain, second.averaged):
            return replace(first, sources=first.sources + second.sources)
        first, second = (self.currents(where, v, shortcut=True) for v in (first, second))
        if first.pool or second.pool or first.positions != second.positions:
            raise SpikeTicketError(f"{where}: adds behind a pool of currents; add before the pool")
        return replace(first, terms=first.terms + second.terms, bias=first.bias + second.bias)

    def average(self, where: str, value: Value, size: int, stride: int | None = None,
                padding: int = 0, total: bool = False) -> Value:
        """Average pool (its zeros of the padding count); total: the sum over the window."""
        stride = stride or size
        channels, *maps = value.shape
        shape = (channels, *(_windows(where, n, size, stride, padding) for n in maps))
        if isinstance(value, Currents):
            if maps != [size, size] or padding != 0:
                raise SpikeTicketError(
                    f"{where}: average pool of currents; put the neuron before the pool, or pool "
                    "over all positions right before the output")
            return self.all_positions(where, value, total)
        window = (size, stride, padding)
        if value.window is not None:
            if not (_tiles(window) and _tiles(value.window)):
                raise SpikeTicketError(f"{where}: two average pools in a row whose windows "
                                       "overlap; make them one")
            size0 = value.window[0] * size
            window = (size0, size0, 0)
        gain = value.gain * (size ** 2 if total else 1)
        return replace(value, shape=shape, window=window, gain=gain)

    def all_positions(self, where: str, value: Currents, total: bool = False) -> Currents:
        """The mean (total: the sum) of currents over all positions, for the readout."""
        if value.pool is not None or value.positions:
            raise SpikeTicketError(f"{where}: two pools before one neuron; make them one")
        channels, height, width = value.shape
        if not total:
            scale = torch.full((channels,), 1 / (height * width))
            value = self.affine(where, value, scale, torch.zeros(channels))
        return replace(value, shape=(channels, 1, 1), positions=True)

    def maximum(self, where: str, value: Value, size: int, stride: int | None = None,
                padding: int = 0, *, sole: bool = True) -> Value:
        """Max pool; sole: nothing else reads the map before the pool."""
        pool = Pool("or", size, stride, padding)
        channels, *maps = value.shape
        shape = (channels, *(_windows(where, n, size, stride or size, padding) for n in maps))
        if value.averaged:
            raise SpikeTicketError(f"{where}: a max pool behind the mean over time; put it before")
        if isinstance(value, Currents):
            if value.pool is not None or value.positions:
                raise SpikeTicketError(f"{where}: two pools before one neuron; make them one")
            return replace(value, shape=shape, pool=replace(pool, mode="max"))
        if value.sources == (INPUT,) or len(value.sources) > 1 or value.window is not None:
            raise SpikeTicketError(f"{where}: a max pool of the input, of a sum or of an average; "
                                   "only spikes of one layer (OR) and currents have one")
        index = [layer.name for layer in self.layers].index(value.sources[0])
        if not sole or self.layers[index].pool is not None:
            # The map is read twice, or pooled already: a layer of its own passes it on.
            one = torch.ones(channels, dtype=torch.float64)
            value = self.fire(where, f"{value.sources[0]}.pool", value,
                              FloatNeuron(1.0, one, 0 * one), bits=COPY_BITS)
            index = -1
        self.layers[index] = replace(self.layers[index], pool=pool)
        self.shapes[value.sources[0]] = shape
        return replace(value, shape=shape)

    @staticmethod
    def flatten(value: Value) -> Value:
        return replace(value, flat=True)

    @staticmethod
    def over_time(value: Value) -> Value:
        """The mean or sum over timesteps."""
        return replace(value, averaged=True)

    def fire(self, where: str, name: str, value: Value, neuron: FloatNeuron, gain: float = 1.0,
             bits: int | None = None) -> Spikes:
        """A neuron, which makes a layer and its map; gain: of its input."""
        value = self.currents(where, value)
        if value.averaged or value.positions:
            raise SpikeTicketError(f"{where}: a neuron behind a mean over "
                                   f"{'time' if value.averaged else 'positions'}; only the output "
                                   "can follow it")
        name = self._unused(name)
        self.layers.append(FloatLayer(name, self._synapses(name, value, gain, bits),
                                      value.bias * gain, neuron, value.pool))
        self.shapes[name] = value.shape
        return Spikes((name,), value.shape, flat=value.flat)

    def vote(self, where: str, value: Value, voters: int) -> Currents:
        """Mean over groups of `voters` successive features (SpikingJelly's VotingLayer)."""
        count = value.shape[0] * value.shape[1] * value.shape[2]
        if count % voters:
            raise SpikeTicketError(f"{where}: {count} features do not divide into {voters}")
        groups = torch.kron(torch.eye(count // voters), torch.ones(1, voters)).double() / voters
        if isinstance(value, Spikes):
            return self.linear(where, replace(value, flat=True), groups)
        if value.shape[1:] != (1, 1) or value.pool is not None:
            raise SpikeTicketError(f"{where}: a vote of currents at {_text(value.shape)} positions")
        terms = tuple(replace(t, weight=torch.einsum("gc,cijk->gijk", groups, t.weight))
                      for t in value.terms)
        return replace(value, terms=terms, bias=groups @ value.bias,
                       shape=(count // voters, 1, 1))

    def readout(self, where: str, value: Value, name: str = "readout") -> list[FloatLayer]:
        """End: the layers, the last of which sums currents (or counts spikes) over timesteps."""
        counted = isinstance(value, Spikes)
        if counted:
            features = value.shape[0] * value.shape[1] * value.shape[2]
            if features > MAX_COUNTED:
                raise SpikeTicketError(f"{where}: {features} outputs are more than {MAX_COUNTED}; "
                                       "end with a linear layer or a neuron per class")
            value = self.linear(where, replace(value, flat=True), torch.eye(features))
        if value.pool is not None or (value.shape[1:] != (1, 1) and not value.positions):
            raise SpikeTicketError(f"{where}: the output is a map {_text(value.shape)}; end with "
                                   "a linear layer, or with an average over all positions")
        name = self._unused(name)
        synapses = self._synapses(name, value, bits=COPY_BITS if counted else None)
        return [*self.layers, FloatLayer(name, synapses, value.bias)]

    def currents(self, where: str, value: Value, shortcut: bool = False) -> Currents:
        """The value itself as a current: spikes with weight 1."""
        if isinstance(value, Currents):
            return value
        one = torch.ones(value.shape[0], dtype=torch.float64)
        stride = padding = 0
        if value.window is not None and not _tiles(value.window):
            size, stride, padding = value.window
            weight = channel_weight(one, size)
            value = replace(value, window=None)
        else:
            weight, stride = channel_weight(one), 1
        flat = value.flat
        made = self._weighted(where, replace(value, flat=False), weight, None, stride, padding,
                              shape=value.shape)
        terms = tuple(replace(t, shortcut=shortcut) for t in made.terms)
        return replace(made, terms=terms, flat=flat)

    def _spikes(self, where: str, value: Value) -> Spikes:
        if isinstance(value, Currents):
            raise SpikeTicketError(f"{where}: two weighted operations without a neuron between "
                                   "them; multiply their weights, or put a neuron between")
        return value

    def _weighted(self, where: str, value: Spikes, weight: Tensor, bias: Tensor | None,
                  stride: int, padding: int, shape: Size | None = None) -> Currents:
        pool = 1
        if value.window is not None:
            if not _tiles(value.window):
                raise SpikeTicketError(
                    f"{where}: an average pool with overlapping or padded windows before it; let "
                    "stride equal the kernel and padding be 0, or put a neuron behind the pool")
            pool = value.window[0]
            if pool > 16:
                raise SpikeTicketError(f"{where}: the average over {pool}x{pool} before it is "
                                       "above 16x16; pool in two steps with a neuron between")
        out = len(weight)
        if shape is None:
            shape = (out, *((n + 2 * padding - k) // stride + 1
                            for n, k in zip(value.shape[1:], weight.shape[2:], strict=True)))
        if min(shape) < 1:
            raise SpikeTicketError(f"{where}: a kernel {weight.shape[2]}x{weight.shape[3]} does "
                                   f"not fit its map {_text(value.shape)}")
        term = Term(weight.detach().double() * value.gain, stride, padding, value.sources, pool)
        bias = (torch.zeros(out, dtype=torch.float64) if bias is None
                else bias.detach().double().flatten())
        if len(bias) != out:
            raise SpikeTicketError(f"{where}: {len(bias)} biases for {out} channels")
        if not (bool(torch.isfinite(term.weight).all()) and bool(torch.isfinite(bias).all())):
            raise SpikeTicketError(f"{where}: a weight or bias is not a finite number")
        return Currents((term,), bias, shape, averaged=value.averaged)

    def _synapses(self, name: str, value: Currents, gain: float = 1.0, bits: int | None = None,
                  ) -> tuple[FloatSynapses, ...]:
        widths = self._widths(name, value.terms) if bits is None else [bits] * len(value.terms)
        return tuple(FloatSynapses(t.weight * (gain / t.avg_pool ** 2), t.sources, (t.stride,) * 2,
                                   (t.padding,) * 2, (t.avg_pool,) * 2, width)
                     for t, width in zip(value.terms, widths, strict=True))

    def _widths(self, name: str, terms: tuple[Term, ...]) -> list[int]:
        bits = self.bits
        if not isinstance(bits, int):
            if name not in bits:
                raise SpikeTicketError(f"no width given for the weights of layer {name!r}; name "
                                       "all")
            bits = bits[name]
        if isinstance(bits, int):
            return [max(bits, SHORTCUT_BITS) if t.shortcut else bits for t in terms]
        if len(bits) != len(terms):
            raise SpikeTicketError(f"layer {name!r}: {len(bits)} widths for {len(terms)} weighted "
                                   "connections")
        return list(bits)

    def _unused(self, name: str) -> str:
        names = {INPUT, *(layer.name for layer in self.layers)}
        candidate, count = name, 1
        while candidate in names:
            count += 1
            candidate = f"{name}.{count}"
        return candidate


def _windows(where: str, length: int, size: int, stride: int, padding: int) -> int:
    count = (length + 2 * padding - size) // stride + 1
    if size < 1 or stride < 1 or not 0 <= padding <= size // 2 or count < 1:
        raise SpikeTicketError(f"{where}: pool {size}, stride {stride}, padding {padding} leaves "
                               f"nothing of {length} positions")
    return count


def _tiles(window: tuple[int, int, int]) -> bool:
    size, stride, padding = window
    return size == stride and padding == 0


def _text(shape: Size) -> str:
    return "x".join(map(str, shape))
