"""`hw.decoder.RowDecoder` against `model.decode_rows`: headers, items and their timing.

Many random layers in one simulation: every value width, every k that the compiler uses, empty
and full rows, many strips and groups; attention layers, whose items the bench offers at random, as
an `attention.AttentionSource` would. Settings: config, seed, layers (how many).
"""

from __future__ import annotations

from dataclasses import dataclass

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, ReadOnly

from hw import layouts
from hw.attention import attention_item
from hw.config import CoreConfig
from sim.helpers import settings, start
from sim.streams import MODES, Sink, Source, Stalls, seeded
from sim.units.decoder import model
from sim.units.decoder.model import Row
from sim.units.layers import DEFAULT_LAYER, layer_bits, stream_masks

RESTART, HEADER = 5, 3
"""Cycles of a rewind or a start, and of a row header."""

SLACK = 3
"""Cycles a pass may take besides: to notice the end of the row and hand on its marker."""

MOST_WEIGHTS = 50
"""Of a row, on average; rows with fewer indices may be full."""

ATTENTION = 5
"""One layer in so many is an attention layer (if config.attention)."""

DENSITIES = (0.0, 0.01, 0.1, 0.4, 0.9, 1.0)


@dataclass
class Layer:
    """Header fields, channels of every tap, rows; items of every pass of an attention layer."""

    fields: dict
    channels: list[int]
    rows: list[Row]
    sums: list[list[dict]]

    @property
    def passes(self) -> int:
        """Of each row."""
        return self.fields["n_strips"] * self.fields["n_groups"]

    def wanted(self) -> tuple[list[dict], list[list[dict]]]:
        """Headers and items of every pass."""
        if self.fields["attention"]:
            return model.attend_rows(self.rows, self.fields, self.sums)
        return model.decode_rows(self.rows, self.fields, self.channels)


def random_layer(rng: np.random.Generator, number: int, config: CoreConfig) -> Layer:
    width = number % 8 + 1
    k = number % 10
    taps = int(rng.integers(1, 5))
    channels = [(1 << k) + (int(rng.integers(0, 20)) if rng.random() < 0.7 else 0)
                for _ in range(taps)]
    attention = config.attention and number % ATTENTION == 3
    layer = Layer(DEFAULT_LAYER | {
        "n_taps": taps, "rice_k": k, "value_bits": width, "strip_step": int(rng.integers(1, 5)),
        "n_strips": int(rng.choice([1, 1, 1, 2, 3])), "n_groups": int(rng.choice([1, 1, 1, 2, 4])),
        "attention": int(attention)}, channels, [], [])
    rows = 0 if number % 13 == 12 else int(rng.integers(1, 3))     # an engine without a share
    numbers = np.sort(rng.choice(1 << int(rng.integers(1, 13)), rows, replace=False))
    bits = int(rng.integers(1, 25))
    layer.rows = [random_row(rng, int(number), [0] if attention else channels, width, bits)
                  for number in numbers]
    least = model.row_widths(layer.rows)
    layer.fields |= {name: int(rng.integers(fewest, most + 1)) if rng.random() < 0.3 else fewest
                     for (name, fewest), most in zip(least.items(), (12, 24), strict=True)}
    if attention:
        layer.sums = [random_sums(rng) for _ in range(rows * layer.passes)]
    return layer


def random_sums(rng: np.random.Generator) -> list[dict]:
    return [{"channel": int(rng.integers(0, 1 << 12)), "value": int(rng.integers(1, 1 << 8)),
             "timesteps": int(rng.integers(1, 16))} for _ in range(int(rng.choice([0, 1, 2, 9])))]


def random_row(rng: np.random.Generator, number: int, channels: list[int], width: int,
               bits: int) -> Row:
    """number: its output channel. bits: of its neuron's parameters."""
    density = rng.choice(DENSITIES)
    total = sum(channels)
    if total > MOST_WEIGHTS:
        density = min(density, MOST_WEIGHTS / total)
    kept = rng.random(total) < density
    if total and rng.random() < 0.3:                      # the ends of the row
        kept[[0, -1]] = True
    indices = np.flatnonzero(kept)
    top = 1 << width - 1
    values = rng.choice([-1, 1], indices.size) if width == 1 else rng.integers(
        -top, top, indices.size)
    values = np.where(values == 0, -top, values)
    edge = int(rng.choice([-1, 0, 1]))
    bias, threshold = (edge * (top - (edge > 0)) if edge else int(rng.integers(-top, top))
                       for top in (1 << min(bits, 18) - 1, 1 << bits - 1))
    return Row(number, bias, threshold, indices.tolist(), values.tolist())


