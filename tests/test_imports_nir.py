"""NIR graphs: written by other libraries, read and run as integers; tickets written as NIR."""

import itertools
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sim.samples.networks import random_input, random_network
from sw import ticket
from sw.errors import SpikeTicketError
from sw.imports import compare, from_nir, to_nir
from sw.integer.network import InputSpec, Layer, Network, Neuron, Pool, Synapses
from sw.integer.spikingjelly import IntegerNetwork
from tests import nir_writers
from tests.nir_writers import chain, conv, dense, written

nir = pytest.importorskip("nir")
pytestmark = pytest.mark.usefixtures("one_thread")
BUNDLED = Path(__file__).resolve().parent.parent / "bundled"


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("library", nir_writers.LIBRARIES)
def test_integers_give_the_library_s_spikes(library, seed, tmp_path):
    graph, x, theirs = written(library, seed)
    source = graph
    if library != "norse":      # which leaves out shapes that nir.write needs
        source = tmp_path / "graph.nir"
        nir.write(source, graph)
    imported = from_nir(source, timesteps=nir_writers.T, dialect_of=library, input_bits=2)
    open_ = {"snntorch": 1, "norse": 2, "sinabs": 4, "spikingjelly": 0}[library]
    assert len(imported.notes) == open_
    assert all("the file does not hold" in note for note in imported.notes)
    imported = from_nir(source, timesteps=nir_writers.T, dialect_of=library, input_bits=2,
                        confirm=True)
    assert imported.notes == ()
    ours = {}
    logits = IntegerNetwork(imported.network)(x, ours)
    assert len(ours) == len(theirs) == 2
    for spikes, expected in zip(ours.values(), theirs, strict=True):
        assert 0.02 < expected.mean() < 0.98
        assert torch.equal(spikes.flatten(2).float(), expected.flatten(2).float())
    assert torch.equal(logits, theirs[-1].flatten(2).sum(0).long())     # spikes are counted


def test_the_comparison_matters(tmp_path):
    """The same graph, read as two libraries do, is two networks."""
    graph, x, _ = written("snntorch", 0)
    networks = [from_nir(graph, timesteps=4, dialect_of=d, input_bits=2).network
                for d in ("snntorch", "spikingjelly")]
    counts = []
    for network in networks:
        spikes = {}
        IntegerNetwork(network)(x, spikes)
        counts.append(int(next(iter(spikes.values())).sum()))
    assert counts[0] < counts[1]
    assert [n.layers[0].neuron.v_reset for n in networks] == [1, 0]


def events(seed: int, network: Network, count: int = 20) -> np.ndarray:
    spec = network.input
    shape = (count, network.timesteps, spec.channels, spec.height, spec.width)
    return np.random.default_rng(seed).integers(0, 1 << spec.bits, shape)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([">", ">="]), st.sampled_from([0, 1, 2, 3, 8]),
       st.integers(1, 30), st.integers(1, 16))
def test_both_comparisons_are_exact_for_decays_of_powers_of_two(seed, fires, m, theta, steps):
    kept = 2.0 ** -m if m else 0.0
    node = nir_writers.lif((3, 4, 4), theta, tau=1e-4 / (1 - kept), r=1 / (1 - kept))
    graph = chain(conv(seed % 97, low=-3, high=4), node, nir.Flatten(None, 0, -1), dense())
    imported = from_nir(graph, timesteps=steps, fires=fires, input_bits=1, bits=3)
    agreement = compare(imported, events(seed, imported.network))
    assert not any("decay" in note for note in imported.notes)
    assert agreement.spikes["n1"] == 1.0


@pytest.mark.parametrize("fires", [">", ">="])
def test_other_decays_are_noted_and_close(fires):
    node = nir_writers.lif((3, 4, 4), 9.0, tau=1e-3, r=10.0)
    graph = chain(conv(), node, nir.Flatten(None, 0, -1), dense())
    imported = from_nir(graph, timesteps=4, fires=fires, input_bits=2)
    assert "layer 'n1': decay 0.9 becomes 230/256" in imported.notes
    assert compare(imported, events(0, imported.network)).spikes["n1"] > 0.97


