"""Build a bitstream, or all that leads up to it, for a board.

    python -m hw.build --board ulx3s_85f              # finished .bit with a report
    python -m hw.build --board arty_a7                # Vivado or the open flow, else an archive
    python -m hw.build --board arty_a7 --plan-only    # fit, clock, files: seconds
    python -m hw.build --board ulx3s_85f --preset tiny --clock 50 --seeds 1
    python -m hw.build --board ecpix5_85f --set engines=5 --set weight_words=4096 --baud 12000000
    python -m hw.build --list

Results go to bitstreams/BOARD/: report.json, report.txt, manifest.json, SHA256SUMS and the
bitstream (or the archive). Exit code 0: what was asked for exists and meets its clock; 1: the plan
does not fit, or its clock is above what such a core reached before; 2: bad input, a configuration
that does not fit, a missing or failing program; 3: no bitstream, because the programs for it are
missing (the archive was made); 4: the bitstream misses its clock, or the archive's estimate does.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from hw.boards import BOARDS, DEVICES, Board
from hw.config import PRESETS
from hw.registers import DEFAULT_BAUD
from sw import outputs
from sw.errors import SpikeTicketError, command

from . import build, fit, report, tools
from .request import TOOLCHAINS, Request, request


class _Stages:
    """Progress by stage on standard error: a spinner on a terminal, else a line a stage."""

    def __init__(self, quiet: bool):
        console = Console(stderr=True)
        self._live = console.is_terminal and not quiet
        self._quiet, self._stage, self._begin = quiet, "", time.monotonic()
        self._bar = Progress(SpinnerColumn(), TextColumn("{task.fields[stage]:<10}"),
                             TextColumn("{task.description}"), TimeElapsedColumn(), console=console,
                             transient=True, disable=not self._live)
        self._task = self._bar.add_task("", stage="")

    def __enter__(self) -> _Stages:
        self._bar.start()
        return self

    def __exit__(self, *_) -> None:
        self._bar.stop()

    def __call__(self, stage: str, note: str) -> None:
        if self._live:
            self._bar.update(self._task, stage=stage, description=note[:60])
        elif not self._quiet and (stage != self._stage or "MHz" in note):
            print(f"{time.monotonic() - self._begin:6.0f} s  {stage:<10} {note}", file=sys.stderr,
                  flush=True)
        self._stage = stage


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="python -m hw.build", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--board", help="board to build for (--list shows them)")
    result.add_argument("--preset", help="core (default: the board's; --list shows them)")
    result.add_argument("--set", action="append", default=[], metavar="NAME=N",
                        help="change a parameter of the preset, for example engines=3")
    result.add_argument("--clock", type=float, metavar="MHZ",
                        help="clock of the core, through the PLL (default: the board's)")
    result.add_argument("--baud", type=int, help="UART rate after power-up (default: "
                        f"{DEFAULT_BAUD}; the host may change it at run time)")
    result.add_argument("--toolchain", default="auto", metavar="NAME",
                        help=f"{', '.join(TOOLCHAINS)} (default: auto)")
    result.add_argument("--seed", type=int, metavar="N", help="one placement seed")
    result.add_argument("--seeds", type=int, metavar="COUNT",
                        help="place with seeds 1 to COUNT, keep the best (default: 4 on ECP5, "
                        "else 1)")
    result.add_argument("--output", type=outputs.folder, metavar="DIR",
                        help="where results go (default: bitstreams/BOARD)")
    result.add_argument("--plan-only", action="store_true",
                        help="say what would be built and whether it fits; build nothing")
    result.add_argument("--force", action="store_true", help="build again what is there already")
    result.add_argument("--program", action="store_true",
                        help="load the bitstream into the board with openFPGALoader")
    result.add_argument("--json", action="store_true", help="print JSON instead of text")
    result.add_argument("--list", action="store_true", help="list boards and presets, and end")
    return result


def _changes(options: list[str]) -> dict[str, int]:
    changes = {}
    for option in options:
        name, equals, value = option.partition("=")
        try:
            changes[name] = int(value)
        except ValueError:
            raise SpikeTicketError(f"--set {option}: write NAME=N with a whole number N, for "
                                   "example --set engines=3") from None
        if not equals:
            raise SpikeTicketError(f"--set {option}: write NAME=N")
    return changes


def _request(options: argparse.Namespace) -> Request:
    if options.board is None:
        raise SpikeTicketError("--board is missing; --list shows the boards")
    if options.seed is not None and options.seeds is not None:
        raise SpikeTicketError("--seed and --seeds exclude each other")
    if options.seeds is not None and not 1 <= options.seeds <= 100:
        raise SpikeTicketError(f"--seeds {options.seeds} is outside 1..100")
    if options.seed is not None and options.seed < 1:
        raise SpikeTicketError(f"--seed {options.seed} is below 1")
    seeds = ((options.seed,) if options.seed is not None else
             tuple(range(1, options.seeds + 1)) if options.seeds else None)
    return request(
        options.board, preset=options.preset, clock_mhz=options.clock, baud=options.baud,
        changes=_changes(options.set), toolchain=options.toolchain, seeds=seeds,
        output=options.output)


def listing() -> dict:
    """Boards, with the presets that fit by the area model, and presets, JSON-ready."""
    def fitting(board: Board) -> list[str]:
        device = DEVICES[board.device]
        return [name for name, config in PRESETS.items()
                if all(not use.short for use in fit.uses(device, fit.estimate(config, device)))]

    boards = {name: {"title": board.title, "part": board.part, "preset": board.preset,
                     "presets": fitting(board), "clock_mhz": board.clock_hz / 1e6,
                     "max_baud": board.max_baud}
              for name, board in BOARDS.items() if board.part}
    return {"boards": boards, "presets": {name: c.as_dict() for name, c in PRESETS.items()}}


def _print_listing(found: dict) -> None:
    print("boards")
    for name, board in found["boards"].items():
        print(f"  {name:<12} {board['title']}, {board['part']}")
        print(f"  {'':<12} preset {board['preset']} at {board['clock_mhz']:g} MHz, UART to "
              f"{board['max_baud'] / 1e6:g} Mbaud; these fit: {', '.join(board['presets'])}")
    print("presets")
    for name, config in found["presets"].items():
        units = [unit for unit, has in (("attention", config["attention"]),
                                        ("patch gate", config["gate"])) if has]
        boards = [board for board, values in found["boards"].items() if name in values["presets"]]
        engines = f"{config['engines']} engine{'s' if config['engines'] > 1 else ''}"
        print(f"  {name:<12} {engines} x {config['units']} units, {config['lanes']} neuron "
              f"lane{'s' if config['lanes'] > 1 else ''} an engine; "
              + (f"with {' and '.join(units)}" if units else "without attention and patch gate"))
        print(f"  {'':<12} {config['map_words']:,} map words, {config['weight_words']:,} weight "
              f"words a pair of engines; fits "
              f"{', '.join(boards) if boards else 'no board (for simulation)'}")


_LOADER = {"arty_a7": ("--board", "arty_a7_35t"), "arty_a7_100": ("--board", "arty_a7_100t"),
           "ulx3s_85f": ("--board", "ulx3s"), "ecpix5_85f": ("--board", "ecpix5"),
           "versa_ecp5": ("--cable", "ft2232")}
"""How openFPGALoader knows the boards; the Versa is not among its names."""


def program(board: str, bitstream: Path) -> None:
    """Load a bitstream into a board's FPGA (volatile)."""
    loader = tools.need("openFPGALoader")
    done = subprocess.run([loader.path, *_LOADER[board], str(bitstream)], check=False)
    if done.returncode:
        raise SpikeTicketError(f"openFPGALoader failed with exit code {done.returncode}; is the "
                               "board connected and may this user use it?")


def _run(options: argparse.Namespace) -> int:
    if options.list:
        found = listing()
        print(json.dumps(found, indent=1)) if options.json else _print_listing(found)
        return 0
    wanted = _request(options)
    if options.plan_only:
        values = build.plan(wanted)
        print(json.dumps(values, indent=1) if options.json else report.plan_text(values))
        return 0 if values["fits"] and values["clock_met"] is not False else 1
    if options.program:
        tools.need("openFPGALoader")
    with tools.ended_in_order(), _Stages(options.json) as progress:
        values, found = build.build(wanted, progress, force=options.force)
    if options.json:
        print(json.dumps(values | {"found": found}, indent=1))
    else:
        print(report.text(values))
        print(f"\n{report.message(values)}{' (found: built before)' if found else ''}"
              f"\nsee {wanted.output}")
    code = build.exit_code(values)
    if options.program:
        if values["bitstream"] is None:
            raise SpikeTicketError("--program: there is no bitstream; " + report.message(values))
        if not values["timing_met"]:
            raise SpikeTicketError("--program: the bitstream misses its clock and is not loaded")
        program(wanted.board.name, wanted.output / values["bitstream"])
    return code


@command
def main(arguments: Sequence[str] | None = None) -> int:
    return _run(parser().parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
