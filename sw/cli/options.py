"""Options that several verbs take, each written once: its name, help, choices and checks.

    def plan(ticket: Ticket = bundled.DEFAULT, *, board: Board = DEFAULT_BOARD, json: Json = False)

A parameter's name is the option's; `ticket` may be given with or without `--ticket`.
"""

from __future__ import annotations

import json as jsons
import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from hw.boards import BOARDS
from hw.config import PRESETS

from .. import bundled, outputs
from ..errors import BadInput


def one_of(names) -> object:
    """The type of a choice from names that are known when the program starts."""
    return Literal[tuple(names)]


def within(low: float, high: float | None = None) -> Callable[[object, object], None]:
    """A validator of numbers: at least `low`, at most `high` (None: no such bound)."""
    bad = f"below {low:g}" if high is None else f"outside {low:g}..{high:g}"

    def check(_: object, value: object) -> None:
        for one in value if isinstance(value, list) else [value]:
            if one is not None and not low <= one <= (math.inf if high is None else high):
                raise ValueError(f"{one:g} is {bad}")
    return check


def number(help: str, low: float, high: float | None = None) -> Parameter:
    """An option that takes a number."""
    return Parameter(help=help, validator=within(low, high), allow_leading_hyphen=True)


def flag(help: str, *names: str) -> Parameter:
    """An option that takes no value."""
    return Parameter(names or None, help=help, show_default=False)


def _folder(_: object, value: Path | None) -> None:
    if value is not None:
        outputs.folder(value)


def _file(_: object, value: Path | None) -> None:
    if value is not None:
        outputs.file(value).parent.mkdir(parents=True, exist_ok=True)


def out_file(help: str) -> Parameter:
    """An option that names a file to write: its folder is made and tried before any work."""
    return Parameter(help=help, validator=_file)


def out_folder(help: str) -> Parameter:
    """An option that names a folder to write to, which is tried before any work."""
    return Parameter(help=help, validator=_folder)


TICKET = Parameter(help="a bundled ticket (spiketicket run --list), or a file",
                   completer=lambda _: bundled.names())
Ticket = Annotated[str, TICKET]
Tickets = Annotated[list[str], TICKET]

BOARD_HELP = "board; its core is taken"
Board = Annotated[one_of(sorted(BOARDS)), Parameter(help=BOARD_HELP)]
BUILDABLE = one_of(sorted(name for name, board in BOARDS.items() if board.part))
Preset = Annotated[one_of(sorted(PRESETS)) | None, Parameter(
    help="another core (default: what a live board says it is, else the board's first that has "
         "what the ticket needs, such as attention)")]
Port = Annotated[str | None, Parameter(
    help="where a live board is: a serial port, for example /dev/ttyUSB1, auto, or "
         "udp://192.168.1.50 (default: wherever --board answers)")]
Baud = Annotated[int | None, number(
    "highest rate of the line to try, or of the simulated board to measure frames/s at (default: "
    "what the board's USB bridge takes)", 1)]

DATA = ("a data set's name, .npz or .npy, a folder of class folders or of recordings, with options "
        "behind a colon (docs/data.md)")
Data = Annotated[str | None, Parameter(
    help=f"{DATA}; default: bundled samples that suit the ticket")]
DataRoot = Annotated[str | None, Parameter(help="folder that data sets are looked for in")]
Masks = Annotated[str | None, Parameter(
    help="patches to keep, .npy with bool [images, patches], for a ticket whose patch gate takes "
         "them from the host")]

Json = Annotated[bool, flag("print JSON instead of text")]
Seed = Annotated[int, number("of all random numbers", 0)]
Jobs = Annotated[int, number("processes at a time", 1)]
Listing = Annotated[bool, flag("say what there is, do nothing", "--list")]


def checked_masks(path: str | None):
    """The masks in a file, None for none."""
    from ..integer.gate import read_masks
    return None if path is None else read_masks(path)


def exclusive(**options: object) -> None:
    """Raise BadInput where more than one of these options is given (is neither None nor False)."""
    given = [name for name, value in options.items() if value not in (None, False)]
    if len(given) > 1:
        raise BadInput(" and ".join(f"--{name.replace('_', '-')}" for name in given)
                       + " exclude each other")


def put(values: object, json: bool, show: Callable[[object], None]) -> None:
    """Print what a verb found: as JSON, or as `show` does for people."""
    print(jsons.dumps(values, indent=2)) if json else show(values)
