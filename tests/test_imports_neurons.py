"""Neurons by what they do: hand-written ones, subclasses, gates, and a check that can fail."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

from sw import nets
from sw.errors import SpikeTicketError
from sw.imports import from_spikingjelly, selfcheck
from sw.imports.integers import build
from sw.imports.neurons import stated_rule
from sw.imports.reading import read_module
from sw.imports.spikingjelly import run_module
from sw.integer.network import InputSpec, Neuron
from sw.integer.spikingjelly import IntegerNetwork
from sw.nets.token_gate import TokenGate

pytestmark = pytest.mark.usefixtures("one_thread")
STEPS = 4


class LIF(nn.Module):
    """Ten lines: a membrane that is kept between calls."""

    def __init__(self):
        super().__init__()
        self.mem = None

    def reset(self):
        self.mem = None

    def forward(self, x: Tensor) -> Tensor:
        mem = torch.zeros_like(x) if self.mem is None else self.mem
        mem = 0.5 * mem + x
        spikes = (mem >= 1.0).float()
        self.mem = mem * (1 - spikes)
        return spikes


class Soft(nn.Module):
    """The loop over time in the neuron; the threshold is subtracted."""

    def forward(self, x: Tensor) -> Tensor:
        v, out = torch.zeros_like(x[0]), torch.zeros_like(x)
        for t in range(len(x)):
            v = v * 0.5 + x[t]
            out[t] = torch.where(v - 1.0 >= 0, 1.0, 0.0)
            v -= out[t]
        return out


class Steps(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.fc, self.head = nn.Linear(16, 6), nn.Linear(6, 3)
        self.a, self.b = LIF(), LIF()

    def forward(self, x: Tensor) -> Tensor:
        x = torch.max_pool2d(self.a(self.conv(x)), 2)
        return self.head(self.b(self.fc(x.flatten(1))))


class Multi(Steps):
    def __init__(self):
        super().__init__()
        self.a, self.b = Soft(), Soft()

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(functional.seq_to_ann_forward(x, self.conv))
        y = functional.seq_to_ann_forward(y, [nn.MaxPool2d(2), nn.Flatten(1)])
        return self.head(self.b(self.fc(y)))


def charge(op: nn.Module, x: Tensor, mem: Tensor, spikes: Tensor) -> tuple[Tensor, Tensor]:
    mem = mem * 0.5 * (1.0 - spikes) + op(x)
    return mem, mem.ge(1.0).float()


class Written(Steps):
    """No neuron module at all: membranes in forward, as in STBP's code."""

    def forward(self, x: Tensor) -> Tensor:
        m1 = s1 = torch.zeros(len(x), 4, 4, 4)
        m2 = s2 = total = torch.zeros(len(x), 6)
        for _ in range(STEPS):
            m1, s1 = charge(self.conv, x, m1, s1)
            m2, s2 = charge(self.fc, torch.max_pool2d(s1, 2).flatten(1), m2, s2)
            total = total + s2
        return self.head(total / STEPS)


class Own(neuron.LIFNode):
    """A subclass with its own charge: the input is not scaled, as its parent's numbers say."""

    def single_step_functional_forward(self, inputs, states, **kwargs):
        v = 0.5 * states[0] + inputs[0]
        spikes = self.surrogate_function(v - self.v_threshold)
        return (spikes,), (v * (1 - spikes),)


class Subclassed(Steps):
    def __init__(self):
        super().__init__()
        self.a, self.b = Own(), Own()


def draw(net: nn.Module, seed: int = 0) -> nn.Module:
    """Weights on a grid of 1/8."""
    g = torch.Generator().manual_seed(seed)
    for m in net.modules():
        if isinstance(m, nn.Conv2d | nn.Linear):
            m.weight.data = torch.randint(-3, 4, m.weight.shape, generator=g) / 8
            m.bias.data = torch.randint(-2, 3, m.bias.shape, generator=g) / 8
    return net


@pytest.mark.parametrize("kind", [Steps, Multi, Written, Subclassed])
def test_hand_written_neurons_give_the_module_s_spikes(kind):
    net = draw(kind())
    imported = from_spikingjelly(net, (2, 4, 4), None if kind is Written else STEPS, input_bits=2,
                                 input_scale=1.0)
    assert imported.notes == () and imported.network.timesteps == STEPS
    expected = Neuron(128, "soft") if kind is Multi else Neuron(128, "hard", 0)
    assert [a.neuron for a in imported.network.layers[:2]] == [expected] * 2
    x = torch.randint(0, 4, (6, 2, 4, 4), generator=torch.Generator().manual_seed(1))
    theirs, ours = {}, {}
    logits = run_module(net, x, imported, theirs)
    found = IntegerNetwork(imported.network)(x, ours).double()
    assert torch.equal(torch.stack(list(theirs.values())[1:]).flatten(3),
                       ours[list(theirs)[1]].double()[None].flatten(3))
    assert 0.05 < float(ours[next(iter(theirs))].double().mean()) < 0.95
    assert torch.allclose(found / found.abs().max(), logits / logits.abs().max(), atol=1e-12)


