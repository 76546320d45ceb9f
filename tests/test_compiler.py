"""Compiled programs, run by the bit-exact machine, against the reference: every spike."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest

from hw import program
from hw.config import PRESETS, CoreConfig
from sim.samples.networks import random_input, random_network
from sw.compile import image_file
from sw.compile.bounds import membrane_bounds
from sw.compile.coding import decode_logits, decode_map, encode_input, program_through
from sw.compile.compiler import DoesNotFit, compile_network
from sw.compile.image import Image, MapLayout
from sw.compile.layout import allocate
from sw.compile.listing import read_program
from sw.core import machine
from sw.core.weights import Weights
from sw.errors import SpikeTicketError
from sw.integer import reference
from sw.integer.network import INPUT, InputSpec, Layer, Network, Neuron, Pool, Synapses

CONFIGS = {
    "tiny": PRESETS["tiny"],
    "a35t": PRESETS["a35tw"],
    "odd": replace(PRESETS["a35tw"], engines=3, acc_depth=8, units=4, window=8, lanes=2),
    "narrow": replace(PRESETS["tiny"], window=8, units=8, acc_depth=8, lanes=2, map_words=2048),
}
ROOMY = replace(PRESETS["a35tw"], map_words=1 << 14, weight_words=1 << 16, program_words=1 << 14,
                taps=128)


def check(network: Network, config: CoreConfig, inputs: np.ndarray, **options) -> Image:
    """Compile, run every input on the machine, compare all maps and logits; the image."""
    image = compile_network(network, config, **options)
    expected = reference.run(network, inputs)
    for n, array in enumerate(inputs):
        result = machine.run(image, array)
        assert np.array_equal(machine.logits(image, result), expected.logits[n])
        for name in expected.spikes:
            found = result.maps[name]
            height, width = found.shape[2:]
            assert np.array_equal(found, expected.spikes[name][:, n, :, :height, :width]), name
        if image.keep_all:
            for name, layout in image.maps.items():
                if name != INPUT:
                    assert layout.dies >= len(image.layers)
                    kept = decode_map(image, result.memory, name)
                    assert np.array_equal(kept, result.maps[name])
    return image


def weights(rng, *shape, density=0.3, bits=4):
    low, high = (-1, 2) if bits == 1 else (-(1 << bits - 1), 1 << bits - 1)
    return (rng.integers(low, high, shape) * (rng.random(shape) < density)).astype(np.int8)


def layer(rng, name, synapses, threshold=6, neuron=None, pool=None):
    channels = synapses[0].weight.shape[0]
    return Layer(name, tuple(synapses), rng.integers(-2, 3, channels),
                 np.full(channels, threshold, np.int64), neuron or Neuron(leak=128), pool)


def readout(rng, name, synapses):
    channels = synapses[0].weight.shape[0]
    bias, zero = rng.integers(-9, 10, channels), np.zeros(channels, np.int64)
    return Layer(name, tuple(synapses), bias, zero, None)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("block", range(12))
def test_random_networks(config, block):
    fits = 0
    for seed in range(block * 10, block * 10 + 10):
        rng = np.random.default_rng(seed)
        limits = {} if block % 3 else {"max_size": 40, "max_channels": 4, "max_layers": 3}
        network = random_network(rng, **limits)
        inputs = np.stack([random_input(rng, network) for _ in range(2)])
        try:
            check(network, CONFIGS[config], inputs)
            fits += 1
        except DoesNotFit as error:
            assert "does not fit" in str(error)
    assert fits >= 5


def test_random_networks_keep_every_map():
    for seed in range(40):
        rng = np.random.default_rng(seed)
        network = random_network(rng)
        try:
            check(network, ROOMY, random_input(rng, network)[None], keep_all=True)
        except DoesNotFit as error:
            assert "plane" in str(error)


def test_rows_and_columns_that_differ_run_or_are_refused():
    """Strides that are never taken, unequal paddings and average pools are made even; the rest is
    refused with its layer, and nothing computes another result."""
    ran, refused = 0, 0
    for seed in range(140):
        rng = np.random.default_rng(seed)
        network = random_network(rng, max_size=10, max_channels=4, uneven=True, max_timesteps=8)
        inputs = random_input(rng, network)[None]
        uneven = any(len({*values}) > 1 for _, syn in network.synapses()
                     for values in (syn.stride, syn.padding, syn.sum_pool))
        try:
            check(network, ROOMY, inputs)
            ran += uneven
        except SpikeTicketError as error:
            assert not isinstance(error, DoesNotFit) or "plane" in str(error)
            refused += "the core has one number for" in str(error)
    assert ran >= 4 and refused >= 20


@pytest.mark.parametrize("syn, source", [
    (dict(kernel=(3, 1), stride=(2, 1), padding=(1, 0)), (16, 1)),       # sequences
    (dict(kernel=(5, 1), stride=(1, 1), padding=(2, 0), sum_pool=(2, 1)), (16, 1)),
    (dict(kernel=(3, 3), padding=(2, 0)), (7, 9)),
    (dict(kernel=(1, 1), sum_pool=(7, 9)), (7, 9)),                      # the mean over a map
    (dict(kernel=(2, 3), stride=(3, 1), sum_pool=(3, 2)), (7, 9)),
])
def test_what_is_even_in_effect_runs(syn, source):
    rng = np.random.default_rng(1)
    kernel = syn.pop("kernel")
    network = Network(InputSpec(2, *source, bits=2), 5, (
        layer(rng, "a", [Synapses(weights(rng, 4, 2, 1, 1, density=1))], 3),
        layer(rng, "b", [Synapses(weights(rng, 4, 4, *kernel, density=0.8), ("a",), **syn)], 3),
        readout(rng, "out", [Synapses(weights(rng, 3, 4, 1, 1, density=1), ("b",))])))
    inputs = np.stack([random_input(rng, network) for _ in range(4)])
    check(network, ROOMY, inputs)
    assert 0 < reference.run(network, inputs).spikes["b"].mean() < 1


def residual_network(rng, timesteps=4, size=16):
    """ResNet-like: both kinds of residual, a strided block, an average pool."""
    def conv(o, i, k, *sources, stride=1):
        return Synapses(weights(rng, o, i, k, k), sources, stride, k // 2)

    eye = Synapses(np.eye(8, dtype=np.int8)[:, :, None, None], ("stem",), bits=1)
    return Network(InputSpec(2, size, size, bits=3, static=False), timesteps, (
        layer(rng, "stem", [conv(8, 2, 3, INPUT)]),
        layer(rng, "a1", [conv(8, 8, 3, "stem")]),
        layer(rng, "a2", [conv(8, 8, 3, "a1"), eye]),                        # before the neuron
        layer(rng, "b1", [conv(16, 8, 3, "a2", "stem", stride=2)]),          # after the neuron
        layer(rng, "b2", [conv(16, 16, 3, "b1"), conv(16, 8, 1, "a2", "stem", stride=2)]),
        layer(rng, "fc", [Synapses(weights(rng, 20, 16, size // 4, size // 4), ("b2",),
                                   sum_pool=2)], threshold=3),
        readout(rng, "out", [Synapses(weights(rng, 5, 20, 1, 1), ("fc",))])))


@pytest.mark.parametrize("timesteps", [1, 4, 6, 16])
def test_residuals_strides_and_average_pool(timesteps):
    rng = np.random.default_rng(timesteps)
    network = residual_network(rng, timesteps)
    inputs = np.stack([random_input(rng, network) for _ in range(2)])
    image = check(network, ROOMY, inputs)
    assert 0.01 < reference.run(network, inputs).spikes["b2"].mean() < 0.9
    assert any(entry.copy for entry in image.layers) or image.maps["stem"].factor == 1


def test_a_map_read_at_two_strides_is_copied_or_walked():
    rng = np.random.default_rng(0)
    network = Network(InputSpec(1, 12, 12, bits=1), 4, (
        layer(rng, "a", [Synapses(weights(rng, 4, 1, 3, 3, density=1), padding=1)], 3),
        layer(rng, "b", [Synapses(weights(rng, 4, 4, 3, 3), ("a",), 2, 1)], 3),
        layer(rng, "c", [Synapses(weights(rng, 4, 4, 3, 3), ("a",), 1, 1)], 3, pool=Pool("or", 2)),
        readout(rng, "out", [Synapses(weights(rng, 3, 4, 6, 6), ("b", "c"))])))
    check(network, PRESETS["a35tw"], random_input(rng, network)[None])


@pytest.mark.parametrize("size, padding, pool", [(7, 1, 2), (13, 2, 3), (10, 1, 4)])
def test_rows_outside_the_average_pool_are_not_read(size, padding, pool):
    """Positions that floor(size / pool) leaves over must not leak into a padded convolution."""
    rng = np.random.default_rng(size)
    network = Network(InputSpec(2, size, size, bits=2), 4, (
        layer(rng, "a", [Synapses(weights(rng, 4, 2, 3, 3, density=1), padding=1)], -5),
        layer(rng, "b", [Synapses(weights(rng, 4, 4, 3, 3, density=1), ("a",), 1, padding, pool)]),
        readout(rng, "out", [Synapses(weights(rng, 3, 4, 1, 1, density=1), ("b",))])))
    check(network, PRESETS["a35tw"], random_input(rng, network)[None])


def test_fully_connected_from_an_image():
    """A 28 x 28 multilayer perceptron needs no more taps than a map word has lanes."""
    rng = np.random.default_rng(5)
    network = Network(InputSpec(1, 28, 28), 4, (
        layer(rng, "hidden", [Synapses(weights(rng, 30, 1, 28, 28, density=0.03))], 3000),
        readout(rng, "out", [Synapses(weights(rng, 10, 30, 1, 1, density=0.5), ("hidden",))])))
    inputs = rng.integers(0, 256, (2, 1, 28, 28)).astype(np.uint8)
    image = check(network, PRESETS["a35tw"], inputs)
    assert image.layers[0].taps == 28


def test_wide_maps():
    """Rows longer than a map word: masks at the first or last word of a row only."""
    rng = np.random.default_rng(6)
    for width, kernel, padding in ((64, 3, 1), (60, 5, 2), (33, 3, 0), (100, 3, 1)):
        network = Network(InputSpec(1, 7, width, bits=2), 2, (
            layer(rng, "a", [Synapses(weights(rng, 3, 1, kernel, kernel, density=1),
                                      padding=padding)], 4),
            layer(rng, "b", [Synapses(weights(rng, 2, 3, 3, 3), ("a",), padding=1)], 4),
            readout(rng, "out", [Synapses(weights(rng, 2, 2, 1, 1, density=1), ("b",))])))
        check(network, ROOMY, random_input(rng, network)[None])


@pytest.mark.parametrize("height, width, pool, words", [
    (28, 28, 1, 4), (28, 28, 2, 1), (40, 6, 2, 1), (40, 6, 4, 0)])
def test_strips_begin_a_word_where_they_can(height, width, pool, words):
    """Then two engines that share a drain take turns. words: of a strip's outputs, if whole."""
    rng = np.random.default_rng(6)
    network = Network(InputSpec(2, height, width, bits=1), 4, (
        layer(rng, "a", [Synapses(weights(rng, 3, 2, 3, 3), padding=1)], 4,
              pool=Pool("or", pool)),
        readout(rng, "out", [Synapses(weights(rng, 2, 3, 1, 1, density=1), ("a",))])))
    image = check(network, PRESETS["a35tw"], random_input(rng, network)[None])
    header = read_program(image.program, image.config)[0].header
    assert header["n_strips"] > 1
    assert (header["flush_strip"], header["strip_out_words"]) == (int(words > 0), words)


