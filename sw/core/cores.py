"""Which of a board's cores a network runs on."""

from __future__ import annotations

from dataclasses import replace

from hw.boards import Board
from hw.config import PRESETS, WORD_BITS, CoreConfig

from ..compile.bounds import most_bits
from ..compile.least import Least, least
from ..integer.network import Layer, Network


def suits(network: Network, config: CoreConfig) -> bool:
    """Whether a core has the units that the network needs, and accumulators as wide; it may still
    be too small."""
    attention = any(isinstance(layer, Layer) and layer.attention is not None
                    for layer in network.layers)
    return ((config.attention or not attention) and (config.gate or not network.gates)
            and most_bits(network) <= config.acc_bits)


def holds(needed: Least, config: CoreConfig) -> bool:
    """Whether a core's memories are as large as the least that any core needs for a network."""
    weights = sum(config.weight_depths) + config.dram_words
    return (needed.maps <= config.map_words * config.map_bits
            and needed.weights <= WORD_BITS * weights)


def choose(board: Board, network: Network, preset: str | None = None) -> tuple[str, CoreConfig]:
    """(preset, its configuration on the board): `preset`, else the board's first that suits and
    may be large enough, else its first that suits.

    Where none does, it is the board's own one, and the compiler says what is missing.
    """
    suiting = [] if preset else [n for n in board.presets if suits(network, PRESETS[n])]
    if len(suiting) > 1:
        needed = least(network)
        suiting = [n for n in suiting if holds(needed, PRESETS[n])] or suiting
    name = preset or next(iter(suiting), board.preset)
    return name, replace(PRESETS[name], clock_hz=board.clock_hz)
