"""The boards SpikeTicket knows, as plain data (no Amaranth): what plan and driver need of them."""

from __future__ import annotations

from dataclasses import dataclass

from hw.config import PRESETS, CoreConfig


@dataclass(frozen=True)
class Board:
    """A board. preset: its core in `hw.config.PRESETS`; device: its FPGA, as in `sw.area`."""

    name: str
    title: str
    preset: str
    device: str

    @property
    def config(self) -> CoreConfig:
        return PRESETS[self.preset]


BOARDS: dict[str, Board] = {board.name: board for board in (
    Board("sim", "simulated board: the gateware of arty_a7 in Verilator", "a35t", "XC7A35T"),
    Board("arty_a7", "Digilent Arty A7-35T", "a35t", "XC7A35T"),
    Board("arty_a7_100", "Digilent Arty A7-100T", "a100t", "XC7A100T"),
)}
"""Boards by the names that `--board` takes."""

DEFAULT_BOARD = "sim"
