"""The row decoder: headers and codes of an engine's weight stream (`hw.decoder`), or the items of
an attention layer."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy import ndarray

from ..jit import stepped
from .fetch import ITEM
from .inputs import END, N_CODES, N_WORDS, NOTHING
from .reader import WINDOW, reader_seeks, reader_step
from .source import source_asks, source_begins, source_step

HEADER_QUEUE = 4

IDLE, CHANNEL, BIAS, THRESHOLD, CODES, ATTEND = range(6)


class Decoder(NamedTuple):
    """State, [engines] each.

    state: one of the above. row; part: pass of the row (strip and group). code: the next one to
    extract; extracted: the one before, or NOTHING. row_word, row_bit: where the row begins.
    header: one is decoded; headers: those that wait for the drain.
    """

    state: ndarray
    row: ndarray
    part: ndarray
    code: ndarray
    row_word: ndarray
    row_bit: ndarray
    extracted: ndarray
    header: ndarray
    headers: ndarray


def new_decoder(codes) -> Decoder:
    """Engines with rows begin with their first one."""
    start = codes.row_start
    engines = len(start) - 1
    works = start[1:] > start[:-1]
    zeros = np.zeros((4, engines), np.int64)
    return Decoder(np.where(works, CHANNEL, IDLE), start[:-1].copy(), zeros[0],
                   np.where(works, codes.code_start[start[:-1]], 0),
                   zeros[2], zeros[3],
                   np.full(engines, NOTHING, np.int64), np.zeros(engines, np.bool_), zeros[1])


@stepped
def decoder_idle(d, f, e):
    """Whether every weight of the layer has left the decoder."""
    return d.state[e] == IDLE and f.weight[e, ITEM] == NOTHING and not d.header[e]


@stepped
def decoder_step(d, r, f, source, e, layer, codes, attention, port_free, item_free, header_popped,
                 hold, freed, count):
    """One cycle. port_free: the word walk does not use the map port. item_free: the fetch takes
    what is in the output register. header_popped: the drain takes a header. hold: the reader cannot
    fetch. freed: words of each engine's stream that are not needed any more."""
    header_taken = d.header[e] and d.headers[e] < HEADER_QUEUE
    state, ready, seeking = d.state[e], r.filled[e] == WINDOW, r.seek[e] == 1
    r.seek[e] = taken = 0
    if state == CHANNEL:
        if ready and not d.header[e] and not seeking:
            d.state[e], taken = BIAS, layer.channel_bits
            d.row_word[e], d.row_bit[e] = r.word[e], r.bit[e]
            if layer.streamed:
                freed[e] = r.word[e]
    elif state == BIAS:
        if ready:
            d.state[e], taken = THRESHOLD, layer.neuron_bits
    elif state == THRESHOLD and ready:
        d.state[e], taken = CODES, layer.neuron_bits
        d.header[e] = True
        d.extracted[e] = NOTHING
        if layer.attention:
            d.state[e] = ATTEND
            source_begins(source, e, d.row[e] * layer.n_groups + d.part[e] % layer.n_groups,
                          attention.channel[d.row[e]], attention.item_start)
    elif state == CODES or state == ATTEND:
        if state == ATTEND:
            granted = source_asks(source, e) and port_free
            count[N_WORDS] += granted
            x = source_step(source, e, granted, item_free, layer.key_words, layer.head_width,
                            attention.takes, attention.silent)
            if x >= 0:
                f.weight[e, ITEM], f.part[e, ITEM] = x, d.part[e]
            elif x == END:
                source.latched[e] = 1
            ends = source.latched[e] != 0 and item_free
        else:
            end_of_row = codes.code_start[d.row[e] + 1]
            x = d.extracted[e]
            # The filler bit waits: the pass ends.
            ends = x >= 0 and x == end_of_row and item_free
            consume = x >= 0 and x < end_of_row and (item_free or codes.tap[x] < 0)
            if consume:
                count[N_CODES] += 1
                if codes.tap[x] >= 0:
                    f.weight[e, ITEM], f.part[e, ITEM] = x, d.part[e]
            if not ends and consume:
                d.extracted[e] = NOTHING
            if not ends and ready and (x == NOTHING or consume):
                taken = 1
                if d.code[e] < end_of_row and codes.tap[d.code[e]] >= 0:
                    taken += layer.value_bits + layer.rice_k
                d.extracted[e] = d.code[e]
                d.code[e] += 1
        if ends:
            f.weight[e, ITEM], f.part[e, ITEM] = END, d.part[e]
            d.part[e] += 1
            d.state[e] = CHANNEL
            if d.part[e] == layer.n_groups * layer.n_strips:
                d.part[e] = 0
                d.row[e] += 1
                if d.row[e] == codes.row_start[e + 1]:
                    d.state[e] = IDLE
            else:
                reader_seeks(r, e, d.row_word[e], d.row_bit[e])
            if d.state[e] == CHANNEL:
                d.code[e] = codes.code_start[d.row[e]]
    if header_taken:
        d.header[e] = False
    d.headers[e] += int(header_taken) - int(header_popped)
    reader_step(r, e, taken, hold, seeking)
