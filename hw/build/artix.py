"""Artix-7: Vivado, or nextpnr-xilinx with Project X-Ray, or an archive that builds elsewhere."""

from __future__ import annotations

import gzip
import io
import os
import re
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sw.errors import SpikeTicketError

from . import timing, tools
from .design import PHY_CLOCK_HZ, TOP, Design
from .routed import Routed, nextpnr_utilisation

OPEN_TOOLS = ("nextpnr-xilinx", "fasm2frames", "xc7frames2bit")
CHIPDB = "/usr/share/nextpnr/xilinx-chipdb"
PRJXRAY_DB = "/usr/share/nextpnr/prjxray-db"
FAMILY = "artix7"


def open_part(part: str) -> str:
    """The part as Project X-Ray names it: its database has no low-power industrial grades."""
    return re.sub(r"^(xc7a\d+t)i(\w+-\d)L$", r"\1\2", part)


def constraints(design: Design) -> str:
    """The XDC file, in the words that both Vivado and nextpnr-xilinx understand."""
    lines = []
    for pin in design.pins:
        lines.append(f"set_property LOC {pin.pin} [get_ports {pin.port}]")
        lines += [f"set_property {key} {value} [get_ports {pin.port}]"
                  for key, value in pin.attributes]
    lines.append(f"create_clock -name oscillator -period {1e9 / design.clock_in_hz:.3f} "
                 f"[get_ports {design.clock_port}]")
    lines += [f"create_clock -name {port} -period {1e9 / PHY_CLOCK_HZ:.3f} [get_ports {port}]"
              for port in design.phy_clocks]
    # The data lines' inputs compare with half of their 1.35 V, which the bank makes.
    lines += ["set_property INTERNAL_VREF 0.675 [get_iobanks 34]"] * design.config.ddr3
    return "\n".join(lines) + "\n"


def vivado_script(design: Design) -> str:
    """Vivado's batch script; `timing.txt` and `utilization.txt` are what the report reads."""
    # What passes between the clocks goes through FIFOs that are made for it.
    apart = "" if not design.phy_clocks else (
        "set_clock_groups -asynchronous -group [get_clocks -include_generated_clocks oscillator]"
        + "".join(f" -group [get_clocks {port}]" for port in design.phy_clocks) + "\n")
    # LiteDRAM's synchronisers of resets, as its own constraints have them.
    resets = "" if not design.config.ddr3 else """\
set_false_path -quiet -to [get_pins -quiet -filter {REF_PIN_NAME == PRE} -of_objects \\
    [get_cells -quiet -hierarchical -filter {ars_ff1 == TRUE || ars_ff2 == TRUE}]]
"""
    return f"""\
# Vivado in batch mode: vivado -mode batch -source build.tcl
read_verilog design.v
read_xdc design.xdc
set_property CFGBVS VCCO [current_design]
set_property CONFIG_VOLTAGE 3.3 [current_design]
synth_design -top {TOP} -part {design.board.part} -flatten_hierarchy rebuilt
# The first flip-flop of a synchroniser may be late.
set_false_path -quiet -to [get_cells -quiet -hier -filter {{amaranth.vivado.false_path == "TRUE"}}]
set_false_path -quiet -to [get_pins -quiet -of [get_cells -quiet -hier \\
    -filter {{amaranth.vivado.false_path_pre == "TRUE"}}] -filter {{REF_PIN_NAME == PRE}}]
{resets}{apart}opt_design
place_design -directive Explore
phys_opt_design
route_design -directive Explore
phys_opt_design
report_utilization -file utilization.txt
report_utilization -hierarchical -file utilization_hierarchical.txt
report_timing_summary -no_header -no_detailed_paths -file timing_summary.txt
report_timing -max_paths 1 -nworst 1 -setup -file timing.txt
set slack [get_property SLACK [get_timing_paths -max_paths 1 -setup]]
puts "SPIKETICKET worst slack $slack ns"
write_checkpoint -force {TOP}_route.dcp
set_property BITSTREAM.GENERAL.COMPRESS TRUE [current_design]
set_property BITSTREAM.CONFIG.SPI_BUSWIDTH 4 [current_design]
write_bitstream -force -bin_file {TOP}.bit
"""


