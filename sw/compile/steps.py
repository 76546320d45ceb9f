"""Steps: a network rewritten into what the core does layer by layer.

A step is one layer of the program. Its synapses are `Use`s of stored maps. A map that its
consumers need in different arrangements (`Version`s) is stored once plain and copied by extra
steps with identity weights; the host simply writes the input once for each arrangement.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..network import INPUT, Layer, Network, Neuron, Pool, Synapses

PHASES, WALK, EXPAND = range(3)
"""Ways to read the source of a stride or sum pool. PHASES: the map is split so that neighbouring
outputs read neighbouring positions. WALK: as few phases as possible; the drain visits only every
n-th accumulator. EXPAND: as WALK, with a sum pool as repeated weights, not as planes."""


def ceil_div(a: int, b: int) -> int:
    """a / b rounded up."""
    return -(-a // b)


@dataclass(eq=False)
class Version:
    """A map in one arrangement: factor x factor phases of its first height x width positions."""

    name: str
    channels: int
    height: int
    width: int
    factor: int
    pitch: int = 0

    @property
    def key(self) -> tuple[str, int, int, int]:
        return self.name, self.factor, self.height, self.width


@dataclass(eq=False)
class Use:
    """Synapses reading one arrangement of their sources.

    weight int8 [C_out, C_in, kh, kw]; stride, padding in operand positions; `pool` > 1: the
    operand is the sum over pool x pool windows, taken by phase planes (pool divides the factor).
    rows, columns: operand positions that exist (beyond is padding).
    """

    weight: np.ndarray
    sources: tuple[str, ...]
    stride: int
    padding: int
    pool: int
    factor: int
    rows: int
    columns: int
    crop: tuple[int, int]
    versions: tuple[Version, ...] = ()


@dataclass(eq=False)
class Step:
    """One layer of the program.

    height, width: pooled outputs (for a readout: positions summed). walk: distance of outputs in
    accumulator positions. single: one output only, computed at accumulator position 0.
    copy: an extra step that only rearranges a map; its layer is no layer of the network.
    """

    layer: Layer
    uses: list[Use]
    pool: Pool | None
    height: int
    width: int
    walk: int
    single: bool
    copy: bool = False
    output: Version | None = None
    pitch: int = 1
    strip_words: int = 1
    strips: int = 1
    readout_positions: int = 0
    weights: int = 0
    surviving: int = 0

    @property
    def pool_size(self) -> int:
        return self.pool.size if self.pool else 1

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of outputs before the pool that anything depends on."""
        return self.height * self.pool_size, self.width * self.pool_size

    @property
    def accumulated(self) -> tuple[int, int]:
        """Rows and columns of accumulator positions from the first to the last such output."""
        rows, columns = self.grid
        return (rows - 1) * self.walk + 1, (columns - 1) * self.walk + 1

    def words(self, window: int) -> int:
        """Words of accumulator positions, all strips together."""
        rows, columns = self.accumulated
        return ceil_div((rows - 1) * self.pitch + columns, window)

    @property
    def row_unit(self) -> int:
        """Accumulator rows of one output row of every phase."""
        return self.pool_size * self.walk * (self.output.factor if self.output else 1)


def expand_sum_pool(weight: np.ndarray, pool: int) -> np.ndarray:
    """Weights of the convolution on the operand before its pool x pool sums (each repeated)."""
    return weight.repeat(pool, axis=2).repeat(pool, axis=3)


def _unit_neuron(channels: int) -> tuple[np.ndarray, np.ndarray, Neuron]:
    """(bias, threshold, neuron) that fire exactly where the current is 1 or more."""
    return np.zeros(channels, np.int64), np.ones(channels, np.int64), Neuron(leak=0)


def alternatives(network: Network) -> dict[str, list[int]]:
    """Layers that can read their sources in other ways than `PHASES`, and these ways."""
    ways = {}
    for layer in network.layers:
        totals = [syn.stride * syn.sum_pool for syn in layer.synapses]
        if any(syn.sum_pool > 1 for syn in layer.synapses):
            ways[layer.name] = [WALK, EXPAND]
        elif math.gcd(*totals) > 1:
            ways[layer.name] = [WALK]
    return ways


