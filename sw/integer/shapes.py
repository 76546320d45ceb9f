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


def pair(value: int | Pair, what: str, low: int, high: int) -> Pair:
    """(rows, columns) of one number or two, whole and in low..high; raises SpikeTicketError."""
    values = tuple(value) if isinstance(value, tuple | list) else (value, value)
    whole = len(values) == 2 and all(isinstance(n, int | np.integer) and not isinstance(n, bool)
                                     for n in values)
    require(whole and all(low <= n <= high for n in values),
            f"{what} {value} is outside {low}..{high}")
    return int(values[0]), int(values[1])


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
        require(min(self.channels, self.height, self.width) >= 1, "input shape has a zero axis")
        require(1 <= self.bits <= 8, f"input bits {self.bits} are outside 1..8")


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
