"""Products of spike maps, pools of maxima and attention, identified from torch functions."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sw.imports.attentions import attention
from sw.imports.fusing import fused
from sw.imports.identify import ONES, NotAffine, affine, currents
from sw.imports.layouts import Layout
from sw.imports.probing import Map
from sw.imports.products import behind, max_pool, memoryless, product
from sw.integer.attention import Attention, ColumnAttention
from sw.integer.floats import FloatAttention, FloatLayer, FloatNeuron, FloatSynapses
from sw.integer.network import INPUT, Pool

from .operators import BATCH, STEPS, maps, stepwise, whole


def spikes(layer: FloatLayer, given: Mapping[str, Tensor]) -> Tensor:
    """What a memoryless layer makes of maps [T, B, C, H, W]."""
    steps = max(len(x) for x in given.values())
    ones = torch.ones(steps, BATCH, 1, 1, 1, dtype=torch.float64)
    current = currents(layer.synapses, {**given, ONES: ones}) + layer.bias.view(-1, 1, 1)
    assert layer.neuron.decay == 0
    fired = (current >= layer.neuron.theta.view(-1, 1, 1)).double()
    if layer.pool is None:
        return fired
    pooled = F.max_pool2d(fired.flatten(0, 1), layer.pool.size, layer.pool.stride,
                          layer.pool.padding)
    return pooled.unflatten(0, fired.shape[:2])


PRODUCTS = {
    "and": (lambda a, b: (a, b), [(3, 4, 5), (3, 4, 5)], 1.0),
    "iand": (lambda a, b: (1 - a, b), [(3, 4, 5), (3, 4, 5)], 1.0),
    "nor": (lambda a, b: (1 - a, 1 - b), [(3, 4, 5), (3, 4, 5)], 1.0),
    "scaled": (lambda a, b: (0.3 * a, 0.7 * b), [(3, 4, 5), (3, 4, 5)], 0.3 * 0.7),
    "over positions": (lambda a, b: (a, b), [(3, 1, 1), (3, 4, 5)], 1.0),
    "over channels": (lambda a, b: (a, b), [(1, 4, 5), (3, 4, 5)], 1.0),
    "of permuted maps": (lambda a, b: (a.flatten(3).mT, b.flatten(3).mT),
                         [(3, 4, 5), (3, 4, 5)], 1.0),
    "with itself moved": (lambda a: (a, a.roll(1, 2)), [(3, 4, 5)], 1.0),
    "of pooled positions": (lambda a: (a[..., ::2], a[..., 1::2]), [(3, 4, 6)], 1.0),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_product_is_a_neuron(name: str):
    function, dims, unit = PRODUCTS[name]
    given = maps(*dims)
    first, second = (whole(lambda *x, i=i: function(*x)[i], given) for i in (0, 1))
    shape = torch.broadcast_shapes(first({}).shape, second({}).shape)[2:]
    layer, made = product("p", first, second, given, shape)
    assert made.unit == unit and made.name == "p" and made.binary == (unit == 1)
    for density in (0.3, 0.7):
        generator = torch.Generator().manual_seed(7)
        raw = {n: m.draw(BATCH, generator, density) for n, m in given.items()}
        real = made.layout.to_map((first(raw) * second(raw)).expand(STEPS, BATCH, *shape))
        seen = spikes(layer, {n: given[n].layout.to_map(x) for n, x in raw.items()})
        torch.testing.assert_close(seen * unit, real)
        assert bool(seen.any()) and not bool(seen.all())
    assert {abs(w) for s in layer.synapses for w in s.weight.unique().tolist()} <= {0, 1}
    assert {s.bits for s in layer.synapses} == {1}


def test_products_of_other_things_are_refused():
    given = maps((3, 4, 5), (3, 4, 5))
    a = whole(lambda a, b: a, given)
    for other in (lambda a, b: a + b, lambda a, b: F.avg_pool2d(b.flatten(0, 1), 3, 1, 1).unflatten(
            0, (STEPS, BATCH))):
        with pytest.raises(NotAffine, match="multiplies spikes by values that are not spikes"):
            product("p", a, whole(other, given), given, (3, 4, 5))


def test_a_scaled_product_keeps_its_scale_in_the_next_weights():
    given = {"p": Map("p", Layout.standard((3, 4, 5)), False, STEPS, 0.21)}
    weight = torch.randn(2, 3, 1, 1, dtype=torch.float64)
    found = affine(stepwise(lambda p: F.conv2d(p, weight), given), given, (2, 4, 5))
    assert torch.equal(found.synapses[0].weight, weight * 0.21)


def pooled(function, given, window: Pool):
    """(operator of the pool's input, its `Pooled`)."""
    operator = stepwise(function, given)
    dims = tuple(operator({}).shape[2:])
    out = F.max_pool2d(operator({}).flatten(0, 1), window.size, window.stride,
                       window.padding).shape[1:]
    return operator, max_pool("pool", operator, given, dims, out, window)


@pytest.mark.parametrize("kind", ["spikes", "sum", "scaled", "side by side", "input"])
def test_maxima_of_levels_are_or_pools(kind: str):
    given = maps((3, 6, 6), (3, 6, 6))
    if kind == "input":
        given = {INPUT: Map(INPUT, Layout.standard((3, 6, 6)), False, 1, 0.1, 7)}
    function, top, unit = {"spikes": (lambda a, b: a, 1, 1.0),
                           "sum": (lambda a, b: a + b, 2, 1.0),
                           "scaled": (lambda a, b: 0.3 * (a + b), 2, 0.3),
                           "side by side": (lambda a, b: torch.cat((a + b, b), 1), 2, 1.0),
                           "input": (lambda x: x, 7, 0.1)}[kind]
    window = Pool("or", 3, 2, 1)
    operator, found = pooled(function, given, window)
    assert len(found.layers) == found.map.top == top and found.map.unit == unit
    generator = torch.Generator().manual_seed(8)
    raw = {n: m.draw(BATCH, generator) for n, m in given.items()}
    real = F.max_pool2d(operator(raw).flatten(0, 1), 3, 2, 1).unflatten(0, (STEPS, BATCH))
    seen = {n: given[n].layout.to_map(x) for n, x in raw.items()}
    total = sum(spikes(layer, seen) for layer in found.layers) * found.map.unit
    torch.testing.assert_close(total.expand_as(real), real)
    assert found.map.layers == tuple(layer.name for layer in found.layers)


def test_maxima_of_currents_belong_to_the_neuron_behind():
    given, weight = maps((3, 6, 6)), torch.randn(4, 3, 3, 3, dtype=torch.float64)
    _, found = pooled(lambda a: F.conv2d(a, weight, padding=1), given, Pool("max", 2))
    assert found.layers == () and found.map.top == 0
    scale = torch.tensor([1.0, 2, 0.5, 3]).double().view(-1, 1, 1)
    after = stepwise(lambda p: p * scale + 1, {"pool": found.map})
    synapses, bias, pool = behind(affine(after, {"pool": found.map}, (4, 3, 3)), found)
    assert pool == Pool("max", 2) and bias.tolist() == [1] * 4
    assert torch.equal(synapses[0].weight, weight * scale[:, None])
    for change, message in ((lambda p: p * -scale, "channel 0 behind a max pool by a negative"),
                            (lambda p: F.conv2d(p, weight[:, :1].expand(-1, 4, -1, -1)), "weighs")):
        wrong = stepwise(change, {"pool": found.map})
        with pytest.raises(NotAffine, match=message):
            behind(affine(wrong, {"pool": found.map}, wrong({}).shape[2:]), found)


def heads(x: Tensor, count: int) -> Tensor:
    """[T, B, N, C] -> [T, B, heads, N, d]."""
    return x.unflatten(3, (count, -1)).transpose(2, 3)


ATTENTIONS = {
    "spikformer": ((6, 8), 2, lambda q, k, v: (
        heads(q, 2) @ heads(k, 2).mT @ heads(v, 2) * 0.125).transpose(2, 3).flatten(3)),
    "keys first": ((6, 8), 2, lambda q, k, v: (
        heads(q, 2) * 0.5 @ (heads(k, 2).mT @ heads(v, 2)) * 0.25).transpose(2, 3).flatten(3)),
    "channels first": ((8, 6), 4, lambda q, k, v: torch.einsum(
        "tbhin,tbhim,tbhjm->tbhjn", *(x.unflatten(2, (4, 2)) for x in (q, k, v))).flatten(2, 3)
        * 0.125),
    "heads apart": ((6, 8), 2, lambda q, k, v: (
        heads(q, 2) @ heads(k, 2).mT @ heads(v, 2)) * 0.125),
    "one head": ((6, 8), 1, lambda q, k, v: q @ k.mT @ v * 0.125),
}


@pytest.mark.parametrize("name", ATTENTIONS)
def test_attention(name: str):
    dims, count, function = ATTENTIONS[name]
    tokens_first = dims == (6, 8)
    layout = Layout(dims, (2, 3, 8) if tokens_first else (8, 2, 3),
                    (2,) if tokens_first else (0,), (0, 1) if tokens_first else (1, 2), (2, 3))
    given = {n: Map(n, layout, steps=STEPS) for n in "vqk"}
    operator = whole(lambda v, q, k: function(q, k, v), given)
    found = attention(operator, given, operator({}).shape[2:])
    assert found.attention == Attention("q", "k", "v", count)
    assert found.scale == pytest.approx(0.125) and found.layout.shape == (8, 2, 3)
    generator = torch.Generator().manual_seed(9)
    raw = {n: m.draw(BATCH, generator, 0.4) for n, m in given.items()}
    counts = found.attention.currents({n: layout.to_map(x).numpy().astype("uint8")
                                       for n, x in raw.items()})
    torch.testing.assert_close(found.layout.to_map(operator(raw)),
                               torch.from_numpy(counts).double() * found.scale)


def test_what_is_not_attention():
    layout = Layout.standard((8, 6))
    given = {n: Map(n, layout, steps=STEPS) for n in "qkv"}
    for function in (lambda q, k, v: (q.mT @ k).softmax(-1) @ v.mT, lambda q, k, v: q * k + v,
                     lambda q, k, v: q.mT @ k @ v.mT + 1):
        operator = whole(function, given)
        assert attention(operator, given, operator({}).shape[2:]) is None


def eye(channels: int, *size: int) -> Tensor:
    return torch.eye(channels, dtype=torch.float64)[:, :, None, None].expand(-1, -1, *size)


def test_or_pools_join_their_layer():
    neuron = FloatNeuron(0.5, torch.ones(3).double(), torch.zeros(3).double())
    zero = torch.zeros(3).double()
    first = FloatLayer("conv", (FloatSynapses(eye(3, 1, 1)),), zero, neuron)
    copy = FloatLayer("pool", (FloatSynapses(eye(3, 1, 1), ("conv",)),), zero,
                      memoryless(torch.ones(3).double()), Pool("or", 2))
    end = FloatLayer("readout", (FloatSynapses(eye(3, 1, 1), ("pool",)),), zero)
    a, b = fused([first, copy, end])
    assert (a.name, a.pool, b.synapses[0].sources) == ("conv", copy.pool, ("conv",))
    shortcut = FloatLayer("add", (FloatSynapses(eye(3, 1, 1), ("conv",)),), zero, neuron)
    assert fused([first, copy, shortcut, end]) == [first, copy, shortcut, end]


def test_columns_are_one_layer():
    given = {n: Map(n, Layout.standard((3, 2, 4)), steps=STEPS) for n in "qkv"}
    both, kv = product("kv", whole(lambda q, k, v: k, given), whole(lambda q, k, v: v, given),
                       given, (3, 2, 4))
    counted = affine(whole(lambda kv: kv.sum((3, 4), keepdim=True) * 0.25, {"kv": kv}),
                     {"kv": kv}, (3, 1, 1))
    neuron = FloatNeuron(0.5, torch.ones(3).double(), None)
    lif = FloatLayer("lif", counted.synapses, counted.bias, neuron)
    inputs = {"lif": Map("lif", counted.layout, steps=STEPS), "q": given["q"]}
    gated, _ = product("out", whole(lambda x, q: x, inputs), whole(lambda x, q: q, inputs), inputs,
                       (3, 2, 4))
    made, = fused([both, lif, gated])
    assert isinstance(made, FloatAttention) and made.name == "out" and made.scale == 0.25
    assert made.attention in (ColumnAttention("q", "k", "v"), ColumnAttention("q", "v", "k"))
    assert made.neuron is neuron
    end = FloatLayer("readout", (FloatSynapses(eye(3, 1, 1), ("kv",)),), torch.zeros(3).double())
    assert len(fused([both, lif, gated, end])) == 4
