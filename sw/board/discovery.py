"""Boards on the local network: called by broadcast, each answers with its announcement."""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import socket
import sys
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


class _Entry(ctypes.Structure):
    """`struct ifaddrs`, one address of an interface; `address` and `mask` point to `sockaddr`s."""


_Entry._fields_ = [("following", ctypes.POINTER(_Entry)), ("name", ctypes.c_char_p),
                   ("flags", ctypes.c_uint), ("address", ctypes.c_void_p),
                   ("mask", ctypes.c_void_p), ("broadcast", ctypes.c_void_p),
                   ("data", ctypes.c_void_p)]


def broadcast_addresses() -> list[str]:
    """Broadcast address of every network of this computer, and the one that means whichever network
    a computer has."""
    return [*dict.fromkeys(["255.255.255.255", *_networks()])]


def _networks() -> Iterator[str]:
    """The last address of each network that an interface has, be it its first address or not:
    `ip address add` sets no broadcast address of its own accord. On Linux; elsewhere nothing."""
    if sys.platform != "linux":
        return
    system, first = ctypes.CDLL(None), ctypes.POINTER(_Entry)()
    if system.getifaddrs(ctypes.byref(first)):
        return
    up_and_broadcasting, entry = 0x3, first
    try:
        while entry:
            one = entry.contents
            entry = one.following
            if one.flags & up_and_broadcasting == up_and_broadcasting and one.mask \
                    and (address := _ipv4(one.address)) is not None:
                network = ipaddress.IPv4Network((address, str(_ipv4(one.mask))), strict=False)
                if network.prefixlen < 31:
                    yield str(network.broadcast_address)
    finally:
        system.freeifaddrs(first)


def _ipv4(sockaddr: int | None) -> ipaddress.IPv4Address | None:
    """Of a `sockaddr_in`, None for another kind, or where there is none."""
    if not sockaddr or ctypes.c_ushort.from_address(sockaddr).value != socket.AF_INET:
        return None
    return ipaddress.IPv4Address(ctypes.string_at(sockaddr + 4, 4))


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
