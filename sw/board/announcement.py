"""What a board with Ethernet tells whoever calls it: what it is, and which host holds it."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

UDP_PORT = 21328
"""Where boards listen."""

CALL = b"SPKT?"
"""A datagram that is answered with an announcement, and changes nothing."""

_FIELDS = struct.Struct("<4sHHIIQQI")
_MAGIC = b"SPKT"
_IDLE_CYCLES = 1 << 20


@dataclass(frozen=True)
class Announcement:
    """One datagram of a board. holder: (IPv4 address as a number, UDP port), None for the serial
    line. idle: seconds since the holder's last frame. clock_hz: of the core."""

    protocol: int
    holder: tuple[int, int] | None
    idle: float
    identity: int
    build: int
    clock_hz: int

    @classmethod
    def decode(cls, data: bytes) -> Announcement | None:
        """None if a datagram is none; replies never are taken for one."""
        if len(data) != _FIELDS.size or not data.startswith(_MAGIC):
            return None
        _, protocol, port, ip, idle, identity, build, clock_hz = _FIELDS.unpack(data)
        return cls(protocol, (ip, port) if ip else None, idle * _IDLE_CYCLES / max(1, clock_hz),
                   identity, build, clock_hz)

    @property
    def holder_name(self) -> str:
        """The holder in words."""
        if self.holder is None:
            return "the serial line"
        return f"{ipaddress.IPv4Address(self.holder[0])}:{self.holder[1]}"
