"""The float network that was imported, on integer inputs: what the integers are compared with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..integer.attention import ColumnAttention
from ..integer.firing import EQUAL, GRID
from ..integer.maps import attend, convolve, max_pool, walk
from ..integer.quantize import ScaledLayer
from ..integer.spikingjelly import IntegerNetwork
from .integers import Imported


class FloatNetwork(nn.Module):
    """An imported network before rounding, in float64 and in the units of its integers.

    Dividing by a channel's unit changes no spike. Channels that are whole in it get exact integers,
    so that float noise does not decide where a membrane meets its threshold.

    forward: that of `sw.integer.spikingjelly.IntegerNetwork`: integers [B, C, H, W] (static) or
    [T, B, C, H, W] -> logits [B, classes], the sums over timesteps and positions, in floats of the
    source; a dict `spikes` receives every map, a dict `currents` the mean currents [B, C] of every
    layer, in units. masks, kept: bool [B, N] for a gate that takes them from the host, and the
    tokens of every gate.
    """

    def __init__(self, imported: Imported):
        super().__init__()
        self.spec, self.timesteps = imported.network.input, imported.network.timesteps
        self.operations = imported.scaled
        self.numbers = {s.name: _Numbers.of(s) for s in self.operations
                        if isinstance(s, ScaledLayer)}

    @torch.no_grad()
    def forward(self, x: Tensor, spikes: dict[str, Tensor] | None = None,
                currents: dict[str, Tensor] | None = None, masks: Tensor | None = None,
                kept: dict[str, Tensor] | None = None) -> Tensor:
        maps: dict[str, Tensor] = {}
        logits = walk(self.operations, (x.unsqueeze(0) if self.spec.static else x).double(),
                      lambda layer, known: self.run(layer, known, currents),
                      masks if masks is None else masks.cpu().numpy(), maps, kept)
        if spikes is not None:
            spikes.update((name, made.to(torch.uint8)) for name, made in maps.items())
        return logits

    def run(self, layer: ScaledLayer, maps: dict[str, Tensor],
            means: dict[str, Tensor] | None = None) -> Tensor:
        """A layer's map from those before it, or the logits; `means` as `currents` of forward."""
        numbers = self.numbers[layer.name]
        total = numbers.bias.view(-1, 1, 1)
        if layer.attention is not None:
            total = total + attend(layer.attention, maps, torch.float64)
        for syn, weight in zip(layer.synapses, numbers.weights, strict=True):
            total = total + convolve(sum(maps[name] for name in syn.sources), weight, syn)
        if means is not None:
            means[layer.name] = total.mean((0, 3, 4))
        if layer.floats is None:
            return total.sum((0, 3, 4)) * (self.timesteps // len(total)) * layer.unit
        if layer.pool is not None and layer.pool.mode == "max":
            total = max_pool(total, layer.pool)
        out = _fire(total.expand(self.timesteps, *total.shape[1:]), layer, numbers)
        if isinstance(layer.attention, ColumnAttention):
            out = out * maps[layer.attention.query]
        if layer.pool is not None and layer.pool.mode == "or":
            out = max_pool(out, layer.pool)
        return out


@dataclass(frozen=True, eq=False)
class _Numbers:
    """A layer in units: weights by connection, bias, threshold and reset, [C]."""

    weights: list[Tensor]
    bias: Tensor
    theta: Tensor
    reset: Tensor

    @classmethod
    def of(cls, layer: ScaledLayer) -> _Numbers:
        def whole(values: Tensor, near: float) -> Tensor:
            axes = (-1, *(1,) * (values.dim() - 1))
            values = values / layer.unit.view(axes)
            nearest = values.round()
            close = (values - nearest).abs() <= near * values.abs().clamp_min(1)
            return torch.where(layer.exact.view(axes) & close, nearest, values)

        theta = reset = torch.zeros_like(layer.bias)
        if layer.floats is not None:
            theta = layer.floats.theta
            reset = reset if layer.floats.reset is None else layer.floats.reset
        return cls([whole(s.weight, GRID) for s in layer.synapses], whole(layer.bias, GRID),
                   whole(theta, EQUAL), whole(reset, GRID))


def _fire(currents: Tensor, layer: ScaledLayer, numbers: _Numbers) -> Tensor:
    """Spikes [T, B, C, H, W] of currents in units."""
    theta, rest = (x.view(-1, 1, 1) for x in (numbers.theta, numbers.reset))
    rule, v, spikes = layer.floats, rest, []
    for current in currents:
        v = rule.decay * v + current
        fired = v > theta if rule.strict else v >= theta
        v = v - theta * fired if rule.reset is None else torch.where(fired, rest, v)
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
            batch: int = 50, progress=None, masks: np.ndarray | None = None) -> Agreement:
    """Run the float and the integer network on integers [N, C, H, W] (static) or [N, T, C, H, W].

    progress(n) is told after every batch. masks: bool [N, tokens] for a gate that takes them from
    the host.
    """
    exact, rounded = FloatNetwork(imported), IntegerNetwork(imported.network)
    equal, right, counts = 0, [0, 0], {}
    for start in range(0, len(inputs), batch):
        x = torch.from_numpy(inputs[start:start + batch].copy())
        if not imported.network.input.static:
            x = x.transpose(0, 1)
        ours, theirs = {}, {}
        part = None if masks is None else torch.from_numpy(masks[start:start + batch])
        found = [exact(x, theirs, masks=part).argmax(1).numpy(),
                 rounded(x, ours, part).argmax(1).numpy()]
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


