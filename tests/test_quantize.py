"""From folded float layers to integers: exact on a grid, never silently wrong off it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sw.errors import SpikeTicketError
from sw.imports.floats import FloatNetwork, compare
from sw.imports.integers import build
from sw.integer import quantize, units
from sw.integer.attention import Attention
from sw.integer.firing import THRESHOLD_LIMIT
from sw.integer.floats import FloatAttention, FloatLayer, FloatNeuron, FloatSynapses
from sw.integer.network import InputSpec, Neuron, Pool
from sw.integer.quantize import convert
from sw.integer.spikingjelly import IntegerNetwork
from sw.integer.trainee import NetworkTrainee

STEPS = 4


def drawn(c_in: int, c_out: int, kernel: int | tuple[int, int], bits: int, scale: float,
          seed: int) -> Tensor:
    """Integers times a number, full scale in every row: float64 [C_out, C_in, kh, kw]."""
    g = torch.Generator().manual_seed(seed)
    kernel = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    top = max(1, (1 << bits - 1) - 1)
    w = torch.randint(-top, top + 1, (c_out, c_in, *kernel), generator=g)
    w = w.sign() if bits == 1 else w
    w.view(c_out, -1)[:, 0] = top
    return w.double() * scale


def biases(count: int, seed: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randint(-8, 9, (count,), generator=g).double() / 8


def neuron(count: int, decay: float = 1.0, theta: float = 2.0, reset: float | None = 0.0,
           **more) -> FloatNeuron:
    full = torch.full((count,), theta, dtype=torch.float64)
    return FloatNeuron(decay, full, None if reset is None else full * 0 + reset, **more)


def layer(name: str, weight: Tensor, sources=("input",), rule: FloatNeuron | None = None,
          bias: Tensor | None = None, pool: Pool | None = None, **more) -> FloatLayer:
    bias = torch.zeros(len(weight), dtype=torch.float64) if bias is None else bias
    return FloatLayer(name, (FloatSynapses(weight, sources, **more),), bias, rule, pool)


def out(source: str, channels: int) -> FloatLayer:
    return layer("out", torch.eye(channels, dtype=torch.float64)[:, :, None, None], (source,),
                 bits=1)


def currents(syn: FloatSynapses, maps: dict[str, Tensor]) -> Tensor:
    """The equation of `sw.integer.floats`, with float maps [T, B, C, H, W]."""
    frames = []
    for x in sum(maps[name] for name in syn.sources):
        k = syn.sum_pool
        x = F.avg_pool2d(x, k) * (k[0] * k[1])
        frames.append(F.conv2d(x, syn.weight, None, syn.stride, syn.padding))
    return torch.stack(frames)


def fired(rule: FloatNeuron, current: Tensor) -> Tensor:
    v = torch.zeros_like(current[0])
    axes = (-1, 1, 1)
    v = v if rule.reset is None else v + rule.reset.view(axes)
    theta, spikes = rule.theta.view(axes), []
    for x in current:
        v = rule.decay * v + x
        s = (v > theta if rule.strict else v >= theta).double()
        v = v - s * theta if rule.reset is None else torch.where(s > 0, rule.reset.view(axes), v)
        spikes.append(s)
    return torch.stack(spikes)


def pooled(x: Tensor, pool: Pool | None, mode: str) -> Tensor:
    if pool is None or pool.mode != mode:
        return x
    return torch.stack([F.max_pool2d(f, pool.size, pool.stride, pool.padding) for f in x])


def by_equations(layers: list[FloatLayer], x: Tensor, timesteps: int = STEPS,
                 scale: float = 1.0) -> tuple[Tensor, dict[str, Tensor]]:
    """(logits, maps) of the float network for integers [B, C, H, W]."""
    maps = {"input": x.double().expand(timesteps, *x.shape) * scale}
    for a in layers:
        total = sum(currents(s, maps) for s in a.synapses) + a.bias.view(-1, 1, 1)
        if a.neuron is None:
            return total.sum((0, 3, 4)), maps
        maps[a.name] = pooled(fired(a.neuron, pooled(total, a.pool, "max")), a.pool, "or")
    raise AssertionError("no readout")


def integers(network, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    spikes: dict[str, Tensor] = {}
    return IntegerNetwork(network)(x, spikes), spikes


def images(shape: tuple[int, ...], seed: int, high: int = 4) -> Tensor:
    return torch.randint(0, high, shape, generator=torch.Generator().manual_seed(seed))


NEURONS = {
    "if hard": {}, "if soft": {"reset": None}, "if resets below rest": {"reset": -1.0},
    "if resets above rest": {"reset": 0.5}, "if resets above its threshold": {"reset": 3.0},
    "strict if": {"strict": True},
    "no memory": {"decay": 0.0}, "strict, no memory": {"decay": 0.0, "strict": True},
}


# -- what is exact ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", NEURONS)
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 7, 8])
def test_a_grid_is_kept_exactly(kind, bits):
    rule = neuron(8, **NEURONS[kind])
    layers = [layer("a", drawn(3, 8, 3, bits, 1 / 8, bits), rule=rule, bias=biases(8, bits),
                    padding=(1, 1), bits=bits), layer("out", drawn(8, 3, 1, 4, 1.0, 9), ("a",))]
    imported = build(layers, InputSpec(3, 6, 6, bits=2), STEPS)
    assert imported.notes == () and bool(imported.exact["a"].all())
    x = images((5, 3, 6, 6), 0)
    logits, maps = by_equations(layers, x)
    ours, spikes = integers(imported.network, x)
    assert 0.02 < maps["a"].mean() < 0.98
    assert torch.equal(spikes["a"].double(), maps["a"])
    assert torch.equal(ours.double() * imported.units["out"], logits)
    found: dict[str, Tensor] = {}
    assert torch.equal(FloatNetwork(imported)(x, found), logits)
    assert torch.equal(found["a"], spikes["a"])


@pytest.mark.parametrize("decay", [0.5, 0.25, 0.75])
@pytest.mark.parametrize("reset", [0.0, None, -2.0])
@pytest.mark.parametrize("strict", [False, True])
def test_decays_that_lose_nothing_are_exact(decay, reset, strict):
    if strict and reset is None:
        return
    rule = neuron(6, decay, 16.0, reset, strict=strict)
    layers = [layer("a", drawn(2, 6, 3, 4, 2.0, 1), rule=rule), out("a", 6)]
    imported = build(layers, InputSpec(2, 5, 5, 3), STEPS)
    assert (imported.notes == ()) == (decay != 0.75)    # 3/4 v needs a fraction of the grid
    assert imported.network.layers[0].neuron.leak == 256 * decay
    if decay == 0.75:
        return
    x = images((4, 2, 5, 5), 3, 5)
    _, maps = by_equations(layers, x)
    assert torch.equal(integers(imported.network, x)[1]["a"].double(), maps["a"])
    assert 0 < maps["a"].mean() < 1


def test_a_threshold_between_integers_is_exact_where_membranes_are_whole():
    weight = drawn(2, 3, 3, 4, 1.0, 5)
    theta = torch.tensor([6.5, 2.0001, 9.3], dtype=torch.float64)
    for rule in (FloatNeuron(1.0, theta, theta * 0), FloatNeuron(1.0, theta, theta * 0, True),
                 FloatNeuron(0.0, theta, None)):
        layers = [layer("a", weight, rule=rule), out("a", 3)]
        imported = build(layers, InputSpec(2, 5, 5, 2), STEPS)
        assert imported.notes == ()
        x = images((6, 2, 5, 5), 4)
        assert torch.equal(integers(imported.network, x)[1]["a"].double(),
                           by_equations(layers, x)[1]["a"])
    soft = build([layer("a", weight, rule=FloatNeuron(1.0, theta, None)), out("a", 3)],
                 InputSpec(2, 5, 5, 2), STEPS)
    assert "3 of 3 channels are rounded" in soft.notes[0] and "thresholds by up to" in soft.notes[0]


def test_residuals_and_every_pool_exactly():
    """OR and max pools, average pools, residuals after and before the neuron, all by axis."""
    eye = torch.eye(6, dtype=torch.float64)[:, :, None, None]
    layers = [
        layer("a", drawn(2, 4, 3, 4, 1 / 8, 1), rule=neuron(4), pool=Pool("or", (2, 1)),
              bias=biases(4, 1), padding=(1, 1)),
        layer("b", drawn(4, 4, 3, 4, 1 / 8, 2), ("a",), neuron(4), biases(4, 2), padding=(1, 1)),
        layer("c", drawn(4, 4, (3, 1), 4, 1 / 8, 3), ("a", "b"), neuron(4), biases(4, 3),
              Pool("max", (2, 3), (2, 1), (0, 1)), padding=(1, 0)),
        layer("d", drawn(4, 6, 1, 4, 1 / 2, 4), ("b",), neuron(6), sum_pool=(1, 2)),
        FloatLayer("e", (FloatSynapses(drawn(6, 6, 3, 4, 1 / 2, 5), ("d",), (2, 1), (1, 1)),
                         FloatSynapses(eye / 2, ("d",), (2, 1), (0, 0), (1, 1), 8)),
                   biases(6, 6) * 4, neuron(6)),
        layer("out", drawn(6, 3, (4, 8), 4, 0.5, 7), ("e",), sum_pool=(1, 1)),
    ]
    imported = build(layers, InputSpec(2, 16, 16, bits=2), STEPS)
    assert imported.notes == ()
    x = images((6, 2, 16, 16), 6)
    logits, maps = by_equations(layers, x)
    ours, spikes = integers(imported.network, x)
    for name in "abcde":
        assert 0.02 < maps[name].mean() < 0.98, name
        assert torch.equal(spikes[name].double(), maps[name]), name
    assert torch.equal(ours.double() * imported.units["out"], logits)
    trained = NetworkTrainee(layers, InputSpec(2, 16, 16, bits=2), STEPS)
    assert torch.equal(trained.logits(trained.prepare(x)).long(), ours)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_random_layers_on_a_grid_are_exact(seed):
    """Any width, kernel, stride, padding, pool and neuron: no notes means the same spikes."""
    rng = np.random.default_rng(seed)
    spec = InputSpec(int(rng.integers(1, 3)), *(int(n) for n in rng.integers(4, 9, 2)),
                     int(rng.integers(1, 4)))
    kernel = tuple(int(n) for n in rng.integers(1, 4, 2))
    count, bits = int(rng.integers(1, 5)), int(rng.integers(1, 9))
    step = float(rng.choice([1.0, 3.0, 5.0])) * 2.0 ** int(rng.integers(-9, 4))
    weight = drawn(spec.channels, count, kernel, bits, step, seed % 997)
    weight *= torch.from_numpy(rng.random(weight.shape) < rng.choice([0.2, 0.6, 1.0]))
    theta = step * torch.from_numpy(rng.integers(1, 40, count)).double()
    soft = rng.random() < 0.3
    reset = None if soft else torch.full((count,), step * int(rng.integers(-3, 1))).double()
    rule = FloatNeuron(float(rng.choice([0.0, 0.25, 0.5, 1.0])), theta, reset,
                       not soft and rng.random() < 0.5)
    first = layer("a", weight, rule=rule, bits=bits,
                  bias=step * torch.from_numpy(rng.integers(-9, 9, count)).double(),
                  stride=tuple(int(n) for n in rng.integers(1, 3, 2)),
                  padding=tuple(int(n) for n in rng.integers(0, 3, 2)),
                  sum_pool=(1, int(rng.integers(1, 3))) if spec.width >= 6 else (1, 1))
    layers = [first, out("a", count)]
    imported = build(layers, spec, 5)
    x = images((3, spec.channels, spec.height, spec.width), seed % 1009, 1 << spec.bits)
    assert imported.notes == ()
    assert torch.equal(integers(imported.network, x)[1]["a"].double(),
                       by_equations(layers, x, 5)[1]["a"])


def test_pixels_fold_their_scale():
    layers = [layer("a", drawn(1, 4, 3, 4, 1 / 8, 11), rule=neuron(4, theta=1.0), padding=(1, 1)),
              out("a", 4)]
    network = convert(layers, InputSpec(1, 6, 6), 1, input_scale=1 / 255)
    assert network.layers[0].threshold.tolist() == [255 * 8] * 4
    x = images((3, 1, 6, 6), 1, 256)
    assert torch.equal(integers(network, x)[1]["a"].double(),
                       by_equations(layers, x, 1, 1 / 255)[1]["a"])


def test_the_input_and_spikes_in_one_sum_are_two_connections():
    first = layer("a", drawn(2, 2, 1, 4, 1.0, 1), rule=neuron(2, theta=5.0))
    both = layer("b", drawn(2, 3, 1, 4, 1.0, 2), ("input", "a"), neuron(3, theta=9.0))
    imported = build([first, both, out("b", 3)], InputSpec(2, 6, 6, 3), STEPS, input_scale=0.5)
    assert [s.sources for s in imported.network.layers[1].synapses] == [("input",), ("a",)]
    x = images((3, 2, 6, 6), 1, 8)
    _, maps = by_equations([first, both, out("b", 3)], x, scale=0.5)
    assert torch.equal(integers(imported.network, x)[1]["b"].double(), maps["b"])


# -- widths ----------------------------------------------------------------------------------------


def test_weights_of_one_magnitude_become_one_bit_wide():
    sizes = torch.tensor([0.5, 3.0, 0.75], dtype=torch.float64).view(-1, 1, 1, 1)
    signs = drawn(4, 3, 3, 1, 1.0, 0)
    first = layer("a", signs * sizes, rule=FloatNeuron(0.5, 8 * sizes.flatten(), None),
                  bias=2 * sizes.flatten())
    imported = build([first, out("a", 3)], InputSpec(4, 5, 5, 2), 3)
    syn = imported.network.layers[0].synapses[0]
    assert syn.bits == 1 and np.array_equal(syn.weight, signs.numpy()) and imported.notes == ()
    assert imported.network.layers[0].threshold.tolist() == [8, 8, 8]


def test_one_bit_must_not_cost_what_more_bits_keep():
    """On a grid of a third of the magnitude, 1 bit would move bias and threshold."""
    first = layer("a", drawn(2, 3, 3, 1, 3.0, 0), rule=neuron(3, 0.5, 7.0), bias=biases(3, 1) * 8)
    imported = build([first, out("a", 3)], InputSpec(2, 5, 5, 2), 3)
    assert imported.network.layers[0].synapses[0].bits == 4 and imported.notes == ()


@pytest.mark.parametrize("theta, bits", [(40.3, 1), (2.3, 4)])
def test_off_a_grid_one_bit_is_for_thresholds_of_many_weights(theta, bits):
    first = layer("a", drawn(8, 3, 3, 1, math.pi, 0), bias=biases(3, 1),
                  rule=neuron(3, 0.5, theta * math.pi))
    imported = build([first, out("a", 3)], InputSpec(8, 5, 5, 2), 3)
    assert imported.network.layers[0].synapses[0].bits == bits
    assert "weights by 0.0% of their norm" in imported.notes[0] or bits == 4


def test_one_bit_weights_are_signs_and_their_size_is_the_mean():
    weight = torch.tensor([[[[0.5, -1.5], [0.0, 1.0]]]]).double()
    network = convert([layer("a", weight, rule=neuron(1, theta=3.0), bits=1), out("a", 1)],
                      InputSpec(1, 2, 2), 1)
    assert network.layers[0].synapses[0].weight.tolist() == [[[[1, -1], [0, 1]]]]
    assert network.layers[0].threshold.tolist() == [3]      # 3.0 / mean(0.5, 1.5, 1.0)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_units_minimise_the_error(bits):
    torch.manual_seed(0)
    w = torch.randn(5, 3, 3, 3, dtype=torch.float64)
    w *= torch.tensor([1, 1e200, 1e-200, 3, 0.0], dtype=torch.float64).view(-1, 1, 1, 1)
    found = units.choose([w], [bits], torch.zeros(5).double(), None if bits == 8 else
                         FloatNeuron(1.0, w.flatten(1).abs().amax(1).clamp_min(1e-300), None))
    top = (1 << bits - 1) - 1

    def error(unit):
        rows = w.flatten(1) / w.flatten(1).abs().amax(1, keepdim=True).clamp_min(1e-300)
        unit = (unit / w.flatten(1).abs().amax(1).clamp_min(1e-300))[:, None]
        return ((rows / unit).round().clamp(-top, top) * unit - rows).square().sum(1)
    if bits == 8:
        assert len(found.unit.unique()) == 1                # classes are compared
        return
    full = w.flatten(1).abs().amax(1) / top
    assert (error(found.unit)[:4] <= error(full)[:4] + 1e-9).all()
    assert not bool(found.exact[:4].any())


def test_a_whole_network_keeps_its_decisions_at_8_bits():
    torch.manual_seed(3)
    shapes = [(8, 1, 3, 3), (12, 8, 3, 3), (16, 12, 3, 3), (6, 16, 4, 4)]
    weights = [torch.randn(s, dtype=torch.float64) * (2 / math.prod(s[1:])) ** 0.5 for s in shapes]
    layers = [layer(f"conv{i}", w, (f"conv{i - 1}" if i else "input",), neuron(len(w), 0.5, 1.0),
                    torch.rand(len(w)).double() * 0.4, Pool("or", 2) if i < 2 else None,
                    padding=(1, 1), bits=8) for i, w in enumerate(weights[:3])]
    layers.append(layer("out", weights[3], ("conv2",), bits=8))
    imported = build(layers, InputSpec(1, 16, 16), 4, input_scale=1 / 64)
    agreement = compare(imported, images((64, 1, 16, 16), 0, 256).numpy().astype(np.uint8))
    assert all(fraction > 0.95 for fraction in agreement.spikes.values()), agreement
    assert len(imported.notes) == 4
    x = images((64, 1, 16, 16), 0, 256)
    both = torch.stack([FloatNetwork(imported)(x).flatten(), IntegerNetwork(imported.network)(x)
                        .double().flatten()])
    assert torch.corrcoef(both)[0, 1] > 0.95


# -- never silently wrong --------------------------------------------------------------------------


BAD = {
    "weight": lambda v: layer("a", torch.full((2, 1, 1, 1), v).double(), rule=neuron(2)),
    "bias": lambda v: layer("a", torch.ones(2, 1, 1, 1).double(), rule=neuron(2),
                            bias=torch.tensor([0.0, v]).double()),
    "threshold": lambda v: layer("a", torch.ones(2, 1, 1, 1).double(),
                                 rule=FloatNeuron(1.0, torch.tensor([1.0, v]).double(), None)),
    "reset": lambda v: layer("a", torch.ones(2, 1, 1, 1).double(), rule=FloatNeuron(
        1.0, torch.ones(2).double(), torch.tensor([v, 0.0]).double())),
    "unit": lambda v: layer("a", torch.ones(2, 1, 1, 1).double(), rule=replace(
        neuron(2), unit=torch.tensor([v, 1.0]).double())),
}


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("what", BAD)
def test_infinities_and_nan_are_refused_by_name(what, value):
    with pytest.raises(SpikeTicketError, match=f"layer 'a', channel [01]: {what} {value} is not a "
                                               "finite number"):
        convert([BAD[what](value), out("a", 2)], InputSpec(1, 2, 2), 1)


@pytest.mark.parametrize("value", [math.inf, math.nan, -0.1, 1.1])
def test_decays_and_scales_are_checked(value):
    good = layer("a", torch.ones(2, 1, 1, 1).double(), rule=neuron(2))
    with pytest.raises(SpikeTicketError, match=f"'a': decay {value} is not in 0..1"):
        convert([replace(good, neuron=neuron(2, value)), out("a", 2)], InputSpec(1, 2, 2), 1)
    if not 0 < value < math.inf:
        with pytest.raises(SpikeTicketError, match=f"input_scale {value}"):
            convert([good, out("a", 2)], InputSpec(1, 2, 2), 1, input_scale=value)
        attention = FloatAttention("s", Attention("a", "a", "a", 1), neuron(2), value)
        with pytest.raises(SpikeTicketError, match=f"'s': attention scale {value}"):
            convert([good, attention, out("s", 2)], InputSpec(1, 2, 2), 1)


@pytest.mark.parametrize("theta, reset, message", [
    (0.0, 0.0, "threshold 0 is not above rest"), (-1.0, -2.0, "threshold -1 is not above rest"),
])
def test_neurons_that_fire_without_input_are_refused(theta, reset, message):
    first = layer("a", torch.ones(2, 1, 1, 1).double(), rule=neuron(2, 1.0, theta, reset))
    with pytest.raises(SpikeTicketError, match=f"'a', channel 0: {message}"):
        convert([first, out("a", 2)], InputSpec(1, 2, 2), 1)


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
def test_thresholds_stay_above_rest(decay):
    """A threshold of 1/50 of a weight's unit is 1, not 0: no input, no spike."""
    rule = neuron(2, decay, 0.02)
    layers = [layer("a", torch.tensor([[7.0, 1.3], [-7.0, 2.2]]).double()[:, :, None, None],
                    rule=rule), out("a", 2)]
    imported = build(layers, InputSpec(2, 3, 3, 1), 4)
    assert imported.network.layers[0].threshold.tolist() == [1, 1]
    silent = torch.zeros(1, 2, 3, 3, dtype=torch.uint8)
    assert not integers(imported.network, silent)[1]["a"].any()
    assert integers(imported.network, silent + 1)[1]["a"].any()
    assert "of 2 channels are rounded" in imported.notes[0]
    if decay == 0.5:
        assert "thresholds by up to a factor of" in imported.notes[0]


