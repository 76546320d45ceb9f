"""`spiketicket build`, which `python -m hw.build` is, too."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from hw.registers import DEFAULT_BAUD

from ..errors import BadInput
from .app import verb
from .options import Json, exclusive, flag, number, out_folder


def build(*, board: Annotated[str | None, Parameter(
              help="board to build for (--list shows them)")] = None,
          preset: Annotated[str | None, Parameter(
              help="core (default: the board's; --list shows them)")] = None,
          set: Annotated[list[str] | None, Parameter(
              help="change a parameter of the preset, NAME=N, for example engines=3 or "
                   "attention=false (may be repeated)")] = None,
          clock: Annotated[float | None, number(
              "clock of the core in MHz, through the PLL (default: the board's)", 0)] = None,
          baud: Annotated[int | None, number(
              f"UART rate after power-up (default: {DEFAULT_BAUD}; the host may change it at run "
              "time)", 1)] = None,
          ethernet: Annotated[bool, flag(
              "with Ethernet, where the board has a PHY (docs/ethernet.md)")] = False,
          toolchain: Annotated[str, Parameter(
              help="auto, trellis, vivado, open or archive")] = "auto",
          seed: Annotated[int | None, number("one placement seed", 1)] = None,
          seeds: Annotated[int | None, number(
              "place with seeds 1 to this, keep the best (default: 4 on ECP5, else 1)", 1,
              100)] = None,
          output: Annotated[Path | None, out_folder(
              "where results go (default: bitstreams/BOARD)")] = None,
          plan_only: Annotated[bool, flag(
              "say what would be built and whether it fits; build nothing")] = False,
          force: Annotated[bool, flag("build again what is there already")] = False,
          program: Annotated[bool, flag(
              "load the bitstream into the board with openFPGALoader")] = False,
          json: Json = False,
          listing: Annotated[bool, flag(
              "list boards and presets, and end", "--list")] = False) -> int:
    """Build a bitstream, or all that leads up to it, for a board.

    examples:
      spiketicket build --board ulx3s_85f  # finished .bit with a report
      spiketicket build --board arty_a7  # Vivado or the open flow, else an archive
      spiketicket build --board arty_a7 --plan-only  # fit, clock, files: seconds
      spiketicket build --board arty_a7 --ethernet  # UDP beside the UART
      spiketicket build --board ulx3s_85f --preset tiny --clock 50 --seeds 1
      spiketicket build --board ecpix5_85f --set engines=5 --set weight_words=4096 --baud 12000000
      spiketicket build --list

    Results go to bitstreams/BOARD/: report.json, report.txt, manifest.json,
    SHA256SUMS and the bitstream (or the archive). Exit code 0: what was asked for
    exists and meets its clock; 1: the plan does not fit, or its clock is above
    what such a core reached before; 2: bad input, a configuration that does not
    fit, a missing or failing program; 3: no bitstream, because the programs for
    it are missing (the archive was made); 4: the bitstream misses its clock, or
    the archive's estimate does.
    """
    from hw.build import listing as lists
    from hw.build import request, work

    if listing:
        lists.show(json)
        return 0
    if board is None:
        raise BadInput("--board is missing; --list shows the boards")
    exclusive(seed=seed, seeds=seeds)
    wanted = request.request(
        board, preset=preset, clock_mhz=clock, baud=baud, changes=_changes(set or []),
        toolchain=toolchain, output=output, ethernet=ethernet,
        seeds=(seed,) if seed is not None else tuple(range(1, seeds + 1)) if seeds else None)
    if plan_only:
        return work.plan(wanted, json)
    return work.make(wanted, json, force=force, load=program)


def _changes(options: list[str]) -> dict[str, int | bool]:
    changes = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals:
            raise BadInput(f"--set {option}: write NAME=N")
        try:
            changes[name] = value == "true" if value in ("true", "false") else int(value)
        except ValueError:
            raise BadInput(f"--set {option}: write NAME=N with a whole number N, or true or false; "
                           "for example --set engines=3") from None
    return changes


app = verb("build", build)
