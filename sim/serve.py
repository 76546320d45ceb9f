"""The simulated board behind a serial port, and a UDP port of this computer: any program opens it
like a board on a cable.

    spiketicket sim serve                                # prints the port, runs until Ctrl-C
    spiketicket run --board arty_a7 --port /tmp/board    # in another terminal
    spiketicket sim serve --udp 21328                    # and: --port udp://127.0.0.1

The port is a pseudo-terminal, raw at both ends. Behind it runs the gateware, link framing included;
what a pseudo-terminal does not have is a UART: the baud rate is accepted and means nothing, and a
break does nothing. Bytes that nobody reads wait (64 KiB), and the board with them. The driver waits
by the board's time, not by the clock on the wall: on a busy computer it is merely slow.

The UDP port is one of loopback; a datagram's sender is, to the board, who sent it there.

From Python:

    with Board(PRESETS["tiny"]) as board:
        transport = SerialTransport(board.port)
"""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import socket
import threading
import time
import tty
from contextlib import suppress
from pathlib import Path

from hw import registers
from hw.config import PRESETS, CoreConfig
from sw.board.board_clock import BoardClock
from sw.board.udp_socket import Place
from sw.errors import SpikeTicketError

from .board import DEFAULT_PRESET
from .network import MOST, CabledBoard

PORTION = 1 << 16
"""Bytes moved at a time, and most that wait to be read before the board has to wait."""

SLICE = 20_000
"""Clock cycles from one look at the port to the next while the board works."""

LOOPBACK = "127.0.0.1"

IDLE = 0.05
"""Seconds from one look to the next while it has nothing to do."""


