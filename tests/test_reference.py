"""The integer reference against a second, deliberately naive implementation, and at its edges."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from sim.samples.networks import random_input, random_network
from sw.errors import SpikeTicketError
from sw.integer import reference
from sw.integer.network import INPUT, InputSpec, Layer, Network, Neuron, Pool, Synapses


def naive_operand(syn: Synapses, maps: dict[str, np.ndarray], t: int) -> np.ndarray:
    total = sum(maps[name][t].astype(object) for name in syn.sources)
    a, b = syn.sum_pool
    channels, height, width = total.shape
    pooled = np.zeros((channels, height // a, width // b), object)
    for c, y, x in np.ndindex(pooled.shape):
        pooled[c, y, x] = total[c, y * a:y * a + a, x * b:x * b + b].sum()
    return pooled


def naive_conv(syn: Synapses, x: np.ndarray, out: np.ndarray) -> None:
    """Add the convolution to out [C_out, H', W'] one weight at a time."""
    for o, i, j in np.ndindex(out.shape):
        for c, dy, dx in np.ndindex(syn.weight.shape[1:]):
            y = i * syn.stride[0] + dy - syn.padding[0]
            z = j * syn.stride[1] + dx - syn.padding[1]
            if 0 <= y < x.shape[1] and 0 <= z < x.shape[2]:
                out[o, i, j] += int(syn.weight[o, c, dy, dx]) * x[c, y, z]


def naive_run(network: Network, values: np.ndarray) -> tuple[list[int], dict[str, np.ndarray]]:
    steps = network.timesteps
    maps = {INPUT: np.stack([values] * steps) if network.input.static else values}
    logits = [0] * network.layers[-1].channels
    for layer in network.layers:
        conv = network.conv_size(layer.name, layer.synapses[0], network.shapes())
        v, outputs = None, []
        for t in range(steps):
            current = np.zeros((layer.channels, *conv), object)
            for syn in layer.synapses:
                naive_conv(syn, naive_operand(syn, maps, t), current)
            current += layer.bias.astype(object)[:, None, None]
            if layer.neuron is None:
                logits = [a + b for a, b in zip(logits, current.sum((1, 2)), strict=True)]
                continue
            pool = layer.pool
            if pool and pool.mode == "max":
                current = naive_max(current, pool)
            if v is None:
                v = np.full(current.shape, layer.neuron.v_reset, object)
            fired = np.zeros(current.shape, np.uint8)
            for o, i, j in np.ndindex(current.shape):
                membrane = layer.neuron.leak * v[o, i, j] // 256 + current[o, i, j]
                if membrane >= layer.threshold[o]:
                    fired[o, i, j] = 1
                    membrane = (layer.neuron.v_reset if layer.neuron.reset == "hard"
                                else membrane - int(layer.threshold[o]))
                v[o, i, j] = membrane
            outputs.append(naive_max(fired, pool) if pool and pool.mode == "or" else fired)
        if layer.neuron is not None:
            maps[layer.name] = np.stack(outputs)
    return logits, maps


def naive_max(x: np.ndarray, pool: Pool) -> np.ndarray:
    """Maximum of every window; what it covers beyond the map is nothing."""
    channels, height, width = x.shape
    (a, b), (down, right), (top, left) = pool.size, pool.stride, pool.padding
    out = np.zeros((channels, (height + 2 * top - a) // down + 1,
                    (width + 2 * left - b) // right + 1), x.dtype)
    for c, i, j in np.ndindex(out.shape):
        rows = range(max(0, i * down - top), min(height, i * down - top + a))
        columns = range(max(0, j * right - left), min(width, j * right - left + b))
        out[c, i, j] = max(x[c, y, z] for y in rows for z in columns)
    return out


@pytest.mark.parametrize("uneven", [False, True])
@pytest.mark.parametrize("seed", range(25))
def test_equals_the_naive_implementation(seed, uneven):
    rng = np.random.default_rng(seed)
    network = random_network(rng, max_size=6, max_channels=3, max_layers=3, max_timesteps=6,
                             uneven=uneven)
    inputs = np.stack([random_input(rng, network) for _ in range(2)])
    result = reference.run(network, inputs)
    for n in range(2):
        logits, maps = naive_run(network, inputs[n])
        assert result.logits[n].tolist() == logits
        for name, spikes in maps.items():
            assert np.array_equal(result.spikes[name][:, n], spikes), name


def test_strides_paddings_and_pools_of_two_numbers_occur():
    networks = [random_network(np.random.default_rng(seed), max_size=6, max_channels=3,
                               max_layers=3, max_timesteps=6, uneven=True) for seed in range(25)]
    synapses = [syn for network in networks for _, syn in network.synapses()]
    pools = [layer.pool for network in networks for layer in network.layers if layer.pool]
    for things, names in ((synapses, ("stride", "padding", "sum_pool")),
                          (pools, ("size", "stride", "padding"))):
        for name in names:
            assert sum(len({*getattr(thing, name)}) == 2 for thing in things) >= 3, name
    assert max(network.timesteps for network in networks) > 16


def one_neuron(weight: int, threshold: int, neuron: Neuron, bias: int = 0,
               timesteps: int = 4) -> Network:
    """Input 1x1 -> one neuron -> readout that counts its spikes."""
    one = np.ones((1, 1, 1, 1), np.int8)
    zero = np.zeros(1, np.int64)
    return Network(InputSpec(1, 1, 1, bits=8, static=False), timesteps, (
        Layer("n", (Synapses(one * np.int8(weight), bits=8),), zero + bias, zero + threshold,
              neuron),
        Layer("out", (Synapses(one, ("n",), bits=1),), zero, zero, None)))


def spikes_of(network: Network, values: list[int]) -> list[int]:
    inputs = np.array(values, np.uint8).reshape(1, -1, 1, 1, 1)
    return reference.run(network, inputs).spikes["n"].reshape(-1).tolist()


def test_fires_exactly_at_the_threshold():
    assert spikes_of(one_neuron(1, 10, Neuron(leak=0)), [9, 10, 11, 0]) == [0, 1, 1, 0]


def test_decay_rounds_down_also_below_zero():
    # -1, then floor(-1/2) = -1 (not 0): -1 + 1 = 0 stays below the threshold of 1.
    network = one_neuron(1, 1, Neuron(leak=128), bias=-1)
    assert spikes_of(network, [0, 2, 0, 0]) == [0, 0, 0, 0]
    # leak 255: floor(255 * 3 / 256) = 2.
    assert spikes_of(one_neuron(1, 5, Neuron(leak=255)), [3, 2, 3, 0]) == [0, 0, 1, 0]


def test_hard_and_soft_reset():
    assert spikes_of(one_neuron(1, 4, Neuron()), [7, 3, 1, 0]) == [1, 0, 1, 0]
    assert spikes_of(one_neuron(1, 4, Neuron(reset="soft")), [7, 3, 1, 0]) == [1, 1, 0, 0]
    # v starts at v_reset and returns to it.
    assert spikes_of(one_neuron(1, 4, Neuron(v_reset=3)), [1, 1, 0, 1]) == [1, 1, 0, 1]


def test_negative_threshold_fires_without_input():
    assert spikes_of(one_neuron(1, -1, Neuron()), [0, 0, 0, 0]) == [1, 1, 1, 1]


def test_one_bit_weights_and_value_128():
    assert spikes_of(one_neuron(-1, -127, Neuron(leak=0)), [127, 128, 0, 255]) == [1, 0, 1, 0]


def test_max_pool_takes_currents_or_pool_takes_spikes():
    weight = np.ones((1, 1, 1, 1), np.int8)
    zero, one = np.zeros(1, np.int64), np.ones(1, np.int64)
    image = np.array([[3, 0], [0, 4]], np.uint8).reshape(1, 1, 2, 2)
    counts = {}
    for mode in ("or", "max"):
        network = Network(InputSpec(1, 2, 2, bits=4), 4, (
            Layer("n", (Synapses(weight, bits=1),), zero, one * 8, Neuron(), Pool(mode, 2)),
            Layer("out", (Synapses(weight, ("n",), bits=1),), zero, zero, None)))
        counts[mode] = reference.run(network, image).spikes["n"].reshape(-1).tolist()
    # OR: 4 fires at t = 1, 3; 3 at t = 2. Max: one neuron gets 4 every timestep.
    assert counts == {"or": [0, 1, 1, 1], "max": [0, 1, 0, 1]}


def test_chunks_and_kept_maps_do_not_change_results():
    rng = np.random.default_rng(3)
    network = random_network(rng, max_layers=3)
    inputs = np.stack([random_input(rng, network) for _ in range(7)])
    whole, done = reference.run(network, inputs, batch=7), []
    parts = reference.run(network, inputs, batch=2, maps=(), progress=done.append)
    assert np.array_equal(whole.logits, parts.logits)
    assert not parts.spikes and sum(done) == 7
    assert reference.run(network, inputs[:0]).logits.shape == (0, network.layers[-1].channels)


@pytest.mark.parametrize("make, message", [
    (lambda x: x.astype(np.int64), "give uint8"),
    (lambda x: x[:, :, 1:], "have shape"),
    (lambda x: x + np.uint8(16), "needs more than the 4 bits"),
])
def test_bad_inputs_are_named(make, message):
    weight = np.ones((1, 1, 3, 3), np.int8)
    zero = np.zeros(1, np.int64)
    network = Network(InputSpec(1, 3, 3, bits=4), 1, (
        Layer("out", (Synapses(weight, bits=1),), zero, zero, None),))
    with pytest.raises(SpikeTicketError, match=message):
        reference.run(network, make(np.zeros((1, 1, 3, 3), np.uint8)))


def naive_work(network: Network, maps: dict[str, np.ndarray]) -> dict[str, tuple[int, int, int]]:
    """(executed, dense, useful) by layer for one image, one synapse at a time."""
    shapes, result = network.shapes(), {}
    for layer in network.layers:
        size = network.conv_size(layer.name, layer.synapses[0], shapes)
        if layer.pool:
            size = tuple(max(row for out in range(n) for row in range(
                out * step - edge, out * step - edge + k) if row < length) + 1
                for n, length, k, step, edge in zip(
                    (shapes[layer.name].height, shapes[layer.name].width), size, layer.pool.size,
                    layer.pool.stride, layer.pool.padding, strict=True))
        executed = dense = useful = 0
        for syn in layer.synapses:
            down, right = syn.sum_pool
            for name in syn.sources:
                bits = network.input.bits if name == INPUT else 1
                still = name == INPUT and network.input.static
                source = maps[name]
                limits = source.shape[2] // down, source.shape[3] // right
                for bit, (i, j) in product(range(bits), product(*map(range, size))):
                    for c, dy, dx in np.ndindex(syn.weight.shape[1:]):
                        y = i * syn.stride[0] + dy - syn.padding[0]
                        x = j * syn.stride[1] + dx - syn.padding[1]
                        if not (0 <= y < limits[0] and 0 <= x < limits[1]):
                            continue
                        alive = int(np.count_nonzero(syn.weight[:, c, dy, dx]))
                        for a, b in product(range(down), range(right)):
                            train = source[:, c, y * down + a, x * right + b] >> bit & 1
                            executed += alive * int(train.sum())
                            dense += layer.channels * len(train)
                            if still:       # four bits together, with the last of them
                                if bit % 4 < 3 and bit < bits - 1:
                                    continue
                                train = source[:, c, y * down + a, x * right + b] >> bit // 4 * 4
                                train = train & 15
                            useful += alive * sum(int(train[n:n + 4].any())
                                                  for n in range(0, len(train), 4))
        result[layer.name] = executed, dense, useful
    return result


@pytest.mark.parametrize("uneven", [False, True])
@pytest.mark.parametrize("seed", range(100, 112))
def test_synaptic_work_is_counted_exactly(seed, uneven):
    rng = np.random.default_rng(seed)
    network = random_network(rng, max_size=5, max_channels=3, max_layers=2, max_timesteps=7,
                             uneven=uneven)
    inputs = np.stack([random_input(rng, network) for _ in range(2)])
    spikes = reference.run(network, inputs).spikes
    work = reference.sop(network, spikes)
    expected = [naive_work(network, {name: s[:, n] for name, s in spikes.items()})
                for n in range(2)]
    for name, found in work.items():
        total = tuple(sum(e[name][i] for e in expected) for i in range(3))
        assert (found.executed, found.dense, found.useful) == total, name


def test_activity_is_the_fraction_of_active_groups():
    weight = np.ones((1, 1, 1, 1), np.int8)
    zero = np.zeros(1, np.int64)
    network = Network(InputSpec(1, 1, 2, bits=2, static=False), 8, (
        Layer("out", (Synapses(weight, bits=1),), zero, zero, None),))
    values = np.zeros((8, 1, 1, 1, 2), np.uint8)
    values[2, ..., 0] = 1           # plane 0, first group, one of two positions
    values[5, ..., :] = 2           # plane 1, second group, both
    assert reference.activity(network, {INPUT: values})[INPUT].tolist() == [[0.25], [0.5]]
