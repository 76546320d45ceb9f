"""Fused neurons give SpikingJelly's spikes to the bit, and its gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spikingjelly.activation_based import neuron, surrogate
from torch import nn

from sw.nets.neurons import fused, rule_of

pytestmark = pytest.mark.usefixtures("one_thread")

SURROGATES = [surrogate.ATan(), surrogate.ATan(alpha=3.0), surrogate.Sigmoid(),
              surrogate.PiecewiseQuadratic(), surrogate.PiecewiseQuadratic(alpha=0.5)]


def nodes():
    """Neurons of every setting that is fused."""
    common = {"v_threshold": st.sampled_from([1.0, 0.7]), "v_reset": st.sampled_from(
        [0.0, None, -0.3]), "surrogate_function": st.sampled_from(SURROGATES),
        "detach_reset": st.booleans(), "step_mode": st.just("m")}
    return st.one_of(
        st.builds(neuron.IFNode, **common),
        st.builds(neuron.LIFNode, tau=st.sampled_from([2.0, 4.0, 1.3, 100.0]),
                  decay_input=st.booleans(), **common))


def both(node, x, weight, way=fused, calls=1):
    """(spikes, gradient of x, last membranes) of a run, and of one in this way."""
    found = []
    for run in (None, way):
        node.reset()
        leaf = x.detach().requires_grad_()
        with run(node) if run else torch.enable_grad():
            spikes = [node(part) for part in leaf.chunk(calls)]
        spikes = spikes[0] if calls == 1 else torch.cat(spikes)
        (spikes * weight).sum().add((node.v * weight[0]).sum()).backward()
        found.append((spikes.detach(), leaf.grad, node.v.detach()))
    node.reset()
    return found


@settings(max_examples=60, deadline=None)
@given(nodes(), st.integers(1, 6), st.sampled_from([1, 2]), st.integers(0, 2**31),
       st.sampled_from([torch.float32, torch.float64]))
def test_spikes_and_gradients_are_spikingjelly_s(node, steps, calls, seed, dtype):
    """calls 2: the membranes of the first call go on in the second, gradients included."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(steps * calls, 3, 4, 5, 6, generator=generator, dtype=dtype) + 0.4
    weight = torch.randn(x.shape, generator=generator, dtype=dtype)
    (spikes, grad, v), (ours, our_grad, our_v) = both(node, x, weight, calls=calls)
    assert torch.equal(ours, spikes) and torch.equal(our_v, v)
    torch.testing.assert_close(our_grad, grad, rtol=1e-4, atol=1e-5)


def layouts(x):
    maps = x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, x.shape[:2])
    return {"plain": x, "channels last": maps, "repeated": x[:1].expand(x.shape),
            "batch first": x.transpose(0, 1).contiguous().transpose(0, 1),
            "channels last, repeated": maps[:1].expand(x.shape)}


@pytest.mark.parametrize("name", ["plain", "channels last", "repeated", "batch first",
                                  "channels last, repeated"])
def test_memory_orders(name):
    torch.manual_seed(0)
    x = layouts(torch.randn(4, 3, 6, 5, 7) + 0.4)[name]
    weight = torch.randn(4, 3, 6, 5, 7)
    (spikes, grad, v), (ours, our_grad, our_v) = both(neuron.LIFNode(step_mode="m"), x, weight)
    assert torch.equal(ours, spikes) and torch.equal(our_v, v)
    torch.testing.assert_close(our_grad, grad, rtol=1e-4, atol=1e-5)
    if name.startswith("channels last"):
        assert ours[0].is_contiguous(memory_format=torch.channels_last)


def test_fires_at_exactly_the_threshold():
    node = neuron.LIFNode(decay_input=False, step_mode="m")
    with fused(node):
        assert node(torch.tensor([[1.0], [0.5], [0.75]])).flatten().tolist() == [1, 0, 1]


def test_bfloat16_is_computed_in_float32():
    x = (torch.randn(4, 200) + 0.4).bfloat16()
    node = neuron.LIFNode(step_mode="m")
    with fused(node):
        spikes = node(x)
    node.reset()
    assert spikes.dtype == torch.bfloat16 and torch.equal(spikes.float(), node(x.float()))


class Own(neuron.LIFNode):
    """A subclass may do anything."""


@pytest.mark.parametrize("node", [
    Own(step_mode="m"), neuron.ParametricLIFNode(step_mode="m"), neuron.LIFNode(),
    neuron.LIFNode(step_mode="m", surrogate_function=surrogate.SoftSign()),
    neuron.LIFNode(step_mode="m", store_v_seq=True)])
def test_other_neurons_run_as_they_are(node):
    assert rule_of(node) is None
    module = nn.Sequential(node)
    with fused(module):
        assert "multi_step_forward" not in vars(node)


def test_the_module_is_left_as_it_was():
    module = nn.Sequential(neuron.IFNode(step_mode="m"))
    before = dict(vars(module[0]))
    with pytest.raises(KeyError), fused(module):
        assert "multi_step_forward" in vars(module[0])
        raise KeyError
    assert vars(module[0]) == before
