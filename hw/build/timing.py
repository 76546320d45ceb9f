"""Clock and critical path from place-and-route, in terms of the core's units."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from sw.errors import SpikeTicketError

from .usage import OTHER

Locate = Callable[[str], str | None]
"""Unit of the core that a cell or net of the netlist belongs to, None if it tells nothing."""


@dataclass(frozen=True)
class Step:
    """A stretch of a path within one unit.

    logic_ns, routing_ns: its delay. levels: cells passed, without the registers at the ends.
    net: name in the design nearest to where the stretch ends.
    """

    unit: str
    logic_ns: float
    routing_ns: float
    levels: int
    net: str


@dataclass(frozen=True)
class Timing:
    """clock_mhz: what the design can run at; path: the slowest way between two registers."""

    clock_mhz: float
    path: tuple[Step, ...]

    def as_dict(self) -> dict:
        return {"clock_mhz": round(self.clock_mhz, 2), "path": [asdict(s) for s in self.path]}


_MADE_UP = re.compile(r"_(?:TRELLIS_FF|LUT\d|CCU2C|PFUMX|L6MUX21|FD[RSCP]E|CARRY4|MUXF\d|INV|"
                      r"SRL\w+|MULT18X18D|DSP48E1|D[IO][AB]?\d*)(?:_.*|$)|\$CCU2_\w+$")
"""What Yosys' `autoname` appends to the name of a neighbour."""


def merge(parts: list[tuple[str, str, float]], locate: Locate) -> tuple[Step, ...]:
    """Path from (name of a cell or net, kind, ns); neighbours in one unit join.

    kind: "logic", "routing", or "end" for a register's own delay. A name that lies in no unit
    counts for the one before it.
    """
    steps: list[Step] = []
    unit = None
    for name, kind, delay in parts:
        here = locate(name) or unit or OTHER
        wire = kind == "routing"
        if here != unit:
            steps.append(Step(here, 0.0, 0.0, 0, ""))
            unit = here
        last = steps[-1]
        steps[-1] = Step(here, round(last.logic_ns + (0 if wire else delay), 3),
                         round(last.routing_ns + (delay if wire else 0), 3),
                         last.levels + (kind == "logic"), _MADE_UP.sub("", name))
    return tuple(steps)


def from_report(report: Path, locate: Locate) -> Timing:
    """Timing from the JSON that nextpnr writes with --report."""
    values = json.loads(report.read_text())
    if not values.get("fmax"):
        raise SpikeTicketError(f"{report}: nextpnr reports no clock")
    clock, fmax = min(values["fmax"].items(), key=lambda item: item[1]["achieved"])
    parts: list[tuple[str, str, float]] = []
    for path in values.get("critical_paths", ()):
        ends = path["from"].split(" ", 1), path["to"].split(" ", 1)
        if all(end[0] == "posedge" and end[1] == clock for end in ends):
            for piece in path["path"]:
                if piece["type"] == "routing":
                    parts.append((piece.get("net", ""), "routing", piece["delay"]))
                else:
                    kind = "logic" if piece["type"] == "logic" else "end"
                    parts.append((piece["to"]["cell"], kind, piece["delay"]))
            break
    return Timing(fmax["achieved"], merge(parts, locate))


_FMAX = re.compile(r"Max frequency for clock\s+'([^']*)':\s*([\d.]+) MHz")
_LOGIC = re.compile(r"(clk-to-q|source|logic|setup)?\s*([\d.]+)\s+[\d.]+\s+"
                    r"(Source|Setup)\s+(\S+?)(?:\.\w+)?$")
_NET = re.compile(r"(?:routing)?\s*([\d.]+)\s+([\d.]+)\s+Net\s+(\S+)")


def from_log(log: str, locate: Locate) -> Timing:
    """Timing from the text that nextpnr prints (nextpnr-xilinx has no --report)."""
    found = _FMAX.findall(log)
    if not found:
        raise SpikeTicketError("nextpnr-xilinx reports no clock in its log")
    # The clocks are reported after placement and again after routing.
    last = {clock: float(mhz) for clock, mhz in found}
    clock = min(last, key=last.__getitem__)
    start = log.rfind(f"Critical path report for clock '{clock}'")
    parts: list[tuple[str, str, float]] = []
    for line in log[max(start, 0):].splitlines()[1:]:
        line = re.sub(r"^Info:\s*", "", line).strip()
        if line.startswith(("Critical path report", "Max frequency", "Max delay")) or not line:
            break
        if step := _NET.match(line):
            parts.append((step[3], "routing", float(step[1])))
        elif step := _LOGIC.match(line):
            # Older versions do not say which line is the register's; it is the first, and Setup.
            end = step[3] == "Setup" or not parts or step[1] in ("clk-to-q", "source", "setup")
            parts.append((step[4], "end" if end else "logic", float(step[2])))
    return Timing(last[clock], merge(parts, locate))


def vivado_path(report: str, locate: Locate) -> tuple[Step, ...]:
    """The path of Vivado's `report_timing`, "" gives none: cell lines and net lines take turns."""
    parts: list[tuple[str, str, float]] = []
    for line in report.splitlines():
        found = re.match(r".*?\s(-?\d+\.\d+)\s+(-?\d+\.\d+)\s+[rf]?\s*(\S+)$", line)
        if found is None:
            continue
        name = found[3].replace("/", ".")
        if line.lstrip().startswith("net ("):
            parts.append((name, "routing", float(found[1])))
        elif "." in name:
            parts.append((name.rpartition(".")[0], "logic" if parts else "end", float(found[1])))
    return merge(parts, locate)