def test_a_reset_that_would_subtract_nothing_is_refused():
    first = layer("a", drawn(2, 2, 1, 4, 1.0, 3) * math.pi, rule=neuron(2, 0.5, 0.02, None))
    with pytest.raises(SpikeTicketError, match=r"channel 0: its threshold is 0\.0.* subtract 0"):
        convert([first, out("a", 2)], InputSpec(2, 3, 3, 1), 4)


@pytest.mark.parametrize("decay", [0.5, 1.0, 0.9])
def test_a_bias_below_the_threshold_does_not_fire_alone(decay):
    """theta 2.4 units become 2; a bias of 1.6 units that never reached theta must stay below."""
    theta, rate = 2.4, 0.98 * (1 - decay) if decay < 1 else 0.03
    rule = neuron(3, decay, theta)
    bias = torch.tensor([theta * rate, theta * 0.999 * rate, -0.7]).double()
    weight = torch.tensor([7.0, 2.6, 4.4])[None, :, None, None].expand(3, 3, 1, 1).double()
    layers = [layer("a", weight.contiguous(), rule=rule, bias=bias), out("a", 3)]
    x = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    assert not by_equations(layers, x, 32)[1]["a"].any()
    network = convert(layers, InputSpec(3, 2, 2, 1), 32)
    assert not integers(network, x)[1]["a"].any()
    trained = NetworkTrainee(layers, InputSpec(3, 2, 2, 1), 32)
    assert np.array_equal(trained.to_network().layers[0].bias, network.layers[0].bias)


