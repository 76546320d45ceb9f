"""Arrangement of maps: pitches, strips and addresses in the map memory."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from hw import program
from hw.config import CoreConfig

from ..integer.network import INPUT, Network
from .bounds import input_bits_a_mask
from .fit import LayoutError
from .image import MapLayout
from .image_gate import GateInfo
from .steps import Lowered, Step, Version, ceil_div
from .sums import planes_of
from .taps import MaskConflict, Tap, channel_words, make_taps
from .tokens import check_tokens

GROUP = 4

WALK_POSITIONS = 1 << program.WALK_BITS
"""Accumulator positions that the drain can count (a strip, and phases reaching beyond it)."""


STEP_CYCLES = 100
"""About what a step takes besides its rows: program words, and the way through the pipeline."""


@dataclass(frozen=True, eq=False)
class Arranged:
    """What the second pass makes: steps with pitches and strips, and their taps, per use."""

    steps: tuple[Step, ...]
    inputs: tuple[Version, ...]
    taps: tuple[tuple[tuple[Tap, ...], ...], ...]


@dataclass(frozen=True, eq=False)
class Plan:
    """What the third pass makes: arranged steps, and the layouts of all versions with addresses.

    results: first word of the logits. map_words: words used, even if more than there are.
    """

    network: Network
    steps: tuple[Step, ...]
    inputs: tuple[Version, ...]
    taps: tuple[tuple[tuple[Tap, ...], ...], ...]
    layouts: Mapping[Version, MapLayout]
    results: int
    map_words: int

    @property
    def groups(self) -> int:
        return ceil_div(self.network.timesteps, GROUP)

    def bits_a_mask(self, step: Step) -> int:
        """Bits of a value that a mask of the step's source holds; see `MapLayout`."""
        return max((self.layouts[version].bits_a_mask for version in step.reads), default=1)


def power_of_two(n: int) -> int:
    """Smallest power of two >= n."""
    return 1 << (n - 1).bit_length()


def arrange(lowered: Lowered, groups: int, config: CoreConfig) -> Arranged:
    """Choose pitches and strips of all steps. Raises LayoutError.

    Maps that meet in one step share their pitch. A pitch grows where a step needs wider rows, where
    a strip of outputs would not end at a word, or where masks could not separate rows.
    """
    steps = lowered.steps
    versions = [*lowered.inputs, *(step.output for step in steps if step.output)]
    leader = {version: version for version in versions}

    def find(version: Version) -> Version:
        while leader[version] != version:
            version = leader[version]
        return version

    need = {version: power_of_two(ceil_div(version.width, version.factor)) for version in versions}
    made = {version.name: version for version in versions}
    for step in steps:
        for name in step.onto:          # its words are added to theirs
            leader[find(made[name])] = find(step.output)
        # Planes of one use share channel strides, so single-output steps need equal pitches too.
        meeting = [use.versions for use in step.uses] if step.single else [step.reads]
        for members in (*meeting, step.aligned):
            for version in members[1:]:
                leader[find(version)] = find(members[0])
    for version in versions:
        need[find(version)] = max(need[find(version)], need[version])
    for step in steps:
        if not step.single and step.uses:
            root = find(step.uses[0].versions[0])
            need[root] = max(need[root], power_of_two(_walked_columns(step)))

    limit = max(config.window, config.tile_positions)
    while True:
        pitched = {version: replace(version, pitch=need[find(version)]) for version in versions}
        grow = None
        arranged, taps = [], []
        for step in steps:
            made = choose_strips(_with_pitches(step, pitched), groups, config)
            if made is None:
                grow = find(step.output)
            else:
                try:
                    taps.append(_taps(made, config))
                    arranged.append(made)
                except MaskConflict:
                    grow = find(step.uses[0].versions[0])
            if grow is not None:
                need[grow] *= 2
                if need[grow] > limit:
                    raise LayoutError(step.layer.name, f"its rows would need a pitch of "
                                      f"{need[grow]}, more than a strip of {limit} positions; use "
                                      "smaller maps")
                break
        if grow is None:
            return Arranged(tuple(arranged), tuple(map(pitched.get, lowered.inputs)), tuple(taps))


def _with_pitches(step: Step, pitched: Mapping[Version, Version]) -> Step:
    def of(versions: Sequence[Version]) -> tuple[Version, ...]:
        return tuple(pitched[version] for version in versions)
    step = replace(step, uses=tuple(replace(use, versions=of(use.versions)) for use in step.uses),
                   keys=of(step.keys), aligned=of(step.aligned), output=pitched.get(step.output))
    return replace(step, pitch=_pitch(step))


def _taps(step: Step, config: CoreConfig) -> tuple[tuple[Tap, ...], ...]:
    """Of every use of an arranged step. A step without any weight still needs one, for its rows to
    end."""
    taps = tuple(tuple(make_taps(step, use, config)) for use in step.uses)
    if any(taps):
        return taps
    silent = Tap(np.zeros((step.layer.channels, 1), np.int8), 0, 0, 0, 0, 0,
                 np.zeros(config.window, bool), 1, 1, 0, 0)
    return (silent,), *taps[1:]


