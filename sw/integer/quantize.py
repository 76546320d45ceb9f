"""From folded float layers to the integer network.

Dividing a channel's currents by a unit g > 0 of its own leaves its spikes as they are::

    w_int = round(W / g)    clipped to +-(2^(bits-1) - 1), or a sign
    bias_int = round(bias / g)                threshold = theta / g, as `firing` rounds it

`units` chooses g, `firing` makes the neuron. Roundings are to the nearest integer, halves to even.
Further rules, each tested:

- the input map holds integers: its `input_scale` goes into its weights.
- a channel without weights: the threshold is CONSTANT_THETA and the bias follows.
- weights so small that their threshold or an ordinary bias would not fit its width in their unit:
  the unit is the least with which it does. A channel that loses all weights by that is noted, a
  layer refused.
- attention has no weights: its counts x are whole, so g is the layer's scale.
- whatever is not exact is a note; numbers that are not finite, or do not fit, are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import SpikeTicketError
from .attention import Attention, ColumnAttention
from .firing import GRID, check_neuron, firing, resting_bias
from .floats import FloatAttention, FloatLayer, FloatNeuron, FloatOperation, FloatSynapses
from .gate import Gate, Select
from .network import INPUT, InputSpec, Layer, Network, Neuron, Pool, Synapses
from .shapes import whole
from .units import BIAS_LIMIT, choose, to_grid


@dataclass(frozen=True, eq=False)
class ScaledLayer:
    """A float layer with a unit for every channel.

    synapses: weights float64 in current per unit of the integer operand, bits as they will be.
    bias: float current [C]; whole_bias: the same in units, int64, to which `shift` is added. unit:
    float current of one integer [C]. exact: bool [C], spikes are those of the float channel.
    threshold, neuron: in units; floats: the float neuron.
    """

    name: str
    synapses: tuple[FloatSynapses, ...]
    bias: Tensor
    whole_bias: Tensor
    unit: Tensor
    exact: Tensor
    threshold: Tensor
    shift: int
    neuron: Neuron | None
    floats: FloatNeuron | None
    pool: Pool | None = None
    attention: Attention | ColumnAttention | None = None
    notes: tuple[str, ...] = ()

    def integers(self, syn: FloatSynapses) -> Tensor:
        """Whole numbers [C_out, C_in, kh, kw] of a connection."""
        return to_grid(syn.weight, self.unit, syn.bits)

    def rounded(self) -> Layer:
        """The integer layer."""
        synapses = tuple(Synapses(self.integers(s).to(torch.int8).numpy(), s.sources, s.stride,
                                  s.padding, s.sum_pool, s.bits) for s in self.synapses)
        bias = (self.whole_bias + self.shift).numpy()
        return Layer(self.name, synapses, bias, self.threshold.numpy(), self.neuron, self.pool,
                     self.attention)


ScaledOperation = ScaledLayer | Gate | Select


@torch.no_grad()
def convert(layers: Sequence[FloatOperation], spec: InputSpec, timesteps: int, *,
            input_scale: float = 1.0, name: str = "network",
            labels: tuple[str, ...] = ()) -> Network:
    """Quantise float layers, in order of execution, the readout last, to the integer network.

    input_scale: float value of one integer input unit. Raises SpikeTicketError, naming the layer,
    for numbers that have no integer form.
    """
    return rounded(scale(layers, input_scale), spec, timesteps, name, labels)


def rounded(scaled: Sequence[ScaledOperation], spec: InputSpec, timesteps: int, name: str,
            labels: tuple[str, ...] = ()) -> Network:
    """The integer network of layers with units."""
    built = (s.rounded() if isinstance(s, ScaledLayer) else s for s in scaled)
    return Network(spec, timesteps, tuple(built), name, labels)


@torch.no_grad()
def scale(layers: Sequence[FloatOperation], input_scale: float = 1.0) -> list[ScaledOperation]:
    """Choose the units of all layers; see `convert`."""
    if not 0 < input_scale < float("inf"):
        raise SpikeTicketError(f"input_scale {input_scale} is not a finite number above 0")
    made: list[ScaledOperation] = []
    for layer in layers:
        if isinstance(layer, FloatLayer):
            layer = _layer(layer, input_scale)
        elif isinstance(layer, FloatAttention):
            layer = _attention(layer)
        made.append(layer)
    return made


def _layer(layer: FloatLayer, input_scale: float) -> ScaledLayer:
    where = f"layer {layer.name!r}"
    if not layer.synapses:
        raise SpikeTicketError(f"{where}: no synapses")
    bias, neuron = layer.bias.detach().double(), layer.neuron
    _finite(bias[:, None], where, "bias")
    for syn in layer.synapses:
        if syn.weight.dim() != 4 or len(syn.weight) != len(bias):
            raise SpikeTicketError(f"{where}: weight of shape {list(syn.weight.shape)} and "
                                   f"{len(bias)} biases")
        _finite(syn.weight.flatten(1), where, "weight")
        whole(syn.bits, f"{where}: weight bits", 1, 8)
    synapses = [part for syn in layer.synapses for part in _per_unit(syn, input_scale)]
    if neuron is not None:
        check_neuron(neuron, len(bias), where)
    try:
        units = choose([s.weight for s in synapses], [s.bits for s in synapses], bias, neuron)
    except SpikeTicketError as error:
        raise SpikeTicketError(f"{where}: {error}") from error
    synapses = tuple(replace(s, bits=b) for s, b in zip(synapses, units.bits, strict=True))
    over = ((bias / units.unit).abs() > BIAS_LIMIT + 0.5).nonzero()
    if len(over):
        c = int(over[0])
        raise SpikeTicketError(
            f"{where}, channel {c}: folded bias {float(bias[c] / units.unit[c]):.4g} exceeds "
            f"{BIAS_LIMIT} units of its weights; is its batch norm trained?")
    whole_bias = (bias / units.unit).round().to(torch.int64)
    if neuron is None:
        zeros = torch.zeros_like(whole_bias)
        made = ScaledLayer(layer.name, synapses, bias, whole_bias, units.unit, units.exact, zeros,
                           0, None, None, layer.pool)
        return replace(made, notes=_notes(made, where, 0.0))
    fires = firing(neuron, units.unit, where)
    exact = units.exact & fires.exact
    whole_bias = torch.where(exact, whole_bias, resting_bias(neuron, fires, bias, whole_bias))
    made = ScaledLayer(layer.name, synapses, bias, whole_bias, units.unit, exact, fires.threshold,
                       fires.shift, fires.neuron, neuron, layer.pool)
    return replace(made, notes=(*_notes(made, where, fires.error), *fires.notes))


def _attention(layer: FloatAttention) -> ScaledLayer:
    where = f"layer {layer.name!r}"
    if not 0 < layer.scale < float("inf"):
        raise SpikeTicketError(f"{where}: attention scale {layer.scale} must be above 0, and "
                               "finite")
    channels = len(layer.neuron.theta)
    check_neuron(layer.neuron, channels, where)
    unit = torch.full((channels,), float(layer.scale), dtype=torch.float64)
    fires = firing(layer.neuron, unit, where, counts=True)
    zero = torch.zeros_like(unit)
    made = ScaledLayer(layer.name, (), zero, zero.to(torch.int64), unit, fires.exact,
                       fires.threshold, fires.shift, fires.neuron, layer.neuron, None,
                       layer.attention)
    return replace(made, notes=(*_notes(made, where, fires.error), *fires.notes))


def _finite(rows: Tensor, where: str, what: str) -> None:
    bad = ~torch.isfinite(rows).all(1)
    if bool(bad.any()):
        c = int(bad.nonzero()[0])
        value = float(rows[c][~torch.isfinite(rows[c])][0])
        raise SpikeTicketError(f"{where}, channel {c}: {what} {value} is not a finite number")


def _per_unit(syn: FloatSynapses, input_scale: float) -> list[FloatSynapses]:
    """The connection with weights per unit of its integer operand: sums of the input, whose unit is
    `input_scale`, and of spikes have two."""
    weight = syn.weight.detach().double()
    groups = (tuple(n for n in syn.sources if n == INPUT), input_scale), (
        tuple(n for n in syn.sources if n != INPUT), 1.0)
    if input_scale == 1.0:
        groups = ((syn.sources, 1.0),)
    return [replace(syn, weight=weight * factor, sources=sources)
            for sources, factor in groups if sources]


def _notes(made: ScaledLayer, where: str, threshold: float) -> tuple[str, ...]:
    """What is not exact, and what lost all weights; a layer that did is refused.

    threshold: largest relative change of one.
    """
    notes = []
    off = int((~made.exact).sum())
    if off:
        parts, change, total = [], 0.0, 0.0
        size = max([1e-300, *(float(s.weight.abs().max()) for s in made.synapses)])
        for syn in made.synapses:       # over the largest: squares of tiny numbers would be 0
            rounded = made.integers(syn) * made.unit.view(-1, 1, 1, 1)
            change += float(((rounded - syn.weight) / size).square().sum())
            total += float((syn.weight / size).square().sum())
        if made.synapses:
            part = (change / total) ** 0.5 if total else 0.0
            parts.append(f"weights by {_percent(part)} of their norm")
        if made.floats is not None:
            parts.append(f"thresholds by up to {_percent(threshold)}")
        bias = float((made.bias - made.whole_bias * made.unit).abs().div(_size(made)).max())
        if bias > GRID:
            of = "a threshold" if made.floats is not None else "a weight's unit"
            parts.append(f"biases by up to {_percent(bias)} of {of}")
        notes.append(f"{off} of {len(made.exact)} channels are rounded ({', '.join(parts)})")
    lost = torch.zeros_like(made.exact)
    had, has = torch.zeros_like(lost), torch.zeros_like(lost)
    for syn in made.synapses:
        before, after = (w.flatten(1).any(1) for w in (syn.weight, made.integers(syn)))
        had, has = had | before, has | after
        if bool(before.any()) and not bool(after.any()) and len(made.synapses) > 1:
            notes.append(f"all weights from {', '.join(syn.sources)} are lost in rounding")
    lost = had & ~has
    if not bool(lost.any()):
        return tuple(notes)
    largest = torch.stack([s.weight.flatten(1).abs().amax(1) for s in made.synapses]).amax(0)
    share = f"the largest is {float((largest / _size(made))[lost].max()):.2g} of a threshold"
    if not bool(has.any()):
        raise SpikeTicketError(f"{where}: all its weights would be rounded to 0, {share}; are "
                               "weights, bias and threshold right?")
    names = ", ".join(map(str, lost.nonzero().flatten().tolist()[:8]))
    more = f" and {int(lost.sum()) - 8} more" if int(lost.sum()) > 8 else ""
    return (*notes, f"channels {names}{more} lose all their weights in rounding; {share}")


def _size(made: ScaledLayer) -> Tensor:
    """What errors are held against, [C]: the threshold; of a readout the unit."""
    return made.unit if made.floats is None else made.floats.theta.clamp_min(1e-300)


def _percent(part: float) -> str:
    return f"{part:.1%}" if part < 10 else f"a factor of {part:.2g}"
