"""Stand-ins for the programs of a build: small scripts that check what they are given."""

from __future__ import annotations

import json
import sys
from pathlib import Path

ENGINE = "shell.serial.top.core.cluster0.engine0"

CELLS = {
    f"{ENGINE}.unit0.a": ("LUT6", f"{ENGINE}.unit0.x"),
    f"{ENGINE}.unit1.b": ("FDRE", f"{ENGINE}.unit1.x"),
    "pad": ("IBUF", "nothing"),
}

YOSYS = """
import json, re, sys
text = open(sys.argv[-1]).read()
top = re.search(r"-top (\\w+)", text)
if top is None:                                     # the script that writes Verilog
    open("design.v", "w").write("// from RTLIL\\n")
    sys.exit()
top = top[1]
assert open("design.il").read().count("module \\\\" + top), "no top module in the RTLIL"
assert "delete t:$scopeinfo" in text and "-nobram" not in text
cells, nets = {}, {}
for bit, (name, (kind, net)) in enumerate(CELLS.items(), 10):
    port = {"LUT6": "O", "IBUF": "O", "FDRE": "Q"}[kind]
    cells[name] = {"type": kind, "connections": {port: [bit]}, "parameters": {},
                   "port_directions": {port: "output"}, "attributes": {}}
    nets[net] = {"bits": [bit], "hide_name": 0}
modules = {top: {"cells": cells, "netnames": nets, "ports": {}}}
kinds = {kind: 1 for kind, _ in CELLS.values()}
json.dump({"modules": modules}, open("design.json", "w"))
json.dump({"modules": {"\\\\" + top: {"num_cells_by_type": kinds}}}, open("design.stat.json", "w"))
print("mapping memory " + top + ".shell.serial.top.core.map0.ram via $__XILINX_BLOCKRAM_TDP_")
print("using FF mapping for memory " + top + ".shell.serial.top.core.program")
"""

NEXTPNR_XILINX = """
import os
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
assert "--timing-allow-fail" in sys.argv
xdc = open(options["--xdc"]).read()
assert "create_clock" in xdc and "set_property LOC E3 [get_ports clk100_0__io]" in xdc, xdc
assert float(options["--freq"]) == 100 and os.path.isfile(options["--chipdb"])
assert json.load(open(options["--json"]))["modules"]["spiketicket"]["cells"]
mhz = {"1": "96.50", "2": "104.25", "3": "99.00"}[options["--seed"]]
verdict = "PASS" if float(mhz) >= 100 else "FAIL"
open(options["--fasm"], "w").write("seed " + options["--seed"])
print("Info: Device utilisation:")
print("Info:            SLICE_LUTX:    12/65200     0%")
print("Max frequency for clock 'clk': 80.00 MHz (FAIL at 100.00 MHz)")
print("Info: Critical path report for clock 'clk' (posedge -> posedge):")
print("Info: curr total")
print("Info:  0.5  0.5  Source shell.serial.top.core.cluster0.engine0.unit1.b.Q")
print("Info:  3.0  3.5    Net shell.serial.top.core.cluster0.engine0.unit1.x[2] (1,2) -> (3,4)")
print("Info:                Sink shell.serial.top.core.cluster0.engine0.unit0.a.I0")
print("Info:  0.2  3.7  Source shell.serial.top.core.cluster0.engine0.unit0.a.O")
print("Info:  5.0  8.7    Net shell.serial.top.core.cluster0.engine0.unit0.x (3,4) -> (5,6)")
print("Info:  0.1  8.8  Setup shell.serial.top.core.cluster0.engine0.unit0.a.I1")
print()
print(f"Info: Max frequency for clock 'clk': {mhz} MHz ({verdict} at 100.00 MHz)")
"""

FASM2FRAMES = """
assert sys.argv[1:4] == ["--part", "xc7a35tcsg324-1", "--db-root"], sys.argv
print("a warning", file=sys.stderr)
print("frames of " + open(sys.argv[5]).read())
"""

