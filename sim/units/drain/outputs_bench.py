"""`hw.outputs.Outputs` alone: random spikes and sums on the walks of compiled networks.

Settings: config, seed, layers (a JSON file: a list of `hw.program.HEADER` fields).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cocotb
import numpy as np
from amaranth import signed
from cocotb.triggers import FallingEdge, ReadOnly

from hw import layouts
from hw.config import CoreConfig
from hw.outputs import output, visit_tag
from sim.helpers import settings, start
from sim.streams import MODES, Codec, Stalls, seeded
from sim.units.drain import model as drain_model
from sim.units.drain.bench import random_rows
from sim.units.layers import layer_bits


class GivenSpikes(drain_model.RowDrain):
    """The drain's model with random spikes for neurons, which it keeps."""

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


@dataclass
class Visit:
    """What the neuron lanes hand on: the pass, the tag, one mask a lane, the readout's sum."""

    number: int         # of the pass
    header: dict
    base: int           # address of the pass' words
    word: int           # words of the row's strips before
    tag: dict
    spikes: list[int]
    sum: int


def random_visits(layer: dict, config: CoreConfig, rng: np.random.Generator):
    """Visits of random rows of a layer, and the model behind them."""
    model = GivenSpikes(layer, config, rng)
    visits = []
    for number, (header, currents) in enumerate(random_rows(rng, layer, config, 2)):
        base = layer["out_base"] + header["row"]["channel"] * layer["out_channel_stride"]
        model.fired = {}
        model.drain(header, currents)
        word = model._strip * layer["strip_out_words"] if layer["flush_strip"] else 0
        if layer["flush_strip"]:
            base += (model._group * layer["out_group_stride"]
                     + model._strip * layer["strip_out_words"])
        slot, first_of_window, found = 0, False, False
        for visit in drain_model.walk(layer, header["last_strip"], model._strip == 0):
            here = drain_model.valid_positions(layer, visit, header["last_strip"])
            if visit.window_first:
                first_of_window, found = visit.first, False
            found = found or here[0] is not None
            # Under a max pool only a window's last visit comes here, and stands for the window.
            if not visit.window_last and layer["pool_max"]:
                continue
            total = 0
            if layer["readout"]:
                total = sum(sum(currents[q]) for q in here if q is not None)
            visits.append(Visit(number, header, base % config.map_words, word, {
                "valid": 1, "parity": number % 2,
                "window_first": int(visit.window_first or layer["pool_max"]),
                "window_last": int(visit.window_last), "row_end": int(visit.row_end),
                "phase_end": int(visit.phase_end), "pass_end": int(visit.last),
                "pass_first": int(first_of_window if layer["pool_max"] else visit.first),
                "inside": int(found) if layer["pool_max"] else sum(
                    (q is not None) << n for n, q in enumerate(here)), "slot": slot,
            }, [model.fired.get((slot, n), int(rng.integers(0, 16)))
                for n in range(config.lanes)], total))
            slot += 1
    return visits, model


def expected(layer: dict, config: CoreConfig, visits: list[Visit]) -> list[dict | None]:
    """By visit: the output it completes, as `hw.outputs.output` and its row's `total`, or None."""
    found, window, first, total = [], [0, 0], False, 0
    for v in visits:
        tag = v.tag
        if tag["pass_first"] and v.header["first"]:
            total = v.header["row"]["threshold"]
        total += v.sum
        first = first or bool(tag["pass_first"])
        if tag["window_first"]:
            window = [0, 0]
        for n, spikes in enumerate(v.spikes):
            if tag["inside"] >> n & 1:
                window[0 if layer["pair_merge"] else n] |= spikes
        inserts = tag["window_last"] and not layer["readout"]
        mask = layer["last_mask"] if v.header["last_group"] else 15
        found.append({
            "masks": [spikes & mask for spikes in window[:config.lanes]],
            "inserts": int(inserts), "parity": tag["parity"], "first": int(first),
            "row_end": tag["row_end"], "phase_end": tag["phase_end"],
            "sequence_end": int(tag["phase_end"] and bool(
                layer["flush_strip"] or v.header["last_strip"])),
            "finishes": int(tag["pass_end"] and bool(v.header["last"])),
            "pass_end": tag["pass_end"], "total": total,
        } if inserts or tag["pass_end"] else None)
        if inserts:
            first = False
    return found


@cocotb.test()
@cocotb.parametrize(mode=MODES)
async def layers(dut, mode):
    """An output in the cycle of the visit that completes it, with and without gaps."""
    config = CoreConfig(**settings()["config"])
    rng = seeded(settings()["seed"], mode)
    tag_codec, header_codec = Codec(visit_tag()), Codec(layouts.pass_header())
    codec, total_codec = Codec(output(config)), Codec(signed(32))
    for name in ("layer", "tag", "spikes", "sum", "header0", "header1"):
        getattr(dut, name).value = 0
    await start(dut, 100_000)
    stalls = Stalls(mode, rng)
    for layer in json.loads(Path(settings()["layers"]).read_text()):
        visits, _ = random_visits(layer, config, rng)
        waiting = list(zip(visits, expected(layer, config, visits), strict=True))[::-1]
        now = ended = None
        held: dict[int, int] = {}       # totals of passes that ended, by parity
        while waiting or now or ended:
            await FallingEdge(dut.clk)
            dut.layer.value = layer_bits(layer)
            following = waiting.pop() if waiting and not stalls.input() else None
            dut.tag.value = 0
            if following:
                visit, _ = following
                dut.tag.value = tag_codec.pack(visit.tag)
                getattr(dut, f"header{visit.number % 2}").value = header_codec.pack(visit.header)
            visit, want = now or (None, None)
            # What the lanes show while there is no visit does not matter.
            spikes = visit.spikes if visit else [int(rng.integers(0, 16))] * config.lanes
            dut.spikes.value = sum(mask << 4 * n for n, mask in enumerate(spikes))
            dut.sum.value = visit.sum if visit else int(rng.integers(-999, 999))
            await ReadOnly()
            assert dut.push.value == (want is not None), (layer, visit)
            if want:
                compare(want, codec.unpack(int(dut.o.value)), layer)
            if ended:
                held[ended["parity"]] = ended["total"]
            for parity, total in held.items():
                shown = total_codec.unpack(int(getattr(dut, f"total{parity}").value))
                assert shown == total, (layer, parity, ended)
            ended = want if want and layer["readout"] and want["pass_end"] else None
            now = following


def compare(want: dict, got: dict, layer: dict) -> None:
    """Masks and their place matter only where there are masks; the packer takes a second one only
    where the lanes are not merged."""
    if layer["pair_merge"]:
        want, got = (one | {"masks": one["masks"][:1]} for one in (want, got))
    names = ["inserts", "parity", "finishes", "pass_end"]
    if want["inserts"]:
        names += ["masks", "first", "row_end", "phase_end", "sequence_end"]
    assert {n: got[n] for n in names} == {n: want[n] for n in names}
