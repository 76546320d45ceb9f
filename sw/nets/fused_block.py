"""Batch norm, SpikingJelly's IF or LIF neurons over all T, and a 2x2 pool of their spikes as one
autograd node on a CPU.

    y = gamma (x - mean) / sqrt(variance + eps) + beta      by channel, of the batch
    s = spikes of the neurons at the currents y             `sw.nets.neurons`
    p = maximum (OR) or mean of 2x2 spikes

In between nothing goes through memory, and only x is kept for the gradient: membranes are computed
again. The neurons' operations are those of `sw.nets.neurons` in the same order, so currents that
are equal give equal spikes; the norm's sums have another order than torch's, and in mixed precision
its results are float32 here, where torch rounds them to bfloat16.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

from . import block_kernel as kernel
from . import neuron_kernel
from .neurons import SURROGATES, FusedRule, rule_of


@dataclass(frozen=True)
class FusedBlock:
    """norm: by channel. node: at rest. pool: kernel.NO_POOL, OR or MEAN."""

    norm: nn.modules.batchnorm._BatchNorm
    node: neuron.BaseNode
    rule: FusedRule
    pool: int

    @classmethod
    def of(cls, norm: nn.Module, node: nn.Module, pool: nn.Module | None) -> FusedBlock | None:
        """The three as one; None where they cannot be, where something looks in between, and
        outside of training: figures do not depend on it."""
        rule, kind = rule_of(node), pool_of(pool)
        if rule is None or kind is None or SURROGATES[type(rule.surrogate)] == neuron_kernel.GIVEN:
            return None
        if (not isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d) or norm.momentum is None
                or not norm.track_running_stats or not norm.training
                or any(_watched(part) for part in (norm, node, pool) if part is not None)):
            return None
        return cls(norm, node, rule, kind)

    @staticmethod
    def takes(x: Tensor) -> bool:
        """Whether it can compute on such numbers."""
        return x.device.type == "cpu" and x.dtype in (torch.bfloat16, torch.float32, torch.float64)

    def __call__(self, x: Tensor, steps: int) -> Tensor:
        """Maps [T or 1, B, C, H, W], or rows [T or 1, ..., C], that are the same at every timestep
        where T is 1 -> spikes [T, ...] behind the pool."""
        norm, maps = self.norm, isinstance(self.norm, nn.BatchNorm2d)
        rows = (x.movedim(2, -1) if maps else x).contiguous()
        spikes = _Block.apply(rows, norm.weight, norm.bias, *_batch(rows, norm), self, steps)
        return spikes.movedim(-1, 2) if maps else spikes


class _Block(torch.autograd.Function):
    """Rows [T or 1, B, H, W, C], or [T or 1, ..., C], -> spikes [T, ...], channels last."""

    @staticmethod
    def forward(ctx, rows: Tensor, gamma: Tensor | None, beta: Tensor | None, mean: Tensor,
                variance: Tensor, block: FusedBlock, steps: int) -> Tensor:
        kind = _computed(rows)
        over = (variance.to(kind) + block.norm.eps).rsqrt()       # 1 / deviation
        scale = over if gamma is None else gamma.detach().to(kind) * over
        shift = -mean.to(kind) * scale
        if beta is not None:
            shift = shift + beta.detach().to(kind)
        shape, grid = rows.shape, (1, rows.shape[1:-1].numel(), 1)
        if block.pool != kernel.NO_POOL:
            grid = shape[1], shape[2], shape[3]
            shape = (*shape[:2], shape[2] // 2, shape[3] // 2, shape[-1])
        spikes = rows.new_empty((steps, *shape[1:]))
        kernel.forward(_flat(rows), scale.numpy(), shift.numpy(), _flat(spikes), grid, block.pool,
                       _rule(block.rule, kind))
        ctx.save_for_backward(rows, scale, shift, mean.to(kind), over)
        ctx.block, ctx.grid = block, grid
        return spikes

    @staticmethod
    def backward(ctx, grad: Tensor):
        rows, scale, shift, mean, over = ctx.saved_tensors
        block, kind = ctx.block, scale.dtype
        given, number = torch.empty_like(rows), scale.numpy().dtype.type
        sums = torch.zeros((2, len(scale)), dtype=torch.float64)
        leak = 0.0 if block.rule.tau is None else 1 / block.rule.tau
        kernel.backward(
            _flat(rows), scale.numpy(), shift.numpy(), mean.numpy(),
            _flat(grad.to(rows.dtype).contiguous()), _flat(given), sums.numpy(), ctx.grid,
            block.pool, _rule(block.rule, kind),
            (number(1 - leak), number(leak if block.rule.decay_input else 1.0), block.rule.detach,
             SURROGATES[type(block.rule.surrogate)], number(block.rule.surrogate.alpha)))
        # dL/dx = scale (g - mean of g - (x - mean) / deviation^2 * mean of g (x - mean))
        mean_grad, with_x = sums / rows[..., 0].numel()
        bend = (over.double().square() * with_x).to(kind)
        plus = scale * (mean * bend - mean_grad.to(kind))
        kernel.combine(_flat(rows).reshape(-1), _flat(given).reshape(-1), (-scale * bend).numpy(),
                       scale.numpy(), plus.numpy())
        slopes = [None, None]
        if block.norm.affine:
            slopes = [(sums[1].to(kind) * over).to(block.norm.weight.dtype),
                      sums[0].to(block.norm.bias.dtype)]
        return given, *slopes, None, None, None, None


def _batch(rows: Tensor, norm: nn.modules.batchnorm._BatchNorm) -> tuple[Tensor, Tensor]:
    """Mean and variance of the batch by channel; the running ones move as torch's do."""
    channels, count = rows.shape[-1], rows[..., 0].numel()
    if count < 2:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size "
                         f"{rows.shape}")
    mean, squares = torch.zeros((2, channels), dtype=torch.float64)
    like = torch.empty(0, dtype=_computed(rows))
    kernel.statistics(_flat(rows).reshape(-1), mean.numpy(), squares.numpy(), like.numpy())
    with torch.no_grad():
        norm.num_batches_tracked.add_(1)
        for running, found in ((norm.running_mean, mean), (norm.running_var,
                                                           squares / (count - 1))):
            running.lerp_(found.to(running.dtype), norm.momentum)
    return mean, squares / count


