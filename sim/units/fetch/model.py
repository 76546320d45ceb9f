"""What the fetch must answer: plain Python from `docs/core.md`, not from the gateware."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hw import program
from hw.config import CoreConfig
from sim.units.layers import Layer


def fetch_words(item: Mapping, layer: Layer, tap: Mapping, planes: Sequence[Mapping],
                config: CoreConfig) -> list[list[tuple[int, int, int]]]:
    """Words one weight needs: per plane a list of (address, word index j, weight << shift)."""
    words = layer["strip_words_last"] if item["last_strip"] else layer["strip_words"]
    first = item["strip_word"] + tap["word_offset"]
    last = min(first + words - 1 + tap["extra"], tap["channel_words"] - 1)
    base = tap["base"] + item["channel"] * tap["channel_stride"]
    result = []
    for p in range(tap["plane_count"]):
        plane = planes[item["group"] * layer["planes_per_group"] + tap["plane_start"] + p]
        result.append([((base + plane["offset"] + j) % config.map_words, j,
                        item["value"] << plane["shift"])
                       for j in range(max(first, 0), last + 1)])
    return result


def deal_word(lanes: Sequence[int], j: int, weight: int, item: Mapping, layer: Layer,
              tap: Mapping, config: CoreConfig) -> dict[int, dict]:
    """Jobs (`hw.layouts.job`) by unit that one map word causes; lanes: its spike masks.

    Position by position: input lane i is flat position q_in; its output q = q_in - shift belongs
    to unit q mod units, accumulator row (q - start of the strip) / units.
    """
    timesteps = item["timesteps"] if config.attention else 15
    units, subs, window = config.units, config.subs, config.window
    limit = layer["positions_last"] if item["last_strip"] else layer["positions"]
    row_word = j & layer["row_words_mask"]
    masked = {program.EDGE_ALWAYS: True, program.EDGE_FIRST: row_word == 0,
              program.EDGE_LAST: row_word == layer["row_words_mask"]}[tap["edge"]]
    jobs: dict[int, dict] = {}
    for i in range(window):
        q = window * (j - item["strip_word"]) + i - tap["shift"]
        unit, m = q % units, i // units
        allowed = not masked or tap["mask"] >> (m * units + unit) & 1
        job = jobs.setdefault(unit, {
            "masks": [0] * subs, "active": 0, "address": 0, "weight": weight})
        job["masks"][m] = lanes[i] & timesteps
        job["address"] = (q // units - m) % config.acc_depth
        if lanes[i] & timesteps and allowed and 0 <= q < limit:
            job["active"] |= 1 << m
    return {unit: job for unit, job in jobs.items() if job["active"]}
