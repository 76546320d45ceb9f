"""Boards on this computer's serial ports, and what each says it is (`spiketicket boards`).

A port is asked only if its USB bridge is that of a supported board (or it is named): opening a port
sends a break and a few bytes to whatever is behind it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from .board import identities
from .board.readback import identify
from .board.session import Session
from .board.transport import SerialTransport
from .board.usb_ports import Port, find, named
from .errors import BadInput, BoardSilent, SpikeTicketError


@dataclass(frozen=True)
class Answer:
    """What a port's board says it is, or `trouble`: why there is no answer.

    board: "" where only the configuration is known (its build is none of bitstreams/). preset: ""
    for a configuration without a name.
    """

    port: Port
    trouble: str = ""
    identity: str = ""
    build: str = ""
    board: str = ""
    preset: str = ""
    clock_hz: int = 0
    baud: int = 0
    simulated: bool = False


def chosen(devices: Iterable[str] | None) -> list[Port]:
    """The ports of these devices; None: those with the USB bridge of a supported board."""
    return [named(device) for device in devices] if devices else find()


def ask(port: Port, rates: Iterable[int] = ()) -> Answer:
    """Open a port and ask its board what it is, at each rate that boards have after power-up."""
    trouble = ""
    for baud in rates or identities.first_rates():
        try:
            transport = SerialTransport(port.device, baud)
        except SpikeTicketError as error:
            return Answer(port, str(error))
        try:
            transport.reset()
            found, _ = identify(Session(transport), None)
            return Answer(port, "", f"{found.id:016x}", f"{found.build:016x}", found.board,
                          found.preset, found.clock_hz, baud, found.simulated)
        except SpikeTicketError as error:
            trouble = str(error)
            if not isinstance(error, BoardSilent):  # it did answer: another rate would not help
                break
        finally:
            transport.close()
    return Answer(port, trouble)


def choose(board: str | None = None) -> Answer:
    """The one port at which a supported board answers.

    board: of `hw.boards`; a board whose build is unknown counts as it if its preset is the board's.
    Raises SpikeTicketError if there is none or more than one.
    """
    answers = [ask(port) for port in find(board)]
    live = [answer for answer in answers if not answer.trouble
            and (board is None or answer.board in (board, ""))]
    if len(live) == 1:
        return replace(live[0], board=live[0].board or board or "")
    what = f"board {board}" if board else "supported board"
    if live:
        raise BadInput(f"{len(live)} boards answer: "
                       f"{', '.join(answer.port.device for answer in live)}; name one")
    said = "; ".join(f"{answer.port.device}: {answer.trouble or 'is ' + answer.board}"
                     for answer in answers)
    raise BoardSilent(f"no {what} answers ({said or 'no USB bridge of one is plugged in'}); "
                      "plug it in, program its bitstream, or use the simulated board: sim")


def print_answers(answers: list[Answer]) -> None:
    if not answers:
        print("no port of a supported board; plug one in, or name a port with --port")
    for answer in answers:
        port = answer.port
        print(f"{port.device}  {port.title or 'no USB device'}"
              + (f", serial number {port.serial_number}" if port.serial_number else ""))
        if port.boards:
            print(f"  USB bridge of  {', '.join(port.boards)}")
        if answer.trouble:
            print(f"  no board       {answer.trouble}")
        elif answer.identity:
            what = "a simulated board" if answer.simulated else answer.board or "a board"
            print(f"  says it is     {what}, core "
                  f"{answer.preset or 'without a name'} at {answer.clock_hz / 1e6:g} MHz")
            print(f"  identity       {answer.identity}, build {answer.build}, "
                  f"{answer.baud} baud after power-up")
