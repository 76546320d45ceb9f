"""Float spiking CNNs: the fused neuron equals SpikingJelly's, the network equals a plain one."""

import pytest
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import neuron, surrogate

from sw.errors import SpikeTicketError
from sw.models import Block, CNNConfig, FusedLIFNode, SpikingCNN


def plain_lif(tau: float) -> neuron.LIFNode:
    return neuron.LIFNode(tau=tau, decay_input=False, v_threshold=1.0, v_reset=0.0,
                          surrogate_function=surrogate.PiecewiseQuadratic(alpha=1.0),
                          detach_reset=True, step_mode="m")


@pytest.mark.parametrize("tau", [2.0, 4.0, 4 / 3])
@pytest.mark.parametrize("steps", [1, 4, 7])
def test_fused_lif_equals_spikingjelly(tau, steps):
    torch.manual_seed(0)
    x = (torch.randn(steps, 3, 5, 4, 4, dtype=torch.float64) + 0.5)
    weight = torch.randn_like(x)
    results = []
    for node in (FusedLIFNode(tau), plain_lif(tau)):
        leaf = x.clone().requires_grad_()
        spikes = node(leaf)
        (spikes * weight).sum().backward()
        results.append((spikes.detach(), leaf.grad, node.v.detach()))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.allclose(results[0][1], results[1][1], rtol=1e-12, atol=1e-14)
    assert torch.allclose(results[0][2], results[1][2])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_static_input_equals_repeated_input(layout):
    torch.manual_seed(1)
    x = torch.randn(2, 6, 5, 5).add(0.4).contiguous(memory_format=layout)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    grad = torch.randn(4, 2, 6, 5, 5)
    spikes = FusedLIFNode().forward_static(a, 4)
    reference = FusedLIFNode()(b.expand(4, *b.shape).contiguous())
    (spikes * grad).sum().backward()
    (reference * grad).sum().backward()
    assert torch.equal(spikes, reference)
    assert torch.allclose(a.grad, b.grad)


def test_fused_lif_resumes_a_membrane_and_stores_voltages():
    x = torch.tensor([[0.75], [0.7]])
    node, plain = FusedLIFNode(), plain_lif(2.0)
    assert torch.equal(node(x), plain(x))
    assert torch.equal(node(x), plain(x))  # the membrane of the first call goes on
    node.reset()
    node.store_v_seq = True
    node(x)
    assert node.v_seq.shape == (2, 1)


def test_fires_at_exactly_the_threshold():
    node = FusedLIFNode()
    assert node(torch.tensor([[1.0], [0.5], [0.75]])).flatten().tolist() == [1, 0, 1]


@torch.no_grad()
def test_network_equals_a_plain_spikingjelly_one():
    torch.manual_seed(2)
    model = SpikingCNN(CNNConfig.parse("6p-8-10", input=(2, 9, 7), classes=5)).eval()
    for norm in model.norms:
        torch.nn.init.normal_(norm.weight, 1, 0.3)
        torch.nn.init.normal_(norm.bias, 0.5, 0.3)
    x = torch.rand(3, 2, 9, 7)
    spikes: list[torch.Tensor] = []
    logits = model(x, spikes)
    seq = x.expand(4, *x.shape)
    for i, block in enumerate(model.config.blocks):
        current = torch.stack([model.norms[i](model.convs[i](frame)) for frame in seq])
        seq = plain_lif(2.0)(current)
        if block.pool:
            seq = torch.stack([F.max_pool2d(frame, 2) for frame in seq])
        assert torch.equal(spikes[i], seq)
    frames = torch.stack([model.readout(frame).mean((2, 3)) for frame in seq])
    assert logits.shape == (3, 5)
    assert torch.allclose(logits, frames.mean(0), atol=1e-5)
    assert 0 < spikes[-1].mean().item() < 1


def test_weights_are_every_convolution_and_the_classifier():
    model = SpikingCNN(CNNConfig.parse("4p-6"))
    assert {k: tuple(v.shape) for k, v in model.weights().items()} == {
        "conv1": (4, 1, 3, 3), "conv2": (6, 4, 3, 3), "readout": (10, 6, 1, 1)}


def test_config_text_round_trip():
    config = CNNConfig.parse("32p-64-128p", timesteps=8)
    assert config.blocks == (Block(32, True), Block(64), Block(128, True))
    assert CNNConfig.parse(config.text(), timesteps=8) == config
    assert config.map_size() == (7, 7)


@pytest.mark.parametrize("text, kwargs, message", [
    ("32p--64", {}, "block ''"),
    ("32x", {}, "block '32x'"),
    ("0p", {}, "0 channels"),
    ("4p-4p-4p-4p-4p", {}, "leave nothing"),
    ("4", {"timesteps": 17}, "timesteps 17"),
    ("4", {"classes": 1}, "classes 1"),
    ("4", {"tau": 1.0}, "tau 1.0"),
])
def test_config_names_the_bad_value(text, kwargs, message):
    with pytest.raises(SpikeTicketError, match=message):
        CNNConfig.parse(text, **kwargs)


def test_config_without_blocks():
    with pytest.raises(SpikeTicketError, match="at least one block"):
        CNNConfig(())
