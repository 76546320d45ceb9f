"""Kinds of networks that once were refused, crashed, or came out wrong without a word."""

import copy
import math
import warnings

import nir
import numpy as np
import pytest
import torch
from spikingjelly.activation_based import ann2snn, functional, layer, neuron
from spikingjelly.activation_based.model.spikformer import Spikformer
from torch import nn
from torch.nn.utils import prune

from sw.errors import SpikeTicketError
from sw.imports import from_nir, from_spikingjelly
from sw.imports.zoo.all import entries
from sw.imports.zoo.check import imported_and_compared
from sw.imports.zoo.compare import compare
from sw.imports.zoo.entry import Entry
from sw.imports.zoo.settle import feed, inputs, scale, settled
from sw.integer.spikingjelly import IntegerNetwork

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = (2, 8, 8)


def assert_exact(make, shape=SHAPE, **given):
    """Imports; on whole numbers every spike and the logits are the module's."""
    entry = Entry("case", "", make, shape, **{"steps": "m", **given})
    imported, agreement = imported_and_compared(entry, None, whole=True)
    assert agreement.equal, (agreement, imported.notes)
    assert all(0 < rate < 1 for rate in agreement.rates.values()), agreement.rates
    return imported


# Blocks in a Sequential

class Block(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv, self.norm = layer.Conv2d(channels, channels, 3, padding=1), None
        self.norm = layer.BatchNorm2d(channels)
        self.fire = neuron.LIFNode(2.0, decay_input=False)

    def forward(self, x):
        return x + self.fire(self.norm(self.conv(x)))


@pytest.mark.parametrize("container", [nn.Sequential, nn.ModuleList])
def test_custom_blocks_in_containers(container):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(layer.Conv2d(2, 4, 3, padding=1), neuron.LIFNode(2.0))
            self.body = container([Block(4), Block(4)]) if container is nn.ModuleList \
                else container(Block(4), Block(4))
            self.head = nn.Sequential(layer.AdaptiveAvgPool2d(1), layer.Flatten(),
                                      layer.Linear(4, 5))

        def forward(self, x):
            x = self.stem(x)
            for block in self.body:
                x = block(x)
            return self.head(x)

    imported = assert_exact(Net)
    assert [a.name for a in imported.network.layers] == [
        "stem.1", "body.0.fire", "body.1.fire", "readout"]


# A forward function that reads its shape

def _plain(net, x):
    return net.fc(net.pool(net.fire(net.conv(x))).flatten(2))


def _view(net, x):
    y = net.pool(net.fire(net.conv(x)))
    return net.fc(y.view(y.shape[0], y.shape[1], -1))


def _size(net, x):
    y = net.pool(net.fire(net.conv(x)))
    return net.fc(y.reshape(y.size(0), y.size(1), -1))


def _ndim(net, x):
    if x.ndim == 4:
        x = x.unsqueeze(0).repeat(4, 1, 1, 1, 1)
    return _plain(net, x)


def _unpacked(net, x):
    _T, _B, _C, _H, _W = x.shape
    return _plain(net, x)


def _merged(net, x):
    T, B, _, H, W = x.shape
    y = nn.functional.conv2d(x.flatten(0, 1), net.conv.weight, net.conv.bias, padding=1)
    y = net.fire(y.reshape(T, B, 4, H, W)).flatten(0, 1)
    return net.fc(nn.functional.avg_pool2d(y, 2).flatten(1).reshape(T, B, -1))


def _counted(net, x):
    y = net.pool(net.fire(net.conv(x)))
    assert y.numel() and len(x) == x.size()[0] and x.dim() == 5
    return net.fc(torch.flatten(y, start_dim=y.ndim - 3))


class Shaped(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.conv, self.fire = layer.Conv2d(2, 4, 3, padding=1), neuron.LIFNode()
        self.pool, self.fc, self.body = layer.AvgPool2d(2), layer.Linear(64, 5), body

    def forward(self, x):
        return self.body(self, x)


@pytest.mark.parametrize("body", [_view, _size, _ndim, _unpacked, _merged, _counted])
def test_a_forward_that_reads_its_shape_is_the_one_that_does_not(body):
    found = assert_exact(lambda: Shaped(body)).network
    plain = assert_exact(lambda: Shaped(_plain)).network
    for ours, theirs in zip(found.layers, plain.layers, strict=True):
        assert np.array_equal(ours.synapses[0].weight, theirs.synapses[0].weight)
        assert np.array_equal(ours.bias, theirs.bias)
        assert np.array_equal(ours.threshold, theirs.threshold)
    assert found.shapes() == plain.shapes()


# An output beside something else

@pytest.mark.parametrize("beside", [lambda out, x: (out, None), lambda out, x: {"logits": out},
                                    lambda out, x: [out, 3, "aux"]])
def test_one_tensor_in_a_tuple_is_the_output(beside):
    class Beside(Shaped):
        def forward(self, x):
            return beside(super().forward(x), x)

    module = Beside(_plain)
    functional.set_step_mode(module, "m")
    network = from_spikingjelly(module, SHAPE, 4, bits=8).network
    plain = Shaped(_plain)
    plain.load_state_dict(module.state_dict())
    functional.set_step_mode(plain, "m")
    other = from_spikingjelly(plain, SHAPE, 4, bits=8).network
    assert all(np.array_equal(a.synapses[0].weight, b.synapses[0].weight)
               for a, b in zip(network.layers, other.layers, strict=True))


# Masks of torch.nn.utils.prune in place

def test_masks_of_torch_prune_are_taken_and_left_alone():
    torch.manual_seed(0)
    net = nn.Sequential(layer.Conv2d(2, 4, 3, padding=1), neuron.LIFNode(), layer.Flatten(),
                        layer.Linear(256, 5))
    functional.set_step_mode(net, "m")
    for k in (0, 3):
        prune.l1_unstructured(net[k], "weight", 0.5)
    net(torch.rand(4, 1, 2, 8, 8)).sum().backward()     # leaves tensors that cannot be deep-copied
    functional.reset_net(net)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = from_spikingjelly(net, SHAPE, 4, bits=8)
    kept = [int(net[k].weight_mask.sum()) for k in (0, 3)]
    total = sum(net[k].weight_mask.numel() for k in (0, 3))
    assert sum(kept) == total / 2
    # Rounding may add zeros, never weights: the mask is in the network.
    for a, k in zip(found.network.layers, (0, 3), strict=True):
        weight, mask = a.synapses[0].weight, net[k].weight_mask.numpy().astype(bool)
        assert not weight.reshape(mask.shape)[~mask].any()
    assert 0.5 <= found.network.sparsity < 0.55
    assert prune.is_pruned(net) and net.state_dict().keys() == before.keys()
    assert all(torch.equal(net.state_dict()[name], value) for name, value in before.items())
    for k in (0, 3):
        prune.remove(net[k], "weight")
    again = from_spikingjelly(net, SHAPE, 4, bits=8)
    assert all(np.array_equal(a.synapses[0].weight, b.synapses[0].weight)
               for a, b in zip(found.network.layers, again.network.layers, strict=True))


# Numbers that no neuron can have

@pytest.mark.parametrize("given, words", [
    ({"v_threshold": math.inf}, "v_threshold inf never fires; leave the neuron out"),
    ({"v_threshold": math.nan}, "v_threshold nan"),
    ({"v_reset": -math.inf}, "v_reset -inf"),
    ({"v_threshold": -math.inf}, "v_threshold -inf"),
    ({"v_reset": math.nan}, "v_reset nan"),
])
def test_numbers_that_are_not_finite_are_refused(given, words):
    net = nn.Sequential(layer.Flatten(), layer.Linear(128, 16), neuron.LIFNode(),
                        layer.Linear(16, 5), neuron.LIFNode(**given))
    functional.set_step_mode(net, "m")
    with pytest.raises(SpikeTicketError, match=words) as caught:
        from_spikingjelly(net, SHAPE, 4)
    assert "'4'" in str(caught.value) or " 4" in str(caught.value)      # its place


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_weights_that_are_not_finite_are_refused(value):
    net = nn.Sequential(layer.Flatten(), layer.Linear(128, 16), neuron.LIFNode(),
                        layer.Linear(16, 5))
    functional.set_step_mode(net, "m")
    net[1].weight.data[3, 5] = value
    with pytest.raises(SpikeTicketError, match=r"nan|inf|finite"):
        from_spikingjelly(net, SHAPE, 4)


# Subclasses with a forward of their own

def _spikformer(kind=Spikformer) -> nn.Module:
    return kind(T=4, in_channels=3, img_size_h=16, img_size_w=16, patch_size=4, num_classes=5,
                embed_dims=16, num_heads=2, depths=1)


class Negated(Spikformer):
    def forward(self, x):
        return -super().forward(x)


@pytest.mark.parametrize("kind", [Spikformer, Negated])
def test_a_subclass_is_not_taken_for_its_parent(kind):
    entry = Entry("case", "", lambda: _spikformer(kind), (3, 16, 16), feed="image")
    _, agreement = imported_and_compared(entry, None, whole=True)
    assert agreement.equal and agreement.labels == 1
    with pytest.raises(SpikeTicketError, match=r"timesteps 8.*4"):
        from_spikingjelly(settled(entry, whole=True), (3, 16, 16), timesteps=8)


class Late(neuron.LIFNode):
    """Fires what it would have fired one timestep before."""

    def multi_step_forward(self, x_seq):
        out = super().multi_step_forward(x_seq)
        return torch.cat((torch.zeros_like(out[:1]), out[:-1]))


def test_a_neuron_s_subclass_that_changes_the_rule_is_refused_by_name():
    net = nn.Sequential(layer.Flatten(), layer.Linear(128, 16), Late(), layer.Linear(16, 5))
    functional.set_step_mode(net, "m")
    with pytest.raises(SpikeTicketError, match="Late"):
        from_spikingjelly(net, SHAPE, 4)


# Linear things

def _conv(a=2, b=4, **given):
    return layer.Conv2d(a, b, 3, **{"padding": 1, **given})


def _head(features=64):
    return [layer.Flatten(), layer.Linear(features, 5)]


LIF = neuron.LIFNode
LINEAR = {
    "adaptive pool to 2x2 of 8x8": lambda: [
        _conv(), LIF(), layer.AdaptiveAvgPool2d((2, 2)), *_head(16)],
    "adaptive pool to 4x2 of 8x8": lambda: [
        _conv(), LIF(), layer.AdaptiveAvgPool2d((4, 2)), *_head(32)],
    "adaptive pool to its own size": lambda: [
        _conv(), LIF(), layer.AdaptiveAvgPool2d((8, 8)), *_head(256)],
    "conv, norm, average pool, neuron": lambda: [
        _conv(), layer.BatchNorm2d(4), layer.AvgPool2d(2), LIF(), *_head()],
    "depthwise, pointwise, neuron": lambda: [
        _conv(), LIF(), _conv(4, 4, groups=4), layer.Conv2d(4, 4, 1), LIF(), layer.AvgPool2d(2),
        *_head()],
    "zero padding": lambda: [
        nn.ZeroPad2d(1), _conv(padding=0), LIF(), layer.AvgPool2d(2), *_head()],
    "unequal zero padding": lambda: [
        nn.ZeroPad2d((1, 0, 2, 1)), _conv(padding=0), LIF(), *_head(4 * 9 * 7)],
    "max pool, ceil_mode, even map": lambda: [
        _conv(), LIF(), layer.MaxPool2d(2, ceil_mode=True), *_head()],
    "average pool 3, 2, 1 of spikes": lambda: [
        _conv(), LIF(), layer.AvgPool2d(3, 2, 1), _conv(4, 4), LIF(), *_head()],
    "stride (2, 1)": lambda: [
        layer.Conv2d(2, 4, 3, stride=(2, 1), padding=1), LIF(), *_head(128)],
    "pool (1, 2)": lambda: [_conv(), LIF(), layer.AvgPool2d((1, 2)), *_head(128)],
    "max pool (2, 1) of spikes": lambda: [
        _conv(), LIF(), layer.MaxPool2d((2, 1)), *_head(128)],
    "max pool on the input": lambda: [layer.MaxPool2d(2), _conv(), LIF(), *_head()],
    "two convolutions": lambda: [_conv(), _conv(4, 4), LIF(), *_head(256)],
    "linear on linear": lambda: [
        layer.Flatten(), layer.Linear(128, 8), layer.Linear(8, 12), LIF(), layer.Linear(12, 5)],
    "dilation": lambda: [_conv(dilation=2), LIF(), *_head(4 * 6 * 6)],
}


@pytest.mark.parametrize("name", LINEAR)
def test_what_is_linear_is_folded(name):
    assert_exact(lambda: nn.Sequential(*LINEAR[name]()), noisy="3, 2, 1" in name)


# Arguments

NET = [layer.Conv2d(2, 4, 3, padding=1), neuron.LIFNode(), layer.Flatten(), layer.Linear(256, 5)]


@pytest.mark.parametrize("given, words", [
    ({"input_shape": (8, 8)}, "input_shape"),
    ({"input_shape": (1, 2, 8, 8)}, "input_shape"),
    ({"input_shape": (2, 8, 0)}, "input_shape"),
    ({"input_shape": (2.0, 8, 8)}, "input_shape"),
    ({"input_shape": 8}, "input_shape"),
    ({"bits": 0}, "bits"),
    ({"bits": 9}, "bits"),
    ({"bits": 4.0}, "bits"),
    ({"bits": {"1": 4.5}}, "bits"),
    ({"bits": True}, "bits"),
    ({"input_bits": 0}, "bits"),
    ({"timesteps": 0}, "timesteps"),
    ({"timesteps": 4.0}, "timesteps"),
    ({"timesteps": "4"}, "timesteps"),
    ({"input_scale": 0.0}, "input_scale"),
    ({"input_scale": math.nan}, "input_scale"),
    ({"model": "state"}, "state dict"),
    ({"model": 3}, "a int; give a torch.nn.Module"),
    ({"model": nn.Linear}, "the class Linear; give an instance"),
])
def test_arguments_are_checked_by_name(given, words):
    net = nn.Sequential(*copy.deepcopy(NET))
    functional.set_step_mode(net, "m")
    arguments = {"model": net, "input_shape": SHAPE, "timesteps": 4, **given}
    if given.get("model") == "state":
        arguments["model"] = net.state_dict()
    with pytest.raises(SpikeTicketError, match=words) as caught:
        from_spikingjelly(**arguments)
    assert "\n" not in str(caught.value)


# snnTorch's resets

def _snntorch_graph(mechanism: str):
    snntorch = pytest.importorskip("snntorch")
    pytest.importorskip("nirtorch")
    from snntorch import utils
    from snntorch.export_nir import export_to_nir
    torch.manual_seed(0)

    def leaky(n: int, **given):
        return snntorch.Leaky(beta=torch.full((n,), 0.5), threshold=torch.full((n,), 1.0),
                              init_hidden=True, reset_mechanism=mechanism, **given)

    net = nn.Sequential(nn.Linear(16, 12), leaky(12), nn.Linear(12, 4), leaky(4, output=True))
    for m in net:
        if isinstance(m, nn.Linear):
            m.weight.data = torch.randint(-3, 4, m.weight.shape) * 0.25
            m.bias.data = torch.randint(-1, 3, m.bias.shape) * 0.25
    x = torch.randint(0, 2, (6, 16, 16))
    utils.reset(net)
    wanted = sum(net(step.float())[0] for step in x).detach()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")             # of nirtorch, by snnTorch's export
        return export_to_nir(net, torch.rand(1, 16), ignore_dims=[0]), x, wanted


@pytest.mark.parametrize("mechanism", ["zero", "subtract"])
def test_what_a_file_cannot_say_is_a_note(mechanism):
    graph, x, wanted = _snntorch_graph(mechanism)
    imported = from_nir(graph, timesteps=6, dialect_of="snntorch", input_bits=1)
    assert any("does not hold the reset" in n and "'zero'" in n for n in imported.notes)
    found = IntegerNetwork(imported.network)(x[..., None, None])
    assert torch.equal(found, wanted.long()) == (mechanism == "zero")


# ann2snn

def test_a_network_of_ann2snn():
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
                        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4 * 7 * 7, 10)).eval()
    data = [(torch.rand(8, 1, 14, 14), torch.zeros(8)) for _ in range(3)]
    recipe = ann2snn.RateCodingRecipe(dataloader=data, mode="Max")
    made = ann2snn.Converter(recipe).convert(ann)
    assert_exact(lambda: copy.deepcopy(made), (1, 14, 14), timesteps=16, feed="steps", steps="s")
    imported = from_spikingjelly(made, (1, 14, 14), 16, bits=8)
    entry = Entry("case", "", lambda: made, (1, 14, 14), timesteps=16, feed="steps")
    found = compare(entry, made.double(), imported.network, inputs(entry, False, 1),
                    scale(entry, False))
    assert found.mean > 0.95
    assert feed(entry, made, torch.rand(2, 1, 14, 14).double()).shape == (2, 10)


