"""Imports and exports: SpikingJelly modules and NIR graphs to tickets, tickets to NIR graphs.

    from sw.imports import from_spikingjelly
    imported = from_spikingjelly(net, (1, 28, 28), timesteps=4)
    imported.save("ticket.safetensors")

docs/imports.md says what is supported and what is exact. NIR graphs need
`pip install 'spiketicket[nir]'`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .calibration import calibrate
    from .floats import Agreement, compare
    from .integers import Imported
    from .nir_graph import from_nir
    from .nir_write import to_nir
    from .spikingjelly import from_spikingjelly

__all__ = ["Agreement", "Imported", "calibrate", "compare", "from_nir", "from_spikingjelly",
           "to_nir"]

_PLACES = {"Agreement": "floats", "Imported": "integers", "calibrate": "calibration",
           "compare": "floats", "from_nir": "nir_graph", "from_spikingjelly": "spikingjelly",
           "to_nir": "nir_write"}


def __getattr__(name: str):
    """Imported when it is asked for, so that `spiketicket import` can be interrupted while
    PyTorch is loading."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f".{_PLACES[name]}", __name__), name)
