"""`hw.neuron.NeuronLane` against `model.neuron`: every edge of fire, reset, leak and floor.

Settings: config, seed, layers (how many), positions (per layer).
"""

from __future__ import annotations

from collections import deque

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, ReadOnly

from hw import layouts
from hw.config import TIMESTEPS_PER_GROUP, CoreConfig
from hw.neuron import LATENCY, MEMBRANE
from sim.helpers import settings, start
from sim.streams import MODES, Codec, Stalls, seeded
from sim.units.layers import DEFAULT_LAYER, layer_bits
from sim.units.neuron import model

BIAS_TOP, FIELD_TOP, MEMBRANE_TOP = 1 << 17, 1 << 23, 1 << 23
LEAKS = (0, 1, 64, 128, 200, 255, 256)


def random_layer(rng: np.random.Generator, number: int) -> dict:
    soft = number % 2
    v_reset = 0 if soft or rng.random() < 0.3 else int(rng.choice(
        [-1, 1, rng.integers(-50, 50), rng.integers(-FIELD_TOP // 2, FIELD_TOP // 2)]))
    return DEFAULT_LAYER | {
        "leak": LEAKS[number % len(LEAKS)], "soft_reset": soft, "v_reset": v_reset,
        "bit_planes": int(rng.random() < 0.3)}


def random_parameters(rng: np.random.Generator, layer: dict) -> tuple[int, int]:
    """(bias, threshold): small ones, where equality is frequent, and extreme ones."""
    if rng.random() < 0.6:
        return int(rng.integers(-4, 5)), int(rng.integers(-6, 12))
    bias = int(rng.choice([-BIAS_TOP, BIAS_TOP - 1, rng.integers(-BIAS_TOP, BIAS_TOP)]))
    threshold = int(rng.choice([-FIELD_TOP, FIELD_TOP - 1, 0, bias, -bias,
                                rng.integers(-FIELD_TOP, FIELD_TOP)]))
    # A soft reset by a very negative threshold overflows at once; the compiler refuses it.
    return bias, max(threshold, ~threshold) if layer["soft_reset"] else threshold


def random_position(rng: np.random.Generator, config: CoreConfig, layer: dict, bias: int,
                    threshold: int) -> tuple[list[int], int]:
    """(currents, membrane) whose membranes stay within what the compiler guarantees."""
    top = 1 << config.acc_bits - 1
    for _ in range(1000):
        kind = rng.random()
        if kind < 0.5:
            currents = rng.integers(-9, 10, TIMESTEPS_PER_GROUP)
        elif kind < 0.8:
            currents = rng.integers(-top, top, TIMESTEPS_PER_GROUP)
        else:
            currents = rng.choice([-top, top - 1, 0], TIMESTEPS_PER_GROUP)
        if layer["bit_planes"]:
            currents[:] = currents[0]
        membrane = int(rng.choice([layer["v_reset"], -1, 0, 1, threshold,
                                   threshold - (threshold > 0), rng.integers(-300, 300),
                                   rng.integers(-MEMBRANE_TOP, MEMBRANE_TOP)]))
        if rng.random() < 0.3:
            # The first membrane meets the threshold exactly, or misses it by one.
            leaked = layer["leak"] * membrane // 256
            wanted = threshold - leaked - bias - int(rng.integers(0, 2))
            if -top <= wanted < top:
                currents[:1 if not layer["bit_planes"] else None] = wanted
        if fits(currents.tolist(), membrane, bias, threshold, layer):
            return currents.tolist(), membrane
    raise AssertionError(f"no position fits {layer}, bias {bias}, threshold {threshold}")


def fits(currents: list[int], membrane: int, bias: int, threshold: int, layer: dict) -> bool:
    """Whether every membrane, before and after its reset, fits its 24 bits."""
    for current in currents:
        before = layer["leak"] * membrane // 256 + current + bias
        _, membrane = model.neuron([current], membrane, bias, threshold, layer)
        if not all(-MEMBRANE_TOP <= v < MEMBRANE_TOP for v in (before, membrane)):
            return False
    return True


@cocotb.test()
@cocotb.parametrize(mode=MODES)
async def layers(dut, mode):
    """One position a cycle, LATENCY cycles from input to output, with and without gaps."""
    config = CoreConfig(**settings()["config"])
    rng = seeded(settings()["seed"], mode)
    currents_port, membrane_port = Codec(layouts.currents(config)), Codec(MEMBRANE)
    for name in ("layer", "bias0", "bias1", "threshold0", "threshold1", "currents", "total",
                 "parity", "membrane"):
        getattr(dut, name).value = 0
    await start(dut, 40_000)
    stalls = Stalls(mode, rng)
    equal = negative = fired = 0
    for number in range(settings()["layers"]):
        layer = random_layer(rng, number)
        parameters = [random_parameters(rng, layer) for _ in range(2)]
        positions = []
        for _ in range(settings()["positions"]):
            parity = int(rng.integers(0, 2))
            bias, threshold = parameters[parity]
            values, membrane = random_position(rng, config, layer, bias, threshold)
            positions.append((parity, values, membrane,
                              model.neuron(values, membrane, bias, threshold, layer)))
            first = layer["leak"] * membrane // 256 + values[0] + bias
            equal += first == threshold
            negative += membrane < 0 and layer["leak"] * membrane % 256 != 0
            fired += positions[-1][3][0] != 0
        waiting = deque(positions)
        pipeline: deque = deque([None] * LATENCY)
        while waiting or any(pipeline):
            await FallingEdge(dut.clk)
            dut.layer.value = layer_bits(layer)
            for n, (bias, threshold) in enumerate(parameters):
                getattr(dut, f"bias{n}").value = bias
                getattr(dut, f"threshold{n}").value = threshold
            item = waiting.popleft() if waiting and not stalls.input() else None
            # What stands at the input while nothing is to be computed does not matter.
            parity, values, membrane, _ = item or random_noise(rng, config)
            dut.parity.value = parity
            # Of bit-planes the total counts, else the currents; the other one is anything.
            other = random_noise(rng, config)[1]
            planes = layer["bit_planes"]
            dut.currents.value = currents_port.pack(other if planes else values)
            dut.total.value = (values if planes else other)[0]
            dut.membrane.value = membrane
            await ReadOnly()
            if pipeline[0] is not None:
                shown = int(dut.spikes.value), membrane_port.unpack(int(dut.membrane_out.value))
                assert shown == pipeline[0][3], (layer, parameters, pipeline[0], shown)
            pipeline.popleft()
            pipeline.append(item)
    assert min(equal, negative, fired) > 20, (equal, negative, fired)


def random_noise(rng: np.random.Generator, config: CoreConfig) -> tuple:
    top = 1 << config.acc_bits - 1
    return (int(rng.integers(0, 2)), rng.integers(-top, top, TIMESTEPS_PER_GROUP).tolist(),
            int(rng.integers(-MEMBRANE_TOP, MEMBRANE_TOP)), None)
