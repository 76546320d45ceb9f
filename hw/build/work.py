"""What `spiketicket build` does with a checked request: plan, build, load into the board."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from sw.errors import SpikeTicketError

from . import build, report, tools
from .request import Request


def plan(wanted: Request, as_json: bool) -> int:
    """Say what would be built and whether it fits; the exit code."""
    values = build.plan(wanted)
    print(json.dumps(values, indent=1) if as_json else report.plan_text(values))
    return 0 if values["fits"] and values["clock_met"] is not False else 1


def make(wanted: Request, as_json: bool, *, force: bool = False, load: bool = False) -> int:
    """Build, print the report, load it into the board if so wanted; the exit code."""
    if load:
        tools.need("openFPGALoader")
    with tools.ended_in_order(), _Stages(as_json) as progress:
        values, found = build.build(wanted, progress, force=force)
    if as_json:
        print(json.dumps(values | {"found": found}, indent=1))
    else:
        print(report.text(values))
        print(f"\n{report.message(values)}{' (found: built before)' if found else ''}"
              f"\nsee {wanted.output}")
    if load:
        if values["bitstream"] is None:
            raise SpikeTicketError("--program: there is no bitstream; " + report.message(values))
        if not values["timing_met"]:
            raise SpikeTicketError("--program: the bitstream misses its clock and is not loaded")
        program(wanted.board.name, wanted.output / values["bitstream"])
    return build.exit_code(values)


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
