"""Spikeformers by name: "spikeformer-BLOCKS-WIDTH[-HEADS[-RATIO]][@STEM]".

    spikeformer-2-96                        2 blocks, 96 channels, default heads and stem
    spikeformer-2-96-6                      6 heads of 16 channels
    spikeformer-2-96-6-2                    the MLP is 2 times as wide as the tokens, not 4
    spikeformer-2-96-6@24p-48p-96-96        a stem of one's own, that pools early (cheaper)

STEM: a chain of convolutions (`sw.nets.blocks`), the last of WIDTH channels. Without it the stem
halves the map until at most 8 x 8 tokens are left, with the pools last, and widens up to WIDTH in
four convolutions: 32x32 pixels and width 384 give "48-96-192p-384p", the Spikformer for CIFAR;
128x128 give a pool behind each, the one for DVS sets. Without HEADS, heads are as wide as 32
channels if the width allows, else 16 or 8.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import SpikeTicketError

GRID = 8
"""Rows and columns of tokens, at most, of the default stem."""

MLP_RATIO = 4


@dataclass(frozen=True)
class Name:
    """What a model's name says; `stem` None means `stem_of`."""

    blocks: int
    width: int
    heads: int
    mlp_ratio: int
    stem: str | None


def stem_of(width: int, side: int) -> str:
    """The default stem for square samples of `side` pixels."""
    pools = 0
    while side >> pools > GRID:
        pools += 1
    count = max(4, pools)
    channels = [max(1, width >> (count - 1 - i)) for i in range(count)]
    return "-".join(f"{c}{'p' if i >= count - pools else ''}" for i, c in enumerate(channels))


def parse(model: str) -> Name:
    """The parts of a name. Raises SpikeTicketError; the stem is checked where it is built."""
    numbers, at, stem = model.partition("@")
    kind, *parts = numbers.split("-")
    if (kind != "spikeformer" or len(parts) not in (2, 3, 4) or bool(at) != bool(stem)
            or not all(p.isascii() and p.isdecimal() and 0 < int(p) <= 4096 for p in parts)):
        raise SpikeTicketError(
            f"model {model!r} is not spikeformer-BLOCKS-WIDTH[-HEADS[-RATIO]][@STEM]; give e.g. "
            "spikeformer-2-96 or spikeformer-2-96-6-4@24p-48p-96-96")
    blocks, width, *rest = map(int, parts)
    head = next((d for d in (32, 16, 8) if width % d == 0), 0)
    if not rest and not head:
        raise SpikeTicketError(f"model {model!r}: width {width} is not a multiple of 8; give heads")
    return Name(blocks, width, rest[0] if rest else width // head,
                rest[1] if len(rest) > 1 else MLP_RATIO, stem or None)
