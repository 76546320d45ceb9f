"""`spiketicket sim`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from hw.boards import BOARDS
from hw.config import PRESETS

from .app import verb
from .options import Json, flag, one_of

Core = Annotated[one_of(sorted(PRESETS)), Parameter(help="core of the simulated board")]
DEFAULT_CORE = BOARDS["sim"].preset

app = verb("sim")


@app.command
def serve(*, preset: Core = DEFAULT_CORE,
          link: Annotated[str | None, Parameter(help="make a symbolic link to the port")] = None,
          udp: Annotated[int | None, Parameter(
              help="also a board on the network: at this UDP port of 127.0.0.1 (0: a free one)")]
          = None,
          json: Json = False) -> None:
    """A simulated board behind a serial port, and a UDP port, for every program.

    examples:
      spiketicket sim serve  # prints the port, runs until Ctrl-C
      spiketicket sim serve --preset tiny --link /tmp/board
      spiketicket run --board arty_a7 --port /tmp/board    # in another terminal
      spiketicket sim serve --udp 21328    # and: spiketicket run --port udp://127.0.0.1

    The port is a pseudo-terminal. What it does not have is a UART: the baud rate
    is accepted and means nothing, and a break does nothing, so that a board that a
    host on the network has taken stays its. --json prints ports and identity.
    """
    from sim import serve as serving
    serving.serve(preset, link, json, udp)


@app.command
def build(*, preset: Core = DEFAULT_CORE,
          force: Annotated[bool, flag("build it again")] = False,
          show: Annotated[bool, flag("only say where it is, or would be")] = False,
          ) -> None:
    """Build the simulated board, unless that has been done.

    A build is kept in ~/.cache/spiketicket (or $SPIKETICKET_CACHE) by content, so
    it happens once per version of the gateware and core; whatever needs it builds
    it, too.
    """
    from sim import board
    config = PRESETS[preset]
    library = board.library_path(config) if show else board.build(config, force=force)
    print(f"{library} ({'built' if library.exists() else 'not built'})")
