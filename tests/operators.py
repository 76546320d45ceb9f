"""Operators of plain torch functions, for tests of what `sw.imports` makes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from sw.imports.identify import Affine, currents
from sw.imports.layouts import Layout
from sw.imports.probing import Map, Operator

STEPS, BATCH = 3, 2


def maps(*dims: Sequence[int], steps: int = STEPS, **details: object) -> dict[str, Map]:
    """Maps a, b, ... of these raw axes."""
    return {name: Map(name, Layout.standard(d), steps=steps, **details)
            for name, d in zip("abcdef", dims, strict=False)}


def whole(function: Callable[..., Tensor], given: Mapping[str, Map]) -> Operator:
    """An operator of tensors [T, B, *dims]."""
    def run(values: Mapping[str, Tensor]) -> Tensor:
        return function(*(values.get(n, torch.zeros(m.steps, BATCH, *m.layout.dims,
                                                    dtype=torch.float64))
                          for n, m in given.items()))
    return run


def stepwise(function: Callable[..., Tensor], given: Mapping[str, Map], steps: int = STEPS,
             ) -> Operator:
    """An operator from a function of tensors [T * B, *dims], as in SpikingJelly's step mode "m"."""
    def flat(*values: Tensor) -> Tensor:
        joined = (v.expand(steps, *v.shape[1:]).flatten(0, 1) for v in values)
        return function(*joined).unflatten(0, (steps, BATCH))
    return whole(flat, given)


def values(found: Affine, given: Mapping[str, Map], raw: Mapping[str, Tensor]) -> Tensor:
    """What an Affine makes of raw maps: [T, B, C, H, W]."""
    spikes = {n: given[n].layout.to_map(x) for n, x in raw.items()}
    steps = max(len(x) for x in spikes.values())
    spikes["ones"] = torch.ones(steps, BATCH, 1, 1, 1, dtype=torch.float64)
    return currents(found.synapses, spikes) + found.bias.view(-1, 1, 1)
