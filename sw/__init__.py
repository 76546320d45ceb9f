"""Host side of SpikeTicket: tickets, quantiser, compiler, cycle model and driver.

    from sw import Accelerator, Pool
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .starting import quiet_interrupt

quiet_interrupt()

if TYPE_CHECKING:
    from .board.driver import Accelerator
    from .errors import SpikeTicketError
    from .pool import Pool

__all__ = ["Accelerator", "Pool", "SpikeTicketError"]

_PLACES = {"Accelerator": "board.driver", "Pool": "pool", "SpikeTicketError": "errors"}


def __getattr__(name: str):
    """The driver's classes, imported when they are asked for: `import sw` alone stays cheap."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f".{_PLACES[name]}", __name__), name)
