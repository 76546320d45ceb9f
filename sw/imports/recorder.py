"""Running a module once, with its neurons as leaves, to a `Recording`.

Recorded are the operations PyTorch executes (`sw.imports.tape`). A neuron that states its rule and
keeps it (`sw.imports.neurons.stated_rule`) is a leaf: its forward runs outside the recording. A
gate (`sw.nets.token_gate.TokenGate`) is a leaf, too.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from spikingjelly.activation_based import base
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_flatten

from ..errors import SpikeTicketError
from ..nets.token_gate import TokenGate
from .grouping import COMPARISONS, EQUALITIES, WATCHED, Seen, compared, operations
from .neurons import Rule, is_neuron, stated_rule
from .recording import Axes, Cut, Event, Recording
from .tape import Op, Tape, float64, lines

ENTRIES = ("forward", "single_step_forward", "multi_step_forward", "zero")
"""Methods of a neuron or gate that others call."""


@torch.no_grad()
def record(model: nn.Module, feed: Callable[[Tensor], list[Tensor]], x: Tensor, steps: int,
           order: str) -> Recording:
    """Record `model`, a float64 copy in evaluation mode whose neurons are at rest and whose
    parameters have no gradients.

    x: an input [T or 1, B, *dims]; feed: makes the module's raw inputs of it, one for every call.
    steps: T. order: as in `sw.imports.recording.Axes.of`.
    Raises SpikeTicketError where the module cannot be one network of this form.
    """
    batch, seen = x.shape[1], []
    tape = Tape(lambda op: _watch(seen, tape, op))
    leaves = _Leaves(model, tape, steps, batch)
    marks, outputs, made = [], [], []
    with leaves.placed(), torch.random.fork_rng(devices=[]), float64():
        for raw in feed(x):
            raw = raw.clone()
            marks.append(tape.mark(raw))
            with tape:
                out = one_tensor(model(raw), model)
            outputs.append((tape.value(out), len(tape.ops)))
            made.append(out.double())
    marked = {c.event.output: c.event.made for c in leaves.calls}
    neurons = frozenset(c.event.output for c in leaves.calls if c.leaf.rule is not None)
    for mark in marks:
        axes = Axes.of(tape.tensor(mark).shape, steps, batch, order)
        marked[mark] = axes
    modules = {path: (type(m).__name__, type(m).__module__) for path, m in model.named_modules()}
    cuts = [*leaves.cuts(), *operations(seen, tape, steps, batch, order, marked, neurons,
                                        modules)]
    cuts.sort(key=lambda cut: cut.events[0].before)
    at_call = {**leaves.at_call, **{one.index: one.at_call for one in seen if one.at_call}}
    operands, spikes = ({cut.name: torch.cat([axes(e).split(at_call[e.output][which].double())
                                              for e in cut.events])
                         for cut in cuts if cut.kind == "neuron"}
                        for which, axes in enumerate((lambda e: e.seen, lambda e: e.made)))
    tape.release()
    return Recording(tape, steps, batch, tuple(cuts), feed, tuple(marks), len(x),
                     tuple(x.shape[2:]), tuple(outputs), spikes, operands,
                     made[0] if len(made) == 1 else torch.stack(made),
                     modules, leaves.unkept())


def one_tensor(out: object, model: nn.Module) -> Tensor:
    """The module's one output, which may come in a tuple with None and the like; raises
    SpikeTicketError for anything else."""
    tensors = [leaf for leaf in tree_flatten(out)[0] if isinstance(leaf, Tensor)]
    if len(tensors) == 1:
        return tensors[0]
    raise SpikeTicketError(f"{type(model).__name__}: forward returns a {type(out).__name__} of "
                           f"{len(tensors)} tensors; return one, the output by class")


def where(path: str, module: nn.Module) -> str:
    """A module in a message."""
    return f"module {path!r} ({type(module).__name__})" if path else type(module).__name__


def _watch(seen: list[Seen], tape: Tape, op: Op) -> None:
    if op.name in (*COMPARISONS, *EQUALITIES):
        index, operand = len(tape.ops) - 1, tape.values[compared(op, tape)].tensor
        at_call = operand.clone(), tape.tensor(index).clone()
        seen.append(Seen(index, op, lines(), at_call=at_call))
    elif op.name in WATCHED:
        seen.append(Seen(len(tape.ops) - 1, op, lines()))


@contextmanager
def paths(model: nn.Module, tape: Tape) -> Iterator[None]:
    """With the path of the running module known to the tape."""
    hooks = []

    def leave(*_: object) -> None:
        tape.path.pop()
    for path, module in model.named_modules():
        hooks.append(module.register_forward_pre_hook(
            lambda _m, _a, path=path: tape.path.append(path), prepend=True))
        hooks.append(module.register_forward_hook(leave, always_call=True))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@dataclass(eq=False)
class _Leaf:
    path: str
    module: nn.Module
    twin: nn.Module
    rule: Rule | None = None
    is_leaf: bool | None = None


@dataclass(frozen=True, eq=False)
class _Call:
    """fresh: the neuron was at rest."""

    leaf: _Leaf
    event: Event
    fresh: bool


class _Leaves:
    """The neurons and gates of a module while it is recorded, and their calls. at_call: what each
    saw and made, by the operation that marks it; both may be changed in place later."""

    def __init__(self, model: nn.Module, tape: Tape, steps: int, batch: int):
        self.model, self.tape, self.steps, self.batch = model, tape, steps, batch
        self.calls: list[_Call] = []
        self.at_call: dict[int, tuple[Tensor, Tensor]] = {}
        self.leaves = [_Leaf(path, m, copy.deepcopy(m)) for path, m in model.named_modules()
                       if is_neuron(m) or isinstance(m, TokenGate)]

    @contextmanager
    def placed(self) -> Iterator[None]:
        """With the leaves' methods replaced."""
        replaced = []
        for leaf in self.leaves:
            for entry in ENTRIES:
                method = getattr(leaf.module, entry, None)
                if method is not None:
                    replaced.append((leaf.module, entry, leaf.module.__dict__.get(entry)))
                    leaf.module.__dict__[entry] = self._entry(leaf, entry, method)
        try:
            with paths(self.model, self.tape):
                yield
        finally:
            for module, entry, before in replaced:
                del module.__dict__[entry]
                if before is not None:
                    module.__dict__[entry] = before

    def _entry(self, leaf: _Leaf, entry: str, method: Callable) -> Callable:
        def call(*args, **kwargs):
            first = args[0] if args else None
            if not isinstance(first, Tensor) or len(args) > 1 or kwargs or leaf.is_leaf is False:
                return method(*args, **kwargs)
            with _disable_current_modes():
                fresh, axes = at_rest(leaf.module), self._axes(leaf, entry, first)
                if leaf.is_leaf is None:
                    self._decide(leaf, axes)
                if leaf.is_leaf:
                    operand, before = self.tape.value(first), len(self.tape.ops)
                    # The method calls others of its entries, which are no calls of their own.
                    leaf.is_leaf = False
                    out = method(first.double()).clone()
                    leaf.is_leaf = True
                    made = replace(axes, raw=tuple(out.shape))
                    event = Event(operand, before, self.tape.mark(out), axes, made)
                    self.at_call[event.output] = first.clone(), out.clone()
                    self.calls.append(_Call(leaf, event, fresh))
                    return out
            return method(first)
        return call

    def _axes(self, leaf: _Leaf, entry: str, x: Tensor) -> Axes | None:
        mode = {"single_step_forward": "s", "multi_step_forward": "m"}.get(
            entry, getattr(leaf.module, "step_mode", "m"))
        place = 1 if mode == "m" else 0
        if x.dim() <= place or x.shape[place] % self.batch:
            return None
        return Axes(mode, tuple(x.shape), self.batch, x.shape[0] if place else 1)

    def _decide(self, leaf: _Leaf, axes: Axes | None) -> None:
        """Whether the module keeps the rule that it states."""
        if isinstance(leaf.module, TokenGate):
            leaf.is_leaf = True
            if leaf.module.mode == "host":
                leaf.module.host = torch.arange(leaf.module.keep)[None]
        elif axes is None:
            leaf.is_leaf = False
        else:
            shape = axes.raw if axes.kind == "s" else axes.raw[1:]
            leaf.rule = stated_rule(leaf.twin, shape, where(leaf.path, leaf.module))
            leaf.is_leaf = leaf.rule is not None

    def unkept(self) -> tuple[str, ...]:
        """Neurons that fire or reset in another way than their numbers say."""
        return tuple(where(leaf.path, leaf.module) for leaf in self.leaves if leaf.is_leaf is False)

    def cuts(self) -> list[Cut]:
        found, runs = [], {}
        for call in self.calls:
            mine = runs.setdefault(call.leaf.path, [])
            if call.fresh or not mine:
                mine.append([])
            mine[-1].append(call)
        for path, uses in runs.items():
            for i, calls in enumerate(uses, 1):
                found.append(self._cut(path if i == 1 else f"{path}.{i}", calls))
        return found

    def _cut(self, name: str, calls: list[_Call]) -> Cut:
        leaf, place = calls[0].leaf, where(calls[0].leaf.path, calls[0].leaf.module)
        kind = "gate" if isinstance(leaf.module, TokenGate) else "neuron"
        cut = Cut(name, kind, place, tuple(c.event for c in calls), leaf.module, rule=leaf.rule)
        if kind == "neuron" and cut.steps != self.steps:
            more = cut.steps // self.steps
            raise SpikeTicketError(
                f"{place} is called {more} times in one timestep, so its membrane goes on from one "
                "map to the next; give every use a neuron of its own" if more > 1 else
                f"{place} runs for {cut.steps} timesteps, the network for {self.steps}")
        return cut


def at_rest(module: nn.Module) -> bool:
    """No neuron has made its membrane a tensor yet."""
    return not (isinstance(module, base.MemoryModule) and any(
        isinstance(value, Tensor) for value in module.memories()))
