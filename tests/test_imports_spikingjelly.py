"""SpikingJelly networks as integers, against SpikingJelly's own runs."""

import copy
import json

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import ann2snn, functional, layer, neuron
from spikingjelly.activation_based.model.spikformer import Spikformer
from torch import nn
from torch.nn.utils import prune

from sw import nets, ticket
from sw.cli.app import main
from sw.errors import SpikeTicketError
from sw.imports import calibrate, compare, from_spikingjelly
from sw.imports.floats import FloatNetwork
from sw.imports.spikingjelly import run_module
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
    assert [a.name for a in imported.network.layers] == ["node", "pool", "sum", "readout"]
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
    """forward looks at values, and may do something else for bright inputs."""

    def __init__(self, honest: bool):
        super().__init__()
        self.conv, self.node = nn.Conv2d(2, 4, 3), neuron.LIFNode()
        self.flat, self.fc = nn.Flatten(), nn.Linear(64, 3)
        self.honest = honest

    def forward(self, x):
        if x.sum() < 0:
            raise ValueError("negative input")
        bright = bool(x.mean() > 0.9)
        x = self.fc(self.flat(self.node(self.conv(x))))
        return x if self.honest or not bright else x.flip(1)


def test_a_forward_that_looks_at_values_is_checked_by_running():
    net = draw(Undecided(True))
    imported = from_spikingjelly(net, (2, 6, 6), 4)
    assert [a.name for a in imported.network.layers] == ["node", "readout"]
    assert any("forward looks at values" in note for note in imported.notes)
    with pytest.raises(SpikeTicketError, match=r"other outputs .* looks? at values .*py:\d+"):
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
    with pytest.raises(SpikeTicketError, match="takes one image and repeats it 4 times"):
        from_spikingjelly(draw(Tutorial()), (2, 8, 8), 4, static=False)


def small(*modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(*modules)


class Looped(nn.Module):
    """The loop over time in forward, on one image."""

    def __init__(self):
        super().__init__()
        self.conv, self.node = nn.Conv2d(2, 3, 3), neuron.LIFNode()

    def forward(self, x):
        return sum(self.node(self.conv(x)) for _ in range(3))


class Twice(nn.Module):
    """One neuron for two maps."""

    def __init__(self):
        super().__init__()
        self.a, self.b = layer.Conv2d(2, 2, 3, padding=1), layer.Conv2d(2, 2, 3, padding=1)
        self.node = neuron.LIFNode()
        functional.set_step_mode(self, "m")

    def forward(self, x):
        return self.node(self.b(self.node(self.a(x)))).flatten(2)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.back = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 1)
        self.node = neuron.LIFNode()

    def forward(self, x):
        spikes, out = 0, 0
        for _ in range(4):
            spikes = self.node(self.conv(x) + (self.back(spikes) if torch.is_tensor(spikes) else 0))
            out = out + spikes.flatten(1)
        return out


class Two(Looped):
    def forward(self, x, y):
        return self.node(self.conv(x + y))


class Pair(Looped):
    def forward(self, x):
        x = self.node(self.conv(x))
        return x, x


class OnGPU(Looped):
    def forward(self, x):
        return self.node(self.conv(x.cuda()))


class Scored(Looped):
    """An output that is no sum over time."""

    def forward(self, x):
        spikes = torch.stack([self.node(self.conv(x)).flatten(1) for _ in range(3)])
        return (spikes * torch.tensor([1.0, 2.0, 3.0])[:, None, None]).sum(0)


class Drops(Looped):
    """Dropout that is left on in evaluation."""

    def forward(self, x):
        return nn.functional.dropout(self.node(self.conv(x)), 0.5, training=True).flatten(1)


