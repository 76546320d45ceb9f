"""One build from a board's name to a bitstream and its report.

Steps: elaborate, synthesise, count, place and route, pack, report. A build is known by its ID, a
hash of everything that goes in: the design as RTLIL, constraints, scripts, options and the versions
of the tools. A build whose report carries the same ID, and whose files are there, is not repeated;
only its forecasts of the bundled tickets are, if these have changed.
The ID's first half, which the board tells (registers BUILD_LOW, BUILD_HIGH), leaves out what only
place and route depend on, so that other seeds take the same netlist; it is computed of the design
with 0 in these registers.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from hw import registers
from hw.boards import DEVICES

from . import artix, clocks, ecp5, estimate, fit, litedram, networks, report, tools, usage, yosys
from .design import TOP, Design, prepare
from .request import BITSTREAMS, PLACE, Request

WORK = PLACE / "build"
"""Where intermediate files go; not part of the repository."""

OK, NO_BITSTREAM, SLOW = 0, 3, 4
"""Exit codes: as asked for; archive instead of a bitstream; the clock is missed, in an archive by
the estimate."""

Progress = Callable[[str, str], None]
"""Called with (stage, what goes on in it)."""


def choose_toolchain(wanted: str, family: str) -> tuple[str, list[str]]:
    """("trellis", "vivado", "open" or "archive", what is missing for a bitstream).

    Raises SpikeTicketError naming a missing program where it was asked for by name or nothing can
    be done without it.
    """
    tools.need("yosys")
    if family == "ecp5":
        tools.need("nextpnr-ecp5")
        tools.need("ecppack")
        return "trellis", []
    missing = [name for name in artix.OPEN_TOOLS if tools.find(name) is None]
    if wanted == "archive":
        return "archive", ["vivado", *missing]
    if wanted == "vivado" or (wanted == "auto" and tools.find("vivado")):
        tools.need("vivado")
        return "vivado", []
    if wanted == "open" or not missing:
        for name in artix.OPEN_TOOLS:
            tools.need(name)
        return "open", []
    return "archive", ["vivado", *missing]


def tool_versions(toolchain: str) -> dict[str, str]:
    """Version of every program that the toolchain runs."""
    import amaranth
    used = {"trellis": ("yosys", "nextpnr-ecp5", "ecppack"), "archive": ("yosys",),
            "open": ("yosys", *artix.OPEN_TOOLS), "vivado": ("yosys", "vivado")}[toolchain]
    found = {name: tool.version or "unknown" for name in used if (tool := tools.find(name))}
    return {"amaranth": amaranth.__version__, **found}


def _scripts(family: str) -> list[str]:
    """The scripts that synthesis may run, and what they read besides the design."""
    return [*(yosys.script(family, TOP, "design", classic=classic) for classic in (False, True)),
            *yosys.libraries(family).values()]


def build_id(wanted: Request, design: Design, toolchain: str, versions: dict[str, str]) -> str:
    """128 bits in hexadecimal of all that decides what comes out; the first 64 of all but how the
    netlist is placed and routed.

    design: with build number 0.
    """
    family = design.family
    synthesised = {
        "rtlil": hashlib.sha256(yosys.adapted(design.rtlil, family).encode()).hexdigest(),
        "constraints": ecp5.constraints(design) if family == "ecp5" else artix.constraints(design),
        "synthesis": _scripts(family),
        "part": wanted.board.part, "config": wanted.config.as_dict(), "baud": wanted.baud,
        "versions": {name: versions.get(name) for name in ("amaranth", "yosys")},
    }
    routed = {
        "route": ([ecp5.arguments(design, seed) for seed in wanted.seeds] if family == "ecp5" else
                  [artix.shell_script(design), artix.vivado_script(design), wanted.seeds]),
        "toolchain": toolchain, "versions": versions,
    }
    halves = (synthesised, synthesised | routed)
    return "".join(hashlib.sha256(json.dumps(half, sort_keys=True).encode()).hexdigest()[:16]
                   for half in halves)


def finished(output: Path, identity: str) -> dict | None:
    """The report of an earlier build with this ID whose files are all there, else None."""
    try:
        values = json.loads((output / "report.json").read_text())
    except (OSError, ValueError):
        return None
    if values.get("build_id") != identity:
        return None
    for name, digest in values.get("files", {}).items():
        path = output / name
        if not path.is_file() or _digest(path) != digest:
            return None
    return values


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def exit_code(values: dict) -> int:
    """Exit code for a report: 0 only for a bitstream that meets its clock (or an archive that was
    asked for by name, and meets it by the estimate)."""
    if values["bitstream"] is None:
        if values["toolchain_wanted"] != "archive":
            return NO_BITSTREAM
        return OK if values["clock_mhz"] >= values["clock_mhz_target"] else SLOW
    return OK if values["timing_met"] else SLOW


def plan(wanted: Request) -> dict:
    """What would be built, without building: fit by the area model, clock as builds before had it,
    files, tools."""
    design = prepare(wanted.board, wanted.config, wanted.baud, core=False,
                     ethernet=wanted.ethernet)
    device = DEVICES[wanted.board.device]
    found = fit.uses(device, fit.estimate(wanted.config, device, ethernet=wanted.ethernet))
    programs = {"ecp5": ("yosys", "nextpnr-ecp5", "ecppack"),
                "xc7": ("yosys", "vivado", *artix.OPEN_TOOLS)}[wanted.family]
    located = {name: tools.find(name) for name in programs}
    return report.plan_values(
        wanted, design, found,
        {name: tool.version or tool.path if tool else None for name, tool in located.items()},
        clocks.expected(wanted, BITSTREAMS))


def build(wanted: Request, progress: Progress, *, force: bool = False) -> tuple[dict, bool]:
    """Build, or find, what is wanted: (the report's values, was it found).

    Raises SpikeTicketError for a design that does not fit, a missing or failing program.
    """
    device = DEVICES[wanted.board.device]
    fit.check(fit.uses(device, fit.estimate(wanted.config, device, ethernet=wanted.ethernet)),
              f"{wanted.preset} on {device.name}, by the area model,", margin=fit.MODEL_ERROR)
    toolchain, missing = choose_toolchain(wanted.toolchain, wanted.family)
    if toolchain == "open":
        artix.databases(wanted.board.part)
    own = {litedram.PACKAGE: litedram.version()} if wanted.config.ddr3 else {}
    progress("elaborate", f"{wanted.board.name}, {wanted.preset}")
    design = prepare(wanted.board, wanted.config, wanted.baud, ethernet=wanted.ethernet)
    versions = tool_versions(toolchain) | own
    identity = build_id(wanted, design, toolchain, versions)
    earlier = None if force else finished(wanted.output, identity)
    if earlier is not None:
        progress("report", "networks that fit")
        forecasts = networks.forecasts(wanted.config)
        if earlier.get("tickets") != forecasts:     # the bundled tickets are newer than the build
            earlier["tickets"] = forecasts
            _write_report(wanted.output, earlier, report.text)
        return earlier | {"toolchain_wanted": wanted.toolchain}, True

    design = prepare(wanted.board, wanted.config, wanted.baud,
                     build=registers.build_number(identity), ethernet=wanted.ethernet)
    folder = WORK / f"{wanted.board.name}-{identity[:6]}{identity[-6:]}"
    folder.mkdir(parents=True, exist_ok=True)
    with tools.alone_in(folder):
        values, made = _make(wanted, design, folder, toolchain, missing, identity, versions,
                             progress)
        with tools.undivided():
            _publish(wanted.output, made, values, report.text)
    return values, False


def _make(wanted: Request, design: Design, folder: Path, toolchain: str, missing: list[str],
          identity: str, versions: dict[str, str], progress: Progress
          ) -> tuple[dict, dict[str, Path]]:
    """All of a build that takes its time, in its folder: the report's values, the files by name."""
    device = DEVICES[wanted.board.device]
    synthesis = _synthesise(design, folder, versions, progress)
    progress("count", "cells by unit")
    hierarchy = usage.Hierarchy.of(design.rtlil)
    module = synthesis.load()
    owned = usage.owners(module, hierarchy)
    locate = usage.locator(owned, hierarchy)
    used = usage.usage(module, owned, design.family)
    counted = usage.counted(used, synthesis.cells, design.family)
    fit.check(fit.uses(device, counted), f"{wanted.preset} on {device.name}, synthesised,")
    memories = usage.memories(hierarchy, synthesis.log.read_text())
    (folder / "manifest.json").write_text(
        json.dumps(report.manifest(wanted, identity), indent=1) + "\n")

    made: dict[str, Path] = {"manifest.json": folder / "manifest.json"}
    tried: dict[int, float] = {}

    def done(seed: int, mhz: float) -> None:
        tried[seed] = round(mhz, 2)
        progress("route", f"seed {seed}: {mhz:.1f} MHz")

    def watch(seed: int, line: str) -> None:
        if note := report.stage_of(line):
            progress("route", f"seed {seed}: {note}")

    routed = None
    if toolchain == "trellis":
        progress("route", f"{len(wanted.seeds)} seeds")
        routed = ecp5.route(design, folder, wanted.seeds, locate, done=done, watch=watch)[0]
        progress("pack", f"seed {routed.seed}")
        made[f"{TOP}.bit"] = ecp5.pack(routed, folder)
    else:
        artix.write_sources(design, folder, identity)
        artix.write_verilog(folder)
        if toolchain == "open":
            routed = artix.route_open(design, folder, wanted.seeds, locate, done=done,
                                      watch=watch)
        elif toolchain == "vivado":
            progress("route", "Vivado")
            routed = artix.route_vivado(design, folder, locate, watch=watch)
        if routed is not None:
            made[f"{TOP}.bit"] = routed.file
        else:
            progress("pack", "archive")
            made[f"{TOP}.tar.gz"] = folder / f"{TOP}.tar.gz"
            artix.archive(folder, made[f"{TOP}.tar.gz"])
    found = routed.timing if routed else estimate.estimate(module, locate)
    values = report.values(
        wanted, design, toolchain=toolchain, missing=missing, identity=identity, versions=versions,
        used=used, counted=counted, memories=memories, timing=found, routed=routed, seeds=tried,
        progress=progress)
    return values, made


def _synthesise(design: Design, folder: Path, versions: dict[str, str],
                progress: Progress) -> yosys.Synthesis:
    """Synthesise, or find the netlist of the same input: other seeds need no new one, nor does the
    open flow after an archive."""
    inputs = (yosys.adapted(design.rtlil, design.family), *_scripts(design.family),
              versions["yosys"])
    key = hashlib.sha256("\n".join(inputs).encode()).hexdigest()
    mark = folder / "synthesis.key"
    for other in sorted(WORK.glob("*/synthesis.key")):
        if other.read_text() == key and other != mark:
            for name in ("design.json", "design.stat.json", "design.yosys.log", "design.il"):
                shutil.copy(other.parent / name, folder / name)
            mark.write_text(key)
            break
    if mark.exists() and mark.read_text() == key:
        progress("synthesis", "found")
        return yosys.opened(design.family, TOP, folder)
    mark.unlink(missing_ok=True)
    progress("synthesis", "Yosys")

    def watch(line: str) -> None:
        if note := yosys.stage(line):
            progress("synthesis", note)

    result = yosys.synthesise(design.rtlil, design.family, TOP, folder, watch=watch)
    mark.write_text(key)
    return result


def _publish(output: Path, made: dict[str, Path], values: dict,
             text: Callable[[dict], str]) -> None:
    """Copy what was made and write the report last, each file in one step."""
    output.mkdir(parents=True, exist_ok=True)
    for stale in (f"{TOP}.bit", f"{TOP}.tar.gz"):
        if stale not in made:
            (output / stale).unlink(missing_ok=True)
    for name, path in made.items():
        part = output / f"{name}.tmp"
        shutil.copy(path, part)
        os.replace(part, output / name)
    values["files"] = {name: _digest(output / name) for name in sorted(made)}
    sums = "".join(f"{digest}  {name}\n" for name, digest in values["files"].items())
    _write(output, {"SHA256SUMS": sums})
    _write_report(output, values, text)


def _write_report(output: Path, values: dict, text: Callable[[dict], str]) -> None:
    _write(output, {"report.txt": text(values) + "\n",
                    "report.json": json.dumps(values, indent=1) + "\n"})


def _write(output: Path, contents: dict[str, str]) -> None:
    for name, content in contents.items():
        part = output / f"{name}.tmp"
        part.write_text(content)
        os.replace(part, output / name)
