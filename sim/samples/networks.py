"""Random networks and inputs at the edges of what the core must run; used by every regression."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sw.integer.network import INPUT, InputSpec, Layer, Network, Neuron, Pool, Shape, Synapses

ACCUMULATOR_LIMIT = (1 << 15) - 1
DENSITIES = (0.0, 0.005, 0.02, 0.1, 0.3, 0.5, 1.0)


def random_network(rng: np.random.Generator, *, max_size: int = 12, max_channels: int = 8,
                   max_layers: int = 4, max_timesteps: int = 16, width: int | None = None,
                   name: str = "random", uneven: bool = False) -> Network:
    """A random valid network whose integers cannot overflow a 16-bit accumulator.

    max_size: height and width of the input; max_channels: of any map; max_layers: with a neuron.
    width: of the input, instead of a random one. uneven: strides, paddings and pools may differ
    between rows and columns, which no core has.
    Shapes often are 1 or odd. It may be too large for a small core (DoesNotFit).
    """
    timesteps = int(rng.choice([1, 2, 3, 4, 4, 4, 5, 7, 8, 12, 13, 16]))
    timesteps = min(timesteps, max_timesteps)
    if uneven and rng.random() < 0.2:
        timesteps = int(rng.integers(17, 33))
    spec = InputSpec(channels=_small(rng, 3), height=_size(rng, max_size),
                     width=_size(rng, max_size), bits=int(rng.choice([1, 1, 2, 4, 8])),
                     static=bool(rng.random() < 0.6))
    if width is not None:
        spec = replace(spec, width=width)
    shapes = {INPUT: Shape(spec.channels, spec.height, spec.width)}
    layers: list[Layer] = []
    for index in range(int(rng.integers(0, max_layers + 1))):
        layer = _hidden(rng, spec, shapes, f"layer{index}", max_channels, uneven)
        layers.append(layer)
        shapes = dict(Network(spec, timesteps, (*layers, _probe(layer))).shapes())
        shapes.pop("probe")
    layers.append(_readout(rng, spec, shapes))
    return Network(spec, timesteps, tuple(layers), name)


def random_input(rng: np.random.Generator, network: Network) -> np.ndarray:
    """One input, uint8 [C, H, W] or [T, C, H, W]: silent, saturating, sparse or dense."""
    spec = network.input
    shape = (spec.channels, spec.height, spec.width)
    if not spec.static:
        shape = (network.timesteps, *shape)
    values = rng.integers(0, 1 << spec.bits, shape).astype(np.uint8)
    kind = rng.random()
    if kind < 0.08:
        return np.zeros(shape, np.uint8)
    if kind < 0.16:
        return np.full(shape, (1 << spec.bits) - 1, np.uint8)
    if kind < 0.6:
        values *= rng.random(shape) < rng.choice([0.02, 0.2, 0.5])
    return values


def _small(rng: np.random.Generator, largest: int) -> int:
    return 1 if rng.random() < 0.3 else int(rng.integers(1, largest + 1))


def _size(rng: np.random.Generator, largest: int) -> int:
    kind = rng.random()
    if kind < 0.1:
        return 1
    if kind < 0.3:          # powers of two and their neighbours: the pitches' edges
        power = 1 << int(rng.integers(0, largest.bit_length()))
        return int(np.clip(power + rng.integers(-1, 2), 1, largest))
    return int(rng.integers(1, largest + 1))


def _probe(layer: Layer) -> Layer:
    """A readout that only serves to make the layers before it a valid network."""
    weight = np.zeros((1, layer.channels, 1, 1), np.int8)
    zero = np.zeros(1, np.int64)
    return Layer("probe", (Synapses(weight, (layer.name,)),), zero, zero, None)


def _weights(rng: np.random.Generator, shape: tuple[int, ...], bits: int) -> np.ndarray:
    if bits == 1:
        values = rng.integers(0, 2, shape) * 2 - 1
    else:
        values = rng.integers(-(1 << bits - 1), 1 << bits - 1, shape)
    return (values * (rng.random(shape) < rng.choice(DENSITIES))).astype(np.int8)


def _synapses(rng: np.random.Generator, shapes: dict[str, Shape], sources: tuple[str, ...],
              c_out: int, spatial: bool) -> Synapses:
    shape = shapes[sources[0]]
    bits = int(rng.integers(1, 9))
    size = min(shape.height, shape.width)
    sum_pool = int(rng.choice([1, 1, 1, 1, 2, 3])) if spatial else 1
    sum_pool = min(sum_pool, size)
    height, width = shape.height // sum_pool, shape.width // sum_pool
    if not spatial or rng.random() < 0.1:               # fully connected
        weight = _weights(rng, (c_out, shape.channels, height, width), bits)
        return Synapses(weight, sources, sum_pool=sum_pool, bits=bits)
    padding = int(rng.choice([0, 0, 1, 1, 2]))
    kh = int(rng.integers(1, min(5, height + 2 * padding) + 1))
    kw = kh if rng.random() < 0.7 and kh <= width + 2 * padding else int(
        rng.integers(1, min(5, width + 2 * padding) + 1))
    if kh == kw == 3 and rng.random() < 0.5:
        padding = 1
    stride = int(rng.choice([1, 1, 1, 2, 2, 3]))
    weight = _weights(rng, (c_out, shape.channels, kh, kw), bits)
    return Synapses(weight, sources, stride, padding, sum_pool, bits)


def _uneven(rng: np.random.Generator, shape: Shape, syn: Synapses) -> Synapses:
    """The same with strides, paddings and an average pool of its own for every axis."""
    kernel = syn.weight.shape[2:]
    padding = tuple(int(rng.integers(0, 3)) for _ in kernel)
    pool = tuple(int(rng.integers(1, max(1, min(3, n // max(1, k - 2 * edge))) + 1))
                 for n, k, edge in zip((shape.height, shape.width), kernel, padding, strict=True))
    stride = tuple(int(rng.integers(1, 4)) for _ in kernel)
    if all(n // p + 2 * edge >= k for n, p, k, edge in
           zip((shape.height, shape.width), pool, kernel, padding, strict=True)):
        return replace(syn, stride=stride, padding=padding, sum_pool=pool)
    return syn


def _hidden(rng: np.random.Generator, spec: InputSpec, shapes: dict[str, Shape], name: str,
            max_channels: int, uneven: bool) -> Layer:
    names = list(shapes)
    first = names[-1] if rng.random() < 0.7 else str(rng.choice(names))
    sources = (first,)
    twins = [other for other in names if other != first and shapes[other] == shapes[first]]
    if twins and rng.random() < 0.5:                    # residual after the neuron
        sources = (first, str(rng.choice(twins)))
    c_out = _small(rng, max_channels)
    main = _synapses(rng, shapes, sources, c_out, spatial=rng.random() < 0.9)
    if uneven:
        main = _uneven(rng, shapes[first], main)
    synapses = [main]
    conv = Network.conv_size(name, main, shapes)
    if rng.random() < 0.5:                              # residual before the neuron
        candidates = [(_synapses(rng, shapes, (str(rng.choice(names)),), c_out, True))
                      for _ in range(12)]
        for second in candidates:
            if Network.conv_size(name, second, shapes) == conv:
                synapses.append(second)
                break
    pool = None
    if rng.random() < 0.45:
        size = int(min(rng.choice([1, 2, 2, 2, 3, 4]), *conv))
        pool = Pool(str(rng.choice(["or", "max"])), size)
        if rng.random() < 0.3:                          # windows that overlap, even on a 1x1 map
            pool = Pool("max", 3, 2, 1)
        if uneven:
            size = tuple(int(rng.integers(1, min(4, n) + 1)) for n in conv)
            pool = Pool(pool.mode, size, tuple(int(rng.integers(1, 4)) for _ in size),
                        tuple(int(rng.integers(0, k // 2 + 1)) for k in size))
    soft = rng.random() < 0.4
    neuron = Neuron(leak=int(rng.choice([0, 64, 128, 200, 255, 256, 256])),
                    reset="soft" if soft else "hard",
                    v_reset=0 if soft or rng.random() < 0.6 else int(rng.integers(-50, 50)))
    layer = _within_accumulator(spec, shapes, Layer(
        name, tuple(synapses), np.zeros(c_out, np.int64), np.zeros(c_out, np.int64), neuron, pool))
    low, high = _bounds(spec, shapes, layer)
    spread = np.maximum(2, (high - low) // 4)
    threshold = (spread * rng.uniform(-0.1, 0.8, c_out)).astype(np.int64)
    if rng.random() < 0.1:
        threshold = rng.integers(-3, 4, c_out)
    bias = (spread * rng.uniform(-0.2, 0.3, c_out)).astype(np.int64)
    return Layer(name, layer.synapses, bias, threshold, neuron, pool)


def _readout(rng: np.random.Generator, spec: InputSpec, shapes: dict[str, Shape]) -> Layer:
    names = list(shapes)
    source = names[-1]
    classes = _small(rng, 10)
    synapses = [_synapses(rng, shapes, (source,), classes, spatial=rng.random() < 0.5)]
    zero = np.zeros(classes, np.int64)
    bias = rng.integers(-20, 21, classes)
    layer = _within_accumulator(spec, shapes, Layer("logits", tuple(synapses), zero, zero, None))
    return Layer("logits", layer.synapses, bias, zero, None)


def _bounds(spec: InputSpec, shapes: dict[str, Shape],
            layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.zeros(layer.channels, np.int64), np.zeros(layer.channels, np.int64)
    for syn in layer.synapses:
        top = sum((1 << spec.bits) - 1 if name == INPUT else 1 for name in syn.sources)
        w = syn.weight.astype(np.int64).reshape(layer.channels, -1) * top * (
            syn.sum_pool[0] * syn.sum_pool[1])
        low += np.minimum(w, 0).sum(1)
        high += np.maximum(w, 0).sum(1)
    return low, high


def _within_accumulator(spec: InputSpec, shapes: dict[str, Shape], layer: Layer) -> Layer:
    """Halve (or thin out) the weights until no current can exceed the accumulator."""
    while True:
        low, high = _bounds(spec, shapes, layer)
        if max(-low.min(), high.max()) <= ACCUMULATOR_LIMIT:
            return layer
        synapses = []
        for syn in layer.synapses:
            weight = np.sign(syn.weight) * (np.abs(syn.weight.astype(np.int16)) >> 1)
            if np.abs(syn.weight).max(initial=0) <= 1:
                weight = syn.weight.copy()
                survivors = np.flatnonzero(weight)
                weight.reshape(-1)[survivors[::2]] = 0
            synapses.append(Synapses(weight.astype(np.int8), syn.sources, syn.stride, syn.padding,
                                     syn.sum_pool, syn.bits))
        layer = Layer(layer.name, tuple(synapses), layer.bias, layer.threshold, layer.neuron,
                      layer.pool)
