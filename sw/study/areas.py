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


def _engine(config: CoreConfig) -> dict[str, float]:
    """LUTs of our engine by part: unit (one), decoder, fetch, drain with lanes and packer."""
    found = {name: area.counted({name: cells}).lut / config.drain_engines
             for name, cells in area.cluster(config).items()}
    return {"unit": found["engine.unit"] / config.units, "decoder": found["engine.decoder"],
            "fetch": found["engine.fetch"], "all": sum(found.values()),
            "drain": sum(lut for name, lut in found.items() if name.startswith("engine.drain"))}


def engine_luts(key: str, config: CoreConfig) -> float:
    """LUTs of one engine (a group of units) of a dataflow, by its key.

    Only ours ("gather") has live bits; "scan" is ours without them.
    """
    ours = _engine(config)
    decoder, drain = ours["decoder"], ours["drain"]
    # Live bits of a map of the default size are what the measured difference is of.
    fetch = _engine(replace(config, map_words=CoreConfig().map_words))["fetch"] - LIVE_BITS
    unit_mux = config.lanes * 4 * config.acc_bits * config.units / 4
    rotator = 4 * config.window * (config.units - 1).bit_length() / 2
    if key == "gather":
        return ours["all"]
    if key == "scan":
        return ours["all"] - ours["fetch"] + fetch
    if key == "column":
        return 8 * (COLUMN_UNIT + CROSSBAR) + decoder + LIST_FETCH + drain
    if key == "events":
        return 8 * (ours["unit"] + CROSSBAR) + decoder + fetch - rotator + drain
    positions = int(key.removeprefix("position"))
    align = 4 * positions * (positions - 1).bit_length() / 2
    return POSITION * positions + align + decoder + fetch - rotator + drain - unit_mux


def engines(key: str, config: CoreConfig, device: str) -> int:
    """Engines whose LUTs fit the budget of a device, at least one."""
    free = area.DEVICES[device].lut * area.LUT_BUDGET - area.rest(config).lut
    return max(1, int(free // engine_luts(key, config)))
