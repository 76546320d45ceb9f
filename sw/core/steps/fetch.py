"""The fetch: from a weight to the map words it meets, and their lanes to the units (`hw.fetch`)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy import ndarray

from ..jit import stepped
from .inputs import (
    DECODE,
    END,
    N_PASSES,
    N_PORT,
    N_QUEUE,
    N_SILENT,
    N_STARVED,
    N_WEIGHTS,
    N_WORDS,
    NEURON,
    NOTHING,
    PORT,
    QUEUE,
    SCAN,
)

# Registers of a weight on its way: the decoder's output, three that compute its range, the one that
# gives its planes, three that compute what is live of them, the one that fetches words. A queue
# each lies before PLANES and WORDS.
(ITEM, TAPPED, ADDRESSED, RANGED, PLANES, PLANE, LOOKED_UP, LIVE, WORDS) = range(9)
REGISTERS = 9

STEPS_TO_UNITS = 3
"""Cycles from the request of a map word to the units' queues."""

LANES, PASS_END = 1, 2
"""What is in flight to the units, 0 being nothing."""


class Fetch(NamedTuple):
    """State, by engine.

    weight: index of the code in each register, NOTHING or END; part: its pass of the row; first,
    last: its range of words, from PLANES on; address: of word 0, from PLANE on. plane: which one
    is next. any_live: the plane in LIVE has a word to fetch. ranges: the queue before PLANES,
    visits: that before WORDS (weight, part, first, last, address); at, level: their first place
    and how many are taken; almost: they stop what fills them. flight: on its way to the units,
    with lanes for each of them; stalled: one of them had an almost full queue.
    """

    weight: ndarray
    part: ndarray
    first: ndarray
    last: ndarray
    address: ndarray
    plane: ndarray
    any_live: ndarray
    ranges: ndarray
    ranges_part: ndarray
    ranges_at: ndarray
    ranges_level: ndarray
    ranges_almost: ndarray
    visits: ndarray
    visits_at: ndarray
    visits_level: ndarray
    visits_almost: ndarray
    flight: ndarray
    flight_lanes: ndarray
    stalled: ndarray


def new_fetch(size) -> Fetch:
    """Everything empty."""
    n, places = size.engines, size.fetch_queue

    def zeros(*shape: int) -> ndarray:
        return np.zeros((n, *shape), np.int64)

    def no() -> ndarray:
        return np.zeros(n, np.bool_)
    return Fetch(
        weight=np.full((n, REGISTERS), NOTHING, np.int64), part=zeros(REGISTERS),
        first=zeros(REGISTERS), last=zeros(REGISTERS), address=zeros(REGISTERS), plane=zeros(),
        any_live=no(), ranges=zeros(places), ranges_part=zeros(places), ranges_at=zeros(),
        ranges_level=zeros(), ranges_almost=no(), visits=zeros(places, 5), visits_at=zeros(),
        visits_level=zeros(), visits_almost=no(), flight=zeros(STEPS_TO_UNITS),
        flight_lanes=zeros(STEPS_TO_UNITS, size.units), stalled=no())


@stepped
def lanes_by_unit(bits, start, limit, units, window, lanes):
    """Active lanes per unit of a map word whose lane 0 is output position `start`."""
    lanes[:] = 0
    for i in range(window):
        if (bits >> np.uint64(i)) & np.uint64(1):
            q = start + i
            if 0 <= q < limit:
                lanes[q % units] += 1


@stepped
def next_live(address, word, last, active, skip_silent):
    """First word from `word` to `last` to fetch, `last` + 1 if there is none; word 0 is at
    `address`."""
    while skip_silent and word <= last and active[address + word] == 0:
        word += 1
    return word


@stepped
def landing_step(f, e, size, lanes):
    """What reaches the units' queues in this cycle (its lanes go to `lanes`); what is in flight
    moves on."""
    landing = f.flight[e, STEPS_TO_UNITS - 1]
    for u in range(size.units):
        lanes[u] = f.flight_lanes[e, STEPS_TO_UNITS - 1, u]
    for i in range(STEPS_TO_UNITS - 1, 0, -1):
        f.flight[e, i] = f.flight[e, i - 1]
        for u in range(size.units):
            f.flight_lanes[e, i, u] = f.flight_lanes[e, i - 1, u]
    f.flight[e, 0] = 0
    return landing


