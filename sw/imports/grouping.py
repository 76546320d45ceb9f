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
EQUALITIES = ("eq", "ne")       # cuts in no case, but spikes where they compare spikes
MOVES = {"_to_copy", "view", "_unsafe_view", "_reshape_alias", "alias", "clone", "detach", "select",
         "slice", "unbind", "split", "split_with_sizes", "permute", "transpose", "t", "expand",
         "repeat", "unsqueeze", "squeeze", "flip", "roll", "unfold", "index", "index_select",
         "cat", "stack", "constant_pad_nd"}
"""Operations whose results are values of their operands, wherever they lie."""

WATCHED = {**dict.fromkeys(POOLS, "max_pool"), **dict.fromkeys(PRODUCTS, "product"),
           **dict.fromkeys(COMPARISONS, "neuron"), **dict.fromkeys(EQUALITIES, "equality")}


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
               marked: Mapping[int, Axes], neurons: frozenset[int],
               modules: Mapping[str, tuple[str, str]]) -> list[Cut]:
    """The cuts among these operations.

    order: as in `Axes.of`. marked: axes of the input and of what leaves made, by operation;
    neurons: the operations among them that are spikes. modules: class and package by path.
    """
    groups: dict[tuple, list[tuple[Seen, Event]]] = {}
    for one in _once(seen, tape, neurons):
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


def _once(seen: list[Seen], tape: Tape, neurons: frozenset[int]) -> list[Seen]:
    """Without comparisons of spikes, as in `where(spikes > 0, reset, membrane)`, and without those
    that repeat an earlier one, or its contrary, on equal values."""
    kept: list[Seen] = []
    spikes = set(neurons)
    for one in seen:
        kind = WATCHED[one.op.name]
        if kind in ("neuron", "equality"):
            if _passes_on(one, spikes, tape):
                spikes.add(one.index)
                continue
            if kind == "equality":
                continue
            spikes.add(one.index)
            first, inverted = _repeated(one, kept, tape)
            if first is not None:
                (first.opposite if inverted else first.same).append(one.index)
                continue
        kept.append(one)
    return kept


def _passes_on(one: Seen, spikes: set[int], tape: Tape) -> bool:
    """Whether it compares spikes, moved at most, with what lies between 0 and 1. It is one of these
    spikes or its contrary then, and replays, which have to differentiate it, take it for that."""
    operand, value = compared(one.op, tape), one.at_call[0]
    found = set(tape.needed(operand, frozenset(spikes), one.index))
    if sum(tape.dynamic(v) for v in one.op.reads) > 1 or not (
            {tape.ops[i].name for i in found - spikes} <= MOVES) or not bool(
            ((value == 0) | (value == 1)).all()):
        return False
    off, on = (one.op.function(*(
        value.new_tensor(v) if a == Ref(operand) else
        tape.values[a.value].tensor if isinstance(a, Ref) else a for a in one.op.args[:2]))
        for v in (0, 1))
    inverted = bool(off.flatten()[0])
    if bool((off != inverted).any()) or bool((on == inverted).any()):
        return False
    one.op.replaced(torch.ops.aten.logical_not.default if inverted else
                    torch.ops.aten.clone.default, operand)
    return True


def _repeated(one: Seen, kept: list[Seen], tape: Tape) -> tuple[Seen | None, bool]:
    """The comparison that this one repeats, and whether it is its contrary."""
    level, sign, strict = threshold(one.op, tape)
    for first in kept:
        if WATCHED[first.op.name] == "neuron" and torch.equal(first.at_call[0], one.at_call[0]):
            other, *rule = threshold(first.op, tape)
            if _level(other, level) and rule in ([sign, strict], [-sign, not strict]):
                return first, rule[0] != sign
    return None, False


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
