"""What the adder of residual sums (`hw.sums.SumWriter`) must do, and when."""

from __future__ import annotations

from collections.abc import Sequence


def add_word(held: Sequence[int], word: int, new: bool) -> list[int]:
    """Words of the planes once `word` is added, position by position and timestep by timestep.

    held: of the planes before, the lowest first. new: the last one has not been written before.
    """
    made, carry = [], word
    for plane, old in enumerate(held):
        old = 0 if new and plane == len(held) - 1 else old
        made.append(old ^ carry)
        carry &= old
    return made


def read_cycle(chosen: int, plane: int) -> int:
    """Cycle in which a plane is read of a word that the arbiter took in cycle `chosen`."""
    return chosen + 2 + plane


def write_cycle(chosen: int, plane: int) -> int:
    """Cycle in which that plane is written."""
    return read_cycle(chosen, plane) + 2