@stepped
def waiting_for(f, e, stalled, blocked, decoder_done, count):
    """Why units without an update have none."""
    why = DECODE
    if f.weight[e, WORDS] != NOTHING:
        why = SCAN
        if stalled:
            why = QUEUE
            count[N_QUEUE] += 1
        elif blocked:
            why = PORT
            count[N_PORT] += 1
    elif decoder_done:
        why = NEURON                            # only the last passes' drains are left
    else:
        count[N_STARVED] += 1
        if (f.weight[e, LIVE] != NOTHING or f.weight[e, LOOKED_UP] != NOTHING
                or f.weight[e, PLANE] != NOTHING or f.weight[e, PLANES] != NOTHING):
            why = SCAN
    return why


@stepped
def words_step(f, e, size, layer, taps, codes, maps, attention, go, count):
    """The word walk: requests a live word of the plane in WORDS; returns whether it was the last,
    or there is no plane."""
    r = f.weight[e, WORDS]
    finished = r == NOTHING
    if go and r == END:
        f.flight[e, 0] = PASS_END
        finished = True
        count[N_PASSES] += 1
    elif go:
        tap = codes.tap[r]
        strip = f.part[e, WORDS] // layer.n_groups
        limit = layer.positions_last if strip == layer.n_strips - 1 else layer.positions
        word, address = f.first[e, WORDS], f.address[e, WORDS]
        bits = maps.active[address + word]
        if layer.attention:
            bits = np.uint64(0)
            for t in range(4):
                if attention.item_steps[r] >> t & 1:
                    bits |= maps.spikes[address + word, t]
        place = word & layer.row_words_mask
        edge = taps.edge[tap]
        if edge == 0 or (edge == 1 and place == 0) or (edge == 2 and place == layer.row_words_mask):
            bits = bits & taps.allowed[tap]
        start = size.window * (word - strip * layer.strip_step) - taps.shift[tap]
        lanes_by_unit(bits, start, limit, size.units, size.window, f.flight_lanes[e, 0])
        f.flight[e, 0] = LANES
        count[N_WORDS] += 1
        if bits == 0:
            count[N_SILENT] += 1
        f.first[e, WORDS] = next_live(address, word + 1, f.last[e, WORDS], maps.active,
                                      size.skip_silent)
        finished = f.first[e, WORDS] > f.last[e, WORDS]
    return finished


