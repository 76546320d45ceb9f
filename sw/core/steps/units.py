"""The accumulate units and their queues (`hw.unit`)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy import ndarray

from ..jit import stepped
from .fetch import LANES, PASS_END
from .inputs import NOTHING


class Units(NamedTuple):
    """State, [engines, units].

    A job is its number of lanes, 0 ends the pass. queue, at, level, almost: jobs that wait, their
    first place, how many there are, and that there may soon be too many. job: lanes left of the one
    at work, or NOTHING. adds: a lane is added in this cycle. bank: which one it adds to; filled:
    banks that the drain may read. ends, all_filled [engines, 2]: how many units have filled a bank,
    and whether all had, which the drain is told a cycle late.
    """

    queue: ndarray
    at: ndarray
    level: ndarray
    almost: ndarray
    job: ndarray
    adds: ndarray
    bank: ndarray
    filled: ndarray
    ends: ndarray
    all_filled: ndarray


def new_units(size) -> Units:
    """Idle, with empty banks."""
    shape = size.engines, size.units
    zeros = np.zeros((3, *shape), np.int64)
    return Units(np.zeros((*shape, size.queue_depth), np.int64), zeros[0], zeros[1],
                 np.zeros(shape, np.bool_), np.full(shape, NOTHING, np.int64),
                 np.zeros(shape, np.bool_), zeros[2], np.zeros((*shape, 2), np.bool_),
                 np.zeros((size.engines, 2), np.int64), np.zeros((size.engines, 2), np.bool_))


@stepped
def any_almost_full(x, e, size):
    """Whether a queue asks the word walk to stop."""
    full = False
    for u in range(size.units):
        full = full or x.almost[e, u]
    return full


@stepped
def notice_filled(x, e, size):
    """Tell the drain, in the next cycle, which banks all units have filled."""
    for bank in range(2):
        x.all_filled[e, bank] = x.ends[e, bank] == size.units


@stepped
def units_step(x, e, size, pair, claimed_position, released_bank, landing, lanes):
    """One cycle of an engine's units; returns how many added a lane, and how many wait for a bank.

    claimed_position: accumulator that the drain reads, with pair its neighbour too; or -1.
    released_bank: drained by now, or -1. landing, lanes: what arrives, see `fetch.landing_step`.
    """
    updates, waiting = 0, 0
    for u in range(size.units):
        claimed = claimed_position >= 0 and (
            u == claimed_position % size.units
            or (pair != 0 and u == claimed_position % size.units + 1))
        if x.adds[e, u]:
            updates += 1
        takes = x.job[e, u] > 0 and not claimed
        x.adds[e, u] = takes
        done = x.job[e, u] == NOTHING
        if x.job[e, u] == 0:
            other = 1 - x.bank[e, u]
            if x.filled[e, u, other]:
                waiting += 1
            else:
                x.filled[e, u, x.bank[e, u]] = True
                x.ends[e, x.bank[e, u]] += 1
                x.bank[e, u] = other
                done = True
        elif takes:
            x.job[e, u] -= 1
            done = x.job[e, u] == 0
        was = x.level[e, u]
        if done:
            x.job[e, u] = NOTHING
            if was > 0:
                x.job[e, u] = x.queue[e, u, x.at[e, u]]
                x.at[e, u] = (x.at[e, u] + 1) % size.queue_depth
                x.level[e, u] -= 1
        x.almost[e, u] = was >= size.queue_depth - size.queue_margin
        if landing == PASS_END or (landing == LANES and lanes[u] > 0):
            place = (x.at[e, u] + x.level[e, u]) % size.queue_depth
            x.queue[e, u, place] = 0 if landing == PASS_END else lanes[u]
            x.level[e, u] += 1
        if released_bank >= 0:
            x.filled[e, u, released_bank] = False
    if released_bank >= 0:
        x.ends[e, released_bank] = 0
    return updates, waiting