class Adaptive(Steps):
    """A threshold that follows the input is no neuron of ours."""

    def forward(self, x: Tensor) -> Tensor:
        mem = 0
        for _ in range(STEPS):
            mem = 0.5 * mem + self.conv(x)
            spikes = (mem > mem.mean()).float()
        return self.head(self.fc(torch.max_pool2d(spikes, 2).flatten(1)))


class Forgetful(Steps):
    """Its membrane goes on after a spike."""

    def forward(self, x: Tensor) -> Tensor:
        mem, out = 0, 0
        for _ in range(STEPS):
            mem = 0.5 * mem + self.conv(x)
            out = out + self.fc(torch.max_pool2d((mem > 1.0).float(), 2).flatten(1))
        return self.head(out)


@pytest.mark.parametrize(("net", "message"), [
    (Adaptive, r"gt at test_imports_neurons.py:\d+\): compares two values that both depend"),
    (Forgetful, r"gt at test_imports_neurons.py:\d+\): does not reset when it fires"),
])
def test_what_is_no_neuron_is_refused_at_its_line(net, message):
    with pytest.raises(SpikeTicketError, match=message):
        from_spikingjelly(draw(net()), (2, 4, 4), STEPS)


@pytest.mark.parametrize("node", [
    neuron.IFNode(), neuron.IFNode(0.5, None), neuron.LIFNode(3.0), neuron.LIFNode(2.0, False),
    neuron.ParametricLIFNode(4.0), neuron.LIFNode(2.0, True, 1.0, -0.5)])
@pytest.mark.parametrize("mode", "sm")
def test_stated_rules_are_kept(node, mode):
    node.step_mode = mode
    rule = stated_rule(node.double(), (3, 4, 5), "neuron")
    assert rule is not None and not rule.strict
    if isinstance(node, neuron.LIFNode):
        assert rule.decay == pytest.approx(1 - 1 / node.tau)


def test_a_neuron_that_does_something_else_does_not_keep_its_rule():
    assert stated_rule(Own(), (3, 4), "neuron") is None
    assert stated_rule(neuron.KLIFNode(), (3, 4), "neuron") is None


@pytest.mark.parametrize("mode", ["count", "static", "input"])
def test_gates_are_read_from_our_own_networks(mode):
    torch.manual_seed(0)
    net = nets.build(nets.NetConfig("spikeformer-1-32-2@8-16p-32p", (1, 8, 8), 3, 2, 0.5))
    for m in net.modules():
        if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d):
            m.running_var.fill_(0.05)
            m.bias.data.uniform_(-0.2, 1.0)
    net.token_gate = TokenGate(mode, 2, (2, 2), units=1 / 255)
    net.stem.register_forward_hook(net.token_gate.behind)
    if mode == "input":
        net.register_forward_pre_hook(lambda m, args: m.token_gate.zero(args[0][None])[0])
    imported = from_spikingjelly(net, (1, 8, 8), bits=8)    # compares layer by layer
    (found,) = imported.network.gates.values()
    assert (found.mode, found.keep, found.grid) == (mode, 2, (2, 2))
    assert imported.network.shapes()["kept.stem.rpe.node"].tokens == 2


def test_event_networks_are_batch_first():
    net = nets.build(nets.NetConfig("8p-f6", input=(1, 6, 6), classes=4, timesteps=3,
                                    theta=0.2))
    imported = from_spikingjelly(net, (1, 6, 6), 3, static=False, input_bits=2, bits=8)
    assert [a.neuron is None for a in imported.network.layers] == [False, False, True]


def reading(weight: float = 1.0):
    """A read network of two neuron layers, and its import."""
    torch.manual_seed(0)
    net = nn.Sequential(layer.Conv2d(2, 4, 3, padding=1), neuron.LIFNode(v_threshold=0.5),
                        layer.Flatten(), layer.Linear(64, 6), neuron.IFNode(), layer.Linear(6, 3))
    net[3].weight.data *= weight
    functional.set_step_mode(net, "m")
    spec = InputSpec(2, 4, 4)
    found = read_module(net, spec, STEPS, 8, 1 / 255)
    return found, lambda layers: build(layers, spec, STEPS, input_scale=1 / 255)


def test_the_check_finds_a_wrong_layer_even_where_inputs_do_not_reach_it():
    found, made = reading(weight=1e-2)      # the second layer is silent on any input
    selfcheck.check(found, made(found.layers))
    first, second, last = found.layers
    wrong = replace(second, bias=second.bias + 1.0)
    with pytest.raises(SpikeTicketError, match=r"layer '4': .* of the spikes .* are not its own"):
        selfcheck.check(found, made([first, wrong, last]))
    slow = replace(first, neuron=replace(first.neuron, decay=0.75))
    with pytest.raises(SpikeTicketError, match=r"layer '1': .* are not its own"):
        selfcheck.check(found, made([slow, second, last]))
    with pytest.raises(SpikeTicketError, match="the imported readout gives other outputs"):
        selfcheck.check(found, made([first, second, replace(last, bias=last.bias + 0.1)]))


def test_layers_that_cannot_work_are_noted():
    found, made = reading(weight=1e-4)
    notes = selfcheck.check(found, made(found.layers))
    assert notes == (("layer '4' never fires, whatever spikes come in: its threshold is out of its "
                     "weights' reach"),)
    samples = np.zeros((3, 2, 4, 4), np.uint8)
    assert selfcheck.check(found, made(found.layers), samples) == notes
