"""Who uses what: cells of a flattened netlist by unit of the core; what memories became.

A cell belongs to the unit that drives its output net: of the net's names, which flattening keeps,
the deepest one that is no input port. Names that synthesis made up say nothing; such a cell
belongs to the unit that most of what it drives belongs to.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

CELLS: dict[str, dict[str, dict[str, float]]] = {
    "xc7": {
        "lut": {**{f"LUT{n}": 1 for n in range(1, 7)}, "INV": 1, "SRL16E": 1, "SRLC32E": 1,
                "RAM32M": 4, "RAM64M": 4, "RAM32X1D": 2, "RAM64X1D": 2, "RAM128X1D": 4,
                "RAM32X1S": 1, "RAM64X1S": 1},
        "ff": dict.fromkeys(("FDRE", "FDSE", "FDCE", "FDPE"), 1),
        "bram": {"RAMB36E1": 1, "RAMB18E1": 0.5},
        "dsp": {"DSP48E1": 1},
    },
    "ecp5": {
        "lut": {"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 6},
        "ff": {"TRELLIS_FF": 1},
        "bram": {"DP16KD": 1, "PDPW16KD": 1},
        "dsp": {"MULT18X18D": 1},
    },
}
"""What a cell counts as: LUT sites by family (a LUT6 on xc7, a LUT4 on ecp5), registers, block
RAM in the part's own unit (RAMB36, DP16KD), multipliers."""

RESOURCES = ("lut", "ff", "bram", "dsp")

_RAM_CELLS = ("RAM", "DP16KD", "PDPW16KD", "TRELLIS_DPR16X4")
_BLOCK_RAM = ("RAMB", "DP16KD", "PDPW16KD", "XILINX_BLOCKRAM")
BLOCK, DISTRIBUTED, REGISTERS, GONE = "block RAM", "distributed RAM", "registers", "optimised away"
"""What a memory can become."""

OTHER = "pads, clock, reset"


_WORDS = ("module", "wire", "memory", "cell", "connect", "parameter")


@dataclass
class Hierarchy:
    """The modules of the design before synthesis.

    wires: names of each module's wires by path ("" is the top); inputs: its input ports.
    connections: (path, wire) -> the submodule's path and port that drives the wire.
    memories: (path, name) -> (words, bits a word, has a write port).
    """

    wires: dict[str, set[str]] = field(default_factory=dict)
    inputs: dict[str, set[str]] = field(default_factory=dict)
    connections: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    memories: dict[tuple[str, str], tuple[int, int, bool]] = field(default_factory=dict)

    @classmethod
    def of(cls, rtlil: str) -> Hierarchy:
        """Read the RTLIL text that Amaranth writes: modules are named by their path."""
        result, path, kind = cls(), "", ""
        connections: list[tuple[tuple[str, str], tuple[str, str]]] = []
        for line in rtlil.splitlines():
            words = line.split()
            if not words or words[0] not in _WORDS:
                continue
            name = words[-1].lstrip("\\")
            if words[0] == "module":
                path = name.partition(".")[2]
                result.wires[path], result.inputs[path] = set(), set()
            elif words[0] == "wire":
                result.wires[path].add(name)
                if "input" in words:
                    result.inputs[path].add(name)
            elif words[0] == "memory":
                options = dict(zip(words[1:-1:2], words[2:-1:2], strict=True))
                result.memories[path, name] = (int(options["size"]), int(options["width"]), False)
            elif words[0] == "cell":
                kind = words[1]
            elif words[0] == "connect":
                # From a submodule's port to a wire, or to a part of one; not to several.
                if kind.startswith("\\") and words[2].startswith("\\"):
                    connections.append(((path, words[2][1:]),
                                        (kind.partition(".")[2], words[1][1:])))
            elif words[1] == "\\MEMID" and kind.startswith("$memwr"):
                name = words[2].strip('"').lstrip("\\")
                size, width, _ = result.memories[path, name]
                result.memories[path, name] = size, width, True
        for wire, (child, port) in connections:
            if port not in result.inputs.get(child, {port}):
                result.connections[wire] = child, port
        return result

    def driver(self, path: str, name: str) -> str:
        """Path of the module inside which a wire is driven."""
        while (path, name) in self.connections:
            path, name = self.connections[path, name]
        return path

    def path_of(self, name: str) -> str | None:
        """Path of the module that a flattened name lies in; None for the top's own names."""
        parts = name.split(".")
        for length in range(len(parts) - 1, 0, -1):
            path = ".".join(parts[:length])
            if path in self.wires:
                return path
        return None


def unit_of(path: str | None) -> str:
    """Unit of the core that a module path belongs to, the same for every copy of it.

    "shell.serial.top.core.cluster1.engine0.unit5.queue" is "engine.unit", "...top.link.receiver"
    is "link", as "shell.udp.receiver" and what else there is for it is "ethernet".
    """
    parts = [re.sub(r"\$\d+$", "", part) for part in (path or "").split(".") if part]
    if "core" in parts:
        parts = [re.sub(r"\d+$", "", part) for part in parts[parts.index("core") + 1:]]
        if not parts:
            return "core (counters, host bus)"
        if parts[0] != "cluster":
            return parts[0]
        if parts[1:] in ([], ["engine"]):
            return "engine (wiring)"
        if parts[1] == "drain":
            return ".".join(["engine", "drain", *(p for p in parts[2:3] if p != "passes")])
        return ".".join(parts[1:3])
    if "link" in parts:
        return "link"
    if {"datagrams", "mii", "rgmii", "udp"} & set(parts):
        return "ethernet"
    if {"sdram", "sdram_pads"} & set(parts):
        return "sdram"
    if {"ddr3", "litedram", "bridge"} & set(parts):
        return "ddr3"
    if "serial" in parts:
        return "uart"
    return OTHER


