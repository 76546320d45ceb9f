"""SpikingJelly networks as integers, against SpikingJelly's own runs."""

import copy
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spikingjelly.activation_based import functional, layer, neuron
from spikingjelly.activation_based.model.spikformer import Spikformer
from torch import nn

from sw import nets, ticket
from sw.errors import SpikeTicketError
from sw.imports import calibrate, compare, example, from_spikingjelly
from sw.imports.floats import FloatNetwork
from sw.imports.spikingjelly import run_module
from sw.imports.weights import normal_conv
from sw.integer.network import Neuron, Pool
from sw.integer.spikingjelly import IntegerNetwork

pytestmark = pytest.mark.usefixtures("one_thread")

NODES = {
    "if": lambda: neuron.IFNode(),
    "if soft": lambda: neuron.IFNode(v_reset=None),
    "lif": lambda: neuron.LIFNode(2.0, decay_input=False),
    "lif decay_input": lambda: neuron.LIFNode(2.0),
    "lif soft": lambda: neuron.LIFNode(2.0, decay_input=False, v_reset=None),
    "lif rest": lambda: neuron.LIFNode(2.0, decay_input=False, v_threshold=0.5, v_reset=-0.5),
    "plif": lambda: neuron.ParametricLIFNode(2.0, decay_input=False),
}


def draw(net: nn.Module, seed: int = 0, grid: float | None = 0.125) -> nn.Module:
    """Random weights and batch norms; with a grid, weights and biases are multiples of it."""
    g = torch.Generator().manual_seed(seed)
    for m in net.modules():
        if isinstance(m, nn.Conv2d | nn.Linear):
            shape = m.weight.shape
            m.weight.data = (torch.randint(-3, 4, shape, generator=g) * grid if grid
                             else torch.randn(shape, generator=g) * (4 / shape[1:].numel()) ** 0.5)
            if m.bias is not None:
                m.bias.data = torch.randint(-2, 3, (shape[0],), generator=g) * (grid or 0.1)
        if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d):
            n = m.num_features
            if grid:        # sigma 1, gamma +-1 or 2: the folded weights stay on the grid
                m.eps = 0.0
                m.weight.data = torch.tensor([1.0, -1.0, 2.0])[torch.randint(3, (n,), generator=g)]
                m.running_mean.copy_(torch.randint(-2, 3, (n,), generator=g) * grid)
                m.bias.data = torch.randint(-2, 3, (n,), generator=g) * grid
            else:
                if m.affine:
                    m.weight.data = torch.randn(n, generator=g) + 0.5
                    m.bias.data = torch.randn(n, generator=g) * 0.2
                m.running_mean.copy_(torch.randn(n, generator=g) * 0.1)
                m.running_var.copy_(torch.rand(n, generator=g) + 0.5)
    return net


class Tutorial(nn.Module):
    """The form of SpikingJelly's own tutorial: forward repeats the image and averages."""

    def __init__(self, node=neuron.IFNode, steps: int = 4):
        super().__init__()
        self.steps = steps
        self.conv_fc = nn.Sequential(
            layer.Conv2d(2, 4, 3, padding=1, bias=False), layer.BatchNorm2d(4), node(),
            layer.MaxPool2d(2, 2), layer.Conv2d(4, 6, 3, padding=1, bias=False),
            layer.BatchNorm2d(6), node(), layer.MaxPool2d(2, 2), layer.Flatten(),
            layer.Linear(24, 12, bias=False), node(), layer.Linear(12, 5, bias=False), node())
        functional.set_step_mode(self, "m")

    def forward(self, x):
        x_seq = x.unsqueeze(0).repeat(self.steps, 1, 1, 1, 1)
        return self.conv_fc(x_seq).mean(0)


def sequential(node, mode: str) -> nn.Sequential:
    net = nn.Sequential(
        layer.Conv2d(2, 4, 3, padding=1), layer.BatchNorm2d(4), node(), layer.AvgPool2d(2),
        layer.Conv2d(4, 6, 3, padding=1, stride=2, bias=False), node(), layer.Dropout(0.5),
        layer.Flatten(), layer.Linear(24, 10), node(), layer.VotingLayer(2))
    functional.set_step_mode(net, mode)
    return net


