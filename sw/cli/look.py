"""`spiketicket look`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from hw.boards import DEFAULT_BOARD

from .. import bundled
from .app import verb
from .options import (
    DATA,
    TICKET,
    Baud,
    Board,
    Data,
    DataRoot,
    Json,
    Masks,
    Port,
    Preset,
    Ticket,
    checked_masks,
    flag,
    number,
    out_folder,
    put,
)

app = verb("look")


@app.command
def monitor(ticket: Ticket = bundled.DEFAULT, *, data: Data = None, masks: Masks = None,
            images: Annotated[int | None, number(
                "inputs to run (default: until Ctrl-C; with --once 20)", 1)] = None,
            board: Board = DEFAULT_BOARD, preset: Preset = None, port: Port = None,
            baud: Baud = None,
            interval: Annotated[float, number("seconds from one view to the next", 0, 3600)] = 0.5,
            once: Annotated[bool, flag("show the end of the run only")] = False,
            json: Annotated[bool, flag(
                "a JSON object a line instead of the view")] = False) -> None:
    """A board at work, as a live view of its counters.

    examples:
      spiketicket look monitor  # bundled ticket, simulated board
      spiketicket look monitor --port /dev/ttyUSB1 --images 10000
      spiketicket look monitor --images 20 --once --json  # for scripts: one JSON object

    It drives the run that it shows (a serial port has one owner): the ticket's
    samples over and over. Frames/s of the core are counted cycles at the board's
    clock; those on the host are what this computer saw, with the simulated board
    the speed of the simulation.
    """
    from .. import monitor as monitors
    monitors.run(ticket, data, checked_masks(masks), images=images, interval=interval, once=once,
                 as_json=json, board=board, preset=preset, port=port, baud=baud)


@app.command
def analysis(tickets: Annotated[list[str], Parameter(
                 help="ticket files, bundled tickets or folders of searches",
                 completer=TICKET.completer)], *,
             data: Annotated[str | None, Parameter(help=f"{DATA}; default: the ticket's")] = None,
             data_root: DataRoot = None,
             images: Annotated[int, number("test images (0: only what needs none)", 0)] = 200,
             out: Annotated[Path | None, out_folder(
                 "folder for analysis.json and the pictures, as SVG")] = None,
             json: Json = False) -> None:
    """What tickets are made of: sparsity, spikes, operations and energy by layer, kept patches,
    and whether two searches found the same ticket.

    On the images of its own data set, for every ticket: sparsity of each layer
    and of all; spike rate and active neurons; synaptic operations per image
    (executed, through all weights as SpikingJelly's SynOpCounter counts them,
    dense); their analytic energy; how often each patch is kept. Between tickets
    of the same shape: survivors of both over survivors of either, beside what two
    random masks would share.

    examples:
      spiketicket look analysis fmnist-scnn --data fashion-mnist
      spiketicket look analysis runs/seed0 runs/seed1 runs/seed2 --out runs/analysis
      spiketicket look analysis runs/*/ticket.safetensors --images 0 --json  # masks only, no data
    """
    from .. import analysis as analyses
    result = analyses.analyse(analyses.open_subjects(tickets), data, data_root, images)
    if out:
        from ..plots.analysis import write_all
        for path in write_all(result, out):
            print(f"wrote {path}", file=sys.stderr)
    put(result, json, analyses.show)


@app.command
def recording(file: Annotated[Path, Parameter(help="recording to look at")], *,
              json: Json = False) -> None:
    """What a recording of a session with a board holds (docs/driver.md).

    example: spiketicket look recording tests/recordings/tiny.jsonl
    """
    from .. import replay
    put(replay.describe(file), json, lambda found: print(
        *(f"{key:<12} {value}" for key, value in found.items()), sep="\n"))


@app.command
def results(*, collect: Annotated[Path | None, Parameter(
                help="folder of the sweeps' folders: read finished sweeps, write tables and plots "
                     "first")] = None,
            docs: Annotated[Path, Parameter(help="folder of the page")] = Path("docs"),
            check: Annotated[bool, flag(
                "write nothing; exit code 1 if the page is not what the tables "
                     "give")] = False) -> int:
    """The results page: the papers' tables beside what was run here.

    Figures come from DOCS/results/*.csv, words from DOCS/results/template.md;
    nothing of ours is typed by hand.

    examples:
      spiketicket look results  # docs/results.md from the stored tables
      spiketicket look results --check
      spiketicket look results --collect runs/sweeps  # from runs/sweeps/NAME, for
                                                        # docs/sweeps/NAME.yaml
    """
    from ..results import run
    return run.run(docs, collect, check)
