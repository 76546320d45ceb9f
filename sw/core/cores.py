"""Which of a board's cores a network runs on."""

from __future__ import annotations

from dataclasses import replace

from hw.boards import Board
from hw.config import PRESETS, CoreConfig

from ..compile.bounds import most_bits
from ..integer.network import Layer, Network


def suits(network: Network, config: CoreConfig) -> bool:
    """Whether a core has the units that the network needs, and accumulators as wide; it may still
    be too small."""
    attention = any(isinstance(layer, Layer) and layer.attention is not None
                    for layer in network.layers)
    return ((config.attention or not attention) and (config.gate or not network.gates)
            and most_bits(network) <= config.acc_bits)


def choose(board: Board, network: Network, preset: str | None = None) -> tuple[str, CoreConfig]:
    """(preset, its configuration on the board): `preset`, else the board's first that suits.

    Where none does, it is the board's own one, and the compiler says what is missing.
    """
    name = preset or next((name for name in board.presets if suits(network, PRESETS[name])),
                          board.preset)
    return name, replace(PRESETS[name], clock_hz=board.clock_hz)
