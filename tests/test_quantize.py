"""Folding and conversion: on weights that lie on a grid every spike survives quantisation."""

import pytest
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import neuron
from torch import nn

from sw.errors import SpikeTicketError
from sw.integer import quantize, units
from sw.integer.folding import Connection, ModuleLayer, fold, identity
from sw.integer.network import InputSpec, Neuron, Pool
from sw.integer.spikingjelly import IntegerNetwork
from sw.models import CNNConfig, SpikingCNN, cnn_layers
from sw.tickets.integer_training import fold_block, weight_steps

STEPS = 4


def convert(layers, spec, timesteps, input_scale=1 / 255):
    return quantize.convert(fold(layers, spec), spec, timesteps, input_scale=input_scale)


def grid_conv(c_in: int, c_out: int, k: int, bits: int, scale: float, seed: int,
              **kwargs) -> nn.Conv2d:
    """A convolution whose weights are integers times a power of two, full scale in every row."""
    g = torch.Generator().manual_seed(seed)
    top = max(1, (1 << bits - 1) - 1)
    w = torch.randint(-top, top + 1, (c_out, c_in, k, k), generator=g)
    if bits == 1:
        w = w.sign()
    w.view(c_out, -1)[:, 0] = top
    conv = nn.Conv2d(c_in, c_out, k, bias=False, **kwargs).double()
    conv.weight.data = w.double() * scale
    return conv


def grid_norm(channels: int, seed: int) -> nn.BatchNorm2d:
    """gamma / sigma is +1 or -1, mu and beta multiples of 1/8: folding loses nothing."""
    g = torch.Generator().manual_seed(seed)
    norm = nn.BatchNorm2d(channels, eps=0.0).double().eval()
    norm.weight.data = (torch.randint(0, 2, (channels,), generator=g) * 2 - 1).double() / 2
    norm.running_var.fill_(0.25)
    norm.running_mean = torch.randint(-8, 9, (channels,), generator=g).double() / 8
    norm.bias.data = torch.randint(-4, 9, (channels,), generator=g).double() / 8
    return norm


def integer_spikes(network, images):
    spikes: dict[str, torch.Tensor] = {}
    logits = IntegerNetwork(network)(images, spikes)
    return logits, spikes


def pool(x, mode, size):
    return torch.stack([mode(frame, size) for frame in x])


def frames(module, x):
    return torch.stack([module(frame) for frame in x])