@pytest.mark.parametrize(("net", "message"), [
    (lambda: small(nn.Conv2d(2, 3, 3), neuron.QIFNode()),
     "module '1': QIFNode is not supported; the nearest is IFNode"),
    (lambda: small(nn.Conv2d(2, 3, 3), neuron.KLIFNode()), "module '1': KLIFNode .* LIFNode"),
    (lambda: small(nn.Conv2d(2, 3, 3), neuron.EIFNode()), "module '1': EIFNode .* LIFNode"),
    (lambda: small(nn.Conv2d(2, 3, 3), nn.ReLU(), neuron.IFNode()), "module '1': ReLU .* IFNode"),
    (lambda: small(layer.Conv2d(2, 3, 3), layer.GroupNorm(1, 3), neuron.IFNode()),
     "module '1': GroupNorm .* BatchNorm2d"),
    (lambda: small(nn.Conv2d(2, 3, 3), neuron.LIFNode(v_threshold=1.0, v_reset=1.0)),
     r"module '1' \(LIFNode\): v_threshold 1 is not above v_reset"),
    (lambda: small(nn.Conv2d(2, 3, 3), neuron.LIFNode(v_threshold=float("inf"))),
     "v_threshold inf never fires; leave the neuron out"),
    (lambda: small(nn.Conv2d(2, 3, 3), neuron.LIFNode(v_threshold=float("nan"))),
     "v_threshold nan is no number"),
    (lambda: small(nn.Conv2d(2, 3, 3), neuron.LIFNode(v_reset=float("-inf"))),
     "v_reset -inf is not finite"),
    (lambda: small(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, track_running_stats=False),
                   neuron.IFNode()), "module '1': a batch norm without running statistics"),
    (lambda: small(nn.Conv2d(2, 3, 3), nn.Flatten()), "Sequential has no SpikingJelly neuron"),
    (lambda: small(layer.Conv2d(2, 3, 3), neuron.IFNode(step_mode="m"), neuron.IFNode()),
     "step modes 's' and 'm'"),
    (Looped, "timesteps 4 are given, but the forward function repeats its input 3 times"),
    (Twice, r"module 'node' \(LIFNode\) is called 2 times in one timestep"),
    (Recurrent, "module 'node' .* recurrent connections cannot be imported"),
    (Two, "a second input 'y'"), (Pair, "forward returns a tuple of 2 tensors; return one"),
    (OnGPU, r"forward wants a GPU .*x\.device"),
    (Drops, "forward is random in evaluation .*; remove what draws"),
    (lambda: {"weight": torch.zeros(1)}, "the network is a state dict; make its module"),
    (lambda: "net.pth", "the network is a str; give a torch.nn.Module"),
])
def test_what_is_not_supported_is_named_with_its_place(net, message):
    with pytest.raises(SpikeTicketError, match=message):
        from_spikingjelly(net(), (2, 6, 6), 4)


def test_timesteps_that_count_differently_are_no_sum():
    with pytest.raises(SpikeTicketError, match="weighs the timesteps differently"):
        from_spikingjelly(draw(Scored()), (2, 6, 6))


@pytest.mark.parametrize(("arguments", "message"), [
    ({"input_shape": (8, 8)}, r"input_shape \(8, 8\) is not \(channels, height, width\)"),
    ({"input_shape": (1, 2, 8, 8)}, "is not .channels, height, width"),
    ({"input_shape": 8}, "input_shape 8 is not"),
    ({"input_shape": (2, 0, 8)}, "is not .channels, height, width. in whole numbers"),
    ({"bits": 0}, "bits 0 is not a whole number 1..8"),
    ({"bits": 4.0}, "bits 4.0 is not a whole number"),
    ({"bits": {"1": 9}}, "bits 9 is not a whole number"),
    ({"timesteps": 33}, "timesteps 33 is not a whole number 1..32"),
    ({"timesteps": 2.0}, "timesteps 2.0 is not a whole number"),
    ({"samples": np.zeros((4, 1, 6, 6))}, r"samples of shape \[4, 1, 6, 6\] are not"),
    ({"input_shape": (3, 6, 6)}, "does not run on random inputs of 3x6x6"),
])
def test_arguments_are_checked_by_name(arguments, message):
    net = draw(small(nn.Conv2d(2, 3, 3), neuron.IFNode(), nn.Flatten(), nn.Linear(48, 3)))
    given = {"input_shape": (2, 6, 6), "timesteps": 4, **arguments}
    with pytest.raises(SpikeTicketError, match=message):
        from_spikingjelly(net, given.pop("input_shape"), **given)


def test_timesteps_and_widths_are_asked_for():
    net = draw(Undecided(True))
    with pytest.raises(SpikeTicketError, match="give timesteps=T"):
        from_spikingjelly(net, (2, 6, 6))
    with pytest.raises(SpikeTicketError, match="no width given for the weights of layer 'readout'"):
        from_spikingjelly(net, (2, 6, 6), 4, bits={"node": 3})
    imported = from_spikingjelly(net, (2, 6, 6), 4, bits={"node": 3, "readout": 8})
    assert [s.bits for _, s in imported.network.synapses()] == [3, 8]


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


