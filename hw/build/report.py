"""The report of a build: one dictionary, shown as text or kept as JSON."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from hw import program, registers
from hw.boards import DEVICES

from . import artix, clocks, fit, networks, usage
from .design import TOP, Design
from .routed import Routed
from .timing import Step, Timing

if TYPE_CHECKING:
    from .request import Request

SHARED = "pairs in one LUT6 (estimate)"
ADDED = "added by place and route"


def stage_of(line: str) -> str | None:
    """What a line of nextpnr's or Vivado's log says about how far it is, or None."""
    found = re.match(r"Info: (Packing \w+|Running \w+ \w*placer\w*|Routing|Running router\w*)|"
                     r"(?:Starting|Phase \d+) ([\w ]+?)(?: Task)?$", line)
    return (found[1] or found[2]).lower() if found else None


def _count(value: float) -> int | float:
    return int(value) if value == int(value) else value


def _routed_counts(device, counted: dict[str, float],
                   utilisation: dict[str, tuple[float, int]]) -> dict[str, float]:
    """Counts after placement where the tool gives them in our units."""
    names = {"ecp5": {"lut": "TRELLIS_COMB", "ff": "TRELLIS_FF", "bram": "DP16KD",
                      "dsp": "MULT18X18D"},
             "xc7": {"lut": "Slice LUTs", "ff": "Slice Registers", "bram": "Block RAM Tile",
                     "dsp": "DSPs"}}[device.family]
    return {key: utilisation.get(names[key], (value,))[0] for key, value in counted.items()}


def manifest(wanted: Request, build_id: str) -> dict:
    """`hw.registers.manifest` with the build, the registers' addresses and every layout.

    Layouts are lists of 32-bit words (engine and plane: one word), each a list of [field, bits],
    least significant first; a name ending in "-" is signed.
    """
    return registers.manifest(wanted.config) | {
        "board": wanted.board.name, "part": wanted.board.part, "build_id": build_id,
        "baud": wanted.baud, "ethernet": wanted.ethernet,
        "registers": {register.name.lower(): register.value for register in registers.Register},
        "space_numbers": {space.name.lower(): space.value for space in registers.Space},
        "counters": list(registers.COUNTERS),
        "layouts": {"request": registers.REQUEST, "reply": registers.REPLY,
                    "header": program.HEADER, "engine": program.ENGINE, "plane": program.PLANE,
                    "tap": program.TAP, "row_header": program.ROW_HEADER},
    }


def values(wanted: Request, design: Design, *, toolchain: str, missing: list[str], identity: str,
           versions: dict[str, str], used: usage.Usage, counted: dict[str, float],
           memories: list[dict], timing: Timing, routed: Routed | None,
           seeds: dict[int, float], progress: Callable[[str, str], None]) -> dict:
    """The report's values; see `docs/build.md` for every key."""
    device, config = DEVICES[wanted.board.device], wanted.config
    utilisation = routed.utilisation if routed else {}
    final = _routed_counts(device, counted, utilisation)
    units = {name: {device.ram if key == "bram" else key: _count(value)
                    for key, value in row.items()} for name, row in used.units.items()}
    total = used.total
    for name, lower, upper in ((SHARED, total, counted), (ADDED, counted, final)):
        rest = {device.ram if key == "bram" else key: _count(upper[key] - lower[key])
                for key in usage.RESOURCES}
        if any(rest.values()):
            units[name] = rest
    target = config.clock_hz / 1e6
    progress("report", "networks that fit")
    return {
        "board": wanted.board.name, "title": wanted.board.title, "part": wanted.board.part,
        "preset": wanted.preset, "config": config.as_dict(), "toolchain": toolchain,
        "toolchain_wanted": wanted.toolchain, "build_id": identity,
        "identity": f"{registers.identity(config):016x}", "baud": wanted.baud,
        "ethernet": wanted.ethernet, "dram": _dram(wanted),
        "lut": _count(final["lut"]), "lut_available": device.lut,
        "ff": _count(final["ff"]), "ff_available": device.ff,
        device.ram: _count(final["bram"]), f"{device.ram}_available": device.bram,
        "dsp": _count(final["dsp"]), "dsp_available": device.dsp,
        "utilisation": {name: list(pair) for name, pair in utilisation.items() if pair[0]},
        "counts": "placed" if set(utilisation) & {"TRELLIS_COMB", "Slice LUTs"} else "synthesised",
        "fit": fit.verdict(fit.uses(device, final)),
        "clock_mhz_target": target, "clock_mhz": round(timing.clock_mhz, 2),
        "routed": routed is not None,
        "timing_met": bool(routed) and timing.clock_mhz >= target,
        "bitstream": f"{TOP}.bit" if routed else None,
        "archive": None if routed else f"{TOP}.tar.gz", "missing": missing,
        "seed": routed.seed if routed else None, "seeds": dict(sorted(seeds.items())),
        "pll": _pll(design), "pins": {pin.port: pin.pin for pin in design.pins},
        "critical_path": timing.as_dict()["path"], "units": units, "memories": memories,
        "weights_that_fit": networks.weights_that_fit(config),
        "tickets": networks.forecasts(config),
        "tools": versions | {"python": platform.python_version()},
    }


