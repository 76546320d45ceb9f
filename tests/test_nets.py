"""The networks: sizes of the papers, shapes, blocks, what the importer makes of them."""

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import nn

from sw import nets
from sw.errors import SpikeTicketError
from sw.imports import from_spikingjelly
from sw.integer import reference
from sw.integer.network import Pool
from sw.integer.spikingjelly import IntegerNetwork
from sw.nets.blocks import Chain

SMALL = ["4p-6p-f8", "4m-6", "resnet-tiny", "spikeformer-1-16-2-2@4-6p-16"]


pytestmark = pytest.mark.usefixtures("one_thread", "tiny_resnet")


def on_a_grid(config: nets.NetConfig) -> nn.Module:
    """A network all of whose numbers are multiples of 1/4, so that integers hold them exactly."""
    generator = torch.Generator().manual_seed(0)

    def quarters(like, top):
        return torch.randint(-top, top + 1, like.shape, generator=generator) / 4
    net = nets.build(config).eval()
    for m in net.modules():
        if isinstance(m, nn.Conv2d | nn.Linear):
            m.weight.data = quarters(m.weight, 3)
            if m.bias is not None:
                m.bias.data = quarters(m.bias, 3)
        if isinstance(m, nn.BatchNorm2d | nn.BatchNorm1d):
            m.eps, m.running_mean = 0.0, quarters(m.running_mean, 3)
    return net


@torch.no_grad()
def test_a_cnn_equals_a_plain_spikingjelly_one():
    torch.manual_seed(2)
    net = nets.build(nets.NetConfig("6p-8-10", (2, 9, 7), 5, decay=0.5)).eval()
    for block in net.convs:
        nn.init.normal_(block.norm.weight, 1, 0.3)
        nn.init.normal_(block.norm.bias, 0.5, 0.3)
    x = torch.rand(3, 2, 9, 7)
    seq = x.expand(4, *x.shape)
    for block, pooled in zip(net.convs, (True, False, False), strict=True):
        conv = [nn.functional.conv2d(frame, block.conv.weight, padding=1) for frame in seq]
        norm = block.norm
        current = torch.stack([nn.functional.batch_norm(
            frame, norm.running_mean, norm.running_var, norm.weight, norm.bias) for frame in conv])
        node = neuron.LIFNode(tau=2.0, decay_input=False, step_mode="m")
        seq = node(current)
        if pooled:
            seq = torch.stack([nn.functional.max_pool2d(frame, 2) for frame in seq])
    expected = torch.stack([frame.mean((2, 3)) @ net.readout.weight.T for frame in seq]).mean(0)
    assert 0 < seq.mean() < 1
    torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-5)


