"""What a board with Ethernet tells whoever calls it: what it is, and which host holds it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from hw import registers


@dataclass(frozen=True)
class Announcement:
    """One datagram of a board. holder: (IPv4 address as a number, UDP port), None for the serial
    line. idle: seconds since the holder's last frame, long after a reset. clock_hz: of the core."""

    protocol: int
    holder: tuple[int, int] | None
    idle: float
    identity: int
    build: int
    clock_hz: int

    @classmethod
    def decode(cls, data: bytes) -> Announcement | None:
        """None if a datagram is none; replies never are taken for one."""
        if len(data) != registers.ANNOUNCEMENT_BYTES:
            return None
        number, told = int.from_bytes(data, "little"), {}
        for name, width in registers.ANNOUNCEMENT:
            told[name] = number & ((1 << width) - 1)
            number >>= width
        if told["magic"] != registers.MAGIC:
            return None
        holder = (told["holder_ip"], told["holder_port"]) if told["holder_ip"] else None
        idle = (told["idle"] << registers.IDLE_SHIFT) / max(1, told["clock_hz"])
        return cls(told["protocol"], holder, idle, told["identity"], told["build"],
                   told["clock_hz"])

    @property
    def holder_name(self) -> str:
        """The holder in words."""
        if self.holder is None:
            return "the serial line"
        return f"{ipaddress.IPv4Address(self.holder[0])}:{self.holder[1]}"
