"""Patch tickets: which tokens of an image stay.

Tokens are the positions of the patch embedding's output, spikes [T, B, D, N], N a square grid in
row-major order. A ranking gives every token of every image a number, and the `keep` largest stay;
of equal ones the lower index, so that the software and the core's gate choose the same tokens.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import SpikeTicketError
from ..integer.tokens import count_scores, patch_scores, top_tokens, zero_patches
from .classifier import Classifier
from .stem import TokenStem

RANKINGS = ("spikes", "input", "selector", "random")
PLACES = ("tokens", "pixels")


def kept_count(tokens: int, patch_sparsity: float) -> int:
    """Tokens that stay of `tokens`: the nearest integer, at least one."""
    if not 0 <= patch_sparsity < 1:
        raise SpikeTicketError(f"patch sparsity {patch_sparsity} is outside 0..1 (0.3 drops 30 %)")
    return max(1, round((1 - patch_sparsity) * tokens))


def zero_pixels(x: Tensor, kept: Tensor, grid: tuple[int, int]) -> Tensor:
    """Zero the pixels of the other patches: [B, C, H, W] or [B, T, C, H, W], and [B, keep].

    grid: rows and columns of patches; token r * columns + c covers the patch at (r, c). The
    embedding then need not be computed there. Convolutions reach over patches, so the spikes of
    kept tokens may change.
    """
    _divides(x, grid)
    return zero_patches(_time_first(x), kept, grid).transpose(0, 1).reshape(x.shape)


class PatchGate:
    """Chooses and applies the patches of a network with a patch embedding.

    ranking: "spikes" counts the network's own token spikes (the core's gate mode "count"); "input"
    sums the input over each patch (its mode "input"); "selector" counts the token spikes of
    `selector`, a trained frozen embedding x -> [T, B, D, N]; "random" draws for every sample from
    `generator`. place: "tokens" removes tokens behind the embedding, "pixels" zeroes the pixels of
    dropped patches in front of it as well.
    """

    def __init__(self, stem: TokenStem, patch_sparsity: float, ranking: str = "spikes",
                 place: str = "tokens", selector: Callable[[Tensor], Tensor] | None = None,
                 generator: torch.Generator | None = None):
        if ranking not in RANKINGS:
            raise SpikeTicketError(f"ranking {ranking!r} is not one of {', '.join(RANKINGS)}")
        if place not in PLACES:
            raise SpikeTicketError(f"place {place!r} is not one of {', '.join(PLACES)}")
        if ranking == "selector" and selector is None:
            raise SpikeTicketError("ranking 'selector' needs a selector, a trained patch embedding")
        self.stem, self.keep = stem, kept_count(stem.tokens, patch_sparsity)
        self.ranking, self.place = ranking, place
        self.selector, self.generator = selector, generator or torch.Generator()

    @torch.no_grad()
    def choose(self, x: Tensor, spikes: Tensor | None) -> Tensor:
        """Kept tokens, ascending int64 [B, keep], of prepared samples x; ranking "spikes" alone
        looks at their token spikes [T, B, D, N]."""
        if self.ranking == "random":
            ranks = torch.rand((len(x), self.stem.tokens), generator=self.generator).to(x.device)
        elif self.ranking == "input":
            ranks = input_ranks(x, self.stem.grid)
        else:
            ranks = count_scores(self.selector(x) if self.ranking == "selector" else spikes)
        return top_tokens(ranks, self.keep)

    def __call__(self, net: Classifier, x: Tensor) -> Tensor:
        """Logits [B, classes] of a network on the kept patches of prepared samples x."""
        if self.ranking == "spikes":
            return self.stem.hooked(net, x, lambda out: self.stem.taken(
                out, self.choose(x, self.stem.rows(out.detach()))))
        kept = self.choose(x, None)
        if self.place == "pixels":
            x = zero_pixels(x, kept, self.stem.grid)
        return self.stem.hooked(net, x, lambda out: self.stem.taken(out, kept))


def input_ranks(x: Tensor, grid: tuple[int, int]) -> Tensor:
    """Sum of the input over every patch, int64 [B, N] in units of 1/255 of images [B, C, H, W];
    events [B, T, C, H, W] are counted over T."""
    _divides(x, grid)
    return patch_scores(_time_first((x * 255).round() if x.dim() == 4 else x), grid)


def _time_first(x: Tensor) -> Tensor:
    return x.unsqueeze(0) if x.dim() == 4 else x.transpose(0, 1)


def _divides(images: Tensor, grid: tuple[int, int]) -> None:
    if images.shape[-2] % grid[0] or images.shape[-1] % grid[1]:
        raise SpikeTicketError(f"{images.shape[-2]}x{images.shape[-1]} pixels do not divide into "
                               f"{grid[0]}x{grid[1]} patches; pad the images")
