"""Random chains of linear operations on random maps are identified, and are what they were."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from hypothesis import Phase, given, note, settings
from hypothesis import strategies as st
from torch import Tensor

from sw.imports.identify import affine
from sw.imports.layouts import Layout
from sw.imports.probing import Map

from .operators import BATCH, STEPS, maps, stepwise, values


class Chain:
    """Random operations; each takes [N, C, H, W] and gives another, the last may give tokens."""

    def __init__(self, draw: st.DrawFn, channels: int, height: int, width: int):
        self.draw, self.steps = draw, []
        self.dims = self.shape = channels, height, width
        self.names: list[str] = []
        self.padded = False
        self.random = torch.Generator().manual_seed(draw(st.integers(0, 1 << 16)))

    def __call__(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        return x

    def add(self, name: str) -> None:
        step = getattr(self, name)()
        shape = step(torch.zeros(1, *self.shape, dtype=torch.float64)).shape[1:]
        if min(shape) and shape.numel() <= 2000:
            self.steps.append(step)
            self.names.append(f"{name} {list(shape)}")
            # Zeros around what a linear operation made: the border has a kernel of its own.
            self.padded |= len(self.steps) > 1 and name in ("conv", "average", "block")
            self.shape = tuple(shape)

    def number(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def weights(self, *size: int) -> Tensor:
        made = torch.randn(size, generator=self.random, dtype=torch.float64)
        return made * (torch.rand(size, generator=self.random) < self.draw(
            st.sampled_from((1.0, 0.3))))

    def conv(self):
        channels, height, width = self.shape
        groups = self.draw(st.sampled_from([g for g in (1, 2, channels) if channels % g == 0]))
        k = [self.number(1, min(3, n)) for n in (height, width)]
        w = self.weights(groups * self.number(1, 3), channels // groups, *k)
        bias = self.weights(len(w)) if self.number(0, 1) else None
        stride, padding = ([self.number(low, low + 2) for _ in k] for low in (1, 0))
        return lambda x: F.conv2d(x, w, bias, stride, padding, groups=groups)

    def average(self):
        k = [self.number(1, min(4, n)) for n in self.shape[1:]]
        stride, padding = self.number(1, 3), [self.number(0, n // 2) for n in k]
        return lambda x: F.avg_pool2d(x, k, stride, padding)

    def adaptive(self):
        size = [self.draw(st.sampled_from([d for d in range(1, n + 1) if n % d == 0]))
                for n in self.shape[1:]]
        return lambda x: F.adaptive_avg_pool2d(x, size)

    def pad(self):
        edges = [self.number(0, 2) for _ in range(4)]
        return lambda x: F.pad(x, edges)

    def norm(self):
        scale, shift = (self.weights(self.shape[0], 1, 1) for _ in range(2))
        return lambda x: (x - shift) * scale

    def mixed(self):
        order = torch.randperm(self.shape[0], generator=self.random)
        return lambda x: torch.cat([x[:, order], 0.5 * x], 1)

    def block(self):
        w = self.weights(self.shape[0], self.shape[0], 3, 3)
        return lambda x: x + F.conv2d(x, w, padding=1)


OPERATIONS = ("conv", "average", "adaptive", "pad", "norm", "mixed", "block")


@st.composite
def chains(draw: st.DrawFn) -> Chain:
    chain = Chain(draw, *(draw(st.integers(1, n)) for n in (4, 9, 9)))
    for name in draw(st.lists(st.sampled_from(OPERATIONS), min_size=1, max_size=4)):
        chain.add(name)
    return chain


ENDS = {"map": lambda x: x, "tokens": lambda x: x.flatten(2).mT, "rows": lambda x: x.flatten(2),
        "features": lambda x: x.flatten(1), "last": lambda x: x.permute(0, 2, 3, 1)}


@settings(max_examples=30, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(chains(), st.sampled_from(sorted(ENDS)), st.booleans())
def test_random_chains(chain: Chain, end: str, static: bool):
    note(f"{chain.names} {end}")
    given = maps(chain.dims, chain.dims)
    if static:
        given = {"a": given["a"],
                 "input": Map("input", Layout.standard(chain.dims), False, 1, 1 / 16, 15)}
    operator = stepwise(lambda a, b: ENDS[end](chain(a + b)), given)
    shape = operator({}).shape[2:]
    found = affine(operator, given, shape)
    generator = torch.Generator().manual_seed(77)
    raw = {n: m.draw(BATCH, generator) for n, m in given.items()}
    real = found.layout.to_map(operator(raw))
    made = values(found, given, raw).expand(STEPS, *real.shape[1:])
    torch.testing.assert_close(made, real, rtol=1e-9, atol=1e-9 * float(real.abs().max()) + 1e-15)
    # One kernel for all positions, however it was written; tiny maps have several readings.
    plain = min(chain.shape + chain.dims) > 2 and end != "features" and not chain.padded
    if plain and bool((real != real[:, :, :, :1, :1]).any()):
        assert found.layout.size == tuple(chain.shape[1:])
