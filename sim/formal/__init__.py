"""Bounded and inductive proofs of the gateware's stream rules; see `docs/verification.md`.

    spiketicket check proofs --list

To add one, write a function with `@proof(...)` in the unit's `proof.py` (`sim.units`), or in
`queues.py` if it is about a queue that several have.
"""

from __future__ import annotations

from importlib import import_module

from sim import units

from .harness import REGISTRY, Proof


def load() -> dict[str, Proof]:
    """All proofs by name."""
    import_module(".queues", __package__)
    units.modules("proof")
    return REGISTRY
