"""Compiled attention, patch gates and overlapping pools, run by the machine: every spike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.config import PRESETS, CoreConfig
from sim.samples.networks import random_input
from sim.samples.spikeformers import random_masks, random_spikeformer
from sw.compile import image_file
from sw.compile.coding import gate_input
from sw.compile.compiler import DoesNotFit, LayoutError, compile_network
from sw.compile.image import Image
from sw.compile.image_gate import GateInfo
from sw.compile.listing import read_program
from sw.core import machine
from sw.errors import SpikeTicketError
from sw.integer import reference
from sw.integer.attention import Attention, ColumnAttention
from sw.integer.gate import MODES, Gate, Select
from sw.integer.network import INPUT, InputSpec, Layer, Network, Neuron, Pool, Synapses

ROOM = {"map_words": 1 << 13, "weight_words": 1 << 16, "program_words": 1 << 13, "taps": 128,
        "planes": 64}
CONFIGS = {
    "micro": replace(PRESETS["micro"], **ROOM),
    "tiny": PRESETS["tiny"],
    "a35tf": PRESETS["a35tf"],
    "a100t": PRESETS["a100tf"],
    "wide": replace(PRESETS["a100tf"], engines=3, window=64, acc_depth=32, **ROOM),
}
ROOMY = replace(PRESETS["a35tf"], **ROOM)


def check(network: Network, config: CoreConfig, inputs: np.ndarray,
          masks: np.ndarray | None = None, **options) -> Image:
    """Compile, run every input on the machine, compare all maps and logits; the image."""
    image = compile_network(network, config, **options)
    expected = reference.run(network, inputs, masks=masks)
    for n, array in enumerate(inputs):
        result = machine.run(image, array, mask=None if masks is None else masks[n])
        for name in expected.spikes:
            found = result.maps[name]
            height, width = found.shape[2:]
            assert np.array_equal(found, expected.spikes[name][:, n, :, :height, :width]), name
        assert np.array_equal(machine.logits(image, result), expected.logits[n])
    return image


def conv(rng, name, channels, source, before, kernel=3, pool=None, threshold=2, stride=1):
    """A layer with random weights on `before` channels."""
    w = rng.integers(-2, 3, (channels, before, kernel, kernel)).astype(np.int8)
    return Layer(name, (Synapses(w, (source,), stride, kernel // 2),),
                 np.zeros(channels, np.int64), np.full(channels, threshold, np.int64),
                 Neuron(128), pool)


def readout(rng, source, channels, classes=3):
    zero = np.zeros(classes, np.int64)
    w = rng.integers(-8, 8, (classes, channels, 1, 1)).astype(np.int8)
    return Layer("logits", (Synapses(w, (source,)),), zero, zero, None)


def attention(name, q, k, v, channels, heads=1, threshold=2):
    return Layer(name, (), np.zeros(channels, np.int64), np.full(channels, threshold, np.int64),
                 Neuron(128), None, Attention(q, k, v, heads))


def gated(rng, gate, channels=8, side=4, timesteps=4, bits=1):
    """stem -> gate -> q, k, v -> attention -> readout, for a gate of side x side tokens."""
    tokens = [conv(rng, part, channels, "kept", channels, 1, threshold=1) for part in "qkv"]
    head = [gate] if gate.mode == "input" else []
    rest = [] if head else [gate]
    return Network(InputSpec(1, side, side, bits), timesteps, (
        *head, conv(rng, "stem", channels, INPUT, 1), *rest, Select("kept", "stem", "gate"),
        *tokens, attention("a", "q", "k", "v", channels), readout(rng, "a", channels)))


def make_gate(mode, keep, side=4):
    mask = np.arange(side * side) % 5 < 2 if mode == "static" else None
    return Gate("gate", mode, int(mask.sum()) if mode == "static" else keep, (side, side),
                ("stem",) if mode == "count" else (), mask)


@pytest.mark.parametrize("name", CONFIGS)
def test_random_spikeformers(name):
    fits, limits = 0, {"max_side": 4, "max_head_width": 9} if name == "micro" else {}
    for seed in range(24):
        rng = np.random.default_rng(seed)
        network = random_spikeformer(rng, column=False, **limits)
        inputs = np.stack([random_input(rng, network) for _ in range(2)])
        try:
            check(network, CONFIGS[name], inputs, random_masks(rng, network, 2))
            fits += 1
        except DoesNotFit as error:
            assert "does not fit" in str(error)
    assert fits >= (12 if name == "tiny" else 18)


def test_tokens_of_many_strips():
    """16 x 16 tokens take two strips of the core: M is worked out in each."""
    rng = np.random.default_rng(0)
    network = Network(InputSpec(1, 16, 16, 1), 6, (
        *(conv(rng, part, 16, INPUT, 1) for part in "qkv"),
        attention("a", "q", "k", "v", 16, 2, 300), readout(rng, "a", 16)))
    inputs = np.stack([random_input(rng, network) for _ in range(2)])
    image = check(network, PRESETS["a35tf"], inputs)
    assert image.layers[3].strips == 2 and image.layers[3].kind == "attention"
    header = read_program(image.program, image.config)[3].header
    assert (header["head_width"], header["key_words"], header["n_groups"]) == (8, 8, 2)
    assert 0.01 < reference.run(network, inputs).spikes["a"].mean() < 0.99


def test_key_and_value_live_until_attention_has_read_them():
    rng = np.random.default_rng(1)
    network = gated(rng, make_gate("count", 5))
    image = compile_network(network, PRESETS["tiny"])
    index = [layer.name for layer in image.layers].index("a")
    assert [image.maps[name].dies for name in "qkv"] == [index] * 3


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("keep", [1, 5, 16])
@pytest.mark.parametrize("kind", ["random", "silent", "uniform"])
def test_gates_at_their_edges(mode, keep, kind):
    """One or all tokens kept; all counts equal, which keeps the lowest tokens; a silent image."""
    rng = np.random.default_rng(keep)
    network = gated(rng, make_gate(mode, keep), timesteps=5)
    inputs = {"random": rng.integers(0, 2, (2, 1, 4, 4)), "silent": np.zeros((2, 1, 4, 4)),
              "uniform": np.ones((2, 1, 4, 4))}[kind].astype(np.uint8)
    image = check(network, PRESETS["tiny"], inputs, random_masks(rng, network, 2))
    gate = next(layer for layer in image.layers if layer.kind == "gate")
    assert gate.name == image.layers[image.gate.step].name == image.gate.name == "gate"


def test_a_gate_of_256_tokens():
    rng = np.random.default_rng(0)
    config = replace(PRESETS["a35tf"], acc_depth=32, map_words=4096)
    for mode, keep in (("count", 255), ("host", 40)):
        network = gated(rng, Gate("gate", mode, keep, (16, 16),
                                  ("stem",) if mode == "count" else ()), side=16)
        check(network, config, random_input(rng, network)[None], random_masks(rng, network, 1))


def test_scores_of_several_maps_one_of_them_needed_in_phases():
    rng = np.random.default_rng(3)
    gate = Gate("gate", "count", 7, (6, 6), ("b", "a"))
    network = Network(InputSpec(1, 6, 6, 2), 9, (
        conv(rng, "a", 4, INPUT, 1), conv(rng, "b", 4, "a", 4),
        conv(rng, "c", 4, "b", 4, stride=2), gate, Select("kept", "a", "gate"),
        readout(rng, "kept", 4)))
    image = check(network, PRESETS["tiny"], np.stack([random_input(rng, network)
                                                      for _ in range(3)]))
    headers = [code.header for code in read_program(image.program, image.config)]
    scored = {layer.name: (h["score"], h["score_clear"], h["out_pitch"])
              for layer, h in zip(image.layers, headers, strict=True) if h["score"]}
    assert scored == {"a": (1, 1, image.gate.pitch), "b": (1, 0, image.gate.pitch)}
    step = headers[image.gate.step]
    assert (step["gate_host"], step["out_pitch"]) == (0, 7)
    assert step["strip_words"] == (9 * 8).bit_length()
    assert sum(headers[image.gate.step][f"count_{axis}"] != 1 for axis in ("ox", "oy")) == 0


@pytest.mark.parametrize("height, width", [(1, 1), (1, 4), (2, 3), (5, 5), (7, 8), (9, 4),
                                           (16, 15)])
@pytest.mark.parametrize("timesteps", [3, 6])
def test_overlapping_pools(height, width, timesteps):
    """Strips overlap by a row, odd sizes reach beyond the map, another layer wants phases."""
    rng = np.random.default_rng(height * width)
    network = Network(InputSpec(2, height, width, 3), timesteps, (
        conv(rng, "a", 4, INPUT, 2, pool=Pool("max", 3, 2, 1), threshold=9),
        conv(rng, "b", 4, "a", 4, stride=2), conv(rng, "c", 4, "a", 4, pool=Pool("max", 3, 2, 1)),
        readout(rng, "c", 4)))
    inputs = np.stack([random_input(rng, network) for _ in range(2)])
    strips = [check(network, config, inputs).layers[0].strips
              for config in (ROOMY, CONFIGS["wide"], replace(PRESETS["tiny"], **ROOM))]
    assert (strips[-1] > 1) == (height * width > 64)


def test_a_spikformer_stem_of_32_x_32():
    rng = np.random.default_rng(0)
    pool = Pool("max", 3, 2, 1)
    network = Network(InputSpec(1, 32, 32, 8), 4, (
        conv(rng, "a", 6, INPUT, 1, pool=pool, threshold=500),
        conv(rng, "b", 8, "a", 6, pool=pool, threshold=5), readout(rng, "b", 8)))
    image = check(network, PRESETS["a35tf"], random_input(rng, network)[None])
    header = read_program(image.program, image.config)[0].header
    assert (header["n_strips"], header["strip_words"], header["strip_step"]) == (16, 3, 2)


def test_images_with_a_gate_survive_saving(tmp_path):
    rng = np.random.default_rng(2)
    for mode in MODES:
        network = gated(rng, make_gate(mode, 3))
        image = compile_network(network, PRESETS["tiny"])
        image_file.save(image, tmp_path / "image.npz")
        found = image_file.load(tmp_path / "image.npz")
        assert found.gate == image.gate and found.layers == image.layers
        array, masks = random_input(rng, network), random_masks(rng, network, 1)
        mask = None if masks is None else masks[0]
        result = machine.run(found, array, mask=mask)
        expected = reference.run(network, array[None], masks=masks)
        assert np.array_equal(machine.logits(found, result), expected.logits[0])


@given(st.integers(1, 16), st.integers(1, 16), st.integers(0, 3), st.randoms(use_true_random=False))
def test_masks_travel_as_flat_positions(rows, columns, wider, random):
    pitch = 1 << (columns - 1).bit_length() + wider
    gate = GateInfo("gate", "host", 1, (rows, columns), pitch, 0)
    mask = np.array([random.random() < 0.5 for _ in range(rows * columns)])
    words = gate.words(mask)
    assert len(words) == gate.mask_words == ((rows - 1) * pitch + columns - 1) // 32 + 1
    bits = [position for position in range(32 * len(words))
            if int(words[position // 32]) >> position % 32 & 1]
    assert bits == [n // columns * pitch + n % columns for n in np.flatnonzero(mask)]
    assert np.array_equal(gate.kept(words), mask)


def test_an_input_gate_zeroes_patches_before_they_are_sent():
    rng = np.random.default_rng(4)
    network = gated(rng, make_gate("input", 6), timesteps=4, bits=4)
    image = compile_network(network, PRESETS["tiny"])
    array = random_input(rng, network)
    values, words = gate_input(image, array)
    expected = reference.run(network, array[None])
    assert np.array_equal(values, expected.spikes[INPUT][0, 0])
    assert np.array_equal(np.flatnonzero(image.gate.kept(words)), expected.kept["gate"][0])


def refuse(network, config, message, error=SpikeTicketError):
    with pytest.raises(error, match=message):
        compile_network(network, config)


def test_cores_without_the_units_are_refused():
    network = gated(np.random.default_rng(0), make_gate("count", 3))
    refuse(network, PRESETS["a35tw"], "no patch gate; choose a preset with one: .*a35tf")
    refuse(network, replace(PRESETS["a35tw"], gate=True), "layer 'a' .* no attention; .*a35tf")


def test_what_no_core_has_is_refused():
    rng = np.random.default_rng(0)
    network = gated(rng, make_gate("count", 3))
    second = [Gate("other", "static", 1, (1, 3), (), np.eye(1, 3, dtype=bool)[0]),
              Select("fewer", "a", "other"), readout(rng, "fewer", 8)]
    refuse(replace(network, layers=(*network.layers[:-1], *second)), ROOMY, "a second patch gate")
    column = replace(network.layers[-2], attention=ColumnAttention("q", "k", "v"))
    refuse(replace(network, layers=(*network.layers[:-2], column, network.layers[-1])), ROOMY,
           "no column attention")
    for pool in (Pool("or", 3, 2, 1), Pool("max", 2, 1), Pool("max", 3, 2)):
        refuse(Network(InputSpec(1, 8, 8, 1), 4, (
            conv(rng, "a", 4, INPUT, 1, pool=pool), readout(rng, "a", 4))), ROOMY,
            f"pool '{pool.mode}' of size {pool.size[0]}, stride {pool.stride[0]}")


def test_what_is_too_large_is_refused():
    rng = np.random.default_rng(0)
    gate = Gate("gate", "count", 3, (16, 16), ("stem",))
    refuse(gated(rng, gate, side=16), PRESETS["a35tf"], "chooses from 16 x 16 tokens, 256 .* 128",
           LayoutError)
    network = Network(InputSpec(1, 12, 12, 1), 4, (
        *(conv(rng, part, 8, INPUT, 1) for part in "qkv"), attention("a", "q", "k", "v", 8),
        readout(rng, "a", 8)))
    refuse(network, CONFIGS["micro"], "attention over 12 x 12 tokens, 24 map words", LayoutError)
    stem = conv(rng, "stem", 2048, INPUT, 1)
    gate = make_gate("count", 3)
    refuse(Network(InputSpec(1, 4, 4, 1), 16, (
        stem, conv(rng, "more", 2048, INPUT, 1), replace(gate, scores=("stem", "more")),
        Select("kept", "stem", "gate"), readout(rng, "kept", 2048))), ROOMY,
        "scores up to 65536 exceed 16 bits")
