"""The simulated board behind a serial port: any program opens it like a board on a cable.

    spiketicket sim serve                                # prints the port, runs until Ctrl-C
    spiketicket run --board arty_a7 --port /tmp/board    # in another terminal

The port is a pseudo-terminal, raw at both ends. Behind it runs the gateware, link framing included;
what a pseudo-terminal does not have is a UART: the baud rate is accepted and means nothing, and a
break does nothing. Bytes that nobody reads wait (64 KiB), and the board with them. The driver waits
by the board's time, not by the clock on the wall: on a busy computer it is merely slow.

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
import threading
import time
import tty
from contextlib import suppress
from pathlib import Path

from hw import registers
from hw.config import PRESETS, CoreConfig
from sw.board.board_clock import BoardClock
from sw.errors import SpikeTicketError

from .board import DEFAULT_PRESET, SimTransport

PORTION = 1 << 16
"""Bytes moved at a time, and most that wait to be read before the board has to wait."""

SLICE = 20_000
"""Clock cycles from one look at the port to the next while the board works."""

IDLE = 0.05
"""Seconds from one look to the next while it has nothing to do."""


class Board:
    """A simulated board on a pseudo-terminal, run by a thread of its own.

    config: of the core (None: the simulated board's own), built first if need be; library: a build
    of it. link: symbolic link to make to the port; one that leads to no port any more is replaced.
    port: path of the port, to open with pyserial or open(2); it outlives whoever has it open.

    Raises SpikeTicketError if the board cannot be built or the link not be made.
    """

    def __init__(self, config: CoreConfig | None = None, *, link: str | Path | None = None,
                 library: Path | None = None, progress: bool = True):
        self._transport = SimTransport(config, library=library, progress=progress)
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
        self._clock = BoardClock(self.port)
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
        self._clock.close()
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
        """Carry bytes between port and board. Time passes on the board while it has work."""
        waiting = bytearray()
        working = False
        while not self._ending:
            readable, _, _ = select.select([self._ours, self._woken], [], [],
                                           0 if working else 0.02 if waiting else IDLE)
            if not (working or waiting or readable):
                self._clock.add(IDLE)
            if self._woken in readable:
                os.read(self._woken, PORTION)
            if self._restart:
                self._transport.power_cycle()
                waiting.clear()
                working = self._restart = False
            if self._ours in readable:
                self._transport.write(os.read(self._ours, PORTION))
                working = True
            if working and len(waiting) < PORTION:
                before = self._transport.cycles
                got = self._transport.read(SLICE / self.config.clock_hz)
                waiting += got
                self._clock.add((self._transport.cycles - before) / self.config.clock_hz)
                # It comes back early with a frame, or with nothing because it has nothing to do.
                working = bool(got) or self._transport.cycles - before >= SLICE
            if waiting:
                try:
                    del waiting[:os.write(self._ours, waiting[:PORTION])]
                except BlockingIOError:
                    working and time.sleep(0.001)  # nobody reads


def serve(preset: str = DEFAULT_PRESET, link: str | None = None, as_json: bool = False) -> None:
    """Serve a board until Ctrl-C, which is how it is meant to end; says where it is."""
    config = PRESETS[preset]
    # Interrupts too: a shell starts background jobs with these ignored.
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.default_int_handler)
    with suppress(KeyboardInterrupt), Board(config, link=link) as board:
        shown = {"port": board.port, "link": link, "preset": preset,
                 "identity": f"{registers.identity(config):016x}"}
        print(json.dumps(shown) if as_json else f"simulated board, core {preset}, at "
              f"{link or board.port}; Ctrl-C ends it", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    from sw.cli.app import door
    door("sim", "serve")
