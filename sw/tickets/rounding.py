"""Weights rounded to their few integers while batch norms still normalise by batch.

Between the last round and the integer network: the forward pass sees every surviving weight as an
integer times a step, the gradient passes the rounding straight through.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..errors import SpikeTicketError
from ..integer.trainee import straight_through
from ..integer.units import largest_weight, whole
from .masks import Masks


def weight_steps(weight: Tensor, bits: int, per_channel: bool) -> Tensor:
    """Step [C_out, 1, ...] that minimises the squared rounding error of the surviving weights.

    Searched over 61 fractions of the step that reaches the largest weight, per output
    channel or (readout: classes are compared with each other) one for the tensor.
    """
    top = largest_weight(bits)
    rows = weight.flatten(1) if per_channel else weight.reshape(1, -1)
    alive = rows != 0
    reach = rows.abs().amax(1, keepdim=True)
    reach = torch.where(reach > 0, reach, torch.ones_like(reach))
    best, error = reach / top, torch.full_like(reach, torch.inf)
    for fraction in torch.linspace(0.4, 1.0, 61):
        step = reach * fraction / top
        rounded = whole(rows / step, bits) * step
        cost = ((rounded - rows) * alive).square().sum(1, keepdim=True)
        best, error = torch.where(cost < error, step, best), torch.minimum(cost, error)
    return best.expand(len(weight), 1).reshape(-1, *[1] * (weight.dim() - 1)).clone()


class RoundedWeight(nn.Module):
    """Parametrization of a float weight: its survivors, rounded to integers times `step`, that of
    `weight_steps` for the weight as it is now; it stays."""

    def __init__(self, weight: Tensor, mask: Tensor, bits: int, per_channel: bool):
        super().__init__()
        self.bits = bits
        self.register_buffer("mask", mask.to(weight))
        self.register_buffer("step", weight_steps(weight.detach() * self.mask, bits, per_channel))

    def forward(self, w: Tensor) -> Tensor:
        """Trained w -> effective W, of one shape; the gradient of the survivors goes straight
        through, beyond the largest integer, too."""
        w = w * self.mask
        return straight_through(w, whole(w.detach() / self.step, self.bits) * self.step)


def add_rounding(layers: dict[str, nn.Module], masks: Masks, bits: int, readout: str) -> None:
    """Train integers times a step from here on. readout: name of the weight that has one step."""
    for name, layer in layers.items():
        if parametrize.is_parametrized(layer, "weight"):
            raise SpikeTicketError(f"{name} is parametrized already; epochs_rounded is for plain "
                                   "weights")
        parametrize.register_parametrization(layer, "weight", RoundedWeight(
            layer.weight, masks[name], bits, name != readout))


def settle_rounding(layers: dict[str, nn.Module]) -> None:
    """Plain weights again: the integers times their steps."""
    for layer in layers.values():
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)


@torch.no_grad()
def last_run(module: nn.Module, layers: dict[str, nn.Module], sample: Tensor) -> str:
    """Name of the layer that is run last on a sample: the readout."""
    order: list[str] = []
    hooks = [layer.register_forward_hook(lambda *_, name=name: order.append(name))
             for name, layer in layers.items()]
    was_training = module.training
    module.eval()(sample)
    module.train(was_training)
    for hook in hooks:
        hook.remove()
    return order[-1]
