"""Boards on this computer's serial ports and on its networks, and what each says it is
(`spiketicket boards`).

A port is asked only if its USB bridge is that of a supported board (or it is named): opening a port
sends a break and a few bytes to whatever is behind it. Boards on the network are called, which
disturbs nobody's session.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, replace

from hw import registers
from hw.registers import Register, Space

from .board import board_clock, discovery, identities, readback
from .board.protocol import Request, Write, words
from .board.readback import identify
from .board.session import Session
from .board.transport import SerialTransport
from .board.usb_ports import Port, find, named
from .errors import BadInput, BoardError, BoardSilent, SpikeTicketError


@dataclass(frozen=True)
class Answer:
    """What a port's board says it is, or `trouble`: why there is no answer.

    board: "" where only the configuration is known (its build is none of bitstreams/). preset: ""
    for a configuration without a name. baud: 0 for a board on the network, whose `port.device` is
    "udp://ADDRESS". ip: address of a board with Ethernet, "" for one without. holder, idle: of a
    board on the network, who holds it, and for how many seconds that one has been silent.
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
    ip: str = ""
    holder: str = ""
    idle: float = 0.0


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
            session = Session(transport)
            found, _ = identify(session, None)
            return Answer(port, "", f"{found.id:016x}", f"{found.build:016x}", found.board,
                          found.preset, found.clock_hz, baud, found.simulated,
                          readback.address(session))
        except SpikeTicketError as error:
            trouble = str(error)
            if not isinstance(error, BoardSilent):  # it did answer: another rate would not help
                break
        finally:
            transport.close()
    return Answer(port, trouble)


def check_memory(port: Port) -> tuple[int, int]:
    """Test the DRAM of the board at a port: (its bytes, words compared). Raises SpikeTicketError.
    """
    from .board.driver import Accelerator

    with Accelerator.open(port.device) as board:
        words = board.check_memory()
        return board.identify().dram_bytes, words


def on_network(addresses: Iterable[str] = ()) -> list[Answer]:
    """Boards that answer a call at these addresses ("HOST[:PORT]"; none: of all networks)."""
    answers = []
    for place, said in discovery.called(addresses):
        known = identities.find(said.identity, said.build)
        answers.append(Answer(
            Port(place.name, title="network"), "", f"{said.identity:016x}", f"{said.build:016x}",
            known.board if known else "", known.preset if known else "", said.clock_hz,
            simulated=board_clock.find(f"udp://{place.host}:{place.port}") is not None,
            ip=place.host, holder=said.holder_name, idle=round(said.idle, 1)))
    return answers


def set_address(port: Port, address: str) -> str:
    """Give the board at a serial port its IPv4 address; returns it, as the board says it after.

    It holds until the board is configured or reset. Raises SpikeTicketError for an address that no
    board can have, and where there is no board or none with Ethernet.
    """
    try:
        ip = int(ipaddress.IPv4Address(address))
    except ValueError:
        ip = 0
    if not registers.is_host_address(ip):
        raise BadInput(f"--set-ip {address}: not an address that a board can have; give one of "
                       "your network that is free, such as 192.168.1.60")
    answer = ask(port)
    if answer.trouble:
        raise BoardSilent(answer.trouble)
    if not answer.ip:
        raise BadInput(f"{port.device}: the board was built without Ethernet; build it with it")
    transport = SerialTransport(port.device, answer.baud)
    try:
        transport.reset()
        session = Session(transport)
        session.ask(Request(Write(Space.REGISTER, Register.IP, words([ip]))))
        now = readback.address(session)
    finally:
        transport.close()
    if now != str(ipaddress.IPv4Address(ip)):
        raise BoardError(f"{port.device}: the board kept its address {now}; give another")
    return now


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
        print("no port of a supported board, and none answers on the network; plug one in, or name "
              "a port with --port or an address with --call")
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
            print(f"  identity       {answer.identity}, build {answer.build}"
                  + (f", {answer.baud} baud after power-up" if answer.baud else ""))
            if answer.holder:
                print(f"  held by        {answer.holder}, silent for {answer.idle:g} s")
            elif answer.ip:
                print(f"  address        {answer.ip}")
