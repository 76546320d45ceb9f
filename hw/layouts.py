"""Payloads and memory words of the core as Amaranth shapes, derived from `hw.program`."""

from __future__ import annotations

from amaranth import Shape, signed, unsigned
from amaranth.lib import data

from . import program
from .config import TIMESTEPS_PER_GROUP, CoreConfig


def _shape(name: str, width: int) -> Shape:
    return signed(width) if name.endswith("-") else unsigned(width)


def struct(fields: program.Fields) -> data.StructLayout:
    """Struct layout of one word's fields."""
    return data.StructLayout({program.plain(n): _shape(n, w) for n, w in fields})


def words(table) -> data.FlexibleLayout:
    """Layout over several 32-bit words: every field at its place."""
    fields = {}
    for index, row in enumerate(table):
        position = 32 * index
        for name, width in row:
            fields[program.plain(name)] = data.Field(_shape(name, width), position)
            position += width
    return data.FlexibleLayout(32 * len(table), fields)


LAYER = words(program.HEADER)
TAP = words(program.TAP)
PLANE = struct(program.PLANE)
ENGINE = struct(program.ENGINE)
ROW = struct(program.ROW_HEADER)

STREAM_MASKS = data.StructLayout({"gap": 12, "channel": 12, "neuron": 23})
"""Ones at the low end, as many as the layer's stream has bits of a gap, of a channel, and of a
neuron's parameter but its sign: `RowDecoder` takes fields with garbage above them."""

MASK = unsigned(TIMESTEPS_PER_GROUP)
"""Spike mask: bit t is the spike in timestep t of the group."""


def pass_header() -> data.StructLayout:
    """What the drain must know about one pass (row, strip, group)."""
    return data.StructLayout({
        "row": ROW,
        "first": 1,       # first pass of its row
        "last": 1,        # last pass of its row
        "first_group": 1,
        "last_group": 1,
        "last_strip": 1,
    })


def value(config: CoreConfig) -> Shape:
    """A weight, or a number of spikes that q, k and v have in common (up to 256)."""
    return signed(10 if config.attention else 8)


def weight_item(config: CoreConfig) -> data.StructLayout:
    """A decoded weight, or the end of a pass.

    timesteps: of the group in which the value counts; without attention it counts in all.
    """
    return data.StructLayout({
        "end": 1,
        "tap": 7,
        "channel": 13,
        "value": value(config),
        "timesteps": TIMESTEPS_PER_GROUP if config.attention else 0,
        "strip_word": 9,   # first accumulator word of the strip
        "last_strip": 1,
        "group": 2,
    })


def job(config: CoreConfig) -> data.StructLayout:
    """Synaptic job of one unit: add `weight` for every active lane; one without ends the pass."""
    return data.StructLayout({
        "masks": data.ArrayLayout(MASK, config.subs),
        "active": config.subs,
        "address": range(config.acc_depth),   # of sub-position 0, modulo the depth
        "weight": signed(config.acc_bits),
    })


def currents(config: CoreConfig) -> data.ArrayLayout:
    """Accumulated currents of one output position, one per timestep of the group."""
    return data.ArrayLayout(signed(config.acc_bits), TIMESTEPS_PER_GROUP)


def map_write(config: CoreConfig) -> data.StructLayout:
    """One finished map word on its way to memory."""
    return data.StructLayout({"address": range(config.map_words), "data": config.map_bits})
