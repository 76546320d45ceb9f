"""`spiketicket export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from hw.boards import DEFAULT_BOARD

from .app import verb
from .options import (
    Board,
    Data,
    DataRoot,
    Json,
    Preset,
    Ticket,
    number,
    out_file,
    put,
)


def export(ticket: Ticket, *,
           out: Annotated[Path | None, out_file(
               "the image (default: image.npz in a search's folder)")] = None,
           board: Board = DEFAULT_BOARD, preset: Preset = None,
           data: Annotated[str | None, Parameter(
               help="samples to compare on (default: the ticket's data set; noise: random "
                    "ones)")] = None,
           data_root: DataRoot = None,
           samples: Annotated[int, number("samples to compare on", 1)] = 2,
           json: Json = False) -> None:
    """Compile a ticket, or that of a search's folder, for a board's core and prove it exact.

    On samples of its data set the integer SpikingJelly network (what its accuracy
    was measured by), the reference (integer arithmetic in NumPy) and the core's
    machine model, running the compiled image, must give the same spikes in every
    map of every timestep, and the same logits. Then the image is written:
    everything that a driver sends to a board.

    examples:
      spiketicket export runs/a  # the folder of a search -> runs/a/image.npz
      spiketicket export fmnist-spikeformer --board ulx3s_85f --samples 4 --out image.npz
      spiketicket export runs/a/ticket.safetensors --preset a100tf --data noise --json
    """
    from .. import export as exports
    result = exports.export(ticket, out, board=board, preset=preset, data=data,
                            data_root=data_root, samples=samples)
    put(result, json, exports.show)


app = verb("export", export)


@app.command
def flat(ticket: Ticket, *,
         out: Annotated[Path, out_file("text file to write")],
         board: Board = DEFAULT_BOARD, preset: Preset = None,
         inputs: Annotated[int, number("also write so many inputs and their logits", 0)] = 0,
         data: Data = None) -> None:
    """The compiled network as a plain text file, for hosts in other languages.

    The file holds what docs/link.md ("What to write") tells of; `sw.flat_image`
    has its grammar. --inputs also writes OUT.inputs (bytes, one input after
    another, in C order) and OUT.logits, the reference's logits of each, a line
    for each input.

    examples:
      spiketicket export flat fmnist-scnn --out scnn.txt --inputs 5
      spiketicket export flat my.safetensors --board ulx3s_85f --out my.txt
    """
    from .. import flat_image
    print(flat_image.export(ticket, out, board=board, preset=preset, inputs=inputs, data=data))
