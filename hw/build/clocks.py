"""Whether a core can be expected to meet its clock, before it is built: as cores built before did.

Fit and clock are two questions. The area model answers the first; for the second there is no model,
only the reports of builds (bitstreams/*/report.json): routed clocks, or estimates of netlists.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from hw.config import CoreConfig

if TYPE_CHECKING:
    from .request import Request


def expected(wanted: Request, folder: Path) -> dict | None:
    """The clock of the same core, or of one that has no more of anything, on the same part:
    {"mhz", "routed", "preset", "same"}; the lowest of these, None where there is none.

    folder: of builds. A core that has all that another has, and more, is not faster.
    """
    asked = _size(wanted.config.as_dict())
    found = []
    for path in sorted(folder.glob("*/report.json")):
        try:
            values = json.loads(path.read_text())
            if values["part"] != wanted.board.part:
                continue
            size = _size(values["config"])
            row = {"mhz": float(values["clock_mhz"]), "routed": bool(values["routed"]),
                   "preset": str(values["preset"]), "same": size == asked}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue        # a build of another version, or none
        if size.keys() == asked.keys() and all(size[name] <= asked[name] for name in size):
            found.append(row)
    return min(found, key=lambda row: (not row["same"], row["mhz"]), default=None)


def met(target_mhz: float, known: dict | None) -> bool | None:
    """Whether the clock can be met as far as builds tell; None where they do not."""
    if known is None or (not known["same"] and known["mhz"] >= target_mhz):
        return None
    return known["mhz"] >= target_mhz


def verdict(target_mhz: float, known: dict | None) -> str:
    """One line for people: met or not, and by what is known."""
    if known is None:
        return "not known whether it is met until a core like this is built for this part"
    kind = "routed" if known["routed"] else "estimated before placement"
    what = "this core" if known["same"] else f"the smaller core {known['preset']}"
    said = f"{what} was {kind} at {known['mhz']:.1f} MHz on this part"
    answer = met(target_mhz, known)
    if answer is None:
        return f"not known whether it is met; {said}"
    return (f"expected to be met: {said}" if answer else
            f"NOT met: {said}; choose --clock {int(known['mhz'])} or less")


def _size(config: dict) -> dict[str, int]:
    return {name: int(value) for name, value in CoreConfig(**config).as_dict().items()
            if name != "clock_hz"}