def test_the_bias_is_what_is_left_of_a_channel_without_weights():
    weight = drawn(1, 4, 3, 4, 1.0, 1)
    weight[:2], weight[2] = 0, weight[2] * 1e-12
    bias = torch.tensor([0.6, -1.0, math.pi, 0.5], dtype=torch.float64)
    imported = build([layer("a", weight, rule=neuron(4, theta=1.0), bias=bias), out("a", 4)],
                     InputSpec(1, 5, 5), STEPS)
    made = imported.network.layers[0]
    assert not made.synapses[0].weight[:3].any() and made.synapses[0].weight[3].any()
    theta = units.CONSTANT_THETA
    assert made.threshold[:3].tolist() == [4095, theta, theta]
    assert made.bias[:3].tolist() == [2457, -theta, round(math.pi * theta)]
    trains = integers(imported.network, torch.zeros(1, 1, 5, 5, dtype=torch.uint8))[1]["a"]
    assert trains[:, 0, :3, 0, 0].T.tolist() == [[0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]]
    assert any("channels 2 lose all their weights in rounding; the largest is 7e-12 of a threshold"
               in note for note in imported.notes)


@pytest.mark.parametrize("weight, theta", [(1e-12, 1.0), (1.0, 1e12), (1e-300, 1.0)])
def test_a_layer_that_would_lose_all_its_weights_is_refused(weight, theta):
    first = layer("a", drawn(2, 3, 1, 4, weight, 0), rule=neuron(3, theta=theta))
    with pytest.raises(SpikeTicketError, match=r"'a': all its weights would be rounded to 0, the "
                                               r"largest is .* of a threshold"):
        convert([first, out("a", 3)], InputSpec(2, 2, 2), 2)


