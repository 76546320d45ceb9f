"""Spikeformers: float network, conversion, integer training, SpikingJelly's own modules."""

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import neuron
from torch import nn

from sw import ticket
from sw.errors import SpikeTicketError
from sw.integer import firing, quantize, reference, tokens
from sw.integer import spikingjelly as integer
from sw.integer.attention import ColumnAttention
from sw.integer.folding import Connection, ModuleAttention, ModuleLayer, fold
from sw.integer.gate import Gate, Select
from sw.integer.network import InputSpec, Layer, Pool
from sw.integer.quantize import convert
from sw.integer.spikingjelly import IntegerNetwork
from sw.integer.trainee import NetworkTrainee
from sw.nets.spikeformer_layers import float_layers, to_network, trainee
from sw.nets.spikeformer_model import Spikeformer, SpikeformerConfig

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {"stem": "8m-16p-16", "heads": 2, "mlp_ratio": 2, "input": (2, 16, 16), "timesteps": 3,
         "classes": 3}


def small(seed=0, **changes) -> Spikeformer:
    """A small Spikeformer whose batch norms (some scales negative) have seen data."""
    torch.manual_seed(seed)
    model = Spikeformer(SpikeformerConfig(**{**SMALL, **changes}))
    for m in model.modules():
        if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) and m.affine:
            nn.init.normal_(m.weight, 0.8, 0.5)
            nn.init.normal_(m.bias, 0.5, 0.3)
    x = images(model, 9)
    model.train()(model.prepare(x), host_tokens(model, len(x)))
    return model.eval()


def images(model, seed, batch=5):
    c = model.config
    shape = (batch, *c.input) if c.static else (batch, c.timesteps, *c.input)
    g = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256 if c.static else 4, shape, dtype=torch.uint8, generator=g)


def host_masks(model, batch):
    if model.config.gate != "host":
        return None
    g = torch.Generator().manual_seed(5)
    return torch.rand((batch, model.config.tokens), generator=g).argsort(1) < model.config.keep


def host_tokens(model, batch):
    masks = host_masks(model, batch)
    return None if masks is None else tokens.mask_tokens(masks, model.config.keep)


# -- the float network ---------------------------------------------------------------------------


def plain_forward(model, x, kept=None):
    """The network step by step: no merged axes, SpikingJelly's single-step neurons."""
    c = model.config

    def fire(currents, theta):
        node = neuron.LIFNode(c.tau, decay_input=False, v_threshold=theta, v_reset=0.0)
        return [node(x) for x in currents]

    def block(b, xs):
        currents = [b.norm(b.conv(x)) for x in xs]
        if b.pool and b.pool.mode == "max":
            currents = [F.max_pool2d(x, 3, 2, 1) for x in currents]
        spikes = fire(currents, c.theta)
        return [F.max_pool2d(x, 2) for x in spikes] if b.pool and b.pool.mode == "or" else spikes

    def dense(layer, xs):
        return fire([layer.norm(layer.fc(x).flatten(0, 1)).view(*x.shape[:2], -1) for x in xs],
                    c.theta)
    xs = [x] * c.timesteps if c.static else list(x.unbind(1))
    for b in model.stem.convs:
        xs = block(b, xs)
    xs = [(a + b).flatten(2).mT for a, b in zip(xs, block(model.stem.rpe, xs), strict=True)]
    if kept is not None:
        xs = [x.gather(1, kept[:, :, None].expand(-1, -1, x.shape[2])) for x in xs]
    for b in model.blocks:
        q, k, v = (dense(layer, xs) for layer in (b.q, b.k, b.v))
        currents = []
        for t in range(c.timesteps):
            heads = [0.125 * (qh @ kh.mT) @ vh for qh, kh, vh in zip(
                *(m[t].chunk(c.heads, 2) for m in (q, k, v)), strict=True)]
            currents.append(torch.cat(heads, 2))
        xs = [x + a for x, a in zip(xs, dense(b.proj, fire(currents, 0.5 * c.theta)), strict=True)]
        xs = [x + a for x, a in zip(xs, dense(b.fc2, dense(b.fc1, xs)), strict=True)]
    return torch.stack([model.head(x.mean(1)) for x in xs]).mean(0)


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("gate, keep", [(None, None), ("count", 5)])
def test_forward_equals_the_network_step_by_step(static, gate, keep):
    model = small(static=static, gate=gate, keep=keep)
    x = model.prepare(images(model, 1))
    with torch.no_grad():
        kept = model.choose(x) if gate else None
        expected = plain_forward(model, x, kept)
        assert torch.allclose(model(x), expected, atol=1e-5)
        assert torch.allclose(model(x, kept), expected, atol=1e-5)
    assert expected.std(0).max() > 1e-3


