"""Boards on the local network: called by broadcast, each answers with its announcement."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import time
from collections.abc import Iterable, Iterator

from hw.registers import CALL, UDP_PORT

from ..errors import BoardSilent
from .announcement import Announcement
from .udp_socket import MOST, Place

SECONDS = 1.0
"""How long answers are waited for; a board's takes less than a millisecond."""

TIMES = 3
"""Calls, as any of them may be lost."""


def broadcast_addresses() -> list[str]:
    """Broadcast address of every network of this computer: what the system says, and the one that
    means whichever network a computer has."""
    found = ["255.255.255.255"]
    with contextlib.suppress(OSError, ImportError):
        found += _interfaces()
    return [*dict.fromkeys(found)]


def _interfaces() -> Iterator[str]:
    import fcntl  # Linux has these requests; elsewhere 255.255.255.255 must do
    import struct

    ask_broadcast, ask_flags, up_and_broadcasting = 0x8919, 0x8913, 0x3
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as asker:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            with contextlib.suppress(OSError):
                flags = fcntl.ioctl(asker.fileno(), ask_flags, request)[16:18]
                if struct.unpack("<H", flags)[0] & up_and_broadcasting != up_and_broadcasting:
                    continue
                answer = fcntl.ioctl(asker.fileno(), ask_broadcast, request)
                yield str(ipaddress.IPv4Address(answer[20:24]))


def called(addresses: Iterable[str] = (), seconds: float = SECONDS
           ) -> list[tuple[Place, Announcement]]:
    """Boards that answer a call, by address.

    addresses: to call, "HOST" or "HOST:PORT"; none: every network's broadcast address.
    Raises SpikeTicketError for an address that is none, or where no network takes any call.
    """
    given = list(addresses)
    places = [Place.read(f"udp://{one}") for one in given] or [
        Place(one, UDP_PORT) for one in broadcast_addresses()]
    found: dict[tuple[str, int], Announcement] = {}
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as caller:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        for _ in range(TIMES):
            _call(caller, places, bool(given))
            found |= _answers(caller, seconds / TIMES)
    return [(Place(*where), found[where]) for where in sorted(found)]


def _call(caller: socket.socket, places: list[Place], all_of_them: bool) -> None:
    """Send the call; raises BoardSilent where an address that was given cannot be called."""
    for place in places:
        try:
            caller.sendto(CALL, place.address())
        except OSError as error:
            if all_of_them:
                raise BoardSilent(f"{place.name}: cannot be called ({error.strerror}); check the "
                                  "cable and this computer's address: ip address") from None


def _answers(caller: socket.socket, seconds: float) -> dict[tuple[str, int], Announcement]:
    found, end = {}, time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        caller.settimeout(left)
        try:
            data, where = caller.recvfrom(MOST)
        except TimeoutError:
            break
        except OSError:  # one of those that were called has no board
            continue
        if (answer := Announcement.decode(data)) is not None:
            found[where] = answer
    return found
