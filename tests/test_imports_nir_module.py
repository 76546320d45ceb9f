"""NIR graphs as modules: their equations against the libraries, and what files leave out."""

import copy

import numpy as np
import pytest
import torch

from sw.errors import SpikeTicketError
from sw.imports.dialects import DIALECTS, dialect, unsaid
from sw.imports.nir_module import NIRModule
from sw.imports.nir_neurons import read_neuron
from tests import nir_writers
from tests.nir_writers import chain, conv, dense, lif

nir = pytest.importorskip("nir")
pytestmark = pytest.mark.usefixtures("one_thread")
FLAT = (nir.Flatten(None, 0, -1), dense())


def module(graph, name="nir", **changes):
    return NIRModule(nir, graph, dialect(name, **changes))


def run(made, x):
    """(spikes by neuron, output) of integers [T, B, C, H, W]."""
    spikes = {}
    for key, neuron in made.neurons.items():
        neuron.register_forward_hook(lambda _m, _i, out, key=key: spikes.update({key: out}))
    return spikes, made(torch.as_tensor(x).double())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("library", nir_writers.LIBRARIES)
def test_a_graph_s_module_is_the_library_s_network(library, seed):
    graph, x, theirs = nir_writers.written(library, seed)
    made = module(graph, library)
    spikes, out = run(made, x)
    assert len(spikes) == len(theirs) and not made.habits
    for ours, expected in zip(spikes.values(), theirs, strict=True):
        assert 0.02 < expected.mean() < 0.98
        assert torch.equal(ours.flatten(2), expected.flatten(2).double())
    assert torch.equal(out, theirs[-1].flatten(2).double())
    assert torch.equal(out, copy.deepcopy(made)(x.double()))


def test_neurons_state_the_rule_that_they_keep():
    """`float_neuron` alone, run in NumPy, gives the module's spikes."""
    rng = np.random.default_rng(0)
    for changes in ({}, {"fires": ">="}, {"fires": ">=", "reset": "subtract"}):
        node = lif((3, 4, 4), 6.0, v_leak=-2.0, v_reset=-1.0)
        node.r = node.r * np.array([1.0, 2.0, 0.5])[:, None, None]
        if "reset" in changes:
            node.v_leak *= 0
        made = module(chain(conv(), node, *FLAT), **changes).neurons["n1"]
        rule = made.float_neuron()
        x = torch.from_numpy(rng.integers(-4, 12, (9, 2, 3, 4, 4))).double()
        v = 0.0 if rule.reset is None else rule.reset
        for current, spikes in zip(x, made(x), strict=True):
            v = rule.decay * v + current
            fired = v > rule.theta if rule.strict else v >= rule.theta
            assert torch.equal(fired.double(), spikes)
            v = v - fired * rule.theta if rule.reset is None else torch.where(fired, rule.reset, v)
        assert 0.05 < made(x).mean() < 0.95
        assert made.drive(x)[0, 0, 1, 0, 0] == 2 * x[0, 0, 1, 0, 0]


def test_the_or_pool_is_what_its_neuron_does():
    """A maximum stands for pool and neuron; with the neuron's own equations it is the same."""
    shape, x = (3, 4, 4), nir_writers.events(3, (5, 2, 2, 4, 4))
    for kind, half in ((nir.SumPool2d, 0.5), (nir.AvgPool2d, 0.125)):
        for size, stride, padding in ((2, 2, 0), (3, 2, 1)):
            pool = kind(*(np.array([n, n]) for n in (size, stride, padding)))
            spiking = nir.IF(np.full((3, 2, 2), 1e4), np.full((3, 2, 2), half / (size / 2) ** 2))
            graph = chain(conv(), lif(shape, 7.0), pool, spiking, nir.Flatten(None, 0, -1),
                          dense(features=12))
            made = module(graph)
            assert list(made.neurons) == ["n1"]
            spikes, out = run(made, x)
            pooled = torch.nn.functional.avg_pool2d(
                spikes["n1"].flatten(0, 1), size, stride, padding,
                divisor_override=1 if kind is nir.SumPool2d else None).unflatten(0, x.shape[:2])
            own = read_neuron(nir, spiking, "n3", (3, 2, 2), dialect("nir"))
            fired = own(own.drive(pooled))
            assert 0.1 < fired.mean() < 0.9
            weight = torch.from_numpy(graph.nodes["n5"].weight).double()
            assert torch.equal(out, fired.flatten(2) @ weight.T)


def test_graphs_within_the_graph_are_taken_in():
    inner = nir.NIRGraph(
        {"in": nir.Input(np.array([2, 4, 4])), "conv": conv(), "lif": lif((3, 4, 4), 7.0),
         "out": nir.Output(np.array([3, 4, 4]))},
        [("in", "conv"), ("conv", "lif"), ("lif", "out")], type_check=False)
    x = nir_writers.events(1, (4, 2, 2, 4, 4))
    nested, plain = module(chain(inner, *FLAT)), module(chain(conv(), lif((3, 4, 4), 7.0), *FLAT))
    assert list(nested.neurons) == ["n0.lif"]
    assert dict(nested.named_modules())["n0.lif"] is nested.neurons["n0.lif"]
    assert torch.equal(nested(x.double()), plain(x.double()))
    inner.edges.append(("lif", "conv"))
    assert "recurrent ('n0." in message(lambda: module(chain(inner, *FLAT)))
    del inner.nodes["out"], inner.edges[2:]
    assert "node 'n0' (NIRGraph): 0 Output nodes" in message(lambda: module(chain(inner, *FLAT)))
    deep = nir.NIRGraph({"in": nir.Input(np.array([2]))}, [], type_check=False)
    deep.nodes["again"] = deep
    assert "graphs within graphs" in message(lambda: module(deep))