# A graph read in a dialect in which nothing can fire

def _counting_graph(path):
    """IF neurons as sinabs writes them: weights of order 1 for thresholds of 1, one count a step;
    in the words of NIR's specification each timestep adds 1e-4 of that."""
    rng = np.random.default_rng(0)
    n = np.ones(12, np.float32)
    graph = nir.NIRGraph(nodes={
        "input": nir.Input(np.array([8])),
        "a": nir.Affine(rng.normal(0, 0.5, (12, 8)).astype(np.float32), n * 0),
        "fire": nir.IF(r=n, v_threshold=n, v_reset=n * 0),
        "b": nir.Affine(rng.normal(0, 0.5, (3, 12)).astype(np.float32), np.zeros(3, np.float32)),
        "output": nir.Output(np.array([3]))},
        edges=[("input", "a"), ("a", "fire"), ("fire", "b"), ("b", "output")])
    nir.write(path, graph)
    return path


def test_a_layer_that_cannot_fire_is_named(tmp_path):
    path = _counting_graph(tmp_path / "counts.nir")
    notes = from_nir(path, timesteps=8, input_bits=2).notes
    assert any("fire" in note and "of threshold" in note and "dialect" in note for note in notes)
    notes = from_nir(path, timesteps=8, input_bits=2, dialect_of="sinabs").notes
    assert not any("of threshold" in note for note in notes)