def test_the_ceiling_follows_any_decay():
    """Z = V + c runs V = ceil(lambda V) + x with the core's floors (`sw.integer.firing`)."""
    from sw.integer.firing import _ceiling
    for leak in range(1, 257):
        c, d = _ceiling(leak)
        for v in range(-40, 41):
            assert (leak * (v + c) >> 8) - d + (c - c) == -(-leak * v >> 8), leak
            assert (leak * (v + c) >> 8) + (c - d) == -(-leak * v >> 8) + c
    assert _ceiling(256) == (0, 0) and _ceiling(128) == (1, 0) and _ceiling(0) == (0, 0)


def test_reset_rest_and_gain_by_channel():
    r = np.array([1.0, 2.0, 0.5])[:, None, None] * np.ones((3, 4, 4)) * 2
    node = nir_writers.lif((3, 4, 4), 6.0, v_leak=-2.0, v_reset=-2.0)
    node.r = r
    graph = chain(conv(), node, nir.Flatten(None, 0, -1), dense())
    imported = from_nir(graph, timesteps=4, input_bits=2)
    assert imported.network.layers[0].neuron == Neuron(128, "hard", 1)      # 1: the ceiling
    assert compare(imported, events(1, imported.network)).identical


def test_a_reset_beside_rest_needs_one_integer():
    node = nir_writers.lif((3, 4, 4), 6.0, v_reset=-3.0)
    graph = chain(conv(), node, nir.Flatten(None, 0, -1), dense())
    imported = from_nir(graph, timesteps=4, input_bits=2, fires=">=")
    assert imported.network.layers[0].neuron.v_reset == -3
    assert compare(imported, events(2, imported.network)).identical
    node.v_reset = np.full((3, 4, 4), -np.pi)   # off the grid of the weights: units follow it
    off = from_nir(chain(conv(), node, nir.Flatten(None, 0, -1), dense()), timesteps=4,
                   input_bits=2, fires=">=", bits=8)
    assert any("channels are rounded" in note for note in off.notes)
    assert (off.network.layers[0].neuron.v_reset * off.units["n1"] + np.pi).abs().max() < 1e-9
    assert compare(off, events(2, off.network)).spikes["n1"] > 0.97
    node.v_reset = np.linspace(-3, 3, 3)[:, None, None] * np.ones((3, 4, 4))
    with pytest.raises(SpikeTicketError, match=r"layer 'n1': resets from -3 to 3 by channel"):
        from_nir(chain(conv(), node, nir.Flatten(None, 0, -1), dense()), timesteps=4)


def test_threshold_and_integrator_nodes():
    shape = (3, 4, 4)
    graph = chain(conv(), nir.Threshold(np.full(shape, 5.0)), nir.Flatten(None, 0, -1), dense(),
                  nir.I(np.full(3, 1e4)))
    imported = from_nir(graph, timesteps=4, input_bits=2)
    assert imported.network.layers[0].neuron.leak == 0
    assert compare(imported, events(3, imported.network)).identical
    assert [layer.name for layer in imported.network.layers] == ["n1", "readout"]


def test_a_synapse_without_memory_is_a_gain():
    full = {k: np.full((3, 4, 4), v) for k, v in {
        "tau_syn": 1e-4, "tau_mem": 2e-4, "r": 2.0, "v_leak": 0.0, "v_threshold": 6.0,
        "w_in": 2.0}.items()}
    flat = (nir.Flatten(None, 0, -1), dense())
    imported = from_nir(chain(conv(), nir.CubaLIF(**full), *flat), timesteps=4, input_bits=2)
    twice = conv()
    twice.weight, twice.bias = twice.weight * 2, twice.bias * 2
    plain = from_nir(chain(twice, nir_writers.lif((3, 4, 4), 6.0), *flat), timesteps=4,
                     input_bits=2, bits=5)
    x = events(4, plain.network)
    assert compare(imported, x).identical
    spikes = []
    for network in (imported.network, plain.network):
        found = {}
        IntegerNetwork(network)(torch.from_numpy(x).transpose(0, 1), found)
        spikes.append(found["n1"])
    assert torch.equal(*spikes)


