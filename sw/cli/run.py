"""`spiketicket run`, which `python -m sw.run_inference` is, too."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from hw.boards import DEFAULT_BOARD

from .. import bundled
from ..errors import BadInput
from .app import verb, written
from .classify import live
from .options import Baud, Board, Data, Json, Masks, Port, Preset, Ticket, flag, number, put

IMAGES = 500
TRACED = 20
"""Images whose spikes are all read back; the others' logits are compared."""


def run(ticket: Ticket = bundled.DEFAULT, *, data: Data = None, board: Board = DEFAULT_BOARD,
        preset: Preset = None, port: Port = None, baud: Baud = None,
        images: Annotated[int | None, number(f"images to run (default: {IMAGES})", 1)] = None,
        traced: Annotated[int, number("images of which every spike is compared, or with --input "
                                      "the logits", 0)] = TRACED,
        masks: Masks = None, json: Json = False,
        report: Annotated[str | None, Parameter(
            help="write the run as one page that needs no network (.html)")] = None,
        plot: Annotated[str | None, Parameter(help="draw the run (.png, .svg or .pdf)")] = None,
        input: Annotated[str | None, Parameter(
            allow_leading_hyphen=True, help="live mode, as spiketicket classify: labels of an "
            "image folder, an event file, or frames on standard input (-); compares no "
            "spikes")] = None,
        window: Annotated[float | None, number(
            "live mode: cut event files into inputs of so many ms", 0)] = None,
        ahead: Annotated[int, number("live mode: inputs sent before the first result is there (0: "
                                     "the lowest latency)", 0)] = 0,
        listing: Annotated[bool, flag(
            "list the bundled tickets and end", "--list")] = False) -> int:
    """Run a ticket on a board and check every result against the integer reference.

    examples:
      spiketicket run  # bundled ticket, images, simulated board
      spiketicket run --list
      spiketicket run fmnist-spikeformer --images 50 --json
      spiketicket run my.safetensors --data fashion-mnist --images 1000
      spiketicket run --board arty_a7 --port /dev/ttyUSB1
      spiketicket run --report run.html  # one page to look at, see docs/report.md
      spiketicket run --plot run.png

    Exit code 0 if everything agrees, 1 if a logit or a spike differs from the
    reference, 2 for bad input or a board that does not answer.
    """
    from .. import run_inference
    from ..report import print_table, print_tickets

    if listing:
        put(bundled.describe(), json, print_tickets)
        return 0
    if input is not None:
        for name, value in (("data", data), ("plot", plot), ("report", report)):
            if value is not None:
                raise BadInput(f"--{name} does not go with --input, which only prints labels")
        return live(ticket, input, board=board, preset=preset, port=port, baud=baud,
                    images=images, checked=traced, masks=masks, window=window, ahead=ahead,
                    json=json)
    if plot:
        from ..plots.run import check_format
        check_format(plot)
    if report:
        from ..html_report import check_name
        check_name(report)
    found, checked = run_inference.run(ticket, data, board=board, preset=preset, port=port,
                                       baud=baud, images=images, traced=traced, masks=masks)
    if plot:
        from ..plots.run import plot_run
        plot_run(plot, found, checked)
    if report:
        from ..html_report import write
        write(report, found, checked, written())
    put(found.as_dict(), json, lambda _: print_table(found))
    return 0 if found.agrees else 1


app = verb("run", run)
