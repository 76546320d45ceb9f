"""The integer SpikingJelly network: its neuron against SpikingJelly's, its layers against loops."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import neuron

from sw.errors import SpikeTicketError
from sw.imports import from_spikingjelly
from sw.integer import reference
from sw.integer import spikingjelly as integer
from sw.integer.network import InputSpec, Layer, Network, Neuron, Pool, Synapses
from sw.integer.spikingjelly import IntegerLIFNode, IntegerNetwork
from sw.integer.trainee import IntegerLIF, NetworkTrainee
from sw.nets import NetConfig, SpikingVGG, build
from sw.nets.neurons import lif

# -- the neuron ---------------------------------------------------------------------------------


def run_node(currents, **kwargs):
    node = IntegerLIFNode(**kwargs)
    x = torch.tensor(currents).view(-1, 1, 1)
    return node(x).flatten().tolist(), int(node.v)


@pytest.mark.parametrize("v_reset", [0.0, None, -3.0])
def test_if_neuron_equals_spikingjelly(v_reset):
    x = torch.randint(-9, 15, (16, 4, 6), generator=torch.Generator().manual_seed(0))
    theirs = neuron.IFNode(v_threshold=10.0, v_reset=v_reset, step_mode="m")
    ours = IntegerLIFNode(256, 10, None if v_reset is None else int(v_reset))
    assert torch.equal(theirs(x.double()).long(), ours(x))
    assert torch.equal(theirs.v.long(), ours.v)


@pytest.mark.parametrize("v_reset", [0.0, None])
@pytest.mark.parametrize("tau, leak", [(2.0, 128), (4.0, 192), (4 / 3, 64)])
def test_lif_neuron_equals_spikingjelly_where_nothing_is_rounded(tau, leak, v_reset):
    # In units of 4^8 every membrane of eight timesteps is an integer.
    unit, steps = 4 ** 8, 8
    x = torch.randint(-9, 15, (steps, 4, 6), generator=torch.Generator().manual_seed(1)) * unit
    theirs = neuron.LIFNode(tau=tau, decay_input=False, v_threshold=10.0 * unit, v_reset=v_reset,
                            step_mode="m")
    ours = IntegerLIFNode(leak, 10 * unit, None if v_reset is None else 0)
    spikes = ours(x)
    assert 0 < spikes.sum() < spikes.numel()
    assert torch.equal(theirs(x.double()).long(), spikes)
    assert torch.equal(theirs.v.long(), ours.v)


def test_fires_at_the_threshold_and_not_below():
    assert run_node([9, 1, 10], threshold=10) == ([0, 1, 1], 0)
    assert run_node([9], threshold=10) == ([0], 9)


def test_negative_membranes_are_floored():
    # floor(-1 / 2) = -1: a leak never brings a negative membrane to 0, as a shift does not
    assert run_node([-1, 0, 0], leak=128, threshold=10) == ([0, 0, 0], -1)
    assert run_node([-3, 0], leak=128, threshold=10)[1] == -2
    assert run_node([3, 0], leak=128, threshold=10)[1] == 1
    assert run_node([-1, 0], leak=1, threshold=10)[1] == -1
    assert run_node([5, 3], leak=0, threshold=10)[1] == 3


def test_soft_reset_keeps_the_excess():
    assert run_node([25, 0, 0], threshold=10, v_reset=None) == ([1, 1, 0], 5)


def test_hard_reset_value_is_also_the_first_membrane():
    assert run_node([4, 30], threshold=10, v_reset=6) == ([1, 1], 6)
    assert run_node([0], leak=128, threshold=10, v_reset=-5)[1] == -3


def test_thresholds_may_be_zero_or_negative():
    assert run_node([0, -1, -4], threshold=0, v_reset=0) == ([1, 0, 0], -5)
    assert run_node([-4], threshold=-4, v_reset=0) == ([1], 0)


def test_thresholds_by_channel_and_step_mode():
    node = IntegerLIFNode(256, torch.tensor([1, 2, 3]), step_mode="s")
    x = torch.full((1, 3, 2, 2), 2)
    assert node(x).sum((0, 2, 3)).tolist() == [4, 4, 0]
    assert node.v.amax((0, 2, 3)).tolist() == [0, 0, 2]
    multi = IntegerLIFNode(256, torch.tensor([1, 2, 3]), store_v_seq=True)
    multi(x.expand(3, *x.shape))
    assert multi.v_seq[:, 0, 2, 0, 0].tolist() == [2, 0, 2]


def test_node_is_spikingjelly_and_names_bad_values():
    assert isinstance(IntegerLIFNode(), neuron.BaseNode)
    assert "leak=128/256" in repr(IntegerLIFNode(128))
    assert "soft" in repr(IntegerLIFNode(128, v_reset=None))
    with pytest.raises(SpikeTicketError, match="leak 257"):
        IntegerLIFNode(257)
    with pytest.raises(SpikeTicketError, match=r"\[1, 2\] is not \[C\]"):
        IntegerLIFNode(256, torch.zeros(1, 2))
    with pytest.raises(SpikeTicketError, match="float32 currents"):
        IntegerLIFNode()(torch.zeros(2, 1))


# -- the network --------------------------------------------------------------------------------


def random_network(seed: int, static: bool) -> Network:
    """Every feature once: residuals before and after the neuron, all pools, strides, resets."""
    rng = np.random.default_rng(seed)

    def weight(shape, bits=4):
        if bits == 1:
            return rng.integers(-1, 2, shape).astype(np.int8)
        return (rng.integers(-(1 << bits - 1), 1 << bits - 1, shape)
                * (rng.random(shape) < 0.5)).astype(np.int8)

    def layer(name, synapses, neuron_, pool=None, theta=(3, 30)):
        n = synapses[0].weight.shape[0]
        return Layer(name, synapses, rng.integers(-4, 9, n), rng.integers(*theta, n), neuron_, pool)

    layers = (
        layer("a", (Synapses(weight((4, 2, 3, 3)), padding=1),), Neuron(128), Pool("or", 2),
              (200, 900)),
        layer("b", (Synapses(weight((4, 4, 3, 3), 2), ("a",), padding=1, bits=2),
                    Synapses(weight((4, 4, 1, 1), 1), ("a",), bits=1)), Neuron(256, "soft"),
              None, (1, 9)),
        layer("c", (Synapses(weight((4, 4, 2, 3)), ("a", "b"), padding=1),), Neuron(77, "hard", -2),
              Pool("max", (2, 1))),
        layer("d", (Synapses(weight((6, 4, 1, 1), 8), ("a",), sum_pool=2, bits=8),),
              Neuron(200, "hard", 5), None, (6, 90)),
        layer("e", (Synapses(weight((6, 4, 3, 3)), ("b",), (2, 1), (1, 0)),), Neuron(0)),
        Layer("out", (Synapses(weight((3, 6, 3, 3)), ("e",)),), rng.integers(-4, 9, 3),
              np.zeros(3, np.int64), None),
    )
    return Network(InputSpec(2, 11, 10, 8, static), 5, layers)


def by_loops(network: Network, x: np.ndarray):
    """One image through the network, a scalar at a time. x: [T, C, H, W]."""
    maps = {"input": x.astype(int)}
    for layer in network.layers:
        currents = None
        for syn in layer.synapses:
            total = sum(maps[name] for name in syn.sources)
            a, b = syn.sum_pool
            steps, channels, height, width = total.shape
            operand = np.zeros((steps, channels, height // a, width // b), int)
            for i in range(height // a):
                for j in range(width // b):
                    operand[:, :, i, j] = total[:, :, i * a:i * a + a, j * b:j * b + b].sum((2, 3))
            (top, left), (down, right) = syn.padding, syn.stride
            padded = np.pad(operand, ((0, 0), (0, 0), (top, top), (left, left)))
            w = syn.weight.astype(int)
            out_h = (padded.shape[2] - w.shape[2]) // down + 1
            out_w = (padded.shape[3] - w.shape[3]) // right + 1
            part = np.zeros((steps, len(w), out_h, out_w), int)
            for o in range(len(w)):
                for i in range(out_h):
                    for j in range(out_w):
                        y, z = i * down, j * right
                        window = padded[:, :, y:y + w.shape[2], z:z + w.shape[3]]
                        part[:, o, i, j] = (window * w[o]).sum((1, 2, 3))
            currents = part if currents is None else currents + part
        currents = currents + layer.bias[:, None, None]
        if layer.neuron is None:
            return maps, currents.sum((0, 2, 3))
        a, b = layer.pool.size if layer.pool else (1, 1)

        def pooled(y, a=a, b=b):
            h, w = y.shape[2] // a, y.shape[3] // b
            return np.stack([[[[c[i * a:i * a + a, j * b:j * b + b].max() for j in range(w)]
                               for i in range(h)] for c in frame] for frame in y])
        if layer.pool and layer.pool.mode == "max":
            currents = pooled(currents)
        spikes = np.zeros_like(currents)
        v = np.full(currents.shape[1:], layer.neuron.v_reset)
        theta = layer.threshold[:, None, None]
        for t, current in enumerate(currents):
            v = np.floor(v * layer.neuron.leak / 256).astype(int) + current
            spikes[t] = v >= theta
            soft = layer.neuron.reset == "soft"
            v = np.where(spikes[t] == 1, v - theta if soft else layer.neuron.v_reset, v)
        if layer.pool and layer.pool.mode == "or":
            spikes = pooled(spikes)
        maps[layer.name] = spikes
    raise AssertionError("no readout")


@pytest.mark.parametrize("static", [True, False])
def test_network_equals_loops_and_the_reference(static):
    network = random_network(7, static)
    rng = np.random.default_rng(8)
    shape = (2, 2, 11, 10) if static else (2, 5, 2, 11, 10)
    x = rng.integers(0, 256, shape, np.uint8)
    tensor = torch.from_numpy(x)
    spikes: dict[str, torch.Tensor] = {}
    logits = IntegerNetwork(network)(tensor if static else tensor.transpose(0, 1), spikes)
    assert logits.dtype == torch.int64
    expected = reference.run(network, x)
    assert np.array_equal(logits.numpy(), expected.logits)
    for b in range(2):
        maps, by_hand = by_loops(network, np.stack([x[b]] * 5) if static else x[b])
        assert logits[b].tolist() == by_hand.tolist()
        for name, s in spikes.items():
            assert s.dtype == torch.uint8
            assert np.array_equal(s[:, b].numpy(), maps[name]), name
            assert np.array_equal(s.numpy(), expected.spikes[name]), name
            assert 0 < s.float().mean() < 1, name


def test_a_readout_of_the_static_input_counts_every_timestep():
    network = Network(InputSpec(1, 2, 2), 3, (
        Layer("out", (Synapses(np.full((1, 1, 1, 1), 2, np.int8)),), np.ones(1, np.int64),
              np.zeros(1, np.int64), None),))
    assert IntegerNetwork(network)(torch.full((1, 1, 2, 2), 5)).tolist() == [[3 * 4 * 11]]


def test_large_currents_stay_exact():
    # 255 * 127 * 4608 is above 2^24: float32 would lose the last unit.
    weight = np.full((1, 512, 3, 3), 127, np.int8)
    weight[0, 0, 0, 0] = 126
    network = Network(InputSpec(512, 3, 3), 1, (
        Layer("out", (Synapses(weight, bits=8),), np.zeros(1, np.int64), np.zeros(1, np.int64),
              None),))
    x = torch.full((1, 512, 3, 3), 255, dtype=torch.uint8)
    assert IntegerNetwork(network)(x).item() == 255 * (127 * 4608 - 1)


@pytest.mark.parametrize("x, message", [
    (torch.zeros(1, 2, 11, 9, dtype=torch.uint8), r"\[1, 2, 11, 9\] is not \[B, 2, 11, 10\]"),
    (torch.zeros(1, 2, 11, 10), "float32; give integers"),
    (torch.full((1, 2, 11, 10), 256), "0..255"),
    (torch.full((1, 2, 11, 10), -1), "spans -1"),
])
def test_inputs_are_checked(x, message):
    with pytest.raises(SpikeTicketError, match=message):
        IntegerNetwork(random_network(0, True))(x)


def test_sequences_are_checked():
    with pytest.raises(SpikeTicketError, match="T = 5"):
        IntegerNetwork(random_network(0, False))(torch.zeros(4, 1, 2, 11, 10, dtype=torch.uint8))


def test_evaluate_counts_labels_and_activity():
    network = random_network(7, True)
    x = np.random.default_rng(9).integers(0, 256, (7, 2, 11, 10), np.uint8)
    labels = IntegerNetwork(network)(torch.from_numpy(x)).argmax(1).numpy()
    labels[:2] = (labels[:2] + 1) % 3
    seen = []
    accuracy, activity = integer.evaluate(network, x, labels, batch=3, progress=seen.append)
    assert accuracy == pytest.approx(5 / 7) and seen == [3, 3, 1]
    spikes: dict[str, torch.Tensor] = {}
    IntegerNetwork(network)(torch.from_numpy(x), spikes)
    for name, s in spikes.items():
        assert activity[name]["spike_rate"] == pytest.approx(s.float().mean().item())
        assert activity[name]["active"] == pytest.approx(s.amax(0).float().mean().item())
    events = random_network(7, False)
    frames = np.random.default_rng(9).integers(0, 256, (3, 5, 2, 11, 10), np.uint8)
    run = reference.run(events, frames)
    assert integer.evaluate(events, frames, run.labels, batch=2)[0] == 1.0


# -- the network in training --------------------------------------------------------------------


def trained_cnn(model: str, shape: tuple[int, int, int], classes: int) -> SpikingVGG:
    """A network with running statistics; some batch norms have negative scales."""
    torch.manual_seed(0)
    net = build(NetConfig(model, shape, classes, decay=0.5))
    for block in net.convs:
        torch.nn.init.normal_(block.norm.weight, 0.6, 0.6)
        torch.nn.init.normal_(block.norm.bias, 0.4, 0.3)
        block.norm.momentum = None
    with torch.no_grad():
        net(torch.randint(0, 256, (16, *shape)) / 255)
    return net.eval()


LAYERS = ("convs.0.node", "convs.1.node", "convs.2.node", "readout")


def weights_of(net: SpikingVGG) -> list[torch.Tensor]:
    return [m.weight for m in net.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]


def trainee_of(net: SpikingVGG, masks: dict[str, torch.Tensor]) -> NetworkTrainee:
    imported = from_spikingjelly(net, net.config.input, 4, input_scale=1.0, check=False)
    return NetworkTrainee(imported.layers, imported.network.input, 4, masks)


def test_the_trained_forward_pass_is_the_integer_network():
    net = trained_cnn("8p-12-16p", (1, 13, 12), 4)
    images = torch.randint(0, 256, (16, 1, 13, 12), dtype=torch.uint8)
    masks = {name: torch.rand(w.shape) < 0.5 for name, w in
             zip(LAYERS, weights_of(net), strict=True)}
    trainee = trainee_of(net, masks)
    network = trainee.to_network("t", ("a", "b", "c", "d"))
    kept: dict[str, torch.Tensor] = {}
    spikes: dict[str, torch.Tensor] = {}
    logits = trainee.logits(trainee.prepare(images), kept)
    assert torch.equal(logits.long(), IntegerNetwork(network)(images, spikes))
    assert list(kept) == list(spikes) == list(LAYERS[:3])
    for name, theirs in spikes.items():
        assert torch.equal(kept[name].long(), theirs.long())
        assert 0 < kept[name].mean() < 1
    for (layer, syn), mask in zip(network.synapses(), masks.values(), strict=True):
        assert not syn.weight[~mask.numpy().reshape(syn.weight.shape)].any(), layer.name
        assert np.abs(syn.weight.astype(int)).max() == 7
    assert trainee.sparsity() == pytest.approx(network.sparsity)


def test_gradients_reach_surviving_weights_only():
    net = trained_cnn("6p-8", (1, 10, 10), 3)
    images = torch.randint(0, 256, (8, 1, 10, 10), dtype=torch.uint8)
    masks = {name: torch.rand(w.shape) < 0.5 for name, w in
             zip((*LAYERS[:2], "readout"), weights_of(net), strict=True)}
    trainee = trainee_of(net, masks)
    torch.nn.functional.cross_entropy(trainee(trainee.prepare(images)),
                                      torch.arange(8) % 3).backward()
    for layer, mask in zip(trainee.layers, masks.values(), strict=True):
        grad = layer.weights[0].grad.reshape(mask.shape)
        assert not grad[~mask].any() and grad[mask].any()
    assert all(layer.bias.grad.any() for layer in trainee.layers)


def test_integer_surrogate_equals_the_float_networks():
    """With integer currents and unit gain 1/theta both networks have the same gradients."""
    torch.manual_seed(2)
    theta = 16
    x = (torch.randint(-4, 10, (3, 2, 5, 4, 4)) * 4).double()
    a, b = x.clone().requires_grad_(), (x / theta).requires_grad_()
    grad = torch.randn_like(x)
    gain = torch.full((5,), 1 / theta, dtype=torch.float64)
    threshold = torch.full((5,), float(theta)).double()
    ours = IntegerLIF.apply(a, Neuron(leak=128), threshold, gain, None)
    theirs = lif(2.0)(b)
    (ours * grad).sum().backward()
    (theirs * grad).sum().backward()
    assert torch.equal(ours, theirs)
    assert torch.allclose(a.grad * theta, b.grad)


@pytest.mark.parametrize("make, message", [
    (lambda: InputSpec(0, 4, 4), "input channels 0 is outside 1.."),
    (lambda: InputSpec(1, 4.0, 4), "input height 4.0 is not a whole number"),
    (lambda: InputSpec(1, 4, "4"), "input width '4' is not a whole number"),
    (lambda: InputSpec(1, 4, 4, True), "input bits True is not a whole number"),
    (lambda: InputSpec(1, 4, 4, 8, 1), "static 1 is not True or False"),
    (lambda: Neuron(128.5), "leak 128.5 is not a whole number"),
    (lambda: Neuron(128, "hard", 1 << 40), "v_reset 1099511627776 is outside"),
    (lambda: Synapses(np.ones((1, 1, 1, 1), np.int8), bits=2.5), "weight bits 2.5 is not a whole"),
    (lambda: Synapses(np.ones((1, 1, 1, 1), np.int8), stride=(1, 2, 3)), r"stride .* not one"),
    (lambda: Synapses(np.ones((1, 1, 1, 1), np.int8), padding=-1), "padding -1 is outside 0.."),
    (lambda: replace(random_network(7, True), timesteps="4"), "timesteps '4' is not a whole"),
    (lambda: replace(random_network(7, True), timesteps=33), "timesteps 33 is outside 1..32"),
])
def test_numbers_of_a_network_are_checked(make, message):
    with pytest.raises(SpikeTicketError, match=message):
        make()


def test_numbers_of_numpy_are_taken():
    spec = InputSpec(*np.array([1, 4, 4]), bits=np.uint8(2))
    network = replace(random_network(7, True), timesteps=np.int64(5))
    assert type(spec.channels) is type(spec.bits) is type(network.timesteps) is int