def test_grouped_dilated_and_uneven_convolutions_become_dense():
    for options in ({"groups": 2, "out": 4, "channels": 1}, {"dilation": 2, "padding": 2},
                    {"padding": (1, 0), "kernel": 2}, {"padding": "same", "kernel": 2}):
        node = conv(**options)
        out = node.weight.shape[0]
        size = np.array(node.weight.shape[2:])
        size = (size - 1) * np.array(node.dilation) + 1
        edges = size - 1 if node.padding == "same" else 2 * np.broadcast_to(node.padding, 2)
        height, width = (int(4 + e - k + 1) for e, k in zip(edges, size, strict=True))
        graph = chain(node, nir_writers.lif((out, height, width), 7.0),
                      nir.Flatten(None, 0, -1), dense(features=out * height * width))
        imported = from_nir(graph, timesteps=3, input_bits=2)
        x = events(5, imported.network)
        assert compare(imported, x).identical, options
        currents = _library_conv(node, torch.from_numpy(x[:, 0]).float())
        module = IntegerNetwork(imported.network).layers[0]
        ours = module.currents({"input": torch.from_numpy(x[:, :1]).transpose(0, 1)})[0]
        shift = imported.network.layers[0].bias - np.asarray(node.bias).astype(int)
        assert torch.equal(ours - torch.from_numpy(shift).view(-1, 1, 1), currents.long())


def _library_conv(node, x):
    with warnings.catch_warnings():     # PyTorch copies the input for "same" and even kernels
        warnings.simplefilter("ignore")
        return torch.nn.functional.conv2d(
            x, torch.from_numpy(node.weight), torch.from_numpy(node.bias), 1, node.padding,
            node.dilation, int(node.groups))


def test_sums_of_edges_are_residuals():
    shape = (3, 4, 4)
    nodes = {"input": nir.Input(np.array([2, 4, 4])), "a": conv(0), "la": nir_writers.lif(shape, 7),
             "b": conv(1, channels=3), "c": conv(2, channels=3, kernel=1, padding=0),
             "lb": nir_writers.lif(shape, 9), "d": conv(3, channels=3),
             "ld": nir_writers.lif(shape, 5), "flat": nir.Flatten(None, 0, -1), "w": dense(),
             "output": nir.Output(np.array([3]))}
    edges = [("input", "a"), ("a", "la"), ("la", "b"), ("la", "c"), ("b", "lb"), ("c", "lb"),
             ("la", "d"), ("lb", "d"), ("d", "ld"), ("la", "ld"), ("ld", "flat"), ("flat", "w"),
             ("w", "output")]
    imported = from_nir(nir.NIRGraph(nodes, edges, type_check=False), timesteps=4, input_bits=2,
                        bits=5)
    a, b, d, _ = imported.network.layers
    assert [s.sources for s in b.synapses] == [("la",)]       # both kernels are one
    assert sorted(s.sources for s in d.synapses) == [("la",), ("lb",)]
    assert a.name == "la" and imported.notes == ()
    assert compare(imported, events(6, imported.network)).identical


def test_a_pool_whose_neuron_one_spike_fires_is_an_or_pool():
    shape, half = (3, 4, 4), np.full((3, 2, 2), 0.5)
    pool = nir.SumPool2d(*(np.array([n, n]) for n in (2, 2, 0)))
    graph = chain(conv(), nir_writers.lif(shape, 7.0), pool,
                  nir.IF(np.full((3, 2, 2), 1e4), half), nir.Flatten(None, 0, -1),
                  dense(features=12))
    imported = from_nir(graph, timesteps=4, input_bits=2)
    assert imported.network.layers[0].pool == Pool("or", 2)
    assert [layer.name for layer in imported.network.layers] == ["n1", "readout"]
    graph.nodes["n3"].v_threshold = half + 1        # two spikes: a layer of its own
    imported = from_nir(graph, timesteps=4, input_bits=2)
    assert [layer.name for layer in imported.network.layers] == ["n1", "n3", "readout"]
    assert compare(imported, events(7, imported.network)).identical