def test_a_pool_that_no_strip_can_hold_is_refused():
    rng = np.random.default_rng(7)
    network = Network(InputSpec(1, 6, 100, bits=2), 2, (
        layer(rng, "a", [Synapses(weights(rng, 3, 1, 3, 3, density=1), padding=1)], 4,
              pool=Pool("or", 2)),
        readout(rng, "out", [Synapses(weights(rng, 2, 3, 1, 1, density=1), ("a",))])))
    with pytest.raises(DoesNotFit, match=r"'a' does not fit: 2 rows of 128 positions .* 128;"):
        compile_network(network, ROOMY)


def test_every_row_is_dealt_once_and_work_is_balanced():
    rng = np.random.default_rng(8)
    network = residual_network(rng)
    image = compile_network(network, PRESETS["a35tw"])
    for entry, code in zip(image.layers, read_program(image.program, image.config), strict=True):
        rows = sorted(row for rows in entry.rows_of_engine for row in rows)
        assert rows == list(range(len(rows))) and len(rows) > 0
        assert [engine["rows"] for engine in code.engines] == list(map(len, entry.rows_of_engine))
    used = [len(words) for words in image.weights]
    assert max(used) - min(used) <= 0.2 * max(used)


def test_a_program_can_stop_after_any_layer():
    rng = np.random.default_rng(12)
    network = residual_network(rng)
    image = compile_network(network, PRESETS["a35tw"])
    array = random_input(rng, network)
    expected = reference.run(network, array[None]).spikes
    for name, layout in image.maps.items():
        if name == INPUT:
            continue
        words = program_through(image, layout.born)
        memory = np.zeros((image.config.map_words, image.config.window // 2), np.uint8)
        for address, data in encode_input(image, array):
            memory[address:address + len(data)] = data
        result = machine.execute(words, Weights.of(image), memory, image.config)
        assert len(result.layers) == layout.born + 1
        assert np.array_equal(decode_map(image, result.memory, name), expected[name][:, 0])


def test_image_survives_saving(tmp_path):
    rng = np.random.default_rng(9)
    network = residual_network(rng)
    image = compile_network(network, PRESETS["a35tw"])
    image_file.save(image, tmp_path / "image.npz")
    loaded = image_file.load(tmp_path / "image.npz")
    assert np.array_equal(loaded.program, image.program)
    assert all(np.array_equal(a, b) for a, b in zip(loaded.weights, image.weights, strict=True))
    for name in ("config", "inputs", "maps", "memories", "layers", "results", "input_shape"):
        assert getattr(loaded, name) == getattr(image, name), name
    array = random_input(rng, network)
    assert np.array_equal(machine.logits(image, machine.run(image, array)),
                          machine.logits(loaded, machine.run(loaded, array)))
    assert list(tmp_path.iterdir()) == [tmp_path / "image.npz"]


@pytest.mark.parametrize("damage", ["truncate", "flip", "foreign", "missing"])
def test_damaged_images_are_refused(tmp_path, damage):
    rng = np.random.default_rng(10)
    path = tmp_path / "image.npz"
    image_file.save(compile_network(residual_network(rng), PRESETS["a35tw"]), path)
    data = bytearray(path.read_bytes())
    if damage == "truncate":
        path.write_bytes(data[:len(data) // 2])
    elif damage == "flip":
        data[len(data) // 2] ^= 0x10
        path.write_bytes(data)
    elif damage == "foreign":
        np.savez(path, other=np.zeros(3))
    else:
        path.unlink()
    with pytest.raises(SpikeTicketError, match=r"image\.npz"):
        image_file.load(path)


def test_every_short_memory_is_listed():
    rng = np.random.default_rng(11)
    small = replace(PRESETS["tiny"], map_words=64, weight_words=64, program_words=64, taps=4,
                    planes=2)
    with pytest.raises(DoesNotFit) as caught:
        compile_network(residual_network(rng), small)
    names = {memory.name for memory in caught.value.short}
    assert {"map memory", "weight memory 0", "program memory", "tap table", "plane table"} <= names
    for memory in caught.value.short:
        assert f"{memory.name} short by {memory.short}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change, message", [
    (dict(weight=127, channels=2), "'a', channel 0: 16-bit current 64770"),
    (dict(weight=-2, channels=65), "'a', channel 0: 16-bit current -33150"),
    (dict(weight=127, channels=16, static=False), "'a', channel 0: sums of up to 518160 take 20"),
    (dict(threshold=-(1 << 20)), "'a', channel 0: 24-bit membrane"),
    (dict(bias=1 << 17), "'a', channel 0: bias 131072"),
    (dict(v_reset=1 << 24), "v_reset 16777216"),
    (dict(out_bias=1 << 22), "'out', channel 0: initial sum"),
])
def test_overflow_is_refused_with_layer_and_channel(change, message):
    with pytest.raises(SpikeTicketError, match=message):
        compile_network(overflowing(**change), PRESETS["a35tw"])


def overflowing(weight=1, channels=1, threshold=1, bias=0, v_reset=0, out_bias=0,
                static=True) -> Network:
    one = np.ones((1, 1, 1, 1), np.int8)
    zero = np.zeros(1, np.int64)
    neuron = Neuron(v_reset=v_reset) if v_reset else Neuron(reset="soft")
    first = np.full((1, channels, 1, 1), weight, np.int8)
    bias_a = zero + bias if bias else zero + (1 << 16)
    return Network(InputSpec(channels, 1, 1, bits=8, static=static), 16, (
        Layer("a", (Synapses(first, bits=8),), bias_a, zero + threshold, neuron),
        Layer("out", (Synapses(one, ("a",), bits=1),), zero + out_bias, zero, None)))


def test_thresholds_that_cannot_be_reached_are_clamped():
    """Folding a dead batch-norm channel gives huge thresholds: no spike either way."""
    one = np.ones((2, 1, 1, 1), np.int8)
    theta = np.array([1 << 40, -(1 << 40)])
    network = Network(InputSpec(1, 1, 1, bits=8), 4, (
        Layer("a", (Synapses(one, bits=1),), np.zeros(2, np.int64), theta, Neuron()),
        Layer("out", (Synapses(one[:, :, :, :].reshape(1, 2, 1, 1), ("a",), bits=1),),
              np.zeros(1, np.int64), np.zeros(1, np.int64), None)))
    check(network, PRESETS["a35tw"], np.full((1, 1, 1, 1), 200, np.uint8))


def test_a_threshold_out_of_reach_takes_no_more_bits_than_the_others():
    """Currents reach 255, so 300 and 1 << 40 are the same as 256, and fold into 10 bits."""
    network = overflowing(threshold=300)
    first = replace(network.layers[0], bias=np.zeros(1, np.int64), neuron=Neuron(leak=0))
    for theta in (300, 1 << 40):
        image = compile_network(replace(network, layers=(
            replace(first, threshold=np.array([theta])), network.layers[1])), PRESETS["a35tw"])
        assert read_program(image.program, image.config)[0].header["neuron_bits"] == 10
        assert image.layers[0].header_bits == 20        # a row's; its channel is implied


@pytest.mark.parametrize("seed", range(30))
def test_membrane_bounds_hold(seed):
    rng = np.random.default_rng(seed)
    soft = bool(rng.integers(2))
    neuron = Neuron(int(rng.integers(0, 257)), "soft" if soft else "hard",
                    0 if soft else int(rng.integers(-20, 20)))
    theta = rng.integers(-10, 60, 1)
    entry = Layer("a", (Synapses(np.ones((1, 1, 1, 1), np.int8)),), np.zeros(1, np.int64), theta,
                  neuron)
    low, high = np.sort(rng.integers(-40, 40, 2)).reshape(2, 1)
    lowest, highest, compared = membrane_bounds(entry, low, high, 6)
    for _ in range(300):
        v = neuron.v_reset
        for _ in range(6):
            v = neuron.leak * v // 256 + int(rng.choice([low[0], high[0],
                                                         rng.integers(low[0], high[0] + 1)]))
            assert lowest <= v <= highest and v >= compared
            if v >= theta:
                v = v - int(theta[0]) if soft else neuron.v_reset
            assert lowest <= v <= highest


@pytest.mark.parametrize("seed", range(20))
def test_maps_alive_together_never_overlap(seed):
    rng = np.random.default_rng(seed)
    layouts = []
    for _ in range(int(rng.integers(1, 12))):
        born = int(rng.integers(-1, 8))
        layouts.append(MapLayout("m", 1, 1, 1, 1, 1, int(rng.integers(1, 30)), 32, born=born,
                                 dies=int(rng.integers(born, 9))))
    placed, results, used = allocate(layouts, 10, 8)
    places = [(m.base, m.base + m.words, m.born, m.dies) for m in placed]
    places.append((results, results + 10, 8, 9))
    for n, (low, high, born, dies) in enumerate(places):
        assert 0 <= low and high <= used
        for other_low, other_high, other_born, other_dies in places[:n]:
            together = born <= other_dies and other_born <= dies
            assert not together or high <= other_low or other_high <= low


@pytest.mark.parametrize("static, timesteps, copies, stored", [
    (True, 3, (0,), 3), (True, 8, (0, 0), 4), (True, 6, (0, 1), 4 + 2),
    (True, 14, (0, 0, 0, 1), 4 + 2), (False, 3, (0,), 3), (False, 9, (0, 1, 2), 9)])
def test_input_planes_hold_no_spikes_after_the_last_timestep(static, timesteps, copies, stored):
    rng = np.random.default_rng(0)
    network = Network(InputSpec(2, 5, 9, bits=3, static=static), timesteps, (
        readout(rng, "out", [Synapses(weights(rng, 2, 2, 5, 9, density=1))]),))
    image = compile_network(network, PRESETS["tiny"])
    array = np.full((2, 5, 9) if static else (timesteps, 2, 5, 9), 7, np.uint8)
    (address, words), = encode_input(image, array)
    assert image.inputs[0].copy_of_group == copies
    memory = np.zeros((image.config.map_words, words.shape[1]), np.uint8)
    memory[address:address + len(words)] = words
    assert np.array_equal(decode_map(image, memory, INPUT),
                          np.broadcast_to(array, (timesteps, 2, 5, 9)))
    assert int(np.unpackbits(words).sum()) == 3 * 2 * 5 * 9 * stored
    check(network, PRESETS["tiny"], array[None])


def of_the_input(rng, pool=None, *others, static=True, bits=8, timesteps=4):
    """A layer `a` on the input, then `others`, which may read it, and a readout of the last."""
    conv = Synapses(weights(rng, 4, 2, 3, 3, density=0.6), (INPUT,), 1, 1)
    first = layer(rng, "a", [conv], threshold=300 * ((1 << bits) - 1) // 255 + 1, pool=pool)
    layers = (first, *others)
    return Network(InputSpec(2, 6, 9, bits, static), timesteps, (*layers, readout(
        rng, "out", [Synapses(weights(rng, 3, 4, 1, 1), (layers[-1].name,))])))


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("timesteps", [1, 4, 6, 9])
@pytest.mark.parametrize("pool", [None, "or", "sum"])
def test_four_bits_of_a_static_input_share_a_mask(bits, timesteps, pool):
    rng = np.random.default_rng(bits)
    network = of_the_input(rng, Pool("or", 2) if pool == "or" else None, bits=bits,
                           timesteps=timesteps)
    if pool == "sum":
        first = network.layers[0]
        conv = replace(first.synapses[0], sum_pool=3, padding=0,
                       weight=np.arange(8, dtype=np.int8).reshape(4, 2, 1, 1) % 4)
        first = replace(first, synapses=(conv,),
                        threshold=np.full(4, 20 * ((1 << bits) - 1), np.int64))
        network = replace(network, layers=(first, network.layers[1]))
    inputs = rng.integers(0, 1 << bits, (3, 2, 6, 9)).astype(np.uint8)
    image = check(network, PRESETS["tiny"], inputs)
    (layout,), groups = image.inputs, -(-timesteps // 4)
    assert (layout.bits_a_mask, layout.planes) == (4, -(-bits // 4))
    assert (layout.copies, layout.copy_of_group) == (1, (0,) * groups)
    assert [code.header["bit_planes"] for code in read_program(image.program, image.config)] == [
        1, 0]
    assert 0 < reference.run(network, inputs).spikes["a"].mean() < 1


@pytest.mark.parametrize("why", ["max pool", "readout", "with a map", "changes", "1 bit",
                                 "another reader"])
def test_a_bit_of_the_input_has_every_timestep_where_the_drain_could_not_add(why):
    rng = np.random.default_rng(3)
    network = of_the_input(rng, static=why != "changes", bits=1 if why == "1 bit" else 8,
                           pool=Pool("max", 2) if why == "max pool" else None)
    if why in ("with a map", "another reader"):
        conv = Synapses(weights(rng, 4, 4, 3, 3), ("a",), 1, 1)
        other = Synapses(weights(rng, 4, 2, 1, 1, density=1), (INPUT,))
        pool = Pool("max", 1) if why == "another reader" else None
        parts = [other] if pool else [conv, other]
        network = of_the_input(rng, None, layer(rng, "b", parts, threshold=400, pool=pool))
    if why == "readout":
        network = replace(network, layers=(readout(rng, "out", [
            Synapses(weights(rng, 3, 2, 6, 9), (INPUT,))]),))
    shape = (2, 6, 9) if network.input.static else (4, 2, 6, 9)
    inputs = rng.integers(0, 1 << network.input.bits, (3, *shape)).astype(np.uint8)
    image = check(network, PRESETS["tiny"], inputs)
    assert {(at.bits_a_mask, at.planes) for at in image.inputs} == {(1, network.input.bits)}
    assert not any(code.header["bit_planes"] for code in read_program(image.program, image.config))


def test_encode_input_names_what_is_wrong():
    rng = np.random.default_rng(0)
    network = residual_network(rng)
    image = compile_network(network, PRESETS["a35tw"])
    good = random_input(rng, network)
    for bad, message in ((good[1:], "takes uint8"), (good.astype(int), "takes uint8"),
                         (good | np.uint8(8), "more than 3 bits")):
        with pytest.raises(SpikeTicketError, match=message):
            encode_input(image, bad)


def test_header_fields_are_named_when_they_overflow():
    with pytest.raises(ValueError, match=r"n_taps = 256 is outside 0\.\.255"):
        program.pack(program.HEADER[0], dict.fromkeys(
            (program.plain(name) for name, _ in program.HEADER[0]), 0) | {"n_taps": 256})


def test_logits_are_signed_32_bits():
    rng = np.random.default_rng(0)
    image = compile_network(residual_network(rng), PRESETS["a35tw"])
    words = np.zeros((image.config.map_words, image.config.window // 2), np.uint8)
    words[image.results, :4] = [0xFE, 0xFF, 0xFF, 0xFF]
    words[image.results + 1, :4] = [0xFF, 0xFF, 0xFF, 0x7F]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode_logits(image, words)[:2].tolist() == [-2, (1 << 31) - 1]
