"""An imported network: its integers, the floats they were made from, and what is not exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from .. import ticket
from ..integer.floats import FloatOperation
from ..integer.network import InputSpec, Network
from ..integer.quantize import ScaledLayer, ScaledOperation, rounded, scale


@dataclass(frozen=True, eq=False)
class Imported:
    """An imported network.

    network: the integers. layers: the float network it was made from, with `input_scale` the float
    value of one integer input unit; scaled: the same with units. notes: what is not exact, a line
    each, empty where the integer network gives the source's spikes for every input. facts: what
    `save` writes beside the network.
    """

    network: Network
    layers: tuple[FloatOperation, ...] = ()
    scaled: tuple[ScaledOperation, ...] = ()
    input_scale: float = 1.0
    notes: tuple[str, ...] = ()
    facts: dict = field(default_factory=dict)

    @property
    def units(self) -> dict[str, Tensor]:
        """Float current of one integer unit, [C] by layer."""
        return {s.name: s.unit for s in self.scaled if isinstance(s, ScaledLayer)}

    @property
    def exact(self) -> dict[str, Tensor]:
        """Channels that are whole in their unit, bool [C] by layer."""
        return {s.name: s.exact for s in self.scaled if isinstance(s, ScaledLayer)}

    def save(self, path: str | Path, **facts: object) -> None:
        """Write the ticket; `facts` are added to its metadata."""
        described = {**self.facts, "sparsity": self.network.sparsity, "notes": list(self.notes)}
        ticket.save(path, self.network, {**described, **facts})


@torch.no_grad()
def build(layers: Sequence[FloatOperation], spec: InputSpec, timesteps: int, *,
          input_scale: float = 1.0, name: str = "network",
          labels: tuple[str, ...] = ()) -> Imported:
    """Quantise float layers, in order of execution, the readout last.

    input_scale: float value of one integer input unit. Raises SpikeTicketError, naming the layer,
    for numbers that have no integer form.
    """
    scaled = tuple(scale(layers, input_scale))
    notes = tuple(f"layer {s.name!r}: {line}" for s in scaled if isinstance(s, ScaledLayer)
                  for line in s.notes)
    network = rounded(scaled, spec, timesteps, name, labels)
    return Imported(network, tuple(layers), scaled, input_scale, notes)
