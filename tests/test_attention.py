"""Spiking attention: its integers against loops, both implementations, bounds and refusals."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.config import PRESETS
from sim.samples.networks import random_input
from sim.samples.spikeformers import random_masks, random_spikeformer
from sw.compile.compiler import compile_network
from sw.errors import SpikeTicketError
from sw.integer import reference, tokens
from sw.integer.attention import Attention, ColumnAttention
from sw.integer.network import InputSpec, Layer, Network, Neuron, Pool, Shape, Synapses
from sw.integer.spikingjelly import IntegerNetwork

pytestmark = pytest.mark.usefixtures("one_thread")


def maps_of(rng, shape, rate=0.3):
    return {name: (rng.random(shape) < rate).astype(np.uint8) for name in "qkv"}


def by_loops(q, k, v, heads):
    """(q k^T) v of one timestep, spikes [C, N], a spike at a time."""
    d = len(q) // heads
    x = np.zeros(q.shape, int)
    for h in range(heads):
        for n in range(q.shape[1]):
            for m in range(q.shape[1]):
                score = sum(int(q[h * d + i, n]) * int(k[h * d + i, m]) for i in range(d))
                for j in range(d):
                    x[h * d + j, n] += score * int(v[h * d + j, m])
    return x


@pytest.mark.parametrize("heads, d, height, width", [(1, 8, 2, 3), (2, 9, 1, 5), (3, 8, 2, 2)])
def test_self_attention_equals_loops_in_both_orders(heads, d, height, width):
    rng = np.random.default_rng(0)
    maps = maps_of(rng, (2, 2, heads * d, height, width))
    x = Attention("q", "k", "v", heads).currents(maps)
    tensors = [torch.from_numpy(maps[name]).float().flatten(3) for name in "qkv"]
    other = tokens.self_attention(*tensors, heads)
    for t, b in np.ndindex(2, 2):
        q, k, v = (maps[name][t, b].reshape(heads * d, -1) for name in "qkv")
        expected = by_loops(q, k, v, heads)
        assert expected.any()
        assert np.array_equal(x[t, b].reshape(expected.shape), expected)
        assert np.array_equal(other[t, b].numpy().astype(int), expected)


def test_column_attention_counts_tokens_where_key_and_value_spike():
    rng = np.random.default_rng(1)
    maps = maps_of(rng, (3, 2, 5, 2, 4), 0.6)
    kind = ColumnAttention("q", "k", "v")
    x = kind.currents(maps)
    assert x.shape == (3, 2, 5, 1, 1)
    assert np.array_equal(x[..., 0, 0], (maps["k"] * maps["v"]).sum((3, 4)))
    spikes = (x >= 3).astype(np.uint8)
    assert np.array_equal(kind.output(spikes, maps), maps["q"] * spikes)


def test_bounds_are_reached_when_everything_spikes():
    shape = Shape(16, 3, 5)
    full = {name: np.ones((1, 1, 16, 3, 5), np.uint8) for name in "qkv"}
    kinds = {Attention("q", "k", "v", 2): 15 * 8, ColumnAttention("q", "k", "v"): 15}
    for kind, bound in kinds.items():
        assert kind.bound(shape) == bound
        assert (kind.currents(full) == bound).all()


def attention_network(kind, channels=16, side=3, **changes) -> Network:
    """Three maps from a 1-channel input, attention over them, a readout."""
    def conv(name, seed):
        w = np.random.default_rng(seed).integers(-3, 4, (channels, 1, 1, 1)).astype(np.int8)
        return Layer(name, (Synapses(w),), np.zeros(channels, np.int64),
                     np.full(channels, 4, np.int64), Neuron(128))
    fields = {"synapses": (), "bias": np.zeros(channels, np.int64),
              "threshold": np.full(channels, 3, np.int64), "neuron": Neuron(128), "pool": None,
              "attention": kind, **changes}
    readout = Layer("out", (Synapses(np.ones((2, channels, 1, 1), np.int8), ("a",)),),
                    np.zeros(2, np.int64), np.zeros(2, np.int64), None)
    return Network(InputSpec(1, side, side, 3), 4,
                   (conv("q", 0), conv("k", 1), conv("v", 2), Layer("a", **fields), readout))


@pytest.mark.parametrize("kind", [Attention("q", "k", "v", 2), ColumnAttention("q", "k", "v")])
def test_an_attention_layer_has_its_own_neurons(kind):
    network = attention_network(kind)
    low, high = network.current_bounds(network.layers[3])
    assert not low.any() and (high == kind.bound(network.shapes()["q"])).all()
    x = np.random.default_rng(3).integers(0, 8, (2, 1, 3, 3), np.uint8)
    run = reference.run(network, x)
    v = np.zeros((2, 16, 3, 3) if isinstance(kind, Attention) else (2, 16, 1, 1), int)
    for t in range(4):
        v = (v >> 1) + kind.currents({name: run.spikes[name][t:t + 1] for name in "qkv"})[0]
        s = (v >= 3).astype(np.uint8)
        v[s == 1] = 0
        expected = s if isinstance(kind, Attention) else s * run.spikes["q"][t]
        assert np.array_equal(run.spikes["a"][t], expected)
    assert 0 < run.spikes["a"].mean() < 1


def test_work_counts_pairs_of_spikes_and_rows():
    rng = np.random.default_rng(4)
    maps = maps_of(rng, (6, 2, 16, 2, 3))
    executed, dense, useful = Attention("q", "k", "v", 2).work(maps, 4)
    q, k, v = (maps[name].reshape(6, 2, 2, 8, 6).astype(int) for name in "qkv")
    assert executed == (k.sum(3) * v.sum(3)).sum() + 8 * q.sum()
    assert dense == 6 * 2 * (2 * 6 * 8 * 8 + 2 * 6 * 8 * 8)
    groups = [np.stack([m[:4].max(0), m[4:].max(0)]) for m in (q, k, v)]
    assert useful == (groups[1].sum(3) * groups[2].sum(3)).sum() + 8 * groups[0].sum()
    executed, dense, useful = ColumnAttention("q", "k", "v").work(maps, 4)
    assert (executed, dense) == ((k * v).sum(), k.size)
    assert useful == (groups[1] * groups[2]).sum()
    network = attention_network(Attention("q", "k", "v", 2))
    x = rng.integers(0, 8, (2, 1, 3, 3)).astype(np.uint8)
    work = reference.sop(network, reference.run(network, x).spikes)
    assert work["a"].dense == 2 * 4 * 2 * 9 * 16 * 8 and work["a"].executed < work["a"].dense


@pytest.mark.parametrize("kind, changes, message", [
    (Attention("q", "k", "nothing", 2), {}, "'nothing', which is not an earlier spike map"),
    (Attention("q", "k", "input", 2), {}, "'input', which is not an earlier spike map"),
    (Attention("q", "k", "v", 3), {}, "16 channels do not divide into 3 heads"),
    (Attention("q", "k", "v", 0), {}, "into 0 heads"),
    (Attention("q", "k", "v", 2), {"pool": Pool("or", 2)}, "no synapses and no pool"),
    (Attention("q", "k", "v", 2), {"neuron": None}, "only the last may be a readout"),
    (Attention("q", "k", "v", 2), {"bias": np.zeros(2, np.int64)}, r"bias must be int64 \[16\]"),
])
def test_what_attention_refuses(kind, changes, message):
    with pytest.raises(SpikeTicketError, match=message):
        attention_network(kind, **changes)


def test_maps_of_another_shape_are_refused():
    network = attention_network(Attention("q", "k", "v", 2))
    pooled = Layer("v", network.layers[2].synapses, network.layers[2].bias,
                   network.layers[2].threshold, Neuron(), Pool("or", 3))
    with pytest.raises(SpikeTicketError, match="differ in shape"):
        Network(network.input, 4, (*network.layers[:2], pooled, *network.layers[3:]))


def test_the_compiler_refuses_what_the_core_does_not_have():
    network = attention_network(Attention("q", "k", "v", 2))
    with pytest.raises(SpikeTicketError, match="'a' of 'network': this core has no attention"):
        compile_network(network, PRESETS["a35tw"])
    wide = Layer("w", (Synapses(np.ones((2, 1, 3, 3), np.int8), padding=1),),
                 np.zeros(2, np.int64), np.ones(2, np.int64), Neuron(), Pool("max", 3, 1, 1))
    out = Layer("out", (Synapses(np.ones((2, 2, 1, 1), np.int8), ("w",)),),
                np.zeros(2, np.int64), np.zeros(2, np.int64), None)
    with pytest.raises(SpikeTicketError, match="'max' of size 3, stride 1, padding 1"):
        compile_network(Network(InputSpec(1, 6, 6), 2, (wide, out)), PRESETS["tiny"])


@pytest.mark.parametrize("changes, message", [
    ({"heads": 4}, "heads of 4 channels, the core has 8 to 64"),
    ({"heads": 1, "channels": 72}, "heads of 72 channels"),
    ({"heads": 2, "side": 17}, "attention over 289 tokens, the core has at most 256"),
])
def test_attention_beyond_the_core_runs_and_is_refused_by_the_compiler(changes, message):
    heads, *_ = changes.values()
    network = attention_network(Attention("q", "k", "v", heads),
                                **{k: v for k, v in changes.items() if k != "heads"})
    spec = network.input
    x = np.random.default_rng(1).integers(0, 1 << spec.bits, (1, spec.channels, spec.height,
                                                              spec.width)).astype(np.uint8)
    run, spikes = reference.run(network, x), {}
    logits = IntegerNetwork(network)(torch.from_numpy(x), spikes)
    assert np.array_equal(logits.numpy(), run.logits) and run.spikes["a"].any()
    with pytest.raises(SpikeTicketError, match=message):
        compile_network(network, PRESETS["a35tf"])


# -- pools of other strides, as the stem of a Spikeformer has them ---------------------------------


@pytest.mark.parametrize("mode", ["max", "or"])
@pytest.mark.parametrize("pool", [(3, 2, 1), (3, 2, 0), (2, 1, 1), (2, 3, 0), (1, 2, 0), (5, 3, 2),
                                  ((2, 3), (1, 2), (1, 0)), ((7, 1), (7, 1), (0, 0))])
def test_pools_with_stride_and_padding_equal_pytorch(mode, pool):
    rng = np.random.default_rng(5)
    layer = Layer("p", (Synapses(rng.integers(-7, 8, (3, 1, 3, 3)).astype(np.int8), padding=1),),
                  np.array([-40, 0, 30]), np.array([20, 30, 25]), Neuron(200), Pool(mode, *pool))
    out = Layer("out", (Synapses(np.ones((1, 3, 1, 1), np.int8), ("p",)),),
                np.zeros(1, np.int64), np.zeros(1, np.int64), None)
    x = rng.integers(0, 8, (2, 1, 7, 6), np.uint8)
    network = Network(InputSpec(1, 7, 6, 3), 3, (layer, out))
    run = reference.run(network, x)
    plain = Layer("p", layer.synapses, layer.bias, layer.threshold, layer.neuron)
    currents = reference.layer_current(network, plain, {"input": x[None]})

    def pooled(array):
        frames = torch.from_numpy(array).double().flatten(0, 1)
        shape = array.shape[:2]
        return torch.max_pool2d(frames, *pool).unflatten(0, shape).numpy().astype(np.int64)
    if mode == "max":
        expected = reference.fire(layer.neuron, layer.threshold, pooled(currents), 3)
    else:
        expected = pooled(reference.fire(layer.neuron, layer.threshold, currents, 3))
    assert np.array_equal(run.spikes["p"], expected)
    spikes = {}
    IntegerNetwork(network)(torch.from_numpy(x), spikes)
    assert np.array_equal(spikes["p"].numpy(), expected)


@pytest.mark.parametrize("pool", [(3, 2, 1), (3, 2, 0), (2, 1, 1), (2, 3, 0), (2,), (5, 3, 2),
                                  ((3, 2), (1, 3), (0, 1))])
@pytest.mark.parametrize("length", [5, 6, 7])
def test_positions_behind_the_last_window_are_not_covered(pool, length):
    pool = Pool("max", *pool)
    axes = zip((length, 8), pool.outputs(length, 8), pool.size, pool.stride, pool.padding,
               strict=True)
    for axis, (size, count, k, step, edge) in enumerate(axes):
        seen = [i * step - edge + j for i in range(count) for j in range(k)]
        assert pool.covered(length, 8)[axis] == max(n for n in seen if n < size) + 1


@pytest.mark.parametrize("pool, message", [
    ((2, 0), "stride 0"), ((2, 257), "stride 257"), ((3, 2, 2), "padding 2 is outside 0..1"),
    ((2, 2, -1), "padding -1"), (((2, 3, 4),), r"size \(2, 3, 4\)"), ((2.5,), "size 2.5"),
])
def test_pools_are_checked(pool, message):
    with pytest.raises(SpikeTicketError, match=message):
        Pool("max", *pool)


# -- whole random Spikeformers ---------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 32))
def test_reference_equals_the_integer_network_spike_for_spike(seed):
    rng = np.random.default_rng(seed)
    network = random_spikeformer(rng)
    x = np.stack([random_input(rng, network) for _ in range(2)])
    masks = random_masks(rng, network, 2)
    run = reference.run(network, x, masks=masks)
    spikes, kept = {}, {}
    tensor = torch.from_numpy(x)
    logits = IntegerNetwork(network)(
        tensor if network.input.static else tensor.transpose(0, 1), spikes,
        None if masks is None else torch.from_numpy(masks), kept)
    assert np.array_equal(logits.numpy(), run.logits)
    assert set(kept) == set(run.kept)
    for name, chosen in run.kept.items():
        assert np.array_equal(kept[name].numpy(), chosen)
    for name, s in spikes.items():
        assert np.array_equal(s.numpy(), run.spikes[name]), name
    for layer in network.layers:
        if isinstance(layer, Layer):
            low, high = network.current_bounds(layer)
            assert max(-low.min(), high.max()) < 1 << 15
