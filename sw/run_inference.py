"""Run a ticket on a board and check every result against the integer reference.

    python -m sw.run_inference                          # bundled ticket, images, simulated board
    python -m sw.run_inference --images 500 --json
    python -m sw.run_inference --ticket my.safetensors --data fashion-mnist --images 1000
    python -m sw.run_inference --board arty_a7 --port /dev/ttyUSB1
    python -m sw.run_inference --plot run.png

Exit code 0 if everything agrees, 1 if a logit or a spike differs from the reference, 2 for bad
input or a board that does not answer.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from hw.boards import BOARDS, DEFAULT_BOARD
from hw.config import CoreConfig
from hw.registers import DEFAULT_BAUD

from . import datasets, reference, ticket
from .compiler import compile_network
from .driver import Accelerator, load_words
from .errors import SpikeTicketError, command
from .network import INPUT
from .plan import recorded_activity
from .report import Checked, agrees, print_table, report
from .transport import Transport, open_transport

BUNDLED = Path(__file__).parents[1] / "bundled"
DEFAULT_TICKET = BUNDLED / "fmnist-scnn.safetensors"
DEFAULT_DATA = BUNDLED / "fashion-mnist-test500.npz"
DEFAULT_IMAGES = 500
DEFAULT_TRACED = 20
"""Images whose spikes are all read back; the others' logits are compared."""


def run(ticket_path: str, data: str, *, board: str = DEFAULT_BOARD, port: str | None = None,
        baud: int = DEFAULT_BAUD, images: int | None = None, traced: int = DEFAULT_TRACED,
        progress: bool = True, transport: Transport | None = None,
        config: CoreConfig | None = None) -> tuple[dict, Checked]:
    """Run and check; returns the report (JSON-serialisable) and what it was made from.

    images: how many of the data set's first images (None: DEFAULT_IMAGES, or all if fewer).
    traced: how many of these have every spike of every layer compared.
    transport, config: instead of the board's own; the transport is closed at the end.
    Raises SpikeTicketError for bad input or a board that does not answer.
    """
    found = ticket.load(ticket_path)
    loaded = datasets.for_network(found.network, data, limit=max(1, images or DEFAULT_IMAGES))
    loaded = loaded.first(min(DEFAULT_IMAGES, len(loaded)) if images is None else images)
    if traced < 0:
        raise SpikeTicketError(f"--traced {traced} is negative")
    network = found.network
    values = loaded.images
    config = config or BOARDS[board].config
    image = compile_network(network, config, recorded_activity(found))
    transport = transport or open_transport(board, port, baud, progress)
    with Accelerator(transport, config) as accelerator:
        with _bar(progress, "loading the ticket", load_words(image), "word") as bar:
            load_bytes = accelerator.load(image, bar.update)
        with _bar(progress, "running", len(values), "image") as bar:
            result = accelerator.infer(values, counters=True, progress=bar.update)
        checked = Checked(network, image, loaded, result, np.empty(0))
        with _bar(progress, "checking", len(values), "image") as bar:
            _check_logits(checked, values, bar)
        with _bar(progress, "comparing spikes", min(traced, len(values)), "image") as bar:
            for array in values[:traced]:
                _check_spikes(checked, accelerator, array)
                bar.update()
        name = transport.name
    return report(ticket_path, board, name, checked, baud, load_bytes), checked


def _bar(progress: bool, what: str, total: int, unit: str) -> tqdm:
    # None: no bar where standard error is not a terminal
    return tqdm(total=total, desc=what, unit=unit, disable=None if progress else True, leave=False)


def _check_logits(checked: Checked, values: np.ndarray, bar: tqdm) -> None:
    """Logits and work of the reference, a few images at a time to bound memory."""
    parts = []
    rates: dict[str, np.ndarray] = {}
    for first in range(0, len(values), 20):
        part = reference.run(checked.network, values[first:first + 20])
        parts.append(part.logits)
        for work in reference.sop(checked.network, part.spikes).values():
            checked.executed += work.executed
            checked.dense += work.dense
            checked.useful += work.useful
        for name, spikes in part.spikes.items():
            if name != INPUT:
                rates[name] = rates.get(name, 0) + spikes.mean(axis=(2, 3, 4)).sum(axis=1)
        bar.update(len(part.logits))
    checked.logits = np.concatenate(parts)
    checked.rates = {name: total / len(values) for name, total in rates.items()}


def _check_spikes(checked: Checked, accelerator: Accelerator, array: np.ndarray) -> None:
    """Compare every spike of every layer of one image, as the board stores them."""
    expected = reference.run(checked.network, array[None]).spikes
    for name, spikes in accelerator.trace(array):
        if name == INPUT:
            continue
        want = expected[name][:, 0, :, :spikes.shape[2], :spikes.shape[3]]
        checked.spikes += spikes.size
        checked.mismatches += int((spikes != want).sum())


def list_tickets() -> list[dict]:
    """The bundled tickets: file, network, weights, sparsity."""
    found = []
    for path in sorted(BUNDLED.glob("*.safetensors")):
        network = ticket.load(path).network
        found.append({"ticket": str(path), "network": network.name,
                      "timesteps": network.timesteps, "weights": network.weights_total,
                      "surviving": network.weights_surviving, "sparsity": network.sparsity})
    return found


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m sw.run_inference", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--ticket", metavar="FILE", default=str(DEFAULT_TICKET),
                        help="ticket to run (default: the bundled Fashion-MNIST one)")
    result.add_argument("--data", metavar="DATA", default=str(DEFAULT_DATA),
                        help="data set name or .npz pack (default: 500 bundled test images)")
    result.add_argument("--board", choices=sorted(BOARDS), default=DEFAULT_BOARD,
                        help="board to run on (default: %(default)s)")
    result.add_argument("--port", help="serial port of a live board, for example /dev/ttyUSB1")
    result.add_argument("--baud", type=int, default=DEFAULT_BAUD,
                        help="rate of the serial line (default: %(default)s); with the simulated "
                             "board only for the frames/s with the link")
    result.add_argument("--images", type=int, metavar="N",
                        help=f"images to run (default: {DEFAULT_IMAGES})")
    result.add_argument("--traced", type=int, metavar="N", default=DEFAULT_TRACED,
                        help="images of which every spike is compared (default: %(default)s)")
    result.add_argument("--json", action="store_true", help="print JSON instead of the table")
    result.add_argument("--plot", metavar="FILE", help="draw the run (.png, .svg or .pdf)")
    result.add_argument("--list", action="store_true", help="list the bundled tickets and end")
    return result


@command
def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if options.list:
        found = list_tickets()
        if options.json:
            print(json.dumps(found, indent=2))
        else:
            for item in found:
                print(f"{item['ticket']}  {item['network']}, T = {item['timesteps']}, "
                      f"{item['surviving']:,} of {item['weights']:,} weights "
                      f"({100 * item['sparsity']:.1f} % removed)")
        return 0
    if options.baud <= 0:
        raise SpikeTicketError(f"--baud {options.baud} is not a rate")
    if options.plot:
        from .plot import check_format
        check_format(options.plot)
    values, checked = run(
        options.ticket, options.data, board=options.board, port=options.port,
        baud=options.baud, images=options.images, traced=options.traced)
    if options.plot:
        from .plot import plot_run
        plot_run(options.plot, values, checked)
    if options.json:
        print(json.dumps(values, indent=2))
    else:
        print_table(values)
    return 0 if agrees(values) else 1


if __name__ == "__main__":
    sys.exit(main())
