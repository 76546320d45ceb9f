"""Random weights with which every layer both fires and rests, whole or not.

Weights drawn anyhow leave most layers of a deep spiking network silent or saturated, and a silent
layer proves nothing. So each layer's threshold is set where, on random inputs, about a quarter of
its neurons fire.

`whole`: everything is a whole number on a grid, folded batch norms and averages too, so the
integers can be the module's numbers exactly and every spike must be equal.
"""

from __future__ import annotations

import copy
import math

import torch
from spikingjelly.activation_based import functional, layer, neuron
from spikingjelly.activation_based.ann2snn.modules import VoltageScaler
from spikingjelly.activation_based.model.spiking_vggws_ottt import Scale
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .entry import NEURONS, Entry

GRID = 1 / 8
"""Step of whole parameters: also what SpikingJelly's attention multiplies its counts by."""

RATE = 0.25
"""Fraction of spikes that a threshold is set for."""

BELOW = 1 - 2.0 ** -24
"""One float32 step, relative: `Entry.noisy`."""

THRESHOLDS = ("v_threshold", "thresh")
"""Names under which neurons, SpikingJelly's and hand-written ones, hold their threshold."""

WEIGHTED = nn.Conv1d | nn.Conv2d | nn.Linear
NORMS = nn.BatchNorm1d | nn.BatchNorm2d


def is_neuron(module: nn.Module) -> bool:
    """Whether the zoo takes a module as a spiking neuron."""
    return any(hasattr(module, name) for name in THRESHOLDS)


def inputs(entry: Entry, whole: bool, seed: int, batch: int = 3) -> Tensor:
    """Random integers: [B, C, H, W] (static) or [T, B, C, H, W], up to `bits(entry, whole)`."""
    shape = (batch, *entry.shape)
    shape = shape if entry.static else (entry.timesteps, *shape)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 1 << bits(entry, whole), shape, generator=generator)
    return x if entry.static else x * (torch.rand(shape, generator=generator) < 0.4)


def bits(entry: Entry, whole: bool) -> int:
    """Width of the inputs."""
    return 2 if whole or not entry.static else 8


def scale(entry: Entry, whole: bool) -> float:
    """Float value of one integer input unit."""
    return 1.0 if not entry.static else GRID * 2 if whole else 1 / 255


def feed(entry: Entry, net: nn.Module, x: Tensor) -> Tensor | tuple:
    """Run the module on floats as `inputs` lays them out, the way its forward function wants."""
    if entry.shape[1:] == (1, 1):
        x = x.flatten(-3)
    if entry.feed == "image":
        return net(x)
    x = x.expand(entry.timesteps, *x.shape) if entry.static else x
    if entry.feed == "sequence":
        return net(x)
    if entry.feed == "batch first":
        return net(x.transpose(0, 1).contiguous())
    return sum(first(net(step)) for step in x)


def first(out: Tensor | tuple) -> Tensor:
    """An output, or the first of several: logits beside None, spikes beside a state."""
    return out[0] if isinstance(out, tuple) else out


def rest(net: nn.Module) -> None:
    """Membranes back to rest, of any library's neurons and of hand-written ones."""
    for module in net.modules():
        for name in ("reset_mem", "reset"):
            forget = getattr(module, name, None)
            if callable(forget):
                forget()
                break


