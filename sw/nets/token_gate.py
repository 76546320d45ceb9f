"""The patch gate as a module: keeps some of the tokens that a patch embedding makes.

`TokenGate` is the leaf that `sw.imports` reads as a `sw.integer.gate.Gate` and one `Select` for
every spike map that is added up in its input. A network is gated by a hook on its patch embedding,
and, in mode "input", by one in front of the network::

    net.token_gate = TokenGate("count", keep=16, grid=(7, 7), axes=(-2, -1))
    net.patch_embed.register_forward_hook(net.token_gate.behind)

What follows must take fewer tokens, as blocks do that read their input's shape.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import SpikeTicketError
from ..integer import tokens as token_ops
from ..integer.gate import Gate


class TokenGate(nn.Module):
    """Keeps `keep` tokens of a grid of (rows, columns), the same ones at every timestep.

    mode: "static" (those of `mask`, bool [N]; the first `keep` until `set_mask`), "count" (those
    with the most spikes over time and channels, of equal ones the lower index), "input" (those
    whose patches have the largest sums of input values; the input outside them is zeroed by
    `zero`, which must be called on it first) or "host" (`host`, int64 [B, keep], ascending, is set
    before every run; [1, keep] for all samples alike).
    axes: where the tokens lie in a value [T, B, ...], counted from the end: (-1,) for [T, B, D, N],
    (-2,) for [T, B, N, D], (-2, -1) for [T, B, D, H, W], which becomes [T, B, D, 1, keep].
    units: float value of one unit of the input (mode "input"), in which patches are summed.

    forward: [T, B, ...] spikes or sums of spikes -> the same with `keep` tokens.
    """

    def __init__(self, mode: str, keep: int, grid: tuple[int, int], axes: tuple[int, ...] = (-1,),
                 units: float = 1.0):
        super().__init__()
        self.mode, self.keep, self.grid = mode, keep, tuple(grid)
        self.axes, self.units = tuple(axes), units
        self.host: Tensor | None = None
        self._kept: Tensor | None = None
        mask = torch.arange(grid[0] * grid[1]) < keep
        self.register_buffer("mask", mask if mode == "static" else None)
        if self.axes not in ((-1,), (-2,), (-2, -1)):
            raise SpikeTicketError(f"token axes {axes} are not (-1,), (-2,) or (-2, -1)")
        self.gate("gate", ("map",) if mode == "count" else ())     # raises where numbers do not fit

    def gate(self, name: str, scores: tuple[str, ...]) -> Gate:
        """The gate of the integer network; scores: the maps that mode "count" counts."""
        mask = None if self.mask is None else self.mask.cpu().numpy().copy()
        return Gate(name, self.mode, self.keep, self.grid,
                    scores if self.mode == "count" else (), mask)

    def set_mask(self, mask: Tensor) -> None:
        """Tokens that mode "static" keeps: bool [N] with `keep` set."""
        if self.mask is None or mask.shape != self.mask.shape or int(mask.sum()) != self.keep:
            raise SpikeTicketError(f"mask of {list(mask.shape)} with {int(mask.sum())} tokens; "
                                   f"gate {self.mode!r} keeps {self.keep} of "
                                   f"{self.grid[0] * self.grid[1]}")
        self.mask.copy_(mask.bool())

    @torch.no_grad()
    def choose(self, tokens: Tensor) -> Tensor:
        """Tokens to keep, ascending int64 [B, keep], of values [T, B, D, N]."""
        if self.mode == "static":
            return token_ops.mask_tokens(self.mask.expand(tokens.shape[1], -1), self.keep)
        if self.mode == "count":
            return token_ops.top_tokens(token_ops.count_scores(tokens), self.keep)
        kept = self.host if self.mode == "host" else self._kept
        if kept is None:
            raise SpikeTicketError(
                "gate 'host' takes its tokens with every image; give `kept` or set `host`"
                if self.mode == "host" else "gate 'input' has not seen the input; call `zero`")
        return kept.expand(tokens.shape[1], -1)

    def zero(self, x: Tensor) -> Tensor:
        """The input [T or 1, B, C, H, W], 0 outside the patches that mode "input" keeps."""
        units = (x.detach() / self.units).round()
        self._kept = token_ops.top_tokens(token_ops.patch_scores(units, self.grid), self.keep)
        return token_ops.zero_patches(x, self._kept, self.grid)

    def behind(self, module: nn.Module, inputs: tuple, out: Tensor) -> Tensor:
        """Forward hook of a patch embedding. (A bound method: a copy of the network has a copy of
        its own.)"""
        return self(out)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.transpose(-1, -2) if self.axes == (-2,) else x.flatten(3)
        if tokens.shape[-1] != self.grid[0] * self.grid[1]:
            raise SpikeTicketError(f"{tokens.shape[-1]} tokens reach a gate of {self.grid[0]}x"
                                   f"{self.grid[1]}; place it behind the patch embedding")
        out = token_ops.take(tokens, self.choose(tokens))
        if self.axes == (-2,):
            return out.transpose(-1, -2)
        return out.unsqueeze(-2) if self.axes == (-2, -1) else out
