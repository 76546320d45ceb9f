"""The float network that was imported, on integer inputs: what the integers are compared with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import SpikeTicketError
from ..integer.network import INPUT
from ..integer.quantize import FloatLayer, FoldedLayer, _geometry, _node, fold
from ..integer.spikingjelly import IntegerNetwork
from .integers import EQUAL, GRID, Firing, Imported, _decay


class FloatNetwork(nn.Module):
    """An imported network before rounding, in float64 and in the units of its integers.

    Dividing by a channel's unit changes no spike. Channels that are whole in it get exact integers,
    so that float noise does not decide where a membrane meets its threshold.

    forward(x, spikes) is that of `sw.integer.spikingjelly.IntegerNetwork`: integers [B, C, H, W]
    (static) or [T, B, C, H, W] -> logits [B, classes], the sums over timesteps and positions; a
    dict `spikes` receives every map, a dict `currents` the mean currents [B, C] of every layer, in
    units. Attention and gates are not computed here (SpikeTicketError).
    """

    def __init__(self, imported: Imported):
        super().__init__()
        self.spec, self.timesteps = imported.network.input, imported.network.timesteps
        self.layers, self.firing = imported.layers, imported.firing
        if not all(isinstance(layer, FloatLayer) for layer in self.layers):
            raise SpikeTicketError("attention and gates are compared with the module itself")
        self.folded: list[FoldedLayer] = fold(self.layers, self.spec, imported.input_scale)
        self.units = imported.units
        self.scaled = [_scaled(layer, folded, imported)
                       for layer, folded in zip(self.layers, self.folded, strict=True)]

    @torch.no_grad()
    def forward(self, x: Tensor, spikes: dict[str, Tensor] | None = None,
                currents: dict[str, Tensor] | None = None) -> Tensor:
        maps = {INPUT: (x.unsqueeze(0) if self.spec.static else x).double()}
        for layer, scaled in zip(self.layers, self.scaled, strict=True):
            made = _currents(layer, scaled, maps)
            if currents is not None:
                currents[layer.name] = made.mean((0, 3, 4))
            if layer.node is None:
                repeat = self.timesteps // len(made)
                return made.sum((0, 3, 4)) * repeat * self.units[layer.name]
            if layer.pool is not None and layer.pool.mode == "max":
                made = _max_pool(made, layer.pool)
            made = made.expand(self.timesteps, *made.shape[1:])
            out = _fire(made, layer.node, scaled, self.firing.get(layer.name, Firing()).strict)
            if layer.pool is not None and layer.pool.mode == "or":
                out = _max_pool(out, layer.pool)
            maps[layer.name] = out
            if spikes is not None:
                spikes[layer.name] = out.to(torch.uint8)
        raise AssertionError("a network ends with its readout")


@dataclass(frozen=True, eq=False)
class _Scaled:
    """A layer in units: weights by connection, bias, threshold and reset, [C]."""

    weights: list[Tensor]
    bias: Tensor
    theta: Tensor
    reset: Tensor


def _scaled(layer: FloatLayer, folded: FoldedLayer, imported: Imported) -> _Scaled:
    unit, exact = imported.units[layer.name], imported.exact[layer.name]

    def whole(values: Tensor, near: float) -> Tensor:
        values = values / unit.view(-1, *(1,) * (values.dim() - 1))
        nearest = values.round()
        close = (values - nearest).abs() <= near * values.abs().clamp_min(1)
        return torch.where(exact.view(-1, *(1,) * (values.dim() - 1)) & close, nearest, values)

    theta = torch.full_like(folded.bias, _node(layer.node, layer.name)[1])
    reset = imported.firing.get(layer.name, Firing()).reset
    reset = torch.zeros_like(theta) if reset is None else reset.double()
    weights = [whole(w * f.view(-1, 1, 1, 1), GRID)
               for w, f in zip(folded.weights, folded.factors, strict=True)]
    return _Scaled(weights, whole(folded.bias, GRID), whole(theta, EQUAL), whole(reset, GRID))


def _currents(layer: FloatLayer, scaled: _Scaled, maps: dict[str, Tensor]) -> Tensor:
    total = scaled.bias.view(-1, 1, 1)
    for c, weight in zip(layer.connections, scaled.weights, strict=True):
        operand = sum(maps[name] for name in c.sources)
        lead = operand.shape[:2]
        operand = operand.flatten(0, 1)
        if c.avg_pool > 1:
            operand = F.avg_pool2d(operand, c.avg_pool, divisor_override=1)
        stride, padding = _geometry(c.conv, layer.name)
        total = total + F.conv2d(operand, weight, None, stride, padding).unflatten(0, lead)
    return total


def _max_pool(x: Tensor, pool) -> Tensor:
    lead = x.shape[:2]
    return F.max_pool2d(x.flatten(0, 1), pool.size, pool.stride, pool.padding).unflatten(0, lead)


def _fire(currents: Tensor, node: nn.Module, scaled: _Scaled, strict: bool) -> Tensor:
    """Spikes [T, B, C, H, W]; what the node multiplies its input by is in the currents already."""
    theta, rest = (x.view(-1, 1, 1) for x in (scaled.theta, scaled.reset))
    kept, v, spikes = _decay(node), rest, []
    for current in currents:
        v = kept * v + current
        fired = v > theta if strict else v >= theta
        v = v - theta * fired if node.v_reset is None else torch.where(fired, rest, v)
        spikes.append(fired)
    return torch.stack(spikes).double()


@dataclass(frozen=True)
class Agreement:
    """Float against integer network over `inputs` inputs.

    labels: fraction with equal label; accuracies: (float, integer), where labels are known;
    spikes: fraction of equal spikes by layer (neuron and timestep).
    """

    inputs: int
    labels: float
    spikes: dict[str, float]
    accuracies: tuple[float, float] | None = None

    @property
    def identical(self) -> bool:
        """Every spike is the same."""
        return all(fraction == 1.0 for fraction in self.spikes.values())

    def facts(self) -> dict:
        """For JSON."""
        result = {"inputs": self.inputs, "equal_labels": self.labels, "equal_spikes": self.spikes}
        if self.accuracies is not None:
            result["accuracy_float"], result["accuracy_integer"] = self.accuracies
        return result


def compare(imported: Imported, inputs: np.ndarray, labels: np.ndarray | None = None,
            batch: int = 50, progress=None) -> Agreement:
    """Run the float and the integer network on integers [N, C, H, W] (static) or [N, T, C, H, W].

    progress(n) is told after every batch.
    """
    exact, rounded = FloatNetwork(imported), IntegerNetwork(imported.network)
    equal, right, counts = 0, [0, 0], {}
    for start in range(0, len(inputs), batch):
        x = torch.from_numpy(inputs[start:start + batch].copy())
        if not imported.network.input.static:
            x = x.transpose(0, 1)
        ours, theirs = {}, {}
        found = [exact(x, theirs).argmax(1).numpy(), rounded(x, ours).argmax(1).numpy()]
        equal += int((found[0] == found[1]).sum())
        for name, spikes in ours.items():
            same = counts.setdefault(name, [0, 0])
            same[0] += int((spikes == theirs[name]).sum())
            same[1] += spikes.numel()
        if labels is not None:
            truth = labels[start:start + batch]
            right = [n + int((f == truth).sum()) for n, f in zip(right, found, strict=True)]
        if progress is not None:
            progress(len(found[0]))
    total = max(1, len(inputs))
    accuracies = None if labels is None else (right[0] / total, right[1] / total)
    return Agreement(len(inputs), equal / total,
                     {name: a / b for name, (a, b) in counts.items()}, accuracies)


