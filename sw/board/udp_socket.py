"""Datagrams to and from a board, and calls for boards; what sockets say, in words for the user."""

from __future__ import annotations

import contextlib
import errno
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from hw.registers import UDP_PORT

from ..errors import BadInput, BoardError, BoardSilent

SCHEME = "udp://"

MOST = 2048
"""Bytes of a datagram that is received, at most; a board's are shorter."""


@dataclass(frozen=True)
class Place:
    """Where a board on the network is: "udp://HOST[:PORT][?take]".

    take: also from another host that holds it.
    """

    host: str
    port: int = UDP_PORT
    take: bool = False

    @classmethod
    def read(cls, where: str) -> Place:
        """Raises BadInput for what is no such place."""
        try:
            parts = urlsplit(where)
            port = parts.port
        except ValueError:
            parts = port = None
        if parts is None or not parts.hostname or port == 0 or parts.path.strip("/") \
                or parts.query not in ("", "take") or parts.fragment or parts.username is not None \
                or ":" in parts.hostname:
            raise BadInput(f"{where}: not a board on the network; write udp://192.168.1.50, with "
                           ":PORT (1 to 65535) where it has another, and ?take to take it from "
                           "another host")
        return cls(parts.hostname, port or UDP_PORT, parts.query == "take")

    @property
    def name(self) -> str:
        return f"{SCHEME}{self.host}" + (f":{self.port}" if self.port != UDP_PORT else "")

    def address(self) -> tuple[str, int]:
        """IPv4 address and port. Raises BoardSilent where the name has none."""
        try:
            found = socket.getaddrinfo(self.host, self.port, socket.AF_INET, socket.SOCK_DGRAM)
        except (OSError, UnicodeError) as error:
            raise BoardSilent(f"{self.name}: no IPv4 address of that name is found "
                              f"({_said(error)}); check its spelling, or give the address in "
                              "numbers: udp://192.168.1.50") from None
        return found[0][4]


class BoardSocket:
    """A UDP socket of one board: a port of its own here, and only that board's datagrams.

    local: (address, port) of this end. Raises BoardSilent where no network leads to the board.
    """

    def __init__(self, place: Place):
        self._name = place.name
        address = place.address()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.connect(address)
            self.local: tuple[str, int] = self._socket.getsockname()
        except OSError as error:
            self._socket.close()
            raise BoardSilent(f"{self._name}: cannot be reached ({_said(error)}); "
                              f"{_remedy(error)}") from None

    def send(self, data: bytes) -> None:
        """Send a datagram. Raises BoardError where the network refuses it."""
        try:
            self._socket.send(data)
        except OSError as error:
            raise self._refused(error) from None

    def receive(self, timeout: float) -> bytes:
        """A datagram of the board, b"" if none comes within `timeout` seconds. Raises as `send`."""
        try:
            self._socket.settimeout(max(timeout, 1e-6))
            return self._socket.recv(MOST)
        except TimeoutError:
            return b""
        except OSError as error:
            raise self._refused(error) from None

    def close(self) -> None:
        self._socket.close()

    def _refused(self, error: OSError) -> BoardError:
        return BoardError(f"{self._name}: the network refuses ({_said(error)}); {_remedy(error)}")


def port_is_free(address: str, port: int) -> bool:
    """Whether no program of this computer has a UDP port of this address, which must be its own
    (else False)."""
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        try:
            probe.bind((address, port))
        except OSError:
            return False
        return True


def _said(error: Exception) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split())


def _remedy(error: OSError) -> str:
    """What to check about a network that does not carry datagrams."""
    if error.errno == errno.ECONNREFUSED:
        return ("a computer answers there, and it has no board at that port; check address and "
                "port (spiketicket boards lists boards)")
    if error.errno in (errno.ENETUNREACH, errno.ENETDOWN):
        return ("check the cable, and that an interface of this computer has an address in the "
                "board's network: ip address")
    if error.errno in (errno.EHOSTUNREACH, errno.EHOSTDOWN):
        return ("nothing has that address; check the board's power and cable, and that this "
                "computer is in its network")
    if error.errno in (errno.EACCES, errno.EPERM):
        return ("it is a broadcast address, or a firewall of this computer forbids it; check "
                "address and firewall")
    return "check the cable and the board's address"
