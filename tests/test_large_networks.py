"""Small relatives of the networks that stream from DRAM, on a core of their kind: one pair of wide
engines, a map memory that is no power of two, weights that do not fit on chip."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from hw.config import PRESETS
from sim.dram import CoreWithDram, verilog
from sim.runner import run_bench
from sim.samples.networks import random_input
from sw import drawn, nets
from sw.compile import rice
from sw.compile.compiler import compile_network
from sw.compile.digits import narrow
from sw.compile.fit import DoesNotFit
from sw.compile.image import Image
from sw.compile.steps import COUNT, countable
from sw.compile.tokens import lower
from sw.core import machine
from sw.integer import reference
from sw.integer.network import INPUT, InputSpec, Network, Synapses
from sw.nets.resnet import SpikingResNet
from sw.study.workloads import layer, random_weights
from tests.test_core import check_case, write_cases

CONFIG = replace(PRESETS["a35tdf"], map_words=3072, weight_words=1024, dram_words=1 << 15,
                 ring_words=256)


def resnet(monkeypatch: pytest.MonkeyPatch) -> Network:
    """Weights plus or minus one, shortcuts of more bits, an average over 8 x 8 positions."""
    monkeypatch.setitem(nets.NAMES, "narrow", lambda config: SpikingResNet(
        config, 16, ((2, 24), (2, 48)), 32))
    return drawn.drawn_network("narrow", side=16, sparsity=0.5, bits=1, theta=1.5)


def spikformer(keep: int | None = None) -> Network:
    """A residual stream that begins with x + f(x), or with the tokens that a gate keeps."""
    return drawn.drawn_network(side=16, depth=2, width=32, heads=2, sparsity=0.6, keep=keep)


def check_software(network: Network, image: Image, array: np.ndarray) -> None:
    """Every spike of every map, and the logits, of the software core."""
    run, ran = reference.run(network, array[None]), machine.run(image, array)
    assert (machine.logits(image, ran) == run.logits[0]).all(), network.name
    for name in set(image.maps) - {INPUT}:
        height, width = ran.maps[name].shape[2:]
        want = run.spikes[name][:, 0, :, :height, :width]
        assert (ran.maps[name] == want).all(), (network.name, name)


def test_gateware(monkeypatch, tmp_path):
    """Logits, every layer's cycles and counts; and the spikes of the software core."""
    networks = [resnet(monkeypatch), spikformer(), spikformer(keep=11)]
    images = [compile_network(network, CONFIG) for network in networks]
    for image in images:
        assert {one.streamed for one in image.layers} == {True, False}, "both memories"
    convolutional, encoder, gated = ([one.kind for one in image.layers] for image in images)
    assert convolutional.count("copy") == 7, "a bit of the average each"
    assert all(one.value_width == 1 for one in images[0].layers), "shortcuts taken apart"
    assert encoder.count("copy") == 1 and gated.count("copy") == 0, "a copy begins the stream"
    assert all(any(m.onto for m in image.maps.values()) for image in images[1:]), "bit-planes"
    rng = np.random.default_rng(1)
    inputs = [np.stack([random_input(rng, network) for _ in range(2)]) for network in networks]
    for network, image, given_inputs in zip(networks, images, inputs, strict=True):
        check_software(network, image, given_inputs[0])
    cases = list(zip(networks, images, strict=True))
    folders = write_cases(tmp_path, cases, inputs)
    run_bench(CoreWithDram(CONFIG), "sim.units.core.bench", sim="verilator",
              cells=verilog(CONFIG), cases=folders)
    before = 0
    for (network, image), given_inputs, folder in zip(cases, inputs, folders, strict=True):
        before = check_case(network, image, given_inputs, Path(folder), before=before)


@settings(max_examples=50, deadline=None)
@given(arrays_of.arrays(np.int8, (3, 3, 1, 1)), st.sampled_from([1, 2, 4]))
def test_digits(wide, bits):
    """They add up to the value, have its sign, and are as narrow as the other weights."""
    high = 1 if bits == 1 else (1 << bits - 1) - 1
    many = Synapses(np.full((3, 300, 1, 1), high, np.int8), ("b",), bits=bits)
    found = narrow([Synapses(wide, ("a",), bits=8), many])
    own = [(syn.weight.astype(np.int64), shift) for syn, shift in found if syn.sources == ("a",)]
    assert (sum((w << shift for w, shift in own), np.zeros_like(wide, np.int64)) == wide).all()
    assert all((w * wide >= 0).all() and shift < 8 for w, shift in own)
    assert max(rice.value_width(syn.weight) for syn, _ in found) <= max(
        bits, rice.value_width(many.weight))


