"""The integer reference: what every other implementation must equal, spike for spike.

Plain numpy. The arithmetic is that of `sw.integer.network` and `docs/numerics.md`; convolutions run
as floating-point matrix products only where every partial sum is provably exact (below 2^24 in
float32, 2^53 in float64), which `_exact_dtype` checks from the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from ..errors import SpikeTicketError
from .gate import Gate, Select, check_masks
from .network import INPUT, Layer, Network, Neuron, Pool, Synapses

_CHUNK_ELEMENTS = 8_000_000
"""Elements of the largest temporary array (im2col columns of one batch chunk)."""


@dataclass
class Run:
    """Result of `run`.

    logits: int64 [B, classes].
    spikes: map name -> uint8 [T, B, C, H, W], as stored (after an "or" or "max" pool); the input
        map holds its values (behind a gate of the input: 0 outside the kept patches). Only the
        maps that were asked for.
    unpooled: layer name -> uint8 [T, B, C, H, W] spikes before an "or" pool, if asked for.
    kept: gate name -> int64 [B, keep], the tokens that it kept, ascending.
    """

    logits: np.ndarray
    spikes: dict[str, np.ndarray] = field(default_factory=dict)
    unpooled: dict[str, np.ndarray] = field(default_factory=dict)
    kept: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def labels(self) -> np.ndarray:
        """Predicted class of every image, ties to the lower index; int64 [B]."""
        return self.logits.argmax(1)


def check_inputs(network: Network, inputs: np.ndarray) -> np.ndarray:
    """The inputs as [B, T or 1, C, H, W] after checking them. Raises SpikeTicketError."""
    spec = network.input
    shape = (spec.channels, spec.height, spec.width)
    if not spec.static:
        shape = (network.timesteps, *shape)
    if inputs.dtype != np.uint8:
        raise SpikeTicketError(f"inputs of {network.name!r} are {inputs.dtype}; give uint8")
    if inputs.shape[1:] != shape:
        raise SpikeTicketError(f"inputs of {network.name!r} have shape {list(inputs.shape)}; "
                               f"give [B, {', '.join(map(str, shape))}]")
    if inputs.size and int(inputs.max()) >> spec.bits:
        raise SpikeTicketError(f"input value {inputs.max()} needs more than the {spec.bits} bits "
                               f"of {network.name!r}")
    return inputs[:, None] if spec.static else inputs


def run(network: Network, inputs: np.ndarray, *, maps: Collection[str] | None = None,
        unpooled: bool = False, batch: int | None = None, masks: np.ndarray | None = None,
        progress: Callable[[int], object] | None = None) -> Run:
    """Run the network on uint8 inputs: [B, C, H, W] if static, else [B, T, C, H, W].

    masks: kept tokens of every image, bool [B, N], for a gate that takes them from the host.
    maps: names of the maps to keep (None: all of them; (): none, for large image sets).
    unpooled: also keep the spikes before every "or" pool.
    batch: images at a time (None: chosen to bound memory).
    progress: called with the number of images after every chunk.
    """
    values = check_inputs(network, inputs)
    masks = check_masks(network.gates, masks, len(values))
    step = batch or _batch_size(network)
    keep = set(network.shapes()) if maps is None else set(maps)
    parts: list[Run] = []
    for first in range(0, len(values), step):
        part = _run_chunk(network, values[first:first + step], keep, unpooled,
                          None if masks is None else masks[first:first + step])
        parts.append(part)
        if progress is not None:
            progress(len(part.logits))
    if not parts:
        return Run(np.zeros((0, network.layers[-1].channels), np.int64))
    result = Run(np.concatenate([part.logits for part in parts]))
    for name in parts[0].spikes:
        result.spikes[name] = np.concatenate([part.spikes[name] for part in parts], axis=1)
    for name in parts[0].unpooled:
        result.unpooled[name] = np.concatenate([part.unpooled[name] for part in parts], axis=1)
    for name in parts[0].kept:
        result.kept[name] = np.concatenate([part.kept[name] for part in parts])
    return result


def _batch_size(network: Network) -> int:
    shapes = network.shapes()
    largest = 1
    for layer, syn in network.synapses():
        _, c_in, kh, kw = syn.weight.shape
        height, width = network.conv_size(layer.name, syn, shapes)
        largest = max(largest, c_in * kh * kw * height * width, layer.channels * height * width)
    return max(1, _CHUNK_ELEMENTS // (largest * network.timesteps))


def _run_chunk(network: Network, values: np.ndarray, keep: set[str], unpooled: bool,
               masks: np.ndarray | None) -> Run:
    timesteps = network.timesteps
    # [T, B, C, H, W]; an axis of length 1 stands for "the same at every timestep".
    maps: dict[str, np.ndarray] = {INPUT: np.ascontiguousarray(values.swapaxes(0, 1))}
    last_use = {name: index for index, layer in enumerate(network.layers)
                for name in layer.sources}
    result = Run(np.zeros((values.shape[0], network.layers[-1].channels), np.int64))
    if INPUT in keep:
        result.spikes[INPUT] = np.repeat(maps[INPUT], timesteps // len(maps[INPUT]), axis=0)
    for index, layer in enumerate(network.layers):
        if isinstance(layer, Gate):
            kept = result.kept[layer.name] = layer.choose(maps, masks, values.shape[0])
            if layer.mode == "input":           # the first operation, so the input is still there
                maps[INPUT] = layer.zero_input(maps[INPUT], kept)
                if INPUT in keep:
                    result.spikes[INPUT] = np.repeat(maps[INPUT], timesteps // len(maps[INPUT]), 0)
            continue
        if isinstance(layer, Select):
            spikes = layer.take(maps[layer.source], result.kept[layer.gate])
        elif layer.neuron is None:
            current = layer_current(network, layer, maps)
            repeats = timesteps // current.shape[0]
            result.logits = current.sum(axis=(0, 3, 4)) * repeats
            break
        else:
            spikes, before = _layer_spikes(network, layer, maps)
            if unpooled and layer.pool is not None and layer.pool.mode == "or":
                result.unpooled[layer.name] = before
        maps[layer.name] = spikes
        if layer.name in keep:
            result.spikes[layer.name] = spikes
        for name in [name for name in maps if last_use.get(name, index) <= index]:
            del maps[name]
    return result


def _layer_spikes(network: Network, layer: Layer,
                  maps: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(the layer's map, its neurons' spikes), uint8 [T, B, C, H, W]."""
    current = layer_current(network, layer, maps)
    pool = layer.pool
    if pool is not None and pool.mode == "max":
        current = _pool(current, pool, np.maximum, np.iinfo(np.int64).min)
    spikes = fire(layer.neuron, layer.threshold, current, network.timesteps)
    if layer.attention is not None:
        return layer.attention.output(spikes, maps), spikes
    if pool is not None and pool.mode == "or":
        return _pool(spikes, pool, np.bitwise_or), spikes
    return spikes, spikes


