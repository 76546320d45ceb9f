"""How a tensor of any axes lies as a map of channels, rows and columns.

Networks hold maps as [C, H, W], tokens as [N, C] or [C, N], heads as [heads, N, d], features as
[F]. The core knows maps only, so every tensor that a neuron or the input makes gets a `Layout`:
some of its axes are channels, the others positions, and an axis may be split into several first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from torch import Tensor

Axes = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """dims: the raw axes behind [T, B]. factors: the same, some of them split (row-major).
    channels, positions: axes of `factors`, in the map's order; size: (H, W) of the positions."""

    dims: Axes
    factors: Axes
    channels: Axes
    positions: Axes
    size: tuple[int, int]

    @classmethod
    def standard(cls, dims: Sequence[int]) -> Layout:
        """[C, H, W], [C, L] as a map of one row, [F] as features, [] as one feature."""
        dims = tuple(dims)
        split = max(0, len(dims) - 2) if len(dims) > 2 else min(1, len(dims))
        rest = dims[split:]
        return cls(dims, dims, tuple(range(split)), tuple(range(split, len(dims))),
                   (1, *rest) if len(rest) == 1 else rest or (1, 1))

    @classmethod
    def of_input(cls, dims: Sequence[int], shape: tuple[int, int, int]) -> Layout:
        """The input's: maps of `shape` (C, H, W), given as maps, rows or one vector."""
        if len(dims) > 1:
            return cls.standard(dims)
        if shape[1:] == (1, 1):
            return features(dims)
        return cls(tuple(dims), shape, (0,), (1, 2), shape[1:])

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return math.prod(self.factors[a] for a in self.channels), *self.size

    def to_map(self, raw: Tensor) -> Tensor:
        """[T, B, *dims] -> [T, B, C, H, W]."""
        axes = (0, 1, *(a + 2 for a in self.channels + self.positions))
        return raw.reshape(*raw.shape[:2], *self.factors).permute(axes).reshape(
            *raw.shape[:2], *self.shape)

    def to_raw(self, values: Tensor) -> Tensor:
        """[T, B, C, H, W] -> [T, B, *dims]."""
        order = self.channels + self.positions
        back = (0, 1, *(order.index(a) + 2 for a in range(len(order))))
        return values.reshape(*values.shape[:2], *(self.factors[a] for a in order)).permute(
            back).reshape(*values.shape[:2], *self.dims)


def features(dims: Sequence[int]) -> Layout:
    """Every value is a channel of a map of one position."""
    dims = tuple(dims)
    return Layout(dims, dims, tuple(range(len(dims))), (), (1, 1))


def candidates(dims: Sequence[int], sources: Sequence[Layout]) -> Iterator[Layout]:
    """Layouts in which a tensor [*dims] computed from maps of these layouts may lie, likely ones
    first: on the grid of a source, then with as many positions as there are, then split axes.
    `features` are first for a tensor of one axis, last for others."""
    dims = tuple(dims)
    grids = list(dict.fromkeys(s.size for s in sources if s.size != (1, 1)))
    found: dict[Layout, tuple] = {}
    for rank, factors in enumerate(_splits(dims, grids)):
        wide = [a for a, n in enumerate(factors) if n > 1]
        for count in range(len(wide) + 1):
            for channels in combinations(wide, count):
                positions = tuple(a for a in wide if a not in channels)
                narrow = tuple(a for a in range(len(factors)) if factors[a] == 1)
                for size in _sizes([factors[a] for a in positions], grids):
                    if size not in grids and (rank or len(positions) == 1 == len(wide)):
                        continue                 # an axis of features is no row of positions
                    layout = Layout(dims, factors, tuple(sorted(channels + narrow)), positions,
                                    size)
                    usual = channels == tuple(wide[:1]) and len(wide) > 1
                    found.setdefault(layout, (rank, size not in grids, not usual, -math.prod(size)))
    plain = features(dims)
    found.pop(plain, None)
    single = sum(n > 1 for n in dims) <= 1
    yield from [plain] * single
    yield from sorted(found, key=found.__getitem__)
    yield from [plain] * (not single)


def _splits(dims: Axes, grids: list[tuple[int, int]]) -> Iterator[Axes]:
    """dims as they are; then one axis split so that it holds a source's grid, or two axes that are
    multiples of a grid split into blocks (pixel shuffle, upsampling)."""
    yield dims
    for grid in grids:
        tokens = grid[0] * grid[1]
        for a, n in enumerate(dims):
            if n % tokens == 0 and n >= tokens and (n > tokens or len(dims) == 1):
                blocks = (n // tokens,) if n > tokens else ()
                yield dims[:a] + blocks + grid + dims[a + 1:]
                if blocks:
                    yield dims[:a] + grid + blocks + dims[a + 1:]
        for a in range(len(dims) - 1):
            times = tuple(n // g for n, g in zip(dims[a:a + 2], grid, strict=True))
            if max(times) > 1 and dims[a:a + 2] == (times[0] * grid[0], times[1] * grid[1]):
                yield (*dims[:a], grid[0], times[0], grid[1], times[1], *dims[a + 2:])


def _sizes(lengths: list[int], grids: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """(H, W) that axes of these lengths may be."""
    count = math.prod(lengths)
    yield from (g for g in grids if g[0] * g[1] == count)
    if len(lengths) == 2:
        yield lengths[0], lengths[1]
    elif len(lengths) == 1:
        ratio = grids[0][0] / grids[0][1] if grids else 1.0
        yield from sorted(((h, count // h) for h in range(1, count + 1) if count % h == 0),
                          key=lambda size: abs(math.log(size[0] / size[1] / ratio)))
    elif not lengths:
        yield 1, 1
