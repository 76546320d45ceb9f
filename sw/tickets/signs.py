"""Dense binary weights, the BinWSNN of arXiv 2311.12060: trained, nothing removed.

After binary-weight networks (Rastegari et al. 1603.05279): the forward pass uses, per layer,
W = alpha sign(w) with alpha = mean |w|; backward, sign passes the gradient to w where |w| <= 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..errors import SpikeTicketError


class _Sign(torch.autograd.Function):
    """+1 or -1, of 0: +1."""

    @staticmethod
    def forward(ctx, w: Tensor) -> Tensor:
        ctx.save_for_backward(w)
        return torch.where(w < 0, -1.0, 1.0).to(w.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        w, = ctx.saved_tensors
        return grad * (w.abs() <= 1)


class SignWeight(nn.Module):
    """Parametrization of a weight: its sign times the layer's mean magnitude."""

    def forward(self, w: Tensor) -> Tensor:
        """Trained w -> effective W, of one shape."""
        return w.abs().mean() * _Sign.apply(w)


def add_signs(layers: dict[str, nn.Module]) -> None:
    """Train these layers with binary weights from here on."""
    for name, layer in layers.items():
        if parametrize.is_parametrized(layer, "weight"):
            raise SpikeTicketError(f"{name} is parametrized already; take that off first")
        parametrize.register_parametrization(layer, "weight", SignWeight())


def settle_signs(layers: dict[str, nn.Module]) -> None:
    """Replace every such weight by the plain +-alpha, and freeze it."""
    for layer in layers.values():
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
        layer.weight.requires_grad_(False)
