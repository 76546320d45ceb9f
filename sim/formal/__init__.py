"""Bounded and inductive proofs of the gateware's stream rules; see `docs/verification.md`.

    spiketicket check proofs --list

To add one, write a function with `@proof(...)` in a module of this package that `load` names.
"""

from __future__ import annotations

from importlib import import_module

from .harness import REGISTRY, Proof

MODULES = ("queues", "fetch", "unit", "drain", "decoder", "packer", "arbiter", "link", "uart",
           "resync", "attention", "datagrams")


def load() -> dict[str, Proof]:
    """All proofs by name."""
    for module in MODULES:
        import_module(f".{module}", __package__)
    return REGISTRY