def shell_script(design: Design) -> str:
    """`build.sh` of the archive: the open flow, or Vivado with `./build.sh vivado`."""
    part = open_part(design.board.part)
    device = re.match(r"xc7a\d+t", part)[0]
    package = part.rsplit("-", 1)[0]
    clocks = 1 + len(design.phy_clocks)
    return f"""\
#!/bin/sh
# Builds {TOP}.bit for {design.board.title} ({design.board.part}).
#   ./build.sh          nextpnr-xilinx, fasm2frames, xc7frames2bit on PATH (Yosys is not needed)
#   ./build.sh vivado   AMD Vivado on PATH
# CHIPDB: chip database file or folder (default {CHIPDB});
# PRJXRAY_DB_DIR: Project X-Ray database (default {PRJXRAY_DB}); SEED: placement seed.
# Exit code 0: bitstream made and timing met; 4: made, but slower than {
    design.config.clock_hz / 1e6:g} MHz.
set -e
cd "$(dirname "$0")"
if [ "${{1:-open}}" = vivado ]; then
    vivado -mode batch -source build.tcl -log vivado.log -nojournal
    grep "SPIKETICKET worst slack" vivado.log | tail -n 1
    if grep "SPIKETICKET worst slack -" vivado.log >/dev/null; then exit 4; fi
    exit 0
fi
db="${{PRJXRAY_DB_DIR:-${{DB_DIR:-{PRJXRAY_DB}}}}}/{FAMILY}"
chipdb="${{CHIPDB:-${{CHIPDB_DIR:-{CHIPDB}}}}}"
for name in {part} {package} {device}; do
    if [ -d "$chipdb" ] && [ -f "$chipdb/$name.bin" ]; then chipdb="$chipdb/$name.bin"; fi
done
[ -f "$chipdb" ] || {{ echo "no chip database at $chipdb: set CHIPDB" >&2; exit 2; }}
[ -d "$db" ] || {{ echo "no Project X-Ray database at $db: set PRJXRAY_DB_DIR" >&2; exit 2; }}
nextpnr-xilinx --chipdb "$chipdb" --xdc design.xdc --json design.json --fasm {TOP}.fasm \\
    --freq {design.config.clock_hz / 1e6:g} --seed "${{SEED:-1}}" --timing-allow-fail \\
    > nextpnr.log 2>&1 || {{ tail nextpnr.log >&2; exit 1; }}
# A DSP slice that adds four times 12 bits needs the bit of two times 24, too, which nextpnr omits.
sed -i 's/^.*USE_SIMD_FOUR12$/&\\n&_TWO24/' {TOP}.fasm
fasm2frames --part {part} --db-root "$db" {TOP}.fasm > {TOP}.frames
xc7frames2bit --part_file "$db/{part}/part.yaml" --part_name {part} \\
    --frm_file {TOP}.frames --output_file {TOP}.bit
grep "Max frequency" nextpnr.log | tail -n {clocks}
if grep "Max frequency" nextpnr.log | tail -n {clocks} | grep FAIL >/dev/null; then exit 4; fi
"""


def _readme(design: Design, build_id: str) -> str:
    return f"""\
SpikeTicket for {design.board.title}, {design.board.part}
build {build_id}, clock {design.config.clock_hz / 1e6:g} MHz, UART {design.baud} baud

  ./build.sh          makes {TOP}.bit with nextpnr-xilinx and Project X-Ray
  ./build.sh vivado   makes {TOP}.bit with AMD Vivado

design.json    netlist, mapped by Yosys to LUT6, FDRE, CARRY4, RAMB36E1, DSP48E1 (for nextpnr)
design.v       the design before mapping (for Vivado)
design.xdc     pins and clock
build.tcl      Vivado's script
manifest.json  registers and memories, for the driver
"""


def write_sources(design: Design, folder: Path, build_id: str) -> None:
    """Everything of the archive that needs no synthesis."""
    for name, text in {"design.xdc": constraints(design), "build.tcl": vivado_script(design),
                       "build.sh": shell_script(design),
                       "README.txt": _readme(design, build_id)}.items():
        (folder / name).write_text(text)


def write_verilog(folder: Path) -> None:
    """`design.v` from `design.il`, for Vivado, which does not read RTLIL."""
    (folder / "verilog.ys").write_text(
        "read_rtlil design.il\nproc -nomux -norom\nmemory_collect\n"
        "attrmap -remove generator -remove src -remove top\n"
        "attrmap -modattr -remove generator -remove src\nwrite_verilog -norename design.v\n")
    tools.run(tools.need("yosys"), ["-q", "-s", "verilog.ys"], folder, "verilog.log")


ARCHIVED = ("README.txt", "build.sh", "build.tcl", "design.json", "design.v", "design.xdc",
            "manifest.json")


def archive(folder: Path, out: Path) -> None:
    """All of ARCHIVED as a .tar.gz, the same bytes for the same files."""
    part = out.with_name(out.name + ".tmp")
    with part.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed, \
            tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in ARCHIVED:
            content = (folder / name).read_bytes()
            entry = tarfile.TarInfo(f"{TOP}/{name}")
            entry.size, entry.mode = len(content), 0o755 if name.endswith(".sh") else 0o644
            tar.addfile(entry, io.BytesIO(content))
    os.replace(part, out)


