"""Operations that are cuts by themselves: pools of maxima, products, comparisons outside neurons.

A forward function that loops over time executes them once for every timestep; these executions
are one cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from .recording import Axes, Cut, Event
from .tape import Op, Ref, Tape

POOLS = ("max_pool2d_with_indices", "max_pool3d_with_indices", "adaptive_max_pool2d",
         "adaptive_max_pool3d", "amax", "max", "maximum")
PRODUCTS = ("mul", "mul_")
COMPARISONS = ("ge", "gt", "le", "lt")
WATCHED = {**dict.fromkeys(POOLS, "max_pool"), **dict.fromkeys(PRODUCTS, "product"),
           **dict.fromkeys(COMPARISONS, "neuron")}


@dataclass(frozen=True, eq=False)
class Seen:
    """An executed operation; lines: of the user's code that led to it."""

    index: int
    op: Op
    lines: tuple[str, ...]


def operations(seen: list[Seen], tape: Tape, steps: int, batch: int, order: str) -> list[Cut]:
    """The cuts among these operations; order: as in `Axes.of`."""
    groups: dict[tuple, list[tuple[Seen, Event]]] = {}
    for one in seen:
        kind, event = WATCHED[one.op.name], _event(one, tape, steps, batch, order)
        if event is not None:
            key = (kind, one.op.name, one.op.module, one.lines, event.seen)
            groups.setdefault(key, []).append((one, event))
    cuts = []
    for (kind, name, module, *_), found in groups.items():
        for members in _layers(found, tape, steps, kind):
            op = members[0][0].op
            place = f"module {module!r}" if module else "forward"
            label = f"{module}.{name}" if module else name
            line = f" at {op.line}" if op.line else ""
            cuts.append(Cut(label, kind, f"{place} ({name}{line})",
                            tuple(event for _, event in members), node=op))
    return _named(cuts)


def _event(one: Seen, tape: Tape, steps: int, batch: int, order: str) -> Event | None:
    op = one.op
    dynamic = [v for v in op.reads if tape.dynamic(v)]
    if WATCHED[op.name] == "product" and len(dynamic) < 2:
        return None
    made = tape.tensor(one.index)
    # A product is asked for its own value, the others for what they read.
    operand, before = (op.outputs[0], one.index + 1) if WATCHED[op.name] == "product" else (
        dynamic[0], one.index)
    seen = Axes.of(tape.values[operand].tensor.shape, steps, batch, order)
    axes = Axes.of(made.shape, steps, batch, order)
    if seen is None or axes is None:
        return None
    return Event(operand, before, one.index, seen, axes)


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


def argument(op: Op, tape: Tape, place: int) -> object:
    """An argument of a recorded operation; constants as tensors."""
    found = op.arguments[place]
    return tape.values[found.value].tensor if isinstance(found, Ref) else found


def is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)
