"""Shapes of an integer network's input and of its spike maps, and how its parts refuse values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import SpikeTicketError


def require(condition: bool, message: str) -> None:
    """Raises SpikeTicketError with the message where the condition does not hold."""
    if not condition:
        raise SpikeTicketError(message)


Pair = tuple[int, int]
"""(rows, columns)."""

MAX_SIZE = 1 << 16
"""Channels, rows and columns of an input."""


def whole(value: object, what: str, low: int, high: int) -> int:
    """A whole number in low..high; raises SpikeTicketError."""
    require(isinstance(value, int | np.integer) and not isinstance(value, bool),
            f"{what} {value!r} is not a whole number")
    require(low <= value <= high, f"{what} {value} is outside {low}..{high}")
    return int(value)


def pair(value: int | Pair, what: str, low: int, high: int) -> Pair:
    """(rows, columns) of one whole number or two in low..high; raises SpikeTicketError."""
    values = tuple(value) if isinstance(value, tuple | list) else (value, value)
    require(len(values) == 2, f"{what} {value} is not one number, or (rows, columns)")
    rows, columns = (whole(n, what, low, high) for n in values)
    return rows, columns


@dataclass(frozen=True)
class InputSpec:
    """Shape of the network's input.

    Values are unsigned integers below 2^bits. `static`: one [C, H, W] array stands for every
    timestep (direct coding); otherwise [T, C, H, W], e.g. event counts.
    """

    channels: int
    height: int
    width: int
    bits: int = 8
    static: bool = True

    def __post_init__(self):
        for what in ("channels", "height", "width"):
            size = whole(getattr(self, what), f"input {what}", 1, MAX_SIZE)
            object.__setattr__(self, what, size)
        object.__setattr__(self, "bits", whole(self.bits, "input bits", 1, 8))
        require(isinstance(self.static, bool), f"static {self.static!r} is not True or False")


@dataclass(frozen=True)
class Shape:
    """Shape of a spike map at one timestep."""

    channels: int
    height: int
    width: int

    @property
    def tokens(self) -> int:
        """Positions of the map."""
        return self.height * self.width
