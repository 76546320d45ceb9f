"""From float layers to the integer network, exact wherever the numbers allow it.

`sw.integer.quantize.fold` chooses a unit for every channel. Here a channel whose weights, bias,
threshold and reset all are multiples of one number gets that number, so a network that was integers
once (an exported ticket, or one trained on a grid) comes back as the same integers. Thresholds then
follow the comparison that the source uses, in units, for the real membrane v and threshold theta:

- v >= theta, a whole theta: threshold = theta. The core's membrane is floor(v) for decays 1/2^m
  (nested floors: floor((floor(v) + x) / n) = floor((v + x) / n)), and floor(v) >= theta says
  exactly v >= theta.
- v > theta, a whole theta: floor(v) cannot tell theta from theta + 1/2, but ceil(v) > theta can.
  The core computes ceil(v) + c when c is added to the state: with lambda = k / 2^m in lowest
  terms, 2^m e = 1 (mod k), c = (2^m e - 1) / k and d = e - 1::

      ceil(lambda V) + c + x = floor(lambda (V + c)) + (c - d) + x          V = ceil(v)

  so bias + (c - d), threshold theta + 1 + c and reset (and start) c give V > theta. IF neurons
  (k = 1, m = 0): c = d = 0, the threshold is theta + 1. Soft resets have no such form, because
  what is subtracted is the threshold.
- a theta between two integers: IF neurons round up, both comparisons agree then; others round to
  the nearest, as their membranes lose up to one unit by the floor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from .. import ticket
from ..errors import SpikeTicketError
from ..integer.network import LEAK_ONE, InputSpec, Layer, Network, Neuron
from ..integer.quantize import FloatOperation, FoldedLayer, _node, _to_grid, fold, largest_weight

GRID = 1e-6
"""Relative distance from an integer that counts as one: float32 parameters are that far off."""

EQUAL = 1e-9
"""The same for thresholds, where one float32 step below an integer must stay below it."""


@dataclass(frozen=True)
class Firing:
    """What a float layer does not say about its neuron, which is a SpikingJelly one.

    strict: it fires at v > theta instead of v >= theta. reset: [C], what a hard reset sets, in
    float units above the resting potential (None: to rest). unit: [C], float current that was 1 in
    the source; it is kept where everything is whole in it, so integers come back as they were.
    """

    strict: bool = False
    reset: Tensor | None = None
    unit: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Imported:
    """An imported network.

    network: the integers. layers, firing: the float network it was made from, with `input_scale`
    the float value of one integer input unit; units, exact: float current of one integer unit and
    bool, [C] by layer. notes: what is not exact, a line each, empty where the integer network gives
    the source's spikes for every input. facts: what `save` writes beside the network.
    """

    network: Network
    layers: tuple[FloatOperation, ...] = ()
    firing: Mapping[str, Firing] = field(default_factory=dict)
    input_scale: float = 1.0
    units: Mapping[str, Tensor] = field(default_factory=dict)
    exact: Mapping[str, Tensor] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    facts: dict = field(default_factory=dict)

    def save(self, path: str | Path, **facts: object) -> None:
        """Write the ticket; `facts` are added to its metadata."""
        described = {**self.facts, "sparsity": self.network.sparsity, "notes": list(self.notes)}
        ticket.save(path, self.network, {**described, **facts})


@torch.no_grad()
def build(layers: Sequence[FloatOperation], spec: InputSpec, timesteps: int, *,
          input_scale: float = 1.0, firing: Mapping[str, Firing] | None = None,
          name: str = "network", labels: tuple[str, ...] = ()) -> Imported:
    """Quantise float layers; `firing` by layer name, those without one fire at v >= theta."""
    firing = dict(firing or {})
    built, notes, units, exact = [], [], {}, {}
    for source, folded in zip(layers, fold(layers, spec, input_scale), strict=True):
        if not isinstance(folded, FoldedLayer):
            built.append(folded)
        elif folded.attention is not None:
            built.append(folded.rounded())
        else:
            made, said, units[folded.name], exact[folded.name] = _integers(
                folded, source.node, firing.get(folded.name, Firing()))
            built.append(made)
            notes += [f"layer {folded.name!r}: {line}" for line in said]
    network = Network(spec, timesteps, tuple(built), name, labels)
    return Imported(network, tuple(layers), firing, input_scale, units, exact,
                    tuple(notes))


def _integers(folded: FoldedLayer, node: object, firing: Firing,
              ) -> tuple[Layer, list[str], Tensor, Tensor]:
    """The integer layer, what is not exact about it, and unit and exactness of its channels."""
    where = f"layer {folded.name!r}"
    _, theta, _ = _node(node, where)
    notes = []
    weights = [w * f.view(-1, 1, 1, 1)
               for w, f in zip(folded.weights, folded.factors, strict=True)]
    unit, exact = _grid(folded, weights, theta if folded.neuron else None, firing)
    folded = replace(folded, unit=unit)
    off = int((~exact).sum())
    if off:
        error = _weight_error(folded, weights)
        notes.append(f"{off} of {len(exact)} channels are rounded (weights by {error:.1%} of "
                     "their norm)")
    layer = folded.rounded()
    if folded.neuron is None:
        return layer, notes, unit, exact
    spiking, kept = folded.neuron, _decay(node)
    if abs(kept * LEAK_ONE - spiking.leak) > GRID * LEAK_ONE:
        notes.append(f"decay {kept:.6g} becomes {spiking.leak}/{LEAK_ONE}")
    elif spiking.leak & (spiking.leak - 1):
        notes.append(f"decay {spiking.leak}/{LEAK_ONE} rounds the membrane down at every timestep")
    ratio = theta / unit
    soft, shift, rest = spiking.reset == "soft", 0, 0
    if firing.strict and soft:
        raise SpikeTicketError(f"{where}: v > theta with a subtracting reset has no integer form "
                               "(it would subtract theta + 1); give fires '>=', which differs only "
                               "where a membrane equals its threshold")
    if firing.reset is not None and bool((firing.reset != 0).any()):
        rest = _common_reset(firing.reset / unit, where)
    above = (ratio - ratio.round()) / ratio
    whole = (above >= -EQUAL) & (above <= GRID)
    if firing.strict and bool(whole.any()):
        shift, less = _ceiling(spiking.leak)
    if shift:
        threshold = torch.where(whole, ratio.round() + 1, ratio.round()) + shift
        layer = replace(layer, bias=layer.bias + (shift - less))
    elif firing.strict:
        threshold = _rounded(ratio, whole, spiking, soft) + whole
    else:
        threshold = _rounded(ratio, whole, spiking, soft)
    if spiking.reset == "hard":
        spiking = replace(spiking, v_reset=rest + shift)
    layer = replace(layer, threshold=threshold.to(torch.int64).numpy(), neuron=spiking)
    return layer, notes, unit, exact


def _rounded(ratio: Tensor, whole: Tensor, spiking: Neuron, soft: bool) -> Tensor:
    nearest = ratio.round()
    # One float32 step below an integer is meant to be reached by that integer.
    near = whole | ((ratio - nearest).abs() <= GRID * ratio.abs())
    if spiking.leak == LEAK_ONE and not soft:
        return torch.where(near, nearest, ratio.ceil())
    return nearest


def _ceiling(leak: int) -> tuple[int, int]:
    """(c, d) of the module's text, for lambda = leak / 256."""
    if leak == 0:
        return 0, 0
    k, whole = leak, LEAK_ONE
    while k % 2 == 0 and whole > 1:
        k, whole = k // 2, whole // 2
    inverse = pow(whole, -1, k) if k > 1 else 1
    return (whole * inverse - 1) // k, inverse - 1