class Attention:
    """Plays the source of an attention layer's items: any number of cycles before each."""

    def __init__(self, dut, rng: np.random.Generator):
        self._dut, self._rng = dut, rng
        self._source = Source(dut, "sums", attention_item(CoreConfig(**settings()["config"])))
        dut.attended.value = 0
        self.begin([])

    def begin(self, passes: list[list[dict]]) -> None:
        """A layer; items of its passes to come."""
        self._passes, self._running, self._taken = iter(passes), False, False
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.places: list[tuple[int, int]] = []     # channel and group asked for

    def drive(self, stalled: bool) -> None:
        self._source.drive(stalled)
        # A cycle after the last item was taken at the earliest.
        ends = self._running and self._source.idle and not self._taken and not stalled
        self._dut.attended.value = int(ends)

    def sample(self, time: int) -> None:
        dut = self._dut
        self._taken = self._source.sample()
        if dut.attended.value == 1:
            self._running = False
            self.ends.append(time)
        if dut.attend.value == 1:
            assert not self._running, "a pass begins before the last one has ended"
            self._running = True
            self._source.add(next(self._passes))
            self.starts.append(time)
        if self._running and len(self.places) < len(self.starts):
            self.places.append((int(dut.channel.value), int(dut.group.value)))


@cocotb.test()
@cocotb.parametrize(mode=MODES)
async def layers(dut, mode):
    config = CoreConfig(**settings()["config"])
    rng = seeded(settings()["seed"], mode)
    stalls = Stalls(mode, rng)
    for name in ("layer", "masks", "start", "start_word", "rows", "channels", "data"):
        getattr(dut, name).value = 0
    headers = Sink(dut, "header", layouts.pass_header())
    items = Sink(dut, "items", layouts.weight_item(config))
    attention = Attention(dut, rng) if config.attention else None
    await start(dut, 200_000)
    count = settings()["layers"]
    for number in range(count if mode == "full_speed" else count // 2):
        layer = random_layer(rng, number, config)
        stream = model.encode_rows(layer.rows, layer.fields, layer.channels)
        begin = int(rng.integers(0, config.weight_words - len(stream) - 8))
        memory = rng.integers(0, 1 << 32, config.weight_words).tolist()
        memory[begin:begin + len(stream)] = stream
        await run_layer(dut, layer, begin, memory, stalls, headers, items, attention)


async def run_layer(dut, layer, begin, memory, stalls, headers, items, attention):
    want_headers, want_items = layer.wanted()
    got_headers, got_items, times = [], [[]], []
    codes: list[list[int]] = [[]]
    address = 0
    if attention:
        attention.begin(layer.sums)
    for time in range(-2, 1 << 30):
        await FallingEdge(dut.clk)
        dut.data.value = memory[address]
        tap = int(dut.channels_tap.value)
        dut.channels.value = layer.channels[tap] if tap < len(layer.channels) else 1
        dut.layer.value = layer_bits(layer.fields)
        dut.masks.value = stream_masks(layer.fields)
        dut.start.value = time == 0
        dut.start_word.value, dut.rows.value = begin, len(layer.rows)
        # Nobody can stall the input, a memory; both consumers stall on their own.
        headers.drive(stalls.output() or stalls.input())
        items.drive(stalls.output())
        if attention:
            attention.drive(stalls.input())
        await ReadOnly()
        address = int(dut.address.value)
        if dut.code.value == 1:
            codes[-1].append(time)
        if attention:
            attention.sample(time)
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
    assert got_items == want_items, f"items of {layer}"
    if layer.fields["attention"]:
        check_attention(layer, attention, times, stalls)
    else:
        check_timing(layer, codes, times, stalls)


def restart(number: int, passes: int) -> int:
    """Cycles before the header of this pass of the layer."""
    return RESTART if number == 0 or number % passes else 0


def check_attention(layer, attention, times, stalls) -> None:
    """A pass begins right after its header, and its marker follows the end of its items."""
    wanted = [(row.channel, group) for row in layer.rows for _ in range(layer.fields["n_strips"])
              for group in range(layer.fields["n_groups"])]
    assert attention.places == wanted
    assert len(attention.ends) == len(times) == len(wanted)
    if stalls.any:
        return
    before = 0
    for number, (begin, end, marker) in enumerate(
            zip(attention.starts, attention.ends, times, strict=True)):
        assert begin - before == restart(number, layer.passes) + HEADER + (number == 0), number
        assert marker == end + 1, number
        before = marker


def check_timing(layer, codes, times, stalls) -> None:
    """A code a cycle; a restart per pass that rewinds, and at the start of the layer."""
    counts = [model.count_codes(row, layer.fields, layer.channels)
              for row in layer.rows for _ in range(layer.passes)]
    # While an end waits to be taken, skips of the next pass may already be consumed.
    assert sum(map(len, codes)) == sum(counts), "codes consumed"
    if stalls.any:
        return
    assert [len(c) for c in codes[:-1]] == counts
    for cycles in codes[:-1]:
        assert np.diff(cycles).tolist() == [1] * (len(cycles) - 1), "a gap between codes"
    before = 0
    for number, (count, end) in enumerate(zip(counts, times, strict=True)):
        cost = restart(number, layer.passes) + HEADER + count
        assert cost <= end - before <= cost + SLACK, (number, end - before, cost)
        before = end
