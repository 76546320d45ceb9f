"""The grammar of blocks that named networks are written in: a chain of convolutions, then fully
connected layers.

    16sp-64-64p-128m-f256   channels of 3x3 convolutions, s where they take every second position,
                            a letter of `POOLS` where a pool follows; f: features of a fully
                            connected layer
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..integer.network import Pool
from ..integer.shapes import require

POOLS = {"": None, "p": Pool("or", 2), "m": Pool("max", 3, 2, 1)}
"""By letter. p: OR of 2x2 spikes; m: SpikingJelly's maximum of 3x3 currents with stride 2, before
the neuron."""

WIDEST = 4096
"""Channels, or features, of one block."""


BLOCK = re.compile(r"(f)?([0-9]+)(s)?([pm])?")


class Convolution(NamedTuple):
    """A block of 3x3 convolutions."""

    channels: int
    pool: Pool | None = None
    stride: int = 1


@dataclass(frozen=True)
class Chain:
    """convolutions: at least one; features: of the layers behind."""

    convolutions: tuple[Convolution, ...]
    features: tuple[int, ...] = ()

    @classmethod
    def of(cls, text: str) -> Chain:
        """The chain that `text` describes. Raises SpikeTicketError."""
        convolutions, features = [], []
        for part in text.split("-"):
            match = BLOCK.fullmatch(part)
            dense, number, stride, letter = match.groups("") if match else ("", "0", "", "")
            require(1 <= int(number) <= WIDEST and not (dense and (stride or letter))
                    and (dense or not features),
                    f"network {text!r}: block {part!r} is not channels 1..{WIDEST} with an "
                    "optional s (stride 2) and p or m (pools), or f with features behind the "
                    "convolutions; give e.g. 32p-64p-f128")
            if dense:
                features.append(int(number))
            else:
                convolutions.append(Convolution(int(number), POOLS[letter], 2 if stride else 1))
        require(bool(convolutions),
                f"network {text!r} has no convolution; give e.g. 32p-64p-f128")
        return cls(tuple(convolutions), tuple(features))

    def grid(self, size: Sequence[int]) -> tuple[int, int]:
        """Rows and columns that are left of `size`. Raises SpikeTicketError for none."""
        height, width = size
        for _, pool, stride in self.convolutions:
            height, width = -(-height // stride), -(-width // stride)
            if pool is not None:
                height, width = pool.outputs(height, width)
        require(min(height, width) >= 1,
                f"the pools leave nothing of {size[0]}x{size[1]} pixels; drop one")
        return height, width