NODES = {
    "if-hard": lambda: neuron.IFNode(2.0, 0.0, step_mode="m"),
    "if-soft": lambda: neuron.IFNode(2.0, None, step_mode="m"),
    "if-reset": lambda: neuron.IFNode(2.0, -1.0, step_mode="m"),
    "if-reset-above": lambda: neuron.IFNode(2.0, 0.5, step_mode="m"),
}


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 7, 8])
def test_batch_norm_signs_and_resets_fold_exactly(node, bits):
    conv, norm = grid_conv(3, 8, 3, bits, 1 / 8, bits, padding=1), grid_norm(8, bits)
    head = grid_conv(8, 3, 1, 4, 1.0, 9)
    node = NODES[node]()
    network = convert([ModuleLayer("a", (Connection(conv, norm, bits=bits),), node),
                       ModuleLayer("out", (Connection(head, sources=("a",)),))],
                      InputSpec(3, 6, 6, bits=2), STEPS, input_scale=1.0)
    images = torch.randint(0, 4, (5, 3, 6, 6), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        x = images.double().expand(STEPS, -1, -1, -1, -1)
        spikes = node(frames(lambda f: norm(conv(f)), x))
        logits = frames(head, spikes).sum((0, 3, 4))
    ours, maps = integer_spikes(network, images)
    assert 0.02 < spikes.mean() < 0.98
    assert torch.equal(maps["a"].double(), spikes)
    assert torch.equal(ours.double(), logits)


@pytest.mark.parametrize("decay_input", [False, True])
@pytest.mark.parametrize("v_reset", [0.0, None, -2.0])
def test_lif_decay_and_input_scaling_fold_exactly(decay_input, v_reset):
    # Even integers over one or two timesteps: the floor of the leak removes nothing.
    conv = grid_conv(2, 6, 3, 4, 2.0, 1)
    node = neuron.LIFNode(2.0, decay_input, v_threshold=16.0, v_reset=v_reset, step_mode="m")
    head = grid_conv(6, 2, 1, 4, 1.0, 2)
    network = convert([ModuleLayer("a", (Connection(conv, bits=4),), node),
                       ModuleLayer("out", (Connection(head, sources=("a",)),))],
                      InputSpec(2, 5, 5), 2, input_scale=1.0)
    assert network.layers[0].neuron == Neuron(128, "soft" if v_reset is None else "hard")
    images = torch.randint(0, 3, (4, 2, 5, 5), generator=torch.Generator().manual_seed(3)) * 2
    with torch.no_grad():
        spikes = node(frames(conv, images.double().expand(2, -1, -1, -1, -1)))
    assert torch.equal(integer_spikes(network, images)[1]["a"].double(), spikes)
    assert 0 < spikes.mean() < 1


def test_v_reset_moves_the_threshold():
    conv = grid_conv(1, 1, 1, 4, 1.0, 0)
    for v_threshold, v_reset, theta in ((5.0, -2.0, 7), (5.0, 2.0, 3), (5.4, 0.0, 5),
                                        (5.0, None, 5)):
        node = neuron.LIFNode(2.0, False, v_threshold, v_reset)
        network = convert([ModuleLayer("a", (Connection(conv),), node),
                           ModuleLayer("out", (Connection(conv, sources=("a",)),))],
                          InputSpec(1, 1, 1), 1, input_scale=1.0)
        weight = network.layers[0].synapses[0].weight.item() / conv.weight.item()
        assert network.layers[0].threshold.tolist() == [round(theta * weight)]
        assert network.layers[0].neuron.v_reset == 0


def test_residuals_and_every_pool_exactly():
    """or-pool, max-pool before the neuron, average pool, residual after and before the neuron."""
    def node():
        return neuron.IFNode(2.0, 0.0, step_mode="m")
    c1, c2, c3 = (grid_conv(*a, padding=1) for a in (
        (2, 4, 3, 4, 1 / 8, 1), (4, 4, 3, 4, 1 / 8, 2), (4, 4, 3, 4, 1 / 8, 3)))
    c4, c5 = grid_conv(4, 6, 1, 4, 1 / 2, 4), grid_conv(6, 6, 3, 4, 1 / 2, 5, stride=2, padding=1)
    short = identity(6).double()
    n1, n2, n3 = grid_norm(4, 1), grid_norm(4, 2), grid_norm(4, 3)
    head = nn.Linear(6 * 2 * 2, 3, bias=False).double()
    head.weight.data = grid_conv(6, 3, 2, 4, 0.5, 7).weight.data.flatten(1)
    layers = [
        ModuleLayer("a", (Connection(c1, n1),), node(), Pool("or", 2)),
        ModuleLayer("b", (Connection(c2, n2, ("a",)),), node()),
        ModuleLayer("c", (Connection(c3, n3, ("a", "b")),), node(), Pool("max", 2)),
        ModuleLayer("d", (Connection(c4, None, ("b",), avg_pool=2),), node()),
        ModuleLayer("e", (Connection(c5, None, ("d",), bits=4),
                         Connection(short, None, ("d",), avg_pool=2, bits=4)), node()),
        ModuleLayer("out", (Connection(head, None, ("e",)),)),
    ]
    network = convert(layers, InputSpec(2, 16, 16, bits=2), STEPS, input_scale=1.0)
    images = torch.randint(0, 4, (6, 2, 16, 16), generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        x = images.double().expand(STEPS, -1, -1, -1, -1)
        a = pool(node()(frames(lambda f: n1(c1(f)), x)), F.max_pool2d, 2)
        b = node()(frames(lambda f: n2(c2(f)), a))
        c = node()(pool(frames(lambda f: n3(c3(f)), a + b), F.max_pool2d, 2))
        d = node()(frames(lambda f: c4(F.avg_pool2d(f, 2)), b))
        e = node()(frames(lambda f: c5(f) + F.avg_pool2d(f, 2), d))
        logits = frames(lambda f: head(f.flatten(1)), e).sum(0)
    ours, maps = integer_spikes(network, images)
    for name, expected in (("a", a), ("b", b), ("c", c), ("d", d)):
        assert 0.02 < expected.mean() < 0.98, name
        assert torch.equal(maps[name].double(), expected), name
    # e adds halves (c5) and quarters (the average): the unit is a compromise, spikes nearly equal
    assert (maps["e"].double() == e).double().mean() > 0.9
    scale = logits.flatten() @ ours.double().flatten() / ours.double().square().sum()
    assert torch.corrcoef(torch.stack([logits.flatten(), ours.double().flatten()]))[0, 1] > 0.95
    assert scale > 0


def test_pixels_fold_their_scale():
    conv = grid_conv(1, 4, 3, 4, 1 / 8, 11, padding=1)
    node = neuron.IFNode(1.0, 0.0, step_mode="m")
    network = convert([ModuleLayer("a", (Connection(conv),), node),
                       ModuleLayer("out", (Connection(identity(4), sources=("a",)),))],
                      InputSpec(1, 6, 6), 1)
    assert network.layers[0].threshold.tolist() == [255 * 8] * 4
    images = torch.randint(0, 256, (3, 1, 6, 6), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        spikes = node(conv(images.double() / 255)[None])
    assert torch.equal(integer_spikes(network, images)[1]["a"].double(), spikes)


def test_gamma_zero_leaves_the_bias():
    conv, norm = grid_conv(1, 4, 3, 4, 1.0, 1), nn.BatchNorm2d(4).double().eval()
    norm.weight.data = torch.tensor([0.0, -0.0, 1e-12, 1.0]).double()
    norm.bias.data = torch.tensor([0.6, -1.0, 2.0, 0.5]).double()
    node = neuron.IFNode(1.0, 0.0, step_mode="m")
    network = convert([ModuleLayer("a", (Connection(conv, norm),), node),
                       ModuleLayer("out", (Connection(identity(4), sources=("a",)),))],
                      InputSpec(1, 5, 5), STEPS)
    layer = network.layers[0]
    assert not layer.synapses[0].weight[:3].any() and layer.synapses[0].weight[3].any()
    theta = units.CONSTANT_THETA
    assert layer.threshold[:3].tolist() == [theta] * 3
    assert layer.bias[:3].tolist() == [round(0.6 * theta), -theta, 2 * theta]
    images = torch.zeros(1, 1, 5, 5, dtype=torch.uint8)
    trains = integer_spikes(network, images)[1]["a"][:, 0, :3, 0, 0].T.tolist()
    assert trains == [[0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]]


def test_fold_block_treats_gamma_zero_alike():
    weight = torch.randn(3, 1, 3, 3)
    norm = nn.BatchNorm2d(3).eval()
    norm.weight.data = torch.tensor([0.0, -1.0, 1.0])
    norm.bias.data = torch.tensor([0.5, 0.5, 0.5])
    folded = fold_block(weight, norm, 4)
    assert not folded.weight[0].any() and folded.theta[0] == units.CONSTANT_THETA
    assert torch.allclose(folded.weight[1], -weight[1])
    assert torch.equal((folded.bias / folded.gain)[0].round(), torch.tensor(2048.0))


def test_a_tiny_gamma_beside_an_ordinary_bias_converts():
    """Where the bias would not fit its width in the weights' unit, it chooses the unit."""
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(1, 3, 3, bias=False), nn.BatchNorm2d(3).eval()
    norm.weight.data = torch.tensor([3e-3, -3e-3, 1.0])
    norm.bias.data = torch.tensor([0.4, -0.3, 0.4])
    network = convert([ModuleLayer("a", (Connection(conv, norm),), neuron.IFNode(1.0)),
                       ModuleLayer("out", (Connection(nn.Conv2d(3, 1, 1), sources=("a",)),))],
                      InputSpec(1, 4, 4), 4)
    layer = network.layers[0]
    assert layer.bias[:2].tolist() == [units.BIAS_LIMIT, -units.BIAS_LIMIT]
    assert abs(layer.bias[2]) < units.BIAS_LIMIT / 4
    for c, bias in ((0, 0.4), (1, -0.3)):
        assert layer.bias[c] / layer.threshold[c] == pytest.approx(bias, rel=1e-4)


def test_fold_block_refuses_a_bias_beyond_its_width():
    norm = nn.BatchNorm2d(1).eval()
    norm.running_mean.fill_(1e6)
    with pytest.raises(SpikeTicketError, match="channel 0: folded bias"):
        fold_block(torch.ones(1, 1, 1, 1), norm, 4)
    conv = nn.Conv2d(1, 1, 1)
    with pytest.raises(SpikeTicketError, match="'a', channel 0: folded bias"):
        convert([ModuleLayer("a", (Connection(conv, norm),), neuron.IFNode())],
                InputSpec(1, 1, 1), 1, input_scale=1.0)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_weight_steps_minimise_the_error(bits):
    torch.manual_seed(0)
    w = torch.randn(5, 3, 3, 3) * torch.tensor([1, 10, 0.1, 3, 1.0]).view(-1, 1, 1, 1)
    w[4] = 0
    steps = weight_steps(w, bits, True)
    assert steps.shape == (5, 1, 1, 1)
    top = (1 << bits - 1) - 1

    def error(s):
        return ((w / s).round().clamp(-top, top) * s - w).square().sum((1, 2, 3))
    full = w.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-9) / top
    assert (error(steps) <= error(full) + 1e-9).all()
    assert len(weight_steps(w, bits, False).unique()) == 1


def test_one_bit_weights_are_signs_and_their_size_is_the_mean():
    conv = nn.Conv2d(1, 1, 2, bias=False).double()
    conv.weight.data = torch.tensor([[[[0.5, -1.5], [0.0, 1.0]]]]).double()
    network = convert([ModuleLayer("a", (Connection(conv, bits=1),), neuron.IFNode(3.0)),
                       ModuleLayer("out", (Connection(identity(1), sources=("a",)),))],
                      InputSpec(1, 2, 2), 1, input_scale=1.0)
    assert network.layers[0].synapses[0].weight.tolist() == [[[[1, -1], [0, 1]]]]
    assert network.layers[0].threshold.tolist() == [3]  # 3.0 / mean(0.5, 1.5, 1.0)


def test_a_whole_network_keeps_its_decisions_at_8_bits():
    torch.manual_seed(3)
    model = SpikingCNN(CNNConfig.parse("8p-12p-16", input=(1, 16, 16), classes=6))
    for norm in model.norms:
        torch.nn.init.normal_(norm.weight, 0.5, 0.7)
        torch.nn.init.normal_(norm.bias, 0.4, 0.2)
        norm.momentum = None
    images = torch.randint(0, 256, (64, 1, 16, 16), dtype=torch.uint8)
    with torch.no_grad():
        model(model.prepare(images))
        spikes: list[torch.Tensor] = []
        logits = model.eval()(model.prepare(images), spikes)
    network = convert(cnn_layers(model, bits=8), InputSpec(1, 16, 16), 4)
    ours, maps = integer_spikes(network, images)
    for float_map, name in zip(spikes, maps, strict=True):
        assert (float_map == maps[name].float()).float().mean() > 0.9, name
    assert (ours.argmax(1) == logits.argmax(1)).float().mean() > 0.85


def first(conv: nn.Module, node: nn.Module, source: str = "input") -> ModuleLayer:
    return ModuleLayer("x", (Connection(conv, sources=(source,)),), node)


@pytest.mark.parametrize("layer, message", [
    (first(nn.Conv2d(2, 2, 3), nn.ReLU()), "ReLU has no integer form"),
    (first(nn.Conv2d(2, 2, 3, groups=2), neuron.IFNode()), "groups 1"),
    (first(nn.Conv2d(2, 2, 3, padding="same"), neuron.IFNode()), "padding"),
    (first(nn.Linear(7, 2), neuron.IFNode()), "takes 7 features"),
    (first(nn.Conv2d(2, 2, 3), neuron.IFNode(), "y"), "'y' is not an earlier map"),
    (first(nn.Conv2d(2, 2, 3), neuron.IFNode(1.0, 1.0)), "not above v_reset"),
])
def test_what_has_no_integer_form_is_named(layer, message):
    with pytest.raises(SpikeTicketError, match=f"'x': .*{message}"):
        convert([layer], InputSpec(2, 6, 6), 1)