def test_a_connection_that_is_lost_beside_another_is_noted():
    synapses = (FloatSynapses(drawn(1, 2, 1, 4, math.pi, 0)),
                FloatSynapses(drawn(1, 2, 1, 4, 1e-3, 0)))
    first = FloatLayer("a", synapses, torch.zeros(2).double(), neuron(2, theta=9.0))
    imported = build([first, out("a", 2)], InputSpec(1, 2, 2), 2)
    assert "layer 'a': all weights from input are lost in rounding" in imported.notes


def test_small_weights_beside_an_ordinary_bias_let_the_bias_choose_the_unit():
    weight = drawn(1, 3, 3, 4, 1.0, 0) * torch.tensor([1e-6, -1e-6, 0.1]).double().view(-1, 1, 1, 1)
    bias = torch.tensor([0.4, -0.3, 0.4]).double()
    made = convert([layer("a", weight, rule=neuron(3, theta=1.0), bias=bias), out("a", 3)],
                   InputSpec(1, 4, 4), 4).layers[0]
    assert made.bias[:2].tolist() == [units.BIAS_LIMIT, -units.BIAS_LIMIT]
    assert abs(made.bias[2]) < units.BIAS_LIMIT / 4
    for c, value in ((0, 0.4), (1, -0.3)):
        assert made.bias[c] / made.threshold[c] == pytest.approx(value, rel=1e-4)


