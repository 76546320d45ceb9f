"""The packer and the arbiter's view of it (`hw.packer`, `hw.core`)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy import ndarray

from ..jit import stepped
from .inputs import (
    F_LAST,
    F_LAST_PASS,
    F_LAST_STRIP,
    F_ODD,
    F_PHASE_END,
    F_ROW_END,
    F_VALID,
    F_WINDOW_END,
)


class Packer(NamedTuple):
    """State, [drains].

    item: flags of the output it looks at; advance: it takes one in this cycle. pending: a word is
    finished; out: one waits for the arbiter. fill: zero words still to insert; fill_ends: then a
    sequence of words ends. lane, index: place of the next output in its word, and of the word.
    """

    item: ndarray
    advance: ndarray
    pending: ndarray
    out: ndarray
    fill: ndarray
    fill_ends: ndarray
    lane: ndarray
    index: ndarray


def new_packer(size) -> Packer:
    """Empty, at the first lane of the first word."""
    n = size.drains
    zeros, no = np.zeros((4, n), np.int64), np.zeros((3, n), np.bool_)
    return Packer(zeros[0], np.ones(n, np.bool_), no[0], no[1], zeros[1], no[2], zeros[2],
                  zeros[3])


@stepped
def packer_busy(p, e):
    """Whether an output, or a word, is in it."""
    return p.pending[e] or p.out[e] or p.item[e] != 0


@stepped
def packer_step(p, d, e, size, layer, granted):
    """One cycle; returns the engine whose pass it takes the last output of, or -1. d: the drain,
    whose queue it reads. granted: the arbiter takes the word in `out`."""
    moves = p.pending[e] and not p.out[e]
    push, pass_done = False, -1
    if p.advance[e]:
        tag = p.item[e]
        if tag & F_VALID:
            if tag & F_LAST:
                pass_done = e * size.drain_engines + (1 if tag & F_ODD else 0)
            if layer.readout:
                push = pass_done >= 0 and (tag & F_LAST_PASS) != 0
            elif tag & F_WINDOW_END:
                row_end = (tag & F_ROW_END) != 0
                two_outputs = layer.pair != 0 and layer.pair_merge == 0
                after = p.lane[e] + (2 if two_outputs else 1)
                if row_end:             # the rest of the pitch stays zero
                    after = (p.lane[e] | (layer.out_pitch - 1) % size.window) + 1
                sequence_end = (tag & F_PHASE_END) != 0 and (
                    layer.flush_strip != 0 or (tag & F_LAST_STRIP) != 0)
                push = after >= size.window or sequence_end
                pitch_words = (layer.out_pitch - 1) // size.window
                rest = pitch_words & ~(p.index[e] & 15) if row_end else 0
                p.lane[e] = after % size.window
                if push:
                    p.index[e] += 1
                    p.fill[e] = rest
                if sequence_end:
                    p.lane[e] = 0
                    p.fill_ends[e] = True
                    if rest == 0:
                        p.index[e] = 0
                        p.fill_ends[e] = False
        p.item[e] = 0
        if d.outputs_level[e] > 0:
            p.item[e] = d.outputs[e, d.outputs_at[e]]
            d.outputs_at[e] = (d.outputs_at[e] + 1) % size.drain_queue
            d.outputs_level[e] -= 1
    elif p.fill[e] > 0 and moves:
        push = True
        p.fill[e] -= 1
        p.index[e] += 1
        if p.fill[e] == 0 and p.fill_ends[e]:
            p.index[e] = 0
            p.fill_ends[e] = False
    p.pending[e] = push or (p.pending[e] and not moves)
    p.advance[e] = not (p.pending[e] and (moves or p.out[e])) and p.fill[e] == 0
    p.out[e] = moves or (p.out[e] and not granted)
    return pass_done
