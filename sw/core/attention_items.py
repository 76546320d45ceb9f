"""Attention items for `sw.core.cycle_kernel`, as `hw.attention.AttentionSource` gives them."""

from __future__ import annotations

import numpy as np

from hw.config import TIMESTEPS_PER_GROUP

from .jit import njit


@njit
def _ones(bits):
    count = 0
    while bits:
        bits &= bits - np.uint64(1)
        count += 1
    return count


@njit
def _prepare(spikes, channels, groups, key, value, words, stride, width):
    """Items by pass (row, group) as timesteps and channels; see `prepare`."""
    passes = channels.size * groups
    steps = np.zeros(passes * width * TIMESTEPS_PER_GROUP, np.int64)
    chans = np.zeros(passes * width * TIMESTEPS_PER_GROUP, np.int64)
    starts = np.zeros(passes + 1, np.int64)
    takes = np.zeros(passes * width, np.int64)
    silent = np.zeros(passes, np.bool_)
    sums = np.zeros(TIMESTEPS_PER_GROUP, np.int64)
    n = 0
    for at in range(passes):
        channel, offset = channels[at // groups], at % groups * stride
        head = channel - channel % width
        v = value + channel * words + offset
        silent[at] = not spikes[v:v + words].any()
        for i in range(width):
            k = key + (head + i) * words + offset
            for t in range(TIMESTEPS_PER_GROUP):
                sums[t] = 0
                for j in range(words):
                    sums[t] += _ones(spikes[k + j, t] & spikes[v + j, t])
            for t in range(TIMESTEPS_PER_GROUP):
                alike = 0
                for other in range(TIMESTEPS_PER_GROUP):
                    alike |= (sums[other] == sums[t]) << other
                if sums[t] and not alike & ((1 << t) - 1):
                    steps[n], chans[n] = alike, head + i
                    takes[at * width + i] += 1
                    n += 1
        starts[at + 1] = n
    return steps[:n], chans[:n], starts, takes, silent


def prepare(spikes: np.ndarray, channels: np.ndarray, header: dict[str, int]) -> tuple:
    """Items of all passes of a layer.

    spikes: uint64 [map_words, 4], a word's lanes that spike in a timestep. channels: int64 [rows],
    output channel of every row. Returns (timesteps and channel of every item; first item of every
    pass and an end; items by pass and channel of the head; passes whose v is silent); a pass is
    row * groups + group.
    """
    return _prepare(spikes, channels, header["n_groups"], header["key"], header["value"],
                    header["key_words"], header["key_group_stride"], header["head_width"])


def no_items() -> tuple:
    """What `prepare` returns, for a layer without attention."""
    none = np.zeros(0, np.int64)
    return none, none, np.zeros(1, np.int64), none, np.zeros(0, np.bool_)
