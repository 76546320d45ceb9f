"""Layers that the core computes in one step, put together.

* Neurons that copy a layer's spikes into an OR pool become the pool of that layer, if nothing else
  reads its spikes unpooled.
* "k AND v", a neuron that counts it over all positions, and its spike AND q, become the column
  attention of the Spike-driven Transformer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from ..integer.attention import MAX_TOKENS, Attention, ColumnAttention
from ..integer.floats import FloatAttention, FloatLayer, FloatOperation, FloatSynapses
from ..integer.gate import Gate, Select


def fused(layers: Sequence[FloatOperation]) -> list[FloatOperation]:
    """The same network with fewer layers."""
    return _columns(_pools(list(layers)))


def reads(operation: FloatOperation) -> tuple[str, ...]:
    """Names of the maps that it reads."""
    if isinstance(operation, FloatLayer):
        return tuple(n for s in operation.synapses for n in s.sources)
    if isinstance(operation, FloatAttention):
        return operation.attention.sources
    return operation.scores if isinstance(operation, Gate) else operation.sources


def _readers(layers: Sequence[FloatOperation], name: str) -> list[FloatOperation]:
    return [o for o in layers if name in reads(o)]


def _pools(layers: list[FloatOperation]) -> list[FloatOperation]:
    for copy in [o for o in layers if isinstance(o, FloatLayer) and _copies(o)]:
        name = reads(copy)[0]
        source = next((o for o in layers if o.name == name), None)
        if (isinstance(source, FloatLayer) and source.neuron is not None and source.pool is None
                and len(_readers(layers, name)) == 1):
            pooled = replace(source, pool=copy.pool)
            layers = [pooled if o is source else _renamed(o, copy.name, name)
                      for o in layers if o is not copy]
    return layers


def _copies(layer: FloatLayer) -> bool:
    """Its spikes are those of one map, OR-pooled."""
    if layer.pool is None or layer.pool.mode != "or" or len(reads(layer)) != 1:
        return False
    return (_memoryless(layer, 1) and _passes(layer.synapses[0])
            and layer.synapses[0].weight.shape[2:] == (1, 1))


def _memoryless(layer: FloatLayer, theta: float) -> bool:
    """It fires where its current, without a bias, reaches theta."""
    return (layer.neuron is not None and layer.neuron.decay == 0 and not layer.neuron.strict
            and not bool(layer.bias.any()) and bool((layer.neuron.theta == theta).all()))


def _passes(s: FloatSynapses) -> bool:
    """Every tap is the identity of channels."""
    eye = torch.eye(len(s.weight), dtype=s.weight.dtype)
    return (s.weight.shape[0] == s.weight.shape[1] and s.stride == (1, 1)
            and bool((s.weight == eye[:, :, None, None]).all()))


def _renamed(operation: FloatOperation, old: str, new: str) -> FloatOperation:
    """The operation reading map `new` for `old`."""
    if old not in reads(operation):
        return operation

    def name(n: str) -> str:
        return new if n == old else n
    if isinstance(operation, FloatLayer):
        return replace(operation, synapses=tuple(
            replace(s, sources=tuple(map(name, s.sources))) for s in operation.synapses))
    if isinstance(operation, Gate):
        return replace(operation, scores=tuple(map(name, operation.scores)))
    if isinstance(operation, Select):
        return replace(operation, source=name(operation.source))
    a: Attention | ColumnAttention = operation.attention
    return replace(operation, attention=replace(a, query=name(a.query), key=name(a.key),
                                                value=name(a.value)))


def _columns(layers: list[FloatOperation]) -> list[FloatOperation]:
    for gated in list(layers):
        found = _column(layers, gated) if isinstance(gated, FloatLayer) else None
        if found is None:
            continue
        both, counted, query, scale = found
        key, value = reads(both)
        made = FloatAttention(gated.name, ColumnAttention(query, key, value), counted.neuron, scale)
        layers = [made if o is gated else o for o in layers if o is not both and o is not counted]
    return layers


def _column(layers: list[FloatOperation], gated: FloatLayer,
            ) -> tuple[FloatLayer, FloatLayer, str, float] | None:
    """(k AND v, its count, q, scale) of a layer that is a count's spike AND q."""
    if not (_memoryless(gated, 2) and gated.pool is None and len(gated.synapses) == 2
            and all(len(s.sources) == 1 and _passes(s) for s in gated.synapses)):
        return None
    plain, spread = sorted(gated.synapses, key=lambda s: s.weight.shape[2] * s.weight.shape[3])
    size = tuple(spread.weight.shape[2:])
    if (plain.weight.shape[2:] != (1, 1) or spread.padding != (size[0] - 1, size[1] - 1)
            or size == (1, 1) or size[0] * size[1] > MAX_TOKENS):
        return None
    counted = next((o for o in layers if o.name == spread.sources[0]), None)
    if not (isinstance(counted, FloatLayer) and counted.neuron is not None and counted.pool is None
            and len(reads(counted)) == 1 and not bool(counted.bias.any())):
        return None
    s = counted.synapses[0]
    scale = float(s.weight[0, 0, 0, 0])
    window = tuple(k * p for k, p in zip(s.weight.shape[2:], s.sum_pool, strict=True))
    if scale <= 0 or window != size or s.padding != (0, 0) or not _passes(
            replace(s, weight=s.weight / scale, stride=(1, 1))):
        return None
    both = next((o for o in layers if o.name == s.sources[0]), None)
    if not (isinstance(both, FloatLayer) and both.pool is None and _memoryless(both, 2)
            and len(reads(both)) == 2 and all(_passes(t) and t.weight.shape[2:] == (1, 1)
                                              for t in both.synapses)):
        return None
    if len(_readers(layers, both.name)) != 1 or len(_readers(layers, counted.name)) != 1:
        return None
    return both, counted, plain.sources[0], scale
