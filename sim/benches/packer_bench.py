"""`hw.packer.Packer` alone: random spikes on the walks of compiled networks, a visit a cycle.

Settings: config, seed, layers (a JSON file: a list of `hw.program.HEADER` fields).
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, ReadOnly

from hw import layouts
from hw.config import CoreConfig
from hw.packer import visit_tag
from sim import models
from sim.benches.drain_bench import compare, random_rows
from sim.helpers import settings, start
from sim.streams import MODES, Codec, Sink, Stalls, seeded


class GivenSpikes(models.RowDrain):
    """The drain's model with random spikes for neurons; collects the packer's inputs."""

    def __init__(self, layer, config, rng: np.random.Generator):
        super().__init__(layer, config)
        self.rng = rng
        self.fired: dict[tuple[int, int], int] = {}
        self.ends: list[int] = []           # words finished by each output, or pair of outputs

    def _fire(self, slot, currents, header) -> int:
        self.fired[slot] = int(self.rng.integers(0, 16))
        return self.fired[slot]

    def _finish(self, base, everything) -> None:
        before = len(self.words)
        super()._finish(base, everything)
        self.ends.append(len(self.words) - before)


def visits(layer: dict, config: CoreConfig, rng: np.random.Generator):
    """Random rows of a layer: (visits as the packer sees them, the model behind them)."""
    model = GivenSpikes(layer, config, rng)
    steps = []
    for parity, (header, currents) in enumerate(random_rows(rng, layer, config, 2)):
        base = layer["out_base"] + header["row"]["channel"] * layer["out_channel_stride"]
        model.fired = {}
        model.drain(header, currents)
        if layer["flush_strip"]:
            base += (model._group * layer["out_group_stride"]
                     + model._strip * layer["strip_out_words"])
        slot, first_of_window = 0, False
        for visit in models.walk(layer, header["last_strip"]):
            here = models.valid_positions(layer, visit, header["last_strip"])
            if visit.window_first:
                first_of_window = visit.first
            # Under a max pool only a window's last visit comes here, and stands for the window.
            seen = visit.window_last or not layer["pool_max"]
            if seen:
                total = 0
                if layer["readout"]:
                    total = sum(sum(currents[q]) for q in here if q is not None)
                inside = sum((q is not None) << n for n, q in enumerate(here))
                spikes = [model.fired.get((slot, n), int(rng.integers(0, 16))) for n in range(2)]
                steps.append((header, base % config.map_words, parity % 2, spikes, total, {
                    "valid": 1, "parity": parity % 2,
                    "window_first": int(visit.window_first or layer["pool_max"]),
                    "window_last": int(visit.window_last), "row_end": int(visit.row_end),
                    "phase_end": int(visit.phase_end), "pass_end": int(visit.last),
                    "pass_first": int(first_of_window if layer["pool_max"] else visit.first),
                    "inserts": int(visit.window_last and not layer["readout"]),
                    "ends": int(visit.phase_end and bool(
                        layer["flush_strip"] or header["last_strip"])),
                    "finishes": int(visit.last and bool(header["last"])),
                    "inside": inside, "slot": slot}))
                slot += 1
    return steps, model


@cocotb.test()
@cocotb.parametrize(mode=MODES)
async def layers(dut, mode):
    config = CoreConfig(**settings()["config"])
    rng = seeded(settings()["seed"], mode)
    stalls = Stalls(mode, rng)
    tag_codec, header_codec = Codec(visit_tag()), Codec(layouts.pass_header())
    for name in ("layer", "tag", "spikes", "sum", "header0", "header1", "base0", "base1"):
        getattr(dut, name).value = 0
    sink = Sink(dut, "o", layouts.map_write(config))
    await start(dut, 100_000)
    for layer in json.loads(Path(settings()["layers"]).read_text()):
        steps, model = visits(layer, config, rng)
        got, index, idle, waited = [], 0, 0, 0
        while idle < 3:
            await FallingEdge(dut.clk)
            dut.layer.value = models.layer_bits(layer)
            offered = index < len(steps) and not stalls.input()
            if offered:
                header, base, parity, spikes, total, tag = steps[index]
                getattr(dut, f"header{parity}").value = header_codec.pack(header)
                getattr(dut, f"base{parity}").value = base
                dut.tag.value = tag_codec.pack(tag)
                dut.spikes.value = spikes[0] | spikes[1] << 4
                dut.sum.value = total
            else:
                dut.tag.value = 0
            sink.drive(stalls.output())
            await ReadOnly()
            word = sink.sample()
            if word is not None:
                got.append((word["address"], word["data"]))
            advance = dut.advance.value == 1
            waited += offered and not advance
            index += offered and advance
            idle = idle + 1 if index == len(steps) and dut.busy.value == 0 else 0
        compare(layer, config, model.words, got)
        # It waits only where one output after another finishes a word, or one finishes several.
        crowded = any(a + b > 1 for a, b in pairwise([*model.ends, 0]))
        if not stalls.any and not crowded:
            assert not waited, "the packer did not take a visit a cycle"
