"""Steps: a network rewritten into what the core does layer by layer.

A step is one layer of the program. Its synapses are `Use`s of stored maps. A map that its
consumers need in different arrangements (`Version`s) is stored once plain and copied by extra
steps with identity weights; the host simply writes the input once for each arrangement.
`tokens` makes the steps of attention and of the patch gate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..integer.gate import Gate
from ..integer.network import INPUT, Layer, Network, Neuron, Pool, Shape, Synapses
from .digits import narrow
from .even import even_synapses

PHASES, WALK, EXPAND, COUNT = range(4)
"""Ways to read the source of a stride or sum pool. PHASES: the map is split so that neighbouring
outputs read neighbouring positions. WALK: as few phases as possible; the drain visits only every
n-th accumulator. EXPAND: as WALK, with a sum pool as repeated weights, not as planes. COUNT: the
sum over a whole map is counted first (`sw.compile.counts`) and read as a number's bit-planes."""

MAX_COUNT = 7
"""Bits of a count, at most: weights of bits above have shifts."""


def ceil_div(a: int, b: int) -> int:
    """a / b rounded up."""
    return -(-a // b)


@dataclass(frozen=True)
class Version:
    """A map in one arrangement: factor x factor phases of its first height x width positions.
    pitch: 0 before it is arranged. begins: the copy that a residual sum begins with."""

    name: str
    channels: int
    height: int
    width: int
    factor: int
    pitch: int = 0
    begins: bool = False

    @property
    def key(self) -> tuple[str, int, int, int]:
        return self.name, self.factor, self.height, self.width


@dataclass(frozen=True, eq=False)
class Use:
    """Synapses reading one arrangement of their sources.

    weight int8 [C_out, C_in, kh, kw]; stride, padding in operand positions; `pool` > 1: the
    operand is the sum over pool x pool windows, taken by phase planes (pool divides the factor).
    rows, columns: operand positions that exist (beyond is padding). shifts: of the sources: each
    counts 2^shift times; () where all count once.
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
    shifts: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Step:
    """One layer of the program.

    kind: "synapses" of a layer with weights; "attention"; "gate", which chooses tokens; "select",
        which leaves out the others; "copy", an extra step that only rearranges a map.
    layer: with rows to compute; for a gate, selection or copy none of the network's layers.
    height, width: pooled outputs (for a readout: positions summed); conv: outputs before the pool.
    walk: distance of outputs in accumulator positions. single: one output only, computed at
    accumulator position 0.
    gate: of a gate or selection. keys: key and value maps of attention.
    aligned: maps whose flat positions are a gate's tokens. onto: maps whose sum, kept as
    bit-planes, the output is added to (`sw.compile.sums`). score, score_clear: as in the program.
    strip_step: words from a strip's first to that of the next, less than `strip_words` where
    strips overlap. Pitch and strips are those of an arranged step (`layout.arrange`).
    """

    layer: Layer
    uses: tuple[Use, ...]
    pool: Pool | None
    height: int
    width: int
    walk: int
    single: bool
    kind: str = "synapses"
    conv: tuple[int, int] = (1, 1)
    gate: Gate | None = None
    keys: tuple[Version, ...] = ()
    aligned: tuple[Version, ...] = ()
    onto: tuple[str, ...] = ()
    score: bool = False
    score_clear: bool = False
    output: Version | None = None
    pitch: int = 1
    strip_words: int = 1
    strip_step: int = 1
    strips: int = 1
    readout_positions: int = 0
    weights: int = 0
    surviving: int = 0

    @property
    def reads(self) -> list[Version]:
        """All maps that the step reads."""
        return [*(version for use in self.uses for version in use.versions), *self.keys]

    @property
    def pool_size(self) -> int:
        return self.pool.size[0] if self.pool else 1

    @property
    def overlaps(self) -> bool:
        """Pool windows of 3 x 3 with stride 2; accumulator row 0 is then the padding above."""
        return self.pool is not None and not self.pool.tiles

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of outputs before the pool that anything depends on."""
        if self.kind == "select":
            return self.conv
        if self.overlaps:
            return tuple(min(size, 2 * pooled) for size, pooled
                         in zip(self.conv, (self.height, self.width), strict=True))
        return self.height * self.pool_size, self.width * self.pool_size

    @property
    def accumulated(self) -> tuple[int, int]:
        """Rows and columns of accumulator positions from the first to the last such output."""
        rows, columns = self.grid
        return (rows - 1) * self.walk + 1 + self.overlaps, (columns - 1) * self.walk + 1

    def words(self, window: int) -> int:
        """Words of accumulator positions, all strips together."""
        rows, columns = self.accumulated
        return ceil_div((rows - 1) * self.pitch + columns, window)

    def last_words(self, window: int) -> int:
        """Words of the last strip."""
        return self.words(window) - self.strip_step * (self.strips - 1)

    @property
    def row_unit(self) -> int:
        """Accumulator rows from one output row of every phase to the next."""
        stride = self.pool.stride[0] if self.pool else 1
        return stride * self.walk * (self.output.factor if self.output else 1)

    @property
    def visits(self) -> int:
        """Positions that the drain visits for a row of a group, all strips together."""
        if self.kind == "select":
            return self.width
        return self.height * self.width * self.pool_size ** 2


def expand_sum_pool(weight: np.ndarray, by: int) -> np.ndarray:
    """Weights of the convolution on an operand before its sums of by x by (each repeated)."""
    return weight.repeat(by, axis=2).repeat(by, axis=3)


def _unit_neuron(channels: int) -> tuple[np.ndarray, np.ndarray, Neuron]:
    """(bias, threshold, neuron) that fire exactly where the current is 1 or more."""
    return np.zeros(channels, np.int64), np.ones(channels, np.int64), Neuron(leak=0)


def alternatives(network: Network) -> dict[str, list[int]]:
    """Layers that can read their sources in other ways than `PHASES`, and these ways."""
    ways, shapes = {}, network.shapes()
    for layer in network.layers:
        synapses = even_synapses(layer, shapes)
        totals = [syn.stride[0] * syn.sum_pool[0] for syn in synapses]
        if isinstance(layer, Layer) and layer.pool is not None and not layer.pool.tiles:
            continue            # the drain's walk over overlapping windows has steps of one
        if any(syn.sum_pool > (1, 1) for syn in synapses):
            ways[layer.name] = [WALK, EXPAND]
            if countable(layer, shapes):
                ways[layer.name].append(COUNT)
        elif math.gcd(*totals) > 1:
            ways[layer.name] = [WALK]
    return ways


def countable(layer: Layer, shapes: Mapping[str, Shape]) -> bool:
    """Whether the way COUNT is one for a layer: the average over all of a map of spikes, which a
    number of `program.PLANE`'s shifts can hold, and nothing else."""
    if len(layer.synapses) > 1 or layer.neuron is None or layer.pool is not None:
        return False
    [syn] = layer.synapses
    source = shapes[syn.sources[0]]
    return (syn.weight.shape[2:] == (1, 1) and INPUT not in syn.sources and syn.padding == (0, 0)
            and syn.sum_pool == (source.height, source.width) and source.height == source.width
            and pooled_positions(layer) < 1 << MAX_COUNT
            and not any(name.startswith(f"{layer.name}#") for name in shapes))


def pooled_positions(layer: Layer) -> int:
    """What the sum of a layer's first synapses over its pool can be of spikes."""
    syn = layer.synapses[0]
    return syn.sum_pool[0] * syn.sum_pool[1] * len(syn.sources)


def make_step(network: Network, layer: Layer, shapes: Mapping, way: int) -> Step:
    """Step of a layer with synapses, which can be made even (`sw.compile.tokens.check_operators`);
    way: PHASES, WALK or EXPAND."""
    conv = network.conv_size(layer.name, layer.synapses[0], shapes)
    single = conv == (1, 1)
    out = shapes[layer.name]
    height, width = out.height, out.width
    synapses = even_synapses(layer, shapes)
    if layer.neuron is None and _sums_everything(synapses):
        # The readout sums over all outputs anyway, so a 1x1 kernel needs no sum pool before it.
        k = synapses[0].sum_pool[0]
        height, width = height * k, width * k
        synapses = [Synapses(syn.weight, syn.sources, bits=syn.bits) for syn in synapses]
        single = (height, width) == (1, 1)
    synapses, shifts = zip(*narrow(synapses), strict=True)
    totals = [syn.stride[0] * syn.sum_pool[0] for syn in synapses]
    walk = math.gcd(*totals) if way != PHASES and not single else 1
    uses = []
    for syn, total, shift in zip(synapses, totals, shifts, strict=True):
        source = shapes[syn.sources[0]]
        stride, padding, pool = syn.stride[0], syn.padding[0], syn.sum_pool[0]
        weight, rows, columns = syn.weight, source.height // pool, source.width // pool
        factor = total // walk
        if single:
            factor = pool if way == PHASES else 1
        crop = (source.height, source.width)
        if padding and not single:
            crop = (rows * pool, columns * pool)
        if factor % pool or (way == EXPAND and pool > 1):
            weight = expand_sum_pool(weight, pool)
            stride, padding, rows, columns = total, padding * pool, rows * pool, columns * pool
            pool = 1
        uses.append(Use(weight, syn.sources, stride, padding, pool, factor, rows, columns, crop,
                        shifts=(shift,) if shift else ()))
    # A single output is all that a window of an overlapping pool can hold.
    pool = None if single and layer.pool is not None and not layer.pool.tiles else layer.pool
    return Step(layer, tuple(uses), pool, height, width, walk, single, conv=conv,
                readout_positions=out.height * out.width if layer.neuron is None else 0,
                weights=sum(syn.weight.size for syn in layer.synapses),
                surviving=sum(int(np.count_nonzero(syn.weight)) for syn in layer.synapses))


def _sums_everything(synapses: Sequence[Synapses]) -> bool:
    first = synapses[0]
    return first.sum_pool > (1, 1) and all(
        syn.weight.shape[2:] == (1, 1) and (syn.stride, syn.padding) == ((1, 1), (0, 0))
        and syn.sum_pool == first.sum_pool for syn in synapses)


@dataclass(frozen=True, eq=False)
class Lowered:
    """What the first pass makes: the steps, and the input's arrangements, which the host writes."""

    steps: tuple[Step, ...]
    inputs: tuple[Version, ...]


def add_versions(steps: Sequence[Step], shapes: Mapping) -> Lowered:
    """The steps with the versions they read and write, copies included."""
    versions: dict[str, dict[tuple, Version]] = {name: {} for name in shapes}

    reading = []
    for step in steps:
        uses = tuple(replace(use, versions=tuple(
            Version(name, shapes[name].channels, *use.crop, use.factor) for name in use.sources))
            for use in step.uses)
        reading.append(replace(step, uses=uses))
        wanted = (version for use in uses for version in use.versions)
        for version in (*wanted, *step.keys, *step.aligned):
            versions[version.name].setdefault(version.key, version)
    placed = []
    for step in reading:
        if step.layer.neuron is None or step.kind == "gate" or step.output is not None:
            placed.append(step)
            continue
        name = step.layer.name
        arrangements, plain = versions[name], plain_version(name, shapes)
        output = next(iter(arrangements.values()), plain)
        one_phase = step.overlaps or step.kind == "select"
        if len(arrangements) != 1 or (one_phase and output.factor > 1):
            output = arrangements.setdefault(plain.key, plain)
        # The stored size may be cropped; compute no more than that.
        placed.append(replace(step, output=output, height=output.height, width=output.width))
        placed += [copy_step(output, version) for version in arrangements.values()
                   if version != output]
    return Lowered(tuple(placed), tuple(versions[INPUT].values()))


def plain_version(name: str, shapes: Mapping) -> Version:
    """A whole map in one phase."""
    shape = shapes[name]
    return Version(name, shape.channels, shape.height, shape.width, 1)


def identity(name: str, source: str, channels: int) -> tuple[Layer, np.ndarray]:
    """A layer whose neurons repeat the spikes of `source`, and its weights int8 [C, C, 1, 1]."""
    eye = np.eye(channels, dtype=np.int8)[:, :, None, None]
    return Layer(name, (Synapses(eye, (source,), bits=1),), *_unit_neuron(channels)), eye


def copy_step(source: Version, target: Version) -> Step:
    """A step that writes a map anew, in another arrangement or for a sum to begin with."""
    layer, eye = identity(source.name, source.name, source.channels)
    size = source.height, source.width
    use = Use(eye, (source.name,), 1, 0, 1, 1, *size, size, (source,))
    return Step(layer, (use,), None, target.height, target.width, 1, size == (1, 1), "copy", size,
                output=target)
