"""Random small Spikeformers as integer networks: attention, residual streams, gates, every edge."""

from __future__ import annotations

import numpy as np

from sw.integer.attention import Attention, ColumnAttention
from sw.integer.gate import MODES, Gate, Select
from sw.integer.network import INPUT, InputSpec, Layer, Network, Neuron, Pool, Shape, Synapses

DENSITIES = (0.03, 0.1, 0.3, 0.6, 1.0)


def random_spikeformer(rng: np.random.Generator, *, modes: tuple[str | None, ...] = (None, *MODES),
                       max_side: int = 12, max_heads: int = 2, max_head_width: int = 16,
                       max_blocks: int = 2, max_timesteps: int = 16, overlapping: bool = True,
                       column: bool = True, name: str = "spikeformer") -> Network:
    """A random valid Spikeformer whose currents fit a 16-bit accumulator.

    modes: gates to draw from, None for no gate. max_side: height and width of the input;
    max_head_width: 8 or more. overlapping: also max-pools of 3x3 with stride 2 and padding;
    column: also column attention.
    """
    steps = min(max_timesteps, int(rng.choice([1, 2, 3, 4, 4, 5, 8, 16])))
    spec = InputSpec(int(rng.integers(1, 3)), int(rng.integers(1, max_side + 1)),
                     int(rng.integers(1, max_side + 1)), int(rng.choice([1, 2, 4, 8])),
                     bool(rng.random() < 0.5))
    heads = int(rng.integers(1, max_heads + 1))
    width = heads * int(rng.integers(8, max_head_width + 1))
    draw = Draw(rng, spec)
    for i in range(int(rng.integers(1, 3))):
        draw.stage(f"stem{i}", int(rng.integers(2, 9)), overlapping)
    draw.stage("stem", width, overlapping)
    while draw.shapes["stem"].tokens > 144:
        draw.stem_pool()
    if rng.random() < 0.7:
        draw.stream = ("stem", draw.conv("rpe", draw.stream, width, 3))
    mode = modes[int(rng.integers(len(modes)))]
    if mode is not None:
        draw.gate(mode)
    for i in range(int(rng.integers(1, max_blocks + 1))):
        draw.block(f"block{i}", heads, width, column)
    draw.readout(int(rng.integers(1, 6)))
    return Network(spec, steps, tuple(draw.layers), name)


def random_masks(rng: np.random.Generator, network: Network, images: int) -> np.ndarray | None:
    """Masks bool [B, N] for a gate that takes them from the host, None where there is none."""
    for gate in network.gates.values():
        if gate.mode == "host":
            order = rng.random((images, gate.tokens)).argsort(axis=1)
            return order < gate.keep
    return None