def _dram(wanted: Request) -> str:
    """The second tier of memory, "" without."""
    config = wanted.config
    return (f"{wanted.board.dram}; weights stream through {config.engines} rings of "
            f"{config.ring_words:,} words" if config.dram_words else "")


def _pll(design: Design) -> dict | None:
    pll = design.pll
    return None if pll is None else {
        "input_mhz": pll.input_hz / 1e6, "divide": pll.divide, "multiply": pll.multiply,
        "out_divide": pll.out_divide, "vco_mhz": pll.vco_hz / 1e6,
        "output_mhz": pll.output_hz / 1e6}


def plan_values(wanted: Request, design: Design, found: list[fit.Use],
                located: dict[str, str | None], known: dict | None) -> dict:
    """What `--plan-only` prints. known: clock of such a core (`clocks.expected`)."""
    family = DEVICES[wanted.board.device].family
    missing = [name for name, version in located.items() if version is None]
    if family == "ecp5":
        possible = not missing
    else:
        possible = located["yosys"] is not None and (
            located["vivado"] is not None or not set(artix.OPEN_TOOLS) & set(missing))
    target = wanted.config.clock_hz / 1e6
    made = f"{TOP}.bit" if possible or family == "ecp5" else f"{TOP}.tar.gz"
    return {
        "board": wanted.board.name, "title": wanted.board.title, "part": wanted.board.part,
        "preset": wanted.preset, "config": wanted.config.as_dict(),
        "identity": f"{registers.identity(wanted.config):016x}",
        "toolchain": wanted.toolchain, "baud": wanted.baud,
        "ethernet": wanted.ethernet, "dram": _dram(wanted), "seeds": list(wanted.seeds),
        "clock_mhz_target": target, "pll": _pll(design), "clock_known": known,
        "clock_met": clocks.met(target, known), "clock": clocks.verdict(target, known),
        "pins": {pin.port: pin.pin for pin in design.pins},
        "estimate": {use.name: {"used": _count(use.used), "available": use.available,
                                "short": _count(use.short)} for use in found},
        "fits": not any(use.short for use in found), "fit": fit.verdict(found),
        "tools": located, "missing": missing, "output": str(wanted.output),
        "files": ["report.json", "report.txt", "manifest.json", "SHA256SUMS", made],
        "weights_that_fit": networks.weights_that_fit(wanted.config),
        "tickets": networks.forecasts(wanted.config),
    }


def _path_lines(path: list[dict]) -> list[str]:
    lines = ["critical path (unit, logic + routing ns, cells)"]
    for step in (Step(**step) for step in path):
        lines.append(f"  {step.unit:<28} {step.logic_ns:6.2f} + {step.routing_ns:6.2f}  "
                     f"{step.levels:3}   {step.net}")
    return lines


def _network_lines(found: dict) -> list[str]:
    lines = ["weights that fit the weight memory, by density (surviving in brackets)"]
    for bits in (1, 4):
        rows = [row for row in found["weights_that_fit"] if row["bits"] == bits]
        lines.append(f"  {bits} bit  " + "  ".join(
            f"{row['density']:.0%}: {row['weights']:,} ({row['surviving']:,})" for row in rows))
    lines.append("bundled tickets (forecast, core alone)")
    for row in found["tickets"]:
        lines.append(f"  {row['ticket']:<28} " + (
            f"{row['frames_per_s']:,.0f} frames/s, {row['cycles_per_image']:,} cycles per image"
            if row["fits"] else row["reason"]))
    return lines


def _clock_line(found: dict) -> str:
    kind = "routed" if found["routed"] else "estimated before placement, not routed"
    enough = found["clock_mhz"] >= found["clock_mhz_target"]
    met = (("met" if found["timing_met"] else "MISSED") if found["routed"] else
           "met by the estimate" if enough else "NOT met by the estimate")
    line = (f"clock       {found['clock_mhz']:.1f} MHz ({kind}), target "
            f"{found['clock_mhz_target']:g} MHz: {met}")
    if found["seeds"]:
        line += "; seeds " + ", ".join(f"{s}: {mhz:g}" for s, mhz in found["seeds"].items())
    return line


def _ethernet(found: dict) -> str:
    """Reports of builds before there was Ethernet do not tell."""
    return "; Ethernet: UDP, 100 Mbit" if found.get("ethernet") else ""


