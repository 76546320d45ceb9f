"""Spikeformers: the float network, what the importer makes of it, integer training."""

import functools
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import neuron
from torch import nn

from sw import nets, ticket
from sw.errors import SpikeTicketError
from sw.imports import from_spikingjelly
from sw.integer import firing, quantize, reference
from sw.integer import spikingjelly as integer
from sw.integer.attention import ColumnAttention
from sw.integer.floats import FloatAttention, FloatLayer, FloatNeuron, FloatSynapses
from sw.integer.gate import Gate, Select
from sw.integer.network import InputSpec, Layer, Pool
from sw.integer.quantize import convert
from sw.integer.spikingjelly import IntegerNetwork
from sw.integer.trainee import NetworkTrainee
from sw.nets.token_gate import TokenGate
from sw.tickets.classifier import Classifier

pytestmark = pytest.mark.usefixtures("one_thread")

GRID, STEPS, CLASSES = (4, 4), 3, 3
INPUT = (2, 16, 16)


def small(seed=0, blocks=2, decay=0.5, static=True) -> nets.Spikeformer:
    """A small Spikeformer whose batch norms (some scales negative) have seen data."""
    torch.manual_seed(seed)
    model = nets.build(nets.NetConfig(f"spikeformer-{blocks}-16-2-2@8m-16p-16", INPUT, CLASSES,
                                      STEPS, decay))
    for m in model.modules():
        if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(m.weight, 0.8, 0.5)
            nn.init.normal_(m.bias, 0.5, 0.3)
    with torch.no_grad():
        model.train()(prepared(images(9, static=static)))
    return model.eval()


def images(seed, batch=5, static=True):
    shape = (batch, *INPUT) if static else (batch, STEPS, *INPUT)
    g = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256 if static else 4, shape, dtype=torch.uint8, generator=g)


prepared = Classifier.prepare


def gated(model, mode, keep, static=True) -> nets.Spikeformer:
    """The model behind a gate."""
    model.token_gate = TokenGate(mode, keep, GRID, units=1 / 255 if static else 1.0)
    model.stem.register_forward_hook(model.token_gate.behind)
    if mode == "input":
        model.register_forward_pre_hook(lambda m, args: m.token_gate.zero(
            args[0][None])[0] if static else m.token_gate.zero(
            args[0].transpose(0, 1)).transpose(0, 1))
    if mode == "host":
        model.token_gate.host = torch.arange(keep)[None]    # any will do where it is read
    return model


def host_masks(keep, batch):
    g = torch.Generator().manual_seed(5)
    return torch.rand((batch, 16), generator=g).argsort(1) < keep


@functools.cache
def read(blocks=2, static=True, mode=None, keep=None, decay=0.5):
    """A small Spikeformer, read once for all tests."""
    model = small(blocks=blocks, decay=decay, static=static)
    if mode is not None:
        gated(model, mode, keep, static)
    return from_spikingjelly(model, INPUT, STEPS, static=static, check=False)


def trainee(imported, masks=None, bits=4) -> NetworkTrainee:
    """The network in training, with weights of so many bits."""
    layers = [replace(a, synapses=tuple(replace(s, bits=bits) for s in a.synapses))
              if isinstance(a, FloatLayer) else a for a in imported.layers]
    return NetworkTrainee(layers, imported.network.input, STEPS, masks,
                          input_scale=imported.input_scale)


def half(imported, share=0.5) -> dict[str, torch.Tensor]:
    """Random masks by layer name."""
    g = torch.Generator().manual_seed(0)
    return {layer.name: torch.rand(syn.weight.shape, generator=g) < share
            for layer, syn in imported.network.synapses()}


# -- the float network ---------------------------------------------------------------------------