def pool_of(pool: nn.Module | None) -> int | None:
    """How `block_kernel` calls a pool of spikes; None where it has none like it."""
    if pool is None or type(pool) is nn.Identity:
        return kernel.NO_POOL

    def is_pair(value: object, number: int) -> bool:
        return value in (number, (number, number), [number, number])
    if not (isinstance(pool, nn.MaxPool2d | nn.AvgPool2d) and is_pair(pool.kernel_size, 2)
            and is_pair(pool.stride, 2) and is_pair(pool.padding, 0) and not pool.ceil_mode):
        return None
    if isinstance(pool, nn.MaxPool2d):
        return kernel.OR if is_pair(pool.dilation, 1) and not pool.return_indices else None
    return kernel.MEAN if pool.divisor_override is None else None


def _watched(module: nn.Module) -> bool:
    """Something wants to see what goes into the module or comes out of it."""
    return any(getattr(module, hooks) for hooks in (
        "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"))


def _computed(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _flat(x: Tensor) -> np.ndarray:
    """[T, N] of a tensor [T, ...] that lies in one piece; bfloat16 as its bits."""
    x = x.detach().flatten(1)
    return x.view(torch.int16).numpy().view(np.uint16) if x.dtype == torch.bfloat16 else x.numpy()


def _rule(rule: FusedRule, kind: torch.dtype) -> tuple:
    number = torch.empty(0, dtype=kind).numpy().dtype.type
    return (rule.tau is not None, number(rule.tau or 1.0), rule.decay_input, number(rule.theta),
            rule.reset is None, number(rule.reset or 0.0))
