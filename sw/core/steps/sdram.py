"""The SDR SDRAM controller (`hw.sdram`) while words are read: which cycles it takes a command in,
and which it reads in."""

from __future__ import annotations

import numpy as np
from numpy import ndarray

from hw.sdram_timing import SdramCycles

from ..jit import stepped

(WAITING, ROW, OPENED, UNTIL_NEXT, UNTIL_CLOSE, SINCE, IDLE, UNTIL_AWAKE, WAKING,
 REFRESHING) = range(10)
"""Registers: OPENED: the open row, -1 for none. The others as in the gateware."""


def new_sdram(timing: SdramCycles) -> ndarray:
    """Registers of one that rests."""
    reg = np.zeros(REFRESHING + 1, np.int64)
    reg[OPENED], reg[IDLE] = -1, timing.rest
    return reg


@stepped
def sdram_step(reg, t, asks, row):
    """One cycle. asks: a command is there, to read in this row. Returns (taken, a READ is given).

    t: SdramCycles.
    """
    taken = asks and reg[WAITING] == 0
    free, closable = reg[UNTIL_NEXT] == 0, reg[UNTIL_CLOSE] == 0
    waking = reg[WAKING] == 1
    due = reg[UNTIL_AWAKE] == 0 if waking else reg[SINCE] == t.interval
    waiting, rests = reg[WAITING] == 1, reg[IDLE] == t.rest
    reads = False

    reg[UNTIL_NEXT] -= not free
    reg[UNTIL_CLOSE] -= not closable
    reg[SINCE] = min(reg[SINCE] + 1, t.interval)
    reg[UNTIL_AWAKE] = max(reg[UNTIL_AWAKE] - 1, 0)
    reg[IDLE] = 0 if taken or waiting else min(reg[IDLE] + 1, t.rest)
    closes = False
    if free and reg[REFRESHING] == 1:
        reg[REFRESHING], reg[SINCE], reg[UNTIL_NEXT] = 0, 0, t.rfc - 1
    elif free and (due or not waking):
        if due:
            closes = closable
            reg[REFRESHING] = closes
            reg[WAKING] = waking and not closes
        elif waiting and reg[OPENED] < 0:
            reg[OPENED] = reg[ROW]
            reg[UNTIL_NEXT], reg[UNTIL_CLOSE] = t.rcd - 1, t.ras - 1
        elif waiting and reg[OPENED] != reg[ROW]:
            closes = closable
        elif waiting:
            reads = True
            reg[WAITING], reg[UNTIL_NEXT] = 0, t.burst - 1
    if closes:
        reg[OPENED], reg[UNTIL_NEXT] = -1, t.rp - 1
    if taken:
        reg[WAITING], reg[ROW] = 1, row
        if rests:
            reg[WAKING], reg[UNTIL_AWAKE] = 1, t.wake
    return taken, reads
