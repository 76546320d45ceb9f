"""Compiler: an integer network for one core configuration.

    image = compile_network(network, PRESETS["a35t"])

refuses what does not fit (`DoesNotFit` lists every short memory) or could overflow, before
anything is sent. The arrangement of maps is searched: strided consumers read maps that are split
in phases, or visit only every n-th output of an unsplit map; the cheapest arrangement that fits
is used. `docs/core.md` has the formats.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, islice, product

import numpy as np

from hw.config import CoreConfig

from ..integer.network import Network
from .assemble import Activity, assemble, count_planes
from .fit import DoesNotFit, LayoutError, Memory
from .image import Image
from .layout import (
    Plan,
    allocate,
    choose_pitches,
    estimate_cycles,
    gate_info,
    input_layouts,
    make_layouts,
    map_layouts,
)
from .steps import alternatives
from .taps import Tap
from .tokens import check_operators, make_steps

__all__ = ["DoesNotFit", "LayoutError", "Memory", "compile_network"]

RICE_SLACK = 1.05
"""Weight streams may be this much longer than the shortest for the decoder's sake, if they fit."""

MAX_VARIANTS = 64
"""Arrangements tried at most."""


def compile_network(network: Network, config: CoreConfig, activity: Activity | None = None, *,
                    keep_all: bool = False) -> Image:
    """Compile a network for a core.

    activity: fraction of active positions per map (`sw.integer.reference.activity`), to balance the
        engines; None assumes 25 %.
    keep_all: never reuse the words of a layer's map, so that all maps but the input can be read
        after an inference (needs more map memory).

    Raises DoesNotFit (a SpikeTicketError) when a memory is too small, SpikeTicketError when an
    integer could overflow or the core lacks an operator.
    """
    check_operators(network, config)
    refused: list[DoesNotFit] = []
    plans = _plans(network, config, keep_all, refused)
    for plan in plans:
        for slack in (RICE_SLACK, 1.0):
            try:
                return _compile_plan(plan, config, activity or {}, keep_all, slack)
            except DoesNotFit as error:
                refused.append(error)
    sized = [error for error in refused if error.memories]
    raise min(sized, key=_shortage) if sized else refused[0]


def _shortage(error: DoesNotFit) -> float:
    return sum(memory.short / memory.available for memory in error.memories)


def _compile_plan(plan: Plan, config: CoreConfig, activity: Activity, keep_all: bool,
                  slack: float) -> Image:
    network = plan.network
    assembly = assemble(plan, config, activity, slack)
    if any(memory.short for memory in assembly.memories):
        raise DoesNotFit(network.name, assembly.memories)
    spec = network.input
    return Image(
        network.name, config, network.timesteps, (spec.channels, spec.height, spec.width),
        spec.bits, spec.static, network.layers[-1].channels, assembly.program, assembly.weights,
        input_layouts(plan), map_layouts(plan), plan.results, assembly.memories, assembly.layers,
        keep_all, network.labels, gate_info(plan))


def _plans(network: Network, config: CoreConfig, keep_all: bool,
           refused: list[DoesNotFit]) -> list[Plan]:
    """Possible arrangements, best first: those that fit the map memory by estimated cycles."""
    found: list[tuple[bool, float, int, Plan]] = []
    for ways in _choices(alternatives(network)):
        try:
            plan, cycles = _arrange(network, ways, config, keep_all)
        except DoesNotFit as error:
            refused.append(error)
            continue
        found.append((plan.map_words > config.map_words, cycles, len(found), plan))
    return [plan for *_, plan in sorted(found, key=lambda item: item[:3])]


def _choices(ways: Mapping[str, Sequence[int]]) -> Iterator[dict[str, int]]:
    """Combinations of ways to read sources, those with fewest changes first."""
    every = (dict(zip(names, chosen, strict=True))
             for count in range(len(ways) + 1)
             for names in combinations(ways, count)
             for chosen in product(*(ways[name] for name in names)))
    return islice(every, MAX_VARIANTS)


def _arrange(network: Network, ways: Mapping[str, int], config: CoreConfig,
             keep_all: bool) -> tuple[Plan, float]:
    steps, inputs = make_steps(network, ways)
    groups = -(-network.timesteps // 4)
    taps = choose_pitches(steps, inputs, groups, config)
    for step, uses in zip(steps, taps, strict=True):
        if not any(uses):
            uses[:1] = [[_silent_tap(step.layer.channels, config)]]
    layouts = make_layouts(network, steps, inputs, config, keep_all)
    results, used = allocate(list(layouts.values()), network.layers[-1].channels, len(steps) - 1)
    plan = Plan(network, steps, inputs, taps, layouts, results, used)
    planes = [[use.pool ** 2 * sum(plan.layouts[v].planes for v in use.versions)
               for use in step.uses] for step in steps]
    cycles = estimate_cycles(steps, taps, groups, planes, config)
    if any(count_planes(plan, step)[0] > config.planes for step in steps):
        cycles *= 1e6           # tried last: the plane table is too small
    return plan, cycles


def _silent_tap(channels: int, config: CoreConfig) -> Tap:
    """A layer without any weight still needs a tap for its rows to end."""
    return Tap(np.zeros((channels, 1), np.int8), 0, 0, 0, 0, 0, np.zeros(config.window, bool),
               1, 1, 0, 0)
