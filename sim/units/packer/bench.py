"""`hw.packer.Packer` alone: random outputs on the walks of compiled networks, and their scores.

Settings: config, seed, layers (a JSON file: a list of `hw.program.HEADER` fields).
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import cocotb
from cocotb.triggers import FallingEdge, ReadOnly

from hw import layouts
from hw.config import CoreConfig
from hw.outputs import output
from hw.packer import scored_output, word_number
from sim.helpers import settings, start
from sim.streams import MODES, Codec, Sink, Stalls, seeded
from sim.units.drain.bench import compare
from sim.units.drain.outputs_bench import expected, random_visits
from sim.units.layers import layer_bits


@cocotb.test()
@cocotb.parametrize(mode=MODES)
async def layers(dut, mode):
    """Every word; an output a cycle where none finishes more than a word."""
    config = CoreConfig(**settings()["config"])
    rng = seeded(settings()["seed"], mode)
    stalls, codec = Stalls(mode, rng), Codec(output(config))
    for name in ("layer", "i__payload", "i__valid", "base0", "base1", "total0", "total1"):
        getattr(dut, name).value = 0
    if config.gate:
        dut.word0.value = dut.word1.value = 0
    score_codec = Codec(scored_output(config))
    word_numbers = len(word_number(config))
    sink = Sink(dut, "o", layouts.map_write(config))
    await start(dut, 100_000)
    for layer in json.loads(Path(settings()["layers"]).read_text()):
        visits, model = random_visits(layer, config, rng)
        wanted = expected(layer, config, visits)
        outputs = [(v, o) for v, o in zip(visits, wanted, strict=True) if o]
        got, index, idle, waited, passes = [], 0, 0, 0, 0
        scores: Counter[int] = Counter()
        while idle < 3:
            await FallingEdge(dut.clk)
            dut.layer.value = layer_bits(layer)
            # Two passes are on their way at most: the drain starts no third one.
            offered = (index < len(outputs) and outputs[index][0].number < passes + 2
                       and not stalls.input())
            dut.i__valid.value = offered
            if offered:
                visit, o = outputs[index]
                getattr(dut, f"base{o['parity']}").value = visit.base
                if config.gate:
                    getattr(dut, f"word{o['parity']}").value = visit.word % word_numbers
                getattr(dut, f"total{o['parity']}").value = o["total"]
                dut.i__payload.value = codec.pack(o)
            sink.drive(stalls.output())
            await ReadOnly()
            word = sink.sample()
            if word is not None:
                got.append((word["address"], word["data"]))
            if config.gate:
                scored = score_codec.unpack(int(dut.scores.value))
                if scored["valid"]:
                    for n in range(1 + scored["pair"]):
                        scores[scored["position"] + n] += scored["masks"][n].bit_count()
            taken = offered and dut.i__ready.value == 1
            waited += offered and not taken
            index += taken
            passes += int(dut.pass_done.value)
            idle = idle + 1 if index == len(outputs) and dut.busy.value == 0 else 0
        compare(layer, config, model.words, got)
        assert +scores == +model.scores, layer
        assert passes == visits[-1].number + 1
        # A word takes two cycles to leave; where outputs finish words faster, they wait.
        crowded = any(sum(model.ends[i:i + 3]) > 1 for i in range(len(model.ends)))
        if not stalls.any and not crowded:
            assert not waited, "the packer did not take an output a cycle"
