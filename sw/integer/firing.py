"""The neuron of a float layer in whole units: leak, threshold, reset, and what is lost by it.

Where currents are whole, the integer neuron fires as the float one does if its threshold is:

- v >= theta, a whole theta: theta. The core's membrane is floor(v) for decays 1/2^m (nested floors:
  floor((floor(v) + x) / n) = floor((v + x) / n)), and floor(v) >= theta says exactly v >= theta.
- v > theta, a whole theta: floor(v) cannot tell theta from theta + 1/2, but ceil(v) > theta can.
  The core computes ceil(v) + c when c is added to the state: with lambda = k / 2^m in lowest
  terms, 2^m e = 1 (mod k), c = (2^m e - 1) / k and d = e - 1::

      ceil(lambda V) + c + x = floor(lambda (V + c)) + (c - d) + x          V = ceil(v)

  so bias + (c - d), threshold theta + 1 + c and reset (and start) c give V > theta. IF neurons
  (k = 1, m = 0): c = d = 0, the threshold is theta + 1. Soft resets have no such form, because
  what is subtracted is the threshold.
- a theta between two integers: neurons whose membrane stays whole (IF with a hard reset, and those
  without memory) round up, both comparisons agree then; others round to the nearest, as their
  membranes lose up to one unit by the floor. A threshold above rest stays above rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import SpikeTicketError
from .floats import FloatNeuron
from .network import LEAK_ONE, MAX_TIMESTEPS, Neuron
from .reference import fire

THRESHOLD_LIMIT = (1 << 23) - 1
"""Thresholds and membranes are signed 24-bit in the core."""

GRID = 1e-6
"""Relative distance from an integer that counts as one: float32 parameters are that far off."""

EQUAL = 1e-9
"""The same for thresholds, where one float32 step below an integer must stay below it."""


@dataclass(frozen=True, eq=False)
class Firing:
    """Integer neuron of a layer: `threshold` int64 [C], `shift`, which is added to every bias.
    exact: bool [C], fires as the float neuron where currents are whole. error: largest relative
    change of a threshold. notes: what is not exact about all channels."""

    neuron: Neuron
    threshold: Tensor
    shift: int
    exact: Tensor
    error: float
    notes: tuple[str, ...] = ()


def check_neuron(neuron: FloatNeuron, channels: int, where: str) -> None:
    """Raise SpikeTicketError for numbers that are no neuron's."""
    if not 0 <= neuron.decay <= 1:                      # NaN, too
        raise SpikeTicketError(f"{where}: decay {neuron.decay} is not in 0..1")
    for what, values in (("threshold", neuron.theta), ("reset", neuron.reset),
                         ("unit", neuron.unit)):
        if values is None:
            continue
        if values.shape != (channels,):
            raise SpikeTicketError(f"{where}: {what} of shape {list(values.shape)} for {channels} "
                                   "channels")
        bad = ~torch.isfinite(values)
        if bool(bad.any()):
            c = int(bad.nonzero()[0])
            raise SpikeTicketError(f"{where}, channel {c}: {what} {float(values[c])} is not a "
                                   "finite number")
    low = neuron.theta < 0 if neuron.strict else neuron.theta <= 0
    if bool(low.any()):
        c = int(low.nonzero()[0])
        raise SpikeTicketError(f"{where}, channel {c}: threshold {float(neuron.theta[c]):.6g} is "
                               "not above rest; the neuron would fire without input")


def keeps_whole(neuron: FloatNeuron) -> bool:
    """Membranes are whole wherever currents and reset are: their threshold may lie anywhere."""
    return neuron.decay == 0 or (neuron.decay == 1 and neuron.reset is not None)


