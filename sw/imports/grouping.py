"""Operations that are cuts by themselves: pools of maxima, products, comparisons outside neurons.

A forward function that loops over time executes them once for every timestep; these executions
are one cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from .recording import Axes, Cut, Event
from .tape import Op, Ref, Tape

POOLS = ("max_pool2d_with_indices", "max_pool3d_with_indices", "adaptive_max_pool2d",
         "adaptive_max_pool3d", "amax", "max", "maximum")
PRODUCTS = ("mul", "mul_")
COMPARISONS = ("ge", "gt", "le", "lt")
SAME_VALUES = {"_to_copy", "view", "_unsafe_view", "_reshape_alias", "alias", "clone", "detach"}
"""Operations whose results are their operand's values, in the same order."""

WATCHED = {**dict.fromkeys(POOLS, "max_pool"), **dict.fromkeys(PRODUCTS, "product"),
           **dict.fromkeys(COMPARISONS, "neuron")}


@dataclass(frozen=True, eq=False)
class Seen:
    """An executed operation; lines: of the user's code that led to it. same, opposite: later ones
    that repeat it, or its contrary, on equal values. at_call: of a comparison, its operand and
    result then; both may be changed in place later."""

    index: int
    op: Op
    lines: tuple[str, ...]
    same: list[int] = field(default_factory=list)
    opposite: list[int] = field(default_factory=list)
    at_call: tuple[Tensor, Tensor] | None = None


def operations(seen: list[Seen], tape: Tape, steps: int, batch: int, order: str,
               marked: Mapping[int, Axes], modules: Mapping[str, tuple[str, str]]) -> list[Cut]:
    """The cuts among these operations.

    order: as in `Axes.of`. marked: axes of the input and of what neurons made, by operation.
    modules: class and package by path.
    """
    groups: dict[tuple, list[tuple[Seen, Event]]] = {}
    for one in _once(seen, tape):
        kind, event = WATCHED[one.op.name], _event(one, tape, steps, batch, order)
        if event is not None and event.made.kind == "tb" and order == "bt":
            event = _told_apart(event, tape, marked)
        if event is not None:
            key = (kind, one.op.name, one.op.module, one.lines, event.seen)
            groups.setdefault(key, []).append((one, event))
    cuts = []
    for (kind, name, module, *_), found in groups.items():
        if found[0][1].seen.kind == "bt" and steps > 1 and len(found) % steps == 0:
            # Once for every timestep: the second axis only happens to be as long as T.
            found = [(one, _event(one, tape, steps, batch, "s")) for one, _ in found]
        module = owner(modules, module)[0]
        for members in _layers(found, tape, steps, kind):
            op = members[0][0].op
            place = f"module {module!r}" if module else "forward"
            label = {"max_pool": module or "pool", "product": f"{module}.and".strip("."),
                     "neuron": module or "neuron"}[kind]
            line = f" at {op.line}" if op.line else ""
            cuts.append(Cut(label, kind, f"{place} ({name}{line})",
                            tuple(event for _, event in members), node=op))
    return _named(cuts)


def owner(modules: Mapping[str, tuple[str, str]], path: str) -> tuple[str, str]:
    """(path, class) of the module that an operation belongs to: not the surrogate in a neuron."""
    kind, package = modules.get(path, ("", ""))
    while path and package.startswith("spikingjelly.activation_based.surrogate"):
        path = path.rpartition(".")[0]
        kind, package = modules.get(path, ("", ""))
    return path, kind


def _once(seen: list[Seen], tape: Tape) -> list[Seen]:
    """Without comparisons that repeat an earlier one, or its contrary: on equal values, or on its
    spikes, as in `where(spikes > 0, reset, membrane)`."""
    kept: list[Seen] = []
    spikes: dict[int, tuple[Seen, bool]] = {}       # of comparisons; whether they are inverted
    for one in seen:
        if WATCHED[one.op.name] == "neuron":
            first, inverted = _repeated(one, kept, spikes, tape)
            spikes[one.index] = first or one, inverted
            if first is not None:
                (first.opposite if inverted else first.same).append(one.index)
                continue
        kept.append(one)
    return kept


def _repeated(one: Seen, kept: list[Seen], spikes: Mapping[int, tuple[Seen, bool]],
              tape: Tape) -> tuple[Seen | None, bool]:
    """The comparison that this one repeats, and whether it is its contrary."""
    level, sign, strict = threshold(one.op, tape)
    value = one.at_call[0]
    for first in kept:
        if WATCHED[first.op.name] == "neuron" and torch.equal(first.at_call[0], value):
            other, *rule = threshold(first.op, tape)
            if _level(other, level) and rule in ([sign, strict], [-sign, not strict]):
                return first, rule[0] != sign
    found = tape.needed(compared(one.op, tape), frozenset(spikes), one.index)
    ends = [i for i in found if i in spikes]
    between = {tape.ops[i].name for i in found} - {tape.ops[i].name for i in ends}
    if len(ends) != 1 or not between <= SAME_VALUES or level is None or (
            tape.tensor(ends[0]).shape != tape.tensor(one.index).shape):
        return None, False
    off, on = ((sign * v > sign * level) if strict else (sign * v >= sign * level)
               for v in torch.tensor([0.0, 1.0], dtype=torch.float64))
    first, inverted = spikes[ends[0]]
    return (first, inverted ^ bool(off.all())) if bool((off != on).all()) and bool(
        (off == off.flatten()[0]).all()) else (None, False)