def test_embedding_and_encoding_are_the_two_halves():
    model = small()
    x = model.prepare(images(model, 2))
    with torch.no_grad():
        embedded = model.embed(x)
        assert embedded.shape == (3, 5, 16, 16) and set(embedded.unique().tolist()) <= {0, 1, 2}
        assert torch.equal(model.encode(embedded), model(x))
        some = tokens.take(embedded, torch.tensor([[0, 3]] * 5))
        assert model.encode(some).shape == (5, 3)


@pytest.mark.parametrize("gate", ["static", "host", "count", "input"])
def test_gates_choose_as_their_rules_say(gate):
    model = small(gate=gate, keep=6)
    images_ = images(model, 3)
    x = model.prepare(images_)
    if gate == "host":
        with pytest.raises(SpikeTicketError, match="give `kept`"):
            model(x)
        return
    if gate == "static":
        mask = torch.zeros(16, dtype=torch.bool)
        mask[[0, 2, 3, 8, 14, 15]] = True
        model.set_mask(mask)
        assert model.choose(x).tolist() == [[0, 2, 3, 8, 14, 15]] * 5
        with pytest.raises(SpikeTicketError, match="keeps 6 of 16"):
            model.set_mask(~mask)
        return
    chosen = model.choose(x)
    if gate == "count":
        scores = model.embed(x).sum((0, 2))
    else:
        scores = images_.long().view(5, 2, 4, 4, 4, 4).sum((1, 3, 5)).flatten(1)
    for row, kept in zip(scores.tolist(), chosen.tolist(), strict=True):
        assert kept == sorted(sorted(range(16), key=lambda n: (-row[n], n))[:6])


def test_gradients_reach_every_weight_through_the_gate():
    model = small(gate="count", keep=5).train()
    model(model.prepare(images(model, 4))).square().sum().backward()
    for name, w in model.weights().items():
        assert w.grad is not None and w.grad.abs().sum() > 0, name


def test_weights_carry_the_layers_names():
    model = small(blocks=1)
    assert list(model.weights()) == [
        "stem1", "stem2", "stem3", "rpe", *(f"block1.{n}" for n in (
            "q", "k", "v", "proj", "fc1", "fc2")), "head"]
    assert list(model.stem_weights()) == ["stem1", "stem2", "stem3", "rpe"]
    names = [layer.name for layer in to_network(model).layers if layer.synapses]
    assert names == list(model.weights())


def test_another_neuron_may_be_given():
    config = SpikeformerConfig(**SMALL)
    model = Spikeformer(config, lambda theta: neuron.IFNode(theta, step_mode="m"))
    assert not any(isinstance(m, neuron.LIFNode) for m in model.modules())
    assert model(model.prepare(images(model, 5))).shape == (5, 3)


@pytest.mark.parametrize("changes, message", [
    ({"stem": "8x-16"}, "'8x' is not channels"),
    ({"stem": "8pp-16"}, "'8pp' is not channels"),
    ({"stem": "8-p"}, "'p' is not channels"),
    ({"heads": 3}, "16 channels do not divide into 3 heads"),
    ({"heads": 4}, "heads of 4 channels are outside 8..64"),
    ({"stem": "8-16", "input": (2, 32, 32)}, "1024 tokens; 256 are the most"),
    ({"stem": "8p-8p-8p-8p-16p"}, "leave nothing of 16x16"),
    ({"gate": "best", "keep": 3}, "gate 'best'"),
    ({"gate": "count"}, "give both or neither"),
    ({"gate": "count", "keep": 0}, "keep 0 is outside 1..16"),
    ({"gate": "count", "keep": 17}, "keep 17 is outside 1..16"),
    ({"gate": "input", "keep": 3, "input": (2, 17, 16)}, "17x16 pixels do not divide into 4x4"),
    ({"timesteps": 33}, "timesteps 33"), ({"tau": 1.0}, "tau 1.0"), ({"theta": 0.0}, "theta 0.0"),
    ({"classes": 1}, "classes 1"), ({"blocks": 0}, "blocks 0"), ({"mlp_ratio": 0}, "mlp_ratio 0"),
    ({"input": (2, 0, 16)}, "input"),
])
def test_configurations_are_checked(changes, message):
    with pytest.raises(SpikeTicketError, match=message):
        SpikeformerConfig(**{**SMALL, **changes})


