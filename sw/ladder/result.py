"""What a ladder holds: its rungs, and sweeps of one quantity with their slopes."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np

from hw.config import CoreConfig

PHASES = ("synapses", "attention", "weight decode", "neurons", "imbalance", "gate", "program")
"""synapses: updates, event scan, stalls. attention: the same in attention layers, and reading k
and v. weight decode: no weight yet. neurons: drain and neuron lanes. imbalance: the engine was
done, others were not. gate: clearing scores and choosing. program: loading layers."""

SCALING = ("synapses", "attention")
"""Phases that are to follow density, spike rate and kept patches."""


@dataclass(frozen=True)
class Point:
    """Mean over the samples. x: what was varied; cycles: by PHASES, and of a whole inference."""

    x: float
    total: float
    phases: dict[str, float]

    @property
    def scaling(self) -> float:
        """Cycles of the phases that are to scale."""
        return sum(self.phases[name] for name in SCALING)


@dataclass(frozen=True)
class Sweep:
    """One quantity varied alone. name: of it. layers: whose cycles are counted."""

    name: str
    points: list[Point]
    layers: str = "all layers"

    @property
    def slope(self) -> float:
        """Of log(cycles of the scaling phases) over log(x)."""
        x, y = zip(*((p.x, p.scaling) for p in self.points), strict=True)
        return float(np.polyfit(np.log(x), np.log(y), 1)[0])

    @property
    def halvings(self) -> list[float]:
        """By what factor the scaling phases shrink per halving of x, from point to point."""
        ordered = sorted(self.points, key=lambda p: -p.x)
        return [float((a.scaling / b.scaling) ** (np.log(2) / np.log(a.x / b.x)))
                for a, b in itertools.pairwise(ordered)]


@dataclass
class Ladder:
    """Result: rungs by name, sweeps, and what was measured."""

    ticket: str
    config: CoreConfig
    images: int
    rungs: dict[str, Point]
    sweeps: list[Sweep]
    kept: list[np.ndarray] = field(default_factory=list)

    def as_dict(self) -> dict:
        """JSON-serialisable."""
        first = self.rungs["dense"].total
        return {
            "ticket": self.ticket, "images": self.images, "core": self.config.as_dict(),
            "ladder": {name: {"cycles": p.total, "times_fewer": first / p.total, **p.phases}
                       for name, p in self.rungs.items()},
            "sweeps": {s.name: {
                "layers": s.layers, "slope": s.slope, "halving": s.halvings,
                "points": [{"x": p.x, "cycles": p.total, "scaling": p.scaling, **p.phases}
                           for p in s.points]} for s in self.sweeps}}