class Board:
    """A simulated board on a pseudo-terminal, run by a thread of its own.

    config: of the core (None: the simulated board's own), built first if need be; library: a build
    of it. link: symbolic link to make to the port; one that leads to no port any more is replaced.
    port: path of the port, to open with pyserial or open(2); it outlives whoever has it open.
    udp: UDP port of loopback, 0 for one that is free; `address` is where it is then, "udp://…".

    Raises SpikeTicketError if the board cannot be built, the link not be made or the UDP port not
    be had.
    """

    def __init__(self, config: CoreConfig | None = None, *, link: str | Path | None = None,
                 udp: int | None = None, library: Path | None = None, progress: bool = True):
        self._socket = None if udp is None else _bound(udp)
        self.address = self._socket and Place(*self._socket.getsockname()).name
        try:
            self._transport = CabledBoard(config, library=library, progress=progress)
        except BaseException:
            if self._socket is not None:
                self._socket.close()
            raise
        self.config = self._transport.config
        # Held open here, so that the port stays when a host closes it.
        self._ours, self._theirs = pty.openpty()
        tty.setraw(self._ours)
        tty.setraw(self._theirs)
        os.set_blocking(self._ours, False)
        self.port = os.ttyname(self._theirs)
        self._woken, self._wake = os.pipe()
        self._ending = False
        self._restart = False
        self._link = None
        self._clocks = [BoardClock(self.port)]
        if self._socket is not None:
            self._clocks.append(BoardClock("udp://{}:{}".format(*self._socket.getsockname())))
        self._thread = threading.Thread(target=self._serve, name="simulated board", daemon=True)
        try:
            if link is not None:
                self._make_link(Path(link))
        except BaseException:
            self._release()
            raise
        self._thread.start()

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """End the board; the port and the link vanish."""
        if self._transport is None:
            return
        self._ending = True
        os.write(self._wake, b"\0")
        self._thread.join()
        self._release()

    def power_cycle(self) -> None:
        """Switch the board off and on: memories empty, a `sync` due, bytes on the way lost."""
        self._restart = True
        os.write(self._wake, b"\0")
        while self._restart and self._thread.is_alive():
            time.sleep(0.001)

    def _release(self) -> None:
        if self._link is not None and self._link.is_symlink() \
                and os.readlink(self._link) == self.port:
            self._link.unlink()
        for descriptor in (self._ours, self._theirs, self._woken, self._wake):
            os.close(descriptor)
        if self._socket is not None:
            self._socket.close()
        for clock in self._clocks:
            clock.close()
        self._transport.close()
        self._transport = None

    def _make_link(self, link: Path) -> None:
        if link.exists() and not link.is_symlink():
            raise SpikeTicketError(f"--link {link}: there is a file of that name; remove it or "
                                   "choose another")
        if link.exists():
            raise SpikeTicketError(f"--link {link}: it leads to {os.readlink(link)}, where a board "
                                   "is served already; end that one, or choose another name")
        try:
            link.unlink(missing_ok=True)  # it led to a board that was killed
            os.symlink(self.port, link)
        except OSError as error:
            raise SpikeTicketError(f"--link {link}: cannot be made ({error.strerror}); choose "
                                   "another place") from error
        self._link = link

    def _serve(self) -> None:
        """Carry bytes between port and board, and datagrams. Time passes on the board while it has
        work."""
        waiting = bytearray()
        working = False
        doors = [self._ours, self._woken, *([self._socket] if self._socket else [])]
        while not self._ending:
            readable, _, _ = select.select(doors, [], [],
                                           0 if working else 0.02 if waiting else IDLE)
            if not (working or waiting or readable):
                self._transport.rest(IDLE)
                self._pass(IDLE)
            if self._woken in readable:
                os.read(self._woken, PORTION)
            if self._restart:
                self._transport.power_cycle()
                waiting.clear()
                working = self._restart = False
            if self._ours in readable:
                self._transport.write(os.read(self._ours, PORTION))
                working = True
            if self._socket in readable:
                with suppress(OSError):  # it was damaged
                    data, (ip, port) = self._socket.recvfrom(MOST)
                    self._transport.send(data, (int.from_bytes(socket.inet_aton(ip), "big"), port))
                    working = True
            if working and len(waiting) < PORTION:
                before = self._transport.cycles
                self._transport.run(SLICE / self.config.clock_hz)
                waiting += (got := self._transport.take())
                sent = self._send_datagrams()
                self._pass((self._transport.cycles - before) / self.config.clock_hz)
                # It comes back early with a frame, or with nothing because it has nothing to do.
                working = bool(got) or sent or self._transport.cycles - before >= SLICE
            if waiting:
                try:
                    del waiting[:os.write(self._ours, waiting[:PORTION])]
                except BlockingIOError:
                    working and time.sleep(0.001)  # nobody reads

    def _pass(self, seconds: float) -> None:
        for clock in self._clocks:
            clock.add(seconds)

    def _send_datagrams(self) -> bool:
        """What the board sends to hosts goes there; whether there was any."""
        some = False
        while self._socket is not None and (found := self._transport.receive()) is not None:
            data, (ip, port) = found
            with suppress(OSError):  # nobody is there any more
                self._socket.sendto(data, (socket.inet_ntoa(ip.to_bytes(4, "big")), port))
            some = True
        return some


def _bound(port: int) -> socket.socket:
    """A UDP socket at a port of loopback. Raises SpikeTicketError where it cannot be had."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        made.bind((LOOPBACK, port))
        made.setblocking(False)
    except (OSError, OverflowError) as error:
        made.close()
        said = getattr(error, "strerror", None) or "not within 0..65535"
        raise SpikeTicketError(f"--udp {port}: this port cannot be had ({said}); end the program "
                               "that has it, or choose another, 0 for any") from None
    return made


def serve(preset: str = DEFAULT_PRESET, link: str | None = None, as_json: bool = False,
          udp: int | None = None) -> None:
    """Serve a board until Ctrl-C, which is how it is meant to end; says where it is."""
    config = PRESETS[preset]
    # Interrupts too: a shell starts background jobs with these ignored.
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.default_int_handler)
    with suppress(KeyboardInterrupt), Board(config, link=link, udp=udp) as board:
        shown = {"port": board.port, "link": link, "udp": board.address, "preset": preset,
                 "identity": f"{registers.identity(config):016x}"}
        print(json.dumps(shown) if as_json else f"simulated board, core {preset}, at "
              f"{link or board.port}" + (f" and {board.address}" if board.address else "")
              + "; Ctrl-C ends it", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    from sw.cli.app import door
    door("sim", "serve")