def test_a_configuration_survives_its_dictionary():
    config = SpikeformerConfig(**{**SMALL, "gate": "count", "keep": 3})
    assert SpikeformerConfig(**config.to_dict()) == config


def test_inputs_are_checked():
    with pytest.raises(SpikeTicketError, match=r"\[1, 2, 16, 15\] is not \[B, 2, 16, 16\]"):
        small()(torch.zeros(1, 2, 16, 15))


# -- conversion and integer training ---------------------------------------------------------------


@pytest.mark.parametrize("bits", [4, 1])
@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("gate, keep", [(None, None), ("static", 5), ("host", 3), ("count", 1),
                                        ("input", 7)])
def test_the_trainee_is_the_integer_network_spike_for_spike(gate, keep, static, bits):
    model = small(static=static, gate=gate, keep=keep)
    masks = {k: torch.rand(v.shape) < 0.5 for k, v in model.weights().items()}
    trained = trainee(model, masks, bits)
    network = trained.to_network("s", ("a", "b", "c"))
    x, host = images(model, 6), host_masks(model, 5)
    ours, theirs, kept = {}, {}, {}
    logits = trained.logits(trained.prepare(x), ours, host)
    exact = IntegerNetwork(network)(x if static else x.transpose(0, 1), theirs, host, kept)
    assert torch.equal(logits.long(), exact)
    for name, s in theirs.items():
        assert torch.equal(ours[name].long(), s.long()), name
    run = reference.run(network, x.numpy(), masks=None if host is None else host.numpy())
    assert np.array_equal(run.logits, exact.numpy())
    for name, s in theirs.items():
        assert np.array_equal(run.spikes[name], s.numpy()), name
    assert network.shapes()["block2.fc2"].tokens == (keep or 16)
    for layer, syn in network.synapses():
        assert not syn.weight[~masks[layer.name].reshape(syn.weight.shape).numpy()].any()
    loaded = ticket.from_bytes(ticket.to_bytes(network)).network
    again = reference.run(loaded, x.numpy(), masks=None if host is None else host.numpy())
    assert np.array_equal(again.logits, run.logits)


@pytest.mark.parametrize("leak, tau", [(128, 2.0), (253, 1 / (1 - 253 / 256))])
def test_the_trainee_decays_as_the_integers_do(leak, tau):
    model = small(tau=tau)
    trained = trainee(model, None, 4)
    network = trained.to_network()
    leaks = {layer.neuron.leak for layer in network.layers[:-1] if not layer.attention}
    assert leaks == {leak}
    x = images(model, 7)
    assert torch.equal(trained.logits(trained.prepare(x)).long(), IntegerNetwork(network)(x))


def test_integer_training_lowers_the_loss_and_keeps_the_mask():
    model = small(gate="count", keep=8, blocks=1)
    masks = {k: torch.rand(v.shape) < 0.6 for k, v in model.weights().items()}
    trained = trainee(model, masks, 4)
    x, y = trained.prepare(images(model, 8, 6)), torch.arange(6) % 3
    optimiser = torch.optim.Adam(trained.parameters(), 5e-3)
    losses = []
    for _ in range(10):
        optimiser.zero_grad()
        loss = F.cross_entropy(trained(x), y)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert min(losses[-3:]) < 0.95 * losses[0]
    dead = sum(int((~m).sum()) for m in masks.values()) / sum(m.numel() for m in masks.values())
    assert trained.sparsity() >= dead
    for layer, syn in trained.to_network().synapses():
        assert not syn.weight[~masks[layer.name].reshape(syn.weight.shape).numpy()].any()


def test_trainee_and_conversion_agree():
    model = small()
    direct, trained = to_network(model, 4), trainee(model, None, 4).to_network()
    for a, b in zip(direct.layers, trained.layers, strict=True):
        assert np.array_equal(a.threshold, b.threshold) and np.array_equal(a.bias, b.bias)
        for s, t in zip(a.synapses, b.synapses, strict=True):
            # float32 may round a half the other way
            assert np.abs(s.weight.astype(int) - t.weight).max(initial=0) <= 1
            assert (s.weight != t.weight).mean() < 0.01


def test_eight_bits_keep_most_decisions():
    model = small(seed=3)
    x = images(model, 10, 40)
    with torch.no_grad():
        expected = model(model.prepare(x)).argmax(1)
    got = IntegerNetwork(to_network(model, 8))(x).argmax(1)
    assert (got == expected).float().mean() > 0.7


