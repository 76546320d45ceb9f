"""Attention and the patch gate on tensors: for the integer network, and for training.

Gradients flow through attention and through the tokens that a gate keeps, not through its choice.
Maps are [T, B, C, H, W]; tokens are their positions in row-major order. `sw.integer.attention` and
`sw.integer.gate` state the rules.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..errors import SpikeTicketError
from .gate import Gate


def self_attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """(q k^T) v of spikes [..., C, N] in a floating-point type -> the same shape, as integers.

    Computed as (v k^T) q, which needs the fewest operations when a head is narrower than N.
    """
    q, k, v = (x.unflatten(-2, (heads, x.shape[-2] // heads)) for x in (q, k, v))
    return (v @ k.mT @ q).flatten(-3, -2)


def column_attention(k: Tensor, v: Tensor) -> Tensor:
    """Sum over tokens of k AND v: spikes [..., C, N] -> [..., C, 1]."""
    return (k * v).sum(-1, keepdim=True)


def count_scores(spikes: Tensor) -> Tensor:
    """Spikes of every token: [T, B, C, ...] (or sums of several maps) -> int64 [B, N]."""
    return spikes.detach().sum((0, 2), dtype=torch.float64).round().long().flatten(1)


def patch_scores(values: Tensor, grid: tuple[int, int]) -> Tensor:
    """Input sums of every patch: integers [T or 1, B, C, H, W] in any type -> int64 [B, N]."""
    sums = values.detach().sum((0, 2), dtype=torch.float64).round().long()
    rows, columns = grid
    height, width = sums.shape[1] // rows, sums.shape[2] // columns
    return sums.unflatten(2, (columns, width)).unflatten(1, (rows, height)).sum((2, 4)).flatten(1)


def top_tokens(scores: Tensor, keep: int) -> Tensor:
    """Ascending int64 [B, keep] of the `keep` largest of scores [B, N]; ties: the lower index."""
    if not 1 <= keep <= scores.shape[1]:
        raise SpikeTicketError(f"keep {keep} is outside 1..{scores.shape[1]} tokens")
    order = torch.sort(scores, dim=1, descending=True, stable=True).indices[:, :keep]
    return order.sort(1).values


def mask_tokens(masks: Tensor, keep: int) -> Tensor:
    """Ascending int64 [B, keep] of masks, bool [B, N] with `keep` set in every row."""
    return masks.nonzero()[:, 1].view(len(masks), keep)


def choose(gate: Gate, maps: dict[str, Tensor], masks: np.ndarray | None) -> Tensor:
    """Kept tokens int64 [B, keep] of a gate.

    maps: [T or 1, B, C, H, W] by name, the input's with whole numbers; masks: bool [B, N] for mode
    "host", checked.
    """
    values = maps["input"]
    if gate.mode in ("static", "host"):
        chosen = np.tile(gate.mask, (values.shape[1], 1)) if gate.mode == "static" else masks
        return mask_tokens(torch.from_numpy(chosen), gate.keep).to(values.device)
    if gate.mode == "input":
        return top_tokens(patch_scores(values, gate.grid), gate.keep)
    return top_tokens(sum(count_scores(maps[name]) for name in gate.scores), gate.keep)


def take(spikes: Tensor, kept: Tensor) -> Tensor:
    """The kept tokens: [T, B, C, N] and int64 [B, keep] -> [T, B, C, keep]."""
    return spikes.gather(3, kept[None, :, None, :].expand(*spikes.shape[:3], -1))


def zero_patches(values: Tensor, kept: Tensor, grid: tuple[int, int]) -> Tensor:
    """[T or 1, B, C, H, W] with the patches outside `kept` [B, keep] at 0."""
    rows, columns = grid
    mask = torch.zeros(len(kept), rows * columns, dtype=values.dtype, device=values.device)
    mask = mask.scatter_(1, kept, 1).view(-1, 1, rows, columns)
    mask = mask.repeat_interleave(values.shape[-2] // rows, 2)
    return values * mask.repeat_interleave(values.shape[-1] // columns, 3)
