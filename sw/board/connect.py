"""A ticket and the board it is to run on, for the commands that take both."""

from __future__ import annotations

from dataclasses import dataclass

from hw.boards import BOARDS, DEFAULT_BOARD
from hw.config import CoreConfig
from hw.registers import DEFAULT_BAUD

from ..compile.compiler import compile_network
from ..compile.image import Image
from ..core import cores
from ..plan import recorded_activity
from ..ticket import Ticket
from .driver import Accelerator
from .opening import open_transport
from .transport import Transport


@dataclass(frozen=True)
class Connection:
    """A board, and a ticket compiled for it but not loaded.

    accelerator: use it with `with`; it closes the line. board, preset: names in `hw.boards.BOARDS`
    and `hw.config.PRESETS`, preset None for a configuration of one's own. baud: of the line, None
    on Ethernet; of a simulated board the fastest that figures are for.
    """

    accelerator: Accelerator
    image: Image
    board: str
    preset: str | None
    baud: int | None


def connect(found: Ticket, *, board: str = DEFAULT_BOARD, preset: str | None = None,
            port: str | None = None, baud: int | None = None, progress: bool = True,
            transport: Transport | None = None, config: CoreConfig | None = None) -> Connection:
    """Compile a ticket for a board and reach it.

    board: "sim" without a port is the simulated board, built first if need be; any other is looked
        for on the serial ports, or at `port` (a device or pyserial URL, "auto").
    preset: core; None: for the simulated board the first that has what the ticket needs, for a live
        one whatever it says it is.
    baud: highest rate of the line to try, or of the simulated board to measure at; None: what the
        board's USB bridge takes.
    transport, config: a board of one's own instead.
    Raises SpikeTicketError where the ticket does not fit or no board answers.
    """
    if transport is None and (port is not None or board != "sim"):
        if preset is not None:
            preset, config = cores.choose(BOARDS[board], found.network, preset)
        accelerator = Accelerator.open(port or board, manifest=config, max_baud=baud,
                                       progress=progress)
        try:
            known = accelerator.identify()
            image = compile_network(found.network, accelerator.config, recorded_activity(found))
        except BaseException:
            accelerator.close()
            raise
        line = accelerator.transport
        return Connection(accelerator, image, known.board or board, known.preset or preset,
                          None if line.network else line.baud or baud or DEFAULT_BAUD)
    if config is None:
        preset, config = cores.choose(BOARDS[board], found.network, preset)
    image = compile_network(found.network, config, recorded_activity(found))
    baud = baud or BOARDS[board].max_baud
    transport = transport or open_transport(board, port, baud, progress, config)
    return Connection(Accelerator(transport, config), image, board, preset, baud)
