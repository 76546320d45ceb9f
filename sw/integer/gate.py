"""The patch gate: which of an image's N tokens stay.

A `Gate` chooses `keep` of the tokens of a grid (token n is row n // columns, column n % columns);
a `Select` leaves out the others::

    kept[0] < kept[1] < ...                      the chosen tokens
    out_t[c, 0, j] = source_t[c, kept[j]]        a map [C, 1, keep]

Where a gate goes by scores, the `keep` largest stay, of equal ones the lower index.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..data.arrays import read_npy
from ..errors import SpikeTicketError
from .attention import MAX_TOKENS
from .shapes import InputSpec, Shape, require

MODES = ("static", "host", "count", "input")


@dataclass(frozen=True, eq=False)
class Gate:
    """Choice of `keep` tokens of a grid of (rows, columns).

    mode "static": those of `mask`, bool [N] with `keep` set, for every image.
    mode "host": a mask comes with every image.
    mode "count": by score[n], the spikes of token n summed over timesteps, channels and the maps
        named in `scores`.
    mode "input": by score[n], the sum of the input's values over timesteps, channels and the
        n-th of rows x columns equal patches. The input outside the kept patches is zeroed, so
        the gate is the network's first operation.

    Raises SpikeTicketError naming the gate where `keep`, grid, mask or scores do not fit.
    """

    name: str
    mode: str
    keep: int
    grid: tuple[int, int]
    scores: tuple[str, ...] = ()
    mask: np.ndarray | None = None

    synapses: ClassVar[tuple[()]] = ()

    def __post_init__(self):
        where = f"gate {self.name!r}"
        require(self.mode in MODES, f"{where}: mode {self.mode!r} is not one of "
                                    f"{', '.join(MODES)}")
        object.__setattr__(self, "grid", tuple(self.grid))
        require(len(self.grid) == 2 and min(self.grid) >= 1,
                f"{where}: grid {self.grid} is not (rows, columns)")
        require(self.tokens <= MAX_TOKENS, f"{where}: {self.tokens} tokens are more than "
                                           f"{MAX_TOKENS}")
        require(1 <= self.keep <= self.tokens,
                f"{where}: keep {self.keep} is outside 1..{self.tokens} tokens")
        require((self.mode == "count") == bool(self.scores),
                f"{where}: mode {self.mode!r} with scores {self.scores}; 'count' needs maps to "
                "count spikes of, the others have none")
        require((self.mode == "static") == (self.mask is not None),
                f"{where}: a mask belongs to mode 'static', and only there")
        if self.mask is not None:
            mask = self.mask
            require(mask.dtype == bool and mask.shape == (self.tokens,),
                    f"{where}: mask is {mask.dtype} {list(mask.shape)}, not bool "
                    f"[{self.tokens}]")
            require(int(mask.sum()) == self.keep,
                    f"{where}: mask keeps {int(mask.sum())} tokens, not {self.keep}")

    @property
    def tokens(self) -> int:
        """N, before the gate."""
        return self.grid[0] * self.grid[1]

    @property
    def sources(self) -> tuple[str, ...]:
        return self.scores

    def check(self, spec: InputSpec, shapes: Mapping[str, Shape]) -> None:
        """Raise SpikeTicketError where the maps so far do not have this gate's grid."""
        where = f"gate {self.name!r}"
        for name in self.scores:
            require(name in shapes and name != "input",
                    f"{where}: score {name!r} is not an earlier spike map")
            shape = shapes[name]
            require((shape.height, shape.width) == self.grid,
                    f"{where}: score {name!r} has {shape.height}x{shape.width} tokens, not "
                    f"{self.grid[0]}x{self.grid[1]}")
        if self.mode == "input":
            rows, columns = self.grid
            require(spec.height % rows == 0 and spec.width % columns == 0,
                    f"{where}: {spec.height}x{spec.width} inputs do not divide into "
                    f"{rows}x{columns} patches")

    def score_bound(self, spec: InputSpec, shapes: Mapping[str, Shape], timesteps: int) -> int:
        """Largest possible score; 0 where the gate goes by a mask."""
        if self.mode == "count":
            return timesteps * sum(shapes[name].channels for name in self.scores)
        if self.mode == "input":
            patch = spec.channels * spec.height * spec.width // self.tokens
            return ((1 << spec.bits) - 1) * patch * (1 if spec.static else timesteps)
        return 0

    def choose(self, maps: Mapping[str, np.ndarray], masks: np.ndarray | None,
               images: int) -> np.ndarray:
        """Kept tokens of every image, ascending: int64 [B, keep].

        maps: uint8 [T or 1, B, C, H, W] by name; masks: bool [B, N], checked, for mode "host".
        """
        if self.mode == "static":
            return np.tile(np.flatnonzero(self.mask), (images, 1))
        if self.mode == "host":
            return np.nonzero(masks)[1].reshape(len(masks), self.keep)
        if self.mode == "count":
            scores = sum(maps[name].sum((0, 2), dtype=np.int64) for name in self.scores)
            scores = scores.reshape(len(scores), self.tokens)
        else:
            scores = self.patch_sums(maps["input"])
        order = np.argsort(-scores, axis=1, kind="stable")
        return np.sort(order[:, :self.keep], axis=1)

    def patch_sums(self, values: np.ndarray) -> np.ndarray:
        """Scores of mode "input": [T or 1, B, C, H, W] values -> int64 [B, N]."""
        rows, columns = self.grid
        sums = values.sum((0, 2), dtype=np.int64)
        images, height, width = sums.shape
        blocks = sums.reshape(images, rows, height // rows, columns, width // columns)
        return blocks.sum((2, 4)).reshape(images, self.tokens)

    def zero_input(self, values: np.ndarray, kept: np.ndarray) -> np.ndarray:
        """The input [T or 1, B, C, H, W] with every patch outside `kept` [B, keep] at 0."""
        mask = np.zeros((len(kept), self.tokens), values.dtype)
        np.put_along_axis(mask, kept, 1, axis=1)
        height, width = values.shape[-2:]
        mask = mask.reshape(-1, *self.grid).repeat(height // self.grid[0], axis=1)
        return values * mask.repeat(width // self.grid[1], axis=2)[:, None]


@dataclass(frozen=True)
class Select:
    """The tokens of map `source` that `gate` keeps, as map `name` of shape [C, 1, keep]."""

    name: str
    source: str
    gate: str

    synapses: ClassVar[tuple[()]] = ()

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.source,)

    def shape(self, gates: Mapping[str, Gate], shapes: Mapping[str, Shape]) -> Shape:
        """Shape of the selected map; raises SpikeTicketError."""
        where = f"layer {self.name!r}"
        require(self.gate in gates, f"{where}: {self.gate!r} is not an earlier gate")
        require(self.source in shapes and self.source != "input",
                f"{where}: source {self.source!r} is not an earlier spike map")
        gate, shape = gates[self.gate], shapes[self.source]
        require((shape.height, shape.width) == gate.grid,
                f"{where}: {self.source!r} has {shape.height}x{shape.width} tokens, gate "
                f"{gate.name!r} chooses from {gate.grid[0]}x{gate.grid[1]}")
        return type(shape)(shape.channels, 1, gate.keep)

    def take(self, spikes: np.ndarray, kept: np.ndarray) -> np.ndarray:
        """[T, B, C, H, W] and kept [B, keep] -> [T, B, C, 1, keep]."""
        tokens = spikes.reshape(*spikes.shape[:3], -1)
        return np.take_along_axis(tokens, kept[None, :, None, :], axis=3)[..., None, :]


def read_masks(path: str | Path) -> np.ndarray:
    """Masks in an .npy file, [images, N], for `check_masks`. Raises SpikeTicketError."""
    masks = read_npy(path)
    if masks.ndim != 2:
        raise SpikeTicketError(f"{path}: masks of shape {list(masks.shape)}; a gate takes "
                               "[images, patches]")
    return masks


def check_masks(gates: Mapping[str, Gate], masks: np.ndarray | None,
                images: int) -> np.ndarray | None:
    """Masks of the images for a "host" gate, as bool [B, N]; None where no gate wants any.

    Raises SpikeTicketError for masks that are missing, not asked for, of a wrong length or kind, or
    that keep another number of tokens than the gate.
    """
    host = [gate for gate in gates.values() if gate.mode == "host"]
    if not host:
        require(masks is None, "patch masks given, but no gate of this network takes them from "
                               "the host")
        return None
    gate = host[0]
    where = f"gate {gate.name!r}"
    if masks is None:
        raise SpikeTicketError(f"{where} takes a mask with every image; give bool "
                               f"[{images}, {gate.tokens}]")
    masks = np.asarray(masks)
    require(masks.shape == (images, gate.tokens), f"{where}: masks of shape {list(masks.shape)}; "
                                                  f"give [{images}, {gate.tokens}]")
    binary = masks.dtype.kind in "biu" and bool(((masks == 0) | (masks == 1)).all())
    require(binary, f"{where}: masks are {masks.dtype} with other values than 0 and 1")
    wrong = np.flatnonzero(masks.sum(1) != gate.keep)
    if len(wrong):
        raise SpikeTicketError(f"{where}: the mask of image {wrong[0]} keeps "
                               f"{int(masks[wrong[0]].sum())} tokens, not {gate.keep}")
    return masks.astype(bool)