@torch.no_grad()
def settled(entry: Entry, kind: str | None = None, *, whole: bool, seed: int = 0) -> nn.Module:
    """The entry's module with random parameters, in float64 and evaluation mode, at rest."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = entry.make(NEURONS[kind]) if kind else entry.make()
        if entry.steps:
            functional.set_step_mode(net, entry.steps)
        net.double()
        if whole:
            _draw_whole(net, entry.light)
        else:
            _draw(net)
        x = inputs(entry, whole, seed).double() * scale(entry, whole)
        if not whole:
            _statistics(entry, net, x)
        _thresholds(entry, net.eval(), x, whole)
        if not whole:                       # the norms' statistics follow the new thresholds
            _statistics(entry, net, x)
            _thresholds(entry, net.eval(), x, whole)
    return net.eval()


def _draw(net: nn.Module) -> None:
    for m in net.modules():
        if isinstance(m, NORMS) and m.affine:
            m.weight.uniform_(0.7, 1.3)
            m.bias.uniform_(-0.2, 0.4)


def _statistics(entry: Entry, net: nn.Module, x: Tensor) -> None:
    """Batch norms learn mean and variance from a few passes in training mode."""
    norms = [m for m in net.modules() if isinstance(m, NORMS)]
    momenta = [m.momentum for m in norms]
    for m in norms:
        m.reset_running_stats()
        m.momentum = None                   # a plain average
    net.train()
    for _ in range(2):
        feed(entry, net, x)
        rest(net)
    for m, momentum in zip(norms, momenta, strict=True):
        m.momentum = momentum


def _draw_whole(net: nn.Module, light: bool) -> None:
    gains = torch.tensor([1.0, -1.0] if light else [1.0, -1.0, 2.0])
    for m in net.modules():
        if isinstance(m, layer.WSConv2d | layer.WSLinear):
            _standardised(m)
        elif isinstance(m, WEIGHTED):
            small = light and isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)
            _assign(m, _few(m.weight.shape) if small else _weights(m.weight.shape))
            if m.bias is not None:
                m.bias.copy_(torch.randint(-1, 3, m.bias.shape) * GRID)
        elif isinstance(m, neuron.LIFNode):     # a decay that integers follow exactly
            m.tau = 2.0
        elif isinstance(m, Scale):              # of OTTT's weight standardisation, 2.74
            m.scale = 2.0
        elif isinstance(m, VoltageScaler):
            m.scale.copy_(2 ** m.scale.log2().round())
        elif isinstance(m, NORMS):
            m.eps = 0.0
            m.running_var.fill_(1.0)
            m.running_mean.copy_(torch.randint(-1, 2, m.running_mean.shape) * GRID)
            if m.affine:
                m.weight.copy_(gains[torch.randint(len(gains), m.weight.shape)])
                m.bias.copy_(torch.randint(-1, 3, m.bias.shape) * GRID)


def _assign(m: nn.Module, weight: Tensor) -> None:
    """Set the weight, below a pruning mask or a parametrization too."""
    if parametrize.is_parametrized(m):
        m.weight = weight.to(m.weight)
    else:
        getattr(m, "weight_orig", m.weight).copy_(weight)


def _weights(shape: torch.Size) -> Tensor:
    """-3..3 on the grid; of wide kernels a part, so that sums stay small."""
    kept = torch.rand(shape) < min(1.0, 40 / shape[1:].numel())
    return torch.randint(-3, 4, shape) * kept * GRID


def _few(shape: torch.Size) -> Tensor:
    """Two 1 or -1 by channel."""
    made = torch.zeros(shape)
    for row in made:
        row.view(-1)[torch.randperm(row.numel())[:2]] = 1.0 - 2 * torch.randint(2, (2,)).float()
    return made


def _standardised(m: nn.Module) -> None:
    """Weight standardisation of -1, 0, 1 with mean 0, and the gain that makes them the grid's."""
    count = m.weight[0].numel()
    row = torch.zeros(count, dtype=m.weight.dtype)
    row[:count // 2], row[count // 2:2 * (count // 2)] = 1, -1
    for weight in m.weight:
        weight.copy_(row[torch.randperm(count)].view(weight.shape))
    m.gain.fill_(GRID * math.sqrt(float(row.var()) * count + m.eps))
    if m.bias is not None:
        m.bias.copy_(torch.randint(-1, 3, m.bias.shape) * GRID)


def _thresholds(entry: Entry, net: nn.Module, x: Tensor, whole: bool) -> None:
    """Set each neuron's threshold at its first call, from the currents it gets there."""
    hooks = []

    def settle(module: nn.Module, arguments: tuple, seen: set) -> None:
        if module in seen:
            return
        seen.add(module)
        name = next(name for name in THRESHOLDS if hasattr(module, name))
        theta = _threshold(module, name, arguments[0], entry.timesteps, whole)
        setattr(module, name, theta * BELOW if whole and entry.noisy else theta)

    seen: set[nn.Module] = set()
    for module in net.modules():
        if is_neuron(module):
            hooks.append(module.register_forward_pre_hook(
                lambda module, arguments: settle(module, arguments, seen)))
    feed(entry, net, x)
    rest(net)
    for hook in hooks:
        hook.remove()


def _threshold(module: nn.Module, name: str, currents: Tensor, steps: int, whole: bool) -> float:
    """The largest of some thresholds at which at least `RATE` of a copy's outputs are spikes."""
    probe = copy.deepcopy(module)
    probe._forward_pre_hooks.clear()
    if isinstance(module, neuron.BaseNode) and module.step_mode == "s":
        calls = [currents] * min(steps, 4)
    else:
        calls = [currents]
    top = float(currents.max()) * (2 if steps > 1 else 1)
    if top <= 0:
        return GRID
    tried = [top * (k / 24) ** 1.5 for k in range(24, 0, -1)]
    if whole:
        step = 1.0 if torch.equal(currents, currents.round()) else GRID      # counts of attention
        tried = sorted({max(step, round(t / step) * step) for t in tried}, reverse=True)
    for theta in tried:
        setattr(probe, name, theta)
        rest(probe)
        spikes = [first(probe(call)) for call in calls]
        if float(sum(s.mean() for s in spikes)) / len(calls) >= RATE:
            return theta
    return tried[-1]