def plain_forward(model, x, kept=None):
    """The network step by step: no merged axes, SpikingJelly's single-step neurons."""
    c = model.config

    def fire(currents, theta):
        node = neuron.LIFNode(c.tau, decay_input=False, v_threshold=theta, v_reset=0.0)
        return [node(x) for x in currents]

    def block(b, xs, pool=None):
        currents = [F.batch_norm(F.conv2d(x, b.conv.weight, padding=1), b.norm.running_mean,
                                 b.norm.running_var, b.norm.weight, b.norm.bias) for x in xs]
        if pool == "m":
            currents = [F.max_pool2d(x, 3, 2, 1) for x in currents]
        spikes = fire(currents, c.theta)
        return [F.max_pool2d(x, 2) for x in spikes] if pool == "p" else spikes

    def dense(layer, xs):
        return fire([layer.norm(layer.fc(x).flatten(0, 1)).view(*x.shape[:2], -1) for x in xs],
                    c.theta)
    xs = [x] * c.timesteps if x.dim() == 4 else list(x.unbind(1))
    for b, pool in zip(model.stem.convs, ("m", "p", None), strict=True):
        xs = block(b, xs, pool)
    xs = [(a + b).flatten(2).mT for a, b in zip(xs, block(model.stem.rpe, xs), strict=True)]
    if kept is not None:
        xs = [x.gather(1, kept[:, :, None].expand(-1, -1, x.shape[2])) for x in xs]
    for b in model.blocks:
        q, k, v = (dense(layer, xs) for layer in (b.q, b.k, b.v))
        currents = []
        for t in range(c.timesteps):
            heads = [0.125 * (qh @ kh.mT) @ vh for qh, kh, vh in zip(
                *(m[t].chunk(2, 2) for m in (q, k, v)), strict=True)]
            currents.append(torch.cat(heads, 2))
        xs = [x + a for x, a in zip(xs, dense(b.proj, fire(currents, 0.5 * c.theta)), strict=True)]
        xs = [x + a for x, a in zip(xs, dense(b.fc2, dense(b.fc1, xs)), strict=True)]
    return torch.stack([model.readout(x.mean(1)) for x in xs]).mean(0)


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("mode, keep", [(None, None), ("count", 5)])
def test_forward_equals_the_network_step_by_step(static, mode, keep):
    model = small(static=static)
    x = prepared(images(1, static=static))
    with torch.no_grad():
        kept = None
        if mode:
            embedded = model.stem(model.over_time(x))
            assert embedded.shape == (3, 5, 16, 16)
            assert set(embedded.unique().tolist()) <= {0, 1, 2}
            gated(model, mode, keep, static)
            kept = model.token_gate.choose(embedded)
        expected = plain_forward(model, x, kept)
        assert torch.allclose(model(x), expected, atol=1e-5)
    assert expected.std(0).max() > 1e-3


@pytest.mark.parametrize("mode", ["static", "host", "count", "input"])
def test_gates_choose_as_their_rules_say(mode):
    model = gated(small(), mode, 6)
    gate, images_ = model.token_gate, images(3)
    x = prepared(images_)
    with torch.no_grad():
        if mode == "host":
            gate.host = None
            with pytest.raises(SpikeTicketError, match="set `host`"):
                model(x)
            return
        if mode == "static":
            mask = torch.zeros(16, dtype=torch.bool)
            mask[[0, 2, 3, 8, 14, 15]] = True
            gate.set_mask(mask)
            assert gate.choose(torch.zeros(3, 5, 16, 16)).tolist() == [[0, 2, 3, 8, 14, 15]] * 5
            with pytest.raises(SpikeTicketError, match="keeps 6 of 16"):
                gate.set_mask(~mask)
            return
        if mode == "input":
            with pytest.raises(SpikeTicketError, match="has not seen the input"):
                gate.choose(torch.zeros(3, 5, 16, 16))
        whole = small().stem(x[None])
        model(x)
        chosen = gate.choose(whole)
    if mode == "count":
        scores = whole.sum((0, 2))
    else:
        scores = images_.long().view(5, 2, 4, 4, 4, 4).sum((1, 3, 5)).flatten(1)
    for row, kept in zip(scores.tolist(), chosen.tolist(), strict=True):
        assert kept == sorted(sorted(range(16), key=lambda n: (-row[n], n))[:6])


def test_gradients_reach_every_weight_through_the_gate():
    model = gated(small(), "count", 5).train()
    model(prepared(images(4))).square().sum().backward()
    for name, w in model.named_parameters():
        assert w.grad is not None and w.grad.abs().sum() > 0, name


@pytest.mark.parametrize("axes, shape", [((-1,), (3, 5, 7, 4)), ((-2,), (3, 5, 4, 7)),
                                         ((-2, -1), (3, 5, 7, 1, 4))])
def test_tokens_lie_where_the_axes_say(axes, shape):
    gate = TokenGate("static", 4, GRID, axes)
    lead = {(-1,): (3, 5, 7, 16), (-2,): (3, 5, 16, 7), (-2, -1): (3, 5, 7, 4, 4)}[axes]
    assert gate(torch.rand(lead)).shape == shape
    with pytest.raises(SpikeTicketError, match="tokens reach a gate of 4x4"):
        gate(torch.rand(3, 5, 7, 2, 2) if len(lead) == 5 else torch.rand(3, 5, 7, 7))
    with pytest.raises(SpikeTicketError, match="are not"):
        TokenGate("static", 4, GRID, (0,))


# -- what the importer makes of it, and integer training -------------------------------------------


@pytest.mark.parametrize("bits", [4, 1])
@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("mode, keep", [(None, None), ("static", 5), ("host", 3), ("count", 1),
                                        ("input", 7)])
