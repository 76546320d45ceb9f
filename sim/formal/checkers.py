"""Checkers: the rules of a stream, of a queue and of a service, for any component."""

from __future__ import annotations

from amaranth import Mux, Signal, Value

from .harness import Bench


def implies(condition, consequence) -> Value:
    return ~Value.cast(condition).bool() | Value.cast(consequence).bool()


def _held(f: Bench, stream) -> Value:
    payload = Value.cast(stream.payload)
    waited = f.past(stream.valid & ~stream.ready)
    return implies(waited, stream.valid & (payload == f.past(payload)))


def claim_held(f: Bench, name: str, stream, *, cover: bool = True) -> None:
    """The producer of `stream` keeps a waiting item: it stays valid and does not change."""
    f.claim(f"{name}_held", _held(f, stream))
    if cover:
        f.cover(f"{name}_waits", f.past(stream.valid & ~stream.ready) & stream.valid & stream.ready)


def assume_held(f: Bench, stream) -> None:
    """The surroundings that feed `stream` keep that rule."""
    f.assume(_held(f, stream))


def claim_served(f: Bench, name: str, waiting, served, *, within: int) -> None:
    """While `waiting`, `served` comes at the latest in the `within`-th cycle."""
    age = Signal(range(within + 1), name=f"{name}_age")
    f.m.d.sync += age.eq(Mux(waiting & ~served & (age != within), age + 1,
                             Mux(waiting & ~served, age, 0)))
    f.claim(f"{name}_served", age < within)


class Count:
    """How many items are inside: never more than `capacity`, and none comes out of nothing.

    push, pop: an item goes in or comes out. amount: how many items a push brings.

    Attributes
    ----------
    count: items inside.
    """

    def __init__(self, f: Bench, name: str, *, push, pop, capacity: int, amount=1):
        # Wide enough that a wrong design cannot wrap it.
        self.count = count = Signal(range(2 * capacity + 8), name=f"{name}_count")
        self.next = count + Mux(push, amount, 0) - pop
        f.m.d.sync += count.eq(self.next)
        f.claim(f"{name}_no_overflow", count <= capacity)
        f.claim(f"{name}_nothing_invented", implies(pop, count != 0))


class Order(Count):
    """Nothing lost, duplicated, invented or reordered, and never more than `capacity` inside.

    One arbitrary item is marked on its way in: the proof covers each because the choice is free.
    It must come out unchanged after exactly the items before it. That nothing stays inside is a
    claim of the proof's own, about `count`.

    item: of a push, its last one. out: of a pop (not in the cycle in which it went in).
    reach_full: cover that as many as `capacity` are inside.

    Attributes
    ----------
    tracking, kept, ahead: the marked item is inside; the item; how many are before it.
    done: it has come out.
    """

    def __init__(self, f: Bench, name: str, *, push, item, pop, out, capacity: int, amount=1,
                 reach_full: bool = True):
        super().__init__(f, name, push=push, pop=pop, capacity=capacity, amount=amount)
        item, out = Value.cast(item), Value.cast(out)
        self.ahead = ahead = Signal.like(self.count, name=f"{name}_ahead")
        self.kept = kept = Signal(item.shape(), name=f"{name}_kept")
        self.tracking = tracking = Signal(name=f"{name}_tracking")
        self.done = done = Signal(name=f"{name}_done")
        mark = f.free(f"{name}_mark") & push & ~tracking & ~done
        here = tracking & pop & (ahead == 0)
        with f.m.If(mark):
            f.m.d.sync += [tracking.eq(1), kept.eq(item), ahead.eq(self.next - 1)]
        with f.m.Elif(here):
            f.m.d.sync += [tracking.eq(0), done.eq(1)]
        with f.m.Elif(tracking & pop):
            f.m.d.sync += ahead.eq(ahead - 1)
        f.claim(f"{name}_in_order", implies(here, out == kept))
        f.lemma(f"{name}_inside", implies(tracking, ahead < self.count))
        f.cover(f"{name}_passes", done & (kept != 0))
        if reach_full:
            f.cover(f"{name}_full", self.count == capacity)