def test_attention_folds_its_scale_into_the_threshold():
    model = small(blocks=1)
    layer = next(x for x in to_network(model).layers if x.name == "block1.attention")
    assert layer.threshold.tolist() == [4] * 16 and not layer.bias.any() and not layer.synapses
    assert (layer.attention.heads, layer.neuron.leak) == (2, 128)
    node = neuron.LIFNode(2.0, decay_input=True, v_threshold=0.5, step_mode="m")
    layers = float_layers(model)
    i = next(i for i, x in enumerate(layers) if isinstance(x, ModuleAttention))
    layers[i] = ModuleAttention(layers[i].name, layers[i].attention, node, 0.25)
    spec = InputSpec(2, 16, 16)
    assert convert(fold(layers, spec), spec, 3).layers[i].threshold.tolist() == [4] * 16
    layers[i] = ModuleAttention(layers[i].name, layers[i].attention, node, 0.0)
    with pytest.raises(SpikeTicketError, match="must be above 0"):
        convert(fold(layers, spec), spec, 3)


def test_the_leak_of_attention_is_that_of_small_counts():
    """lambda = 1/2 stays, as the floor loses nothing there; 0.99 of a few counts is all of them."""
    for decay, leak in ((0.5, 128), (0.99, 256), (0.25, 64)):
        network = to_network(small(blocks=1, tau=1 / (1 - decay)))
        assert [x.neuron.leak for x in network.layers if getattr(x, "attention", None)] == [leak]
    for threshold in (2, 4, 8, 100, 1 << 20):
        assert firing.coarse_leak(128, threshold) == 128
        assert firing.coarse_leak(256, threshold) == 256
    assert abs(firing.coarse_leak(253, 1 << 20) - 253) <= 1


def test_the_gate_stands_where_it_chooses():
    for gate, index in (("count", 4), ("host", 4), ("static", 4), ("input", 0)):
        layers = to_network(small(gate=gate, keep=5)).layers
        assert [i for i, x in enumerate(layers) if isinstance(x, Gate)] == [index]
        assert [x.source for x in layers if isinstance(x, Select)] == ["stem3", "rpe"]


def test_masks_and_widths_need_known_names():
    model = small(blocks=1)
    with pytest.raises(SpikeTicketError, match=r"masks for block9\.q, which are no layers"):
        trainee(model, {"block9.q": torch.ones(1)})
    with pytest.raises(SpikeTicketError, match="weights of layer 'stem2'"):
        to_network(model, {"stem1": 8})
    mixed = dict.fromkeys(model.weights(), 1) | {"stem1": 8, "head": 4}
    widths = {layer.name: syn.bits for layer, syn in to_network(model, mixed).synapses()}
    assert widths == mixed


def test_column_attention_trains_and_converts_as_well():
    model = small(blocks=1)
    layers = float_layers(model)
    i = next(i for i, x in enumerate(layers) if isinstance(x, ModuleAttention))
    kind = ColumnAttention(*layers[i].attention.sources)
    layers[i] = ModuleAttention(layers[i].name, kind, neuron.LIFNode(2.0, False, 0.5), 0.125)
    trained = NetworkTrainee(fold(layers, InputSpec(2, 16, 16)), InputSpec(2, 16, 16), 3,
                             input_scale=1 / 255)
    x = images(model, 11)
    spikes = {}
    logits = trained.logits(trained.prepare(x), spikes)
    run = reference.run(trained.to_network(), x.numpy())
    assert np.array_equal(logits.detach().long().numpy(), run.logits)
    attended = run.spikes["block1.attention"]
    assert np.array_equal(spikes["block1.attention"].detach().numpy(), attended) and attended.any()
    logits.sum().backward()
    by_name = {layer.scaled.name: layer for layer in trained.layers}
    assert all(by_name[f"block1.{n}"].weights[0].grad.abs().sum() > 0 for n in "qkv")


