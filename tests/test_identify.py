"""What lies between neurons, identified from torch functions."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sw.imports.identify import COPY_BITS, SHORTCUT_BITS, USER_BITS, NotAffine, affine, readout
from sw.imports.layouts import Layout
from sw.imports.probing import Map

from .operators import BATCH, STEPS, maps, stepwise, values, whole


def draw(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def equal(operator, given, found, seed: int = 5) -> None:
    generator = torch.Generator().manual_seed(seed)
    raw = {n: m.draw(BATCH, generator) for n, m in given.items()}
    real = found.layout.to_map(operator(raw))
    torch.testing.assert_close(values(found, given, raw).expand_as(real), real, rtol=1e-9,
                               atol=1e-9)


def one(function, *dims, expect=None):
    """The identified function of maps, compared; its connections."""
    given = maps(*dims)
    operator = stepwise(function, given)
    found = affine(operator, given, operator({}).shape[2:])
    equal(operator, given, found)
    if expect is not None:
        assert [(tuple(s.weight.shape), s.stride, s.padding, s.sum_pool)
                for s in found.synapses] == expect
    return found


W = draw(6, 3, 3, 3)
FC = draw(10, 48)

CONVOLUTIONS = {
    "same": (lambda x: F.conv2d(x, W, padding=1), (3, 8, 8),
             ((6, 3, 3, 3), (1, 1), (1, 1), (1, 1))),
    "stride": (lambda x: F.conv2d(x, W, stride=(2, 1), padding=(1, 0)), (3, 9, 8),
               ((6, 3, 3, 3), (2, 1), (1, 0), (1, 1))),
    "stride beyond the kernel": (lambda x: F.conv2d(x, W[..., :1, :1], stride=3), (3, 20, 20),
                                 ((6, 3, 1, 1), (3, 3), (0, 0), (1, 1))),
    "dilation": (lambda x: F.conv2d(x, W, padding=2, dilation=2), (3, 9, 8),
                 ((6, 3, 5, 5), (1, 1), (2, 2), (1, 1))),
    "groups": (lambda x: F.conv2d(x, W[:, :1], padding=1, groups=3), (3, 8, 8),
               ((6, 3, 3, 3), (1, 1), (1, 1), (1, 1))),
    "unequal padding": (lambda x: F.conv2d(F.pad(x, (1, 0, 2, 1)), W), (3, 8, 8),
                        ((6, 3, 4, 4), (1, 1), (2, 1), (1, 1))),
    "padding beyond the kernel": (lambda x: F.conv2d(F.pad(x, (4, 4, 4, 4)), W), (3, 8, 8),
                                  ((6, 3, 3, 3), (1, 1), (4, 4), (1, 1))),
    "average pool first": (lambda x: F.conv2d(F.avg_pool2d(x, 2), W, padding=1), (3, 8, 8),
                           ((6, 3, 3, 3), (1, 1), (1, 1), (2, 2))),
    "average pool behind": (lambda x: F.avg_pool2d(F.conv2d(x, W, padding=1), 2), (3, 8, 8),
                            ((6, 3, 4, 4), (2, 2), (1, 1), (1, 1))),
    "pool of rows": (lambda x: F.avg_pool2d(x, (4, 1)), (3, 8, 8),
                     ((3, 3, 1, 1), (1, 1), (0, 0), (4, 1))),
    "pool that leaves out rows": (lambda x: F.avg_pool2d(x, 3), (3, 8, 8),
                                  ((3, 3, 1, 1), (1, 1), (0, 0), (3, 3))),
    "overlapping pool": (lambda x: F.avg_pool2d(x, 3, 2, 1), (3, 8, 8),
                         ((3, 3, 3, 3), (2, 2), (1, 1), (1, 1))),
    "adaptive pool": (lambda x: F.adaptive_avg_pool2d(x, (4, 2)), (3, 8, 8),
                      ((3, 3, 1, 1), (1, 1), (0, 0), (2, 4))),
    "adaptive pool to the map's own size": (lambda x: F.adaptive_avg_pool2d(x, 8), (3, 8, 8),
                                            ((3, 3, 1, 1), (1, 1), (0, 0), (1, 1))),
    "average of everything": (lambda x: x.mean((2, 3)), (3, 8, 8),
                              ((3, 3, 1, 1), (1, 1), (0, 0), (8, 8))),
    "average beyond 16": (lambda x: x.mean((2, 3)), (3, 32, 32),
                          ((3, 3, 2, 2), (1, 1), (0, 0), (16, 16))),
    "fully connected": (lambda x: x.flatten(1) @ FC.T, (3, 4, 4),
                        ((10, 3, 4, 4), (1, 1), (0, 0), (1, 1))),
    "pool and fully connected": (lambda x: F.avg_pool2d(x, 2).flatten(1) @ FC.T, (3, 8, 8),
                                 ((10, 3, 4, 4), (1, 1), (0, 0), (2, 2))),
    "features": (lambda x: x @ FC.T, (48,), ((10, 48, 1, 1), (1, 1), (0, 0), (1, 1))),
    "flattened copy": (lambda x: x.flatten(1), (3, 4, 4), ((3, 3, 1, 1), (1, 1), (0, 0), (1, 1))),
    "kernel larger than the map": (lambda x: F.conv2d(x, draw(5, 3, 7, 7), padding=3), (3, 4, 4),
                                   ((5, 3, 7, 7), (1, 1), (3, 3), (1, 1))),
    "taps that padding hides": (lambda x: F.conv2d(x, W, stride=2, padding=1), (3, 2, 2),
                                ((6, 3, 2, 2), (1, 1), (0, 0), (1, 1))),
    "a map of one position": (lambda x: F.conv2d(x, W, padding=1), (3, 1, 1),
                              ((6, 3, 1, 1), (1, 1), (0, 0), (1, 1))),
    "spread over positions": (lambda x: x.expand(-1, -1, 6, 5), (3, 1, 1),
                              ((3, 3, 6, 5), (1, 1), (5, 4), (1, 1))),
    "features of one position": (lambda x: F.conv2d(x, draw(8, 3, 1, 1), stride=2), (3, 2, 2),
                                 ((8, 3, 1, 1), (2, 2), (0, 0), (1, 1))),
    "two convolutions": (lambda x: F.conv2d(F.conv2d(x, W), draw(4, 6, 3, 3)), (3, 9, 9),
                         ((4, 3, 5, 5), (1, 1), (0, 0), (1, 1))),
    "depthwise, pointwise": (lambda x: F.conv2d(F.conv2d(x, W[:3, :1], padding=1, groups=3),
                                                draw(7, 3, 1, 1)), (3, 8, 8),
                             ((7, 3, 3, 3), (1, 1), (1, 1), (1, 1))),
    "space to depth": (lambda x: F.pixel_unshuffle(x, 2), (3, 8, 8),
                       ((12, 3, 2, 2), (2, 2), (0, 0), (1, 1))),
    "depth to space": (lambda x: F.pixel_shuffle(x, 2), (8, 4, 4),
                       ((8, 8, 1, 1), (1, 1), (0, 0), (1, 1))),
    "one dimension": (lambda x: F.conv1d(x, draw(16, 5, 5), padding=2), (5, 40),
                      ((16, 5, 1, 5), (1, 1), (0, 2), (1, 1))),
    "relu of spikes": (F.relu, (3, 8, 8), ((3, 3, 1, 1), (1, 1), (0, 0), (1, 1))),
}


@pytest.mark.parametrize("size", [(7, 7), (8, 7), (11, 9)])
def test_a_pool_that_leaves_positions_over_before_a_padded_convolution(size):
    """7 positions become 3 by 2; the last one is read by nothing, and weights stay shared."""
    one(lambda x: F.conv2d(F.avg_pool2d(x, 2), W, padding=1), (3, *size),
        expect=[((6, 3, 3, 3), (1, 1), (1, 1), (2, 2))])
    one(lambda x: F.conv2d(F.avg_pool2d(x, 3), W, padding=2), (3, *size),
        expect=[((6, 3, 3, 3), (1, 1), (2, 2), (3, 3))])


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution(name: str):
    function, dims, expected = CONVOLUTIONS[name]
    found = one(function, dims, expect=[expected])
    assert found.bias.tolist() == [0] * len(found.bias) and not found.needs_ones


def test_kernels_are_taken_as_they_are():
    scale = draw(6, seed=1)
    pruned = W * (W.abs() > 0.7)
    found = one(lambda x: F.conv2d(x, pruned, padding=1) * scale.view(-1, 1, 1) + 2, (3, 8, 8))
    assert torch.equal(found.synapses[0].weight, pruned * scale.view(-1, 1, 1, 1))
    assert found.bias.tolist() == [2] * 6


def test_batch_norm_is_in_weights_and_bias():
    norm = nn.BatchNorm2d(6).double().eval()
    for value in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
        value.data.uniform_(0.5, 2)
    found = one(lambda x: norm(F.conv2d(x, W, padding=1)), (3, 8, 8))
    gain = (norm.weight / (norm.running_var + norm.eps).sqrt()).detach()
    torch.testing.assert_close(found.synapses[0].weight, W * gain.view(-1, 1, 1, 1))


@pytest.mark.parametrize("order", ["NC", "CN", "heads"])
def test_tokens_lie_as_their_source(order: str):
    weight = draw(8, 4)
    forms = {"NC": lambda x: x.flatten(2).mT @ weight.T,
             "CN": lambda x: F.conv1d(x.flatten(2), weight[:, :, None]),
             "heads": lambda x: (x.flatten(2).mT @ weight.T).unflatten(2, (2, 4)).transpose(1, 2)}
    found = one(forms[order], (4, 3, 5), expect=[((8, 4, 1, 1), (1, 1), (0, 0), (1, 1))])
    assert found.layout.shape == (8, 3, 5)
    raw = draw(STEPS, BATCH, *found.layout.dims)
    assert torch.equal(found.layout.to_raw(found.layout.to_map(raw)), raw)


def test_tokens_of_a_convolution_are_rows_and_columns():
    found = one(lambda x: F.conv2d(x, W, stride=2, padding=1).flatten(2).mT, (3, 16, 16),
                expect=[((6, 3, 3, 3), (2, 2), (1, 1), (1, 1))])
    assert found.layout.dims == (64, 6) and found.layout.shape == (6, 8, 8)


def test_sources_of_equal_weights_are_one_connection():
    found = one(lambda a, b: F.conv2d(a + b, W, padding=1), (3, 8, 8), (3, 8, 8))
    assert [s.sources for s in found.synapses] == [("a", "b")]
    found = one(lambda a, b: F.conv2d(torch.cat([a, b], 1), draw(5, 6, 3, 3)), (3, 8, 8), (3, 8, 8))
    assert [s.sources for s in found.synapses] == [("a",), ("b",)]


def test_the_input_stays_apart():
    given = {"input": Map("input", Layout.standard((3, 8, 8)), False, STEPS, 0.5, 255),
             "a": Map("a", Layout.standard((3, 8, 8)), steps=STEPS)}
    operator = stepwise(lambda x, a: F.conv2d(x + a, W), given)
    found = affine(operator, given, operator({}).shape[2:])
    assert [s.sources for s in found.synapses] == [("input",), ("a",)]


def test_static_maps_and_maps_of_several_layers():
    given = {"input": Map("input", Layout.standard((3, 8, 8)), False, 1, 1 / 255, 255),
             "p": Map("p", Layout.standard((3, 8, 8)), False, STEPS, 1.0, 2, ("p.1", "p.2"))}
    operator = stepwise(lambda x, p: F.conv2d(x, W) + 2 * F.conv2d(p, W), given)
    found = affine(operator, given, (6, 6, 6))
    assert [s.sources for s in found.synapses] == [("input",), ("p.1", "p.2")]


def test_widths():
    conv = one(lambda a, b: F.conv2d(a, draw(3, 3, 3, 3), padding=1) + b, (3, 8, 8), (3, 8, 8))
    assert [s.bits for s in conv.synapses] == [USER_BITS, SHORTCUT_BITS]
    # A membrane that decays holds halves of a spike: one bit would be too coarse.
    copies = one(lambda a, b: a - b, (3, 8, 8), (3, 8, 8))
    assert [s.bits for s in copies.synapses] == [SHORTCUT_BITS] * 2
    mixed = one(lambda a, b: a - 2 * b, (3, 8, 8), (3, 8, 8)).synapses
    assert [s.bits for s in mixed] == [SHORTCUT_BITS] * 2


def test_a_bias_that_differs_by_position_reads_ones():
    found = one(lambda x: F.conv2d(F.pad((x - 0.3) / 0.2, (1, 1, 1, 1)), W), (3, 8, 8))
    assert found.needs_ones and found.synapses[1].sources == ("ones",)
    assert not bool(found.synapses[1].weight[:, :, 1:-1, 1:-1].any())     # inside, it is the same
    table = draw(3, 4, 5)
    found = one(lambda x: x + table, (3, 4, 5))
    assert found.needs_ones


def test_weights_that_differ_by_position():
    found = one(lambda x: F.adaptive_avg_pool2d(x, 4), (3, 7, 7))
    assert found.layout.shape[1:] == (4, 4)
    weights = draw(4 * 6 * 6, 4 * 6 * 6)
    found = one(lambda x: (x.flatten(1) @ weights.T).unflatten(1, (4, 6, 6)), (4, 6, 6))
    assert found.layout.shape == (144, 1, 1)


def refusal(function, *dims, steps=STEPS) -> str:
    given = maps(*dims, steps=steps)
    operator = whole(function, given)
    with pytest.raises(NotAffine) as caught:
        affine(operator, given, operator({}).shape[2:])
    return str(caught.value)


def test_refusals_say_what_it_is():
    image = (3, 8, 8)
    assert refusal(lambda x: F.relu(x @ draw(8, 8) - 0.5), image) == (
        "is not linear in 'a' (a ReLU, a norm, a softmax or a product of it)")
    assert "is not linear in 'a'" in refusal(lambda x: x.softmax(2), image)
    assert refusal(lambda x: (x > 0.3).double(), image) == "compares or rounds 'a'"
    assert refusal(lambda a, b: a * b, image, image) == (
        "multiplies or compares maps with each other: 'a', 'b'")
    assert refusal(lambda x: x.cumsum(0), image) == "mixes timesteps"
    assert refusal(lambda x: x - x.mean(1, keepdim=True), image) == "mixes images of a batch"
    gains = torch.arange(1.0, STEPS + 1).double().view(-1, 1, 1, 1, 1)
    assert refusal(lambda x: x * gains, image) == "has weights that differ between timesteps"
    assert refusal(lambda x: x + gains, image) == (
        "adds a constant that differs between timesteps or images")
    assert "infinite" in refusal(lambda x: x + math.inf, image)
    assert "differ between positions" in refusal(lambda x: x.flip(4) * 1 + x.flip(3), (1, 64, 64))


def out(function, *dims, steps=STEPS):
    given = maps(*dims, steps=steps)
    operator = whole(function, given)
    found = readout(operator, given)
    generator = torch.Generator().manual_seed(3)
    raw = {n: m.draw(BATCH, generator) for n, m in given.items()}
    real = operator(raw)
    real = real if real.dim() == 2 else real.sum(0)
    total = values(found, given, raw).sum((0, 3, 4))
    torch.testing.assert_close(total, real, rtol=1e-9, atol=1e-9)
    return found


def test_readouts():
    weight = draw(10, 8)
    for function in (lambda x: (x @ weight.T + 1).mean(0), lambda x: x @ weight.T + 1,
                     lambda x: sum(x[t] @ weight.T for t in range(STEPS)) / 5):
        found = out(function, (8,))
        assert found.layout.shape == (10, 1, 1) and found.synapses[0].bits == USER_BITS
    assert out(lambda x: x.mean(0), (8,)).synapses[0].bits == COPY_BITS
    vote = out(lambda x: x.unflatten(2, (4, 2)).mean(3), (8,)).synapses[0]
    assert vote.weight.shape == (4, 8, 1, 1) and vote.bits == COPY_BITS
    pooled = out(lambda x: x.mean((0, 3, 4)) @ weight.T + 1, (8, 7, 5)).synapses[0]
    assert pooled.sum_pool == (7, 5) and pooled.weight.shape == (10, 8, 1, 1)
    large = out(lambda x: x.mean((0, 3, 4)) @ weight.T + 1, (8, 32, 32)).synapses[0]
    assert large.sum_pool == (1, 1) and large.weight.shape == (10, 8, 1, 1)


def test_readouts_that_do_not_sum_over_time():
    weight = draw(10, 8)
    given = maps((8,))
    for function, message in (
            (lambda x: x[-1] @ weight.T, r"counts the timesteps \[2\] of 3 only"),
            (lambda x: sum(x[t] * 0.5 ** (STEPS - t) for t in range(STEPS)) @ weight.T,
             "weighs the timesteps differently"),
            (lambda x: (x @ weight.T).log_softmax(-1), "is not linear")):
        with pytest.raises(NotAffine, match=message):
            readout(whole(function, given), given)


@pytest.mark.parametrize("seed", range(2))
def test_a_kernel_that_fits_where_it_was_looked_for_only(seed):
    block, last = draw(2, 2, 3, 3, seed=seed), draw(2, 1, 2, 1, seed=seed + 9)
    one(lambda x: F.conv2d(x + F.conv2d(x, block, padding=1), last, stride=(2, 1),
                           groups=2).flatten(2), (2, 6, 1))