def _common_reset(values: Tensor, where: str) -> int:
    """The integer that all channels reset to; values [C] are in their units."""
    nearest = values.round()
    if bool((values - nearest).abs().max() > 1e-3) or bool((nearest != nearest[0]).any()):
        raise SpikeTicketError(f"{where}: v_reset is {values.min():.4g} .. {values.max():.4g} "
                               "units above rest by channel; the core has one whole number, so "
                               "let v_reset equal v_leak")
    return int(nearest[0])


def _decay(node: object) -> float:
    """The fraction of the membrane that a SpikingJelly node keeps per timestep."""
    return 1 - 1 / float(node.tau) if hasattr(node, "tau") else 1.0


def _weight_error(folded: FoldedLayer, weights: list[Tensor]) -> float:
    """Norm of the rounding over the norm of all weights."""
    off = total = 0.0
    for c, w in zip(folded.connections, weights, strict=True):
        rounded = _to_grid(w, folded.unit, c.bits) * folded.unit.view(-1, 1, 1, 1)
        off += float((rounded - w).square().sum())
        total += float(w.square().sum())
    return (off / total) ** 0.5 if total else 0.0


def _grid(folded: FoldedLayer, weights: list[Tensor], theta: float | None,
          firing: Firing) -> tuple[Tensor, Tensor]:
    """(unit [C], bool [C]): a unit in which everything of a channel is whole, and where there is
    one: the source's own, or the largest; the folded unit elsewhere. The readout has one unit for
    all channels.
    """
    rows, bits = [w.flatten(1) for w in weights], [c.bits for c in folded.connections]
    others = [folded.bias[:, None]]
    if theta is not None:
        others.append(torch.full_like(others[0], theta))
        if firing.reset is not None:
            others.append(firing.reset.double()[:, None])
    else:                                        # classes are compared with each other
        rows, others = [r.reshape(1, -1) for r in rows], [o.reshape(1, -1) for o in others]
    best = torch.zeros(len(rows[0]), dtype=torch.float64)
    if firing.unit is not None:
        own = firing.unit.double()[:len(best)]
        best = torch.where(_fits(rows, bits, others, own), own, best)
    found = best > 0
    for row, width in zip(rows, bits, strict=True):
        largest = row.abs().amax(1)
        for j in range(1, largest_weight(width) + 1):
            unit = largest / j
            better = ~found & (unit > best)
            if bool(better.any()):
                best = torch.where(better & _fits(rows, bits, others, unit), unit, best)
    if theta is None:
        best = best.expand(len(folded.unit))
    # The folded unit of a channel without weights serves its threshold; its bias is rounded.
    silent = sum(w.flatten(1).abs().sum(1) for w in weights) == 0
    exact = (best > 0) | silent & (folded.bias.abs() == 0)
    return torch.where(best > 0, best, folded.unit), exact


def _fits(rows: list[Tensor], bits: list[int], others: list[Tensor], unit: Tensor) -> Tensor:
    """bool [rows]: weights fit their bits in this unit, and all numbers are whole."""
    safe = torch.where(unit > 0, unit, torch.ones_like(unit))[:, None]
    fits = unit > 0
    for row, b in zip(rows, bits, strict=True):
        whole = row / safe
        fits = fits & _whole(whole) & (whole.abs().amax(1) <= largest_weight(b) + GRID)
        if b == 1:                               # one bit holds signs only
            fits &= (whole.abs().round() == (row != 0)).all(1)
    for other in others:
        fits = fits & _whole(other / safe)
    return fits


def _whole(x: Tensor) -> Tensor:
    """bool [rows]: all of a row's numbers are integers, up to the precision of float32."""
    return ((x - x.round()).abs() <= GRID * x.abs().clamp_min(1)).all(1)
