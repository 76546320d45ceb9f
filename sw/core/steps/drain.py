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
    F_VALID,
    F_WINDOW_END,
    N_NEURONS,
)
from .units import notice_filled

POP, BASE, WAIT, WALK = range(4)


class Drain(NamedTuple):
    """State, by engine.

    state: one of the above. drained: pass that is walked. in_flight: passes from the walk to the
    packer. step: of the walk, or -1. tags: flags of the visits in the pipeline, a ring that begins
    at `at`. claim: position that its first stage claims, or -1. outputs: the queue to the packer,
    with its first place, level, and whether it stops the walk.
    """

    state: ndarray
    drained: ndarray
    in_flight: ndarray
    step: ndarray
    tags: ndarray
    at: ndarray
    claim: ndarray
    outputs: ndarray
    outputs_at: ndarray
    outputs_level: ndarray
    outputs_almost: ndarray


def new_drain(size) -> Drain:
    """Waiting for the first row's header."""
    n = size.engines
    zeros, none = np.zeros((5, n), np.int64), np.full((2, n), -1, np.int64)
    return Drain(np.full(n, POP, np.int64), zeros[0], zeros[1], none[0],
                 np.zeros((n, size.drain_stages), np.int64), zeros[2], none[1],
                 np.zeros((n, size.drain_queue), np.int64), zeros[3], zeros[4],
                 np.zeros(n, np.bool_))


@stepped
def drain_idle(d, headers, e):
    """Whether nothing is left to walk, or on its way to the packer."""
    return d.state[e] == POP and headers[e] == 0 and d.in_flight[e] == 0


@stepped
def drain_step(d, x, headers, e, size, layer, walk, waiting_outputs, pass_done, count):
    """One cycle; returns the position claimed from the units (or -1), the bank that is drained (or
    -1), and whether a row's header is taken.

    x: the units. headers: rows' headers that wait. waiting_outputs: in the queue before the packer
    took one; pass_done: it took the last one of a pass.
    """
    stages = size.drain_stages
    walks = d.step[e] >= 0 and not d.outputs_almost[e]
    claimed = d.claim[e]
    d.claim[e] = walk.position[d.step[e]] if walks else -1
    # Visits one and two cycles after the claim, and at the end of the pipeline.
    tag1, tag2 = d.tags[e, (d.at[e] + 1) % stages], d.tags[e, (d.at[e] + 2) % stages]
    tag = d.tags[e, (d.at[e] + stages - 1) % stages]
    if tag & F_VALID and (tag & F_LAST or (tag & F_WINDOW_END and not layer.readout)):
        d.outputs[e, (d.outputs_at[e] + d.outputs_level[e]) % size.drain_queue] = tag
        d.outputs_level[e] += 1
    d.outputs_almost[e] = waiting_outputs >= size.drain_queue - size.drain_margin
    if tag2 & F_VALID and not layer.readout and (tag2 & F_WINDOW_END or not layer.pool_max):
        count[N_NEURONS] += (tag2 // F_COUNT) & 3
    released = -1
    if tag1 & F_VALID and tag1 & F_LAST:
        released = (d.drained[e] - 1) & 1

    header_popped, starts = False, False
    state = d.state[e]
    if state == POP:
        # Membranes of a group are needed by the next one.
        room = 2 if layer.n_groups == 1 else 1
        if headers[e] > 0 and d.in_flight[e] < room:
            header_popped = True
            d.state[e] = BASE
    elif state == BASE or state == WAIT:
        starts = state == WAIT and x.all_filled[e]
        d.state[e] = WAIT
        notice_filled(x, e, size, d.drained[e] & 1)
    d.at[e] = (d.at[e] + stages - 1) % stages
    d.tags[e, d.at[e]] = 0
    passes = layer.n_groups * layer.n_strips
    number = d.drained[e] % passes
    last_strip = number // layer.n_groups == layer.n_strips - 1
    if walks:
        new = walk.flags[d.step[e]] | F_VALID
        if last_strip:
            new |= F_LAST_STRIP
        if number == passes - 1:
            new |= F_LAST_PASS
        d.tags[e, d.at[e]] = new
        d.step[e] += 1
        if new & F_LAST:
            d.step[e] = -1
            d.drained[e] += 1
            d.state[e] = POP
    if starts:
        d.state[e] = WALK
        d.step[e] = walk.start[1] if last_strip else walk.start[0]
    d.in_flight[e] += int(starts) - int(pass_done)
    return claimed, released, header_popped