def test_nodes_may_have_any_name():
    graph = chain(conv(), lif((3, 4, 4), 7.0), *FLAT)
    x = nir_writers.events(1, (4, 2, 2, 4, 4)).double()
    expected = module(graph)(x)
    names = {"n0": "forward", "n1": "training", "n2": "a.b", "n3": "order"}
    renamed = nir.NIRGraph({names.get(k, k): n for k, n in graph.nodes.items()},
                           [(names.get(a, a), names.get(b, b)) for a, b in graph.edges],
                           type_check=False)
    made = module(renamed).eval()
    assert torch.equal(made(x), expected) and list(made.neurons) == ["training"]
    assert {"forward_", "training_", "order_"} <= dict(made.named_modules()).keys()


def message(call) -> str:
    with pytest.raises(SpikeTicketError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


# What a file cannot say

def test_every_dialect_s_open_questions_have_a_line_and_an_answer():
    everything = {"dt", "start", "reset", "spikes", "floor", "norm"}
    for name, said in (("nir", ["timestep", "where v starts"]), ("spikingjelly", ["timestep"]),
                       ("snntorch", ["'zero' (its default is 'subtract'"]),
                       ("norse", ["timestep", "v_reset 0"]),
                       ("sinabs", ["MembraneSubtract", "MultiSpike", "min_v_mem", "norm_input"])):
        lines = unsaid(dialect(name), everything)
        assert len(lines) == len(said)
        assert all(part in line for part, line in zip(said, lines, strict=True))
        assert unsaid(dialect(name), set()) == []
        assert unsaid(dialect(name, confirm=True), everything) == []
    assert unsaid(dialect("snntorch", reset="value"), everything) == []
    assert [k for k in dialect("norse", dt=1e-6).open] == ["reset"]
    assert dialect("norse", dt=1e-6, reset="value").open == ()
    assert "norm" not in dialect("sinabs", norm_input=True).open


def test_norm_input_is_sinabs_scale():
    graph, x, theirs = nir_writers.written("sinabs", 0, norm_input=True)
    for given, equal in ((True, True), (None, False)):
        spikes, _ = run(module(graph, "sinabs", norm_input=given), x)
        assert torch.equal(list(spikes.values())[-1].flatten(2).float(),
                           theirs[-1].flatten(2)) == equal
    assert "a setting of sinabs' neurons" in message(lambda: dialect("nir", norm_input=True))


def test_unknown_dialects_are_answered_with_the_nearest():
    assert "dialect 'snntorc': did you mean snntorch" in message(lambda: dialect("snntorc"))
    assert "choose from nir, spikingjelly" in message(lambda: dialect("brian2loihi"))
    assert "one timestep late" in message(lambda: dialect("snntorch", reset="subtract"))


def test_numbers_that_the_library_does_not_write_are_noted():
    graph, _, _ = nir_writers.written("spikingjelly", 0)
    assert module(graph, "spikingjelly").habits == []
    said = module(graph, "spikingjelly", dt=2e-5).habits
    assert len(said) == 1 and "spikingjelly writes r = 1/dt = 50000, the file holds 1" in said[0]
    assert len(module(graph, "norse", fires=">=").habits) == 1
    assert "snntorch writes no IF" in module(graph, "snntorch").habits[-1]
    assert module(graph, "nir").habits == []


def test_the_file_s_own_numbers_may_say_that_dt_is_right():
    graph, _, _ = nir_writers.written("spikingjelly", 0)
    assert [n.dt_fits for n in module(graph, "spikingjelly").neurons.values()] == [False, True]
    graph, _, _ = nir_writers.written("snntorch", 0)
    assert all(n.dt_fits for n in module(graph, "snntorch").neurons.values())


def test_norse_starts_at_its_leak():
    graph = chain(conv(), lif((3, 4, 4), 6.0, v_leak=1.0, tau=2e-6, r=1.0), *FLAT)
    assert "norse starts at v_leak and resets to v_reset, here 1 and 0" in message(
        lambda: module(graph, "norse"))
    assert "start" in module(graph, "nir", dt=1e-6).neurons["n1"].kinds


def test_a_beta_of_one_is_written_as_infinity():
    """snnTorch's export of Leaky(beta=1.0): tau and r are infinite."""
    graph = chain(conv(), lif((3, 4, 4), 6.0, tau=np.inf, r=np.inf), *FLAT)
    made = module(graph, "snntorch")
    x = nir_writers.events(1, (4, 2, 2, 4, 4)).double()
    same = module(chain(conv(), nir.IF(np.full((3, 4, 4), 1e4), np.full((3, 4, 4), 6.0)), *FLAT))
    assert torch.equal(made(x), same(x)) and not made.habits
    assert "r is empty or not a finite number" in message(lambda: module(graph, "spikingjelly"))


def test_dialects_are_a_table():
    assert set(DIALECTS) == {"nir", "spikingjelly", "snntorch", "norse", "sinabs"}
    assert dialect("nir", dt=2.0).says["dt"] == 2.0 and "open" not in dialect("nir").says
