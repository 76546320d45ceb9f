"""What a place-and-route program leaves behind."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from .timing import Timing


@dataclass(frozen=True)
class Routed:
    """One placement. utilisation: (used, available) by the program's own names; file: the
    bitstream, or what it is packed from."""

    seed: int
    timing: Timing
    utilisation: dict[str, tuple[float, int]]
    file: Path


def nextpnr_utilisation(log: str) -> dict[str, tuple[int, int]]:
    """(used, available) of every kind of cell in a log of nextpnr."""
    return {name: (int(used), int(available)) for name, used, available in re.findall(
        r"^Info:\s+(\w+):\s+(\d+)/\s*(\d+)\s+\d+%", log, re.MULTILINE)}