def test_the_trainee_is_the_integer_network_spike_for_spike(mode, keep, static, bits):
    imported = read(static=static, mode=mode, keep=keep)
    masks = half(imported)
    trained = trainee(imported, masks, bits)
    network = trained.to_network("s", ("a", "b", "c"))
    x, host = images(6, static=static), host_masks(keep, 5) if mode == "host" else None
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
    assert network.shapes()["blocks.1.fc2.node"].tokens == (keep or 16)
    for layer, syn in network.synapses():
        assert not syn.weight[~masks[layer.name].numpy()].any()
    loaded = ticket.from_bytes(ticket.to_bytes(network)).network
    again = reference.run(loaded, x.numpy(), masks=None if host is None else host.numpy())
    assert np.array_equal(again.logits, run.logits)


@pytest.mark.parametrize("leak, decay", [(128, 0.5), (253, 253 / 256)])
def test_the_trainee_decays_as_the_integers_do(leak, decay):
    trained = trainee(read(decay=decay))
    network = trained.to_network()
    leaks = {layer.neuron.leak for layer in network.layers[:-1] if not layer.attention}
    assert leaks == {leak}
    x = images(7)
    assert torch.equal(trained.logits(trained.prepare(x)).long(), IntegerNetwork(network)(x))


def test_integer_training_lowers_the_loss_and_keeps_the_mask():
    imported = read(1, mode="count", keep=8)
    masks = half(imported, 0.6)
    trained = trainee(imported, masks)
    x, y = images(8, 6) // 4, torch.arange(6) % 3
    for image, label in zip(x, y.tolist(), strict=True):    # a bright band where its class says
        image[:, 5 * label:5 * label + 5] += 150
    x = trained.prepare(x)
    optimiser = torch.optim.Adam(trained.parameters(), 2e-2)
    losses = []
    for _ in range(25):
        optimiser.zero_grad()
        loss = F.cross_entropy(trained(x), y)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert min(losses[-3:]) < 0.8 * losses[0]
    dead = sum(int((~m).sum()) for m in masks.values()) / sum(m.numel() for m in masks.values())
    assert trained.sparsity() >= dead
    for layer, syn in trained.to_network().synapses():
        assert not syn.weight[~masks[layer.name].numpy()].any()


def test_trainee_and_conversion_agree():
    direct, trained = read().network, trainee(read()).to_network()
    for a, b in zip(direct.layers, trained.layers, strict=True):
        assert np.array_equal(a.threshold, b.threshold) and np.array_equal(a.bias, b.bias)
        for s, t in zip(a.synapses, b.synapses, strict=True):
            # float32 may round a half the other way
            assert np.abs(s.weight.astype(int) - t.weight).max(initial=0) <= 1
            assert (s.weight != t.weight).mean() < 0.01


def test_eight_bits_keep_most_decisions():
    model = small(seed=3)
    x = images(10, 40)
    with torch.no_grad():
        expected = model(prepared(x)).argmax(1)
    got = IntegerNetwork(from_spikingjelly(model, INPUT, STEPS, bits=8).network)(x).argmax(1)
    assert (got == expected).float().mean() > 0.7


def attention_at(layers) -> int:
    return next(i for i, a in enumerate(layers) if isinstance(a, FloatAttention))


def test_attention_folds_its_scale_into_the_threshold():
    imported = read(1)
    i = attention_at(imported.layers)
    layer = imported.network.layers[i]
    assert layer.threshold.tolist() == [4] * 16 and not layer.bias.any() and not layer.synapses
    assert (layer.attention.heads, layer.neuron.leak) == (2, 128)

    def threshold(scale):
        layers = list(imported.layers)
        layers[i] = replace(layers[i], scale=scale)
        return convert(layers, imported.network.input, STEPS).layers[i].threshold.tolist()
    assert threshold(0.25) == [2] * 16
    with pytest.raises(SpikeTicketError, match="must be above 0"):
        threshold(0.0)


def test_the_leak_of_attention_is_that_of_small_counts():
    """lambda = 1/2 stays, as the floor loses nothing there; 0.99 of a few counts is all of them."""
    for decay, leak in ((0.5, 128), (0.99, 256), (0.25, 64)):
        network = read(1, decay=decay).network
        assert [x.neuron.leak for x in network.layers if getattr(x, "attention", None)] == [leak]
    for threshold in (2, 4, 8, 100, 1 << 20):
        assert firing.coarse_leak(128, threshold) == 128
        assert firing.coarse_leak(256, threshold) == 256
    assert abs(firing.coarse_leak(253, 1 << 20) - 253) <= 1


def test_the_gate_stands_where_it_chooses():
    for mode, keep, index in (("count", 1, 4), ("host", 3, 4), ("static", 5, 4), ("input", 7, 0)):
        layers = read(mode=mode, keep=keep).network.layers
        assert [i for i, x in enumerate(layers) if isinstance(x, Gate)] == [index]
        assert [x.source for x in layers if isinstance(x, Select)] == [
            "stem.convs.2.node", "stem.rpe.node"]


