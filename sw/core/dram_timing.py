"""Timing of the memory behind a core's DRAM port."""

from __future__ import annotations

from typing import NamedTuple


class DramTiming(NamedTuple):
    """latency: cycles from a command to its word. interval, pause: after so many cycles of work it
    takes no command for so many. rest: so long idle, and the interval begins anew."""

    latency: int
    interval: int
    pause: int
    rest: int


SIMULATED = DramTiming(latency=20, interval=780, pause=30, rest=32)
"""Of the simulated board's memory, at 100 MHz like a DDR3 chip's behind LiteDRAM."""