def test_numbers_beyond_their_widths_are_refused():
    one = torch.ones(1, 1, 1, 1).double()
    with pytest.raises(SpikeTicketError, match=r"'a', channel 0: folded bias 1e\+06 exceeds 131"):
        convert([layer("a", one, rule=neuron(1), bias=torch.tensor([1e6]).double()), out("a", 1)],
                InputSpec(1, 1, 1), 1)
    huge = torch.tensor([1e300], dtype=torch.float64)
    with pytest.raises(SpikeTicketError, match=r"'out', channel 0: folded bias 1e\+300 exceeds 13"):
        convert([layer("out", one, bias=huge)], InputSpec(1, 1, 1), 1)
    tall = FloatNeuron(1.0, torch.tensor([2.0 ** 24]).double(), torch.zeros(1).double())
    attention = FloatAttention("s", Attention("a", "a", "a", 1), tall, 1.0)
    with pytest.raises(SpikeTicketError, match=f"'s', channel 0: threshold .* {THRESHOLD_LIMIT}"):
        convert([layer("a", one, rule=neuron(1)), attention, out("s", 1)], InputSpec(1, 1, 1), 1)
    low = FloatNeuron(1.0, torch.ones(1).double(), torch.tensor([-1e9]).double(),
                      unit=torch.ones(1).double())
    with pytest.raises(SpikeTicketError, match="reset -1000000000 exceeds"):
        convert([layer("a", one, rule=low), out("a", 1)], InputSpec(1, 1, 1), 1)


