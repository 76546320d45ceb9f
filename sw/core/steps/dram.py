"""The streamer and the memory behind it (`hw.stream`, `sim/dram.v`)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy import ndarray

from hw.config import STREAM_BLOCK, STREAM_WORDS, CoreConfig

from ..dram_timing import DramTiming
from ..jit import njit, stepped

LOOK, CHOOSE, ASK = range(3)

(ON, ACTIVE, RESTARTING, STATE, TURN, USED, WORD, ON_WAY, FIRST, SECOND, COME, PLACE, REST, BUSY,
 PAUSE, TIME) = range(16)
"""Registers: ON: the network streams. COME: a word arrived a cycle ago. REST, BUSY, PAUSE, TIME are
the memory's."""


class Dram(NamedTuple):
    """Sizes, then state: words asked for, there, shown as there, freed, and in the stream, of each
    engine; the above registers; the memory's answers that are on their way."""

    engines: int
    ring_words: int
    latency: int
    interval: int
    pause: int
    rest: int
    asked: ndarray
    limit: ndarray
    shown: ndarray
    freed: ndarray
    total: ndarray
    reg: ndarray
    answers: ndarray


def new_dram(config: CoreConfig, streams: list[ndarray], timing: DramTiming) -> Dram:
    """At rest. streams: of each engine, without checks; none if no weights stream."""
    zeros = np.zeros((4, config.engines), np.int64)
    total = np.array([len(words) for words in streams] or [0] * config.engines, np.int64)
    reg = np.zeros(TIME + 1, np.int64)
    reg[ON], reg[REST] = len(streams) > 0, timing.rest
    return Dram(config.engines, config.ring_words, *timing, *zeros, total, reg,
                np.zeros(timing.latency, np.bool_))


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

    ready = reg[PAUSE] == 0
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
    elif ready:
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

    # The memory.
    asking = state == ASK
    slot = reg[TIME] % d.latency
    reg[COME] = int(d.answers[slot])
    d.answers[slot] = asking and ready
    reg[TIME] += 1
    idle = not asking and reg[REST] == d.rest
    refresh = not idle and reg[BUSY] == d.interval - 1
    reg[REST] = 0 if asking else min(reg[REST] + 1, d.rest)
    reg[BUSY] = 0 if idle or refresh else reg[BUSY] + 1
    reg[PAUSE] = d.pause if refresh else max(0, reg[PAUSE] - 1)

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