def databases(part: str, environment: Mapping[str, str] = os.environ) -> tuple[Path, Path]:
    """Chip database of nextpnr-xilinx and Project X-Ray's database for a part.

    Raises SpikeTicketError naming the variable that should say where they are.
    """
    name = open_part(part)
    chipdb = Path(environment.get("CHIPDB") or environment.get("CHIPDB_DIR") or CHIPDB)
    if chipdb.is_dir():
        names = (name, name.rsplit("-", 1)[0], re.match(r"xc7a\d+t", name)[0])
        found = [path for stem in names if (path := chipdb / f"{stem}.bin").is_file()]
        if not found:
            raise SpikeTicketError(f"no {names[0]}.bin, {names[1]}.bin or {names[2]}.bin in "
                                   f"{chipdb}; set CHIPDB_DIR to nextpnr-xilinx's chip databases")
        chipdb = found[0]
    elif not chipdb.is_file():
        raise SpikeTicketError(f"no chip database at {chipdb}; set CHIPDB_DIR to the folder of "
                               "nextpnr-xilinx's chip databases")
    root = Path(environment.get("PRJXRAY_DB_DIR") or environment.get("DB_DIR") or PRJXRAY_DB)
    if not (root / FAMILY / name / "part.yaml").is_file():
        raise SpikeTicketError(f"no {FAMILY}/{name}/part.yaml in {root}; set PRJXRAY_DB_DIR to "
                               "Project X-Ray's database")
    return chipdb.resolve(), (root / FAMILY).resolve()


def complete_slices(fasm: Path) -> None:
    """Add what nextpnr-xilinx leaves out: a DSP slice that adds four times 12 bits needs the bit of
    two times 24, too (Project X-Ray has it in both modes), or a carry passes bit 24."""
    fasm.write_text(re.sub(r"(?m)^(.*USE_SIMD_FOUR12)$", r"\1\n\1_TWO24", fasm.read_text()))


def route_open(design: Design, folder: Path, seeds: Sequence[int], locate: timing.Locate, *,
               done: Callable[[int, float], None] | None = None,
               watch: Callable[[int, str], None] | None = None) -> Routed:
    """nextpnr-xilinx with every seed, one after the other; the best becomes the bitstream."""
    nextpnr, to_frames, to_bit = (tools.need(name) for name in OPEN_TOOLS)
    chipdb, database = databases(design.board.part)
    part = open_part(design.board.part)
    results = []
    for seed in seeds:
        tools.run(nextpnr, ["--chipdb", chipdb, "--xdc", "design.xdc", "--json", "design.json",
                            "--fasm", f"seed{seed}.fasm",
                            "--freq", f"{design.config.clock_hz / 1e6:g}", "--seed", seed,
                            "--timing-allow-fail"], folder, f"seed{seed}.log",
                  watch=(lambda line, seed=seed: watch(seed, line)) if watch else None)
        complete_slices(folder / f"seed{seed}.fasm")
        log = (folder / f"seed{seed}.log").read_text()
        found = timing.from_log(log, locate)
        results.append((-found.clock_mhz, seed, found, log))
        if done:
            done(seed, found.clock_mhz)
    _, seed, best, log = min(results, key=lambda result: result[:2])
    frames, bit = f"{TOP}.frames", folder / f"{TOP}.bit"
    tools.run(to_frames, ["--part", part, "--db-root", database, f"seed{seed}.fasm"], folder,
              frames, errors="fasm2frames.log")
    tools.run(to_bit, ["--part_file", database / part / "part.yaml", "--part_name", part,
                       "--frm_file", frames, "--output_file", bit.name], folder,
              "xc7frames2bit.log")
    return Routed(seed, best, nextpnr_utilisation(log), bit)


def route_vivado(design: Design, folder: Path, locate: timing.Locate, *,
                 watch: Callable[[int, str], None] | None = None) -> Routed:
    """Vivado from `design.v` to the bitstream."""
    tools.run(tools.need("vivado"), ["-mode", "batch", "-source", "build.tcl", "-nojournal",
                                     "-log", "vivado.full.log"], folder, "vivado.log",
              watch=(lambda line: watch(0, line)) if watch else None)
    log = (folder / "vivado.log").read_text()
    slack = re.findall(r"SPIKETICKET worst slack (-?[\d.]+) ns", log)
    if not slack:
        raise SpikeTicketError("Vivado reported no slack; it ended before timing was known "
                               f"(log: {folder / 'vivado.log'})")
    period = 1e9 / design.config.clock_hz
    text = (folder / "timing.txt").read_text() if (folder / "timing.txt").exists() else ""
    found = timing.Timing(1e3 / (period - float(slack[-1])),
                          timing.vivado_path(text, locate))
    return Routed(0, found, _vivado_utilisation(folder / "utilization.txt"),
                  folder / f"{TOP}.bit")


def _vivado_utilisation(report: Path) -> dict[str, tuple[int, int]]:
    text = report.read_text() if report.exists() else ""
    # | name | used | fixed | (prohibited |) available | per cent |
    rows = re.findall(r"^\|\s*([A-Za-z][\w ]*?)\*?\s*\|\s*([\d.]+)\s*\|(?:\s*\d+\s*\|)*"
                      r"\s*(\d+)\s*\|\s*<?[\d.]+\s*\|$", text, re.MULTILINE)
    return {name: (float(used), int(available)) for name, used, available in rows}