@stepped
def planes_step(f, e, size, layer, taps, codes, maps, walk_free, count):
    """The plane walk, and what is live of its planes, into the queue before WORDS; returns whether
    the weight in PLANES has given its last plane, or there is none. walk_free: the word walk takes
    a plane from the queue."""
    waiting = f.visits_level[e]
    w = f.weight[e, PLANES]
    go = w != NOTHING and not f.visits_almost[e]
    finished = w == NOTHING
    if go:
        finished = (w == END or f.first[e, PLANES] > f.last[e, PLANES]
                    or f.plane[e] + 1 == taps.plane_count[codes.tap[w]])
        if finished and w >= 0:
            count[N_WEIGHTS] += 1
    if walk_free:
        f.weight[e, WORDS] = NOTHING
        if waiting > 0:
            visit = f.visits[e, f.visits_at[e]]
            f.weight[e, WORDS], f.part[e, WORDS] = visit[0], visit[1]
            f.first[e, WORDS], f.last[e, WORDS], f.address[e, WORDS] = visit[2], visit[3], visit[4]
            f.visits_at[e] = (f.visits_at[e] + 1) % size.fetch_queue
            f.visits_level[e] -= 1
    if f.weight[e, LIVE] != NOTHING and f.any_live[e]:
        visit = f.visits[e, (f.visits_at[e] + f.visits_level[e]) % size.fetch_queue]
        visit[0], visit[1] = f.weight[e, LIVE], f.part[e, LIVE]
        visit[2], visit[3], visit[4] = f.first[e, LIVE], f.last[e, LIVE], f.address[e, LIVE]
        f.visits_level[e] += 1
    f.visits_almost[e] = waiting >= size.fetch_queue - size.queue_margin
    p = f.weight[e, LOOKED_UP]
    f.weight[e, LIVE], f.part[e, LIVE] = p, f.part[e, LOOKED_UP]
    f.any_live[e] = p == END
    if p >= 0:
        f.last[e, LIVE], f.address[e, LIVE] = f.last[e, LOOKED_UP], f.address[e, LOOKED_UP]
        f.first[e, LIVE] = next_live(f.address[e, LOOKED_UP], f.first[e, LOOKED_UP],
                                     f.last[e, LOOKED_UP], maps.active, size.skip_silent)
        f.any_live[e] = f.first[e, LIVE] <= f.last[e, LIVE]
    f.weight[e, LOOKED_UP], f.part[e, LOOKED_UP] = f.weight[e, PLANE], f.part[e, PLANE]
    f.first[e, LOOKED_UP], f.last[e, LOOKED_UP] = f.first[e, PLANE], f.last[e, PLANE]
    f.address[e, LOOKED_UP] = f.address[e, PLANE]
    f.weight[e, PLANE], f.part[e, PLANE] = (w if go else NOTHING), f.part[e, PLANES]
    f.first[e, PLANE], f.last[e, PLANE] = f.first[e, PLANES], f.last[e, PLANES]
    if go and w >= 0:
        tap = codes.tap[w]
        entry = ((f.part[e, PLANES] % layer.n_groups) * layer.planes_per_group
                 + taps.plane_start[tap] + f.plane[e])
        f.address[e, PLANE] = (taps.base[tap] + codes.channel[w] * taps.channel_stride[tap]
                               + maps.planes[entry])
    if go:
        f.plane[e] += 1
    return finished


@stepped
def weights_step(f, e, size, layer, taps, codes, planes_free):
    """Weights from the decoder's output into the queue before PLANES; returns whether that output
    may be overwritten. planes_free: the plane walk takes a weight from the queue."""
    waiting = f.ranges_level[e]
    moves = not f.ranges_almost[e]
    item_free = f.weight[e, ITEM] == NOTHING or moves
    if planes_free:
        f.weight[e, PLANES] = NOTHING
        if waiting > 0:
            f.weight[e, PLANES] = f.ranges[e, f.ranges_at[e]]
            f.part[e, PLANES] = f.ranges_part[e, f.ranges_at[e]]
            f.ranges_at[e] = (f.ranges_at[e] + 1) % size.fetch_queue
            f.ranges_level[e] -= 1
        f.plane[e] = 0
        w = f.weight[e, PLANES]
        if w >= 0:
            tap, strip = codes.tap[w], f.part[e, PLANES] // layer.n_groups
            words = (layer.strip_words_last if strip == layer.n_strips - 1
                     else layer.strip_words)
            begin = strip * layer.strip_step + taps.word_offset[tap]
            f.first[e, PLANES] = max(begin, 0)
            f.last[e, PLANES] = min(begin + words - 1 + taps.extra[tap],
                                    taps.channel_words[tap] - 1)
    if f.weight[e, RANGED] != NOTHING:
        place = (f.ranges_at[e] + f.ranges_level[e]) % size.fetch_queue
        f.ranges[e, place], f.ranges_part[e, place] = f.weight[e, RANGED], f.part[e, RANGED]
        f.ranges_level[e] += 1
    f.ranges_almost[e] = waiting >= size.fetch_queue - size.queue_margin
    for stage in (RANGED, ADDRESSED):
        f.weight[e, stage], f.part[e, stage] = f.weight[e, stage - 1], f.part[e, stage - 1]
    f.weight[e, TAPPED] = NOTHING
    if moves:
        f.weight[e, TAPPED], f.part[e, TAPPED] = f.weight[e, ITEM], f.part[e, ITEM]
        f.weight[e, ITEM] = NOTHING
    return item_free
