"""Neurons written out in forward, with any numbers and in the ways people write the reset."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spikingjelly.activation_based import neuron
from torch import nn

from sw.imports import from_spikingjelly
from sw.imports.zoo.compare import compare
from sw.imports.zoo.entry import Entry
from sw.imports.zoo.settle import inputs

pytestmark = pytest.mark.usefixtures("one_thread")

RESETS = ("product", "where", "mask", "index", "subtract")


class Written(nn.Module):
    """Two layers of neurons. charge: "leak" v b + x, "tau" v + (x - (v - r)) (1 - b), "mean"
    v b + x (1 - b)."""

    def __init__(self, beta, theta, charge, reset, strict, rest, gain):
        super().__init__()
        self.beta, self.theta, self.charge, self.reset = beta, theta, charge, reset
        self.strict, self.rest = strict, 0.0 if reset == "subtract" else rest
        self.a, self.b, self.c = nn.Linear(12, 16), nn.Linear(16, 16), nn.Linear(16, 4)
        for p in self.parameters():
            p.data *= gain * theta

    def _charged(self, v, x):
        if self.charge == "leak":
            return v * self.beta + x
        if self.charge == "tau":
            return v + (x - (v - self.rest)) * (1 - self.beta)
        return v * self.beta + (1 - self.beta) * x

    def _fire(self, v, x):
        v = self._charged(v, x)
        spikes = (v > self.theta if self.strict else v >= self.theta).to(x.dtype)
        if self.reset == "product":
            v = v * (1 - spikes) + self.rest * spikes
        elif self.reset == "where":
            v = torch.where(spikes > 0, torch.full_like(v, self.rest), v)
        elif self.reset == "mask":
            v = v.masked_fill(spikes.bool(), self.rest)
        elif self.reset == "index":
            v = v.clone()
            v[spikes >= 1] = self.rest
        else:
            v = v - spikes * self.theta
        return v, spikes

    def forward(self, x):
        first = torch.full((x.shape[1], 16), self.rest, dtype=x.dtype)
        second, out = first.clone(), 0
        for step in x:
            first, spikes = self._fire(first, self.a(step))
            second, spikes = self._fire(second, self.b(spikes))
            out = out + self.c(spikes)
        return out


@settings(max_examples=8, deadline=None, print_blob=True)
@given(beta=st.floats(0.05, 0.98), theta=st.floats(0.01, 10), strict=st.booleans(),
       charge=st.sampled_from(["leak", "tau", "mean"]), reset=st.sampled_from(RESETS),
       rest=st.sampled_from([0.0, -0.37, 0.21]), gain=st.sampled_from([0.5, 1.0, 4.0]),
       steps=st.sampled_from([3, 4, 6]), seed=st.integers(0, 1000))
def test_it_is_read_whatever_its_numbers(beta, theta, strict, charge, reset, rest, gain, steps,
                                         seed):
    torch.manual_seed(seed)
    net = Written(beta, theta, charge, reset, strict, rest * theta, gain).double()
    imported = from_spikingjelly(net, (12, 1, 1), steps, bits=8, input_bits=2, static=False,
                                 input_scale=1.0)
    entry = Entry("written", "", lambda: net, (12, 1, 1), steps, feed="sequence", static=False)
    found = compare(entry, net, imported.network, inputs(entry, False, seed), 1.0)
    assert len(imported.network.layers) == 3
    assert found.logits < 0.4, (found, imported.notes)      # 8 bits: below 0.01, 0.15 at a flip


SEEN = {
    "above": lambda s: s > 0.5,
    "below": lambda s: s < 1,
    "a part": lambda s: s[:, [3, 1, 8, 0]] > 0,
    "a part, inverted": lambda s: s[:, ::4] <= 0,
    "turned": lambda s: s.reshape(-1, 4, 4).transpose(1, 2).flip(1).reshape(-1, 16) >= 1,
    "joined": lambda s: torch.cat([s > 0, s[:, :4] == 0], 1).to(s.dtype) > 0,
    "twice": lambda s: ((s > 0).to(s.dtype)[:, :8] < 0.5).to(s.dtype) < 0.5,
}


class Compared(nn.Module):
    """What the next layer reads are comparisons of spikes: of a neuron module's ("module"), or of
    written ones."""

    def __init__(self, kind, module):
        super().__init__()
        self.seen, self.module = SEEN[kind], module
        self.node = neuron.LIFNode(decay_input=False, step_mode="m")
        width = self.seen(torch.zeros(1, 16)).shape[1]
        self.a, self.b = nn.Linear(12, 16), nn.Linear(width, 4)

    def forward(self, x):
        if self.module:
            spikes = self.node(self.a(x))
            return self.b(self.seen(spikes.flatten(0, 1)).to(x.dtype)).view(*x.shape[:2], 4).mean(0)
        v, out = torch.zeros(x.shape[1], 16, dtype=x.dtype), 0
        for step in x:
            v = v / 2 + self.a(step)
            spikes = (v >= 1).to(x.dtype)
            v = torch.where(spikes > 0, torch.zeros_like(v), v)
            out = out + self.b(self.seen(spikes).to(x.dtype))
        return out


@pytest.mark.parametrize("module", [True, False])
@pytest.mark.parametrize("kind", SEEN)
def test_comparisons_of_spikes_are_spikes(kind, module):
    """Importing compares with the module's own run, so a wrong sign or place would raise."""
    torch.manual_seed(0)
    net = Compared(kind, module).double().eval()
    imported = from_spikingjelly(net, (12, 1, 1), 4, bits=8, input_bits=2, input_scale=1.0)
    assert not any("never fires" in note for note in imported.notes)
    assert len(imported.network.layers) == 2
