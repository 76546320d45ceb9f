"""Header fields of layers as the units' models and benches take them: dicts of those of
`hw.program.HEADER`."""

from __future__ import annotations

from collections.abc import Mapping

from hw import program

Layer = Mapping[str, int]


DEFAULT_LAYER = {program.plain(name): 0 for fields in program.HEADER for name, _ in fields} | {
    "n_taps": 1, "n_planes": 1, "value_bits": 4, "neuron_bits": 1, "leak": 256, "n_groups": 1,
    "last_mask": 15, "n_strips": 1, "strip_words": 1, "strip_words_last": 1, "strip_step": 1,
    "out_pitch": 1,
    **{f"count_{name}": 1 for name in ("kx", "ky", "ox", "oy", "oy_last", "px", "py")}}
"""Header fields of a layer that does as little as possible."""


def layer_bits(layer: Layer) -> int:
    """The layer's header words as one integer, as the `layer` ports take it."""
    words = program.pack_words(program.HEADER, layer)
    return sum(word << 32 * index for index, word in enumerate(words))


def stream_masks(layer: Layer) -> int:
    """`hw.layouts.STREAM_MASKS` as one integer, as the `masks` ports take it."""
    widths = (layer["rice_k"], layer["channel_bits"], layer["neuron_bits"] - 1)
    fields = (("gap", 12), ("channel", 12), ("neuron", 23))
    return program.pack(fields, {name: (1 << width) - 1 for (name, _), width
                                 in zip(fields, widths, strict=True)})


def wrap(value: int, bits: int) -> int:
    """Two's complement of so many bits."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value
