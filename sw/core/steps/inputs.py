"""What a layer's cycles depend on, as the steps read it; `sw.core.cycle_arrays` prepares it.

Only activity matters, never a value: a map word is the bit set of its lanes with a non-empty spike
mask (in attention, where items count in some timesteps only, one bit set a timestep).
"""

from __future__ import annotations

from typing import NamedTuple

from numpy import ndarray

# Flags of a step of the drain walk; the number of neurons it visits is above them.
F_WINDOW_END, F_ROW_END, F_PHASE_END, F_LAST, F_COUNT = 1, 2, 4, 8, 16
F_VALID, F_LAST_STRIP, F_LAST_PASS, F_ODD = 1 << 8, 1 << 9, 1 << 10, 1 << 11

# What an accumulate slot (a unit in a cycle) did: an update, or what kept it from one.
(USED, SCAN, QUEUE, NEURON, PORT, DECODE, DONE) = range(7)
CAUSES = 7

# Counters, see `sw.core.cycles.COUNTERS`.
(N_WORDS, N_WEIGHTS, N_UPDATES, N_QUEUE, N_PORT, N_STARVED, N_BANK, N_NEURONS, N_WRITTEN,
 N_CODES, N_PASSES, N_SILENT) = range(12)
COUNTERS = 12

NOTHING, END = -2, -1
"""In place of a weight: an empty register, and the marker that ends a pass."""


class Size(NamedTuple):
    """The core: fields of `CoreConfig`, and sizes of its queues and pipelines.

    drain_stages: visits between the walk and the drain's queue. skip_silent: whether words without
    any spike stay unread (the gateware's way; the study's ladder has both).
    """

    engines: int
    units: int
    window: int
    queue_depth: int
    queue_margin: int
    fetch_queue: int
    drain_queue: int
    drain_margin: int
    drain_stages: int
    skip_silent: bool
    drains: int
    drain_engines: int


class Layer(NamedTuple):
    """Fields of the program's layer header (`hw.program`)."""

    n_groups: int
    n_strips: int
    strip_words: int
    strip_words_last: int
    strip_step: int
    row_words_mask: int
    planes_per_group: int
    positions: int
    positions_last: int
    pair: int
    pair_merge: int
    pool_max: int
    readout: int
    flush_strip: int
    out_pitch: int
    attention: int
    key_words: int
    head_width: int
    channel_bits: int
    neuron_bits: int
    value_bits: int
    rice_k: int
    streamed: int


class Taps(NamedTuple):
    """Fields of the program's taps, [n_taps] each. allowed: uint64, bit set of the lanes that the
    tap's mask lets through, in lane order."""

    base: ndarray
    channel_stride: ndarray
    channel_words: ndarray
    word_offset: ndarray
    shift: ndarray
    extra: ndarray
    edge: ndarray
    plane_start: ndarray
    plane_count: ndarray
    allowed: ndarray


class Codes(NamedTuple):
    """The weight streams of all engines: first word of each engine's rows [engines], first row of
    each engine [engines + 1], first code of each row [rows + 1], and a code's tap (-1: a skip bit)
    and channel. In an attention layer its items stand for the codes."""

    start: ndarray
    row_start: ndarray
    code_start: ndarray
    tap: ndarray
    channel: ndarray


class Maps(NamedTuple):
    """The map memory, and where planes begin: uint64 [map_words], bit sets of lanes that are
    active; the same by timestep [map_words, 4], for attention only; word offsets of the planes."""

    active: ndarray
    spikes: ndarray
    planes: ndarray


class Walk(NamedTuple):
    """The drain walk: steps of any strip, then of the last one: start [3] of each and the end,
    positions and flags of the steps."""

    start: ndarray
    position: ndarray
    flags: ndarray


class Attention(NamedTuple):
    """Output channels of an attention layer's rows, and what `attention_items.prepare` gives:
    timesteps of every item; first item of every pass; items by pass and channel; silent passes."""

    channel: ndarray
    item_steps: ndarray
    item_start: ndarray
    takes: ndarray
    silent: ndarray
