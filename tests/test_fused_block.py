"""Batch norm, neurons and pool as one function: the plain path's spikes, and its gradients."""

import copy

import pytest
import torch
from hypothesis import event, given, settings
from hypothesis import strategies as st
from spikingjelly.activation_based import layer, neuron, surrogate
from torch import nn

from sw import nets
from sw.nets.fused_block import FusedBlock
from sw.nets.neurons import fused
from sw.nets.parts import normed_spikes

pytestmark = pytest.mark.usefixtures("one_thread")

POOLS = {"none": lambda: None, "or": lambda: layer.MaxPool2d(2, 2, step_mode="m"),
         "mean": lambda: layer.AvgPool2d(2, step_mode="m")}


def nodes():
    common = {"v_threshold": st.sampled_from([1.0, 0.7]), "v_reset": st.sampled_from(
        [0.0, None, -0.3]), "detach_reset": st.booleans(), "step_mode": st.just("m"),
        "surrogate_function": st.sampled_from(
            [surrogate.ATan(), surrogate.PiecewiseQuadratic(alpha=0.8)])}
    return st.one_of(st.builds(neuron.IFNode, **common),
                     st.builds(neuron.LIFNode, tau=st.sampled_from([2.0, 1.3, 100.0]),
                               decay_input=st.booleans(), **common))


def both(x, norm, node, pool, steps, weight):
    """(spikes, gradients of x and the norm's parameters, the norm's state) of the plain path and of
    the one function."""
    found = []
    for blocks in (False, True):
        own = copy.deepcopy(norm).train()
        leaf = x.detach().requires_grad_()
        with fused(node, blocks=blocks):
            assert not blocks or FusedBlock.of(own, node, pool) is not None
            spikes = normed_spikes(leaf, own, node, steps, pool)
        (spikes * weight[:spikes.numel()].view(spikes.shape)).sum().backward()
        found.append((spikes.detach(), [leaf.grad, *(p.grad for p in own.parameters())],
                      list(own.buffers())))
        node.reset()
    return found


@settings(max_examples=40, deadline=None)
@given(nodes(), st.sampled_from(sorted(POOLS)), st.integers(1, 6), st.booleans(),
       st.tuples(st.integers(1, 4), st.integers(1, 40), st.integers(2, 9), st.integers(2, 9)),
       st.booleans(), st.integers(0, 2**31))
