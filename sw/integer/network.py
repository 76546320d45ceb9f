"""The integer network: what a ticket holds, what the reference runs, what the core executes.

Everything here is integers and structure; `docs/numerics.md` gives the arithmetic. In short, for
timestep t and output channel o of a layer::

    operand_t = sum of the source maps, then (optionally) the sum over sum_pool windows
    x_t[o]    = sum over the layer's synapses of conv2d(operand_t, weight[o])
    I_t[o]    = x_t[o] + bias[o]                (pool "max": then the maximum over its windows)
    v_t       = floor(leak * v_{t-1} / 256) + I_t,           v_{-1} = v_reset
    s_t       = v_t >= threshold[o]
    v_t      <- v_reset if s_t (hard reset)  |  v_t - threshold[o] * s_t (soft reset)
    output_t  = s_t                             (pool "or": then OR over its windows)

A layer without a neuron is the readout: logits[o] = sum over t, y, x of I_t[o, y, x]. Attention
layers have x_t from three spike maps instead of synapses (`sw.integer.attention`), and a patch gate
leaves out tokens between layers (`sw.integer.gate`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from ..errors import SpikeTicketError
from .attention import Attention, ColumnAttention
from .gate import Gate, Select
from .shapes import InputSpec, Pair, Shape, pair, require, whole

INPUT = "input"
"""Name of the network's input map, used as a source by the first layer."""

LEAK_ONE = 256
"""`Neuron.leak` is in 1/256: 256 keeps the whole membrane (an IF neuron), 128 is lambda = 1/2."""

MAX_TIMESTEPS = 32

MAX_WINDOW = 256
"""Rows and columns of a pool's window, of strides and paddings."""


@dataclass(frozen=True)
class Neuron:
    """LIF or IF neuron of a layer.

    leak: membrane kept per timestep, in 1/256 (0..256); 256 is an IF neuron.
    reset: "hard" (v becomes v_reset) or "soft" (the threshold is subtracted).
    v_reset: integer membrane after a hard reset and before the first timestep; 0 for soft reset.
    """

    leak: int = LEAK_ONE
    reset: str = "hard"
    v_reset: int = 0

    def __post_init__(self):
        object.__setattr__(self, "leak", whole(self.leak, "leak", 0, LEAK_ONE))
        limit = 1 << 31
        object.__setattr__(self, "v_reset", whole(self.v_reset, "v_reset", -limit, limit))
        require(self.reset in ("hard", "soft"), f"reset {self.reset!r} is not 'hard' or 'soft'")
        require(self.reset == "hard" or self.v_reset == 0, "soft reset needs v_reset = 0")


