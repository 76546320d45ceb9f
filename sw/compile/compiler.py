"""Compiler: an integer network for one core configuration.

    image = compile_network(network, PRESETS["a35t"])

refuses what does not fit (`DoesNotFit` lists every short memory) or could overflow, before
anything is sent. Four passes, each from frozen data to frozen data:

    lower      network, ways to read maps -> Lowered    steps of the core, copies of maps included
    arrange    Lowered -> Arranged                      pitches, strips, taps
    place      Arranged -> Plan                         words of the map memory
    encode     Plan -> Assembly                         program and weight streams

The ways are searched: strided consumers read maps that are split in phases, or visit only every
n-th output of an unsplit map. Every variant goes through the first three passes, and the cheapest
that fits is encoded. `sw.compile.passes` prints all this, `docs/core.md` has the formats.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice, product

from hw.config import WORD_BITS, CoreConfig

from ..integer.network import Network
from .assemble import Activity, Assembly, count_planes, encode
from .dram import Tier
from .fit import DoesNotFit, LayoutError, Memory
from .image import Image
from .layout import (
    GROUP,
    Plan,
    arrange,
    estimate_cycles,
    gate_info,
    input_layouts,
    map_layouts,
    place,
)
from .least import least
from .steps import Lowered, alternatives, ceil_div
from .sums import Sum, find, merge
from .tokens import check_operators, lower

__all__ = ["DoesNotFit", "LayoutError", "Memory", "compile_network", "run_passes"]

RICE_SLACK = 1.05
"""Weight streams may be this much longer than the shortest for the decoder's sake, if they fit."""

STREAM_SLACK = 1.15
"""The same where weights stream from DRAM, which has room and seldom binds."""

HOPELESS = 2
"""A network with DRAM behind it, whose weights at their entropy bound take so many times the weight
memory, is not tried on chip first: to encode a large one takes its time."""

MAX_VARIANTS = 64
"""Arrangements tried at most."""


@dataclass(frozen=True, eq=False)
class Variant:
    """A network with chosen ways to read maps, and sums that are kept as bit-planes, after the
    first three passes: the plan and its estimated cycles, or why there is none."""

    ways: Mapping[str, int]
    sums: tuple[Sum, ...] = ()
    plan: Plan | None = None
    cycles: float = 0.0
    refused: DoesNotFit | None = None

    def fits_maps(self, config: CoreConfig) -> bool:
        return self.plan is not None and self.plan.map_words <= config.map_words


@dataclass(frozen=True, eq=False)
class Compilation:
    """All that the passes made. variants: in the order in which they were tried; chosen: one of
    them; assembly: of the chosen one. encoded: how often the last pass ran until one fitted. sums:
    all that the chosen ways have, those that are kept as lists of maps included."""

    variants: tuple[Variant, ...]
    chosen: Variant
    assembly: Assembly
    encoded: int
    sums: tuple[Sum, ...] = ()


def compile_network(network: Network, config: CoreConfig, activity: Activity | None = None, *,
                    keep_all: bool = False, stream: bool = False) -> Image:
    """Compile a network for a core.

    activity: fraction of active positions per map (`sw.integer.reference.activity`), to balance the
        engines; None assumes 25 %.
    keep_all: never reuse the words of a layer's map, so that all maps but the input can be read
        after an inference (needs more map memory; a residual sum is a list of its maps then).
    stream: all weights come from DRAM, even if they fit on chip (for tests).

    Raises DoesNotFit (a SpikeTicketError) when a memory is too small, SpikeTicketError when an
    integer could overflow or the core lacks an operator.
    """
    passes = run_passes(network, config, activity, keep_all=keep_all, stream=stream)
    plan, assembly, spec = passes.chosen.plan, passes.assembly, network.input
    return Image(
        network.name, config, network.timesteps, (spec.channels, spec.height, spec.width),
        spec.bits, spec.static, network.layers[-1].channels, assembly.program,
        list(assembly.weights), input_layouts(plan), map_layouts(plan), plan.results,
        list(assembly.memories), list(assembly.layers),
        keep_all, network.labels, gate_info(plan), list(assembly.streams))


def run_passes(network: Network, config: CoreConfig, activity: Activity | None = None, *,
               keep_all: bool = False, stream: bool = False) -> Compilation:
    """The passes of `compile_network`, whose arguments and errors are these, too."""
    check_operators(network, config)
    variants = tuple(islice(
        (_variant(network, ways, lowered, sums, config, keep_all)
         for ways in _choices(alternatives(network))
         for lowered in [lower(network, ways)]
         for sums in _sums(lowered, config.sums and not keep_all)), MAX_VARIANTS))
    refused = [variant.refused for variant in variants if variant.refused]
    planned = [variant for variant in variants if variant.plan]
    best_first = sorted((variant for variant in planned if variant.fits_maps(config)),
                        key=lambda variant: variant.cycles)
    if planned and not best_first:      # what is encoded says what else is short
        best_first = [min(planned, key=lambda variant: (variant.plan.map_words, variant.cycles))]
    tries = [(variant, slack, Tier.ALL_STREAM if stream else Tier.ON_CHIP)
             for variant in best_first for slack in (RICE_SLACK, 1.0)]
    if config.dram_words:
        if not stream and least(network).weights > HOPELESS * WORD_BITS * sum(config.weight_depths):
            tries = []
        tries += [(variant, slack, Tier.REST_STREAMS)       # shorter rows fit their rings
                  for variant in best_first for slack in (STREAM_SLACK, 1.0)]
    for number, (variant, slack, tier) in enumerate(tries, 1):
        try:
            assembly = encode(variant.plan, config, activity or {}, slack, tier)
            if any(memory.short for memory in assembly.memories):
                raise DoesNotFit(network.name, assembly.memories)
            return Compilation(variants, variant, assembly, number,
                               find(lower(network, variant.ways)))
        except DoesNotFit as error:
            if tier != Tier.ON_CHIP or not config.dram_words:   # else DRAM is still to be tried
                refused.append(error)
    sized = [error for error in refused if error.memories]
    raise min(sized, key=_shortage) if sized else refused[0]


def _shortage(error: DoesNotFit) -> float:
    return sum(memory.short / memory.available for memory in error.memories)


def _choices(ways: Mapping[str, Sequence[int]]) -> Iterator[dict[str, int]]:
    """Combinations of ways to read sources, those with fewest changes first."""
    return (dict(zip(names, chosen, strict=True))
            for count in range(len(ways) + 1)
            for names in combinations(ways, count)
            for chosen in product(*(ways[name] for name in names)))


def _sums(lowered: Lowered, able: bool) -> list[tuple[Sum, ...]]:
    """Choices of sums to keep as bit-planes: none, each of them, all; of a core that is able."""
    found = [total for total in find(lowered) if not total.refused] if able else []
    alone = [(total,) for total in found] if len(found) > 1 else []
    return [(), *alone, *([tuple(found)] if found else [])]


def _variant(network: Network, ways: Mapping[str, int], lowered: Lowered, sums: tuple[Sum, ...],
             config: CoreConfig, keep_all: bool) -> Variant:
    """The first three passes."""
    try:
        arranged = arrange(merge(lowered, sums), ceil_div(network.timesteps, GROUP), config)
        plan = place(network, arranged, config, keep_all)
    except DoesNotFit as error:
        return Variant(ways, sums, refused=error)
    cycles = estimate_cycles(plan, config)
    if any(count_planes(plan, step)[0] > config.planes for step in plan.steps):
        cycles *= 1e6           # tried last: the plane table is too small
    return Variant(ways, sums, plan, cycles)