def test_rounding_is_noted_with_its_amount():
    first = layer("a", drawn(2, 3, 3, 4, 1.0, 2) + 0.3, rule=neuron(3, 0.9, 20.7),
                  bias=torch.tensor([0.4, 0.0, 0.3]).double())
    imported = build([first, out("a", 3)], InputSpec(2, 5, 5), 2)
    made, unit = imported.network.layers[0], imported.units["a"]
    off = torch.from_numpy(made.synapses[0].weight) * unit.view(-1, 1, 1, 1)
    weight = first.synapses[0].weight
    share = float((off - weight).norm() / weight.norm())
    theta = float((torch.from_numpy(made.threshold) * unit / 20.7 - 1).abs().max())
    bias = float((torch.from_numpy(made.bias) * unit - first.bias).abs().max() / 20.7)
    said = (
        f"layer 'a': 3 of 3 channels are rounded (weights by {share:.1%} of their norm, thresholds "
        f"by up to {theta:.1%}, biases by up to {bias:.1%} of a threshold)")
    assert imported.notes == (said, "layer 'a': decay 0.9 becomes 230/256")


@pytest.mark.parametrize("decay, note", [
    (0.999, "decay 0.999 becomes 256/256, no leak"),
    (0.001, "decay 0.001 becomes 0/256, no memory"),
    (0.75, "decay 192/256 rounds the membrane down at every timestep"),
])
def test_decays_are_noted(decay, note):
    first = layer("a", drawn(2, 3, 3, 4, 1.0, 2), rule=neuron(3, decay, 20.0))
    assert build([first, out("a", 3)], InputSpec(2, 5, 5), 2).notes == (f"layer 'a': {note}",)


