"""What a module does to values, as a list of operations that can be run again with other values.

`Tape` is a dispatch mode: while it is active, every operation that PyTorch executes is written
down below autograd, below containers, parametrisations, hooks and Python's control flow, with its
concrete shapes. All floats become float64. `Tape.replay` runs the operations again that a value
depends on, with other values for the marked ones, differentiably.

Views and writes in place are executed as they were: an operation is needed for a value if it wrote
to a storage that is needed. Operations on constants alone keep their recorded results, except into
a storage that something writes to later, which every replay makes anew.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from . import logic

FLOATS = (torch.float16, torch.bfloat16, torch.float32)
SHAPES_ONLY = {"zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones",
               "new_full", "new_empty", "new_empty_strided"}
"""Operations that look at their argument's shape only."""

LIBRARIES = ("torch", "spikingjelly", "snntorch", "norse", "contextlib", "importlib")
"""Packages whose lines say nothing about where in a user's code an operation is."""


@dataclass(frozen=True)
class Ref:
    """A recorded value among an operation's arguments."""

    value: int


@dataclass(eq=False)
class Op:
    """An executed operation; a mark (function None) stands for a value that comes from outside.

    arguments: flat, values as `Ref`. reads, outputs: values; writes: storages. dynamic: it depends
    on a mark. whole: some argument held booleans or integers. module: path of the module it ran in;
    line: of the user's code that called it.
    """

    function: Callable | None
    arguments: list
    spec: object
    reads: list[int]
    outputs: list[int | None]
    writes: set[int]
    dynamic: bool
    whole: bool = False
    module: str = ""
    line: str = ""

    def replaced(self, function: Callable, value: int) -> None:
        """Let replays run another operation, of this one value, instead."""
        self.function, self.reads, self.whole = function, [value], True
        self.arguments, self.spec = tree_flatten(((Ref(value),), {}))

    @property
    def args(self) -> tuple:
        """Positional arguments, values as `Ref`."""
        return tree_unflatten(self.arguments, self.spec)[0]

    @property
    def name(self) -> str:
        """The operation's name, such as "mul"."""
        return "" if self.function is None else self.function._schema.name.split("::")[1]


@dataclass
class _Value:
    tensor: Tensor | None
    storage: int


class Tape(TorchDispatchMode):
    """Records while active. watch(op) is called after every operation on marked values."""

    def __init__(self, watch: Callable[[Op], None] | None = None):
        super().__init__()
        self.ops: list[Op] = []
        self.values: list[_Value] = []
        self.path: list[str] = []
        self.reads_values: list[Op] = []
        self.random: list[Op] = []
        self._ids: dict[int, int] = {}
        self._dynamic: set[int] = set()
        self._written: set[int] = set()
        self._made: set[int] = set()
        self._external: dict[int, torch.UntypedStorage] = {}
        self._slices: dict[tuple[int, int, frozenset[int]], list[int]] = {}
        self._watch = watch

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """PyTorch's hook. It would import its compiler, for seconds, to keep that out of here;
        `sw.imports.inputs.prepared` takes compiled modules apart instead."""
        return False

    # Recording

    def mark(self, tensor: Tensor) -> int:
        """Begin with a value that replays give: the input, or what a neuron made. Returns the
        number of the operation that stands for it."""
        value = self._value(tensor)
        op = Op(None, [], None, [], [value], {self.values[value].storage}, True, module=self.module)
        self._append(op)
        return len(self.ops) - 1

    def tensor(self, operation: int) -> Tensor:
        """The first output of an operation as recorded, before `release`."""
        return self.values[self.ops[operation].outputs[0]].tensor

    @property
    def module(self) -> str:
        return self.path[-1] if self.path else ""

    def value(self, tensor: Tensor) -> int:
        """The number of a recorded tensor."""
        return self._value(tensor)

    def dynamic(self, value: int) -> bool:
        return self.values[value].storage in self._dynamic

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name, changed = func._schema.name.split("::")[1], []
        if func._schema.is_mutable:
            changed = _changed(func, args, kwargs or {})
        else:
            args, kwargs = tree_map(_double, (args, kwargs or {}))
        kwargs = kwargs or {}
        flat, spec = tree_flatten((args, kwargs))
        if name in SHAPES_ONLY:
            flat = [torch.empty_like(a) if isinstance(a, Tensor) else a for a in flat]
        reads = [self._value(a) for a in flat if isinstance(a, Tensor)]
        dynamic = any(self.dynamic(v) for v in reads)
        for tensor in changed:
            self._keep_before(self._value(tensor))
        out = func(*args, **kwargs)
        made = [t for t in tree_flatten(out)[0] if isinstance(t, Tensor)]
        outputs = [self._value(t) for t in made]
        writes = {self.values[v].storage for v in outputs}
        writes |= {self.values[self._value(t)].storage for t in changed}
        arguments = [Ref(self._value(a)) if isinstance(a, Tensor) else a for a in flat]
        op = Op(func, arguments, spec, reads, outputs, writes, dynamic, module=self.module)
        op.whole = any(isinstance(a, Tensor) and a.dtype in logic.WHOLE for a in flat)
        if dynamic:
            op.line = next(iter(lines()), "")
            if name in ("_local_scalar_dense", "nonzero", "equal", "is_nonzero"):
                self.reads_values.append(op)
        if torch.Tag.nondeterministic_seeded in func.tags:
            self.random.append(op)
        if changed:
            self._written |= writes
        self._append(op)
        if dynamic and self._watch is not None:
            self._watch(op)
        return out

    def _append(self, op: Op) -> None:
        self.ops.append(op)
        if op.dynamic:
            self._dynamic |= op.writes
        self._made |= op.writes

    def _value(self, tensor: Tensor) -> int:
        # Tensors are kept, so that neither ids nor storages are used again.
        key = id(tensor)
        if key not in self._ids:
            storage = tensor.untyped_storage()._cdata
            self._ids[key] = self._other_name(tensor, storage)
            self.values.append(_Value(tensor, storage))
        return self._ids[key]

    def _other_name(self, tensor: Tensor, storage: int) -> int:
        """The number of the same view, where `tensor` came about unseen, as x.data does."""
        if storage in self._made:
            for number in range(len(self.values) - 1, -1, -1):
                known = self.values[number]
                if known.storage == storage and _layout(known.tensor) == _layout(tensor):
                    return number
        return len(self.values)

    def _keep_before(self, value: int) -> None:
        """Keep what a storage from outside held before its first write."""
        storage = self.values[value].storage
        if storage not in self._made and storage not in self._external:
            self._external[storage] = self.values[value].tensor.untyped_storage().clone()

    # Replaying

    def release(self) -> None:
        """Recording is over: drop the values that replays make anew."""
        for value in self.values:
            if value.storage in self._fresh and value.storage in self._made:
                value.tensor = None
        self._ids.clear()

    @property
    def _fresh(self) -> set[int]:
        return self._dynamic | self._written

    def needed(self, value: int, stops: frozenset[int] = frozenset(), before: int | None = None,
               ) -> list[int]:
        """Operations that `value` depends on, in order, with the marks they begin at.

        stops: operations whose first output is given from outside. before: number of operations
        that were executed when the value was used.
        """
        before = len(self.ops) if before is None else before
        key = (value, before, stops)
        if key not in self._slices:
            fresh, found = self._fresh, []
            wanted = {self.values[value].storage} & fresh
            for i in range(before - 1, -1, -1):
                op = self.ops[i]
                if not op.writes & wanted:
                    continue
                found.append(i)
                if op.function is not None and i not in stops:
                    wanted |= {self.values[v].storage for v in op.reads} & fresh
            self._slices[key] = found[::-1]
        return self._slices[key]

    def replay(self, value: int, given: Mapping[int, Tensor], before: int | None = None) -> Tensor:
        """The value with other first outputs of some operations, by the operation's number.

        Every mark that the value depends on must be given, with its recorded shape.
        """
        run = _Replay(self, given)
        with float64():
            for i in self.needed(value, frozenset(given), before):
                run.step(i, self.ops[i])
        return run.value(value)