def make_steps(network: Network, ways: Mapping[str, int]) -> tuple[list[Step], list[Version]]:
    """Steps of the network and the input's versions; ways: layer name -> PHASES, WALK, EXPAND."""
    shapes = network.shapes()
    steps = []
    for layer in network.layers:
        steps.append(_make_step(network, layer, shapes, ways.get(layer.name, PHASES)))
    return _add_versions(network, steps, shapes)


def _make_step(network: Network, layer: Layer, shapes: dict, way: int) -> Step:
    conv = network._conv_size(layer.name, layer.synapses[0], shapes)
    single = conv == (1, 1)
    out = shapes[layer.name]
    height, width = out.height, out.width
    synapses = list(layer.synapses)
    if layer.neuron is None and _sums_everything(layer):
        # The readout sums over all outputs anyway, so a 1x1 kernel needs no sum pool before it.
        k = synapses[0].sum_pool
        height, width = height * k, width * k
        synapses = [Synapses(syn.weight, syn.sources, bits=syn.bits) for syn in synapses]
        single = (height, width) == (1, 1)
    totals = [syn.stride * syn.sum_pool for syn in synapses]
    walk = math.gcd(*totals) if way != PHASES and not single else 1
    uses = []
    for syn, total in zip(synapses, totals, strict=True):
        source = shapes[syn.sources[0]]
        rows, columns = source.height // syn.sum_pool, source.width // syn.sum_pool
        factor = total // walk
        if single:
            factor = syn.sum_pool if way == PHASES else 1
        crop = (source.height, source.width)
        if syn.padding and not single:
            crop = (rows * syn.sum_pool, columns * syn.sum_pool)
        weight, stride, padding, pool = syn.weight, syn.stride, syn.padding, syn.sum_pool
        if factor % pool or (way == EXPAND and pool > 1):
            weight = expand_sum_pool(weight, pool)
            stride, padding, rows, columns = total, padding * pool, rows * pool, columns * pool
            pool = 1
        uses.append(Use(weight, syn.sources, stride, padding, pool, factor, rows, columns, crop))
    step = Step(layer, uses, layer.pool, height, width, walk, single)
    step.readout_positions = out.height * out.width if layer.neuron is None else 0
    step.weights = sum(syn.weight.size for syn in layer.synapses)
    step.surviving = sum(int(np.count_nonzero(syn.weight)) for syn in layer.synapses)
    return step


def _sums_everything(layer: Layer) -> bool:
    first = layer.synapses[0]
    return first.sum_pool > 1 and all(
        syn.weight.shape[2:] == (1, 1) and (syn.stride, syn.padding) == (1, 0)
        and syn.sum_pool == first.sum_pool for syn in layer.synapses)


def _add_versions(network: Network, steps: list[Step],
                  shapes: dict) -> tuple[list[Step], list[Version]]:
    versions: dict[str, dict[tuple, Version]] = {name: {} for name in shapes}
    for step in steps:
        for use in step.uses:
            for name in use.sources:
                version = Version(name, shapes[name].channels, *use.crop, use.factor)
                versions[name].setdefault(version.key, version)
    placed = []
    for step in steps:
        for use in step.uses:
            keys = [(name, use.factor, *use.crop) for name in use.sources]
            use.versions = tuple(versions[key[0]][key] for key in keys)
        placed.append(step)
        if step.layer.neuron is None:
            continue
        name, shape = step.layer.name, shapes[step.layer.name]
        wanted = versions[name]
        plain = Version(name, shape.channels, shape.height, shape.width, 1)
        if len(wanted) == 1:
            step.output = next(iter(wanted.values()))
        else:
            step.output = wanted.setdefault(plain.key, plain)
        # The stored size may be cropped; compute no more than that.
        step.height, step.width = step.output.height, step.output.width
        for version in wanted.values():
            if version is not step.output:
                placed.append(_copy_step(step.output, version))
    return placed, list(versions[INPUT].values())


def _copy_step(source: Version, target: Version) -> Step:
    channels = source.channels
    eye = np.eye(channels, dtype=np.int8)[:, :, None, None]
    layer = Layer(source.name, (Synapses(eye, (source.name,), bits=1),), *_unit_neuron(channels))
    use = Use(eye, (source.name,), 1, 0, 1, 1, source.height, source.width,
              (source.height, source.width), (source,))
    step = Step(layer, [use], None, target.height, target.width, 1,
                (source.height, source.width) == (1, 1), copy=True, output=target)
    return step
