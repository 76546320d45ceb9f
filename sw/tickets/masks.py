"""Masks: which weights survive. True keeps a weight; sparsity is the fraction removed.

Every choice is by rank, so a mask has exactly the asked number of weights; of equal ranks the
earlier weight stays (order of the dictionary, then C order inside a tensor).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..errors import SpikeTicketError

Masks = dict[str, Tensor]
"""bool tensors by the name of their layer, each of its weight's shape."""

SCOPES = ("global", "layer", "lamp")


def largest(values: Tensor, keep: int) -> Tensor:
    """bool mask, of the shape of `values`, of its `keep` largest entries; ties: the earlier."""
    flat = values.detach().flatten()
    if not 0 < keep < len(flat):
        return torch.full_like(values, keep > 0, dtype=torch.bool)
    least = torch.kthvalue(flat, len(flat) - keep + 1).values
    mask = flat > least
    mask[(flat == least).nonzero()[:keep - int(mask.sum())]] = True
    return mask.view(values.shape)


def survivors(total: int, sparsity: float) -> int:
    """How many of `total` weights stay: the nearest integer, at least one."""
    return min(total, max(1, round((1 - sparsity) * total)))


def by_score(scores: dict[str, Tensor], sparsity: float, scope: str = "global",
             within: Masks | None = None) -> Masks:
    """Keep the largest |score|; with weights as scores this is magnitude pruning.

    scope: "global" ranks all layers together, "layer" leaves the same fraction in every layer,
    "lamp" ranks all layers together by `lamp`, so that layers of small weights are not emptied.
    within: the mask so far. Nothing outside it survives, also where all scores are zero, so
    what was removed never comes back. Raises SpikeTicketError when `within` holds too few weights.
    """
    _check(sparsity, scope)
    ranks = {}
    for name, score in scores.items():
        rank = score.detach().abs().float()
        ranks[name] = rank if within is None else rank.masked_fill(~within[name], -1.0)
    if within is not None:
        for group in ([*scores] if scope == "layer" else [None]):
            part = [n for n in scores if group in (None, n)]
            total = sum(scores[n].numel() for n in part)
            alive = sum(int(within[n].sum()) for n in part)
            if survivors(total, sparsity) > alive:
                raise SpikeTicketError(
                    f"sparsity {sparsity} of {group or 'all layers'} keeps "
                    f"{survivors(total, sparsity)} weights, but only {alive} are left; masks "
                    "never grow, ask for a higher sparsity")
    if scope == "layer":
        return {n: largest(r, survivors(r.numel(), sparsity)) for n, r in ranks.items()}
    if scope == "lamp":
        ranks = {n: lamp(r) for n, r in ranks.items()}
    flat = torch.cat([r.flatten() for r in ranks.values()])
    return _split(largest(flat, survivors(len(flat), sparsity)), scores)


def lamp(magnitudes: Tensor) -> Tensor:
    """Layer-adaptive magnitudes (Lee et al. arXiv 2010.07611), float64 of the same shape.

    A weight's square over the sum of the squares of all weights of its layer that are not smaller:
    what removing it does to the layer, whatever the layer's scale (a batch norm undoes any scale).
    A layer's largest has 1. Negative magnitudes mark removed weights and stay -1.
    """
    values, order = torch.sort(magnitudes.detach().flatten().double(), descending=True, stable=True)
    squares = values.clamp_min(0).square()
    scores = squares / squares.cumsum(0).clamp_min(torch.finfo(torch.float64).tiny)
    scores[values < 0] = -1.0
    return torch.empty_like(scores).scatter_(0, order, scores).view(magnitudes.shape)


def random_masks(weights: dict[str, Tensor], sparsity: float, seed: int,
                 scope: str = "global") -> Masks:
    """A mask that knows nothing about the weights: the control of every search."""
    generator = torch.Generator().manual_seed(seed)
    scores = {n: torch.rand(w.shape, generator=generator) for n, w in weights.items()}
    return by_score(scores, sparsity, scope)


def sparsity_of(masks: Masks) -> float:
    """Fraction of weights removed, over all layers."""
    total = sum(m.numel() for m in masks.values())
    return 1 - sum(int(m.sum()) for m in masks.values()) / total


def distance(a: Masks, b: Masks) -> float:
    """Fraction of places at which two masks differ (Hamming; You et al. 1909.11957)."""
    differ = sum(int((a[n] != b[n]).sum()) for n in a)
    return differ / sum(m.numel() for m in a.values())


def overlap(a: Masks, b: Masks) -> float:
    """Survivors of both over survivors of either (Jaccard); 1 where the masks are the same."""
    both = sum(int((a[n] & b[n]).sum()) for n in a)
    either = sum(int((a[n] | b[n]).sum()) for n in a)
    return both / either if either else 1.0


def keeper(layers: dict[str, nn.Module], masks: Masks) -> Callable[[], None]:
    """A function that sets the removed weights of `layers` to 0, for after every update."""
    pairs = [(layers[n].weight, m.to(layers[n].weight.device)) for n, m in masks.items()]

    @torch.no_grad()
    def keep() -> None:
        for weight, mask in pairs:
            weight.mul_(mask)
    return keep


def _split(flat: Tensor, like: dict[str, Tensor]) -> Masks:
    parts = flat.split([w.numel() for w in like.values()])
    return {n: part.view(w.shape) for (n, w), part in zip(like.items(), parts, strict=True)}


def _check(sparsity: float, scope: str) -> None:
    if not 0 <= sparsity < 1:
        raise SpikeTicketError(f"sparsity {sparsity} is outside 0..1 (0.9 removes 90 %)")
    if scope not in SCOPES:
        raise SpikeTicketError(f"scope {scope!r} is not one of {', '.join(SCOPES)}")
