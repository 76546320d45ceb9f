"""The source of an attention layer's items: reads v and k and counts the spikes they share
(`hw.attention.AttentionSource`)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy import ndarray

from ..jit import stepped
from .inputs import END, NOTHING

SLICES = 2
"""Cycles in which a word of k or v is counted: 2 timesteps at a time."""

QUEUE_FULL = 7
"""Sums that wait in the queue when reading stops, a cycle later."""

RESTING, READING, FINISHED = range(3)


class Source(NamedTuple):
    """State, int64 [engines] each.

    state: of the reader. number: of the pass. wait: cycles until it may ask. stop: the queue has
    filled. asked: words of the pass. silent: cycles until it is known that v is silent. busy:
    cycles until the last word has left the counter. pushes: bit n: sums enter the queue in n + 1
    cycles. level: of the queue. taken: sums taken from it. valid: sums are at hand; left: items
    still to make of them. item: in the output register; next: the one after. at: channel of the
    last pass. latched: the decoder knows that the pass is done.
    """

    state: ndarray
    number: ndarray
    wait: ndarray
    pause: ndarray
    stop: ndarray
    asked: ndarray
    silent: ndarray
    busy: ndarray
    pushes: ndarray
    level: ndarray
    taken: ndarray
    valid: ndarray
    left: ndarray
    item: ndarray
    next: ndarray
    at: ndarray
    latched: ndarray


def new_source(engines: int) -> Source:
    """All engines at rest."""
    return Source(*np.zeros((len(Source._fields), engines), np.int64))


@stepped
def source_begins(s, e, number, channel, item_start):
    """The pass `number` starts in the next cycle."""
    # Seeking the channel, then four cycles to make addresses.
    s.wait[e] = 6 + channel - s.at[e]
    s.state[e], s.number[e], s.at[e] = READING, number, channel
    s.asked[e], s.taken[e], s.silent[e], s.latched[e] = 0, 0, 0, 0
    s.next[e], s.item[e] = item_start[number], NOTHING


@stepped
def source_asks(s, e):
    """Whether a map word is requested in this cycle."""
    return s.state[e] == READING and s.wait[e] == 0 and s.pause[e] == 0 and s.stop[e] == 0


@stepped
def source_step(s, e, granted, item_free, words, width, takes, silent):
    """One cycle; returns the item that the decoder takes, END in the pass' last cycle, else
    NOTHING. item_free: the decoder would take one."""
    taken = NOTHING
    free = s.item[e] == NOTHING or item_free
    if item_free:
        taken = s.item[e]
    if (s.state[e] == FINISHED and s.busy[e] == 0 and s.level[e] == 0 and s.valid[e] == 0
            and s.item[e] == NOTHING):
        s.state[e] = RESTING
        taken = END
    # items of the sums at hand, and the next ones from the queue
    ends = s.valid[e] == 0 or (s.left[e] <= 1 and (free or s.left[e] == 0))
    if free:
        s.item[e] = NOTHING
        if s.valid[e] and s.left[e] > 0:
            s.item[e] = s.next[e]
            s.next[e] += 1
            s.left[e] -= 1
    was = s.level[e]
    if ends:
        s.valid[e] = was > 0
        if was > 0:
            s.left[e] = takes[s.number[e] * width + s.taken[e]]
            s.taken[e] += 1
            s.level[e] -= 1
    s.level[e] += s.pushes[e] & 1
    s.pushes[e] >>= 1
    s.stop[e] = was >= QUEUE_FULL
    # reader and counter
    s.wait[e] = max(s.wait[e] - 1, 0)
    s.pause[e] = max(s.pause[e] - 1, 0)
    s.busy[e] = max(s.busy[e] - 1, 0)
    if s.silent[e] > 0:
        s.silent[e] -= 1
        if s.silent[e] == 0:
            s.state[e] = FINISHED
    if granted:
        s.pause[e] = SLICES - 1
        s.asked[e] += 1
        busy = 2 + SLICES
        if s.asked[e] > words:
            busy += 3
            if s.asked[e] % words == 0:
                busy += 1
                s.pushes[e] |= 1 << (5 + SLICES)
                if s.asked[e] == words * (width + 1):
                    s.state[e] = FINISHED
        elif s.asked[e] == words and silent[s.number[e]]:
            s.silent[e] = 3 + SLICES
        s.busy[e] = max(s.busy[e], busy)
    return taken