LIF = nir_writers.lif((3, 4, 4), 7.0) if nir else None
FLAT = (nir.Flatten(None, 0, -1), dense())


@pytest.mark.parametrize(("nodes", "message"), [
    ((conv(), nir.LI(*(np.ones((3, 4, 4)),) * 3), *FLAT),
     r"node 'n1' \(LI\): LI is not supported; the nearest is no neuron before the output"),
    ((conv(), nir.Delay(np.ones((3, 4, 4))), LIF, *FLAT), r"'n1' \(Delay\).*no delay"),
    ((conv(), nir.CubaLIF(*(np.full((3, 4, 4), 4e-4),) * 6), *FLAT),
     r"'n1' \(CubaLIF\): tau_syn 0.0004 with dt 0.0001 filters"),
    ((conv(), nir.I(np.ones((3, 4, 4))), *FLAT), r"'n1' \(I\).*I before the output"),
    ((conv(), LIF, dense()), r"'n2' \(Linear\): a linear layer over the columns"),
    ((conv(channels=3), LIF, *FLAT), r"'n0' \(Conv2d\): weight expects 3 channels"),
    ((conv(), nir_writers.lif((3, 4, 4), -1.0), *FLAT), r"'n1' \(LIF\): channel 0 has v_threshold"),
    ((conv(), nir_writers.lif((3, 4, 4), 2.0, tau=1e-5), *FLAT), "tau 1e-05 is shorter than"),
    ((conv(), nir_writers.lif((3, 4, 4), np.nan), *FLAT), "v_threshold is empty or not a finite"),
    ((conv(bias=np.array([1.0, np.inf, 0])), LIF, *FLAT), "weight or bias is not a finite number"),
    ((conv(), LIF, conv(channels=3)), "the output is a map 3x4x4"),
])
def test_what_is_not_supported_is_named_with_its_place(nodes, message):
    with pytest.raises(SpikeTicketError, match=message):
        from_nir(chain(*nodes), timesteps=4, input_bits=2)


def test_parameters_that_a_layer_has_once():
    node = nir_writers.lif((3, 4, 4), 7.0)
    node.tau = node.tau * np.linspace(1, 2, 16).reshape(4, 4)
    with pytest.raises(SpikeTicketError, match=r"tau spans 0.0002 \.\. 0.0004; a layer has one"):
        from_nir(chain(conv(), node, *FLAT), timesteps=4)
    node = nir_writers.lif((3, 4, 4), 7.0)
    node.v_threshold[1, 2, 2] = 8
    with pytest.raises(SpikeTicketError, match="v_threshold differs between the positions of "
                                               "channel 1"):
        from_nir(chain(conv(), node, *FLAT), timesteps=4)
    soft = chain(conv(), nir_writers.lif((3, 4, 4), 7.0), *FLAT)
    assert from_nir(soft, timesteps=4, reset="subtract", input_bits=2).notes == (
        ("layer 'n1' fires at v > theta and subtracts theta; its integers fire at v = theta, too"),)
    assert from_nir(soft, timesteps=4, reset="subtract", fires=">=", input_bits=2).notes == ()


def test_recurrent_graphs_are_refused():
    graph = chain(conv(), nir_writers.lif((3, 4, 4), 7.0), *FLAT)
    graph.nodes["back"] = conv(channels=3)
    graph.edges += [("n1", "back"), ("back", "n1")]
    with pytest.raises(SpikeTicketError, match=r"recurrent \('.*back.*; the nearest is a feed-for"):
        from_nir(graph, timesteps=4)


