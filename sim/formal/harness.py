"""What a proof is made of: a component in free surroundings, assumptions and claims.

A proof is a function that receives a `Bench`, places components in it and states claims:

    @proof("unit.JobQueue/order", depth=12, induction=True, scope="8 items of 4 bits")
    def order(f: Bench):
        \"""One sentence: what is claimed.\"""
        queue = f.place("queue", JobQueue(4, 8))
        f.claim("never_wrong", queue.o.valid | ...)

Every input port of a placed component that the proof does not drive may do anything in any cycle.
A proof starts in the reset state; the reset itself stays inactive.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from amaranth import ClockDomain, Const, Module, Shape, Signal, Value
from amaranth.back import rtlil
from amaranth.hdl import Assert, Assume, Cover
from amaranth.lib import wiring

from sw.errors import SpikeTicketError


class Bench:
    """A design under proof.

    m: the module for the proof's own logic. claims, covers: names stated so far.
    lemmas: whether they are asserted, as induction needs them, or left out.
    """

    def __init__(self, *, lemmas: bool = True):
        self._lemmas = lemmas
        self.m = Module()
        self.m._MustUse__silence = True   # a bench may be made only to look at it
        self._sync = ClockDomain("sync", reset_less=True)
        self.m.domains.sync = self._sync
        self._ports: list[Value] = [self._sync.clk]
        self._names: set[str] = set()
        self.claims: list[str] = []
        self.covers: list[str] = []
        started = Signal(name="started")
        self.m.d.sync += started.eq(1)
        self.started = started

    def _unique(self, name: str) -> str:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in self._names:
            raise ValueError(f"{name!r} is not a new name of lower-case letters, digits and _")
        self._names.add(name)
        return name

    def free(self, name: str, shape=1) -> Any:
        """A signal that may have any value in every cycle."""
        signal = Signal(shape, name=self._unique(name))
        self._ports.append(Value.cast(signal))
        return signal

    def constant(self, name: str, shape=1) -> Any:
        """A signal with any value that never changes."""
        value, first = Signal(shape, name=f"{name}_kept"), self.free(name, shape)
        self.m.d.sync += value.eq(first)
        self.assume(~self.started | (Value.cast(first) == Value.cast(value)))
        return first

    def place(self, name: str, component: wiring.Component) -> wiring.Component:
        """Add a component; its inputs are free until the proof assigns them."""
        self.m.submodules[name] = component
        self._free_inputs(name, component)
        return component

    def open(self, name: str, component: wiring.Component) -> dict[str, Any]:
        """Add a component and return the local names of its `elaborate`, for white-box claims.

        Raises SpikeTicketError from the returned mapping if a name is no longer there.
        """
        inner = look(component)
        self.m.submodules[name] = component
        self._free_inputs(name, component)
        return inner

    def _free_inputs(self, name: str, component: wiring.Component) -> None:
        for path, member, value in component.signature.flatten(component):
            if member.flow == wiring.In and not isinstance(value, Const):
                port = "_".join((name, *map(str, path)))
                self.m.d.comb += Value.cast(value).eq(self.free(port, Value.cast(value).shape()))

    def past(self, value, cycles: int = 1) -> Value:
        """`value` so many cycles ago; zero before the start."""
        shape = Value.cast(value).shape()
        for _ in range(cycles):
            older = Signal(Shape.cast(shape), name="past")
            self.m.d.sync += older.eq(value)
            value = older
        return value

    def assume(self, condition) -> None:
        """Restrict the surroundings: a contract that the component's docstring states."""
        self.m.d.comb += Assume(Value.cast(condition).bool())

    def claim(self, name: str, condition) -> None:
        """`condition` holds in every cycle."""
        self.claims.append(self._unique(name))
        self.m.d.comb += Assert(Value.cast(condition).bool(), name)

    def lemma(self, name: str, condition) -> None:
        """A claim about the inside of a component, without which the induction would not close."""
        if self._lemmas:
            self.claim(name, condition)

    def cover(self, name: str, condition) -> None:
        """`condition` can happen: the assumptions leave room for what the claims are about."""
        self.covers.append(self._unique(name))
        self.m.d.comb += Cover(Value.cast(condition).bool(), name)

    def rtlil(self) -> str:
        """The design as RTLIL; claims and covers are cells with their names."""
        # Only ports of the proof: what no claim depends on can then be removed.
        text = rtlil.convert(self.m, name="top", ports=self._ports, emit_src=False)
        cell = re.compile(r'cell \$check \S+(?P<body>.*?\\FORMAT )"(?P<name>[^"]*)"', re.DOTALL)

        def named(match: re.Match) -> str:
            name = match["name"]
            label = f"\\{name}" if name else match[0].split()[2]
            return f'cell $check {label}{match["body"]}""'

        return cell.sub(named, text)


def look(component: wiring.Component) -> Inner:
    """Elaborate a component here; returns the local names of its `elaborate`, as `Bench.open`."""
    inner = Inner(type(component).__qualname__)
    code = type(component).elaborate.__code__

    def spy(frame, event, argument):
        if event == "return" and frame.f_code is code:
            inner.update(frame.f_locals)

    old = sys.getprofile()
    sys.setprofile(spy)
    try:
        module = component.elaborate(None)
    finally:
        sys.setprofile(old)
    component.elaborate = lambda platform: module
    return inner


class Inner(dict):
    """Local names of an `elaborate`."""

    def __init__(self, component: str):
        super().__init__()
        self._component = component

    def __missing__(self, name: str):
        raise SpikeTicketError(f"the proof looks at {name!r} inside {self._component}, which has "
                               "no such name; bring the unit's proof up to date")


@dataclass(frozen=True)
class Proof:
    """One entry of the registry.

    name: unit/rule. depth: cycles from reset that are searched; with `induction`, also that many
    steps of k-induction, after which the claims hold for ever. reach: cycles in which the covers
    must be reached (0: none are tried). scope: parameters it is done at.
    quick: part of the regression.
    """

    name: str
    build: Callable[[Bench], None]
    depth: int
    induction: bool
    reach: int
    scope: str
    quick: bool

    @property
    def statement(self) -> str:
        """What is claimed, in one paragraph."""
        return " ".join(self.build.__doc__.split())

    def bench(self, *, lemmas: bool = True) -> Bench:
        """Build the design. Raises SpikeTicketError where it does not fit the gateware."""
        bench = Bench(lemmas=lemmas)
        self.build(bench)
        return bench


REGISTRY: dict[str, Proof] = {}


def proof(name: str, *, depth: int, scope: str, induction: bool = False, reach: int | None = None,
          quick: bool = False):
    """Register a proof; see `Proof`. reach: as deep as the claims unless told."""
    def register(build: Callable[[Bench], None]) -> Callable[[Bench], None]:
        if name in REGISTRY:
            raise ValueError(f"two proofs are called {name!r}")
        if not build.__doc__:
            raise ValueError(f"proof {name!r} does not say what it claims")
        REGISTRY[name] = Proof(name, build, depth, induction,
                               depth if reach is None else reach, scope, quick)
        return build
    return register