def _pitch(step: Step) -> int:
    if step.single:
        return 1
    if step.kind == "gate":
        return step.aligned[0].pitch if step.aligned else power_of_two(step.width)
    return step.uses[0].versions[0].pitch


def _walked_columns(step: Step) -> int:
    """Columns that the drain walks over: an output row of every phase has the same length."""
    if step.kind == "select":
        return step.conv[1]
    if step.overlaps:
        return 2 * step.width
    factor = step.output.factor if step.output else 1
    outputs = ceil_div(step.width, factor) * factor * step.pool_size
    return (outputs - 1) * step.walk + 1


def choose_strips(step: Step, groups: int, config: CoreConfig) -> Step | None:
    """The step cut into strips; None if its output's pitch must grow. Raises LayoutError."""
    window, pitch, unit = config.window, step.pitch, step.row_unit
    words = step.words(window)
    check_tokens(step, config)
    if step.output and min(words, config.tile_words) * window + unit * pitch > WALK_POSITIONS:
        raise LayoutError(step.layer.name, f"its output in {step.output.factor} x "
                          f"{step.output.factor} phases exceeds the drain's walk of "
                          f"{WALK_POSITIONS} positions; use smaller strides or pools")
    if words <= config.tile_words:
        return replace(step, strip_words=words, strip_step=words, strips=1)
    factor, out_pitch = (step.output.factor, step.output.pitch) if step.output else (1, window)
    flush = groups > 1 or factor > 1
    whole_rows = False
    for strip_step in range(config.tile_words, 0, -1):
        positions = strip_step * window
        # Where pool windows overlap, a strip begins with the last row of the one before.
        strip_words = ceil_div(positions + step.overlaps * step.accumulated[1], window)
        if positions % (pitch * unit) or strip_words > config.tile_words:
            continue
        whole_rows = True
        per_strip = positions // (pitch * unit)
        if flush and per_strip * out_pitch % window:
            continue
        return replace(step, strip_words=strip_words, strip_step=strip_step,
                       strips=ceil_div(ceil_div(step.height, factor), per_strip))
    if not whole_rows:
        raise LayoutError(step.layer.name, f"{unit + step.overlaps} rows of {pitch} positions "
                          "that one output row needs do not fit a strip of "
                          f"{config.tile_positions}; use smaller maps or pools")
    return None


def estimate_cycles(plan: Plan, config: CoreConfig) -> float:
    """Rough cycles of a plan at 25 % activity, to compare plans with."""
    total, groups = 0.0, plan.groups
    for step, uses in zip(plan.steps, plan.taps, strict=True):
        if step.kind == "gate":
            continue
        for use, use_taps in zip(step.uses, uses, strict=True):
            count = use.pool ** 2 * sum(plan.layouts[v].planes for v in use.versions)
            for tap in use_taps:
                cost = max(tap.words, 0.25 * tap.active / config.units * 1.4)
                total += int((tap.weights != 0).sum()) * cost * count * groups
        for key in step.keys:       # v's channel, then those of k of a head: two cycles a word
            words = channel_words(key.height, 1, key.pitch, config.window)
            total += np.count_nonzero(step.uses[0].weight) * words * step.strips * groups
        if step.onto:   # the even engines' ports are taken by a write of every plane, one by a read
            planes = plan.layouts[step.output].planes
            total += plan.layouts[step.output].plane_words * groups * planes * (config.pairs + 1)
        visits = step.visits * config.drain_engines / config.lanes
        total += step.layer.channels * (visits + 8 * step.strips) * groups
    return total / config.engines + STEP_CYCLES * len(plan.steps)


def place(network: Network, arranged: Arranged, config: CoreConfig, keep_all: bool) -> Plan:
    """Give every map, and the logits, their words of the map memory. Raises LayoutError."""
    layouts = _layouts(network, arranged, config, keep_all)
    placed, results, used = allocate(list(layouts.values()), network.layers[-1].channels,
                                     len(arranged.steps) - 1)
    return Plan(network, arranged.steps, arranged.inputs, arranged.taps,
                MappingProxyType(dict(zip(layouts, placed, strict=True))), results, used)