def firing(neuron: FloatNeuron, unit: Tensor, where: str, counts: bool = False) -> Firing:
    """The integer neuron for currents in units [C].

    counts: the membrane is a few counts (attention), so the leak is that of `coarse_leak`.
    Raises SpikeTicketError for what no integer neuron does.
    """
    ratio = neuron.theta / unit
    soft = neuron.reset is None and neuron.decay > 0    # without memory nothing is subtracted from
    if neuron.strict and soft:
        raise SpikeTicketError(f"{where}: v > theta with a subtracting reset has no integer form "
                               "(it would subtract theta + 1); give fires '>=', which differs only "
                               "where a membrane equals its threshold")
    leak = round(neuron.decay * LEAK_ONE)
    if counts:
        leak = coarse_leak(leak, int(ratio[0].round()))
    notes = _decay_notes(neuron.decay, leak)
    rest = 0
    if neuron.reset is not None and bool((neuron.reset != 0).any()) and neuron.decay > 0:
        rest = _common_reset(neuron.reset / unit, where)
    above = (ratio - ratio.round()) / ratio.clamp_min(1)
    whole = (above >= -EQUAL) & (above <= GRID)
    shift = less = 0
    if neuron.strict and bool(whole.any()):
        shift, less = _ceiling(leak)
    # One float32 step below an integer is meant to be reached by that integer.
    near = whole | ((ratio - ratio.round()).abs() <= GRID * ratio)
    up = keeps_whole(neuron)
    threshold = torch.where(near, ratio.round(), ratio.ceil()) if up else ratio.round()
    threshold = threshold + whole if neuron.strict else threshold
    if soft and bool((threshold < 1).any()):
        c = int((threshold < 1).nonzero()[0])
        raise SpikeTicketError(f"{where}, channel {c}: its threshold is {float(ratio[c]):.2g} of a "
                               "unit of its weights, and a subtracting reset would subtract 0; "
                               "give its weights more bits")
    threshold = threshold.clamp_min(1)
    if neuron.reset is not None:                        # as far as the source's is above it
        threshold = torch.where(neuron.theta > neuron.reset, threshold.clamp_min(rest + 1),
                                threshold)
    if bool((threshold + shift > THRESHOLD_LIMIT).any()) or abs(rest + shift) > THRESHOLD_LIMIT:
        c = int(threshold.argmax())
        raise SpikeTicketError(f"{where}, channel {c}: threshold {float(threshold[c]):.4g} or "
                               f"reset {rest} exceeds {THRESHOLD_LIMIT} units of its weights; is "
                               "it meant to fire?")
    exact = near | up
    error = (threshold - neuron.strict * whole * 1.0 - ratio).abs() / ratio.clamp_min(1e-300)
    error = float(torch.where(exact, 0.0, error).max()) if len(ratio) else 0.0
    made = Neuron(leak, "soft" if soft else "hard", 0 if soft else rest + shift)
    return Firing(made, (threshold + shift).to(torch.int64), shift - less, exact, error, notes)


def resting_bias(neuron: FloatNeuron, fires: Firing, bias: Tensor, rounded: Tensor) -> Tensor:
    """Integer biases [C], lower than `rounded` where that alone would fire a channel that its float
    bias never does (within the most timesteps there are)."""
    reset = torch.zeros_like(bias) if neuron.reset is None else neuron.reset
    v = reset
    rests = torch.ones(len(bias), dtype=torch.bool)
    for _ in range(MAX_TIMESTEPS):
        v = neuron.decay * v + bias
        rests &= v <= neuron.theta if neuron.strict else v < neuron.theta
    for _ in range(MAX_TIMESTEPS):
        lower = rests & ~_stays_silent(fires, rounded)
        if not bool(lower.any()):
            break
        rounded = rounded - lower.to(torch.int64)
    return rounded


def _stays_silent(fires: Firing, bias: Tensor) -> Tensor:
    """bool [C]: the integer neuron never fires on its bias."""
    current = (bias + fires.shift).numpy()[None, None, :, None, None]
    spikes = fire(fires.neuron, fires.threshold.numpy(), current, MAX_TIMESTEPS)
    return torch.from_numpy(~spikes.any((0, 1, 3, 4)))


def coarse_leak(leak: int, threshold: int) -> int:
    """The leak whose floored decay is nearest to leak / 256 * v, over v = 0 .. threshold - 1.

    Attention's membranes are a few counts, where the floor matters: at lambda = 0.99 it would take
    one of three counts away at every timestep; 256 takes none. Ties: the nearest leak. Of
    lambda = 1/2^m the floor changes no spike, as floor((floor(v) + x) / n) = floor((v + x) / n).
    """
    if leak == 0 or LEAK_ONE % leak == 0:
        return leak
    v, leaks = np.arange(max(1, min(threshold, 1 << 12))), np.arange(LEAK_ONE + 1)
    cost = np.abs(leaks[:, None] * v // LEAK_ONE - leak * v / LEAK_ONE).sum(1)
    best = np.flatnonzero(cost <= cost.min() + 1e-9)
    return int(best[np.abs(best - leak).argmin()])


def _decay_notes(decay: float, leak: int) -> tuple[str, ...]:
    if abs(decay * LEAK_ONE - leak) > GRID * LEAK_ONE:
        kind = {0: ", no memory", LEAK_ONE: ", no leak"}.get(leak, "")
        return (f"decay {decay:.6g} becomes {leak}/{LEAK_ONE}{kind}",)
    if leak & (leak - 1):
        return (f"decay {leak}/{LEAK_ONE} rounds the membrane down at every timestep",)
    return ()


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
    off = (values - nearest).abs() > 1e-3 + GRID * values.abs()
    if bool(off.any()) or bool((nearest != nearest[0]).any()):
        raise SpikeTicketError(f"{where}: v_reset is {values.min():.4g} .. {values.max():.4g} "
                               "units above rest by channel; the core has one whole number, so "
                               "let v_reset equal v_leak")
    return int(nearest[0])
