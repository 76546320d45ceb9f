"""Operations on maps [T or 1, B, C, H, W] that all torch forms of a network share.

A first axis of 1 stands for "the same at every timestep". They work on integers held in floats and
on floats; gradients flow through them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from . import tokens
from .attention import Attention, ColumnAttention
from .floats import FloatSynapses
from .gate import Gate, Select, check_masks
from .network import INPUT, Pool, Synapses


def steps(operations: Sequence, x: Tensor, masks: np.ndarray | None = None,
          kept: dict[str, Tensor] | None = None,
          ) -> Generator[tuple[object, dict[str, Tensor]], Tensor, None]:
    """The layers of a network in order, gates and selections carried out on the way.

    Yields every layer with the maps so far by name, is sent its map. x: the input
    [T or 1, B, C, H, W]. masks: of kept tokens, bool [B, N], for a gate that takes them from the
    host. `kept` receives the tokens int64 [B, keep] of every gate.
    """
    gates = {g.name: g for g in operations if isinstance(g, Gate)}
    masks = check_masks(gates, masks, x.shape[1])
    maps, kept = {INPUT: x}, {} if kept is None else kept
    for operation in operations:
        if isinstance(operation, Gate):
            kept[operation.name] = chosen = tokens.choose(operation, maps, masks)
            if operation.mode == "input":
                maps[INPUT] = tokens.zero_patches(x, chosen, operation.grid)
        elif isinstance(operation, Select):
            taken = tokens.take(maps[operation.source].flatten(3), kept[operation.gate])
            maps[operation.name] = taken.unsqueeze(3)
        else:
            maps[operation.name] = yield operation, maps


def walk(operations: Sequence, x: Tensor, run: Callable[[object, dict[str, Tensor]], Tensor],
         masks: np.ndarray | None = None, spikes: dict[str, Tensor] | None = None,
         kept: dict[str, Tensor] | None = None) -> Tensor:
    """The logits: what `run(layer, maps)` gives for the last layer. `spikes` receives the maps of
    all others; the rest is as for `steps`."""
    way, out, maps = steps(operations, x, masks, kept), None, {}
    while True:
        try:
            layer, maps = way.send(out)
        except StopIteration:
            break
        out = run(layer, maps)
    if spikes is not None:
        spikes.update((name, made) for name, made in maps.items()
                      if name not in (INPUT, operations[-1].name))
    return out


def convolve(operand: Tensor, weight: Tensor, syn: Synapses | FloatSynapses) -> Tensor:
    """Currents of one connection: sum over its windows, then the convolution, in float types."""
    lead = operand.shape[:2]
    operand = operand.flatten(0, 1)
    if tuple(syn.sum_pool) != (1, 1):
        operand = F.avg_pool2d(operand, syn.sum_pool, divisor_override=1)
    return F.conv2d(operand, weight, None, syn.stride, syn.padding).unflatten(0, lead)


def attend(attention: Attention | ColumnAttention, maps: Mapping[str, Tensor],
           dtype: torch.dtype) -> Tensor:
    """Counts of attention, in a float type."""
    q, k, v = (maps[name].to(dtype).flatten(3) for name in attention.sources)
    if isinstance(attention, ColumnAttention):
        return tokens.column_attention(k, v).unsqueeze(-1)
    return tokens.self_attention(q, k, v, attention.heads).view(maps[attention.query].shape)


def max_pool(x: Tensor, pool: Pool) -> Tensor:
    """Maximum over the pool's windows of the last two axes; the OR of spikes."""
    if x.is_floating_point():
        lead = x.shape[:2]
        x = F.max_pool2d(x.flatten(0, 1), pool.size, pool.stride, pool.padding)
        return x.unflatten(0, lead)
    top, left = pool.padding
    height, width = pool.outputs(*x.shape[-2:])
    if top or left:
        x = F.pad(x, (left, left, top, top), value=torch.iinfo(x.dtype).min)
    parts = (x[..., dy:dy + (height - 1) * pool.stride[0] + 1:pool.stride[0],
               dx:dx + (width - 1) * pool.stride[1] + 1:pool.stride[1]]
             for dy in range(pool.size[0]) for dx in range(pool.size[1]))
    return functools.reduce(torch.maximum, parts)