def test_digits_only_where_they_pay():
    """Not where wide weights are many, nor of sums and of the input, whose planes have shifts."""
    wide, few = np.full((2, 40, 1, 1), 100, np.int8), np.ones((2, 3, 1, 1), np.int8)
    pair = Synapses(wide, ("a",), bits=8), Synapses(few, ("b",), bits=1)
    assert [shift for _, shift in narrow(pair)] == [0, 0]
    many = Synapses(np.ones((2, 3000, 1, 1), np.int8), ("b",), bits=1)
    for sources in (("a", "c"), (INPUT,)):
        assert [s for _, s in narrow([Synapses(wide, sources, bits=8), many])] == [0, 0]


def pooled(side: int, timesteps: int, inputs: int = 12) -> Network:
    """A convolution, the average over its whole map, a layer and a readout."""
    rng = np.random.default_rng(side)
    behind = layer("h", random_weights(rng, (40, inputs, 1, 1), .6, 1), "c", bits=1)
    synapses = replace(behind.synapses[0], sum_pool=side, padding=0)
    return Network(InputSpec(2, side, side), timesteps, (
        layer("c", random_weights(rng, (inputs, 2, 3, 3), .8, 2), INPUT, bits=2),
        replace(behind, synapses=(synapses,), threshold=np.full(40, 5)),
        layer("r", random_weights(rng, (4, 40, 1, 1), .9, 2), "h", neuron=False, bits=2)), "pooled")


@pytest.mark.parametrize(("side", "timesteps"), [(8, 4), (7, 6), (6, 1)])
def test_an_average_is_counted_first(side, timesteps):
    """Every spike is that of the network; its maps are its own ones."""
    network = pooled(side, timesteps)
    image = compile_network(network, replace(PRESETS["a35tdf"], taps=64))
    counted = [one for one in image.layers if one.copy]
    assert len(counted) == (side * side).bit_length() and {one.name for one in counted} == {"h"}
    assert set(image.maps) == {INPUT, "c", "h"}
    check_software(network, image, random_input(np.random.default_rng(side), network))


def test_only_a_whole_map_is_counted():
    network = pooled(8, 4)
    _, behind, last = network.layers
    shapes = network.shapes()
    assert countable(behind, shapes) and not countable(last, shapes)
    assert len(lower(network, {"h": COUNT}).steps) == 3 + 7
    many = replace(behind, synapses=(replace(behind.synapses[0], sources=("c", "c")),))
    assert not countable(many, shapes), "up to 128"
    assert not countable(replace(behind, neuron=None), shapes)
    assert not countable(behind, shapes | {"h#0": shapes["h"]})


def plain(layers: int, channels: int, side: int, timesteps: int = 1) -> Network:
    """Convolutions that keep the size, all of whose weights are 1."""
    names = [INPUT, *(f"c{n}" for n in range(layers))]
    widths = [2, *[channels] * layers]
    last = np.zeros((2, channels, side, side), np.int8)
    last[:, :, 0, 0] = 1
    return Network(InputSpec(2, side, side, bits=1), timesteps, (
        *(layer(name, np.ones((channels, width, 3, 3), np.int8), source, bits=1)
          for name, width, source in zip(names[1:], widths, names, strict=False)),
        layer("r", last, names[-1], neuron=False)), "plain")


REFUSED = {
    "map_words": (1024, plain(1, 64, 32, 16), r"map memory short by \d+ words .* --set map_words="),
    "program_words": (256, plain(9, 4, 4), r"program memory short by .* --set program_words=1024 "),
    "dram_words": (1 << 12, plain(3, 90, 3), r"DRAM of an engine short by .* with more DRAM"),
}


@pytest.mark.parametrize("memory", REFUSED)
def test_refusals(memory):
    """Which memory, by how much, and the option that would help."""
    size, network, message = REFUSED[memory]
    with pytest.raises(DoesNotFit, match=message) as refused:
        compile_network(network, replace(CONFIG, **{memory: size}), stream=True)
    for option in re.findall(rf"--set {memory}=(\d+)", str(refused.value)):
        compile_network(network, replace(CONFIG, **{memory: int(option)}), stream=True)
