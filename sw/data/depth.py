"""Pictures of 8 bits at the fewer bits of a network's input: one rule, for training in integers,
measuring, boards, files and streams alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ..errors import BadInput, note

if TYPE_CHECKING:
    from ..integer.shapes import InputSpec

FULL = 8
"""Bits of a picture's value."""

Values = TypeVar("Values")


def upper_bits(pictures: Values, bits: int) -> Values:
    """The upper `bits` of 8 of every value: floor(value / 2^(8 - bits)), 0..2^bits - 1.

    pictures: whole numbers 0..255 in an array or a tensor of any type, which is kept. Black stays
    0, and what is nearly black becomes 0, so that events and bytes are fewer.
    """
    return pictures if bits >= FULL else pictures // (1 << FULL - bits)


def taken(values: Values, spec: InputSpec) -> Values:
    """Samples of a data set, an array or a tensor, as an integer network takes them: pictures at
    its bits, event counts up to the largest that it has."""
    return upper_bits(values, spec.bits) if spec.static else values.clip(max=(1 << spec.bits) - 1)


def scale(bits: int) -> float:
    """Float value of one unit of such a number, where a picture's 255 is 1."""
    return (1 << FULL - bits) / 255


def shown(values: np.ndarray, bits: int) -> np.ndarray:
    """Such numbers, uint8, as pictures for people: 0..255 again, the largest is white."""
    return (values.astype(np.uint16) * 255 // ((1 << bits) - 1)).astype(np.uint8)


def fitted(pictures: np.ndarray, bits: int, source: str) -> np.ndarray:
    """`upper_bits` of a user's pictures, uint8. Pictures that have been brought to fewer bits
    already would be next to black: a note where the highest bit of all is unused, BadInput where
    nothing is left."""
    found = upper_bits(pictures, bits)
    if bits == FULL or not pictures.any() or int(pictures.max()) > 127:
        return found
    said = (f"{source}: no pixel is above {int(pictures.max())} of 255, and the upper {bits} of 8 "
            "bits, which the ticket takes, are")
    if not found.any():
        raise BadInput(f"{said} all 0; give 0..255")
    note(f"{said} {int(found.max())} of {(1 << bits) - 1} at most; scale them if black and white "
         "are not 0 and 255")
    return found
