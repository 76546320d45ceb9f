"""Recordings: a module's own operations, run again with other values between its neurons."""

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

from sw.imports.recorder import record

pytestmark = pytest.mark.usefixtures("one_thread")
STEPS, BATCH = 4, 3


def sequential(mode: str) -> nn.Sequential:
    net = nn.Sequential(
        layer.Conv2d(2, 4, 3, padding=1), layer.BatchNorm2d(4), neuron.LIFNode(),
        layer.MaxPool2d(2), layer.Conv2d(4, 4, 3), neuron.IFNode(), layer.Flatten(),
        layer.Linear(16, 5))
    functional.set_step_mode(net, mode)
    for part in (net[0], net[4]):
        part.weight.data *= 6
    return net


class Loop(nn.Module):
    """The loop over time in forward, results written in place."""

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList(sequential("s"))

    def forward(self, x: Tensor) -> Tensor:
        out = torch.zeros(STEPS, x.shape[1], 5)
        total = torch.zeros(x.shape[1], 5)
        for t in range(STEPS):
            y = x[t]
            for part in self.parts:
                y = part(y)
            out[t] = y
            total += y
        return out.mean(0) * 0.5 + total.div_(2 * STEPS)


def recorded(net: nn.Module, order: str = "tb", seed: int = 0):
    x = torch.rand(STEPS, BATCH, 2, 8, 8, generator=torch.Generator().manual_seed(seed))
    net = net.double().eval().requires_grad_(False)
    return record(net, list if order == "s" else lambda x: [x], x.double(), STEPS,
                  order)


@pytest.mark.parametrize("kind", ["s", "m", "loop"])
def test_replays_give_what_the_module_gave(kind):
    torch.manual_seed(0)
    net = Loop() if kind == "loop" else sequential(kind)
    first = recorded(net, "s" if kind == "s" else "tb")
    prefix = "parts." if kind == "loop" else ""
    assert [(cut.name, cut.kind, cut.dims, cut.out, cut.steps) for cut in first.cuts] == [
        (f"{prefix}2", "neuron", (4, 8, 8), (4, 8, 8), STEPS),
        (f"{prefix}3", "max_pool", (4, 8, 8), (4, 4, 4), STEPS),
        (f"{prefix}5", "neuron", (4, 2, 2), (4, 2, 2), STEPS)]
    assert torch.equal(first.output(first.spikes), first.result)
    # The same module on other inputs: replays of the first recording must follow it.
    functional.reset_net(net)
    other = recorded(net, "s" if kind == "s" else "tb", seed=1)
    assert not torch.equal(other.result, first.result)
    assert torch.allclose(first.output(other.spikes), other.result, atol=1e-12)
    assert 0 < float(other.spikes[f"{prefix}2"].mean()) < 1
    pool, last = first.cuts[1:]
    pooled = nn.functional.max_pool2d(other.spikes[first.cuts[0].name].flatten(0, 1), 2)
    pooled = pooled.unflatten(0, (STEPS, BATCH)).requires_grad_()
    seen = first.operand(last, {pool.name: pooled})
    assert torch.allclose(seen, other.operand(other.cut(last.name), {pool.name: pooled}))
    (slope,) = torch.autograd.grad(seen[2, 1].sum(), pooled)
    assert [tuple(i) for i in slope.abs().sum((2, 3, 4)).nonzero().tolist()] == [(2, 1)]


def test_what_a_cut_depends_on_is_known():
    net = recorded(sequential("m"))
    assert [net.sources(cut) for cut in net.cuts] == [("input",), ("2",), (net.cuts[1].name,)]
    assert net.sources(None) == ("5",)
    assert "native_batch_norm" in [op.name for op in net.operations(net.cuts[0])]
