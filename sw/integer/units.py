"""The unit of every channel: how much float current one integer is.

A channel whose weights, bias, threshold and reset all are multiples of one number gets that number,
so a network that was integers once comes back as the same integers. Other channels get the unit
with the smallest squared rounding error of their weights. The readout has one unit for all
classes, which are compared with each other; a layer that resets above or below rest has units in
which all channels reset to one integer, as the core has one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import SpikeTicketError
from .firing import GRID, THRESHOLD_LIMIT, keeps_whole
from .floats import FloatNeuron

BIAS_LIMIT = (1 << 17) - 1
"""Biases are signed 18-bit in the core."""

ORDINARY_BIAS = 16
"""Biases up to this many thresholds may choose the unit; larger ones are refused."""

CONSTANT_THETA = 4096
"""Largest threshold of a channel without weights: its current is its bias alone."""

COARSE = 1 / 16
"""Weights of one magnitude become 1 bit wide if rounding biases and thresholds to that magnitude
costs less than this fraction of a threshold (root mean square over the channels), or nothing."""


@dataclass(frozen=True, eq=False)
class ChannelUnits:
    """unit float64 [C] above 0; exact bool [C], everything of the channel is whole in it; bits of
    every connection."""

    unit: Tensor
    exact: Tensor
    bits: tuple[int, ...]


def largest_weight(bits: int) -> int:
    """The largest integer weight; the smallest is its negative."""
    return max(1, (1 << bits - 1) - 1)


def whole(latent: Tensor, bits: int) -> Tensor:
    """Weights in units of their step, 2 bits and more, as the nearest integers there are."""
    return latent.round().clamp(-largest_weight(bits), largest_weight(bits))


def to_grid(weight: Tensor, unit: Tensor, bits: int) -> Tensor:
    """Integers of `weight` [C, ...] in units [C]; one bit keeps the sign of every weight that is
    not far below its unit."""
    latent = weight / unit.view(-1, *(1,) * (weight.dim() - 1))
    if bits > 1:
        return whole(latent, bits)
    far = latent.abs().flatten(1).amax(1) < 0.5         # a unit that the threshold or bias chose
    return latent.sign() * ~far.view(-1, *(1,) * (weight.dim() - 1))


def choose(weights: Sequence[Tensor], bits: Sequence[int], bias: Tensor,
           neuron: FloatNeuron | None) -> ChannelUnits:
    """ChannelUnits of a layer: float currents `weights` [C, ...] by connection and `bias` [C].

    Connections whose weights have one magnitude in every channel become 1 bit wide where nothing
    is lost by it that was kept before, and not much else (COARSE).
    """
    rows = [w.flatten(1) for w in weights]
    found = _choose(rows, bits, bias, neuron)
    narrow = tuple(1 if _one_magnitude(row, neuron is not None) else b
                   for row, b in zip(rows, bits, strict=True))
    if narrow == tuple(bits):
        return found
    ones = _choose(rows, narrow, bias, neuron)
    kept = all(bool(torch.isclose(to_grid(row, ones.unit, 1) * ones.unit[:, None], row,
                                  rtol=GRID, atol=0).all())
               for row, b in zip(rows, narrow, strict=True) if b == 1)
    own = torch.ones_like(bias) if neuron is None else neuron.unit
    moved = torch.zeros_like(found.exact) if own is None else (found.unit == own) & (
        ones.unit != own)
    lost = bool((found.exact & (moved | ~ones.exact)).any())
    return ones if kept and not lost and _rounding(ones, bias, neuron) <= COARSE else found


def _choose(rows: list[Tensor], bits: Sequence[int], bias: Tensor,
            neuron: FloatNeuron | None) -> ChannelUnits:
    unit, exact = _on_grid(rows, bits, bias, neuron)
    found = unit > 0
    if not bool(found.all()):
        unit = torch.where(found, unit, _least_error(rows, bits, neuron is not None))
        if neuron is not None:
            unit = torch.where(found, unit, _within_limits(unit, rows, bits, bias, neuron))
        unit = torch.where(unit > 0, unit, torch.ones_like(unit))
    silent = sum((row != 0).sum(1) for row in rows) == 0
    if neuron is not None and bool(silent.any()):
        unit = torch.where(silent, _constant(bias, neuron), unit)
    others = _others(bias, neuron)
    exact = exact | silent & _all_whole(others / unit[:, None])
    if others.shape[1] > 1 and bool((neuron.reset != 0).any()):
        whole_reset = (neuron.reset / unit).round()
        if not (bool(exact.all()) and bool((whole_reset == whole_reset[0]).all())):
            return _one_reset(rows, bits, bias, neuron)
    return ChannelUnits(unit, exact, tuple(bits))


def _one_reset(rows: list[Tensor], bits: Sequence[int], bias: Tensor,
               neuron: FloatNeuron) -> ChannelUnits:
    """Units in which all channels reset to the same integer: a whole part of each one's reset."""
    size = neuron.reset.abs()
    if len(neuron.reset.sign().unique()) > 1:
        raise SpikeTicketError(f"resets from {float(neuron.reset.min()):.4g} to "
                               f"{float(neuron.reset.max()):.4g} by channel, on both sides of rest "
                               "or at it; the core has one whole number, so let v_reset equal "
                               "v_leak, or be the same for all")
    parts = [(row / size[:, None]).reshape(1, -1) for row in rows]
    numbers = torch.cat([bias / size, neuron.theta / size, torch.ones(1)]).reshape(1, -1)
    unit = _largest(parts, bits, [numbers])
    if not any(bool(part.any()) for part in parts):
        unit = 1 / _finest(numbers).clamp_min(1e-9)
    if not bool(unit > 0):
        unit = _least_error(parts, bits, True)
    most = min(float((THRESHOLD_LIMIT * size / neuron.theta.clamp_min(1e-300)).min()),
               float((BIAS_LIMIT * size / bias.abs().clamp_min(1e-300)).min()), THRESHOLD_LIMIT)
    count = int(min(max(1.0, round(1 / max(float(unit), 1e-12))), max(1.0, most)))
    unit = size / count
    exact = _fits([row.flatten(1) for row in rows], bits,
                  [torch.stack([bias, neuron.theta, neuron.reset], 1)], unit)
    return ChannelUnits(unit, exact, tuple(bits))