def _pool(x: np.ndarray, pool: Pool, combine: np.ufunc, empty: int = 0) -> np.ndarray:
    """Combine the windows of the last two axes; what no window covers is dropped.

    empty: value of the padding, which must not change any combination.
    """
    height, width = pool.outputs(*x.shape[-2:])
    if any(pool.padding):
        edges = [(0, 0)] * (x.ndim - 2) + [(edge, edge) for edge in pool.padding]
        x = np.pad(x, edges, constant_values=empty)
    down, right = pool.stride
    rows, columns = (height - 1) * down + 1, (width - 1) * right + 1
    parts = (x[..., dy:dy + rows:down, dx:dx + columns:right]
             for dy in range(pool.size[0]) for dx in range(pool.size[1]))
    result = next(parts).copy()
    for part in parts:
        combine(result, part, out=result)
    return result


def operand(syn: Synapses, maps: Mapping[str, np.ndarray]) -> np.ndarray:
    """Sum of the sources, then over sum_pool windows: int32 [T or 1, B, C, H, W]."""
    total = maps[syn.sources[0]].astype(np.int32)
    for name in syn.sources[1:]:
        total = total + maps[name]
    if syn.sum_pool != (1, 1):
        total = _pool(total, Pool("or", syn.sum_pool), np.add)
    return total


