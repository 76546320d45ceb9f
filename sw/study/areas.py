"""LUTs of one engine of every dataflow, from the same blocks, and how many fit a device.

Lanes and crossbars that our gateware does not have are taken from syntheses of the same parts for
xc7 (12-bit accumulators, T = 4): a unit with 64-deep LUTRAM 161, an 8 x 8 crossbar with queues
110 a unit, a position-parallel lane with its shift-out chain 116 a position.
"""

from __future__ import annotations

from hw.config import CoreConfig

from .. import area

COLUMN_UNIT, CROSSBAR, POSITION = 161, 110, 116
LIST_FETCH = 300
"""Event list and column list walkers of an event-driven group."""


LIVE_BITS = 150
"""A live bit per map word in LUTRAM, its unaligned read, and a priority encoder (an estimate)."""


def engine_luts(key: str, config: CoreConfig) -> float:
    """LUTs of one engine (a group of units) of a dataflow, by its key."""
    blocks = area.BLOCKS
    drain = area.drain(config).lut
    decoder, fetch = blocks["decoder"].lut, area.fetch(config).lut
    unit_mux = config.lanes * 4 * config.acc_bits * config.units / 4
    rotator = 4 * config.window * (config.units - 1).bit_length() / 2
    if key in ("gather", "skip"):
        return area.engine(config).lut + (LIVE_BITS if key == "skip" else 0)
    if key == "column":
        return 8 * (COLUMN_UNIT + CROSSBAR) + decoder + LIST_FETCH + drain
    if key == "events":
        units = 8 * (area.unit(config).lut + CROSSBAR)
        return units + decoder + fetch - rotator + drain
    positions = int(key.removeprefix("position"))
    align = 4 * positions * (positions - 1).bit_length() / 2
    return POSITION * positions + align + decoder + fetch - rotator + drain - unit_mux


def engines(key: str, config: CoreConfig, device: str) -> int:
    """Engines whose LUTs fit the budget of a device, at least one."""
    free = area.DEVICES[device].lut * area.LUT_BUDGET - area.BLOCKS["rest"].lut
    return max(1, int(free // engine_luts(key, config)))