def test_recurrent_neurons_of_snntorch_are_refused():
    snn = pytest.importorskip("snntorch", exc_type=ImportError)
    from snntorch.export_nir import export_to_nir
    net = torch.nn.Sequential(torch.nn.Linear(6, 5), snn.RLeaky(
        torch.full((5,), 0.5), threshold=torch.full((5,), 3.0), linear_features=5,
        init_hidden=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = export_to_nir(net, torch.rand(1, 6), ignore_dims=[0])
    with pytest.raises(SpikeTicketError, match="recurrent"):
        from_nir(graph, timesteps=4, dialect_of="snntorch")


def test_graphs_that_are_no_chain_from_input_to_output():
    def broken(change):
        graph = chain(conv(), nir_writers.lif((3, 4, 4), 7.0), *FLAT)
        change(graph)
        with pytest.raises(SpikeTicketError) as error:
            from_nir(graph, timesteps=4)
        return str(error.value)
    assert "'nowhere' is no node" in broken(lambda g: g.edges.append(("n0", "nowhere")))
    assert "is there twice" in broken(lambda g: g.edges.append(("n0", "n1")))
    assert "2 Input nodes" in broken(lambda g: g.nodes.update(x=nir.Input(np.array([3]))))
    assert "nothing reads it" in broken(lambda g: (g.nodes.update(x=LIF),
                                                   g.edges.append(("n0", "x"))))
    assert "nothing leads to it" in broken(lambda g: (g.nodes.update(x=LIF),
                                                      g.edges.append(("x", "n2"))))
    assert "no number of timesteps" in _message(lambda: from_nir(chain(conv(), LIF, *FLAT)))
    assert "choose from nir, spikingjelly" in _message(
        lambda: from_nir(chain(conv(), LIF, *FLAT), timesteps=4, dialect_of="brian2"))
    assert "fires '=>' is not one of" in _message(
        lambda: from_nir(chain(conv(), LIF, *FLAT), timesteps=4, fires="=>"))
    assert "not a nir.NIRGraph" in _message(lambda: from_nir(7, timesteps=4))


def _message(call) -> str:
    with pytest.raises(SpikeTicketError) as error:
        call()
    return str(error.value)


@pytest.mark.parametrize("library", ["snntorch", "spikingjelly"])
def test_imported_networks_run_on_the_software_core(library):
    from hw.config import PRESETS
    from sw.compile.compiler import compile_network
    from sw.core import machine
    graph, x, _ = written(library, 3)
    network = from_nir(graph, timesteps=4, dialect_of=library, input_bits=2).network
    image = compile_network(network, PRESETS["a35tw"])
    expected = IntegerNetwork(network)(x)
    for n in range(x.shape[1]):
        array = x[:, n].numpy().astype(np.uint8)
        found = machine.logits(image, machine.run(image, array))
        assert np.array_equal(found, expected[n].numpy())


# Export

def test_the_bundled_ticket_comes_back_byte_for_byte(tmp_path):
    network = ticket.load(BUNDLED / "fmnist-scnn.safetensors").network
    to_nir(network, tmp_path / "scnn.nir")
    imported = from_nir(tmp_path / "scnn.nir")
    assert imported.notes == ()
    assert ticket.to_bytes(imported.network) == ticket.to_bytes(network)


def _reach(synapses, spikes):
    """Whether a weight meets a neuron of the map; all may meet the padding beside a small one."""
    weight = torch.from_numpy(synapses.weight != 0).float()
    return bool(torch.nn.functional.conv2d(torch.ones(1, *spikes.shape[-3:]), weight,
                                           stride=synapses.stride,
                                           padding=synapses.padding).any())


@example(900384890)
@example(103675)
@example(847)
@example(12061)
@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_exported_networks_come_back_with_the_same_spikes(seed):
    rng = np.random.default_rng(seed)
    network = random_network(rng, max_size=8, max_channels=4)
    try:
        imported = from_nir(to_nir(network))
    except SpikeTicketError as error:
        assert any(text in str(error) for text in (
            "soft reset", "no max pool", "at or below rest", "nothing reads it",
            "no neuron in the graph")), str(error)
        return
    if any("rounded (" in note for note in imported.notes):
        # -128, which 8 bits hold once; the sum of weights that all meet a map's one position
        shapes = network.shapes()
        assert any(int(s.weight.min(initial=0)) == -128 for _, s in network.synapses()) or any(
            shapes[name].tokens == 1 and s.weight.shape[2:] != (1, 1)
            for s in network.layers[-1].synapses for name in s.sources)
        return
    x = torch.from_numpy(np.stack([random_input(rng, network) for _ in range(2)]))
    x = x if network.input.static else x.transpose(0, 1)
    spikes, again = {}, {}
    logits = IntegerNetwork(network)(x, spikes)
    assert torch.equal(IntegerNetwork(imported.network)(x, again), logits)
    assert [n for n in spikes if n in again] == list(again)
    dead = spikes.keys() - again.keys()                         # no weight reads them
    assert not any(_reach(s, spikes[name]) for layer in network.layers if layer.name in again
                   for s in layer.synapses for name in dead & set(s.sources))
    assert all(torch.equal(again[name], spikes[name]) for name in again)


def layer(name, source, shape, threshold, leak, pool=None, seed=0, **options):
    weight = np.random.default_rng(seed).integers(-7, 8, shape).astype(np.int8)
    bias = np.random.default_rng(seed + 1).integers(-4, 5, shape[0])
    return Layer(name, (Synapses(weight, (source,), **options),), bias,
                 np.full(shape[0], threshold), Neuron(leak) if threshold else None, pool)


def test_spikingjelly_runs_an_exported_ticket():
    exchange = pytest.importorskip("spikingjelly.activation_based.nir_exchange")
    network = Network(InputSpec(2, 8, 8, 2, False), 4, (
        layer("a", "input", (4, 2, 3, 3), 12, 128, Pool("or", 2), padding=1),
        layer("b", "a", (6, 4, 3, 3), 9, 256, padding=1, seed=2),
        layer("c", "b", (5, 6, 2, 2), 9, 128, sum_pool=2, seed=4),
        layer("readout", "c", (5, 5, 1, 1), 0, 0, seed=6)))
    x = torch.randint(0, 4, (4, 3, 2, 8, 8), generator=torch.Generator().manual_seed(0))
    module = exchange.import_from_nir(to_nir(network, pools="avg"))
    total, state = 0, None
    for step in x:
        out, state = module(step.float(), state)
        total = total + out
    assert torch.equal(IntegerNetwork(network)(x), total.long())
    assert torch.equal(total, total.round())


def test_snntorch_runs_an_exported_ticket_of_lif_layers():
    pytest.importorskip("snntorch", exc_type=ImportError)
    from snntorch.import_nir import import_from_nir
    network = Network(InputSpec(2, 6, 6, 2, False), 4, (
        layer("a", "input", (4, 2, 3, 3), 12, 128, padding=1),
        layer("b", "a", (5, 4, 6, 6), 9, 128, seed=2),
        layer("readout", "b", (3, 5, 1, 1), 0, 0, seed=6)))
    x = torch.randint(0, 4, (4, 3, 2, 6, 6), generator=torch.Generator().manual_seed(0))
    module = import_from_nir(to_nir(network, pools="avg"))
    total, state = 0, None
    for step in x:
        out, state = module(step.float(), state)
        total = total + out
    assert torch.equal(IntegerNetwork(network)(x), total.reshape(3, 3).long())


@pytest.mark.parametrize(("change", "message"), [
    (lambda: layer("a", "input", (4, 2, 3, 3), 9, 128, Pool("max", 2), padding=1), "no max pool"),
    (lambda: Layer("a", layer("a", "input", (4, 2, 3, 3), 9, 128, padding=1).synapses,
                   np.zeros(4, np.int64), np.full(4, 9), Neuron(128, "soft")), "no soft reset"),
    (lambda: layer("a/b", "input", (4, 2, 3, 3), 9, 128, padding=1), "cannot be a NIR node's"),
])
def test_what_nir_cannot_say_is_named(change, message):
    first = change()
    readout = layer("readout", first.name, (3, 4, 1, 1), 0, 0)
    network = Network(InputSpec(2, 8, 8, 2, False), 4, (first, readout))
    with pytest.raises(SpikeTicketError, match=message):
        to_nir(network)


def test_gates_and_attention_are_not_exported():
    network = ticket.load(BUNDLED / "fmnist-spikeformer.safetensors").network
    with pytest.raises(SpikeTicketError, match=r"layer 'gate': NIR has no node for gate"):
        to_nir(network)


# What is read, and what is plausible

def counting(r=1.0, theta=1.0):
    """Linear layers and IF neurons, as sinabs writes them: r = 1 in a timestep of 1."""
    rng = np.random.default_rng(0)
    nodes = {"in": nir.Input(np.array([16])), "out": nir.Output(np.array([4]))}
    for name, shape in (("a", (12, 16)), ("b", (4, 12))):
        nodes[name] = nir.Linear(rng.choice([-0.5, 0.5, 1.0, 1.5], shape).astype(np.float32))
        nodes[f"{name}.if"] = nir.IF(np.full(shape[0], r), np.full(shape[0], theta))
    chain_ = ["in", "a", "a.if", "b", "b.if", "out"]
    return nir.NIRGraph(nodes, list(itertools.pairwise(chain_)), type_check=False)


def test_layers_that_the_dialect_silences_are_named():
    """r = 1 read with dt = 1e-4: currents are 1e4 times too small for the threshold."""
    notes = from_nir(counting(), timesteps=8, input_bits=4).notes
    silent = [n for n in notes if "cannot fire" in n]
    assert [n.partition(" cannot")[0] for n in silent] == ["layer 'a.if'", "layer 'b.if'"]
    for note in silent:
        assert "the largest membrane in 8 timesteps is 0." in note
        assert note.endswith("of threshold 1; is the dialect right?")
    assert not any("never fires" in n for n in notes)           # said once
    right = from_nir(counting(), timesteps=8, input_bits=4, dialect_of="sinabs", confirm=True)
    assert not any("fire" in n for n in right.notes)
    assert any("the file holds 1; are the dialect (--dialect) and dt" in n for n in from_nir(
        counting(), timesteps=8, input_bits=4, dialect_of="spikingjelly").notes)


def test_layers_that_the_dialect_never_rests_are_named():
    graph = chain(conv(low=1, bias=np.full(3, 2.0)), nir_writers.lif((3, 4, 4), 1e-3), *FLAT)
    notes = from_nir(graph, timesteps=4, input_bits=2).notes
    assert any(n.startswith("layer 'n1' fires at every timestep, whatever the") for n in notes)


def test_what_the_user_says_is_not_noted():
    graph, _, _ = written("snntorch", 0)
    open_ = from_nir(graph, timesteps=4, dialect_of="snntorch", input_bits=2).notes
    assert len(open_) == 1 and "the reset; 'zero' (its default is 'subtract'" in open_[0]
    assert from_nir(graph, timesteps=4, dialect_of="snntorch", reset="value",
                    input_bits=2).notes == ()
    assert from_nir(graph, timesteps=1, dialect_of="snntorch", input_bits=2).notes == ()
    graph = chain(conv(), nir_writers.lif((3, 4, 4), 7.0, r=1.0), *FLAT)
    open_ = from_nir(graph, timesteps=4, dialect_of="spikingjelly", input_bits=2, bits=5).notes
    assert len(open_) == 1 and "the timestep; 0.0001, spikingjelly's default" in open_[0]
    assert from_nir(graph, timesteps=4, dialect_of="spikingjelly", input_bits=2, bits=5,
                    dt=1e-4).notes == ()


def test_an_exported_ticket_knows_its_timestep():
    network = Network(InputSpec(2, 6, 6, 2, False), 4, (
        layer("a", "input", (4, 2, 3, 3), 12, 128, padding=(1, 1)),
        layer("readout", "a", (3, 4, 6, 6), 0, 0, seed=6)))
    imported = from_nir(to_nir(network, dt=0.01))
    assert imported.notes == () and imported.facts["dialect"]["dt"] == 0.01
    assert ticket.to_bytes(imported.network) == ticket.to_bytes(network)
