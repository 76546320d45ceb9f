"""Which of a board's cores a network runs on."""

from __future__ import annotations

from dataclasses import replace

from hw.boards import Board
from hw.config import PRESETS, CoreConfig

from ..integer.network import Layer, Network


def presets(board: Board) -> tuple[str, ...]:
    """The board's cores: its preset, and the one with attention and patch gate where there is
    another."""
    return tuple(name for name in (board.preset, f"{board.preset}f") if name in PRESETS)


def suits(network: Network, config: CoreConfig) -> bool:
    """Whether a core has the units that the network needs; it may still be too small."""
    attention = any(isinstance(layer, Layer) and layer.attention is not None
                    for layer in network.layers)
    return (config.attention or not attention) and (config.gate or not network.gates)


def choose(board: Board, network: Network, preset: str | None = None) -> tuple[str, CoreConfig]:
    """(preset, its configuration on the board): `preset`, else the board's first that suits.

    Where none does, it is the board's own one, and the compiler says what is missing.
    """
    name = preset or next((name for name in presets(board) if suits(network, PRESETS[name])),
                          board.preset)
    return name, replace(PRESETS[name], clock_hz=board.clock_hz)
