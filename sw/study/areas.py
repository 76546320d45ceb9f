"""LUTs of one engine of every dataflow, from the same blocks, and how many fit a device.

Lanes and crossbars that our gateware does not have are taken from syntheses of the same parts for
xc7 (12-bit accumulators, T = 4): a unit with 64-deep LUTRAM 161, an 8 x 8 crossbar with queues
110 a unit, a position-parallel lane with its shift-out chain 116 a position.
"""

from __future__ import annotations

from dataclasses import replace

from hw.config import CoreConfig

from .. import area

COLUMN_UNIT, CROSSBAR, POSITION = 161, 110, 116
LIST_FETCH = 300
"""Event list and column list walkers of an event-driven group."""

LIVE_BITS = 28
"""Our fetch with live bits against the same without: 813 and 785. Their memory takes 64, but the
walk over the words of a weight takes less."""


def _bare_fetch(config: CoreConfig) -> float:
    """LUTs of our fetch without live bits."""
    return area.fetch(replace(config, map_words=CoreConfig().map_words)).lut - LIVE_BITS


def engine_luts(key: str, config: CoreConfig) -> float:
    """LUTs of one engine (a group of units) of a dataflow, by its key.

    Only ours ("gather") has live bits; "scan" is ours without them.
    """
    blocks = area.BLOCKS
    drain = area.drain(config).lut
    decoder, fetch = blocks["decoder"].lut, _bare_fetch(config)
    unit_mux = config.lanes * 4 * config.acc_bits * config.units / 4
    rotator = 4 * config.window * (config.units - 1).bit_length() / 2
    if key == "gather":
        return area.engine(config).lut
    if key == "scan":
        return area.engine(config).lut - area.fetch(config).lut + fetch
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
