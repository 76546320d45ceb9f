"""A module's run on an example input, between its neurons: what reader and identification ask.

Neurons and gates are leaves ("cuts"): their operands and outputs are known, what happens in them
is not recorded. Pools of maxima and products of two values that depend on the input are cuts, too.
`Recording.operand` answers what a cut would see if earlier cuts had made other values, which is
all that identification needs: the module's own operations between cuts are run again.

All values that cross this interface are [T, B, *dims], whatever the module does with its axes: a
neuron that is called T times is stacked over its calls, a batch merged with time or with
positions is split.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..integer.network import INPUT
from .neurons import NEAR
from .tape import Op, Tape

if TYPE_CHECKING:
    from .inline import Written
    from .neurons import Rule


@dataclass(frozen=True)
class Axes:
    """Where time and batch lie in a raw value.

    kind: "m" [T, B k, ...], "s" [B k, ...], "tb" [T B k, ...], "bt" [B, T, ...] or [B T, ...]; k
    positions, or 1, lie behind a batch of B samples. raw: the value's shape.
    """

    kind: str
    raw: tuple[int, ...]
    batch: int
    steps: int

    @classmethod
    def of(cls, shape: tuple[int, ...], steps: int, batch: int, order: str) -> Axes | None:
        """Those of a value of which nothing but its shape is known.

        order: of the module's input, "tb" (time first, or no time), "bt" (batch first) or "s" (one
        timestep per call). `batch_size` keeps batches apart from timesteps.
        """
        shape = tuple(shape)
        first, second = (*shape, 0, 0)[:2]
        if order != "s" and first in (steps, 1) and second and second % batch == 0:
            return cls("m", shape, batch, first)
        if order == "bt" and (first, second) == (batch, steps):
            return cls("bt", shape, batch, steps)
        if order != "s" and steps > 1 and first and first % (steps * batch) == 0:
            return cls("tb", shape, batch, steps)
        if first and first % batch == 0:
            return cls("s", shape, batch, 1)
        return None

    @property
    def _merged(self) -> bool:
        """Batch and time share an axis."""
        return self.kind in ("s", "tb") or (self.kind == "bt" and self.raw[0] > self.batch)

    @property
    def dims(self) -> tuple[int, ...]:
        """Behind time and batch."""
        behind = self.raw[1:] if self._merged else self.raw[2:]
        first = math.prod(self.raw[:len(self.raw) - len(behind)])
        positions = first // (self.steps * self.batch)
        return (positions, *behind) if positions > 1 else behind

    def split(self, raw: Tensor) -> Tensor:
        """A raw value as [T, B, *dims]."""
        if self.kind == "bt":
            return raw.reshape(self.batch, self.steps, *self.dims).transpose(0, 1)
        return raw.reshape(self.steps, self.batch, *self.dims)

    def alone(self, module: nn.Module, currents: Tensor) -> Tensor:
        """Spikes of a copy of a neuron module, from rest, on currents [T, B, *dims]."""
        module = copy.deepcopy(module)
        if hasattr(module, "reset"):
            module.reset()
        if self.kind == "s":
            steps = [module(self.join(c[None])) for c in currents]
            return torch.cat([self.split(s.double()) for s in steps])
        return replace(self, raw=(len(currents), *self.raw[1:]), steps=len(currents)).split(
            module(currents.reshape(len(currents), *self.raw[1:])).double())

    def join(self, value: Tensor) -> Tensor:
        """[T, B, *dims] as the raw value."""
        if self.kind == "bt":
            value = value.transpose(0, 1)
        return value.reshape(self.raw)


def batch_size(steps: int) -> int:
    """A batch that no number of timesteps is a multiple of, for `Axes.of`."""
    return next(batch for batch in (3, 5, 7, 11) if steps % batch)


@dataclass(frozen=True)
class Event:
    """One time that a cut's operation ran. operand: value, as it was before operation `before`;
    output: the operation that made or marks the output; seen, made: axes of both. second: the
    other factor of a product, whose operands have any axes that broadcast to the output's. same,
    opposite: comparisons that repeat this one, or its contrary."""

    operand: int
    before: int
    output: int
    seen: Axes
    made: Axes
    second: int | None = None
    same: tuple[int, ...] = ()
    opposite: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Cut:
    """A place in the network whose outputs identification gives.

    kind: "neuron", "max_pool", "product" or "gate". name: of its layer. where: for messages.
    module: of neurons and gates; node: the recorded operation of pools and products. dims, out:
    of operand and output behind [T, B]. rule: of a neuron. written: of one
    that is a comparison in a forward function, `sw.imports.inline`.
    """

    name: str
    kind: str
    where: str
    events: tuple[Event, ...]
    module: nn.Module | None = None
    node: Op | None = None
    rule: Rule | None = None
    written: Written | None = None

    @property
    def steps(self) -> int:
        """Timesteps of its values: T, or 1 where they are the same at every one."""
        return sum(event.made.steps for event in self.events)

    def doubtful(self, operand: Tensor) -> Tensor:
        """bool [T, B, *dims]: a neuron's membrane met its threshold but for rounding, or did so
        earlier, when it saw this."""
        if self.written is None:
            return self.rule.run(operand)[1]
        near = (operand - self.written.level).abs() <= NEAR * self.rule.theta
        return near.cummax(0).values

    @property
    def dims(self) -> tuple[int, ...]:
        return self.events[0].seen.dims

    @property
    def out(self) -> tuple[int, ...]:
        return self.events[0].made.dims


@dataclass(eq=False)
class Recording:
    """See the module's text.

    steps: timesteps of the run. feed: raw inputs, one for every call of the module, of an input
    [T or 1, B, *dims]; marks: the operations that stand for them. dims: of the input, behind
    [T, B]. outputs: (value, before) of every call. spikes, operands, result: what the
    neurons made and saw, [T, B, *dims], and what the module made, as `output` gives it.
    modules: class and package by path.
    """

    tape: Tape
    steps: int
    batch: int
    cuts: tuple[Cut, ...]
    feed: Callable[[Tensor], list[Tensor]]
    marks: tuple[int, ...]
    input_steps: int
    dims: tuple[int, ...]
    outputs: tuple[tuple[int, int], ...]
    spikes: dict[str, Tensor]
    operands: dict[str, Tensor]
    result: Tensor
    modules: dict[str, tuple[str, str]]
    unkept: tuple[str, ...] = ()

    def cut(self, name: str) -> Cut:
        return next(cut for cut in self.cuts if cut.name == name)

    def operand(self, cut: Cut, given: Mapping[str, Tensor], through: bool = False) -> Tensor:
        """The cut's operand [T, B, *dims], from outputs [T or 1, B, *dims] of earlier cuts and the
        input by name. Missing maps are 0 everywhere; a missing product is computed. through:
        missing pools, too."""
        if cut.written is not None:
            return cut.written.current(self, cut, given, through)
        return self.seen(cut, given, through)

    def seen(self, cut: Cut, given: Mapping[str, Tensor], through: bool = False) -> Tensor:
        """What the cut's operation reads; of a comparison, its operand instead of a current."""
        values = self._given(given, ("product", "max_pool") if through else ("product",))
        seen = [event.seen.split(self.tape.replay(event.operand, values, event.before))
                for event in cut.events]
        return torch.cat(seen)

    def factor(self, cut: Cut, given: Mapping[str, Tensor], second: bool) -> Tensor:
        """A factor of a product, broadcast to the product [T, B, *out]."""
        values, seen = self._given(given), []
        for event in cut.events:
            operand = event.second if second else event.operand
            made = self.tape.replay(operand, values, event.before).double()
            seen.append(event.made.split(made.expand(event.made.raw)))
        return torch.cat(seen)

    def output(self, given: Mapping[str, Tensor]) -> Tensor:
        """What the module returns; of a module that is called every timestep, stacked [T, ...]."""
        values = self._given(given)
        made = [self.tape.replay(value, values, before) for value, before in self.outputs]
        return made[0] if len(made) == 1 else torch.stack(made)

    def sources(self, cut: Cut | None) -> tuple[str, ...]:
        """Names of the cuts, "input" among them, that a cut's operand (None: the output) depends
        on directly; products are looked through and named themselves, too."""
        ends = self._ends(cut)
        stops = frozenset(i for c in self.cuts if c.kind != "product" for e in c.events
                          for i in (e.output, *e.same, *e.opposite))
        found = {i for value, before in ends for i in self.tape.needed(value, stops, before)}
        names = [c.name for c in self.cuts if any(
            i in found for e in c.events for i in (e.output, *e.same, *e.opposite))]
        return ((INPUT,) if found & set(self.marks) else ()) + tuple(names)

    def operations(self, cut: Cut | None) -> list[Op]:
        """The operations between a cut (None: the output) and the cuts before it."""
        ends = self._ends(cut)
        stops = frozenset(i for c in self.cuts for e in c.events
                          for i in (e.output, *e.same, *e.opposite))
        found = {i for value, before in ends for i in self.tape.needed(value, stops, before)}
        return [self.tape.ops[i] for i in sorted(found - stops) if i not in self.marks]

    def _ends(self, cut: Cut | None) -> list[tuple[int, int]]:
        """(value, before) of everything that a cut, or the output, reads."""
        if cut is None:
            return list(self.outputs)
        return [(value, e.before) for e in cut.events for value in (e.operand, e.second)
                if value is not None]

    def _given(self, given: Mapping[str, Tensor], through: tuple[str, ...] = ("product",),
               ) -> dict[int, Tensor]:
        """Raw values by operation."""
        zero = torch.zeros((), dtype=torch.float64)
        values: dict[int, Tensor] = {}
        x = given.get(INPUT)
        if x is None:
            x = zero.expand(self.input_steps, self.batch, *self.dims)
        values.update(zip(self.marks, self.feed(x), strict=True))
        for cut in self.cuts:
            value = given.get(cut.name)
            if value is None and cut.kind in through:
                continue
            if value is None:
                value = zero.expand(cut.steps, self.batch, *cut.out)
            if len(value) == 1:
                value = value.expand(cut.steps, *value.shape[1:])
            parts = value.split([event.made.steps for event in cut.events])
            for event, part in zip(cut.events, parts, strict=True):
                values[event.output] = made = event.made.join(part)
                values.update(dict.fromkeys(event.same, made))
                values.update((i, 1 - made) for i in event.opposite)
        return values