class Draw:
    """Layers so far, their shapes, and the maps whose sum is the residual stream."""

    def __init__(self, rng: np.random.Generator, spec: InputSpec):
        self.rng, self.spec = rng, spec
        self.layers: list[Layer | Gate | Select] = []
        self.shapes = {INPUT: Shape(spec.channels, spec.height, spec.width)}
        self.stream: tuple[str, ...] = (INPUT,)

    def stage(self, name: str, channels: int, overlapping: bool) -> None:
        pool = None
        source = self.shapes[self.stream[0]]
        if self.rng.random() < 0.6 and min(source.height, source.width) >= 2:
            pool = Pool(str(self.rng.choice(["or", "max"])), 2)
            if overlapping and self.rng.random() < 0.5:
                pool = Pool("max", 3, 2, 1)
        self.stream = (self.conv(name, self.stream, channels, 3, pool),)

    def stem_pool(self) -> None:
        """Give the last layer of the stem a pool that leaves few enough tokens."""
        last = self.layers.pop()
        size = 1 + (last.pool.size[0] if last.pool else 1)
        self.layers.append(Layer(last.name, last.synapses, last.bias, last.threshold, last.neuron,
                                 Pool("or", size)))
        del self.shapes[last.name]
        self.shapes[last.name] = Network.layer_shape(self.layers[-1], self.shapes)

    def conv(self, name: str, sources: tuple[str, ...], channels: int, kernel: int,
             pool: Pool | None = None) -> str:
        rng = self.rng
        bits = int(rng.integers(1, 5 if kernel > 1 else 9))
        shape = (channels, self.shapes[sources[0]].channels, kernel, kernel)
        w = rng.integers(-(1 << bits - 1), 1 << bits - 1, shape) if bits > 1 else (
            rng.integers(0, 2, shape) * 2 - 1)
        w = (w * (rng.random(shape) < rng.choice(DENSITIES))).astype(np.int8)
        syn = Synapses(w, sources, padding=kernel // 2, bits=bits)
        top = (1 << self.spec.bits) - 1 if INPUT in sources else len(sources)
        spread = np.sqrt(0.2 * np.square(w.reshape(channels, -1).astype(float)).sum(1)) * top
        threshold = np.maximum(1, spread * rng.uniform(0.1, 1.2, channels)).astype(np.int64)
        bias = (spread * rng.uniform(-0.2, 0.4, channels)).astype(np.int64)
        return self.add(Layer(name, (syn,), bias, threshold, self.neuron(), pool))

    def neuron(self) -> Neuron:
        soft = self.rng.random() < 0.2
        reset = 0 if soft or self.rng.random() < 0.8 else int(self.rng.integers(-5, 3))
        return Neuron(int(self.rng.choice([128, 128, 192, 253, 256])), "soft" if soft else "hard",
                      reset)

    def add(self, layer: Layer | Select) -> str:
        self.shapes[layer.name] = (
            layer.shape({g.name: g for g in self.layers if isinstance(g, Gate)}, self.shapes)
            if isinstance(layer, Select) else Network.layer_shape(layer, self.shapes))
        self.layers.append(layer)
        return layer.name

    def gate(self, mode: str) -> None:
        rng = self.rng
        shape = self.shapes[self.stream[0]]
        if mode == "input" and (self.spec.height % shape.height or self.spec.width % shape.width):
            mode = "count"
        keep = int(rng.choice([1, shape.tokens, rng.integers(1, shape.tokens + 1)]))
        mask = rng.permutation(shape.tokens) < keep if mode == "static" else None
        scores = self.stream[:int(rng.integers(1, len(self.stream) + 1))] if mode == "count" else ()
        gate = Gate("gate", mode, keep, (shape.height, shape.width), scores, mask)
        self.layers.insert(0 if mode == "input" else len(self.layers), gate)
        self.stream = tuple(self.add(Select(f"kept.{name}", name, "gate"))
                            for name in self.stream)

    def block(self, name: str, heads: int, width: int, column: bool) -> None:
        rng = self.rng
        maps = tuple(self.conv(f"{name}.{part}", self.stream, width, 1) for part in "qkv")
        kind = (ColumnAttention(*maps) if column and rng.random() < 0.25
                else Attention(*maps, heads))
        top = kind.bound(self.shapes[maps[0]])
        threshold = np.maximum(1, top * rng.uniform(0.0, 0.1, width)).astype(np.int64)
        bias = rng.integers(-1, 2, width)
        attended = self.add(Layer(f"{name}.attention", (), bias, threshold, self.neuron(), None,
                                  kind))
        self.stream += (self.conv(f"{name}.proj", (attended,), width, 1),)
        hidden = self.conv(f"{name}.fc1", self.stream, int(rng.integers(4, 2 * width)), 1)
        self.stream += (self.conv(f"{name}.fc2", (hidden,), width, 1),)

    def readout(self, classes: int) -> None:
        channels = self.shapes[self.stream[0]].channels
        w = self.rng.integers(-8, 8, (classes, channels, 1, 1)).astype(np.int8)
        self.layers.append(Layer("logits", (Synapses(w, self.stream),),
                                 self.rng.integers(-9, 10, classes), np.zeros(classes, np.int64),
                                 None))
