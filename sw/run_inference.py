"""Run a ticket on a board and check every result against the integer reference.

    python -m sw.run_inference                          # bundled ticket, images, simulated board
    python -m sw.run_inference --list
    python -m sw.run_inference --ticket fmnist-spikeformer --images 50 --json
    python -m sw.run_inference --ticket my.safetensors --data fashion-mnist --images 1000
    python -m sw.run_inference --board arty_a7 --port /dev/ttyUSB1
    python -m sw.run_inference --report run.html        # one page to look at, see docs/report.md
    python -m sw.run_inference --plot run.png
    python -m sw.run_inference --input photos/          # labels as they come, see docs/report.md

Exit code 0 if everything agrees, 1 if a logit or a spike differs from the reference, 2 for bad
input or a board that does not answer.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from hw.boards import BOARDS, DEFAULT_BOARD
from hw.config import PRESETS, CoreConfig

from . import bundled, ticket
from .board import throughput
from .board.connect import connect
from .board.driver import Accelerator
from .board.jobs import load_words
from .board.transport import Transport
from .data import datasets
from .errors import SpikeTicketError, command
from .integer import reference
from .integer.gate import check_masks, read_masks
from .integer.network import INPUT, Layer
from .report import TRACES, Checked, agrees, print_table, print_tickets, report

DEFAULT_TICKET = bundled.find(bundled.DEFAULT)
DEFAULT_DATA = bundled.FOLDER / bundled.SAMPLES["fashion-mnist"]
DEFAULT_IMAGES = 500
DEFAULT_TRACED = 20
"""Images whose spikes are all read back; the others' logits are compared."""


def run(ticket_path: str, data: str | None = None, *, board: str = DEFAULT_BOARD,
        preset: str | None = None, port: str | None = None, baud: int | None = None,
        images: int | None = None, traced: int = DEFAULT_TRACED, masks: str | None = None,
        progress: bool = True, transport: Transport | None = None,
        config: CoreConfig | None = None) -> tuple[dict, Checked]:
    """Run and check; returns the report (JSON-serialisable) and what it was made from.

    ticket_path: a file or the name of a bundled ticket. data: as of `sw.data.datasets.load`; None:
    the
        bundled samples that suit the ticket.
    board, preset, port, baud: as of `sw.board.connect.connect`.
    masks: .npy file of kept tokens, bool [images, N], for a patch gate that takes them.
    images: how many of the data set's first images (None: DEFAULT_IMAGES, or all if fewer).
    traced: how many of these have every spike of every layer compared.
    transport, config: instead of the board's own; the transport is closed at the end.
    Raises SpikeTicketError for bad input or a board that does not answer.
    """
    found = ticket.load(bundled.find(ticket_path))
    data = data or bundled.data_for(found)
    loaded = datasets.for_network(found.network, data, limit=max(1, images or DEFAULT_IMAGES))
    loaded = loaded.first(min(DEFAULT_IMAGES, len(loaded)) if images is None else images)
    if traced < 0:
        raise SpikeTicketError(f"--traced {traced} is negative")
    network = found.network
    values = loaded.images
    chosen = check_masks(network.gates,
                         None if masks is None else read_masks(masks)[:len(values)], len(values))
    to = connect(found, board=board, preset=preset, port=port, baud=baud, progress=progress,
                 transport=transport, config=config)
    image = to.image
    with to.accelerator as accelerator:
        with _bar(progress, "loading the ticket", load_words(image), "word") as bar:
            load_bytes = accelerator.load(image, bar.update)
        with _bar(progress, "running", len(values), "image") as bar:
            began = time.perf_counter()
            result = accelerator.infer(values, chosen, counters=True, progress=bar.update)
            seconds = time.perf_counter() - began
        checked = Checked(network, image, loaded, result, np.empty(0), masks=chosen,
                          identity=accelerator.identify(), host_seconds=seconds)
        with _bar(progress, "checking", len(values), "image") as bar:
            _check_logits(checked, values, chosen, bar)
        with _bar(progress, "comparing spikes", min(traced, len(values)), "image") as bar:
            for index in range(min(traced, len(values))):
                one = slice(index, index + 1)
                _check_spikes(checked, accelerator, values[one],
                              None if chosen is None else chosen[one])
                bar.update()
        few = slice(0, throughput.IMAGES)
        checked.link = throughput.measure(accelerator, values[few],
                                          throughput.rates(to.board, to.baud),
                                          None if chosen is None else chosen[few])
        name = accelerator.transport.name
    return report(ticket_path, to.board, to.preset, name, checked, to.baud, load_bytes), checked


def _bar(progress: bool, what: str, total: int, unit: str) -> tqdm:
    # None: no bar where standard error is not a terminal
    return tqdm(total=total, desc=what, unit=unit, disable=None if progress else True, leave=False)


def _check_logits(checked: Checked, values: np.ndarray, masks: np.ndarray | None,
                  bar: tqdm) -> None:
    """Logits and work of the reference, a few images at a time to bound memory."""
    parts, kept = [], []
    rates: dict[str, np.ndarray] = {}
    attention = {layer.name for layer in checked.network.layers
                 if isinstance(layer, Layer) and layer.attention is not None}
    for first in range(0, len(values), 20):
        some = slice(first, first + 20)
        part = reference.run(checked.network, values[some],
                             masks=None if masks is None else masks[some])
        parts.append(part.logits)
        kept += list(part.kept.values())[:1]
        for name, work in reference.sop(checked.network, part.spikes).items():
            checked.executed += work.executed
            checked.dense += work.dense
            # What attention counts of k and v takes no accumulate slot.
            checked.useful += 0 if name in attention else work.useful
        for name, spikes in part.spikes.items():
            if name != INPUT:
                rates[name] = rates.get(name, 0) + spikes.mean(axis=(2, 3, 4)).sum(axis=1)
        bar.update(len(part.logits))
    checked.logits = np.concatenate(parts)
    checked.kept = np.concatenate(kept) if kept else None
    checked.rates = {name: total / len(values) for name, total in rates.items()}