@dataclass(frozen=True)
class Pool:
    """Pooling. mode "or": on spikes; "max": on currents, before the neuron.

    size, stride, padding: (rows, columns), or one number for both. stride: None is the size,
    windows side by side. padding: positions around the map that a window may cover; they hold
    nothing (no spike; less than any current).
    """

    mode: str
    size: Pair = (2, 2)
    stride: Pair | None = None
    padding: Pair = (0, 0)

    def __post_init__(self):
        require(self.mode in ("or", "max"), f"pool mode {self.mode!r} is not 'or' or 'max'")
        size = pair(self.size, "pool size", 1, MAX_WINDOW)
        stride = size if self.stride is None else self.stride
        padding = pair(self.padding, "pool padding", 0, MAX_WINDOW)
        for k, edge in zip(size, padding, strict=True):
            require(edge <= k // 2, f"pool padding {edge} is outside 0..{k // 2}, half the size")
        object.__setattr__(self, "size", size)
        object.__setattr__(self, "stride", pair(stride, "pool stride", 1, MAX_WINDOW))
        object.__setattr__(self, "padding", padding)

    @property
    def tiles(self) -> bool:
        """Windows lie side by side, without overlap and padding."""
        return (self.stride, self.padding) == (self.size, (0, 0))

    def outputs(self, height: int, width: int) -> Pair:
        """Windows along both axes of a map; below 1 where none fits."""
        return tuple((length + 2 * edge - k) // step + 1 for length, k, step, edge in
                     zip((height, width), self.size, self.stride, self.padding, strict=True))

    def covered(self, height: int, width: int) -> Pair:
        """Rows and columns of a map up to the last one that a window covers."""
        return tuple(min(length, (count - 1) * step + k - edge) for length, count, k, step, edge in
                     zip((height, width), self.outputs(height, width), self.size, self.stride,
                         self.padding, strict=True))


@dataclass(frozen=True, eq=False)
class Synapses:
    """One weighted connection into a layer.

    weight: int8 array [C_out, C_in, kh, kw]; a zero is a removed weight.
    sources: names of the maps whose elementwise sum is the operand (a residual after the neuron
        is two names here); all have the same shape.
    stride, padding, sum_pool: (rows, columns), or one number for both. The operand is summed over
        windows of sum_pool that lie side by side (average pooling; its divisor is folded into the
        thresholds); stride and padding are the convolution's.
    bits: width of the stored weights. 1 bit holds -1 and +1, b bits hold -2^(b-1)..2^(b-1)-1.

    A fully connected layer is a convolution whose kernel covers its whole source map.
    """

    weight: np.ndarray
    sources: tuple[str, ...] = (INPUT,)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    sum_pool: Pair = (1, 1)
    bits: int = 4

    def __post_init__(self):
        w = self.weight
        require(w.ndim == 4 and w.dtype == np.int8, "weight must be int8 [C_out, C_in, kh, kw]")
        object.__setattr__(self, "bits", whole(self.bits, "weight bits", 1, 8))
        low, high = (-1, 1) if self.bits == 1 else (-(1 << self.bits - 1), (1 << self.bits - 1) - 1)
        if w.size and (w.min() < low or w.max() > high):
            raise SpikeTicketError(
                f"weights span {w.min()}..{w.max()}, but {self.bits} bits hold {low}..{high}")
        require(len(self.sources) >= 1, "synapses need at least one source map")
        for what, low in (("stride", 1), ("padding", 0), ("sum_pool", 1)):
            object.__setattr__(self, what, pair(getattr(self, what), what, low, MAX_WINDOW))

    @property
    def density(self) -> float:
        """Fraction of weights that survive."""
        return float(np.count_nonzero(self.weight)) / self.weight.size


@dataclass(frozen=True, eq=False)
class Layer:
    """Synapses or attention, then a neuron (or the readout), then an optional pool.

    bias, threshold: int64 arrays [C_out]. The readout (neuron None) ignores `threshold`. A layer
    with `attention` has no synapses and no pool.
    """

    name: str
    synapses: tuple[Synapses, ...]
    bias: np.ndarray
    threshold: np.ndarray
    neuron: Neuron | None = field(default_factory=Neuron)
    pool: Pool | None = None
    attention: Attention | ColumnAttention | None = None

    @property
    def channels(self) -> int:
        return len(self.bias)

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of all maps that the layer reads."""
        if self.attention is not None:
            return self.attention.sources
        return tuple(name for syn in self.synapses for name in syn.sources)


@dataclass(frozen=True, eq=False)
class Network:
    """An integer spiking network: layers in order of execution, the last one the readout.

    Gates and their selections stand between the layers. Raises SpikeTicketError when sources are
    unknown or shapes do not agree.
    """

    input: InputSpec
    timesteps: int
    layers: tuple[Layer | Gate | Select, ...]
    name: str = "network"
    labels: tuple[str, ...] = ()

    def __post_init__(self):
        steps = whole(self.timesteps, "timesteps", 1, MAX_TIMESTEPS)
        object.__setattr__(self, "timesteps", steps)
        require(len(self.layers) >= 1, "a network needs at least one layer")
        last = self.layers[-1]
        require(isinstance(last, Layer) and last.neuron is None,
                "the last layer must be a readout (no neuron)")
        for layer in self.layers[:-1]:
            require(not isinstance(layer, Layer) or layer.neuron is not None,
                    f"layer {layer.name!r}: only the last may be a readout")
        self.shapes()  # raises where something disagrees

    def shapes(self) -> Mapping[str, Shape]:
        """Output shape of every map by name (pooled), in order, the input first."""
        shapes = {INPUT: Shape(self.input.channels, self.input.height, self.input.width)}
        gates: dict[str, Gate] = {}
        for index, layer in enumerate(self.layers):
            require(layer.name not in shapes and layer.name not in gates,
                    f"layer {layer.name!r}: name used twice")
            if isinstance(layer, Gate):
                layer.check(self.input, shapes)
                require(layer.mode != "input" or index == 0,
                        f"gate {layer.name!r} gates the input, so it must come first")
                require(layer.mode != "host" or all(g.mode != "host" for g in gates.values()),
                        f"gate {layer.name!r}: a second gate with masks from the host")
                gates[layer.name] = layer
            elif isinstance(layer, Select):
                shapes[layer.name] = layer.shape(gates, shapes)
            else:
                shapes[layer.name] = self.layer_shape(layer, shapes)
        return shapes

    @classmethod
    def layer_shape(cls, layer: Layer, shapes: Mapping[str, Shape]) -> Shape:
        """Shape of a layer's map from those of the earlier maps; raises SpikeTicketError."""
        where = f"layer {layer.name!r}"
        if layer.attention is not None:
            require(not layer.synapses and layer.pool is None and layer.neuron is not None,
                    f"{where}: attention has a neuron, but no synapses and no pool")
            channels = {layer.attention.neurons(where, shapes).channels}
            out = shapes[layer.attention.query]
            sizes = {(out.height, out.width)}
        else:
            require(len(layer.synapses) >= 1, f"{where}: no synapses")
            sizes = {cls.conv_size(where, syn, shapes) for syn in layer.synapses}
            channels = {syn.weight.shape[0] for syn in layer.synapses}
        require(len(sizes) == 1, f"{where}: its synapses give different sizes {sorted(sizes)}")
        require(len(channels) == 1, f"{where}: its synapses give {sorted(channels)} channels")
        count = channels.pop()
        for field_name in ("bias", "threshold"):
            values = getattr(layer, field_name)
            require(values.shape == (count,) and values.dtype == np.int64,
                    f"{where}: {field_name} must be int64 [{count}]")
        height, width = sizes.pop()
        if layer.pool is not None:
            require(layer.neuron is not None, f"{where}: a readout has no pool")
            size = layer.pool.size
            height, width = layer.pool.outputs(height, width)
            require(height >= 1 and width >= 1, f"{where}: pool {size[0]}x{size[1]} leaves nothing")
        return Shape(count, height, width)

    @staticmethod
    def conv_size(where: str, syn: Synapses, shapes: Mapping[str, Shape]) -> tuple[int, int]:
        for name in syn.sources:
            require(name in shapes, f"{where}: source {name!r} is not an earlier map")
        first = shapes[syn.sources[0]]
        for name in syn.sources[1:]:
            require(shapes[name] == first, f"{where}: sources {syn.sources} differ in shape")
        c_in, *kernel = syn.weight.shape[1:]
        require(c_in == first.channels, f"{where}: weight expects {c_in} channels, "
                                        f"{syn.sources[0]!r} has {first.channels}")
        sizes = [n // k for n, k in zip((first.height, first.width), syn.sum_pool, strict=True)]
        out = tuple((size + 2 * edge - k) // step + 1 for size, k, step, edge in
                    zip(sizes, kernel, syn.stride, syn.padding, strict=True))
        require(min(out) >= 1 and min(kernel) >= 1, f"{where}: kernel {kernel[0]}x{kernel[1]} does "
                                                    f"not fit its {sizes[0]}x{sizes[1]} operand")
        return out

    def operand_bound(self, syn: Synapses) -> int:
        """Largest value the operand of `syn` can take."""
        top = sum((1 << self.input.bits) - 1 if name == INPUT else 1 for name in syn.sources)
        return top * syn.sum_pool[0] * syn.sum_pool[1]

    def current_bounds(self, layer: Layer) -> tuple[np.ndarray, np.ndarray]:
        """Exact worst-case bounds (low, high), int64 [C_out], of x_t before the bias is added."""
        low = np.zeros(layer.channels, np.int64)
        high = np.zeros(layer.channels, np.int64)
        if layer.attention is not None:
            high += layer.attention.bound(self.shapes()[layer.attention.query])
        for syn in layer.synapses:
            w = syn.weight.astype(np.int64).reshape(layer.channels, -1) * self.operand_bound(syn)
            low += np.minimum(w, 0).sum(1)
            high += np.maximum(w, 0).sum(1)
        return low, high

    def synapses(self) -> Iterator[tuple[Layer, Synapses]]:
        for layer in self.layers:
            for syn in layer.synapses:
                yield layer, syn

    @property
    def gates(self) -> dict[str, Gate]:
        """The patch gates by name, in order."""
        return {layer.name: layer for layer in self.layers if isinstance(layer, Gate)}

    @property
    def weights_total(self) -> int:
        return sum(syn.weight.size for _, syn in self.synapses())

    @property
    def weights_surviving(self) -> int:
        return sum(int(np.count_nonzero(syn.weight)) for _, syn in self.synapses())

    @property
    def sparsity(self) -> float:
        """Fraction of weights removed, over all weights."""
        return 1 - self.weights_surviving / self.weights_total


def entropy_bits(density: float, bits: int) -> float:
    """Entropy bound in bits per surviving weight, value included: H(d)/d + b."""
    if density in (0.0, 1.0):
        return float(bits)
    h = -density * math.log2(density) - (1 - density) * math.log2(1 - density)
    return h / density + bits
