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

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..integer.network import INPUT
from .tape import Op, Tape


@dataclass(frozen=True)
class Axes:
    """Where time and batch lie in a raw value of `shape`.

    kind: "m" [T, B k, ...], "s" [B k, ...], "tb" [T B k, ...], "bt" [B, T, ...]; k positions, or
    1, lie behind a batch of B samples.
    """

    kind: str
    shape: tuple[int, ...]
    batch: int

    @classmethod
    def of(cls, shape: tuple[int, ...], steps: int, batch: int, order: str) -> Axes | None:
        """Those of a value of which nothing but its shape is known.

        order: of the module's input, "tb" (time first, or no time), "bt" (batch first) or "s" (one
        timestep per call). `batch_size` keeps batches apart from timesteps.
        """
        shape = tuple(shape)
        first, second = (*shape, 0, 0)[:2]
        if order != "s" and first in (steps, 1) and second and second % batch == 0:
            return cls("m", shape, batch)
        if order == "bt" and (first, second) == (batch, steps):
            return cls("bt", shape, batch)
        if order == "tb" and steps > 1 and first and first % (steps * batch) == 0:
            return cls("tb", (steps, first // steps, *shape[1:]), batch)
        if first and first % batch == 0:
            return cls("s", shape, batch)
        return None

    @property
    def steps(self) -> int:
        return {"s": 1, "bt": self.shape[1]}.get(self.kind, self.shape[0])

    @property
    def dims(self) -> tuple[int, ...]:
        """Behind time and batch."""
        behind = self.shape[1:] if self.kind == "s" else self.shape[2:]
        merged = self.shape[0 if self.kind in ("s", "bt") else 1] // self.batch
        return (merged, *behind) if merged > 1 else tuple(behind)

    def split(self, raw: Tensor) -> Tensor:
        """A raw value as [T, B, *dims]."""
        if self.kind == "bt":
            return raw.transpose(0, 1)
        return raw.reshape(self.steps, self.batch, *self.dims)

    def join(self, value: Tensor) -> Tensor:
        """[T, B, *dims] as the raw value."""
        if self.kind == "bt":
            return value.transpose(0, 1)
        shape = self.shape if self.kind != "tb" else (-1, *self.shape[2:])
        return value.reshape(shape)


def batch_size(steps: int) -> int:
    """A batch that no number of timesteps is a multiple of, for `Axes.of`."""
    return next(batch for batch in (3, 5, 7, 11) if steps % batch)


@dataclass(frozen=True)
class Event:
    """One time that a cut's operation ran. operand: value, as it was before operation `before`;
    output: the operation that made or marks the output; seen, made: axes of both."""

    operand: int
    before: int
    output: int
    seen: Axes
    made: Axes


@dataclass(frozen=True, eq=False)
class Cut:
    """A place in the network whose outputs identification gives.

    kind: "neuron", "max_pool", "product" or "gate". name: of its layer. where: for messages.
    module: of neurons and gates; node: the recorded operation of pools and products. dims, out:
    of operand and output behind [T, B]. rule: of a neuron, `sw.imports.neurons.Rule`.
    """

    name: str
    kind: str
    where: str
    events: tuple[Event, ...]
    module: nn.Module | None = None
    node: Op | None = None
    rule: object = None

    @property
    def steps(self) -> int:
        """Timesteps of its values: T, or 1 where they are the same at every one."""
        return sum(event.made.steps for event in self.events)

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
    [T, B]. outputs: (value, before) of every call. spikes, result: what the neurons made,
    [T, B, *dims], and the module, as `output` gives it.
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
    result: Tensor

    def cut(self, name: str) -> Cut:
        return next(cut for cut in self.cuts if cut.name == name)

    def operand(self, cut: Cut, given: Mapping[str, Tensor]) -> Tensor:
        """The cut's operand [T, B, *dims], from outputs [T or 1, B, *dims] of earlier cuts and the
        input by name. Missing maps are 0 everywhere; a missing product is computed."""
        values = self._given(given)
        seen = [event.seen.split(self.tape.replay(event.operand, values, event.before))
                for event in cut.events]
        return torch.cat(seen)

    def output(self, given: Mapping[str, Tensor]) -> Tensor:
        """What the module returns; of a module that is called every timestep, stacked [T, ...]."""
        values = self._given(given)
        made = [self.tape.replay(value, values, before) for value, before in self.outputs]
        return made[0] if len(made) == 1 else torch.stack(made)

    def sources(self, cut: Cut | None) -> tuple[str, ...]:
        """Names of the cuts, "input" among them, that a cut's operand (None: the output) depends
        on directly; products are looked through and named themselves, too."""
        ends = (self.outputs if cut is None
                else [(event.operand, event.before) for event in cut.events])
        stops = frozenset(e.output for c in self.cuts if c.kind != "product" for e in c.events)
        found = {i for value, before in ends for i in self.tape.needed(value, stops, before)}
        names = [c.name for c in self.cuts if any(e.output in found for e in c.events)]
        return ((INPUT,) if found & set(self.marks) else ()) + tuple(names)

    def operations(self, cut: Cut | None) -> list[Op]:
        """The operations between a cut (None: the output) and the cuts before it."""
        ends = (self.outputs if cut is None
                else [(event.operand, event.before) for event in cut.events])
        stops = frozenset(e.output for c in self.cuts for e in c.events)
        found = {i for value, before in ends for i in self.tape.needed(value, stops, before)}
        return [self.tape.ops[i] for i in sorted(found - stops) if i not in self.marks]

    def _given(self, given: Mapping[str, Tensor]) -> dict[int, Tensor]:
        """Raw values by operation."""
        zero = torch.zeros((), dtype=torch.float64)
        values: dict[int, Tensor] = {}
        x = given.get(INPUT)
        if x is None:
            x = zero.expand(self.input_steps, self.batch, *self.dims)
        values.update(zip(self.marks, self.feed(x), strict=True))
        for cut in self.cuts:
            value = given.get(cut.name)
            if value is None and cut.kind == "product":
                continue
            if value is None:
                value = zero.expand(cut.steps, self.batch, *cut.out)
            if len(value) == 1:
                value = value.expand(cut.steps, *value.shape[1:])
            parts = value.split([event.made.steps for event in cut.events])
            values.update((event.output, event.made.join(part))
                          for event, part in zip(cut.events, parts, strict=True))
        return values
