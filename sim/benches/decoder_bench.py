"""`hw.decoder.RowDecoder` against `sim.models.decode_rows`: headers, items and their timing.

Many random layers in one simulation: every value width, every k that the compiler uses, empty
and full rows, many strips and groups. Settings: config, seed, layers (how many).
"""

from __future__ import annotations

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, ReadOnly

from hw import layouts
from hw.config import CoreConfig
from sim import models
from sim.helpers import settings, start
from sim.models import Row
from sim.streams import MODES, Sink, Stalls, seeded

RESTART, HEADER = 5, 3
"""Cycles of a rewind or a start, and of a row header."""

SLACK = 3
"""Cycles a pass may take besides: to notice the end of the row and hand on its marker."""

MOST_WEIGHTS = 50
"""Of a row, on average; rows with fewer indices may be full."""

DENSITIES = (0.0, 0.01, 0.1, 0.4, 0.9, 1.0)


def random_layer(rng: np.random.Generator, number: int) -> tuple[dict, list[int], list[Row]]:
    """Header fields, channels of every tap, rows."""
    width = number % 8 + 1
    k = number % 10
    taps = int(rng.integers(1, 5))
    channels = [(1 << k) + (int(rng.integers(0, 20)) if rng.random() < 0.7 else 0)
                for _ in range(taps)]
    layer = models.DEFAULT_LAYER | {
        "n_taps": taps, "rice_k": k, "value_bits": width, "strip_words": int(rng.integers(1, 5)),
        "n_strips": int(rng.choice([1, 1, 1, 2, 3])), "n_groups": int(rng.choice([1, 1, 1, 2, 4]))}
    rows = 0 if number % 13 == 12 else int(rng.integers(1, 3))     # an engine without a share
    return layer, channels, [random_row(rng, channels, width) for _ in range(rows)]


def random_row(rng: np.random.Generator, channels: list[int], width: int) -> Row:
    density = rng.choice(DENSITIES)
    total = sum(channels)
    if total > MOST_WEIGHTS:
        density = min(density, MOST_WEIGHTS / total)
    kept = rng.random(total) < density
    if rng.random() < 0.3:                      # the ends of the row
        kept[[0, -1]] = True
    indices = np.flatnonzero(kept)
    top = 1 << width - 1
    values = rng.choice([-1, 1], indices.size) if width == 1 else rng.integers(
        -top, top, indices.size)
    values = np.where(values == 0, -top, values)
    edge = rng.choice([-1, 0, 1])
    return Row(int(rng.integers(0, 1 << 12)),
               int(edge * ((1 << 17) - 1)) if edge else int(rng.integers(-(1 << 17), 1 << 17)),
               int(edge * ((1 << 23) - 1)) if edge else int(rng.integers(-(1 << 23), 1 << 23)),
               indices.tolist(), values.tolist())


@cocotb.test()
@cocotb.parametrize(mode=MODES)
async def layers(dut, mode):
    config = CoreConfig(**settings()["config"])
    rng = seeded(settings()["seed"], mode)
    stalls = Stalls(mode, rng)
    for name in ("layer", "start", "start_word", "rows", "channels", "data"):
        getattr(dut, name).value = 0
    headers = Sink(dut, "header", layouts.pass_header())
    items = Sink(dut, "items", layouts.weight_item())
    await start(dut, 200_000)
    count = settings()["layers"]
    for number in range(count if mode == "full_speed" else count // 2):
        layer, channels, rows = random_layer(rng, number)
        stream = models.encode_rows(rows, layer, channels)
        begin = int(rng.integers(0, config.weight_words - len(stream) - 8))
        memory = rng.integers(0, 1 << 32, config.weight_words).tolist()
        memory[begin:begin + len(stream)] = stream
        await run_layer(dut, layer, channels, rows, begin, memory, stalls, headers, items)


async def run_layer(dut, layer, channels, rows, begin, memory, stalls, headers, items):
    want_headers, want_items = models.decode_rows(rows, layer, channels)
    got_headers, got_items, times = [], [[]], []
    codes: list[list[int]] = [[]]
    address = 0
    for time in range(-2, 1 << 30):
        await FallingEdge(dut.clk)
        dut.data.value = memory[address]
        tap = int(dut.channels_tap.value)
        dut.channels.value = channels[tap] if tap < len(channels) else 1
        dut.layer.value = models.layer_bits(layer)
        dut.start.value = time == 0
        dut.start_word.value, dut.rows.value = begin, len(rows)
        # Nobody can stall the input, a memory; both consumers stall on their own.
        headers.drive(stalls.output() or stalls.input())
        items.drive(stalls.output())
        await ReadOnly()
        address = int(dut.address.value)
        if dut.code.value == 1:
            codes[-1].append(time)
        header, item = headers.sample(), items.sample()
        if header is not None:
            got_headers.append(header)
        if item is not None:
            if item["end"]:
                times.append(time)
                got_items.append([])
                codes.append([])
            else:
                got_items[-1].append(item)
        if time > 0 and dut.idle.value == 1:
            break
    assert got_items.pop() == []
    assert got_headers == want_headers, f"headers of {layer}"
    assert got_items == want_items, f"items of {layer}, channels {channels}"
    check_timing(layer, channels, rows, codes, times, stalls)


def check_timing(layer, channels, rows, codes, times, stalls) -> None:
    """A code a cycle; a restart per pass that rewinds, and at the start of the layer."""
    passes = layer["n_strips"] * layer["n_groups"]
    counts = [models.count_codes(row, layer, channels) for row in rows for _ in range(passes)]
    # While an end waits to be taken, skips of the next pass may already be consumed.
    assert sum(map(len, codes)) == sum(counts), "codes consumed"
    if stalls.any:
        return
    assert [len(c) for c in codes[:-1]] == counts
    for cycles in codes[:-1]:
        assert np.diff(cycles).tolist() == [1] * (len(cycles) - 1), "a gap between codes"
    before = 0
    for number, (count, end) in enumerate(zip(counts, times, strict=True)):
        rewinds = (passes > 1 and number % passes != 0) or number == 0
        cost = RESTART * rewinds + HEADER + count
        assert cost <= end - before <= cost + SLACK, (number, end - before, cost)
        before = end
