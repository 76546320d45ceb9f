"""What sending ahead is worth: clock cycles for an image, one at a time and streamed.

    python -m sw.pace                                    # bundled ticket; 1, 3, 12 Mbaud
    python -m sw.pace --ticket nmnist-spikeformer --images 20 --json

On the simulated board, whose line takes and gives a byte whenever a UART would. `there`, `core` and
`back` are the cycles that input, run and logits take by themselves. One at a time, they add up; the
driver streams, and the longest sets the pace. The host's own time does not count.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from hw.boards import BOARDS

from . import bundled, ticket
from .board.driver import Accelerator
from .core import cores
from .data import datasets
from .errors import SpikeTicketError, command

BAUDS = (1_000_000, 3_000_000, 12_000_000)


def measure(name: str, images: int, bauds: Sequence[int] = BAUDS,
            progress: bool = False) -> list[dict]:
    """One row of cycles per image for each rate: there, core, back, one_at_a_time, streamed."""
    from sim.board import SimTransport  # only the simulated board needs the gateware

    found = ticket.load(bundled.find(name))
    values = datasets.for_network(found.network, bundled.data_for(found), limit=images).images
    values = values[np.arange(images) % len(values)]
    _, config = cores.choose(BOARDS["sim"], found.network)
    transport = SimTransport(config, progress=progress)
    rows = []
    with (Accelerator(transport, config) as board,
          tqdm(total=2 * len(bauds) * images, unit="image", leave=False,
               disable=None if progress else True) as bar):
        board.load(found)
        for baud in bauds:
            transport.set_baud(baud)
            spent = {}
            for key, ahead in (("one_at_a_time", 0), ("streamed", 8)):
                began = transport.cycles
                results = []
                for result in board.stream(values, ahead=ahead):
                    results.append(result)
                    bar.update()
                spent[key] = (transport.cycles - began) / images
            byte = 10 * config.clock_hz / baud
            rows.append({
                "ticket": name, "baud": baud,
                "there": float(np.mean([byte * result.request_bytes for result in results])),
                "core": float(np.mean([result.cycles for result in results])),
                "back": float(np.mean([byte * result.reply_bytes for result in results])),
                **spent})
    return rows


@command
def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m sw.pace", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ticket", default=bundled.DEFAULT, metavar="NAME",
                        help="a bundled ticket (default: %(default)s)")
    parser.add_argument("--images", type=int, default=6, metavar="N",
                        help="images of each measurement (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    if not 1 <= options.images <= 10_000:
        raise SpikeTicketError(f"--images {options.images} is outside 1..10000")
    rows = measure(options.ticket, options.images, progress=True)
    if options.json:
        print(json.dumps(rows, indent=1))
        return 0
    names = ("there", "core", "back", "one_at_a_time", "streamed")
    table = Table("baud", *names, title=f"{options.ticket}: cycles for an image, "
                  f"{options.images} images", title_justify="left")
    for row in rows:
        table.add_row(f"{row['baud']:,}", *(f"{row[name]:,.0f}" for name in names))
    Console(soft_wrap=True).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
