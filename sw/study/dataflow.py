"""What the compared dataflows share: a layer's load, an outcome, and the dealing of rows."""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..integer import reference
from ..integer.network import Network
from .workloads import Workload


@dataclass(eq=False)
class Source:
    """Weights and what they read.

    weight: int8 [C_out, C_in, kh, kw]. active: bool [planes, C_in, H, W], active neurons of
    every plane (bits of an integer input; summands of a residual). bits: of a stored weight.
    """

    weight: np.ndarray
    active: np.ndarray
    stride: int
    padding: int
    bits: int

    def rows(self, low: int, high: int) -> slice:
        """Input rows that output rows low..high - 1 read."""
        first = low * self.stride - self.padding
        last = (high - 1) * self.stride - self.padding + self.weight.shape[2]
        return slice(max(0, first), max(0, min(self.active.shape[2], last)))

    def padded(self) -> np.ndarray:
        edge = (self.padding, self.padding)
        return np.pad(self.active, ((0, 0), (0, 0), edge, edge))


@dataclass(eq=False)
class Load:
    """One layer: its sources and its outputs (height x width before a pool)."""

    name: str
    uses: list[Source]
    height: int
    width: int

    @property
    def channels(self) -> int:
        return self.uses[0].weight.shape[0]

    @property
    def flat(self) -> np.ndarray:
        """All weights, int8 [C_out, *]."""
        return np.concatenate([use.weight.reshape(self.channels, -1) for use in self.uses], axis=1)


@dataclass
class Outcome:
    """Cycles and updates of a layer; bits of its weights with all indices and pointers."""

    cycles: float
    updates: int
    bits: int
    causes: dict[str, float] = field(default_factory=dict)


class Dataflow(ABC):
    """A way to run a layer. key, name: for tables. event_lists: maps are lists of events."""

    key = ""
    name = ""
    event_lists = False

    @abstractmethod
    def run(self, load: Load, engines: int) -> Outcome:
        """Work through a layer's load on so many engines."""


def loads(workload: Workload, image: int = 0) -> list[Load]:
    """The layers of a workload on one of its images; no strided sums (average pools) among them."""
    network: Network = workload.network
    shapes = network.shapes()
    result = []
    for layer in network.layers:
        uses = []
        for syn in layer.synapses:
            if syn.sum_pool != (1, 1) or len({*syn.stride}) > 1 or len({*syn.padding}) > 1:
                raise ValueError(f"layer {layer.name!r}: the study has no average pools, and one "
                                 "stride and padding for both axes")
            planes = [plane for name in syn.sources
                      for plane in _planes(workload.spikes[name][:, image],
                                           reference.fields(network, name))]
            uses.append(Source(syn.weight, np.stack(planes), syn.stride[0], syn.padding[0],
                               syn.bits))
        height, width = network.conv_size(layer.name, layer.synapses[0], shapes)
        result.append(Load(layer.name, uses, height, width))
    return result


def _planes(spikes: np.ndarray, fields: Sequence[int]) -> list[np.ndarray]:
    """Active neurons per field of bits, bool [C, H, W]; spikes uint8 [T, C, H, W]."""
    return [(spikes & field).any(0) for field in fields]


def deal(work: Sequence[float] | np.ndarray, engines: int) -> list[list[int]]:
    """Rows of each engine: the longest first, to the least loaded."""
    rows: list[list[int]] = [[] for _ in range(engines)]
    heap = [(0.0, n) for n in range(engines)]
    for row in np.argsort(-np.asarray(work), kind="stable"):
        total, n = heapq.heappop(heap)
        rows[n].append(int(row))
        heapq.heappush(heap, (total + float(work[row]) + 1e-6, n))
    return rows
