"""What the attention unit must answer: plain Python from `docs/core.md`, not from the gateware."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hw.attention import FULL
from hw.config import TIMESTEPS_PER_GROUP

Item = dict[str, int]


def head_sums(keys: Sequence[Sequence[int]], value: Sequence[int]) -> list[list[int]]:
    """M [width][4]: spikes that each k of a head has in common with one v.

    keys: masks [width][tokens]. value: masks [tokens].
    """
    return [[sum((k & v) >> t & 1 for k, v in zip(key, value, strict=True))
             for t in range(TIMESTEPS_PER_GROUP)] for key in keys]


def sums_to_items(sums: Sequence[int], channel: int) -> list[Item]:
    """Items of one channel of q: its values that are not 0, each once with all its timesteps."""
    values = dict.fromkeys(value for value in sums if value)
    return [{"channel": channel, "value": value,
             "timesteps": sum(1 << t for t, other in enumerate(sums) if other == value)}
            for value in values]


def read_map(memory: Sequence[Sequence[int]], base: int, layer: Mapping[str, int], channel: int,
             group: int) -> list[int]:
    """Masks of a channel's lanes in a group; memory: masks [words][window]."""
    first = base + channel * layer["channel_stride"] + group * layer["group_stride"]
    return [mask for word in range(layer["words"]) for mask in memory[(first + word) % len(memory)]]


def pass_sums(memory: Sequence[Sequence[int]], layer: Mapping[str, int], channel: int,
              group: int) -> list[list[int]] | None:
    """M of one pass; None if v is silent. layer: fields of `hw.attention.attention_layer`."""
    head = channel - channel % layer["width"]
    value = read_map(memory, layer["value"], layer, channel, group)
    if not any(value):
        return None
    return head_sums([read_map(memory, layer["key"], layer, head + i, group)
                      for i in range(layer["width"])], value)


def attend(queries: np.ndarray, keys: np.ndarray, values: np.ndarray, width: int) -> np.ndarray:
    """Currents x [channels, tokens, 4] of spiking attention, with M as weights of q.

    queries, keys, values: masks [channels, tokens]; heads of `width` channels.
    """
    channels, tokens = queries.shape
    x = np.zeros((channels, tokens, TIMESTEPS_PER_GROUP), np.int64)
    for c in range(channels):
        head = c - c % width
        for i, sums in enumerate(head_sums(keys[head:head + width].tolist(), values[c].tolist())):
            for item in sums_to_items(sums, head + i):
                masks = queries[item["channel"]] & item["timesteps"]
                for t in range(TIMESTEPS_PER_GROUP):
                    x[c, :, t] += item["value"] * (masks >> t & 1)
    return x


def pass_cycles(layer: Mapping[str, int], slices: int, skipped: int,
                sums: Sequence[Sequence[int]] | None) -> tuple[list[int], int]:
    """Cycle of each item and of `done`, counted from `start`, at full speed.

    skipped: channels from the last pass' to this one's. sums: of the pass, None if v is silent.
    """
    words, width = layer["words"], layer["width"]
    takes = [len(sums_to_items(m, 0)) for m in sums] if sums else [0] * width
    request, asked, waits, noticed = 6 + skipped, 0, 0, False
    silent = None if sums else request + (words - 1) * slices + slices + 3
    queue: list[int] = []       # cycles in which sums can be taken
    items: list[int] = []
    emitted, free, quiet = 0, 0, 0
    cycle = 0
    finished = False
    while not (finished and not queue and cycle >= free and cycle > quiet):
        level = sum(visible <= cycle for visible in queue)
        if not finished and cycle >= request and not waits and not noticed:
            asked, waits = asked + 1, slices
            channel, word = divmod(asked - 1, words)
            # The way of a word: two stages of memory, its slices, three more, and the push.
            quiet = cycle + 5 + slices
            if word == words - 1 and channel:
                queue.append(cycle + 7 + slices)
                quiet = cycle + 6 + slices
            finished = channel == width and word == words - 1
        finished = finished or cycle == silent
        if queue and queue[0] <= cycle and cycle >= free:
            queue.pop(0)
            count = takes[emitted]
            items += [cycle + 2 + n for n in range(count)]
            free = cycle + max(1, count)
            emitted += 1
        waits, noticed = max(0, waits - 1), level >= FULL
        cycle += 1
    done = max([cycle, free + 1, *(item + 1 for item in items[-1:])])
    return items, done