# Samples in a line

class Lines(nn.Module):
    """[B, C, L] -> [B, 5], four timesteps in a loop."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(2, 6, 5, stride=2, padding=2), neuron.IFNode(), nn.MaxPool1d(2),
            nn.Conv1d(6, 8, 3, padding=1, bias=False), neuron.IFNode(v_reset=None), nn.Flatten(),
            nn.Linear(8 * 8, 5))
        for p in self.parameters():
            p.data = torch.randint(-3, 5, p.shape) / 4

    def forward(self, x):
        return sum(self.body(x) for _ in range(4))


def test_a_conv1d_takes_a_map_of_one_row():
    torch.manual_seed(3)
    net = Lines().double()
    imported = from_spikingjelly(net, (2, 1, 32), input_bits=2, input_scale=1 / 4)
    assert not imported.notes
    x = torch.randint(0, 4, (16, 2, 1, 32))
    wanted = []
    for image in x:
        functional.reset_net(net)
        wanted.append(net(image.movedim(1, 0).double() / 4))
    found, wanted = IntegerNetwork(imported.network)(x).double(), torch.cat(wanted).detach()
    torch.testing.assert_close(found / found.abs().max(), wanted / wanted.abs().max())


# What is named must be the cause

class Synaptic(nn.Module):
    """A current and a membrane, both of which decay."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(16, 12), nn.Linear(12, 4)

    def forward(self, x):
        current = membrane = torch.zeros(x.shape[1], 12, dtype=x.dtype)
        out = 0
        for step in x:
            current = current / 2 + self.a(step)
            membrane = membrane / 2 + current
            spikes = (membrane > 1).to(x.dtype)
            membrane = membrane - spikes
            out = out + self.b(spikes)
        return out


