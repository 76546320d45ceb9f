"""The far end of a serial line in cocotb benches: cocotbext-uart with a clock error and jitter.

cocotbext-uart rounds a bit to whole nanoseconds, half a per cent of 12 Mbaud. So the benches
stretch time: their clock takes STRETCH times as long, and so does the line.
"""

from __future__ import annotations

import logging

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import Timer, ValueChange
from cocotb.utils import get_sim_time
from cocotbext.uart import UartSink, UartSource

STRETCH = 100


def bit_ns(baud: float) -> float:
    """Duration of a bit in stretched ns."""
    return 1e9 * STRETCH / baud


def start_clock(clk, clock_hz: int) -> float:
    """Starts the stretched clock; returns its period in ns."""
    period = round(1e9 * STRETCH / clock_hz / 2, 3) * 2
    cocotb.start_soon(Clock(clk, period, unit="ns", period_high=period / 2).start())
    return period


class _JitteryPin:
    """What a UartSource drives in place of the pin: changes come late by 0 to 2 * jitter bits."""

    def __init__(self, pin, rng: np.random.Generator, bit: float, jitter: float):
        self._pin, self._rng, self._path = pin, rng, pin._path
        self._delay_ps = round(2000 * jitter * bit)

    def setimmediatevalue(self, value: int) -> None:
        self._pin.value = value

    def _set(self, value: int) -> None:
        async def later():
            await Timer(1 + int(self._rng.integers(self._delay_ps + 1)), "ps")
            self._pin.value = value
        cocotb.start_soon(later())

    value = property(fset=_set)


def source(pin, baud: float, *, rng: np.random.Generator, jitter: float = 0.0) -> UartSource:
    """Sends to the board at `baud`; every edge is off by up to `jitter` bits, uniformly."""
    made = UartSource(_JitteryPin(pin, rng, bit_ns(baud), jitter), baud=baud / STRETCH)
    made.log.setLevel(logging.WARNING)
    return made


def sink(pin, baud: float) -> UartSink:
    """Receives from the board at `baud`, sampling mid-bit."""
    made = UartSink(pin, baud=baud / STRETCH)
    made.log.setLevel(logging.WARNING)
    return made


def watch_levels(pin, shortest_ns: float) -> list[tuple[float, int]]:
    """Fails the test when a level of `pin` is shorter than `shortest_ns`.

    Returns the list of (time in ns, new level) that grows with every edge.
    """
    edges: list[tuple[float, int]] = []

    async def watch():
        while True:
            await ValueChange(pin)
            now = get_sim_time("ns")
            if now == 0:
                continue    # initial values
            if edges:
                held = now - edges[-1][0]
                assert held >= shortest_ns, f"{pin._name} was {edges[-1][1]} for {held} ns"
            edges.append((now, int(pin.value)))

    cocotb.start_soon(watch())
    return edges