def weights(net: nn.Module) -> list[torch.Tensor]:
    return [m.weight for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


def test_vgg9_has_the_paper_s_weights():
    net = nets.build(nets.NetConfig("vgg9"))
    assert sum(w.numel() for w in weights(net)) == 2_261_184


def test_resnet19_has_the_paper_s_parameters():
    net = nets.build(nets.NetConfig("resnet19"))
    assert sum(p.numel() for p in net.parameters()) == 12_630_858


def test_vgg16_has_thirteen_convolutions_and_a_classifier():
    net = nets.build(nets.NetConfig("vgg16"))
    assert len(weights(net)) == 14 and net.readout.in_features == 512


@pytest.mark.parametrize("model", SMALL)
@pytest.mark.parametrize("surrogate", ["triangle", "atan"])
def test_images_and_frames_give_logits_and_gradients(model, surrogate):
    torch.manual_seed(0)
    net = nets.build(nets.NetConfig(model, (2, 8, 8), 3, timesteps=3, decay=0.5,
                                    surrogate=surrogate))
    spikes = []
    hooks = [m.register_forward_hook(lambda _m, _i, out: spikes.append(out.detach()))
             for m in net.modules() if isinstance(m, neuron.BaseNode)]
    logits = net(torch.rand(4, 2, 8, 8))
    for hook in hooks:
        hook.remove()
    assert logits.shape == (4, 3) and all(s.shape[:2] == (3, 4) for s in spikes)
    assert {float(v) for s in spikes for v in s.unique()} <= {0.0, 1.0}
    frames = torch.randint(0, 3, (4, 5, 2, 8, 8)).float()
    net(frames).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    assert torch.equal(net.eval()(frames), net(frames[:, :3]))  # the first T frames count


def test_a_static_image_is_a_constant_current():
    x = torch.randint(0, 9, (2, 1, 8, 8)) / 4
    net = on_a_grid(nets.NetConfig("4p-6", (1, 8, 8), 3, decay=0.5))
    assert torch.equal(net(x), net(x[:, None].expand(-1, 4, -1, -1, -1)))


@pytest.mark.parametrize("decay, theta", [(0.99, 1.0), (0.5, 0.7), (1.0, 1.0)])
def test_neurons_are_configured(decay, theta):
    net = nets.build(nets.NetConfig("4p-6", (1, 8, 8), decay=decay, theta=theta))
    nodes = [m for m in net.modules() if isinstance(m, neuron.LIFNode)]
    assert len(nodes) == 2
    assert all(n.v_threshold == theta and 1 - 1 / n.tau == pytest.approx(decay) for n in nodes)


@pytest.mark.parametrize("model", SMALL)
@pytest.mark.parametrize("static", [True, False])
def test_the_importer_reads_them_as_any_module(model, static):
    """Nothing is noted, and logits are the network's, where integers hold the weights."""
    rng = np.random.default_rng(1)
    shape = (20, 2, 8, 8) if static else (20, 4, 2, 8, 8)
    images = torch.from_numpy(rng.integers(0, 256 if static else 4, shape).astype(np.uint8))
    net = on_a_grid(nets.NetConfig(model, (2, 8, 8), 3, decay=1.0))
    scale = 1 / 256 if static else 1.0
    imported = from_spikingjelly(net, (2, 8, 8), 4, bits=8, input_bits=8 if static else 2,
                                 static=static, input_scale=scale)
    assert not [n for n in imported.notes if "rounded" in n]
    network = imported.network
    integer = IntegerNetwork(network)(images if static else images.transpose(0, 1)).double()
    with torch.no_grad():
        real = net(images.float() * scale).double()
    unit = (integer * real).sum() / integer.square().sum()
    assert float(real.abs().max()) > 0 and torch.allclose(integer * unit, real, rtol=1e-5)
    assert np.array_equal(reference.run(network, images[:3].numpy()).logits, integer[:3].numpy())


def test_maps_need_not_be_square():
    net = nets.build(nets.NetConfig("resnet-tiny", (1, 6, 10), 3)).eval()
    network = from_spikingjelly(net, (1, 6, 10), 4).network
    assert network.layers[-2].synapses[0].weight.shape[1:] == (6, 1, 1)


def test_blocks_are_a_chain():
    chain = Chain.of("4p-6m-8-f10-f5")
    assert chain.convolutions == ((4, Pool("or", 2), 1), (6, Pool("max", 3, 2, 1), 1), (8, None, 1))
    assert chain.features == (10, 5) and chain.grid((16, 9)) == (4, 2)
    strided = Chain.of("4sp-6s")
    assert strided.convolutions == ((4, Pool("or", 2), 2), (6, None, 2))
    assert strided.grid((17, 32)) == (2, 4)
    net = nets.build(nets.NetConfig("4sp-6s", (1, 17, 32), 3)).eval()
    last = from_spikingjelly(net, (1, 17, 32), 4).network.shapes()["convs.1.node"]
    assert (last.height, last.width) == (2, 4)


@pytest.mark.parametrize("values, message", [
    ({"model": "32p-x"}, "block 'x'"), ({"model": "f8"}, "model 'f8' is unknown"),
    ({"model": "8-f8-8"}, "block '8'"), ({"model": "4p-4p-4p-4p"}, "leave nothing"),
    ({"model": "vgg-nine"}, "vgg9"), ({"timesteps": 33}, "timesteps 33"),
    ({"decay": 1.5}, r"decay 1\.5"), ({"theta": 0}, "theta 0"), ({"classes": 1}, "classes 1"),
    ({"surrogate": "box"}, "surrogate 'box'"), ({"input": (1, 0, 8)}, "input"),
    ({"model": "4pm-6"}, "block '4pm'"), ({"model": "4ps-6"}, "block '4ps'"),
    ({"model": "4-f6s"}, "block 'f6s'"), ({"model": "4-p"}, "block 'p'"),
    ({"model": "4-²"}, "block '²'"), ({"model": "4-f"}, "block 'f'"),
])
def test_bad_values_are_named(values, message):
    with pytest.raises(SpikeTicketError, match=message):
        nets.build(nets.NetConfig(**{"model": "4p-6", "input": (1, 8, 8), **values}))


def test_wrong_input_is_named():
    net = nets.build(nets.NetConfig("4p-6", (1, 8, 8)))
    with pytest.raises(SpikeTicketError, match=r"\[2, 3, 8, 8\] is not \[B, 1, 8, 8\]"):
        net(torch.rand(2, 3, 8, 8))
    with pytest.raises(SpikeTicketError, match="2 frames are fewer than the 4 timesteps"):
        net(torch.rand(2, 2, 1, 8, 8))