def test_maps_of_any_shape(node, pool, steps, static, shape, affine, seed):
    """In float64 no current is so near a threshold that the order of a sum matters."""
    generator = torch.Generator().manual_seed(seed)
    event(f"pool {pool}, {'static' if static else 'T maps'}")
    x = torch.randn(1 if static else steps, *shape, generator=generator, dtype=torch.float64)
    x = 3 * x + torch.randn(shape[1], 1, 1, generator=generator, dtype=torch.float64)
    norm = layer.BatchNorm2d(shape[1], step_mode="m", affine=affine).double()
    if affine:
        nn.init.normal_(norm.weight, 1.0, generator=generator)
        nn.init.normal_(norm.bias, 0.4, generator=generator)
    weight = torch.randn(steps * shape[0] * shape[1] * shape[2] * shape[3], generator=generator,
                         dtype=torch.float64)
    plain, one = both(x, norm, node, POOLS[pool](), steps, weight)
    assert torch.equal(one[0], plain[0])
    for ours, theirs in zip(one[1] + one[2], plain[1] + plain[2], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(nodes(), st.integers(1, 5), st.sampled_from([1, 2, 16, 64, 150]), st.integers(0, 2**31),
       st.sampled_from([torch.float32, torch.bfloat16]))
def test_numbers_that_are_exact_give_equal_spikes(node, steps, channels, seed, dtype):
    """A channel's x are pairs of 1 and -1, also in every part that is summed: its mean is 0 and its
    variance 1, so currents are equal to the last bit in any type and order."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 2, (steps, 20, 1, channels), generator=generator) * 2.0 - 1
    x = torch.cat([x, -x], 2).flatten(1, 2).to(dtype)
    norm = nn.BatchNorm1d(channels, eps=1e-30)
    norm.weight.data = torch.randint(1, 9, (channels,), generator=generator) / 8
    norm.bias.data = torch.randint(-4, 5, (channels,), generator=generator) / 8
    weight = torch.randn(x.numel(), generator=generator)
    plain, _ = both(x.float(), norm, node, None, steps, weight)
    _, one = both(x, norm, node, None, steps, weight)
    assert one[0].dtype == dtype and torch.equal(one[0].float(), plain[0])
    near = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 2e-2}
    assert one[1][0].dtype == dtype
    for ours, theirs in zip(one[1] + one[2], plain[1] + plain[2], strict=True):
        size = theirs.abs().max().clamp_min(1).float()
        torch.testing.assert_close(ours.float() / size, theirs.float() / size, **near)


@pytest.mark.parametrize("model", ["12p-20", "9-14p-f11"])
def test_a_network_trains_alike(model, monkeypatch):
    """Features, gradients and running statistics of a step; every block takes the way."""
    torch.manual_seed(3)
    net = nets.build(nets.NetConfig(model, (2, 11, 10), timesteps=3)).double().train()
    x, calls, found = torch.rand(6, 2, 11, 10, dtype=torch.float64), [], []
    call = FusedBlock.__call__
    monkeypatch.setattr(FusedBlock, "__call__",
                        lambda self, *given: calls.append(self.pool) or call(self, *given))
    for blocks in (False, True):
        own = copy.deepcopy(net)
        with fused(own, blocks=blocks):
            rates = own.features(own.over_time(x))
        (rates * torch.arange(rates.shape[1])).sum().backward()
        found.append([rates.detach(), *(p.grad for p in own.parameters() if p.grad is not None),
                      *own.buffers()])
        assert len(calls) == blocks * len(model.split("-"))
    assert torch.equal(found[0][0], found[1][0])
    for plain, one in zip(*found, strict=True):
        torch.testing.assert_close(one, plain, rtol=1e-6, atol=1e-7)


def hooked():
    node = neuron.LIFNode(step_mode="m")
    node.register_forward_hook(lambda *_: None)
    return node


@pytest.mark.parametrize(("norm", "node", "pool"), [
    (nn.BatchNorm2d(4), neuron.LIFNode(step_mode="m", surrogate_function=surrogate.Sigmoid()),
     None),
    (nn.BatchNorm2d(4), hooked(), None),
    (nn.BatchNorm2d(4).eval(), neuron.LIFNode(step_mode="m"), None),
    (nn.BatchNorm2d(4, momentum=None), neuron.LIFNode(step_mode="m"), None),
    (nn.BatchNorm2d(4, track_running_stats=False), neuron.LIFNode(step_mode="m"), None),
    (nn.GroupNorm(2, 4), neuron.LIFNode(step_mode="m"), None),
    (nn.BatchNorm2d(4), neuron.LIFNode(step_mode="m"), nn.MaxPool2d(3, 2, 1)),
    (nn.BatchNorm2d(4), neuron.LIFNode(step_mode="m"), nn.MaxPool2d(2, ceil_mode=True)),
    (nn.BatchNorm2d(4), neuron.LIFNode(step_mode="m"), nn.AvgPool2d(2, divisor_override=3)),
    (nn.BatchNorm2d(4), neuron.LIFNode(), None)])
def test_what_is_run_as_it_is(norm, node, pool):
    assert FusedBlock.of(norm, node, pool) is None


def test_one_row_has_no_variance():
    node = neuron.IFNode(step_mode="m")
    with fused(node, blocks=True), pytest.raises(ValueError, match="more than 1 value"):
        normed_spikes(torch.zeros(1, 1, 3), nn.BatchNorm1d(3), node, 1)
