"""Timing of the memory behind a core's DRAM port."""

from __future__ import annotations

from typing import NamedTuple

from hw.config import CoreConfig
from hw.ddr3_control import LATENCY
from hw.sdram_timing import SdramCycles, cycles


class DramTiming(NamedTuple):
    """latency: cycles from a command to its word. interval, pause: after so many cycles of work it
    takes no command for so many; interval 0: never. rest: so long idle, and the interval begins
    anew."""

    latency: int
    interval: int
    pause: int
    rest: int


SIMULATED = DramTiming(latency=20, interval=780, pause=30, rest=32)
"""Of the memory that is simulated where no controller of ours is, at 100 MHz like a DDR3 chip's
behind LiteDRAM."""


BUFFERED = DramTiming(latency=LATENCY, interval=0, pause=0, rest=0)
"""Of `hw.ddr3`, whatever the controller behind it takes."""


def timing_of(config: CoreConfig) -> DramTiming | SdramCycles:
    """Of the memory behind a core of this configuration."""
    if config.sdram:
        return cycles(config.clock_hz)
    return BUFFERED if config.ddr3 else SIMULATED


def until_rest(config: CoreConfig) -> int:
    """Cycles after its last command until the memory rests for certain."""
    timing = timing_of(config)
    return timing.rest + (timing.latency if config.sdram else timing.pause)


def longest(words: int, config: CoreConfig) -> int:
    """Cycles that so many words of a few blocks take at most until all are there."""
    timing = timing_of(config)
    if config.sdram:
        return words * timing.burst + timing.latency + 4 * timing.wake
    return words + timing.latency + timing.pause


def awakening(config: CoreConfig) -> int:
    """Cycles that a run which finds the memory at work, as none on a board does, saves at most."""
    timing = timing_of(config)
    return timing.wake + timing.rp + timing.rfc if config.sdram else 0