@dataclass
class _Replay:
    tape: Tape
    given: Mapping[int, Tensor]
    made: dict[int, Tensor] = field(default_factory=dict)
    copies: dict[int, torch.UntypedStorage] = field(default_factory=dict)

    def step(self, index: int, op: Op) -> None:
        if index in self.given:
            tensor = self.given[index]
            # What is written to later must not be the caller's.
            self.made[op.outputs[0]] = (tensor.clone() if op.writes & self.tape._written
                                        else tensor)
            return
        if op.function is None:
            raise KeyError(f"the value of operation {index} is not given")
        flat = [self.value(a.value) if isinstance(a, Ref) else a for a in op.arguments]
        args, kwargs = tree_unflatten(flat, op.spec)
        out = logic.run(op.function, args, kwargs, op.whole)
        tensors = [t for t in tree_flatten(out)[0] if isinstance(t, Tensor)]
        self.made.update(zip(op.outputs, tensors, strict=True))

    def value(self, value: int) -> Tensor:
        if value in self.made:
            return self.made[value]
        known = self.tape.values[value]
        if known.storage not in self.tape._external:
            return known.tensor
        if known.storage not in self.copies:
            self.copies[known.storage] = self.tape._external[known.storage].clone()
        t = known.tensor
        fresh = torch.empty(0, dtype=t.dtype).set_(
            self.copies[known.storage], t.storage_offset(), t.shape, t.stride())
        return self.made.setdefault(value, fresh)


@contextmanager
def float64() -> Iterator[None]:
    """New tensors are float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _layout(t: Tensor) -> tuple:
    return t.shape, t.stride(), t.storage_offset(), t.dtype


def _double(x: object) -> object:
    """Floats in float64."""
    if isinstance(x, Tensor):
        return x.double() if x.dtype in FLOATS else x
    return torch.float64 if isinstance(x, torch.dtype) and x in FLOATS else x


def _changed(func, args: tuple, kwargs: dict) -> list[Tensor]:
    """The arguments that an operation writes to."""
    found = []
    for i, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            given = args[i] if i < len(args) else kwargs.get(argument.name)
            found += [t for t in tree_flatten(given)[0] if isinstance(t, Tensor)]
    return found


def lines() -> tuple[str, ...]:
    """file:line of every frame that is not a library's, innermost first; none where libraries
    only lie between the importer and the operation."""
    found, frame = [], sys._getframe(2)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.startswith("sw.imports"):
            if found:
                return tuple(found)     # the rest called the importer
        elif name.split(".")[0] not in LIBRARIES:
            found.append(f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}")
        frame = frame.f_back
    return ()
