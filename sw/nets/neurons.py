"""SpikingJelly's IF and LIF neurons, all timesteps of a layer in one autograd node on a CPU.

A training step otherwise spends as much time in the neurons' small operations, which go through
memory one after the other, as in the convolutions. `fused` lets a module's neurons take this way
while it runs: the same operations in the same order, so the same spikes to the last bit, and the
same surrogate gradient (both of float32 and float64; bfloat16 has its membranes in float32 here).
With r = v_reset, or 0 for a reset by subtraction:

    h_t = v_{t-1} + (x_t - (v_{t-1} - r)) / tau        decay_input
    h_t = v_{t-1} - (v_{t-1} - r) / tau + x_t          else; IF: h_t = v_{t-1} + x_t
    s_t = h_t >= theta
    v_t = r where s_t, else h_t                        hard
    v_t = h_t - theta s_t                              soft

Backward, with d_t the derivative of the surrogate at h_t - theta and k = 1 - 1/tau (IF: 1):

    dL/ds_t = grad_t + dL/dv_t (r - h_t, soft: -theta)     (second term: unless detach_reset)
    dL/dh_t = dL/ds_t d_t + dL/dv_t (1 - s_t, soft: 1)
    dL/dv_{t-1} = k dL/dh_t,   dL/dx_t = dL/dh_t (decay_input: / tau)
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from spikingjelly.activation_based import neuron, surrogate
from torch import Tensor, nn

from . import neuron_kernel as kernel

SURROGATES = {surrogate.PiecewiseQuadratic: kernel.TRIANGLE, surrogate.ATan: kernel.ATAN,
              surrogate.Sigmoid: kernel.GIVEN}


BLOCKS = "in_fused_block"
"""Attribute of a neuron, while it is run fused: whether with its batch norm and pool."""


@dataclass(frozen=True)
class FusedRule:
    """tau: None of an IF neuron. reset: None is a subtraction. surrogate: one of SURROGATES."""

    tau: float | None
    decay_input: bool
    theta: float
    reset: float | None
    detach: bool
    surrogate: nn.Module


class _Fused(torch.autograd.Function):
    """Currents x [T, B, ...] and membranes v [B, ...] (None: at rest) -> spikes [T, B, ...] and
    the membranes after them."""

    @staticmethod
    def forward(ctx, x: Tensor, v: Tensor | None, rule: FusedRule) -> tuple[Tensor, Tensor]:
        given = x.dtype
        x = _dense(x if given == torch.float64 else x.float())
        h = torch.empty_strided(x.shape, (x[0].numel(), *x.stride()[1:]), dtype=x.dtype)
        s, last = torch.empty_like(h), torch.full_like(h[0], rule.reset or 0.0)
        if v is not None:
            last.copy_(v)
        number = _flat(h).dtype.type
        kernel.forward(_flat(x), _flat(last[None])[0], _flat(h), _flat(s), rule.tau is not None,
                       number(rule.tau or 1.0), rule.decay_input, number(rule.theta),
                       rule.reset is None, number(rule.reset or 0.0))
        ctx.save_for_backward(h, s)
        ctx.rule, ctx.given, ctx.resumed = rule, given, v is not None
        ctx.set_materialize_grads(False)
        return s.to(given), last.to(given)

    @staticmethod
    def backward(ctx, grad: Tensor | None, after: Tensor | None):
        (h, s), rule = ctx.saved_tensors, ctx.rule
        grad = torch.zeros_like(h) if grad is None else _ordered(grad, h)
        last = torch.zeros_like(h[0]) if after is None else torch.empty_like(h[0]).copy_(after)
        kind, alpha = SURROGATES[type(rule.surrogate)], rule.surrogate.alpha
        slope = h if kind != kernel.GIVEN else rule.surrogate.backward(
            torch.ones_like(h), h - rule.theta, alpha)
        current, number = torch.empty_like(h), _flat(h).dtype.type
        leak = 0.0 if rule.tau is None else 1 / rule.tau
        kernel.backward(_flat(grad), _flat(h), _flat(s), _flat(slope), _flat(last[None])[0],
                        _flat(current), number(1 - leak), number(leak if rule.decay_input else 1.0),
                        number(rule.theta), rule.reset is None, number(rule.reset or 0.0),
                        rule.detach, kind, number(alpha))
        return current.to(ctx.given), last.to(ctx.given) if ctx.resumed else None, None


def _dense(x: Tensor) -> Tensor:
    """x [T, ...] with every timestep in one piece of memory; all may be the same piece."""
    first = x[0]
    return x if torch.empty_like(first).stride() == first.stride() else x.contiguous()


def _ordered(x: Tensor, like: Tensor) -> Tensor:
    """x in the memory order and type of `like`."""
    same = x.stride() == like.stride() and x.dtype == like.dtype
    return x if same else torch.empty_like(like).copy_(x)


def _flat(x: Tensor) -> np.ndarray:
    """[T, N] of a tensor [T, ...] of `_dense`, as its numbers lie in memory."""
    return x.detach().as_strided((len(x), x[0].numel()), (x.stride(0), 1)).numpy()


def rule_of(node: nn.Module) -> FusedRule | None:
    """How SpikingJelly's IFNode or LIFNode is fused; None for any other, subclasses included."""
    if type(node) not in (neuron.IFNode, neuron.LIFNode) or node.step_mode != "m":
        return None
    function = node.surrogate_function
    if type(function) not in SURROGATES or not function.spiking or node.store_v_seq:
        return None
    return FusedRule(getattr(node, "tau", None), getattr(node, "decay_input", False),
                float(node.v_threshold), node.v_reset, node.detach_reset, function)


def lif(tau: float, theta: float = 1.0, function: nn.Module | None = None) -> neuron.LIFNode:
    """The LIF neuron of our networks: v <- (1 - 1 / tau) v + x, fires at v >= theta, reset to 0,
    detached; `function`: the surrogate (None: max(0, 1 - |v - theta|), which needs no
    transcendental function)."""
    return neuron.LIFNode(tau=tau, decay_input=False, v_threshold=theta, v_reset=0.0,
                          surrogate_function=function or surrogate.PiecewiseQuadratic(alpha=1.0),
                          detach_reset=True, step_mode="m")


def fire(node: neuron.BaseNode, currents: Tensor, steps: int) -> Tensor:
    """Spikes [T, ...] of currents [T, ...], or of [1, ...] that are the same at every timestep;
    the neurons begin at rest."""
    node.reset()
    return node(currents.expand(steps, *currents.shape[1:]))


@contextlib.contextmanager
def fused(module: nn.Module, blocks: bool = False) -> Iterator[None]:
    """While it lasts, the neurons of `module` that can be are run fused; it is left as it was.
    blocks: in our networks with their batch norms and pools (`sw.nets.fused_block`)."""
    nodes = []
    try:
        for node in module.modules():
            rule = rule_of(node)
            if rule is not None:
                node.__dict__ |= {"multi_step_forward": _runner(node, rule), BLOCKS: blocks}
                nodes.append(node)
        yield
    finally:
        for node in nodes:
            del node.__dict__["multi_step_forward"], node.__dict__[BLOCKS]


def _runner(node: neuron.BaseNode, rule: FusedRule) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        if x.device.type != "cpu":      # there SpikingJelly has kernels of its own
            return type(node).multi_step_forward(node, x)
        before = node.v if isinstance(node.v, Tensor) else None
        spikes, node.v = _Fused.apply(x, before, rule)
        return spikes
    return run
