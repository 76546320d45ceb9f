"""The drain walk and the neuron pipeline behind it (`hw.drain`, `hw.walker`, `hw.neuron`)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy import ndarray

from ..jit import stepped
from .inputs import (
    F_COUNT,
    F_LAST,
    F_LAST_PASS,
    F_LAST_STRIP,
    F_ODD,
    F_VALID,
    F_WINDOW_END,
    N_NEURONS,
)
from .units import notice_filled

CHOOSE, BASE, WALK = range(3)


class Drain(NamedTuple):
    """State, by drain, but for the last three, which are by engine.

    state: one of the above. served: engine whose pass is walked, or was the last one. held: no
    other may be served. step: of the walk, or -1. tags: flags of the visits in the pipeline, a
    ring that begins at `at`. claim: position that its first stage claims, or -1. outputs: the
    queue to the packer, with its first place, level, and whether it stops the walk. drained: passes
    walked. in_flight: passes from the choice to the packer. bank: the next one to be walked.
    """

    state: ndarray
    served: ndarray
    held: ndarray
    step: ndarray
    tags: ndarray
    at: ndarray
    claim: ndarray
    outputs: ndarray
    outputs_at: ndarray
    outputs_level: ndarray
    outputs_almost: ndarray
    drained: ndarray
    in_flight: ndarray
    bank: ndarray


def new_drain(size) -> Drain:
    """Waiting for a first pass."""
    n = size.drains
    zeros, none = np.zeros((5, n), np.int64), np.full((2, n), -1, np.int64)
    of_engines = np.zeros((3, size.engines), np.int64)
    return Drain(zeros[0], np.arange(n) * size.drain_engines, np.zeros(n, np.bool_), none[0],
                 np.zeros((n, size.drain_stages), np.int64),
                 zeros[2], none[1], np.zeros((n, size.drain_queue), np.int64), zeros[3], zeros[4],
                 np.zeros(n, np.bool_), *of_engines)


@stepped
def drain_idle(d, headers, n, size):
    """Whether nothing is left to walk, or on its way to the packer."""
    idle = d.state[n] == CHOOSE
    for e in range(n * size.drain_engines, min((n + 1) * size.drain_engines, size.engines)):
        idle = idle and headers[e] == 0 and d.in_flight[e] == 0
    return idle


@stepped
def choose(d, x, headers, n, size, layer):
    """The engine whose pass is walked next, or -1; the one that was not served last goes first."""
    first = n * size.drain_engines
    count = min(size.drain_engines, size.engines - first)
    live = 0
    for e in range(first, first + count):
        live += d.in_flight[e]
    chosen = -1
    if live < 2:
        for i in range(count):
            # The engine served last comes first here, and so gives way to the other one.
            e = first + (d.served[n] - first + i) % count
            # Membranes of a group are needed by the next one.
            free = layer.n_groups == 1 or d.in_flight[e] == 0
            allowed = not d.held[n] or e == d.served[n]
            if allowed and free and headers[e] > 0 and x.all_filled[e, d.bank[e]]:
                chosen = e
    return chosen


@stepped
def drain_step(d, x, headers, n, size, layer, walk, waiting_outputs, pass_done, count):
    """One cycle of drain n; returns the position claimed from the units (or -1), the bank that is
    drained (or -1), the engine that each is of, and the one whose row's header is taken (or -1).

    x: the units. headers: rows' headers that wait. waiting_outputs: in the queue before the packer
    took one; pass_done: it took the last one of this engine's pass, or -1.
    """
    stages = size.drain_stages
    walks = d.step[n] >= 0 and not d.outputs_almost[n]
    claimed = d.claim[n]
    d.claim[n] = walk.position[d.step[n]] if walks else -1
    # Visits one and two cycles after the claim, and at the end of the pipeline.
    tag0 = d.tags[n, d.at[n]]
    tag1, tag2 = d.tags[n, (d.at[n] + 1) % stages], d.tags[n, (d.at[n] + 2) % stages]
    tag = d.tags[n, (d.at[n] + stages - 1) % stages]
    first = n * size.drain_engines
    claims = first + (1 if tag0 & F_ODD else 0)
    if tag & F_VALID and (tag & F_LAST or (tag & F_WINDOW_END and not layer.readout)):
        d.outputs[n, (d.outputs_at[n] + d.outputs_level[n]) % size.drain_queue] = tag
        d.outputs_level[n] += 1
    d.outputs_almost[n] = waiting_outputs >= size.drain_queue - size.drain_margin
    if tag2 & F_VALID and not layer.readout and (tag2 & F_WINDOW_END or not layer.pool_max):
        count[N_NEURONS] += (tag2 // F_COUNT) & 3
    releases = first + (1 if tag1 & F_ODD else 0)
    released = -1
    if tag1 & F_VALID and tag1 & F_LAST:
        # A walk has begun since only if it is of the other engine.
        released = 1 - d.bank[releases]

    popped, starts = -1, False
    if drain_idle(d, headers, n, size) and not d.held[n]:
        d.served[n] = first
    elif d.state[n] == CHOOSE:
        popped = choose(d, x, headers, n, size, layer)
        if popped >= 0:
            d.served[n] = popped
            d.state[n] = BASE
    elif d.state[n] == BASE:
        starts = True
    e = d.served[n]
    d.at[n] = (d.at[n] + stages - 1) % stages
    d.tags[n, d.at[n]] = 0
    passes = layer.n_groups * layer.n_strips
    number = d.drained[e] % passes
    last_strip = number // layer.n_groups == layer.n_strips - 1
    if walks:
        new = walk.flags[d.step[n]] | F_VALID
        if e != first:
            new |= F_ODD
        if last_strip:
            new |= F_LAST_STRIP
        if number == passes - 1:
            new |= F_LAST_PASS
        d.tags[n, d.at[n]] = new
        d.step[n] += 1
        if new & F_LAST:
            d.step[n] = -1
            d.drained[e] += 1
            d.bank[e] = 1 - d.bank[e]
            d.state[n] = CHOOSE
    if starts:
        d.state[n] = WALK
        d.step[n] = walk.start[1] if last_strip else walk.start[0]
        # What a row's passes hand on in packer or readout is kept once.
        d.held[n] = number < passes - 1 and (layer.readout != 0 or layer.flush_strip == 0)
    if popped >= 0:
        d.in_flight[popped] += 1
    if pass_done >= 0:
        d.in_flight[pass_done] -= 1
    for i in range(first, min(first + size.drain_engines, size.engines)):
        notice_filled(x, i, size)
    return claimed, claims, released, releases, popped