def _level(first: Tensor | None, second: Tensor | None) -> bool:
    return first is not None and second is not None and torch.equal(first, second)


def compared(op: Op, tape: Tape) -> int:
    """The value that a comparison compares with its threshold."""
    return next(v for v in op.reads if tape.dynamic(v))


def threshold(op: Op, tape: Tape) -> tuple[Tensor | None, float, bool]:
    """(threshold, sign, strict) of a comparison that is true where sign x value is above sign x
    threshold (not strict: or equal to it); no threshold where both sides depend on the input."""
    sign, strict = (1.0 if op.name in ("ge", "gt") else -1.0), op.name in ("gt", "lt")
    first, second = op.args[:2]
    if isinstance(second, Ref) and tape.dynamic(second.value):
        if tape.dynamic(first.value):
            return None, sign, strict
        first, second, sign = second, first, -sign
    level = tape.values[second.value].tensor if isinstance(second, Ref) else second
    return torch.as_tensor(level, dtype=torch.float64), sign, strict


def _event(one: Seen, tape: Tape, steps: int, batch: int, order: str) -> Event | None:
    op = one.op
    dynamic = [v for v in op.reads if tape.dynamic(v)]
    if WATCHED[op.name] == "product" and len(dynamic) < 2:
        return None
    made = tape.tensor(one.index)
    second = None
    if WATCHED[op.name] == "product":
        first, second = dynamic[0], dynamic[1]
        seen = axes = Axes.of(made.shape, steps, batch, order)
    else:
        first = dynamic[0]
        seen = Axes.of(tape.values[first].tensor.shape, steps, batch, order)
        axes = Axes.of(made.shape, steps, batch, order)
    if seen is None or axes is None:
        return None
    return Event(first, one.index, one.index, seen, axes, second, tuple(one.same),
                 tuple(one.opposite))


def _told_apart(event: Event, tape: Tape, marked: Mapping[int, Axes]) -> Event:
    """Time and batch share the first axis: in the order in which it follows the first sample."""
    generator = torch.Generator().manual_seed(0)
    seen = []
    for change in (False, True):
        given = {}
        for i, axes in marked.items():
            values = axes.split(torch.rand(axes.raw, generator=generator.manual_seed(i),
                                           dtype=torch.float64)).clone()
            if change:
                values[:, 0] += 1 + values[:, 0]
            given[i] = axes.join(values)
        seen.append(tape.replay(event.operand, given, event.before).double())
    rows = (seen[0] != seen[1]).flatten(1).any(1).nonzero().flatten()
    if len(rows) and int(rows.max()) < event.seen.steps:
        return replace(event, seen=replace(event.seen, kind="bt"),
                       made=replace(event.made, kind="bt"))
    return event


def _layers(found: list[tuple[Seen, Event]], tape: Tape, steps: int, kind: str,
            ) -> Iterator[list[tuple[Seen, Event]]]:
    """Executions of one place in the code, by layer."""
    each = found[0][1].seen.steps
    if each > 1 or steps == 1 or len(found) % steps:
        yield from ([one] for one in found)
        return
    count = len(found) // steps
    if count > 1 and not _step_by_step(found, tape, count, kind):
        yield from (found[i:i + steps] for i in range(0, len(found), steps))
        return
    yield from (found[i::count] for i in range(count))


def _step_by_step(found: list[tuple[Seen, Event]], tape: Tape, count: int, kind: str) -> bool:
    """All layers of a timestep run before the next timestep; else all timesteps of a layer."""
    if kind == "neuron":        # layer 1 at its second timestep does not see the last layer
        event, other, stops = found[count][1], found[count - 1][1], {e.output for _, e in found}
    else:                       # layer 2 sees layer 1; a layer does not see its earlier timestep
        event, other, stops = found[1][1], found[0][1], set()
    seen = other.output in tape.needed(event.operand, frozenset(stops - {event.output}),
                                       event.before)
    return seen != (kind == "neuron")


def _named(cuts: list[Cut]) -> list[Cut]:
    counts: dict[str, int] = {}
    for cut in cuts:
        counts[cut.name] = counts.get(cut.name, 0) + 1
        if counts[cut.name] > 1:
            object.__setattr__(cut, "name", f"{cut.name}.{counts[cut.name]}")
    return cuts
