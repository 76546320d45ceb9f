"""Neuron lane in cocotb, with stalls, and its model against the integer reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.config import PRESETS
from hw.neuron import NeuronLane
from sim.runner import run_bench
from sim.units.layers import DEFAULT_LAYER
from sim.units.neuron import model as neuron_model
from sw.integer import reference
from sw.integer.network import Layer, Neuron, Synapses


def test_neuron_lane():
    config = PRESETS["tiny"]
    run_bench(NeuronLane(config), "sim.units.neuron.bench", config=config.as_dict(), seed=1,
              layers=14, positions=30)


@pytest.mark.parametrize(("v", "fires"), [(4, False), (5, True), (6, True)])
def test_threshold_itself_fires(v, fires):
    layer = DEFAULT_LAYER | {"leak": 0}
    assert neuron_model.neuron([v, 0, 0, 0], 0, 0, 5, layer)[0] == int(fires)


def test_negative_membranes_floor():
    layer = DEFAULT_LAYER | {"leak": 128}
    assert neuron_model.neuron([0], -1, 0, 5, layer)[1] == -1       # -1/2 goes down, not to zero
    assert neuron_model.neuron([0], -3, 0, 5, layer)[1] == -2


@settings(max_examples=200, deadline=None)
@given(currents=st.lists(st.integers(-40, 40), min_size=4, max_size=4),
       bias=st.integers(-9, 9), threshold=st.integers(-9, 60), leak=st.integers(0, 256),
       soft=st.booleans(), v_reset=st.integers(-9, 9))
def test_model_equals_reference(currents, bias, threshold, leak, soft, v_reset):
    v_reset = 0 if soft else v_reset
    neuron = Neuron(leak, "soft" if soft else "hard", v_reset)
    layer = Layer("n", (Synapses(np.zeros((1, 1, 1, 1), np.int8)),), np.array([bias]),
                  np.array([threshold]), neuron)
    current = np.array(currents).reshape(4, 1, 1, 1, 1) + bias
    spikes = reference.fire(layer.neuron, layer.threshold, current, 4)[:, 0, 0, 0, 0]
    mask, _ = neuron_model.neuron(currents, v_reset, bias, threshold, {
        "leak": leak, "soft_reset": int(soft), "v_reset": v_reset})
    assert mask == sum(int(s) << t for t, s in enumerate(spikes))