XC7FRAMES2BIT = """
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
assert options["--part_name"] == "xc7a35tcsg324-1" and open(options["--part_file"]).read()
open(options["--output_file"], "w").write("bits of " + open(options["--frm_file"]).read())
"""

VIVADO = """
if "-version" in sys.argv:
    print("vivado v2024.2 (64-bit)")
    sys.exit()
tcl = open(sys.argv[sys.argv.index("-source") + 1]).read()
assert "-part xc7a35ticsg324-1L" in tcl and "read_xdc design.xdc" in tcl
assert open("design.v").read() and "create_clock" in open("design.xdc").read()
open("utilization.txt", "w").write(
    "| Slice LUTs                 | 15000 |     0 |          0 |     20800 | 72.12 |\\n"
    "| Slice Registers            | 14000 |     0 |          0 |     41600 | 33.65 |\\n"
    "| Block RAM Tile             |  42.5 |     0 |          0 |        50 | 85.00 |\\n"
    "| DSPs                       |    40 |     0 |          0 |        90 | 44.44 |\\n")
open("timing.txt", "w").write(
    "  SLICE_X1Y2  FDRE (Prop_fdre_C_Q)   0.456   5.5 r  shell/serial/top/core/arbiter/q_reg/Q\\n"
    "              net (fo=3, routed)     1.000   6.5    shell/serial/top/core/arbiter/q\\n")
open("spiketicket.bit", "w").write("bits")
print("SPIKETICKET worst slack SLACK ns")
"""

NEXTPNR_ECP5 = """
options = dict(zip(sys.argv[2::2], sys.argv[3::2]))
assert sys.argv[1] == "--85k" and options["--package"] == "CABGA381", sys.argv
lpf = open(options["--lpf"]).read()
assert 'FREQUENCY PORT "clk25_0__io" 25 MHZ;' in lpf and 'SITE "G2"' in lpf
seed = int(options["--seed"])
if seed == 3:
    print("ERROR: placement failed")
    sys.exit(1)
mhz = {1: 70.0, 2: 85.5}[seed]
end = "shell.serial.top.core.cluster0.engine0.unit0.a"
hop = lambda kind, ns: {"type": kind, "delay": ns, "to": {"cell": end}, "net": end}
json.dump({"fmax": {"clk": {"achieved": mhz, "constraint": 80}}, "critical_paths": [
    {"from": "posedge clk", "to": "posedge clk",
     "path": [hop("clk-to-q", .5), hop("routing", 1.0), hop("logic", .2), hop("setup", .1)]}]},
    open(options["--report"], "w"))
open(options["--textcfg"], "w").write(str(seed))
print("Info:        TRELLIS_COMB:   100/ 83640     0%")
"""

ECPPACK = """
options = dict(zip(sys.argv[2::2], sys.argv[3::2]))
assert sys.argv[1] == "--compress"
open(options["--bit"], "w").write("bit of seed " + open(options["--input"]).read())
"""

LOADER = """
open(sys.argv[-1] + ".loaded", "w").write(" ".join(sys.argv[1:-1]))
"""


def install(folder: Path, name: str, body: str, version: str = "1.0") -> Path:
    """Put a stand-in into a folder; it answers the usual version options."""
    path = folder / name
    path.write_text(
        f"#!{sys.executable}\nimport json, sys\nCELLS = {json.dumps(CELLS)}\n"
        f"if sys.argv[1:] in (['-V'], ['--version']):\n    print('{name} {version}')\n"
        f"    sys.exit()\n{body}")
    path.chmod(0o755)
    return path


def databases(folder: Path) -> dict[str, str]:
    """Chip database and Project X-Ray database with nothing in them; environment to find them."""
    (folder / "chipdb").mkdir()
    (folder / "chipdb" / "xc7a35t.bin").write_text("chips")
    part = folder / "db" / "artix7" / "xc7a35tcsg324-1"
    part.mkdir(parents=True)
    (part / "part.yaml").write_text("part")
    return {"CHIPDB_DIR": str(folder / "chipdb"), "PRJXRAY_DB_DIR": str(folder / "db")}
