"""Spiking self-attention, found in an operator that multiplies spike maps.

The ways to write (q k^T) v are many (order of the products, einsum, heads split before or after,
tokens first or channels first, the scale anywhere), so none is read: roles, heads and layout are
guessed and compared with the operator on random spikes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations, product

from torch import Tensor

from ..integer.attention import Attention
from ..integer.tokens import self_attention
from .layouts import Layout, candidates
from .probing import Map, Operator, Probe, equal


@dataclass(frozen=True)
class SelfAttention:
    """`scale` times the counts of `attention`; layout of the operand."""

    attention: Attention
    scale: float
    layout: Layout


def attention(operator: Operator, maps: Mapping[str, Map], dims: Sequence[int],
              ) -> SelfAttention | None:
    """The operand [T, B, *dims] as attention of three of the maps, or None."""
    probe = Probe(operator, maps, dims)
    names = list(probe.used)
    if not 1 <= len(names) <= 3 or not all(
            m.binary and len(m.layers) == 1 for m in probe.used.values()):
        return None
    shapes = {m.layout.shape for m in probe.used.values()}
    if len(shapes) > 1 or bool(probe.zero.any()):
        return None
    channels = shapes.pop()[0]
    draws = [probe.draw(41, 0.5), probe.draw(42, 0.3)]
    real = [probe.run(given) for given in draws]
    tokens = [{n: probe.used[n].layout.to_map(x).flatten(3) for n, x in given.items() if n in names}
              for given in draws]
    roles = (list(permutations(names)) if len(names) == 3 else
             [r for r in product(names, repeat=3) if set(r) == set(names)])
    for (q, k, v), heads in product(roles, range(1, channels + 1)):
        if channels % heads:
            continue
        made = [self_attention(t[q], t[k], t[v], heads) for t in tokens]
        scale = float(real[0].sum() / made[0].sum())
        if scale <= 0 or abs(float(real[1].sum()) - scale * float(made[1].sum())) > 1e-6 * abs(
                float(real[1].sum())):
            continue                             # whatever its layout, it is something else
        layout = _layout(probe, real, [scale * x for x in made])
        if layout is not None:
            layers = [probe.used[n].layers[0] for n in (q, k, v)]
            return SelfAttention(Attention(*layers, heads), scale, layout)
    return None


def _layout(probe: Probe, real: Sequence[Tensor], made: Sequence[Tensor]) -> Layout | None:
    """The layout in which the operand `real` is `made`, [T, B, C, N]."""
    sources = [m.layout for m in probe.used.values()]
    for layout in candidates(probe.dims, sources):
        if layout.shape == sources[0].shape and all(
                equal(layout.to_map(x).flatten(3), y) for x, y in zip(real, made, strict=True)):
            return layout
    return None