def test_networks_of_this_project_and_spikformer_are_read_as_others(tiny_resnet, tmp_path):
    config = nets.NetConfig("resnet-tiny", input=(1, 8, 8), classes=4)
    net = draw(nets.build(config), grid=None)
    imported = from_spikingjelly(net, (1, 8, 8), bits=8)
    x = np.random.default_rng(0).integers(0, 256, (8, 1, 8, 8))
    assert min(compare(imported, x).spikes.values()) > 0.9
    imported.save(tmp_path / "t.safetensors", seed=3)
    facts = ticket.load(tmp_path / "t.safetensors").metadata
    assert facts["module"] == "SpikingResNet" and facts["seed"] == 3
    former = draw(Spikformer(T=2, in_channels=1, img_size_h=16, img_size_w=16, patch_size=4,
                             num_classes=3, embed_dims=32, num_heads=2, depths=1), grid=None)
    network = from_spikingjelly(former, (1, 16, 16), bits=8).network
    assert any(getattr(a, "attention", None) for a in network.layers) and network.timesteps == 2
    assert network.shapes()["patch_embed.positional_encoding.neuron"].tokens == 16


class Mine(Spikformer):
    """A subclass that does something else."""

    def forward(self, x):
        return -super().forward(x)


def test_a_subclass_is_read_as_what_it_does():
    options = {"T": 2, "in_channels": 1, "img_size_h": 16, "img_size_w": 16, "patch_size": 4,
               "num_classes": 3, "embed_dims": 32, "num_heads": 2, "depths": 1}
    first, second = Spikformer(**options), Mine(**options)
    second.load_state_dict(draw(first, grid=None).state_dict())
    x = torch.randint(0, 256, (4, 1, 16, 16), generator=torch.Generator().manual_seed(0))
    logits = [IntegerNetwork(from_spikingjelly(net, (1, 16, 16), bits=8).network)(x)
              for net in (first, second)]
    assert torch.equal(logits[0], -logits[1]) and bool(logits[0].any())
    with pytest.raises(SpikeTicketError, match="repeats its input 2 times"):
        from_spikingjelly(second, (1, 16, 16), 4)


def test_masks_of_torch_prune_hold_and_the_module_stays_as_it_was():
    net = draw(sequential(NODES["lif"], "m"))
    for part in (net[0], net[4], net[8]):
        prune.l1_unstructured(part, "weight", 0.5)
    net.eval()(torch.rand(5, 1, 2, 8, 8)).sum().backward()
    imported = from_spikingjelly(net, (2, 8, 8), 5, static=False, input_bits=2)
    for at, name in ((0, "2"), (4, "5"), (8, "9")):
        syn = next(a for a in imported.network.layers if a.name == name).synapses[0]
        kept = (net[at].weight_orig * net[at].weight_mask).detach()
        assert np.count_nonzero(syn.weight) == int((kept != 0).sum()) > 0
    assert prune.is_pruned(net) and net[2].v.requires_grad
    assert_equal_spikes(net, imported, frames(1, imported))


def test_a_map_of_ann2snn_imports():
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
                        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(64, 5)).eval()
    data = [(torch.rand(8, 1, 8, 8), torch.zeros(8)) for _ in range(2)]
    net = ann2snn.Converter(ann2snn.RateCodingRecipe(dataloader=data, mode="Max")).convert(ann)
    imported = from_spikingjelly(net, (1, 8, 8), 16, bits=8)
    x = np.random.default_rng(0).integers(0, 256, (8, 1, 8, 8))
    logits = run_module(net, torch.from_numpy(x), imported)
    found = FloatNetwork(imported)(torch.from_numpy(x))
    assert torch.allclose(found, logits, atol=1e-9) and compare(imported, x).labels > 0.8


def test_the_example_trains_imports_and_compares(tmp_path, capsys):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", **{f"{name}_{split}": values for split in ("train", "test")
             for name, values in (("x", rng.integers(0, 256, (12, 8, 8), np.uint8)),
                                  ("y", np.arange(12, dtype=np.uint8) % 3))})
    options = ["--data", str(tmp_path / "data.npz"), "--train-images", "12", "--test-images", "6",
               "--epochs", "1"]
    assert main(["import", "widths", *options, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["bits"] for row in rows] == [2, 3, 4, 6, 8]
    assert all(row["rounded"]["inputs"] == 6 for row in rows)
    assert main(["import", "widths", *options, "--epochs", "0"]) == 2
    assert "--epochs 0 is below 1" in capsys.readouterr().err