def test_masks_and_widths_need_known_names():
    imported = read(1)
    with pytest.raises(SpikeTicketError, match=r"masks for blocks\.9\.q, which are no layers"):
        trainee(imported, {"blocks.9.q": torch.ones(1)})
    with pytest.raises(SpikeTicketError, match=r"weights of layer 'stem\.convs\.1\.node'"):
        from_spikingjelly(small(blocks=1), INPUT, STEPS, check=False,
                          bits={"stem.convs.0.node": 8})
    mixed = {layer.name: 1 for layer, _ in imported.network.synapses()} | {
        "stem.convs.0.node": 8, "readout": 4}
    network = from_spikingjelly(small(blocks=1), INPUT, STEPS, check=False, bits=mixed).network
    assert {layer.name: syn.bits for layer, syn in network.synapses()} == mixed


def test_column_attention_trains_and_converts_as_well():
    imported = read(1)
    layers = list(imported.layers)
    i = attention_at(layers)
    layers[i] = replace(layers[i], attention=ColumnAttention(*layers[i].attention.sources))
    trained = NetworkTrainee(layers, imported.network.input, STEPS, input_scale=1 / 255)
    x = images(11)
    spikes = {}
    logits = trained.logits(trained.prepare(x), spikes)
    run = reference.run(trained.to_network(), x.numpy())
    assert np.array_equal(logits.detach().long().numpy(), run.logits)
    name = layers[i].name
    attended = run.spikes[name]
    assert np.array_equal(spikes[name].detach().numpy(), attended) and attended.any()
    logits.sum().backward()
    by_name = {layer.scaled.name: layer for layer in trained.layers}
    assert all(by_name[f"blocks.0.{n}.node"].weights[0].grad.abs().sum() > 0 for n in "qkv")


def test_the_trainee_takes_any_float_layers():
    """Average pool, a 3x3 readout, soft reset and an IF neuron, as a CNN may have them."""
    g = torch.Generator().manual_seed(0)

    def part(shape, sources, **options):
        return FloatSynapses(torch.randn(shape, generator=g).double() / 4, sources, **options)
    zeros = torch.zeros(6, dtype=torch.float64)
    layers = [
        FloatLayer("a", (part((6, 2, 3, 3), ("input",), padding=(1, 1)),), zeros,
                   FloatNeuron(0.75, zeros + 0.3, None), Pool("or", 3, 2, 1)),
        FloatLayer("b", (part((5, 6, 3, 3), ("a",), stride=(2, 2), padding=(1, 1)),
                         part((5, 6, 1, 1), ("a",), sum_pool=(2, 2))), zeros[:5],
                   FloatNeuron(1.0, zeros[:5] + 0.9, zeros[:5])),
        FloatLayer("out", (part((3, 5, 3, 3), ("b",)),), zeros[:3])]
    trained = NetworkTrainee(layers, InputSpec(2, 16, 12), 4, input_scale=1 / 255)
    x = torch.randint(0, 256, (3, 2, 16, 12), dtype=torch.uint8, generator=g)
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
def test_spikingjellys_spikformer_is_read_exactly(patch, size):
    """Weights and batch norms on a grid and IF neurons: quantisation loses nothing."""
    from spikingjelly.activation_based.model import spikformer
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
    network = from_spikingjelly(model, (2, size, size), 3, input_bits=2, input_scale=1.0).network
    spikes = {}
    with torch.no_grad():
        logits = model(x.double())
    whole = IntegerNetwork(network)(x, spikes)
    count = network.shapes()["patch_embed.positional_encoding.neuron"].tokens
    assert count == (size // patch) ** 2
    unit = float(whole.abs().max() / logits.sum(0).abs().max())
    assert torch.allclose(logits.sum(0) * unit, whole.double(), atol=1e-6 * unit)
    for i in (1, 2):
        attended = caught[f"blocks.{i - 1}.attn.attn_lif"].reshape(3, 4, 32, -1)
        made = spikes[f"blocks.{i - 1}.attn.attn_lif"]
        assert torch.equal(attended.long(), made.flatten(3).long())
        assert torch.equal(caught[f"blocks.{i - 1}.mlp.neuron2"].long(),
                           spikes[f"blocks.{i - 1}.mlp.neuron2"].flatten(3).long())
        assert 0 < attended.mean() < 1
    assert network.layers[2].pool == Pool("max", 3, 2, 1)
    assert (network.layers[0].pool is None) == (patch == 4)


def test_only_layers_get_units():
    scaled = quantize.scale(read(mode="count", keep=1).layers)
    assert {type(f).__name__ for f in scaled} == {"ScaledLayer", "Gate", "Select"}
    assert all(isinstance(f.rounded(), Layer) for f in scaled if hasattr(f, "rounded"))