def test_the_trainee_takes_any_float_layers():
    """Average pool, a 3x3 readout, soft reset and an IF neuron, as a CNN may have them."""
    torch.manual_seed(0)
    convs = [nn.Conv2d(2, 6, 3, padding=1, bias=False), nn.Conv2d(6, 5, 3, 2, 1),
             nn.Conv2d(5, 3, 3)]
    layers = [
        ModuleLayer("a", (Connection(convs[0], nn.BatchNorm2d(6).eval()),),
                   neuron.LIFNode(4.0, v_threshold=0.1, v_reset=None), Pool("or", 3, 2, 1)),
        ModuleLayer("b", (Connection(convs[1], None, ("a",)),), neuron.IFNode(0.3)),
        ModuleLayer("out", (Connection(convs[2], None, ("b",)),))]
    trained = NetworkTrainee(fold(layers, InputSpec(2, 14, 13)), InputSpec(2, 14, 13), 4,
                             input_scale=1 / 255)
    x = torch.randint(0, 256, (3, 2, 14, 13), dtype=torch.uint8)
    spikes, theirs = {}, {}
    logits = trained.logits(trained.prepare(x), spikes)
    assert torch.equal(logits.long(), IntegerNetwork(trained.to_network())(x, theirs))
    for name, s in theirs.items():
        assert torch.equal(spikes[name].long(), s.long()) and 0 < s.float().mean() < 1
    trained(trained.prepare(x)).sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in trained.parameters())
    assert integer.evaluate(trained.to_network(), x.numpy(), logits.argmax(1).numpy())[0] == 1.0


# -- SpikingJelly's own Spikformer -----------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("patch, size", [(4, 16), (16, 32)])
def test_spikingjellys_spikformer_converts_exactly(patch, size):
    """Weights and batch norms on a grid and IF neurons: quantisation loses nothing."""
    from spikingjelly.activation_based.model import spikformer

    from sw.nets.spikingjelly_spikformer import spikingjelly_layers
    g = torch.Generator().manual_seed(1)
    model = spikformer.Spikformer(
        T=3, in_channels=2, img_size_h=size, img_size_w=size, patch_size=patch, num_classes=3,
        embed_dims=32, num_heads=2, mlp_ratio=2.0, depths=2,
        spiking_neuron=partial(neuron.IFNode)).double().eval()
    for m in model.modules():
        if isinstance(m, nn.Conv1d | nn.Conv2d):
            shape = m.weight.shape
            w = torch.randint(-7, 8, shape, generator=g) * (torch.rand(shape, generator=g) < 0.4)
            w.view(len(w), -1)[:, 0] = 7
            m.weight.data = w.double() / 8
        if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d):
            n, m.eps = len(m.weight), 0.0
            m.running_var.fill_(1.0)
            m.weight.data = (torch.randint(0, 2, (n,), generator=g) * 2 - 1).double() / 2
            m.running_mean = torch.randint(-8, 9, (n,), generator=g).double() / 8
            m.bias.data = torch.randint(-4, 9, (n,), generator=g).double() / 8
    head = model.head
    head.weight.data = torch.randint(-7, 8, head.weight.shape, generator=g).double()
    head.weight.data[:, 0] = 7
    head.bias.data.fill_(2.0)
    caught = {}
    for name, m in model.named_modules():
        if isinstance(m, neuron.BaseNode):
            m.register_forward_hook(lambda _m, _i, out, name=name: caught.update({name: out}))
    x = torch.randint(0, 4, (4, 2, size, size), generator=g)
    spec = InputSpec(2, size, size, 2)
    network = convert(fold(spikingjelly_layers(model), spec), spec, 3)
    spikes = {}
    with torch.no_grad():
        logits = model(x.double())
    whole = IntegerNetwork(network)(x, spikes)
    count = network.shapes()["rpe"].tokens
    assert count == (size // patch) ** 2
    assert torch.equal((logits.sum(0) * count).round().long(), whole)
    for i in (1, 2):
        attended = caught[f"blocks.{i - 1}.attn.attn_lif"].reshape(3, 4, 32, -1)
        assert torch.equal(attended.long(), spikes[f"block{i}.attention"].flatten(3).long())
        assert torch.equal(caught[f"blocks.{i - 1}.mlp.neuron2"].long(),
                           spikes[f"block{i}.fc2"].flatten(3).long())
        assert 0 < attended.mean() < 1
    assert network.layers[2].pool == Pool("max", 3, 2, 1)
    assert (network.layers[0].pool is None) == (patch == 4)
    with pytest.raises(SpikeTicketError, match="Linear is not SpikingJelly's Spikformer"):
        spikingjelly_layers(nn.Linear(1, 1))


def test_only_layers_get_units():
    spec = InputSpec(2, 16, 16)
    scaled = quantize.scale(fold(float_layers(small(gate="count", keep=3)), spec))
    assert {type(f).__name__ for f in scaled} == {"ScaledLayer", "Gate", "Select"}
    assert all(isinstance(f.rounded(), Layer) for f in scaled if hasattr(f, "rounded"))