def _check_spikes(checked: Checked, accelerator: Accelerator, values: np.ndarray,
                  masks: np.ndarray | None) -> None:
    """Compare every spike of every layer of one image, as the board stores them, and what the patch
    gate keeps."""
    expected = reference.run(checked.network, values, masks=masks)
    arguments = [values[0]] if masks is None else [values[0], masks[0]]
    maps: dict[str, np.ndarray] = {}
    for name, spikes in accelerator.trace(*arguments):
        if name == INPUT:
            continue
        maps[name] = spikes
        want = expected.spikes[name][:, 0, :, :spikes.shape[2], :spikes.shape[3]]
        checked.spikes += spikes.size
        checked.mismatches += int((spikes != want).sum())
    for kept in expected.kept.values():
        found = np.flatnonzero(accelerator.kept())
        checked.mismatches += len(np.setxor1d(found, kept[0]))
    if len(checked.traces) < TRACES:
        checked.traces.append(maps)


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m sw.run_inference", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--ticket", metavar="NAME", default=bundled.DEFAULT,
                        help="a bundled ticket (see --list) or a file (default: %(default)s)")
    result.add_argument("--data", metavar="DATA",
                        help="data set name, .npz pack or folder of event files (default: bundled "
                             "test samples that suit the ticket)")
    result.add_argument("--masks", metavar="FILE",
                        help="patches to keep, .npy with bool [images, patches], for a ticket "
                             "whose patch gate takes them from the host")
    result.add_argument("--board", choices=sorted(BOARDS), default=DEFAULT_BOARD,
                        help="board to run on (default: %(default)s)")
    result.add_argument("--preset", choices=sorted(PRESETS),
                        help="core on it (default: what a live board says it is; of the simulated "
                             "one the first that has what the ticket needs, such as attention)")
    result.add_argument("--port", help="serial port of a live board, for example /dev/ttyUSB1, or "
                                       "auto (default: wherever --board answers)")
    result.add_argument("--baud", type=int, metavar="RATE",
                        help="highest rate of the line to try, or of the simulated board to "
                             "measure frames/s at (default: what the board's USB bridge takes)")
    result.add_argument("--images", type=int, metavar="N",
                        help=f"images to run (default: {DEFAULT_IMAGES})")
    result.add_argument("--traced", type=int, metavar="N", default=DEFAULT_TRACED,
                        help="images of which every spike is compared, or with --input the logits "
                             "(default: %(default)s)")
    result.add_argument("--json", action="store_true", help="print JSON instead of the table")
    result.add_argument("--report", metavar="FILE",
                        help="write the run as one page that needs no network (.html)")
    result.add_argument("--plot", metavar="FILE", help="draw the run (.png, .svg or .pdf)")
    result.add_argument("--input", metavar="SOURCE",
                        help="live mode: labels of an image folder, an event file, or frames on "
                             "standard input (-), as they come; compares no spikes")
    result.add_argument("--window", type=float, metavar="MS",
                        help="live mode: cut event files into inputs of this length")
    result.add_argument("--ahead", type=int, metavar="N", default=0,
                        help="live mode: inputs sent before the first result is there (default: "
                             "%(default)s, the lowest latency)")
    result.add_argument("--list", action="store_true", help="list the bundled tickets and end")
    return result


def _live(options: argparse.Namespace) -> int:
    """Run `sw.live`; exit code 1 if a compared logit differs."""
    from .live import run_live
    for name in ("data", "plot", "report"):
        if getattr(options, name) is not None:
            raise SpikeTicketError(f"--{name} does not go with --input, which only prints labels")
    if options.images is not None and options.images < 1:
        raise SpikeTicketError(f"--images {options.images} is not a number of inputs")
    tally = run_live(
        options.ticket, options.input, board=options.board, port=options.port, baud=options.baud,
        preset=options.preset, images=options.images, checked=options.traced,
        masks=None if options.masks is None else read_masks(options.masks),
        window_ms=options.window, ahead=options.ahead, as_json=options.json)
    return 1 if tally.different else 0


def _written(arguments: Sequence[str] | None) -> str:
    """The command as a user would type it."""
    return shlex.join(["python", "-m", "sw.run_inference",
                       *(sys.argv[1:] if arguments is None else arguments)])


@command
def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if options.list:
        found = bundled.describe()
        if options.json:
            print(json.dumps(found, indent=2))
        else:
            print_tickets(found)
        return 0
    if options.baud is not None and options.baud <= 0:
        raise SpikeTicketError(f"--baud {options.baud} is not a rate")
    if options.input is not None:
        return _live(options)
    if options.plot:
        from .plots.run import check_format
        check_format(options.plot)
    if options.report:
        from .html_report import check_name
        check_name(options.report)
    values, checked = run(
        options.ticket, options.data, board=options.board, preset=options.preset,
        port=options.port, baud=options.baud, images=options.images, traced=options.traced,
        masks=options.masks)
    if options.plot:
        from .plots.run import plot_run
        plot_run(options.plot, values, checked)
    if options.report:
        from .html_report import write
        write(options.report, values, checked, _written(arguments))
    if options.json:
        print(json.dumps(values, indent=2))
    else:
        print_table(values)
    return 0 if agrees(values) else 1


if __name__ == "__main__":
    sys.exit(main())
