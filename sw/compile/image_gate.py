"""The patch gate of a network image: masks between tokens of the network and bits of the core."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hw.config import WORD_BITS

from ..integer.gate import Gate, check_masks


@dataclass
class GateInfo:
    """The patch gate of a compiled network.

    name, mode, keep, grid: as of `sw.integer.gate.Gate`. pitch: flat positions from a row of tokens
    to the next. step: index of the gate in `Image.layers`. mask: words of a "static" mask, ()
    otherwise.
    """

    name: str
    mode: str
    keep: int
    grid: tuple[int, int]
    pitch: int
    step: int
    mask: tuple[int, ...] = ()

    def __post_init__(self):
        self.grid, self.mask = tuple(self.grid), tuple(self.mask)      # lists in JSON

    @property
    def tokens(self) -> int:
        """N, before the gate."""
        return self.grid[0] * self.grid[1]

    @property
    def positions(self) -> np.ndarray:
        """Flat position of every token: int64 [N]."""
        row, column = np.divmod(np.arange(self.tokens), self.grid[1])
        return row * self.pitch + column

    @property
    def mask_words(self) -> int:
        """Words of the core's mask that hold tokens."""
        return int(self.positions[-1]) // WORD_BITS + 1

    def words(self, mask: np.ndarray) -> np.ndarray:
        """Words to write to the core for a mask of tokens, bool [N]; uint32 [mask_words]."""
        bits = np.zeros(self.mask_words * WORD_BITS, np.uint8)
        bits[self.positions] = mask
        return np.packbits(bits, bitorder="little").view("<u4").astype(np.uint32)

    def kept(self, words: Sequence[int] | np.ndarray) -> np.ndarray:
        """Inverse of `words`: bool [N]."""
        data = np.ascontiguousarray(np.asarray(words).astype("<u4")).view(np.uint8)
        return np.unpackbits(data, bitorder="little")[self.positions].astype(bool)

    def check_masks(self, masks: np.ndarray | None, images: int) -> np.ndarray | None:
        """Masks of a batch as bool [B, N], None where it takes none; see `sw.integer.gate`."""
        return check_masks({self.name: self._rule()} if self.mode == "host" else {}, masks, images)

    def apply(self, array: np.ndarray, mask: np.ndarray | None,
              static: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """The input to encode and the words of the mask to write before the run.

        array: uint8 [C, H, W] if `static`, else [T, C, H, W], checked. mask: bool [N], checked, for
        mode "host". No words where the core finds the mask itself.
        """
        if self.mode == "static":
            return array, np.array(self.mask, np.uint32)
        if self.mode == "host":
            return array, self.words(mask)
        if self.mode == "count":
            return array, None
        values, rule = array[None, None] if static else array[:, None], self._rule()
        kept = rule.choose({"input": values}, None, 1)
        chosen = np.isin(np.arange(self.tokens), kept[0])
        return rule.zero_input(values, kept).reshape(array.shape), self.words(chosen)

    def _rule(self) -> Gate:
        return Gate(self.name, self.mode, self.keep, self.grid)
