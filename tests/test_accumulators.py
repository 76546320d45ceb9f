"""How many bits the accumulators need: exact, named by layer, refused where the core has fewer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.config import PRESETS, CoreConfig
from hw.core import Core
from sim.runner import run_bench
from sim.samples.networks import random_input, random_network
from sw.compile.bounds import accumulator_bounds, bits_needed
from sw.compile.compiler import compile_network
from sw.errors import SpikeTicketError
from sw.integer.network import InputSpec, Layer, Network, Neuron, Synapses
from tests.test_core import check_case, write_cases

NARROW = CoreConfig(engines=2, units=2, window=8, queue_depth=16, lanes=1, map_words=1024,
                    weight_words=1024, program_words=512, acc_bits=12, dsp_adders=True)


def network(weights: np.ndarray, *, bits: int = 8, static: bool = False) -> Network:
    """A layer "a" of fully connected weights [C_out][C_in], int8, on values of so many bits."""
    channels, inputs = weights.shape
    return Network(InputSpec(inputs, 1, 1, bits=bits, static=static), 4, (
        Layer("a", (Synapses(weights[:, :, None, None], bits=8),), np.zeros(channels, np.int64),
              np.full(channels, 100), Neuron()),
        Layer("out", (Synapses(np.ones((1, channels, 1, 1), np.int8), ("a",), bits=1),),
              np.zeros(1, np.int64), np.zeros(1, np.int64), None)))


def ones(inputs: int, **options) -> Network:
    return network(np.ones((1, inputs), np.int8), **options)


def test_a_core_of_narrow_accumulators_holds_what_fits():
    """The layer that forces the bits is named, and the cores that have them."""
    image = compile_network(ones(8), PRESETS["a35t"])          # sums of up to 2,040
    assert {layer.name: layer.acc_bits for layer in image.layers} == {"a": 12, "out": 2}
    assert (image.program == compile_network(ones(8), replace(
        PRESETS["a35t"], acc_bits=16)).program).all()
    with pytest.raises(SpikeTicketError) as caught:
        compile_network(ones(9), PRESETS["a35t"])
    assert str(caught.value) == (
        "layer 'a', channel 0: sums of up to 2295 take 13 bits, this core's accumulators have 12; "
        "choose preset a35tw or a35tf, or build a core with --set acc_bits=13, or use fewer weight "
        "bits or input bits, or prune further")


def test_remedies_are_those_that_help():
    wide = np.full((1, 1024), 127, np.int8)
    with pytest.raises(SpikeTicketError, match=r"take 26 bits, .* have 16; use fewer weight bits"):
        compile_network(network(wide), PRESETS["a35tw"])
    with pytest.raises(SpikeTicketError, match=r"take 20 bits, .* 16; build a core with --set acc_b"
                                               "its=20, or use"):
        compile_network(network(wide[:, :16]), PRESETS["a35tw"])


def test_bits_of_values_with_an_accumulator_each_need_fewer():
    """Of 8 bits, the lowest one's accumulator adds bits 0 and 4: at most 17 of 255."""
    image = compile_network(ones(120, static=True), PRESETS["a35t"])
    assert image.inputs[0].bits_a_mask == 4 and image.layers[0].acc_bits == 12
    with pytest.raises(SpikeTicketError, match="sums of up to 2057 take 13 bits"):
        compile_network(ones(121, static=True), PRESETS["a35t"])
    with pytest.raises(SpikeTicketError, match="16-bit current 33150 is outside"):
        compile_network(ones(130, static=True), PRESETS["a35tw"])


WEIGHTS = st.lists(st.lists(st.integers(-128, 127), min_size=3, max_size=3), min_size=1, max_size=4)


@given(WEIGHTS, st.integers(1, 8), st.sampled_from([1, 4]))
@settings(max_examples=60, deadline=None)
def test_bounds_are_reached_and_hold(rows, bits, bits_a_mask):
    """Every value of every input, place by place."""
    weights = np.array(rows, np.int8)
    found = network(weights, bits=bits)
    low, high = accumulator_bounds(found, found.layers[0], bits_a_mask)
    values = np.arange(1 << bits)
    parts = [values] if bits_a_mask == 1 else [
        sum((values >> p + 4 * j & 1) << 4 * j for j in range(2)) for p in range(4)]
    for part in parts:
        sums = weights.astype(np.int64)[:, :, None] * part      # [C_out][C_in][value]
        assert (sums.min(2).sum(1) >= low).all() and (sums.max(2).sum(1) <= high).all()
    sums = weights.astype(np.int64)[:, :, None] * parts[0]
    assert (sums.min(2).sum(1) == low).all() and (sums.max(2).sum(1) == high).all()
    for width, w, h in zip(bits_needed(low, high), low, high, strict=True):
        assert -(1 << width - 1) <= w and h < 1 << width - 1
        assert width == 1 or not (-(1 << width - 2) <= w and h < 1 << width - 2)


def test_random_networks_on_narrow_accumulators(tmp_path):
    """The gateware's every spike and logit, and exactly the model's cycles, up to the last bit."""
    seed = 5
    print(f"seed {seed}")
    rng, cases = np.random.default_rng(seed), []
    while len(cases) < 24:
        found = random_network(rng, max_size=8, max_channels=6)
        try:
            cases.append((found, compile_network(found, NARROW, keep_all=True)))
        except SpikeTicketError:
            continue
    assert max(layer.acc_bits for _, image in cases for layer in image.layers) == NARROW.acc_bits
    assert any(image.inputs[0].bits_a_mask > 1 for _, image in cases)
    inputs = [np.stack([random_input(rng, found) for _ in range(2)]) for found, _ in cases]
    folders = write_cases(tmp_path, cases, inputs)
    run_bench(Core(NARROW), "sim.units.core.bench", sim="verilator", cases=folders)
    before = 0
    for (found, image), arrays, folder in zip(cases, inputs, folders, strict=True):
        before = check_case(found, image, arrays, Path(folder), before=before)