@dataclass
class Usage:
    """Cells by unit: units[unit][resource]; the sums are `total`."""

    units: dict[str, dict[str, float]]

    @property
    def total(self) -> dict[str, float]:
        return {resource: sum(unit[resource] for unit in self.units.values())
                for resource in RESOURCES}


def owners(module: dict, hierarchy: Hierarchy) -> dict[str, str]:
    """Unit of every cell of the netlist's top module (Yosys JSON)."""
    names: dict[int, list[str]] = defaultdict(list)
    for name, net in module["netnames"].items():
        path = hierarchy.path_of(name)
        local = name[len(path) + 1:] if path else name
        if local in hierarchy.wires.get(path or "", ()) and \
                local not in hierarchy.inputs.get(path or "", ()):
            for bit in net["bits"]:
                if isinstance(bit, int):
                    names[bit].append(hierarchy.driver(path or "", local))

    drives: dict[str, list[int]] = {}
    readers: dict[int, list[str]] = defaultdict(list)
    for name, cell in module["cells"].items():
        directions = cell["port_directions"]
        drives[name] = []
        for port, bits in cell["connections"].items():
            for bit in bits:
                if not isinstance(bit, int):
                    continue
                if directions[port] == "output":
                    drives[name].append(bit)
                else:
                    readers[bit].append(name)

    result: dict[str, str] = {}
    for name, bits in drives.items():
        if module["cells"][name]["type"].startswith(_RAM_CELLS):
            # Named by the memory; its outputs often carry only the reader's names.
            path = hierarchy.path_of(name)
            if path:
                result[name] = unit_of(path)
                continue
        paths = [path for bit in bits for path in names[bit]]
        if paths:
            result[name] = unit_of(max(paths, key=lambda path: (path.count("."), path)))
    waiting = [name for name in drives if name not in result]
    while waiting:
        left, found = [], {}
        for name in waiting:
            votes = Counter(result[reader] for bit in drives[name] for reader in readers[bit]
                            if reader in result)
            if votes:
                found[name] = min(votes, key=lambda unit: (-votes[unit], unit))
            else:
                left.append(name)
        result |= found
        if not found:
            break
        waiting = left
    for name in waiting:
        result.setdefault(name, unit_of(hierarchy.path_of(name)))
    return result


def locator(owned: dict[str, str], hierarchy: Hierarchy) -> Callable[[str], str | None]:
    """`timing.Locate` for a netlist whose cells have the given owners."""
    def locate(name: str) -> str | None:
        # nextpnr-ecp5 splits a carry cell into $CCU2_COMB0 and 1.
        unit = owned.get(name) or owned.get(name.partition("$CCU2_")[0])
        if unit is None and (path := hierarchy.path_of(name)):
            unit = unit_of(path)
        return unit
    return locate


def usage(module: dict, owned: dict[str, str], family: str) -> Usage:
    """Cells of the netlist's top module by unit. owned: `owners` of the module."""
    weights = CELLS[family]
    units: dict[str, dict[str, float]] = {}
    for name, unit in owned.items():
        kind = module["cells"][name]["type"]
        for resource in RESOURCES:
            if kind in weights[resource]:
                row = units.setdefault(unit, dict.fromkeys(RESOURCES, 0))
                row[resource] += weights[resource][kind]
    return Usage(dict(sorted(units.items())))


def shared_luts(cells: dict[str, int]) -> int:
    """Pairs of small functions that one LUT6 holds (5 inputs together): LUT6s saved by packing.

    The rule is that of Yosys' `stat -tech xilinx`, its estimate of logic cells.
    """
    count = [cells.get(f"LUT{n}", 0) + (cells.get("INV", 0) if n == 1 else 0) for n in range(6)]
    saved = 0
    for large, small in ((4, 1), (3, 2), (3, 1)):
        pairs = min(count[large], count[small])
        count[large] -= pairs
        count[small] -= pairs
        saved += pairs
    return saved + (count[2] + count[1]) // 2


def memories(hierarchy: Hierarchy, log: str) -> list[dict]:
    """Every memory of the design: name, unit, words, width, bits, mapped (BLOCK, ...), cell.

    log: what Yosys printed while it mapped them. Memories without a write port (tables of
    constants, which become logic) are left out.
    """
    mapped: dict[str, tuple[str, str]] = {}
    for found in re.finditer(r"^(?:mapping memory (\S+) via (\S+)|"
                             r"using FF mapping for memory (\S+))", log, re.MULTILINE):
        if found[3]:
            mapped[found[3]] = REGISTERS, ""
        else:
            cell = found[2].strip("$_")
            block = any(name in cell.upper() for name in _BLOCK_RAM)
            mapped[found[1]] = BLOCK if block else DISTRIBUTED, cell
    # The log's names begin with the top module's.
    mapped = {name.partition(".")[2]: value for name, value in mapped.items()}
    result = []
    for (path, name), (words, width, written) in hierarchy.memories.items():
        if written:
            full = f"{path}.{name}" if path else name
            kind, cell = mapped.get(full, (GONE, ""))
            result.append({"name": full, "unit": unit_of(path), "words": words, "width": width,
                           "bits": words * width, "mapped": kind, "cell": cell})
    return result


def counted(used: Usage, cells: dict[str, int], family: str) -> dict[str, float]:
    """Resources of the whole design; on xc7 less the LUTs that pairs of small functions share."""
    total = used.total
    return total | {"lut": total["lut"] - (shared_luts(cells) if family == "xc7" else 0)}
