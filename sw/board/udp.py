"""A board on the network: the bytes of the serial line in UDP datagrams (docs/link.md, Transports).

The board serves one host at a time, the holder, and answers any other with an announcement that
names it (`announcement`). So before a session begins, and after it was lost, the board is called
from a socket of its own; the session's socket is sent an announcement only if it does not hold the
board.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Protocol

from hw.registers import CALL, PROTOCOL

from ..errors import BadInput, BoardError, BoardHeld, BoardSilent, WrongBoard
from .announcement import Announcement
from .protocol import FrameSizes
from .transport import OpenedTransport
from .udp_socket import BoardSocket, Place, port_is_free

MOST_BYTES = 1472
"""Of a datagram's payload: what an Ethernet frame of 1,500 bytes leaves beside IP and UDP."""

FRAMES = FrameSizes(359, 359)
"""Words of payload: with header and CRC 366, which are 1,471 bytes at most when stuffed."""

ABANDONED = 5.0
"""Seconds without a frame after which a holder may be replaced unasked."""

CALLS, CALL_SECONDS = 5, 0.3
"""Times that a board is called before it counts as silent, and how long each is waited for."""


class Wire(Protocol):
    """As `BoardSocket`."""

    local: tuple[str, int]

    def send(self, data: bytes) -> None: ...
    def receive(self, timeout: float) -> bytes: ...
    def close(self) -> None: ...


class UdpTransport(OpenedTransport):
    """A board at `where`, "udp://HOST[:PORT][?take]"; a host's name or IPv4 address.

    A board that another host has spoken to within `ABANDONED` seconds is left to it, unless `?take`
    is there. wire: makes a way to the board, a socket unless given. Where a simulated board is
    behind the port (`sim.serve`), all waiting is by the board's own time.
    """

    network = True
    frames = FRAMES
    advice = "check cable, power and network, and that nobody has changed the board's address"

    def __init__(self, where: str, *, wire: Callable[[Place], Wire] = BoardSocket):
        super().__init__()
        self.place = Place.read(where)
        self.name = self.place.name
        self._make, self._wire = wire, None
        self._closed = False

    def write(self, data: bytes) -> None:
        """Send whole frames, as many to a datagram as it holds. Raises BoardError if the network
        refuses, no board answers or another host holds it."""
        datagrams = [b""]
        for frame in bytes(data).split(b"\0"):
            if len(frame) >= MOST_BYTES:
                raise BadInput(f"{self.name}: a frame of {len(frame) + 1} bytes is more than the "
                               f"{MOST_BYTES} of a datagram")
            if frame:
                if len(datagrams[-1]) + len(frame) >= MOST_BYTES:
                    datagrams.append(b"")
                datagrams[-1] += frame + b"\0"
        for datagram in filter(None, datagrams):
            self._do(lambda wire, some=datagram: wire.send(some))

    def read(self, timeout: float) -> bytes:
        data = self._do(lambda wire: self._time.wait(wire.receive, timeout))
        if (found := Announcement.decode(data)) is None:
            return data
        # The board is another's now. One that was reset is nobody's; the next write finds out.
        self._drop()
        if self._taken_by(found):
            raise self._held(found, "has taken the board, so its network and results are not this "
                             "session's")
        return b""

    def reset(self) -> None:
        """Nothing on the wire; what has come, and what may still come, is forgotten."""
        if self._wire is not None:
            self._drop()
            self._wire = self._make(self.place)

    def close(self) -> None:
        self._closed = True
        self._drop()

    def _do(self, act: Callable[[Wire], bytes | None]) -> bytes | None:
        """`act` on the way to the board, called first if it was lost; it is lost by an error."""
        if self._closed:
            raise BoardError(f"{self.name}: the connection was closed; open it again")
        try:
            if self._wire is None:
                self._wire = self._opened()
            return act(self._wire)
        except BoardError:
            self._drop()
            raise

    def _drop(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    def _opened(self) -> Wire:
        """A way to a board that is nobody else's, or is to be taken."""
        found = self._called()
        if found.protocol != PROTOCOL:
            raise WrongBoard(f"{self.name}: the board speaks protocol {found.protocol}, this host "
                             f"{PROTOCOL}; use a bitstream and a host of one version")
        if self._taken_by(found) and not self.place.take:
            raise self._held(found, "holds the board")
        return self._make(self.place)

    def _called(self) -> Announcement:
        """The board's answer to a call."""
        wire = self._make(self.place)
        self._local = wire.local[0]
        try:
            self._time.follow("udp://{}:{}".format(*self.place.address()))
            for _ in range(CALLS):
                wire.send(CALL)
                data = self._time.wait(wire.receive, CALL_SECONDS)
                if (found := Announcement.decode(data)) is not None:
                    return found
        finally:
            wire.close()
        raise BoardSilent(
            f"{self.name}: nothing comes back to {self._local}; check the board's power, cable and "
            "address (spiketicket boards lists boards), that this computer's address is in its "
            "network, and that no firewall drops UDP")

    def _taken_by(self, found: Announcement) -> bool:
        """Whether the holder is at work: it spoke a moment ago, and is no program of this computer
        that has ended."""
        if found.idle >= ABANDONED:
            return False
        if found.holder is None:
            return True
        ip, port = found.holder
        here = int.from_bytes(socket.inet_aton(self._local), "big")
        return ip != here or not port_is_free(self._local, port)

    def _held(self, found: Announcement, what: str) -> BoardHeld:
        return BoardHeld(
            f"{self.name}: {found.holder_name} {what}; it spoke {found.idle:.1f} s ago; end that "
            f"program, or wait until it has been silent for {ABANDONED:g} s, or take the board: "
            f"{self.name}?take")