def _others(bias: Tensor, neuron: FloatNeuron | None) -> Tensor:
    """What must be whole beside the weights and the threshold, [C, 1 or 2]."""
    if neuron is None or neuron.reset is None or neuron.decay == 0:
        return bias[:, None]
    return torch.stack([bias, neuron.reset], 1)


def _constant(bias: Tensor, neuron: FloatNeuron) -> Tensor:
    """Unit [C] of channels without weights: the finest down to theta / CONSTANT_THETA in which all
    is whole, else that."""
    theta = torch.where(neuron.theta > 0, neuron.theta, torch.ones_like(neuron.theta))
    best = _finest(_others(bias, neuron) / theta[:, None])
    return theta / torch.where(best > 0, best, CONSTANT_THETA)


def _finest(ratios: Tensor) -> Tensor:
    """The largest number [rows] up to CONSTANT_THETA that makes all ratios [rows, n] whole; 0:
    none."""
    counts = torch.arange(1, CONSTANT_THETA + 1, dtype=torch.float64)
    fits = torch.ones(len(ratios), len(counts), dtype=torch.bool)
    for column in ratios.T:
        found = column[:, None] * counts
        fits &= ((found - found.round()).abs() <= GRID * found.abs().clamp_min(1)) & (
            found.abs() <= BIAS_LIMIT)
    return torch.where(fits, counts, 0.0).amax(1)


def _one_magnitude(row: Tensor, per_channel: bool) -> bool:
    """All surviving weights of a channel (of the readout: of the tensor) are +-a; some survive."""
    row = row if per_channel else row.reshape(1, -1)
    size = row.abs()
    least = torch.where(size > 0, size, torch.inf).amin(1)
    alive = torch.isfinite(least)
    return bool(alive.any()) and bool((size.amax(1) <= least * (1 + GRID))[alive].all())


def _rounding(found: ChannelUnits, bias: Tensor, neuron: FloatNeuron | None) -> float:
    """Root mean square over channels of what rounding does to bias and threshold, in thresholds; of
    a readout to its bias, in units."""
    def off(values: Tensor) -> Tensor:
        values = values / found.unit
        return torch.where(found.exact, 0.0, values - values.round())
    square = off(bias).square()
    if neuron is not None:
        if not keeps_whole(neuron):
            square = square + off(neuron.theta).square()
        square = square * (found.unit / neuron.theta.clamp_min(1e-300)).square()
    return float(square.mean().sqrt())


def _on_grid(rows: list[Tensor], bits: Sequence[int], bias: Tensor,
             neuron: FloatNeuron | None) -> tuple[Tensor, Tensor]:
    """(unit [C], bool [C]): a unit in which everything of a channel is whole, and where there is
    one: the source's own, or the largest; 0 elsewhere."""
    others = [_others(bias, neuron)]
    if neuron is None:                           # classes are compared with each other
        rows, others = [r.reshape(1, -1) for r in rows], [o.reshape(1, -1) for o in others]
    best = torch.zeros(len(rows[0]), dtype=torch.float64)
    with_theta = others if neuron is None else [*others, neuron.theta[:, None]]
    if neuron is not None and neuron.unit is not None:
        best = torch.where(_fits(rows, bits, with_theta, neuron.unit), neuron.unit, best)
    elif neuron is None:                         # a source of integers
        one = torch.ones_like(best)
        best = torch.where(_fits(rows, bits, with_theta, one), one, best)
    # A membrane that stays whole needs no whole threshold, but has one where it can.
    for numbers in ([with_theta, others] if neuron and keeps_whole(neuron) else [with_theta]):
        best = torch.where(best > 0, best, _largest(rows, bits, numbers))
    if neuron is None:
        best = best.expand(len(bias)).clone()
    else:
        least = torch.maximum(neuron.theta / THRESHOLD_LIMIT, bias.abs() / BIAS_LIMIT)
        best = torch.where(best < least, 0.0, best)
    return best, best > 0


