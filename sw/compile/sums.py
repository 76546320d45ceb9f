"""Residual sums kept as bit-planes: one number for a position instead of one map for a summand.

The sum of n spike maps takes n.bit_length() planes of shifts 0, 1, 2 ...; every layer that makes a
summand adds its spikes to what is there (`hw.sums`), and a layer that reads the sum walks its
planes only. The summands themselves are gone then, so all that read one of them must want the sum
as it stands when they run: `find` says where that holds. Where the second summand is made of the
first (x + f(x), as a position embedding is), the sum begins with a copy of the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from hw.config import SUM_PLANES

from ..integer.network import INPUT
from .steps import Lowered, Step, Version, copy_step

FEWEST = 3
"""Summands from which on the planes are fewer than the maps."""


@dataclass(frozen=True)
class Sum:
    """A residual sum. maps: its summands in the order in which they are made. refused: why they
    cannot be kept as bit-planes, "" where they can. copied: it begins with a copy of the first."""

    maps: tuple[str, ...]
    refused: str = ""
    copied: bool = False

    @property
    def planes(self) -> int:
        return planes_of(len(self.maps))


def planes_of(summands: int) -> int:
    """Bit-planes that the sum of so many spike maps takes."""
    return summands.bit_length()


def grows(summands: int) -> bool:
    """Whether the last of so many summands needs a plane more than those before it."""
    return planes_of(summands) > planes_of(summands - 1)


def find(lowered: Lowered) -> tuple[Sum, ...]:
    """All sums of `FEWEST` maps or more that the steps read, by their first summand."""
    made, joined = _made(lowered.steps), {}
    for names in _read(lowered.steps):
        group = set(names).union(*(joined.get(name, ()) for name in names))
        joined |= dict.fromkeys(group, group)
    groups = {id(group): group for group in joined.values() if len(group) >= FEWEST}
    found = [tuple(sorted(group, key=lambda name: made.get(name, -1)))
             for group in groups.values()]
    return tuple(Sum(maps, _refused(lowered.steps, maps, made),
                     bool(_of_first(lowered.steps[made.get(maps[1], 0)], maps)))
                 for maps in sorted(found, key=lambda maps: made.get(maps[0], -1)))


def merge(lowered: Lowered, sums: Sequence[Sum]) -> Lowered:
    """The steps with these sums as bit-planes: their summands are added to what came before, and
    what reads them reads the last one made, under whose name the sum then stands."""
    steps = list(lowered.steps)
    for found in sums:
        made = _made(steps)
        versions = {name: steps[made[name]].output for name in found.maps}
        name, second = found.maps[:2]
        if found.copied:
            versions[name] = replace(versions[name], begins=True)
            steps.insert(made[name] + 1, copy_step(steps[made[name]].output, versions[name]))
            made = _made(steps)
        for index, step in enumerate(steps):
            own = step.layer.name
            if step.kind == "copy":
                continue
            uses = tuple(
                replace(use, versions=(versions[_last(found, made, index)],))
                if use.versions[0].name in found.maps and not (found.copied and own == second)
                else use for use in step.uses)
            onto = found.maps[:found.maps.index(own)] if own in found.maps else step.onto
            steps[index] = replace(step, uses=uses, onto=onto)
    return replace(lowered, steps=tuple(steps))


def _last(found: Sum, made: Mapping[str, int], index: int) -> str:
    """The summand that was made last before a step."""
    return [name for name in found.maps if made[name] < index][-1]


def _of_first(step: Step, maps: tuple[str, ...]) -> bool:
    """Whether a step makes the second summand of the first one, which then needs a place of its
    own: other channels are still read when a channel's sum is written."""
    names = [version.name for version in step.reads if version.name in maps]
    return step.layer.name == maps[1] and names != [] and set(names) == {maps[0]}


def _made(steps: Sequence[Step]) -> dict[str, int]:
    """Step that makes each map (not its copies)."""
    return {step.layer.name: index for index, step in enumerate(steps)
            if step.output is not None and step.kind != "copy"}


def _read(steps: Sequence[Step]) -> Iterator[list[str]]:
    """Names of the maps that every use adds up, each once."""
    for step in steps:
        for use in step.uses:
            if any(use.shifts):
                continue
            yield [version.name for version in use.versions]


def _refused(steps: Sequence[Step], maps: tuple[str, ...], made: Mapping[str, int]) -> str:
    """Why these maps must be kept one by one, "" if they need not."""
    if INPUT in maps:
        return "the input is one of its maps"
    if planes_of(len(maps)) > SUM_PLANES:
        return f"its {len(maps)} maps need more than {SUM_PLANES} planes"
    outputs: list[Version] = [step.output for step in steps
                              if step.output is not None and step.output.name in maps]
    if len(outputs) != len(maps) or len({replace(v, name="") for v in outputs}) > 1:
        return "its maps are read in different arrangements"
    for name in maps[1:]:
        step = steps[made[name]]
        if step.kind == "attention":
            return f"attention makes {name!r}"
        if any(version.name in maps for version in step.reads) and not _of_first(step, maps):
            return f"{name!r} reads the sum that it is added to"
    for index, step in enumerate(steps):
        if any(key.name in maps for key in step.keys):
            return f"attention {step.layer.name!r} reads one of its maps as k or v"
        then = [name for name in maps if made[name] < index]
        for use in step.uses:
            names = [version.name for version in use.versions]
            if not set(names).isdisjoint(maps) and sorted(names) != sorted(then):
                return f"{step.layer.name!r} reads a part of what is summed up by then"
    return ""
