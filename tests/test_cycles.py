"""The cycle model: exact event counts, causes that add up, and cycles that follow the events.

`tests/test_core.py` holds it to the RTL; here it runs without a simulator.
"""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from hw.config import PRESETS, CoreConfig
from sim.samples.networks import random_input, random_network
from sw.compile.compiler import DoesNotFit, compile_network
from sw.core import cycle_arrays, cycles, machine
from sw.errors import SpikeTicketError
from sw.integer import reference
from sw.integer.network import INPUT, InputSpec, Layer, Network, Neuron, Pool, Synapses

TINY = PRESETS["tiny"]
WIDE = CoreConfig(engines=3, map_words=512, weight_words=1024, taps=32, planes=32)


def compiled(count: int, config: CoreConfig, seed: int):
    rng = np.random.default_rng(seed)
    while count:
        network = random_network(rng)
        array = random_input(rng, network)
        try:
            yield network, compile_network(network, config), array
            count -= 1
        except DoesNotFit:
            pass


def convolution(density=0.3, size=12, channels=16, bits=1, seed=0) -> Network:
    rng = np.random.default_rng(seed)
    weight = rng.choice(np.array([-1, 1], np.int8), (channels, channels, 3, 3))
    weight[rng.random(weight.shape) >= density] = 0
    zeros, ones = np.zeros(channels, np.int64), np.ones(channels, np.int64)
    hidden = Layer("hidden", (Synapses(weight, padding=1, bits=1),), zeros, ones, Neuron(),
                   Pool("or"))
    out = Layer("out", (Synapses(weight[:4, :, :1, :1].copy(), ("hidden",), bits=1),), zeros[:4],
                ones[:4], None)
    return Network(InputSpec(channels, size, size, bits), 4, (hidden, out))


@pytest.mark.parametrize("config", [TINY, WIDE], ids=["tiny", "wide"])
def test_counts_equal_the_machine(config):
    for network, image, array in compiled(25, config, seed=3):
        modelled = cycles.simulate(image, array)
        run = machine.run(image, array)
        names = (("words", "words"), ("weights", "weights"), ("updates", "updates"),
                 ("codes", "codes"), ("written", "writes"))
        for layer, trace in zip(modelled.layers, run.layers, strict=True):
            for ours, theirs in names:
                assert layer.counters[ours] == sum(c[theirs] for c in trace.counters), (
                    network.name, layer.name, ours)


def test_causes_add_up():
    for _, image, array in compiled(10, WIDE, seed=4):
        result = cycles.simulate(image, array)
        assert set(result.by_cause) == {*cycles.CAUSES, "sequencer"}
        assert sum(result.by_cause.values()) == pytest.approx(result.total)
        assert sum(result.by_layer.values()) + cycles.STEP_OVERHEAD * len(result.layers) == (
            result.total)
        used = result.by_cause["synapses"] * image.config.slots
        assert used == pytest.approx(result.counters["updates"], abs=1e-6 + image.config.units)


def test_replay_of_the_reference_equals_simulate():
    for network, image, array in compiled(10, WIDE, seed=5):
        spikes = reference.run(network, array[None]).spikes
        if any(name not in spikes for name in image.maps):
            continue
        replayed = cycles.replay(image, {name: s[:, 0] for name, s in spikes.items()})
        assert replayed.as_dict() == cycles.simulate(image, array).as_dict()


def test_forecast_is_near_the_simulation():
    network = convolution(size=24)
    array = (np.random.default_rng(1).random((16, 24, 24)) < 0.3).astype(np.uint8)
    config = PRESETS["a35tw"]
    image = compile_network(network, config)
    activity = reference.activity(network, reference.run(network, array[None]).spikes)
    exact, guess = cycles.simulate(image, array), cycles.forecast(image, activity)
    assert guess.total == pytest.approx(exact.total, rel=0.05)
    assert cycles.forecast(image, activity).as_dict() == guess.as_dict()


def test_cycles_fall_with_spikes_weights_and_positions():
    config = PRESETS["a35tw"]
    image = compile_network(convolution(), config)
    by_activity = [cycles.forecast(image, {INPUT: rate}).total for rate in (0.8, 0.4, 0.2, 0.05)]
    assert by_activity == sorted(by_activity, reverse=True)
    by_density = [cycles.forecast(compile_network(convolution(density), config)).total
                  for density in (0.8, 0.4, 0.2, 0.05)]
    assert by_density == sorted(by_density, reverse=True)
    full = np.full((16, 12, 12), 1, np.uint8)
    half = full.copy()
    half[:, 6:] = 0
    assert cycles.simulate(image, half).total < cycles.simulate(image, full).total


def test_silent_words_are_not_read():
    network = convolution()
    image = compile_network(network, WIDE)
    array = np.zeros((16, 12, 12), np.uint8)
    result = cycles.simulate(image, array)
    assert result.counters["updates"] == result.counters["words"] == 0
    assert result.by_cause["synapses"] == 0
    spikes = {name: s[:, 0] for name, s in reference.run(network, array[None]).spikes.items()}
    scanning = cycles.replay(image, spikes, skip_silent=False)
    assert scanning.counters["silent_words"] == scanning.counters["words"] > 0
    assert scanning.counters["weights"] == result.counters["weights"]
    assert scanning.total > result.total


def test_as_dict_is_json_like():
    image = compile_network(convolution(), TINY)
    result = cycles.forecast(image).as_dict()
    assert result["total"] > 0
    assert result["frames_per_s"] == pytest.approx(TINY.clock_hz / result["total"])


@pytest.mark.parametrize(("activity", "message"), [
    ({"nowhere": 0.1}, "unknown maps"), ({"hidden": 1.5}, "outside 0..1"),
    ({INPUT: -0.1}, "outside 0..1")])
def test_bad_activity_is_refused(activity, message):
    image = compile_network(convolution(), TINY)
    with pytest.raises(SpikeTicketError, match=message):
        cycles.forecast(image, activity)


def test_replay_names_a_missing_map():
    image = compile_network(convolution(), TINY)
    with pytest.raises(SpikeTicketError, match="no spikes given for map 'hidden'"):
        cycles.replay(image, {INPUT: np.zeros((4, 16, 12, 12), np.uint8)})


def test_constants_equal_the_gateware():
    from hw.neuron import LATENCY
    assert cycle_arrays.DRAIN_STAGES == LATENCY + 4      # claim, read, currents, pool
    assert cycle_arrays.DRAIN_MARGIN == cycle_arrays.DRAIN_STAGES + 2
    from hw.registers import COUNTERS
    assert cycles.STEP_OVERHEAD == len(COUNTERS) + 2
    assert set(COUNTERS) - {"cycles"} <= set(cycles.COUNTERS)


def test_the_host_needs_no_amaranth():
    code = "import sys, sw.core.cycles, sw.area; sys.exit('amaranth' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
