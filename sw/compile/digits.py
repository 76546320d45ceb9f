"""Few wide weights beside many narrow ones, as several narrow ones.

All weights of a step have one width in its stream. A shortcut that is added before the neuron has
one weight a row, of up to 8 bits, beside thousands that are plus or minus one: kept whole, it would
widen them all. So its values are taken apart into digits, each a use of its own, whose planes have
the digit's place as their shift. Digits have the sign of their value, so that no partial sum leaves
the range between what all positive and all negative weights add up to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..integer.network import INPUT, Synapses
from . import rice

MORE_WEIGHTS = 1.05
"""What the weights of a layer may become, against what they were."""


def narrow(synapses: Sequence[Synapses]) -> list[tuple[Synapses, int]]:
    """The synapses of a layer, each with the shift of its planes: whole ones have 0.

    Taken apart are those that read one map of spikes, where that makes the stream shorter and adds
    few weights, as each takes its cycles.
    """
    widths = [rice.value_width(syn.weight) for syn in synapses]
    best = [(syn, 0) for syn in synapses]
    for width in sorted(set(widths))[:-1]:
        parts = [part for syn, own in zip(synapses, widths, strict=True)
                 for part in (_digits(syn, width) if own > width else [(syn, 0)])]
        if (_bits(parts) < _bits(best)
                and _stored(parts) <= MORE_WEIGHTS * sum(map(_survivors, synapses))):
            best = parts
    return best


def _digits(syn: Synapses, width: int) -> list[tuple[Synapses, int]]:
    """Synapses whose weights fit `width` bits and that add up to `syn`, and their shifts."""
    if len(syn.sources) > 1 or syn.sources[0] == INPUT:
        return [(syn, 0)]
    step = max(1, width - 1)
    rest, sign, parts = np.abs(syn.weight.astype(np.int64)), np.sign(syn.weight), []
    for shift in range(0, 8, step):
        digit = (rest >> shift & (1 << step) - 1).astype(np.int8) * sign
        if digit.any():
            parts.append((replace(syn, weight=digit), shift))
    return parts


def _survivors(syn: Synapses) -> int:
    return int(np.count_nonzero(syn.weight))


def _stored(parts: Sequence[tuple[Synapses, int]]) -> int:
    """Weights in the stream."""
    return sum(_survivors(syn) for syn, _ in parts)


def _bits(parts: Sequence[tuple[Synapses, int]]) -> int:
    """Bits of their values."""
    return _stored(parts) * max(rice.value_width(syn.weight) for syn, _ in parts)
