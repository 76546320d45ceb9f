"""A board at work, as a live view of its counters (`spiketicket look monitor`).

It drives the run that it shows (a serial port has one owner): the ticket's samples over and over,
until there were enough or Ctrl-C. Frames/s of the core are counted cycles at the board's clock;
those on the host are what this computer saw, with the simulated board the speed of the simulation.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator

import numpy as np
from rich.console import Console
from rich.live import Live

from . import bundled, ticket
from .board.connect import Connection, connect
from .board.monitor_view import view
from .board.readings import Readings
from .data import datasets
from .errors import SpikeTicketError

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


def run(name: str, data: str | None = None, masks: np.ndarray | None = None, *,
        images: int | None = None, interval: float = DEFAULT_INTERVAL, once: bool = False,
        as_json: bool = False, **board) -> None:
    """Show a ticket's run: a live view, its end (`once`), or JSON objects.

    board: of `sw.board.connect.connect`; else as of `watch`. Raises SpikeTicketError.
    """
    images = images or (DEFAULT_ONCE if once else None)
    found = ticket.load(bundled.find(name))
    samples = datasets.for_network(found.network, data or bundled.data_for(found), limit=images)
    if masks is not None and len(masks) < len(samples):
        samples = samples.first(max(1, len(masks)))
    to = connect(found, progress=not as_json, **board)
    with to.accelerator:
        shown = watch(to, samples, masks, images=images, interval=interval)
        _show(shown, once=once, as_json=as_json)


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
                    live.update(view(last, *console.size), refresh=True)
    except KeyboardInterrupt:               # the usual end of a view without one
        pass
    if last is None:
        raise SpikeTicketError("interrupted before the first reading")
    if not as_json:
        console.print(view(last, console.width))
    elif once:
        print(json.dumps(last, indent=2))