def layer_current(network: Network, layer: Layer, maps: Mapping[str, np.ndarray]) -> np.ndarray:
    """I_t = x_t + bias before any pool: int64 [T or 1, B, C, H, W]."""
    bias = layer.bias.reshape(1, 1, -1, 1, 1)
    if layer.attention is not None:
        return layer.attention.currents(maps) + bias
    low, high = network.current_bounds(layer)
    dtype = _exact_dtype(layer.name, int(max(-low.min(), high.max(), 0)))
    current: np.ndarray | int = 0
    for syn in layer.synapses:
        current = current + _convolve(operand(syn, maps), syn, dtype)
    return current + bias


def _exact_dtype(where: str, bound: int) -> type:
    """Floating-point type in which every partial sum of magnitude <= bound is exact."""
    if bound < 1 << 24:
        return np.float32
    if bound < 1 << 53:
        return np.float64
    raise SpikeTicketError(f"layer {where!r}: current up to {bound} needs more than 53 bits")


def _convolve(x: np.ndarray, syn: Synapses, dtype: type) -> np.ndarray:
    """conv2d of int32 [T, B, C, H, W] as a matrix product over the surviving columns; int64."""
    steps, images = x.shape[:2]
    c_out, _, kh, kw = syn.weight.shape
    x = x.reshape(-1, *x.shape[2:]).astype(dtype)
    if any(syn.padding):
        x = np.pad(x, ((0, 0), (0, 0), *((edge, edge) for edge in syn.padding)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (kh, kw), axis=(2, 3))
    windows = windows[:, :, ::syn.stride[0], ::syn.stride[1]]     # [N, C, H', W', kh, kw], a view
    height, width = windows.shape[2:4]
    used = np.argwhere(np.any(syn.weight != 0, axis=0))     # (c, dy, dx) with a survivor
    c, dy, dx = used.T
    columns = np.empty((len(used), x.shape[0], height, width), dtype)
    for row, (ci, yi, xi) in enumerate(used):
        columns[row] = windows[:, ci, :, :, yi, xi]
    columns = columns.reshape(len(used), x.shape[0] * height * width)
    product = syn.weight[:, c, dy, dx].astype(dtype) @ columns
    product = product.reshape(c_out, steps, images, height, width)
    return np.moveaxis(product, 0, 2).astype(np.int64)


def fire(neuron: Neuron, threshold: np.ndarray, current: np.ndarray, timesteps: int) -> np.ndarray:
    """Neurons with thresholds [C]: int64 currents [T or 1, B, C, H, W] -> uint8 spikes
    [T, B, C, H, W]."""
    theta = threshold.reshape(1, -1, 1, 1)
    v = np.full(current.shape[1:], neuron.v_reset, np.int64)
    spikes = np.empty((timesteps, *current.shape[1:]), np.uint8)
    for t in range(timesteps):
        v *= neuron.leak
        v >>= 8                                             # floor, also for a negative membrane
        v += current[t if len(current) > 1 else 0]
        s = v >= theta
        spikes[t] = s
        v = np.where(s, neuron.v_reset, v) if neuron.reset == "hard" else v - theta * s
    return spikes


@dataclass
class Work:
    """Synaptic work of one layer, summed over images and timesteps.

    executed: synaptic operations (SOP): one per spike per surviving synapse per timestep; a set
        bit of an input plane counts as a spike.
    dense: the same if every synapse existed and every neuron (or plane) fired at every timestep.
    useful: updates: surviving weight x active (channel, position) per plane, where active means
        at least one spike in a group of 4 timesteps; of a static input, a set bit among the four
        of a field (`fields`).
    Only outputs inside the map, and inside a pool window if there is a pool, are counted. Attention
    has no synapses; its operations are those of `sw.integer.attention`.
    """

    executed: int = 0
    dense: int = 0
    useful: int = 0


GROUP = 4
"""Timesteps that one weight fetch serves (hw.config.TIMESTEPS_PER_GROUP)."""


def sop(network: Network, spikes: Mapping[str, np.ndarray]) -> dict[str, Work]:
    """Synaptic work by layer; `spikes` as `Run.spikes`, uint8 [T, B, C, H, W] of every source."""
    shapes = network.shapes()
    counts = {name: _event_counts(network, name, spikes[name])
              for name in {name for _, syn in network.synapses() for name in syn.sources}}
    result = {}
    for layer in network.layers:
        if not isinstance(layer, Layer):
            continue
        work = result[layer.name] = Work()
        if layer.attention is not None:
            work.executed, work.dense, work.useful = layer.attention.work(spikes, GROUP)
        for syn in layer.synapses:
            height, width = network.conv_size(layer.name, syn, shapes)
            if layer.pool is not None:
                height, width = layer.pool.covered(height, width)
            c_out, c_in, kh, kw = syn.weight.shape
            events, active = (sum(counts[name][kind] for name in syn.sources) for kind in (0, 1))
            survivors = np.count_nonzero(syn.weight, axis=0)        # [C_in, kh, kw]
            work.executed += _tap_sum(events, syn, survivors, height, width)
            work.useful += _tap_sum(active, syn, survivors, height, width)
            images = spikes[syn.sources[0]].shape[1]
            planes = sum(network.input.bits if name == INPUT else 1 for name in syn.sources)
            full = np.full((c_in, *events.shape[1:]), planes * network.timesteps * images)
            work.dense += _tap_sum(full, syn, np.full((c_in, kh, kw), c_out), height, width)
    return result


def fields(network: Network, name: str) -> list[int]:
    """The bits of a map's values, in fields that one weight fetch serves, as masks.

    Its 4 adders are for the timesteps of a spike train, or of one bit of an input that changes; for
    4 bits of a static input, which is the same in all timesteps.
    """
    bits = network.input.bits if name == INPUT else 1
    together = GROUP if name == INPUT and network.input.static else 1
    return [((1 << bits) - 1) & ((1 << together) - 1) << first
            for first in range(0, bits, together)]


def _event_counts(network: Network, name: str, spikes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(spikes, active fields) of every neuron, groups and images summed: int64 [C, H, W]."""
    planes = network.input.bits if name == INPUT else 1
    events = np.zeros(spikes.shape[2:], np.int64)
    active = np.zeros(spikes.shape[2:], np.int64)
    for first in range(0, network.timesteps, GROUP):
        group = spikes[first:first + GROUP]
        seen = np.bitwise_or.reduce(group, axis=0)
        for bit in range(planes):
            events += (group >> bit & 1).sum(axis=(0, 1), dtype=np.int64)
        for mask in fields(network, name):
            active += (seen & mask != 0).sum(axis=0, dtype=np.int64)
    return events, active


def _tap_sum(counts: np.ndarray, syn: Synapses, fanout: np.ndarray, height: int,
             width: int) -> int:
    """Sum over taps and outputs (height x width) of counts at the tap's input x fanout."""
    if syn.sum_pool != (1, 1):
        counts = _pool(counts, Pool("or", syn.sum_pool), np.add)
    rows, columns = ((n - 1) * step + 1 for n, step in zip((height, width), syn.stride,
                                                            strict=True))
    edges = [(edge, max(0, n + k - 1 - size)) for edge, n, k, size in
             zip(syn.padding, (rows, columns), syn.weight.shape[2:], counts.shape[1:], strict=True)]
    counts = np.pad(counts, ((0, 0), *edges))
    total = 0
    for dy, dx in np.ndindex(syn.weight.shape[2:]):
        seen = counts[:, dy:dy + rows:syn.stride[0], dx:dx + columns:syn.stride[1]]
        total += int((seen.sum(axis=(1, 2)) * fanout[:, dy, dx]).sum())
    return total


def activity(network: Network, spikes: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Fraction of active (image, position, group) of every map: float [planes, C].

    A spike map has one plane, the input one per bit. The compiler balances engines with it.
    """
    result = {}
    for name, values in spikes.items():
        planes = network.input.bits if name == INPUT else 1
        groups = [np.bitwise_or.reduce(values[first:first + GROUP], axis=0)
                  for first in range(0, network.timesteps, GROUP)]
        result[name] = np.stack([
            np.mean([(group >> bit & 1).mean(axis=(0, 2, 3)) for group in groups], axis=0)
            for bit in range(planes)])
    return result