def frames(seed: int, imported, batch: int = 8) -> torch.Tensor:
    """Random integers as `IntegerNetwork` takes them."""
    spec = imported.network.input
    shape = (batch, spec.channels, spec.height, spec.width)
    shape = shape if spec.static else (imported.network.timesteps, *shape)
    return torch.randint(0, 1 << spec.bits, shape, generator=torch.Generator().manual_seed(seed))


def assert_equal_spikes(net, imported, x):
    """Every neuron of the module and of the integer network, at every timestep."""
    theirs, ours = {}, {}
    run_module(net, x, imported, theirs)
    IntegerNetwork(imported.network)(x, ours)
    rates = []
    for module, spikes in theirs.items():
        found = ours[module]
        if found.shape != spikes.shape and found.dim() == spikes.dim():     # a pool behind
            spikes = nn.functional.max_pool2d(spikes.flatten(0, 1), 2).unflatten(0, found.shape[:2])
        assert torch.equal(found.flatten(2).double(), spikes.flatten(2)), module
        rates.append(float(spikes.mean()))
    assert len(rates) == sum(a.neuron is not None for a in imported.network.layers)
    assert any(0.02 < rate < 0.98 for rate in rates)


@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("node", NODES)
def test_networks_on_a_grid_are_exact_in_both_step_modes(node, mode):
    net = draw(sequential(NODES[node], mode))
    imported = from_spikingjelly(net, (2, 8, 8), 5, static=False, input_bits=2)
    assert imported.notes == ()
    assert_equal_spikes(net, imported, frames(1, imported))
    assert [a.name for a in imported.network.layers] == ["2", "5", "9", "readout"]


def test_the_tutorial_s_network_needs_no_timesteps():
    net = draw(Tutorial())
    imported = from_spikingjelly(net, (2, 8, 8), input_bits=2, input_scale=0.5)
    assert imported.network.timesteps == 4 and imported.notes == ()
    assert imported.network.layers[0].pool == Pool("or", 2)
    assert_equal_spikes(net, imported, frames(2, imported))
    with pytest.raises(SpikeTicketError, match="timesteps 5 are given, but the forward function"):
        from_spikingjelly(net, (2, 8, 8), 5)


def integer_copy(net: Tutorial, imported) -> Tutorial:
    """The module with the imported integers as its parameters, thresholds by channel."""
    made = copy.deepcopy(net).double()
    parts = list(made.conv_fc)
    layers = iter(imported.network.layers)
    for i, part in enumerate(parts):
        if isinstance(part, nn.Conv2d | nn.Linear):
            found = next(layers)
            weight = torch.from_numpy(found.synapses[0].weight.copy()).double()
            part.weight.data = weight.reshape(part.weight.shape)
            bias = torch.from_numpy(found.bias).double()
            node = next(p for p in parts[i:] if isinstance(p, neuron.BaseNode))
            theta = torch.from_numpy(found.threshold).double()
            node.v_threshold = theta.view(-1, 1, 1) if isinstance(part, nn.Conv2d) else theta
            if isinstance(part, nn.Linear):
                part.bias = nn.Parameter(bias)
            else:
                parts[i + 1].running_mean.copy_(-bias)
        if isinstance(part, nn.BatchNorm2d):
            part.eps, part.running_var = 0.0, torch.ones_like(part.running_var)
            part.weight.data, part.bias.data = part.running_var.clone(), 0 * part.bias.data
    return made


@pytest.mark.parametrize("node", ["if", "if soft", "lif", "lif soft"])
def test_spikingjelly_on_the_quantised_parameters_gives_the_same_spikes(node):
    """Random float weights, quantised to 4 bits: SpikingJelly runs the integers as its own."""
    net = draw(Tutorial(NODES[node]), grid=None)
    imported = from_spikingjelly(net, (2, 8, 8), input_bits=2, input_scale=1.0)
    assert any("are rounded" in note for note in imported.notes)
    assert_equal_spikes(integer_copy(net, imported), imported, frames(3, imported))


class Repeats(Tutorial):
    """`repeat` with one size more than there are axes makes the time axis."""

    def forward(self, x):
        return self.conv_fc(x.repeat(self.steps, 1, 1, 1, 1)).mean(0)


def test_repeat_may_make_the_time_axis():
    net = draw(Repeats(steps=3))
    imported = from_spikingjelly(net, (2, 8, 8), input_bits=2, input_scale=0.5)
    assert imported.network.timesteps == 3
    assert_equal_spikes(net, imported, frames(2, imported))


