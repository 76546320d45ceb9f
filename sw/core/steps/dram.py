"""The streamer and the memory behind it (`hw.stream`, `sim/dram.v` or `hw.sdram`)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy import ndarray

from hw.config import STREAM_BLOCK, STREAM_WORDS, CoreConfig
from hw.sdram_timing import MOST_HZ, ROW_WORDS, SdramCycles, cycles

from ..dram_timing import SIMULATED, DramTiming
from ..jit import njit, stepped
from .sdram import new_sdram, sdram_step

LOOK, CHOOSE, ASK = range(3)

(ON, ACTIVE, RESTARTING, STATE, TURN, USED, WORD, ON_WAY, FIRST, SECOND, COME, PLACE, REST, BUSY,
 PAUSE, TIME) = range(16)
"""Registers: ON: the network streams. COME: a word arrived a cycle ago. REST, BUSY, PAUSE are
the memory's; TIME counts."""


class Dram(NamedTuple):
    """Sizes and timing, then state: words asked for, there, shown as there, freed, and in the
    stream, of each engine; the above registers; those of the SDRAM controller; the memory's answers
    that are on their way.

    stride: words from one engine's stream to the next one's. is_sdram: which of the two memories it
    is; the other one's timing has no effect.
    """

    engines: int
    ring_words: int
    stride: int
    is_sdram: bool
    memory: DramTiming
    sdram: SdramCycles
    asked: ndarray
    limit: ndarray
    shown: ndarray
    freed: ndarray
    total: ndarray
    reg: ndarray
    controller: ndarray
    answers: ndarray


def new_dram(config: CoreConfig, streams: list[ndarray],
             timing: DramTiming | SdramCycles) -> Dram:
    """At rest. streams: of each engine, without checks; none if no weights stream."""
    zeros = np.zeros((4, config.engines), np.int64)
    total = np.array([len(words) for words in streams] or [0] * config.engines, np.int64)
    reg = np.zeros(TIME + 1, np.int64)
    reg[ON], reg[REST] = len(streams) > 0, timing.rest
    is_sdram = isinstance(timing, SdramCycles)
    memory, sdram = (SIMULATED, timing) if is_sdram else (timing, cycles(MOST_HZ))
    return Dram(config.engines, config.ring_words, config.stream_stride, is_sdram, memory, sdram,
                *zeros, total, reg, new_sdram(sdram), np.zeros(timing.latency, np.bool_))


@stepped
def memory_step(d, asks):
    """The memory of `sim/dram.v`: (whether it takes a command, whether that will be answered)."""
    reg, t = d.reg, d.memory
    taken = asks and reg[PAUSE] == 0
    idle = not asks and reg[REST] == t.rest
    refresh = not idle and reg[BUSY] == t.interval - 1
    reg[REST] = 0 if asks else min(reg[REST] + 1, t.rest)
    reg[BUSY] = 0 if idle or refresh else reg[BUSY] + 1
    reg[PAUSE] = t.pause if refresh else max(0, reg[PAUSE] - 1)
    return taken, taken


@stepped
def dram_quiet(d):
    return d.reg[STATE] != ASK and d.reg[ON_WAY] == 0


@stepped
def dram_step(d, go, restart):
    """One cycle. Returns the engine whose ring gets a word, or -1."""
    reg = d.reg
    for e in range(d.engines):
        d.shown[e] = d.limit[e]
    first, turn, state = reg[FIRST], reg[TURN], reg[STATE]
    active = reg[ACTIVE] == 1
    awaited = active and d.limit[first] < d.total[first]
    come, place = reg[COME] == 1, reg[PLACE]
    ends = come and place == STREAM_BLOCK - 1
    writes = first if come and awaited and not ends else -1

    # What is asked of the memory. An answer is there `latency` cycles later, and has come in the
    # one after.
    asks = state == ASK
    if d.is_sdram:
        block = d.asked[turn] // STREAM_WORDS * STREAM_BLOCK
        taken, answered = sdram_step(d.controller, d.sdram, asks,
                                     (turn * d.stride + block) // ROW_WORDS)
    else:
        taken, answered = memory_step(d, asks)
    slot = reg[TIME] % len(d.answers)
    reg[COME] = int(d.answers[slot])
    d.answers[slot] = answered
    reg[TIME] += 1

    begins = False
    if state == LOOK:
        reg[USED], reg[WORD] = d.asked[turn] - d.freed[turn], 0
        if reg[ON_WAY] == 0 and reg[RESTARTING] == 1:
            reg[RESTARTING], reg[ACTIVE], reg[TURN] = 0, 1, 0
            d.asked[:] = 0
        elif active and go and not restart:
            reg[STATE] = CHOOSE
    elif state == CHOOSE:
        begins = (active and d.limit[turn] < d.total[turn] and reg[ON_WAY] < 2
                  and reg[USED] <= d.ring_words - STREAM_WORDS)
        reg[STATE] = ASK
        if not begins:
            reg[STATE], reg[TURN] = LOOK, (turn + 1) % d.engines
    elif taken:
        reg[WORD] += 1
        if reg[WORD] == STREAM_BLOCK:
            d.asked[turn] += STREAM_WORDS
            reg[STATE], reg[TURN] = LOOK, (turn + 1) % d.engines

    # What arrived.
    if come:
        reg[PLACE] = (place + 1) % STREAM_BLOCK
    if ends:
        if awaited:
            d.limit[first] += STREAM_WORDS
        reg[FIRST] = reg[SECOND]
    if begins:
        reg[FIRST if reg[ON_WAY] == int(ends) else SECOND] = turn
    reg[ON_WAY] += int(begins) - int(ends)

    if restart:
        reg[ACTIVE], reg[RESTARTING] = 0, 1
        d.limit[:] = 0
        d.freed[:] = 0
    return writes


@njit
def dram_cycles(d, count, go, restart):
    """So many cycles; restart: the one of them in which the streams begin anew, or -1."""
    for cycle in range(count):
        dram_step(d, go, cycle == restart)


@njit
def dram_settles(d):
    """Cycles until nothing is on its way."""
    cycles = 0
    while not dram_quiet(d):
        dram_step(d, False, False)
        cycles += 1
    return cycles
