"""From what a user calls a board to the line that leads to it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hw.boards import BOARDS
from hw.config import PRESETS, CoreConfig
from hw.registers import DEFAULT_BAUD

from .. import ports
from ..errors import BadInput, did_you_mean
from . import identities, rates
from .transport import SerialTransport, Transport
from .udp import UdpTransport
from .usb_ports import Port, named

Manifest = Mapping | CoreConfig | str | Path | None


def transport_for(where: str, manifest: Manifest = None,
                  progress: bool = False) -> tuple[Transport, Manifest, int]:
    """(line to the board, what it should be, highest baud of its USB bridge).

    See `sw.board.driver.Accelerator.open`. Raises SpikeTicketError.
    """
    kind, _, rest = where.partition(":")
    if kind == "sim":
        config = manifest if isinstance(manifest, CoreConfig) else _simulated(rest)
        from sim.board import SimTransport  # only the simulated board needs the gateware

        return SimTransport(config, progress=progress), manifest or config, 0
    if kind == "replay":
        from ..replay import ReplayTransport

        transport = ReplayTransport(rest)
        return transport, manifest or transport.config, 0
    if kind == "udp":
        return UdpTransport(where), manifest, 0
    if where == "auto" or where in BOARDS:
        answer = ports.choose(None if where == "auto" else where)
        transport = SerialTransport(answer.port.device, answer.baud)
        return transport, manifest, rates.fastest(answer.port.usb)
    port = named(where)
    return SerialTransport(where, _first_rate(port, manifest)), manifest, rates.fastest(port.usb)


def open_transport(board: str, port: str | None = None, baud: int = DEFAULT_BAUD,
                   progress: bool = True, config: CoreConfig | None = None) -> Transport:
    """Transport to a board of `hw.boards`: "sim" builds and starts the simulated one.

    Any other needs its serial port; `baud` is the rate the board has after power-up. config: core
    of the simulated board, None: the board's own.
    """
    if board == "sim":
        from sim.board import SimTransport  # only the simulated board needs the gateware

        return SimTransport(config or BOARDS[board].config, progress=progress)
    if port is None:
        raise BadInput(f"board {board!r} needs its port: --port /dev/ttyUSB1, for example")
    return SerialTransport(port, baud)


def _simulated(name: str) -> CoreConfig:
    if not name:
        return BOARDS["sim"].config
    if name in PRESETS:
        return PRESETS[name]
    if name in BOARDS:
        return BOARDS[name].config
    raise BadInput(f"simulated board {name!r} is unknown; {did_you_mean(name, PRESETS)}")


def _first_rate(port: Port, manifest: Manifest) -> int:
    """Rate of the board at a port after power-up: as its manifest says, else as it answers."""
    if isinstance(manifest, str | Path):
        return identities.read_manifest(manifest).baud
    known = identities.first_rates()
    if isinstance(manifest, Mapping):
        return int(manifest.get("baud", known[0]))
    if len(known) == 1:
        return known[0]
    answer = ports.ask(port)
    return known[0] if answer.trouble else answer.baud
