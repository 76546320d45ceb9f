"""Properties over random NIR graphs: the ticket gives the spikes of the graph's own equations."""

import re

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sw.imports import from_nir
from sw.imports.dialects import dialect
from sw.imports.nir_module import NIRModule
from sw.integer.spikingjelly import IntegerNetwork

nir = pytest.importorskip("nir")
pytestmark = pytest.mark.usefixtures("one_thread")
T, INPUT_BITS = 4, 2


class Drawn:
    """A random graph; `dialect` and `options` read it. Every number in it is whole."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        self.dialect = str(self.rng.choice(["nir", "spikingjelly", "snntorch", "norse", "sinabs"]))
        self.how = dialect(self.dialect)
        self.nodes: dict[str, object] = {}
        self.edges: list[tuple[str, str]] = []
        self.shape = (2, int(self.rng.integers(4, 8)), int(self.rng.integers(4, 8)))
        self.nodes["input"] = nir.Input(np.array(self.shape))
        end, count = "input", int(self.rng.integers(1, 4))
        for number in range(count):
            before, shape = end, self.shape
            end = self.weights(end, number)
            if number and self.shape == shape and self.rng.random() < 0.5:
                end = self.neuron([end, before], number)        # a residual before the neuron
            else:
                end = self.neuron([end], number)
            if min(self.shape[1:]) >= 2 and self.rng.random() < 0.4:
                end = self.pool(end, number)
        end = self.add("flat", nir.Flatten(None, 0, -1), [end])
        features = int(np.prod(self.shape))
        end = self.add("w", nir.Affine(self.whole((3, features)), self.whole(3)), [end])
        if self.rng.random() < 0.3:
            self.shape = (3,)
            end = self.neuron([end], "last")
        self.add("output", nir.Output(np.array([3])), [end])
        self.graph = nir.NIRGraph(self.nodes, self.edges, type_check=False)

    def whole(self, shape, largest: int = 5) -> np.ndarray:
        return self.rng.integers(-largest, largest + 1, shape).astype(np.float32)

    def add(self, name: str, node: object, sources: list[str]) -> str:
        self.nodes[name] = node
        self.edges += [(source, name) for source in sources]
        return name

    def weights(self, source: str, number: int) -> str:
        rng, channels = self.rng, self.shape[0]
        kernel = tuple(int(n) for n in rng.integers(1, 4, 2))
        stride = tuple(int(n) for n in rng.integers(1, 3, 2))
        dilation = tuple(int(n) for n in rng.choice([1, 1, 2], 2))
        padding = tuple(int(n) for n in rng.integers(0, 2, 2))
        if rng.random() < 0.3:
            kernel, stride, dilation, padding = (3, 3), (1, 1), (1, 1), (1, 1)
        size = [(n + 2 * p - (k - 1) * d - 1) // s + 1 for n, p, k, d, s in zip(
            self.shape[1:], padding, kernel, dilation, stride, strict=True)]
        if min(size) < 1:
            kernel, stride, dilation, padding = (1, 1), (1, 1), (1, 1), (0, 0)
            size = list(self.shape[1:])
        groups = int(rng.choice([1, channels]))
        out = channels * int(rng.integers(1, 3))
        node = nir.Conv2d(self.shape[1:], self.whole((out, channels // groups, *kernel)), stride,
                          padding, dilation, groups, self.whole(out, 2))
        self.shape = (out, *size)
        return self.add(f"conv{number}", node, [source])

    def neuron(self, sources: list[str], number: object) -> str:
        rng, how = self.rng, self.how
        kept = float(rng.choice([0.25, 0.5, 1.0]))          # decays that integers follow exactly
        theta = np.broadcast_to(rng.integers(2, 9, (self.shape[0], *(1,) * (len(self.shape) - 1))),
                                self.shape).astype(float)
        full = np.ones(self.shape)
        if kept == 1.0 and self.dialect != "snntorch":
            r = 1 / how.dt if how.if_gain == "r dt" else 1.0
            node = nir.IF(full * r, theta)
        else:
            if kept == 1.0:
                tau = r = np.inf
            elif how.decay == "exponential":
                tau, r = -how.dt / np.log(kept), 1.0
            else:
                tau = how.dt / (1 - kept)
                r = 2.0 if self.dialect == "norse" else 1 / (1 - kept)
            node = nir.LIF(full * tau, full * r, full * 0, theta)
        return self.add(f"lif{number}", node, sources)

    def pool(self, source: str, number: int) -> str:
        size = np.array([2, int(self.rng.choice([1, 2]))])
        kind = nir.SumPool2d if self.rng.random() < 0.5 else nir.AvgPool2d
        self.shape = (self.shape[0], *(int(n) // int(k)
                                       for n, k in zip(self.shape[1:], size, strict=True)))
        return self.add(f"pool{number}", kind(size, size, np.array([0, 0])), [source])


@example(2869600)
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_spikes_are_those_of_the_graph_s_equations(seed):
    drawn = Drawn(seed)
    imported = from_nir(drawn.graph, timesteps=T, dialect_of=drawn.dialect, bits=8,
                        input_bits=INPUT_BITS, confirm=True)
    module = NIRModule(nir, drawn.graph, drawn.how)
    x = torch.from_numpy(drawn.rng.integers(0, 1 << INPUT_BITS,
                                            (T, 3, *module.input_shape)))
    theirs, ours = {}, {}
    for key, neuron in module.neurons.items():
        neuron.register_forward_hook(lambda _m, _i, out, key=key: theirs.update({key: out}))
    out = module(x.double())
    logits = IntegerNetwork(imported.network)(x, ours)
    assert not [n for n in imported.notes if not re.search("fire", n)], imported.notes
    names = {layer.name for layer in imported.network.layers}
    for key, spikes in theirs.items():
        if key not in names:            # no weight of what follows is reached
            continue
        assert torch.equal(ours[key].flatten(2), spikes.flatten(2).to(torch.uint8)), key
    total = out.sum(0)
    factor = float((logits * total).sum() / logits.double().square().sum().clamp_min(1e-9))
    assert torch.allclose(logits.double() * factor, total)
