"""`hw.drain.Drain` (walk, neurons, packer) against `model.RowDrain`: every finished word.

The bench plays the units of all engines that share the drain: it fills banks, answers reads and
clears what was read. Layers come from compiled networks, spikes and sums from random currents.
Settings: config, engines, seed, layers (a JSON file: a list of `hw.program.HEADER` fields), rows
(per layer and engine).
"""

from __future__ import annotations

import itertools
import json
from collections import Counter, deque
from pathlib import Path

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, ReadOnly, ReadWrite

from hw import layouts
from hw.config import SCORE_LATENCY, CoreConfig
from hw.neuron import LATENCY
from sim.helpers import settings, start
from sim.streams import MODES, Codec, Sink, Source, Stalls, seeded
from sim.units.drain import model as drain_model
from sim.units.layers import layer_bits

PREPARE = 2
"""Cycles to prepare a pass."""

PIPELINE = LATENCY + 8
"""Cycles from the last read of a pass to its last mask in the packer, at most."""


def random_rows(rng: np.random.Generator, layer: dict, config: CoreConfig, count: int):
    """Passes (header, currents of all positions) of random rows of a layer."""
    scale = int(rng.choice([3, 40, 2000]))      # 15 times as much fits an accumulator
    stride, base = layer["out_channel_stride"], layer["out_base"]
    most = max(1, (config.map_words - base) // max(1, stride))
    for _ in range(count):
        soft = layer["soft_reset"]
        threshold = int(rng.integers(0 if soft else -scale, scale))
        if layer["readout"]:
            threshold = int(rng.integers(-(1 << 23), 1 << 23))
        row = {"channel": int(rng.integers(0, min(most, 1 << 12))),
               "bias": 0 if layer["readout"] else int(rng.integers(-scale // 3, scale // 3 + 1)),
               "threshold": threshold}
        for strip in range(layer["n_strips"]):
            for group in range(layer["n_groups"]):
                last = strip == layer["n_strips"] - 1
                last_group = group == layer["n_groups"] - 1
                header = {"row": row, "first": int(strip == group == 0),
                          "last": int(last and last_group), "first_group": int(group == 0),
                          "last_group": int(last_group), "last_strip": int(last)}
                yield header, random_currents(rng, layer, last, scale, config)


def random_currents(rng: np.random.Generator, layer: dict, last_strip: bool, scale: int,
                    config: CoreConfig) -> list[list[int]]:
    """Currents [positions][4], also at visited positions that are no outputs; zero elsewhere."""
    acc = np.zeros((config.tile_positions, 4), np.int64)
    limit = layer["positions_last"] if last_strip else layer["positions"]
    for visit in drain_model.walk(layer, last_strip):
        for q in (visit.position, visit.position + 1)[:1 + layer["pair"]]:
            if q < limit and visit.clears:
                acc[q] = rng.integers(-scale, scale + 1, 4)
    return acc.tolist()


def first_strips(headers: list[dict]) -> list[bool]:
    """By pass: is it in its row's first strip?"""
    found, first = [], True
    for header in headers:
        first = bool(header["first"]) if header["first_group"] else first
        found.append(first)
    return found


def count_neurons(layer: dict, header: dict, first_strip: bool) -> int:
    """Neurons (positions, or windows under a max pool) that a pass updates."""
    if layer["readout"]:
        return 0
    last, count, window = header["last_strip"], 0, []
    for visit in drain_model.walk(layer, last, first_strip):
        window = [] if visit.window_first else window
        window += [q for q in drain_model.valid_positions(layer, visit, last) if q is not None]
        if not layer["pool_max"]:
            count += len(window)
            window = []
        elif visit.window_last:
            count += bool(window)
    return count


class Units:
    """The accumulators of an engine's units: two banks, flags, and who may touch them when."""

    def __init__(self, dut, engine: int, config: CoreConfig, passes):
        self.config = config
        self.ports = {name: getattr(dut, f"engines__{engine}__{name}") for name in (
            "filled", "currents", "claim", "read", "clear", "bank", "address", "release")}
        self.banks = np.zeros((2, config.units, config.acc_depth, 4), np.int64)
        self.filled = [[False, False] for _ in range(config.units)]
        self.waiting = deque(passes)
        self.pending: list[list[int]] = [[], []]        # units that still work on the bank
        self.next_bank = 0
        self.claimed = 0
        self.codec = Codec(layouts.currents(config))
        self.reads: list[tuple[int, int]] = []          # (cycle, units read)
        self.releases: list[int] = []

    def fill(self, rng: np.random.Generator, allowed: bool, at_once: bool) -> None:
        """Units end passes: a bank takes one when it is free, one unit after another."""
        bank = self.next_bank
        if allowed and self.waiting and not any(flags[bank] for flags in self.filled) \
                and not any(self.pending):
            currents = np.array(self.waiting.popleft()).reshape(-1, self.config.units, 4)
            self.banks[bank] += currents.swapaxes(0, 1)
            self.pending[bank] = list(rng.permutation(self.config.units))
            self.next_bank ^= 1
        for bank, pending in enumerate(self.pending):
            while pending and (at_once or rng.random() < 0.5):
                self.filled[pending.pop()][bank] = True
                if not at_once:
                    break

    def flags(self) -> int:
        return sum(int(flag) << 2 * unit + bank for unit, flags in enumerate(self.filled)
                   for bank, flag in enumerate(flags))

    def asked(self) -> dict[str, int]:
        """What the drain wants in this cycle."""
        return {name: int(self.ports[name].value) for name in ("read", "bank", "address")}

    def answer(self, read: int, bank: int, address: int, noise: int) -> None:
        """The `currents` port: what was asked for, anything elsewhere."""
        bits = 0
        for unit in range(self.config.units):
            value = noise & (1 << self.codec.width) - 1
            if read >> unit & 1:
                value = self.codec.pack(self.banks[bank, unit, address])
            bits |= value << unit * self.codec.width
        self.ports["currents"].value = bits

    def clock(self, time: int, read: int, bank: int, address: int) -> None:
        """The rising edge."""
        claim, clear, release = (int(self.ports[name].value)
                                 for name in ("claim", "clear", "release"))
        assert not read & ~self.claimed, f"cycle {time}: read of a unit that was not claimed"
        self.claimed = claim
        if read:
            assert all(flags[bank] for flags in self.filled), "read of a bank that is not filled"
            self.reads.append((time, read))
            for unit in range(self.config.units):
                if clear and read >> unit & 1:
                    self.banks[bank, unit, address] = 0
        if release:
            self.releases.append(time)
            for flags in self.filled:
                flags[bank] = False


@cocotb.test()
@cocotb.parametrize(mode=MODES)
async def layers(dut, mode):
    config = CoreConfig(**settings()["config"])
    rng = seeded(settings()["seed"], mode)
    engines = range(settings()["engines"])
    dut.layer.value = dut.sweep.value = 0
    for engine in engines:
        for name in ("filled", "currents"):
            getattr(dut, f"engines__{engine}__{name}").value = 0
    for name in ("clear", "token", "list_write", "list_index", "list_token"):
        getattr(dut, f"gate__{name}").value = 0
    sources = [Source(dut, f"engines__{engine}__headers", layouts.pass_header())
               for engine in engines]
    sink = Sink(dut, "o", layouts.map_write(config))
    await start(dut, 100_000)
    stalls = Stalls(mode, rng)
    scores: Counter[int] = Counter()
    for layer in json.loads(Path(settings()["layers"]).read_text()):
        passes = [list(random_rows(rng, layer, config, settings()["rows"])) for _ in engines]
        await run_layer(dut, config, layer, passes, sources, sink, stalls, rng, scores)


async def prepare_gate(dut, layer: dict, scores: Counter) -> None:
    """What happens before a layer: the list of kept tokens is there, scores are cleared."""
    await FallingEdge(dut.clk)
    for place, token in enumerate(layer.get("kept", ())):
        dut.gate__list_write.value = 1
        dut.gate__list_index.value, dut.gate__list_token.value = place, token
        await FallingEdge(dut.clk)
    dut.gate__list_write.value = 0
    if layer["score_clear"]:
        scores.clear()
        dut.gate__clear.value = 1
        await FallingEdge(dut.clk)
        dut.gate__clear.value = 0
        while dut.gate__busy.value == 1:
            await FallingEdge(dut.clk)


async def check_scores(dut, config, drains: list[drain_model.RowDrain], scores: Counter) -> None:
    """Scores of this layer and of those since they were cleared."""
    layer = drains[0].layer
    if not layer["score"] and not layer["score_clear"]:
        return
    for model in drains:
        scores.update(model.scores)
    await FallingEdge(dut.clk)
    for token in range(config.gate_tokens):
        dut.gate__token.value = token
        for _ in range(SCORE_LATENCY):
            await FallingEdge(dut.clk)
        assert int(dut.gate__score.value) == scores[token], f"token {token} of {layer}"


async def run_layer(dut, config, layer, passes, sources, sink, stalls, rng, scores):
    """passes: of every engine."""
    drains = [drain_model.RowDrain(layer, config) for _ in passes]
    if config.gate:
        await prepare_gate(dut, layer, scores)
    units = [Units(dut, engine, config, [currents for _, currents in mine])
             for engine, mine in enumerate(passes)]
    for source, mine in zip(sources, passes, strict=True):
        source.add([header for header, _ in mine])
    got, order, neurons, time, idle = [], [], 0, 0, 0
    while idle < 2:
        await FallingEdge(dut.clk)
        dut.layer.value = layer_bits(layer)
        for engine, source in zip(units, sources, strict=True):
            # The decoder hands the header on before the units can have ended the pass.
            engine.fill(rng, len(engine.waiting) > len(source.waiting), at_once=not stalls.any)
            engine.ports["filled"].value = engine.flags()
            source.drive(stalls.input())
        sink.drive(stalls.output())
        await ReadWrite()
        asked = [engine.asked() for engine in units]
        assert sum(bool(port["read"]) for port in asked) <= 1, "two engines are read at a time"
        for engine, port in zip(units, asked, strict=True):
            engine.answer(**port, noise=int.from_bytes(rng.bytes(8), "little"))
        await ReadOnly()
        time += 1
        for n, (engine, port) in enumerate(zip(units, asked, strict=True)):
            assert engine.asked() == port
            engine.clock(time, **port)
            order += [n] * (len(engine.releases) - order.count(n))
        for source in sources:
            source.sample()
        word = sink.sample()
        if word is not None:
            got.append((word["address"], word["data"]))
        neurons += int(dut.visits.value)
        done = len(order) == sum(map(len, passes)) and all(source.idle for source in sources)
        idle = idle + 1 if done and dut.idle.value == 1 else 0
    # Words come pass by pass, in the order in which the passes are walked.
    words, waiting = [], [deque(mine) for mine in passes]
    for n in order:
        known = len(drains[n].words)
        drains[n].drain(*waiting[n].popleft())
        words += drains[n].words[known:]
    compare(layer, config, words, got)
    headers = [[header for header, _ in mine] for mine in passes]
    assert neurons == sum(count_neurons(layer, header, first) for mine in headers
                          for header, first in zip(mine, first_strips(mine), strict=True))
    assert not any(engine.banks.any() for engine in units), "positions never read and cleared"
    if config.gate:
        await check_scores(dut, config, drains, scores)
    if not stalls.any:
        check_timing(layer, config, headers, units, order)


def compare(layer, config, want, got) -> None:
    for number, ((address, lanes), (mine, data)) in enumerate(zip(want, got, strict=False)):
        assert mine == address, f"word {number} of {layer}: address {mine}, not {address}"
        for n, lane in enumerate(lanes):
            assert lane is None or data >> 4 * n & 15 == lane, (
                f"word {number} of {layer}, lane {n}: {data >> 4 * n & 15}, not {lane}")
    assert len(got) == len(want), f"{len(got)} words of {layer}, not {len(want)}"


def check_timing(layer, config, headers, units, order) -> None:
    """A step of the walk a cycle, except where the packer inserts words of zeros; engines in turn.

    headers: of every engine's passes. order: of the passes, by engine.
    """
    before = previous = 0
    reads = [deque(time for time, _ in engine.reads) for engine in units]
    mine = [zip(of_engine, engine.releases, strict=True)
            for of_engine, engine in zip(headers, units, strict=True)]
    for n in order:
        header, released = next(mine[n])
        visits = sum(1 for _ in drain_model.walk(layer, header["last_strip"]))
        times = [reads[n].popleft() for _ in range(visits)]
        assert times[-1] == released
        if layer["out_pitch"] <= config.window:
            assert np.diff(times).tolist() == [1] * (visits - 1), "a gap in the walk"
        if before:
            # Two passes can be on their way; with several groups only one of an engine, for its
            # membranes.
            waits = layer["n_groups"] > 1 or previous < PIPELINE
            overhead = PREPARE + 2 + (PIPELINE if waits else 0)
            zeros = visits * 2 * (layer["out_pitch"] // config.window)
            # A word that follows another at once waits a cycle for it, and the pipeline with it;
            # every phase ends with a word.
            overhead += (layer["count_px"] * layer["count_py"] + 1) // 2
            assert times[0] - before <= overhead + zeros, (
                f"the next pass starts {times[0] - before} cycles later, not at most "
                f"{overhead + zeros}: {layer}")
        before, previous = released, visits
    hands_on = layer["readout"] or not layer["flush_strip"]
    if len(units) == 2 and layer["n_groups"] == 1 and not (hands_on and layer["n_strips"] > 1):
        # At full speed both have a filled bank whenever a walk ends, but at the layer's begin.
        assert all(a != b for a, b in itertools.pairwise(order[1:])), f"no turns: {order}"