class Residual(nn.Module):
    """Sums before and after neurons, a map read twice, and means instead of modules."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(layer.Conv2d(2, 4, 3, padding=1, bias=False),
                                  layer.BatchNorm2d(4), neuron.LIFNode(decay_input=False))
        self.conv = layer.Conv2d(4, 4, 3, padding=1, bias=False)
        self.node = neuron.LIFNode(decay_input=False)
        self.second = layer.Conv2d(4, 4, 3, padding=1)
        self.last = neuron.IFNode()
        self.pool = layer.MaxPool2d(2)
        self.wide = layer.Conv2d(4, 6, 3, padding=1, bias=False)
        self.wide_node = neuron.IFNode()
        self.head = nn.Linear(6, 5)
        functional.set_step_mode(self, "m")

    def forward(self, x):
        x = self.stem(x)
        y = self.node(self.conv(x) + x)             # before the neuron
        z = x + self.last(self.second(y))           # after it
        z = self.wide_node(self.wide(z))
        return self.head(z.mean((-1, -2)).mean(0))


def test_residuals_before_and_after_the_neuron():
    net = draw(Residual())
    imported = from_spikingjelly(net, (2, 6, 6), 4, static=False, input_bits=1)
    named = {a.name: a for a in imported.network.layers}
    assert [s.sources for s in named["node"].synapses] == [("stem.2",), ("stem.2",)]
    assert named["node"].synapses[1].bits == 8 and imported.notes == ()
    assert named["wide_node"].synapses[0].sources == ("stem.2", "last")
    assert_equal_spikes(net, imported, frames(4, imported))


class TwiceRead(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.node = nn.Conv2d(2, 4, 3, padding=1), neuron.IFNode()
        self.pool, self.flat = nn.MaxPool2d(2), nn.Flatten()
        self.a, self.b = nn.Linear(16, 6), nn.Linear(64, 6)
        self.sum = neuron.IFNode()

    def forward(self, x):
        x = self.node(self.conv(x))
        return self.sum(self.a(self.flat(self.pool(x))) + self.b(torch.flatten(x, 1)))


def test_a_map_that_is_read_with_and_without_its_pool():
    net = draw(TwiceRead())
    imported = from_spikingjelly(net, (2, 4, 4), 4, static=False, input_bits=1)
    assert [a.name for a in imported.network.layers] == ["node", "node.pool", "sum", "readout"]
    x = frames(5, imported)
    theirs, ours = {}, {}
    run_module(net, x, imported, theirs)
    IntegerNetwork(imported.network)(x, ours)
    assert all(torch.equal(ours[k].flatten(2).double(), theirs[k].flatten(2)) for k in theirs)


def test_pools_of_currents_global_averages_and_leaky_rest():
    net = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.MaxPool2d(2), neuron.LIFNode(
        2.0, False, 0.5, -0.5), nn.Conv2d(4, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    imported = from_spikingjelly(draw(net), (2, 8, 8), 3, static=False, input_bits=1)
    first, readout = imported.network.layers
    assert first.pool == Pool("max", 2) and first.neuron == Neuron(128, "hard", 0)
    assert readout.synapses[0].weight.shape == (5, 4, 1, 1) and imported.notes == ()
    x = frames(6, imported)
    logits = run_module(net, x, imported)
    found = IntegerNetwork(imported.network)(x).double()
    assert torch.allclose(found / found.abs().max(), logits / logits.abs().max(), atol=1e-12)


class Undecided(nn.Module):
    """Cannot be traced: forward looks at values."""

    def __init__(self, honest: bool):
        super().__init__()
        self.conv, self.node = nn.Conv2d(2, 4, 3), neuron.LIFNode()
        self.flat, self.fc = nn.Flatten(), nn.Linear(64, 3)
        self.honest = honest

    def forward(self, x):
        if x.sum() < 0:
            raise ValueError("negative input")
        x = self.fc(self.flat(self.node(self.conv(x))))
        return x if self.honest else x.flip(1)


def test_modules_in_order_where_tracing_fails_are_checked_by_running():
    net = draw(Undecided(True))
    imported = from_spikingjelly(net, (2, 6, 6), 4)
    assert [a.name for a in imported.network.layers] == ["node", "readout"]
    with pytest.raises(SpikeTicketError, match="do not give what its forward function gives"):
        from_spikingjelly(draw(Undecided(False)), (2, 6, 6), 4)


def test_the_module_is_left_as_it_was():
    net = draw(Tutorial(), grid=None).train()
    net(torch.rand(3, 2, 8, 8)).sum().backward()     # membranes hold gradients now
    before = {k: v.clone() for k, v in net.state_dict().items()}
    membrane = net.conv_fc[2].v
    from_spikingjelly(net, (2, 8, 8))
    assert net.training and net.conv_fc[2].v is membrane
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_vectors_are_maps_of_one_position():
    net = draw(nn.Sequential(layer.Linear(12, 8), neuron.LIFNode(decay_input=False),
                             layer.Linear(8, 3)))
    for mode in "sm":
        functional.set_step_mode(net, mode)
        imported = from_spikingjelly(net, (12, 1, 1), 4, static=False, input_bits=1)
        assert imported.notes == ()
        assert_equal_spikes(net, imported, frames(7, imported))
    with pytest.raises(SpikeTicketError, match="does not run on random inputs"):
        from_spikingjelly(draw(Tutorial()), (2, 8, 8), 4, static=False)


def small(*modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(*modules)


class Looped(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.node = nn.Conv2d(2, 3, 3), neuron.LIFNode()

    def forward(self, x):
        return sum(self.node(self.conv(x)) for _ in range(3))


class Product(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.node = nn.Conv2d(2, 3, 3), neuron.LIFNode()

    def forward(self, x):
        return self.node(self.conv(x) * 2)


@pytest.mark.parametrize(("net", "message"), [
    (lambda: small(nn.Conv2d(2, 3, 3), neuron.QIFNode()),
     "module '1': QIFNode is not supported; the nearest is IFNode"),
    (lambda: small(nn.Conv2d(2, 3, 3), nn.ReLU(), neuron.IFNode()), "module '1': ReLU .* IFNode"),
    (lambda: small(layer.Conv2d(2, 3, 3), layer.GroupNorm(1, 3), neuron.IFNode()),
     "module '1': GroupNorm .* BatchNorm2d"),
    (lambda: small(nn.Conv2d(2, 3, 3), nn.Conv2d(3, 3, 3), neuron.IFNode()),
     "module '1': two weighted operations"),
    (lambda: small(nn.Conv2d(2, 3, 3, padding_mode="reflect", padding=1), neuron.IFNode()),
     "module '0': padding mode 'reflect'"),
    (lambda: small(nn.Conv2d(2, 3, 3, stride=(1, 2)), neuron.IFNode()), "stride 1x2 differs"),
    (lambda: small(nn.Conv2d(2, 3, 3), neuron.LIFNode(v_threshold=1.0, v_reset=1.0)),
     "v_threshold 1.0 is not above v_reset"),
    (lambda: small(nn.Conv2d(2, 3, 3), neuron.IFNode(), nn.AvgPool2d(3, 2), nn.Conv2d(3, 3, 1)),
     "module '3': an average pool with overlapping or padded windows"),
    (lambda: small(nn.MaxPool2d(2), nn.Conv2d(2, 3, 3), neuron.IFNode()),
     "module '0': a max pool of the input"),
    (lambda: small(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, track_running_stats=False),
                   neuron.IFNode()), "module '1': a batch norm without running statistics"),
    (lambda: small(nn.Conv2d(2, 3, 3), nn.Flatten()), "Sequential has no SpikingJelly neuron"),
    (lambda: small(layer.Conv2d(2, 3, 3), neuron.IFNode(step_mode="m"), neuron.IFNode()),
     "step modes 's' and 'm'"),
    (Looped, "module 'conv' is called twice; trace one timestep"),
    (Product, r"'mul' of forward: mul is not supported"),
])
def test_what_is_not_supported_is_named_with_its_place(net, message):
    with pytest.raises(SpikeTicketError, match=message):
        from_spikingjelly(net(), (2, 6, 6), 4)


def test_timesteps_and_widths_are_asked_for():
    net = draw(Undecided(True))
    with pytest.raises(SpikeTicketError, match="give timesteps=T"):
        from_spikingjelly(net, (2, 6, 6))
    with pytest.raises(SpikeTicketError, match="no width given for the weights of layer 'readout'"):
        from_spikingjelly(net, (2, 6, 6), 4, bits={"node": 3})
    imported = from_spikingjelly(net, (2, 6, 6), 4, bits={"node": 3, "readout": 8})
    assert [s.bits for _, s in imported.network.synapses()] == [3, 8]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_normal_convolutions_are_the_same_convolutions(seed):
    rng = np.random.default_rng(seed)
    groups, kernel = int(rng.integers(1, 4)), tuple(map(int, rng.integers(1, 4, 2)))
    options = {"stride": int(rng.integers(1, 4)), "groups": groups,
               "dilation": tuple(map(int, rng.integers(1, 3, 2)))}
    options["padding"] = tuple(map(int, rng.integers(0, 3, 2)))
    weight = torch.from_numpy(rng.normal(size=(groups * 2, 2, *kernel)))
    x = torch.from_numpy(rng.normal(size=(1, groups * 2, 7, 9)))
    dense, stride, padding = normal_conv(weight, "conv", **options)
    expected = nn.functional.conv2d(x, weight, **options)
    found = nn.functional.conv2d(x, dense, stride=stride, padding=padding)
    assert torch.allclose(found, expected, atol=1e-12)


def test_calibration_brings_mean_currents_together():
    net = draw(Tutorial(), grid=None)
    imported = from_spikingjelly(net, (2, 8, 8), input_bits=4, bits=2)
    x = np.random.default_rng(0).integers(0, 16, (40, 2, 8, 8))
    better = calibrate(imported, x)
    assert better.facts["biases_corrected"] > 0 and better.facts["calibrated_on"] == 40

    def offset(network):
        means = {}
        FloatNetwork(imported)(torch.from_numpy(x), currents=means)
        first = IntegerNetwork(network).layers[0]
        found = first.currents({"input": torch.from_numpy(x)[None]}).double().mean((0, 1, 3, 4))
        return float((found - means["conv_fc.2"].mean(0)).abs().max())
    assert offset(better.network) <= 0.5 < offset(imported.network)
    exact = from_spikingjelly(draw(Tutorial()), (2, 8, 8), input_bits=2, input_scale=1.0)
    again = calibrate(exact, x[:4] % 4)
    assert ticket.to_bytes(again.network) == ticket.to_bytes(exact.network)
    with pytest.raises(SpikeTicketError, match="at least one input"):
        calibrate(exact, x[:0])


def test_networks_of_this_project_and_spikformer_are_taken_as_they_are(tiny_resnet, tmp_path):
    config = nets.NetConfig("resnet-tiny", input=(1, 8, 8), classes=4)
    net = draw(nets.build(config), grid=None)
    imported = from_spikingjelly(net, (1, 8, 8), bits=8)
    x = np.random.default_rng(0).integers(0, 256, (8, 1, 8, 8))
    assert compare(imported, x).spikes["stem"] > 0.95
    imported.save(tmp_path / "t.safetensors", seed=3)
    facts = ticket.load(tmp_path / "t.safetensors").metadata
    assert facts["module"] == "SpikingResNet" and facts["seed"] == 3
    former = Spikformer(T=2, in_channels=1, img_size_h=16, img_size_w=16, patch_size=4,
                        num_classes=3, embed_dims=32, num_heads=2, depths=1).eval()
    network = from_spikingjelly(former, (1, 16, 16), 2).network
    assert any(getattr(a, "attention", None) for a in network.layers)
    assert network.shapes()["rpe"].tokens == 16


def test_the_example_trains_imports_and_compares(tmp_path, capsys):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", **{f"{name}_{split}": values for split in ("train", "test")
             for name, values in (("x", rng.integers(0, 256, (12, 8, 8), np.uint8)),
                                  ("y", np.arange(12, dtype=np.uint8) % 3))})
    options = ["--data", str(tmp_path / "data.npz"), "--train-images", "12", "--test-images", "6",
               "--epochs", "1"]
    assert example.main([*options, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["bits"] for row in rows] == [2, 3, 4, 6, 8]
    assert all(row["rounded"]["inputs"] == 6 for row in rows)
    assert example.main([*options, "--epochs", "0"]) == 2
    assert "must be above 0" in capsys.readouterr().err