def _dram_lines(found: dict) -> list[str]:
    """Nothing without DRAM, and in reports from before there was any."""
    return [f"DRAM        {found['dram']}"] if found.get("dram") else []


def _core_line(found: dict) -> str:
    return (f"core        {found['preset']}: {found['config']['engines']} engines x "
            f"{found['config']['units']} units, identity {found['identity']}")


def message(found: dict) -> str:
    """What came out, in one line that says precisely whether there is a bitstream."""
    if found["bitstream"]:
        if found["timing_met"]:
            return f"bitstream {found['bitstream']} made; timing met"
        return (f"bitstream {found['bitstream']} made, but timing MISSED: "
                f"{found['clock_mhz']:.1f} of {found['clock_mhz_target']:g} MHz; try --seeds, a "
                "lower --clock or fewer engines")
    reason = ("as asked for" if found["toolchain_wanted"] == "archive" else
              "not found on PATH: " + ", ".join(found["missing"]))
    slow = ("" if found["clock_mhz"] >= found["clock_mhz_target"] else
            f"; the clock of {found['clock_mhz_target']:g} MHz is above the estimate of "
            f"{found['clock_mhz']:.1f} MHz: choose --clock {int(found['clock_mhz'])} or less")
    return (f"NO bitstream was made ({reason}); {found['archive']} holds netlist, constraints and "
            "scripts: unpack it where nextpnr-xilinx and Project X-Ray or Vivado are installed, "
            f"and run ./build.sh or ./build.sh vivado{slow}")


def text(found: dict) -> str:
    """A report as text."""
    ram = "bram36" if "bram36" in found else "dp16kd"
    lines = [
        f"{found['board']}: {found['title']}, {found['part']}",
        message(found), "",
        f"build       {found['build_id']}, toolchain {found['toolchain']}",
        _core_line(found), f"UART        {found['baud']:,} baud after power-up{_ethernet(found)}",
        *_dram_lines(found), _clock_line(found), f"area        {found['fit']}",
        f"            ({found['counts']} counts)", "",
        f"{'unit':<30} {'LUT':>7} {'FF':>7} {fit.LABELS[ram]:>7} {'DSP':>5}"]
    for name, row in found["units"].items():
        lines.append(f"  {name:<28} {row['lut']:>7,} {row['ff']:>7,} {row[ram]:>7g} "
                     f"{row['dsp']:>5}")
    lines.append(f"  {'total':<28} {found['lut']:>7,} {found['ff']:>7,} {found[ram]:>7g} "
                 f"{found['dsp']:>5}")
    lines.append(f"  {'available':<28} {found['lut_available']:>7,} {found['ff_available']:>7,} "
                 f"{found[ram + '_available']:>7,} {found['dsp_available']:>5}")
    lines += ["", *_path_lines(found["critical_path"]), "", *_memory_lines(found["memories"]), "",
              *_network_lines(found), "", "tools"]
    lines += [f"  {name:<16} {version}" for name, version in found["tools"].items()]
    return "\n".join(lines)


def _memory_lines(memories: list[dict]) -> list[str]:
    """One line for all copies of a memory."""
    kinds: dict[tuple, int] = {}
    for memory in memories:
        name = re.sub(r"^.*\btop\.(core\.)?", "", memory["name"])
        name = re.sub(r"\$\d+|\d+(?=\.|$)", "", name)
        key = (name, memory["words"], memory["width"], memory["mapped"])
        kinds[key] = kinds.get(key, 0) + 1
    lines = ["memories (copies, words x bits, mapped to)"]
    for (name, words, width, mapped), count in kinds.items():
        lines.append(f"  {name:<36} {count:>3} x {words:>6,} x {width:<4} {mapped}")
    return lines


def plan_text(found: dict) -> str:
    """A plan as text."""
    lines = [
        f"{found['board']}: {found['title']}, {found['part']}",
        "plan only, nothing was built", "",
        _core_line(found),
        f"area        {found['fit']} (by the model)",
        f"clock       {found['clock_mhz_target']:g} MHz, {found['clock']}",
        "            " + (
            "straight from the oscillator" if found["pll"] is None else
            "PLL {input_mhz:g} MHz / {divide} x {multiply} / {out_divide}, VCO {vco_mhz:g} MHz"
            .format(**found["pll"])),
        f"UART        {found['baud']:,} baud{_ethernet(found)}", *_dram_lines(found),
        f"seeds       {', '.join(map(str, found['seeds']))}", "tools"]
    lines += [f"  {name:<16} {version or 'not found'}" for name, version in found["tools"].items()]
    lines += ["pins        " + ", ".join(f"{port} {pin}" for port, pin in found["pins"].items()),
              f"files       {found['output']}/: " + ", ".join(found["files"]), "",
              *_network_lines(found)]
    return "\n".join(lines)
