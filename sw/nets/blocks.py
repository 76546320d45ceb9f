"""The grammar of blocks that named networks are written in: a chain of convolutions, then fully
connected layers.

    64-64p-128-128m-f256    channels of 3x3 convolutions, with a letter of `POOLS` where a pool
                            follows; f: features of a fully connected layer
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..integer.network import Pool
from ..integer.shapes import require

POOLS = {"": None, "p": Pool("or", 2), "m": Pool("max", 3, 2, 1)}
"""By letter. p: OR of 2x2 spikes; m: SpikingJelly's maximum of 3x3 currents with stride 2, before
the neuron."""

WIDEST = 4096
"""Channels, or features, of one block."""


@dataclass(frozen=True)
class Chain:
    """convolutions: (channels, pool) of each, at least one; features: of the layers behind."""

    convolutions: tuple[tuple[int, Pool | None], ...]
    features: tuple[int, ...] = ()

    @classmethod
    def of(cls, text: str) -> Chain:
        """The chain that `text` describes. Raises SpikeTicketError."""
        convolutions, features = [], []
        for part in text.split("-"):
            dense = part.startswith("f")
            number = part[1:] if dense else part.rstrip("pm")
            letter = "" if dense else part[len(number):]
            require(number.isascii() and number.isdecimal() and 1 <= int(number) <= WIDEST
                    and letter in POOLS and (dense or not features),
                    f"network {text!r}: block {part!r} is not channels 1..{WIDEST} with an "
                    "optional p or m, or f with features behind the convolutions; give e.g. "
                    "32p-64p-f128")
            if dense:
                features.append(int(number))
            else:
                convolutions.append((int(number), POOLS[letter]))
        require(bool(convolutions),
                f"network {text!r} has no convolution; give e.g. 32p-64p-f128")
        return cls(tuple(convolutions), tuple(features))

    def grid(self, size: Sequence[int]) -> tuple[int, int]:
        """Rows and columns that the pools leave of `size`. Raises SpikeTicketError for none."""
        height, width = size
        for _, pool in self.convolutions:
            if pool is not None:
                height, width = pool.outputs(height, width)
        require(min(height, width) >= 1,
                f"the pools leave nothing of {size[0]}x{size[1]} pixels; drop one")
        return height, width
