"""Connection tickets by trained scores: the weights stay as they were drawn, a score per weight
learns which of them to keep.

Edge-popup (Ramanujan et al. 1911.13299) for real-valued weights, biprop (Diffenderfer and
Kailkhura 2103.09377) for binary ones; for spiking networks arXiv 2311.12060. Per layer, with frozen
weights w, scores s, and M = the top fraction by \\|s\\|, of a layer or of all::

    real      W = M * w
    binary    W = alpha * M * sign(w),   alpha = sum(|w| * M) / sum(M)

The forward pass uses W. Backward, the step from s to M passes the gradient straight through, so
that s receives dL/dW * w (binary: dL/dW * alpha * sign(w)) times sign(s); w receives nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..errors import SpikeTicketError
from .classifier import Classifier
from .masks import Masks, by_score


class _Chosen(torch.autograd.Function):
    """The mask of |scores| as floats; the gradient goes straight through."""

    @staticmethod
    def forward(ctx, magnitude: Tensor, mask: Tensor) -> Tensor:
        return mask.to(magnitude.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor):
        return grad, None


class Ranking:
    """Which scores of some layers are among the top: of each layer, or of all together ("global").
    The masks are drawn anew when a score has changed."""

    def __init__(self, layers: Sequence[ScoredWeight], sparsity: float, scope: str):
        self.layers, self.sparsity, self.scope = list(layers), sparsity, scope
        self._drawn: tuple[object, Masks] = (None, {})

    def mask(self, layer: ScoredWeight) -> Tensor:
        """bool, of the shape of the layer's weight."""
        ranked = self.layers if self.scope == "global" else [layer]
        state = [(id(one.scores), one.scores._version) for one in ranked]
        if self._drawn[0] != state:
            scores = {str(id(one)): one.scores for one in ranked}
            self._drawn = state, by_score(scores, self.sparsity, self.scope)
        return self._drawn[1][str(id(layer))]


class ScoredWeight(nn.Module):
    """Parametrization of a weight: frozen values, trained scores.

    sparsity: fraction of the weights removed, exactly, of this layer or of all that share
    `ranking`. binary: survivors are +-alpha. seed of the scores: the global generator of torch.
    """

    def __init__(self, shape: torch.Size, sparsity: float, binary: bool = False):
        super().__init__()
        if not 0 <= sparsity < 1:
            raise SpikeTicketError(f"sparsity {sparsity} is outside 0..1 (0.5 removes half)")
        self.binary = binary
        self.scores = nn.Parameter(torch.empty(shape))
        self.ranking = Ranking([self], sparsity, "layer")
        nn.init.kaiming_uniform_(self.scores, a=math.sqrt(5))

    def mask(self) -> Tensor:
        """bool, of the weight's shape."""
        return self.ranking.mask(self)

    def forward(self, w: Tensor) -> Tensor:
        """Frozen w -> effective W, both of the layer's weight shape."""
        w = w.detach()
        mask = _Chosen.apply(self.scores.abs(), self.mask())
        if not self.binary:
            return mask * w
        kept = mask.detach()
        alpha = (w.abs() * kept).sum() / kept.sum().clamp_min(1)
        return mask * (alpha * torch.where(w < 0, -1.0, 1.0))


def connections(module: nn.Module) -> dict[str, nn.Module]:
    """Every layer with synapses (Conv1d, Conv2d, Linear) by the name of its weight in the user's
    module, "conv.weight", in order of definition. A layer that appears twice counts once."""
    if isinstance(module, Classifier):
        module = module.module
    kinds = nn.Conv1d, nn.Conv2d, nn.Linear
    return {f"{name}.weight".removeprefix("."): m for name, m in module.named_modules()
            if isinstance(m, kinds)}


def rate(updates: int) -> float:
    """The peak learning rate of scores for a number of updates: 0.005 up to 4,000, rising to 0.1 at
    40,000. At 0.1 a third of a short search's mask changes in every epoch, until its rate falls."""
    return min(0.1, 0.005 * max(1.0, updates / 4000) ** math.log10(20))


def norms(module: nn.Module) -> list[nn.Parameter]:
    """Scale and shift of every batch norm."""
    return [p for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)
            for p in m.parameters(recurse=False)]


def add_scores(layers: dict[str, nn.Module], sparsity: float, binary: bool = False,
               scope: str = "layer") -> list[nn.Parameter]:
    """Draw the weights anew (Kaiming normal), freeze them, give them scores; returns the scores.

    Weights have one magnitude scale per layer only, which the batch norms behind them make
    irrelevant. Biases become 0. scope: "layer" or "global", see `Ranking`.
    """
    if not layers:
        raise SpikeTicketError("no convolution or linear layer to put scores on; give a model "
                               "with synapses")
    tickets: list[ScoredWeight] = []
    for layer in layers.values():
        if parametrize.is_parametrized(layer, "weight"):
            raise SpikeTicketError(f"{type(layer).__name__} has a parametrized weight already; "
                                   "take scores off first")
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
        ticket = ScoredWeight(layer.weight.shape, sparsity, binary).to(layer.weight.device)
        parametrize.register_parametrization(layer, "weight", ticket)
        tickets.append(ticket)
    if scope == "global":
        ranking = Ranking(tickets, sparsity, scope)
        for ticket in tickets:
            ticket.ranking = ranking
    return [ticket.scores for ticket in tickets]


def freeze_all_but(module: nn.Module, parameters: list[nn.Parameter]) -> None:
    """Let gradients reach `parameters` and nothing else of `module`."""
    wanted = {id(p) for p in parameters}
    for p in module.parameters():
        p.requires_grad_(id(p) in wanted)


def masks_of(layers: dict[str, nn.Module]) -> Masks:
    """The masks that the scores choose now."""
    return {n: m.parametrizations.weight[0].mask() for n, m in layers.items()}


def settle(layers: dict[str, nn.Module]) -> Masks:
    """Replace every scored weight by the plain effective one; returns the masks."""
    masks = masks_of(layers)
    for layer in layers.values():
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
        layer.weight.requires_grad_(False)
    return masks
