"""A board at work, as a live view of its counters.

    python -m sw.monitor                                    # bundled ticket, simulated board
    python -m sw.monitor --ticket fmnist-spikeformer
    python -m sw.monitor --port /dev/ttyUSB1 --images 10000
    python -m sw.monitor --images 20 --once --json          # for scripts: one JSON object

It drives the run that it shows (a serial port has one owner): the ticket's samples over and over,
until --images or Ctrl-C. Frames/s of the core are counted cycles at the board's clock; those on the
host are what this computer saw, with the simulated board the speed of the simulation.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.live import Live

from hw.boards import BOARDS, DEFAULT_BOARD
from hw.config import PRESETS

from . import bundled, ticket
from .board.connect import Connection, connect
from .board.monitor_view import view
from .board.readings import Readings
from .data import datasets
from .errors import SpikeTicketError, command
from .integer.gate import read_masks

DEFAULT_ONCE = 20
"""Inputs of `--once` where `--images` does not say."""
DEFAULT_INTERVAL = 0.5


def watch(to: Connection, samples: datasets.Images, masks=None, *, images: int | None = None,
          interval: float = DEFAULT_INTERVAL) -> Iterator[dict]:
    """Load the ticket, run samples over and over, yield the readings now and then.

    images: inputs in all; None: without end. interval: seconds from one yield to the next (a slow
    input takes longer); the last readings are always yielded. masks: bool [B, N], for a gate of
    mode "host". Raises SpikeTicketError.
    """
    board = to.accelerator
    board.load(to.image)
    readings = Readings(to)
    order = itertools.cycle(range(len(samples)))
    if images is not None:
        order = itertools.islice(order, images)
    asked, chosen, known = itertools.tee(order, 3)
    results = board.stream((samples.images[i] for i in asked),
                           None if masks is None else (masks[i] for i in chosen),
                           counters=True, ahead=3)
    due = time.monotonic() + interval
    for index, result in zip(known, results, strict=False):
        readings.add(result, int(samples.labels[index]))
        if time.monotonic() >= due:
            readings.ask()
            yield readings.values()
            due = time.monotonic() + interval
    readings.ask()
    yield readings.values()


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m sw.monitor", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--ticket", metavar="NAME", default=bundled.DEFAULT,
                        help="a bundled ticket or a file (default: %(default)s)")
    result.add_argument("--data", metavar="DATA",
                        help="samples, as of sw.run_inference (default: bundled ones that suit)")
    result.add_argument("--masks", metavar="FILE",
                        help="patches to keep, .npy with bool [images, patches], for a ticket "
                             "whose patch gate takes them from the host")
    result.add_argument("--images", type=int, metavar="N",
                        help="inputs to run (default: until Ctrl-C; with --once "
                             f"{DEFAULT_ONCE})")
    result.add_argument("--board", choices=sorted(BOARDS), default=DEFAULT_BOARD,
                        help="board (default: %(default)s)")
    result.add_argument("--preset", choices=sorted(PRESETS), help="core on it")
    result.add_argument("--port", help="serial port of a live board, or auto")
    result.add_argument("--baud", type=int, metavar="RATE",
                        help="highest rate of a live board's line to try (default: what its USB "
                             "bridge takes)")
    result.add_argument("--interval", type=float, default=DEFAULT_INTERVAL, metavar="S",
                        help="seconds from one view to the next (default: %(default)s)")
    result.add_argument("--once", action="store_true", help="show the end of the run only")
    result.add_argument("--json", action="store_true",
                        help="a JSON object a line instead of the view")
    return result


@command
def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if options.images is not None and options.images < 1:
        raise SpikeTicketError(f"--images {options.images} is not a number of inputs")
    if options.baud is not None and options.baud <= 0:
        raise SpikeTicketError(f"--baud {options.baud} is not a rate")
    if not 0 <= options.interval <= 3600:
        raise SpikeTicketError(f"--interval {options.interval:g} is outside 0..3600 seconds")
    images = options.images or (DEFAULT_ONCE if options.once else None)
    found = ticket.load(bundled.find(options.ticket))
    samples = datasets.for_network(found.network, options.data or bundled.data_for(found),
                                   limit=images)
    masks = None if options.masks is None else read_masks(options.masks)
    if masks is not None and len(masks) < len(samples):
        samples = samples.first(max(1, len(masks)))
    to = connect(found, board=options.board, preset=options.preset, port=options.port,
                 baud=options.baud, progress=not options.json)
    with to.accelerator:
        shown = watch(to, samples, masks, images=images, interval=options.interval)
        _show(shown, once=options.once, as_json=options.json)
    return 0


def _show(shown: Iterator[dict], once: bool, as_json: bool) -> None:
    """Print or draw readings until there are no more, or Ctrl-C."""
    last = None
    console = Console(highlight=False)
    try:
        if once or as_json:
            for last in shown:
                if not once:
                    print(json.dumps(last), flush=True)
        else:
            with Live(console=console, auto_refresh=False, transient=True) as live:
                for last in shown:
                    live.update(view(last), refresh=True)
    except KeyboardInterrupt:               # the usual end of a view without one
        pass
    if last is None:
        raise SpikeTicketError("interrupted before the first reading")
    if not as_json:
        console.print(view(last))
    elif once:
        print(json.dumps(last, indent=2))


if __name__ == "__main__":
    sys.exit(main())
