"""Worst-case bounds of every integer in a layer; the compiler refuses what could overflow.

The bounds are exact intervals computed from the actual weights (`docs/numerics.md` has the
proof), so a network that passes can never overflow, whatever its input.
"""

from __future__ import annotations

import numpy as np

from hw import program

from ..errors import SpikeTicketError
from ..integer.network import LEAK_ONE, Layer, Network

MEMBRANE_BITS = 24
RESULT_BITS = 32
FIELDS = {program.plain(name): program.limits(name, width) for name, width in program.ROW_HEADER}


def signed(bits: int) -> tuple[int, int]:
    """Smallest and largest value of a two's complement integer."""
    return -(1 << bits - 1), (1 << bits - 1) - 1


def _refuse(layer: Layer, what: str, values: np.ndarray, limits: tuple[int, int],
            remedy: str) -> None:
    low, high = limits
    bad = (values < low) | (values > high)
    if bad.any():
        channel = int(bad.argmax())
        raise SpikeTicketError(f"layer {layer.name!r}, channel {channel}: {what} "
                               f"{values[channel]} is outside {low}..{high}; {remedy}")


def membrane_bounds(layer: Layer, low: np.ndarray, high: np.ndarray,
                    timesteps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Exact-interval bounds of v over all timesteps, for currents I_t in low..high, int64 [C].

    Returns (lowest v, highest v, lowest v at which it is compared with the threshold); the first
    two cover the membrane before and after its reset.
    """
    neuron, theta = layer.neuron, layer.threshold
    lo = np.full(low.shape, neuron.v_reset, np.int64)
    hi = lo.copy()
    lowest, highest, compared = lo.copy(), hi.copy(), np.full(low.shape, 1 << 62, np.int64)
    for _ in range(timesteps):
        lo = (lo * neuron.leak) // LEAK_ONE + low
        hi = (hi * neuron.leak) // LEAK_ONE + high
        lowest, highest = np.minimum(lowest, lo), np.maximum(highest, hi)
        compared = np.minimum(compared, lo)
        fires, silent = hi >= theta, lo < theta
        after_lo = np.full(low.shape, neuron.v_reset, np.int64)
        after_hi = after_lo.copy()
        if neuron.reset == "soft":
            after_lo, after_hi = np.maximum(lo, theta) - theta, hi - theta
        kept_hi = np.minimum(hi, theta - 1)
        lo = np.where(fires, np.where(silent, np.minimum(lo, after_lo), after_lo), lo)
        hi = np.where(silent, np.where(fires, np.maximum(kept_hi, after_hi), kept_hi), after_hi)
        lowest, highest = np.minimum(lowest, lo), np.maximum(highest, hi)
    return lowest, highest, compared


def check_layer(network: Network, layer: Layer, acc_bits: int,
                positions: int) -> tuple[np.ndarray, np.ndarray]:
    """(bias, threshold) of the row headers, int64 [C]; raises SpikeTicketError on overflow.

    positions: outputs summed by a readout. A threshold that cannot be reached, or is always
    exceeded, is replaced by the nearest one that fits the field where that changes no spike.
    """
    low, high = network.current_bounds(layer)
    less = "use fewer weight bits or input bits, or prune further"
    for values in (low, high):
        _refuse(layer, f"current of the {acc_bits}-bit accumulator", values, signed(acc_bits),
                less)
    if layer.neuron is None:
        initial = layer.bias * (network.timesteps * positions)
        _refuse(layer, "initial sum bias x timesteps x positions", initial, FIELDS["threshold"],
                "use a smaller bias")
        total = network.timesteps * positions
        for values in (low, high):
            _refuse(layer, "logit", initial + values * total, signed(RESULT_BITS),
                    "sum over fewer positions")
        return np.zeros_like(initial), initial
    _refuse(layer, "bias", layer.bias, FIELDS["bias"], "scale the layer down")
    low, high = low + layer.bias, high + layer.bias
    neuron = layer.neuron
    _refuse(layer, "v_reset", np.full(1, neuron.v_reset), signed(MEMBRANE_BITS),
            "use a smaller v_reset")
    lowest, highest, compared = membrane_bounds(layer, low, high, network.timesteps)
    for values in (lowest, highest):
        _refuse(layer, f"{MEMBRANE_BITS}-bit membrane", values, signed(MEMBRANE_BITS),
                "use a smaller bias or leak, or fewer timesteps")
    smallest, largest = FIELDS["threshold"]
    threshold = layer.threshold.copy()
    threshold[(threshold > largest) & (highest < largest)] = largest
    if neuron.reset == "hard":
        threshold[(threshold < smallest) & (compared >= smallest)] = smallest
    _refuse(layer, "threshold", threshold, FIELDS["threshold"], "scale the layer down")
    return layer.bias, threshold