def test_soft_resets_have_no_strict_comparison():
    first = layer("a", drawn(2, 3, 3, 4, 1.0, 2), rule=neuron(3, 0.5, 20.0, None, strict=True))
    with pytest.raises(SpikeTicketError, match="'a': v > theta with a subtracting reset"):
        convert([first, out("a", 3)], InputSpec(2, 5, 5), 2)


@pytest.mark.parametrize("change, message", [
    (lambda a: replace(a, synapses=()), "'a': no synapses"),
    (lambda a: replace(a, bias=torch.zeros(3).double()), r"'a': weight of shape \[2, 1, 1, 1\]"),
    (lambda a: replace(a, neuron=neuron(3)), r"'a': threshold of shape \[3\] for 2 channels"),
    (lambda a: replace(a, synapses=(replace(a.synapses[0], sources=("y",)),)),
     "'a': source 'y' is not an earlier map"),
    (lambda a: replace(a, synapses=(replace(a.synapses[0], bits=9),)), "weight bits 9"),
])
def test_layers_that_do_not_fit_together_are_named(change, message):
    good = layer("a", torch.ones(2, 1, 1, 1).double(), rule=neuron(2))
    with pytest.raises(SpikeTicketError, match=message):
        convert([change(good), out("a", 2)], InputSpec(1, 2, 2), 1)


def test_units_of_the_source_are_kept():
    """A source of integers comes back as its integers, even where a larger unit would do."""
    rule = replace(neuron(3, 0.5, 28.0), unit=torch.ones(3).double())
    first = layer("a", 2 * drawn(2, 3, 3, 3, 1.0, 2), rule=rule)
    made = convert([first, out("a", 3)], InputSpec(2, 5, 5), 2).layers[0]
    assert np.array_equal(made.synapses[0].weight, first.synapses[0].weight.numpy())
    assert made.threshold.tolist() == [28] * 3 and made.neuron == Neuron(128)
    other = convert([replace(first, neuron=neuron(3, 0.5, 28.0)), out("a", 3)],
                    InputSpec(2, 5, 5), 2).layers[0]
    assert other.threshold.tolist() == [14] * 3


def test_scaled_layers_say_what_they_round():
    scaled = quantize.scale([layer("a", drawn(2, 3, 3, 4, 0.1, 2), rule=neuron(3)), out("a", 3)])
    assert [s.rounded().name for s in scaled] == ["a", "out"]
    assert torch.equal(scaled[0].integers(scaled[0].synapses[0]).abs().amax((1, 2, 3)),
                       torch.full((3,), 7.0).double())
