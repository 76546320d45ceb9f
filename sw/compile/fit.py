"""Refusals: a network that a core cannot hold, with every short memory and by how much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hw.config import PRESETS

from ..errors import SpikeTicketError


@dataclass(frozen=True)
class Memory:
    """Use of one memory or table: `used` of `available` entries (`unit` says of what)."""

    name: str
    used: int
    available: int
    unit: str

    @property
    def short(self) -> int:
        """Entries missing, 0 if it fits."""
        return max(0, self.used - self.available)

    def __str__(self) -> str:
        return f"{self.name} needs {self.used} of {self.available} {self.unit}"


SIZES = {"map memory": "map_words", "program memory": "program_words", "tap table": "taps",
         "plane table": "planes"}
"""Parameters of a core that give a memory its size."""


def _larger(memory: Memory) -> int:
    """The parameter with which it would be large enough."""
    if memory.name == "map memory" and memory.used > 1024:
        return -(-memory.used // 1024) * 1024
    return 1 << (memory.used - 1).bit_length()


class DoesNotFit(SpikeTicketError):
    """The network does not fit the core. `memories` has every memory that was sized."""

    def __init__(self, network: str, memories: Sequence[Memory]):
        self.memories = tuple(memories)
        self.short = tuple(memory for memory in memories if memory.short)
        missing = "; ".join(f"{memory.name} short by {memory.short} {memory.unit} "
                            f"({memory.used} of {memory.available})" for memory in self.short)
        remedy = "prune further, use fewer channels or timesteps, or choose a larger board"
        if (any(memory.name.startswith("weight") for memory in self.short)
                and not any(memory.name.startswith("DRAM") for memory in memories)):
            names = [name for name, config in PRESETS.items() if config.dram_words]
            remedy += (", or a core that streams weights from DRAM (docs/memory.md; --preset "
                       f"{', '.join(names)})")
        if any(memory.name.startswith("DRAM") for memory in self.short):
            remedy += ", or a core with more DRAM"
        options = [f"--set {SIZES[memory.name]}={_larger(memory)}" for memory in self.short
                   if memory.name in SIZES]
        if options:
            remedy += f"; a core with {' '.join(options)} has what is missing there"
        super().__init__(f"network {network!r} does not fit: {missing}; {remedy}")


class LayoutError(DoesNotFit):
    """No arrangement of maps and strips lets the core run a layer."""

    def __init__(self, where: str, reason: str):
        self.memories = self.short = ()
        SpikeTicketError.__init__(self, f"layer {where!r} does not fit: {reason}")