def _largest(rows: list[Tensor], bits: Sequence[int], others: list[Tensor]) -> Tensor:
    """The largest unit [rows] in which all numbers are whole; 0: none."""
    best = torch.zeros(len(rows[0]), dtype=torch.float64)
    for row, width in zip(rows, bits, strict=True):
        largest = row.abs().amax(1)
        for j in range(1, largest_weight(width) + 1):
            unit = largest / j
            better = unit > best
            if bool(better.any()):
                best = torch.where(better & _fits(rows, bits, others, unit), unit, best)
    return best


def _fits(rows: list[Tensor], bits: Sequence[int], others: list[Tensor], unit: Tensor) -> Tensor:
    """bool [rows]: weights fit their bits in this unit, and all numbers are whole."""
    safe = torch.where(unit > 0, unit, torch.ones_like(unit))[:, None]
    fits = unit > 0
    for row, b in zip(rows, bits, strict=True):
        found = row / safe
        fits = fits & _all_whole(found) & (found.abs().amax(1) <= largest_weight(b) + GRID)
        if b == 1:                               # one bit holds signs only
            fits &= (found.abs().round() == (row != 0)).all(1)
    for other in others:
        fits = fits & _all_whole(other / safe)
    return fits


def _all_whole(x: Tensor) -> Tensor:
    """bool [rows]: all of a row's numbers are integers, up to the precision of float32."""
    return ((x - x.round()).abs() <= GRID * x.abs().clamp_min(1)).all(1)


def _least_error(rows: list[Tensor], bits: Sequence[int], per_channel: bool) -> Tensor:
    """Unit [C] with the smallest squared rounding error over all connections; 0: no weights.

    Candidates: the largest weight as each of the integers and 61 fractions below full scale; for
    one bit the mean magnitude.
    """
    count = len(rows[0])
    rows = rows if per_channel else [row.reshape(1, -1) for row in rows]
    # Squares of what is tiny or huge would be 0 or infinite.
    size = torch.stack([row.abs().amax(1) for row in rows]).amax(0)
    rows = [row / torch.where(size > 0, size, 1.0)[:, None] for row in rows]
    candidates = []
    for row, b in zip(rows, bits, strict=True):
        largest, alive = row.abs().amax(1), (row != 0).sum(1).clamp_min(1)
        if b == 1:
            candidates.append(row.abs().sum(1) / alive)
            continue
        candidates += [largest / j for j in range(1, largest_weight(b) + 1)]
        candidates += [largest * f / largest_weight(b) for f in np.linspace(1.0, 0.4, 61)]
    best = torch.zeros(len(rows[0]), dtype=torch.float64)
    error = torch.full_like(best, torch.inf)
    for unit in candidates:
        safe = torch.where(unit > 0, unit, torch.ones_like(unit))
        cost = sum((to_grid(row, safe, b) * safe[:, None] - row).square().sum(1)
                   for row, b in zip(rows, bits, strict=True))
        # Of equal errors the smallest unit: thresholds and biases are rounded to it, too.
        better = (cost < error * (1 - 1e-9)) | (cost <= error * (1 + 1e-9)) & (unit < best)
        better &= unit > 0
        best, error = torch.where(better, unit, best), torch.where(better, cost, error)
    best = best * size
    return best if per_channel else best.expand(count).clone()


def _within_limits(unit: Tensor, rows: list[Tensor], bits: Sequence[int], bias: Tensor,
                   neuron: FloatNeuron) -> Tensor:
    """Units in which thresholds and ordinary biases fit their widths. Weights too small for them
    are rounded to 0; a channel without any gets CONSTANT_THETA."""
    theta = torch.where(neuron.theta > 0, neuron.theta, torch.ones_like(neuron.theta))
    wide = torch.maximum(unit, theta / THRESHOLD_LIMIT)
    ordinary = bias.abs() <= ORDINARY_BIAS * theta
    wide = torch.where(ordinary, torch.maximum(wide, bias.abs() / BIAS_LIMIT), wide)
    survivors = sum((to_grid(row, wide, b) != 0).sum(1) for row, b in zip(rows, bits, strict=True))
    return torch.where(survivors == 0, theta / CONSTANT_THETA, wide)
