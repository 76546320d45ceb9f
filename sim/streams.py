"""Helpers of the unit benches: struct payloads as dicts, streams with stalls and their rules.

A bench works cycle by cycle. It drives inputs at the falling edge, lets everything settle, and
samples what the next rising edge will see:

    await FallingEdge(dut.clk); source.drive(...); sink.drive(...)
    await ReadOnly();           source.sample();   got = sink.sample()

The stream rule that `Sink` checks: once valid, a payload stays valid and unchanged until it is
taken (valid and ready at a rising edge).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import cocotb
import numpy as np
from amaranth.hdl import Shape
from amaranth.lib import data

MODES = ("full_speed", "stalled_input", "stalled_output", "random_stalls")
"""Every stream bench runs in each of these; see `Stalls`."""


class Codec:
    """Values of a layout or shape as one integer, and back.

    A struct is a dict by field name, an array a list, anything else an int (two's complement for
    a signed shape). `pack` raises ValueError for a value that does not fit its field.
    """

    def __init__(self, shape):
        self._fields: list[tuple[str | int, int, Codec]] = []
        self._array = isinstance(shape, data.ArrayLayout)
        cast = Shape.cast(shape)
        self.width, self._signed = cast.width, cast.signed
        if isinstance(shape, data.Layout):
            self._fields = [(key, item.offset, Codec(item.shape)) for key, item in shape]

    def pack(self, value) -> int:
        if self._fields:
            return sum(codec.pack(value[key]) << offset for key, offset, codec in self._fields)
        value = int(value)
        low, high = (-(1 << self.width - 1), 1 << self.width - 1) if self._signed else (
            0, 1 << self.width)
        if not low <= value < high:
            raise ValueError(f"{value} is outside {low}..{high - 1}")
        return value & ((1 << self.width) - 1)

    def unpack(self, bits: int):
        if self._array:
            return [codec.unpack(bits >> offset) for _, offset, codec in self._fields]
        if self._fields:
            return {key: codec.unpack(bits >> offset) for key, offset, codec in self._fields}
        value = bits & ((1 << self.width) - 1)
        return value - (1 << self.width) if self._signed and value >> (self.width - 1) else value


class Stalls:
    """Decides cycle by cycle who waits, in bursts, for one of MODES. One burst in twenty is long
    enough to fill the queues on the way.

    `input()` and `output()` are true in cycles in which the producer has nothing to offer, or the
    consumer does not take anything.
    """

    def __init__(self, mode: str, rng: np.random.Generator):
        self._rng = rng
        often = {"full_speed": (0, 0), "stalled_input": (0.75, 0), "stalled_output": (0, 0.75),
                 "random_stalls": (0.4, 0.4)}
        self._fractions = often[mode]
        self._left = [0, 0]
        self._stalled = [False, False]

    @property
    def any(self) -> bool:
        """Whether anybody ever waits."""
        return any(self._fractions)

    def _next(self, side: int) -> bool:
        fraction = self._fractions[side]
        if not fraction:
            return False
        if not self._left[side]:
            self._stalled[side] = bool(self._rng.random() < fraction)
            long = self._rng.random() < 0.05
            self._left[side] = int(self._rng.geometric(0.01 if long else 0.3))
        self._left[side] -= 1
        return self._stalled[side]

    def input(self) -> bool:
        return self._next(0)

    def output(self) -> bool:
        return self._next(1)


class Source:
    """Drives a stream into the device: `name__payload/valid/ready`."""

    def __init__(self, dut, name: str, shape):
        self._codec = Codec(shape)
        self._payload, self._valid, self._ready = (
            getattr(dut, f"{name}__{part}") for part in ("payload", "valid", "ready"))
        self.waiting: deque[int] = deque()
        self._offering = False
        self._valid.value = 0
        self._payload.value = 0

    def add(self, values: Iterable) -> None:
        self.waiting.extend(self._codec.pack(value) for value in values)

    def drive(self, stalled: bool = False) -> None:
        """Offer the next payload, unless stalled; an offer is kept until it is taken."""
        if not self._offering and self.waiting and not stalled:
            self._offering = True
            self._payload.value = self.waiting[0]
            self._valid.value = 1
        elif not self._offering:
            self._valid.value = 0

    def sample(self) -> bool:
        """True if the payload is taken at the coming edge."""
        if self._offering and self._ready.value == 1:
            self.waiting.popleft()
            self._offering = False
            return True
        return False

    @property
    def idle(self) -> bool:
        return not self.waiting


class Sink:
    """Takes a stream from the device and checks the stream rule."""

    def __init__(self, dut, name: str, shape):
        self._name, self._codec = name, Codec(shape)
        self._payload, self._valid, self._ready = (
            getattr(dut, f"{name}__{part}") for part in ("payload", "valid", "ready"))
        self._ready.value = 0
        self._taking = False
        self._held: int | None = None

    def drive(self, stalled: bool = False) -> None:
        self._taking = not stalled
        self._ready.value = int(self._taking)

    def sample(self):
        """The payload taken at the coming edge, or None."""
        valid = self._valid.value == 1
        if not valid:
            assert self._held is None, f"{self._name}: valid fell before the payload was taken"
            return None
        bits = int(self._payload.value)
        assert self._held is None or self._held == bits, (
            f"{self._name}: payload changed while waiting, from {self._held:#x} to {bits:#x}")
        self._held = None if self._taking else bits
        return self._codec.unpack(bits) if self._taking else None


def seeded(seed: int, *more: str | int) -> np.random.Generator:
    """Random generator for a seed and further labels; logs them so that a failure can be rerun."""
    cocotb.log.info("seed %s %s", seed, more)
    words = [seed, *(sum(map(ord, m)) * 131 + len(m) if isinstance(m, str) else m for m in more)]
    return np.random.default_rng(words)