def _layouts(network: Network, arranged: Arranged, config: CoreConfig,
             keep_all: bool) -> dict[Version, MapLayout]:
    """Layouts without addresses, lifetimes included."""
    timesteps, steps = network.timesteps, arranged.steps
    groups = ceil_div(timesteps, GROUP)
    layouts, bits = {}, input_bits_a_mask(network)
    read = {version: n for n, step in enumerate(steps) for version in step.reads}

    def add(version: Version, born: int, planes: int, copies: int, copy_of: tuple[int, ...],
            bits_a_mask: int = 1, onto: tuple[str, ...] = (), spare: int = 0):
        words = channel_words(version.height, version.factor, version.pitch, config.window)
        if words > 255:
            raise LayoutError(version.name, f"a channel of {words} words exceeds the 255 of a "
                              "map; use smaller maps")
        layouts[version] = MapLayout(
            version.name, version.channels, version.height, version.width, version.factor,
            version.pitch, words, config.window, planes, copies, copy_of, born=born,
            dies=max(len(steps) if keep_all and born >= 0 else born, read.get(version, -1)),
            bits_a_mask=bits_a_mask, onto=onto, spare=spare)

    for version in arranged.inputs:
        if bits > 1:
            add(version, -1, ceil_div(network.input.bits, bits), 1, (0,) * groups, bits)
        elif not network.input.static:
            add(version, -1, network.input.bits, groups, tuple(range(groups)))
        elif timesteps % GROUP == 0 or groups == 1:
            add(version, -1, network.input.bits, 1, (0,) * groups)
        else:
            # The last group has fewer timesteps: a copy of the planes with shorter masks.
            add(version, -1, network.input.bits, 2, (0,) * (groups - 1) + (1,))
    # Summands in a sum's whole life: its words lie where those of the first one do.
    most = {step.onto[0]: len(step.onto) + 1 for step in steps if step.onto}
    copied = {step.output.name for step in steps if step.output and step.output.begins}
    for index, step in enumerate(steps):
        if step.output is not None:
            planes = planes_of(len(step.onto) + 1)
            first = (*step.onto, step.layer.name)[0]
            own = step.onto or step.output.begins or first not in copied
            whole = planes_of(most.get(first, 1)) if own else 1
            add(step.output, index, planes, groups, tuple(range(groups)), onto=step.onto,
                spare=whole - planes)
    return layouts


def allocate(layouts: Sequence[MapLayout], result_words: int,
             last: int) -> tuple[list[MapLayout], int, int]:
    """The layouts with bases, so that maps alive together never overlap; the first word of the
    logits, and the words used. Summands of a sum that is kept as bit-planes have one place, as long
    as any of them is alive. Several orders are tried; the least memory wins.
    """
    named = {layout.name: n for n, layout in enumerate(layouts)}    # of copies the last one
    homes = [named[layout.onto[0]] if layout.onto else n for n, layout in enumerate(layouts)]
    shared = [[layouts[n] for n, home in enumerate(homes) if home == own]
              for own in sorted(set(homes))]
    items = [(members[0].words, min(m.born for m in members), max(m.dies for m in members))
             for members in shared]
    items.append((result_words, last, last + 1))
    indices = range(len(items))
    orders = [sorted(indices, key=lambda n: -items[n][0]), list(indices),
              sorted(indices, key=lambda n: (items[n][1] - items[n][2], -items[n][0]))]
    shuffle = random.Random(0)
    for _ in range(60):
        orders.append(shuffle.sample(indices, len(items)))
    bound = max(sum(words for words, born, dies in items if born <= step <= dies)
                for step in range(-1, last + 2))
    best: tuple[int, list[int]] | None = None
    for order in orders:
        bases = _place(items, order)
        used = max(base + item[0] for base, item in zip(bases, items, strict=True))
        if best is None or used < best[0]:
            best = used, bases
        if best[0] == bound:
            break
    used, bases = best
    base_of = dict(zip(sorted(set(homes)), bases[:-1], strict=True))
    placed = [replace(layout, base=base_of[home])
              for layout, home in zip(layouts, homes, strict=True)]
    return placed, bases[-1], used


def _place(items: Sequence[tuple[int, int, int]], order: Sequence[int]) -> list[int]:
    bases = [0] * len(items)
    placed: list[int] = []
    for index in order:
        words, born, dies = items[index]
        taken = sorted((bases[n], bases[n] + items[n][0]) for n in placed
                       if items[n][1] <= dies and born <= items[n][2])
        base = 0
        for low, high in taken:
            if base + words <= low:
                break
            base = max(base, high)
        bases[index] = base
        placed.append(index)
    return bases


def input_layouts(plan: Plan) -> list[MapLayout]:
    return [plan.layouts[version] for version in plan.inputs]


def gate_info(plan: Plan) -> GateInfo | None:
    """The patch gate, if the network has one."""
    for index, step in enumerate(plan.steps):
        if step.kind == "gate":
            gate = step.gate
            info = GateInfo(gate.name, gate.mode, gate.keep, gate.grid, step.pitch, index)
            if gate.mode == "static":
                info.mask = tuple(int(word) for word in info.words(gate.mask))
            return info
    return None


def map_layouts(plan: Plan) -> dict[str, MapLayout]:
    """The layout to read each of the network's maps from: the one with most of the map."""
    names, found = {INPUT, *(layer.name for layer in plan.network.layers)}, {}
    for layout in plan.layouts.values():
        if layout.name not in names:
            continue
        other = found.get(layout.name)
        if other is None or layout.height * layout.width > other.height * other.width:
            found[layout.name] = layout
    assert INPUT in found
    return found
