"""Worst-case bounds of every integer in a layer; the compiler refuses what could overflow.

The bounds are exact intervals computed from the actual weights (`docs/numerics.md` has the
proof), so a network that passes can never overflow, whatever its input.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hw import program
from hw.boards import BOARDS
from hw.config import ACC_BITS, PRESETS, TIMESTEPS_PER_GROUP, CoreConfig

from ..errors import SpikeTicketError
from ..integer.network import INPUT, LEAK_ONE, Layer, Network

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


def input_bits_a_mask(network: Network) -> int:
    """Bits of the input's values that one mask holds: 4 bit-planes where all layers that read the
    input can add them up by place, else 1, the same in every timestep.

    They can where the drain does so before the neuron: behind synapses that read nothing else, if
    neither a maximum over a pool's window nor a readout's sum over timesteps comes first.
    """
    readers = [layer for layer in network.layers if INPUT in layer.sources]
    able = all(layer.synapses and layer.neuron is not None and set(layer.sources) == {INPUT}
               and (layer.pool is None or layer.pool.mode != "max") for layer in readers)
    spec = network.input
    return TIMESTEPS_PER_GROUP if spec.static and spec.bits > 1 and able else 1


def most_bits(network: Network) -> int:
    """Bits of the widest accumulator that the network's synapses need."""
    bits = input_bits_a_mask(network)
    return max((int(bits_needed(*accumulator_bounds(
        network, layer, bits if INPUT in layer.sources else 1)).max())
        for layer in network.layers if layer.synapses), default=1)


def accumulator_bounds(network: Network, layer: Layer,
                       bits_a_mask: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest partial sum (low, high), int64 [C], that an accumulator can reach.

    bits_a_mask: bits of the input's values that a mask holds, each of which has its accumulator:
        that of the lowest one adds bits 0, bits_a_mask, 2 bits_a_mask ... of every value.
    """
    low, high = network.current_bounds(layer)
    if bits_a_mask == 1:
        return low, high
    bits = network.input.bits
    place = sum(1 << bit for bit in range(0, bits, bits_a_mask))
    largest = (1 << bits) - 1       # divides the bounds: such a layer reads the input only
    return low * place // largest, high * place // largest


def bits_needed(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Bits of the two's complement integer that holds low and high, int64 [C]."""
    return np.array([1 + max(int(h), ~int(w), 0).bit_length()
                     for w, h in zip(low, high, strict=True)], np.int64)


def check_accumulators(layer: Layer, low: np.ndarray, high: np.ndarray,
                       config: CoreConfig) -> None:
    """Raises SpikeTicketError where a sum low..high may not fit the core's accumulators; names the
    layer, the bits that it forces, and the cores with as large a map memory that have them."""
    bits = bits_needed(low, high)
    channel, most = int(bits.argmax()), int(bits.max())
    if most <= config.acc_bits:
        return
    value = max(low[channel], high[channel], key=abs)
    same = replace(config, clock_hz=CoreConfig.clock_hz)
    wider = {name: None for board in BOARDS.values() for name in board.presets
             if same in (PRESETS[other] for other in board.presets)
             and PRESETS[name].acc_bits >= most and PRESETS[name].map_words == config.map_words
             and PRESETS[name].attention >= config.attention and PRESETS[name].gate >= config.gate}
    remedy = [f"choose preset {' or '.join(wider)}"] if wider else []
    if most <= ACC_BITS[1]:
        remedy.append(f"build a core with --set acc_bits={most}")
    remedy.append("use fewer weight bits or input bits, or prune further")
    raise SpikeTicketError(f"layer {layer.name!r}, channel {channel}: sums of up to {value} take "
                           f"{most} bits, this core's accumulators have {config.acc_bits}; "
                           + ", or ".join(remedy))


def check_layer(network: Network, layer: Layer, config: CoreConfig, positions: int,
                bits_a_mask: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """(bias, threshold) of the row headers, int64 [C]; raises SpikeTicketError on overflow.

    positions: outputs summed by a readout; bits_a_mask: see `accumulator_bounds`. A threshold that
    cannot be reached is replaced by the lowest that cannot, as headers are as wide as the largest
    needs; one that is always exceeded, by the nearest that fits the field where that changes no
    spike.
    """
    check_accumulators(layer, *accumulator_bounds(network, layer, bits_a_mask), config)
    low, high = network.current_bounds(layer)
    for values in (low, high):
        _refuse(layer, f"{config.current_bits}-bit current", values, signed(config.current_bits),
                "use fewer weight bits or input bits, or prune further")
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
    smallest, _ = FIELDS["threshold"]
    threshold = np.minimum(layer.threshold, np.maximum(highest + 1, 0))
    if neuron.reset == "hard":
        threshold[(threshold < smallest) & (compared >= smallest)] = smallest
    _refuse(layer, "threshold", threshold, FIELDS["threshold"], "scale the layer down")
    return layer.bias, threshold
