"""The layer program: every word the sequencer reads, defined once for compiler and gateware.

A program is a sequence of layers in the program memory. A layer is

    HEADER words | one ENGINE word per engine | PLANE words | TAP entries of TAP_WORDS words

The field tables below give each word its fields, least significant first; a name ending in ``-``
is signed. `docs/core.md` explains the fields. Row streams in the weight memory use ROW_HEADER and
the code described there.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

Fields = tuple[tuple[str, int], ...]

HEADER: tuple[Fields, ...] = (
    (("n_taps", 8), ("n_planes", 7), ("rice_k", 4), ("value_bits", 4), ("channel_bits", 4),
     ("neuron_bits", 5)),
    (("leak", 9), ("n_groups", 3), ("last_mask", 4), ("row_words_mask", 4),
     ("planes_per_group", 7), ("gate", 1), ("gate_host", 1), ("score", 1), ("score_clear", 1),
     ("pool_overlap", 1)),
    (("v_reset-", 24), ("n_strips", 8)),
    (("strip_words", 5), ("strip_words_last", 5), ("positions", 10), ("positions_last", 10),
     ("bit_planes", 1), ("pool_max", 1)),
    (("pitch_mask", 10), ("row_valid", 10), ("out_pitch", 10), ("pair", 1),
     ("pair_merge", 1)),
    (("count_kx", 5), ("count_ky", 5), ("count_ox", 8), ("count_oy", 7), ("count_oy_last", 7)),
    (("count_px", 5), ("count_py", 5), ("step_kx", 10), ("step_ky", 10), ("readout", 1),
     ("soft_reset", 1)),
    (("step_ox", 10), ("step_oy", 10), ("step_px", 10), ("flush_strip", 1), ("listed", 1)),
    (("step_py", 10), ("out_base", 14), ("out_channel_stride", 8)),
    (("out_group_stride", 14), ("out_phase_stride", 12), ("strip_step", 5), ("last_layer", 1)),
    (("strip_out_words", 8), ("value", 14), ("head_width", 7), ("attention", 1),
     ("streamed", 1), ("stream_begin", 1)),
    (("key", 14), ("key_words", 4), ("key_group_stride", 14)),
)
ENGINE: Fields = (("start", 16), ("rows", 12))
PLANE: Fields = (("offset", 14), ("shift", 3))
TAP: tuple[Fields, ...] = (
    (("base", 14), ("channel_stride", 8), ("word_offset-", 9)),
    (("channels", 13), ("shift-", 13), ("extra", 1), ("edge", 2)),
    (("mask_low", 32),),
    (("mask_high", 32),),
    (("plane_start", 6), ("plane_count", 6), ("channel_words", 9)),
)
TAP_WORDS = len(TAP)
ROW_HEADER: Fields = (("channel", 12), ("bias-", 18), ("threshold-", 24))
"""What a row says besides its weights. In the weight stream these fields are as wide as the layer
needs: `channel_bits`, and `neuron_bits` for each of the other two (`sw.compile.rice`)."""

STREAM_FIELDS = ("streamed", "stream_begin")
"""Fields of HEADER that only a core with DRAM reads (`CoreConfig.dram_words`)."""

EDGE_ALWAYS, EDGE_FIRST, EDGE_LAST = 0, 1, 2
"""TAP.edge: apply the mask to every word, or only to the first/last word of an image row."""


def plain(name: str) -> str:
    return name.rstrip("-")


def limits(name: str, width: int) -> tuple[int, int]:
    """Smallest and largest value of a field."""
    if name.endswith("-"):
        return -(1 << width - 1), (1 << width - 1) - 1
    return 0, (1 << width) - 1


def pack(fields: Fields, values: Mapping[str, int]) -> int:
    """Pack the named values of one word. Raises ValueError naming a field that does not fit."""
    word, position = 0, 0
    for name, width in fields:
        value = int(values[plain(name)])
        low, high = limits(name, width)
        if not low <= value <= high:
            raise ValueError(f"{plain(name)} = {value} is outside {low}..{high}")
        word |= (value & ((1 << width) - 1)) << position
        position += width
    return word


@functools.cache
def _places(fields: Fields) -> tuple[tuple[str, int, int, int], ...]:
    """Name, position, mask and sign bit (0: unsigned) of each field."""
    found, position = [], 0
    for name, width in fields:
        found.append((plain(name), position, (1 << width) - 1,
                      1 << width - 1 if name.endswith("-") else 0))
        position += width
    return tuple(found)


def unpack(fields: Fields, word: int) -> dict[str, int]:
    """Inverse of `pack`."""
    return unpack_words((fields,), (word,))


def pack_words(table: Sequence[Fields], values: Mapping[str, int]) -> list[int]:
    return [pack(fields, values) for fields in table]


def unpack_words(table: Sequence[Fields], words: Sequence[int]) -> dict[str, int]:
    return {name: ((word >> position & mask) ^ sign) - sign
            for fields, word in zip(table, words, strict=True)
            for name, position, mask, sign in _places(fields)}


WALK_BITS = 10
_INNER, _PHASES = ("kx", "ky", "ox", "oy"), ("px", "py")


def walk_steps(counts: Mapping[str, int], increments: Mapping[str, int]) -> dict[str, int]:
    """Steps of the drain walk from the flat increments of its loops.

    increments `inc_*` say how far one turn of a loop moves; the steps `step_*` also take back what
    the loops inside have moved, modulo 2^10, so that the walker needs one adder. The phase loops
    start from the strip's position 0 and contain none of the inner four.
    """
    steps = {}
    for loops in (_INNER, _PHASES):
        moved = 0
        for name in loops:
            steps[f"step_{name}"] = (increments[f"inc_{name}"] - moved) % (1 << WALK_BITS)
            moved += (counts[f"count_{name}"] - 1) * increments[f"inc_{name}"]
    return steps


def walk_increments(header: Mapping[str, int]) -> dict[str, int]:
    """Inverse of `walk_steps`: the increments `inc_*` of a layer's header."""
    increments = {}
    for loops in (_INNER, _PHASES):
        moved = 0
        for name in loops:
            step = (header[f"step_{name}"] + moved) % (1 << WALK_BITS)
            increments[f"inc_{name}"] = step
            moved += (header[f"count_{name}"] - 1) * step
    return increments


for _table in (*HEADER, ENGINE, PLANE, *TAP):
    assert sum(width for _, width in _table) <= 32, _table