def test_a_hand_written_neuron_may_have_any_numbers():
    """What is subtracted is found to more digits than a current is checked to."""
    entry = next(e for e in entries() if e.name == "ten-lines")
    _, agreement = imported_and_compared(entry, None, whole=False)
    assert agreement.mean > 0.95, agreement


class Probabilities(Lines):
    def forward(self, x):
        return torch.softmax(super().forward(x), 1)


@pytest.mark.parametrize(("make", "shape", "words"), [
    (Synaptic, (16, 1, 1), "changes over time when its input does not, such as a synaptic current"),
    (Probabilities, (2, 1, 32), "no softmax at the end: the label is that of the largest sum")])
def test_the_cause_is_named(make, shape, words):
    with pytest.raises(SpikeTicketError, match=words):
        from_spikingjelly(make(), shape, 4)


def test_training_mode_is_noted(caplog):
    net = nn.Sequential(nn.Linear(16, 12), neuron.IFNode(), nn.Dropout(0.5), nn.Linear(12, 4))
    from_spikingjelly(net, (16, 1, 1), 4)
    assert "is in training mode; Dropout are read as in evaluation" in caplog.text
    caplog.clear()
    from_spikingjelly(net.eval(), (16, 1, 1), 4)
    assert "training" not in caplog.text
