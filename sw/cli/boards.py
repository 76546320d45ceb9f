"""`spiketicket boards`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from cyclopts import Parameter

from .app import verb
from .options import Json, Listing, put


def boards(*, port: Annotated[list[str] | None, Parameter(
               help="ask at this port, whatever its USB bridge is (may be repeated)")] = None,
           listing: Listing = False,
           json: Json = False) -> int:
    """Boards on this computer's serial ports.

    examples:
      spiketicket boards  # ports of supported boards, with what each says it is
      spiketicket boards --list       # ports only; none is opened
      spiketicket boards --port /dev/ttyUSB1

    A port is asked only if its USB bridge is that of a supported board (or it is
    named): opening a port sends a break and a few bytes to whatever is behind it.
    Exit code 0 if a board answered (with --list: if there is a port), 1 if none,
    2 for bad input.
    """
    from .. import ports
    answers = [ports.Answer(one) if listing else ports.ask(one) for one in ports.chosen(port)]
    put([asdict(answer) for answer in answers], json, lambda _: ports.print_answers(answers))
    return 0 if any(listing or not answer.trouble for answer in answers) else 1


app = verb("boards", boards)


@app.command
def presets(*, json: Json = False) -> None:
    """What can be built: boards with the cores that fit them, and the cores."""
    from hw.build import listing
    listing.show(json)
