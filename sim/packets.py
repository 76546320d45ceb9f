"""Ethernet frames as bytes, written and read in plain Python: what the benches send and expect."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from hw.registers import UDP_PORT

BROADCAST = b"\xff" * 6


@dataclass(frozen=True)
class Station:
    """Somebody on the network. ip: a number, the first byte the most significant."""

    mac: bytes
    ip: int
    port: int = 40_000


def board_at(ip: int) -> Station:
    """A board by its address."""
    return Station(b"\x02\x53" + ip.to_bytes(4, "big"), ip, UDP_PORT)


def inverted_sum(data: bytes) -> int:
    """Checksum of IP and ICMP (RFC 1071): 0 over bytes that carry their own."""
    total = sum(struct.unpack(f">{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def with_check(frame: bytes, *, least: int = 60) -> bytes:
    """The frame padded, with its check sequence."""
    padded = frame.ljust(least, b"\0")
    return padded + struct.pack("<L", zlib.crc32(padded))


def ethernet(source: Station, mac: bytes, kind: int, payload: bytes) -> bytes:
    return mac + source.mac + struct.pack(">H", kind) + payload


def ip(source: Station, to: int, protocol: int, payload: bytes, *, fragment: int = 0x4000,
       first: int = 0x45, options: bytes = b"", length: int | None = None,
       damage: int = 0) -> bytes:
    """An IPv4 packet. fragment: flags and offset; length: another than the true one; damage: what
    the header's checksum is wrong by."""
    total = 20 + len(options) + len(payload) if length is None else length
    head = struct.pack(">BBHHHBBHLL", first, 0, total, 0x1234, fragment, 63, protocol, 0, source.ip,
                       to) + options
    value = inverted_sum(head) ^ damage
    return head[:10] + struct.pack(">H", value) + head[12:] + payload


def udp(source: Station, to: Station, payload: bytes, *, length: int | None = None) -> bytes:
    """A datagram without a checksum."""
    return struct.pack(">HHHH", source.port, to.port,
                       8 + len(payload) if length is None else length, 0) + payload


def echo(payload: bytes, *, kind: int = 8) -> bytes:
    """An ICMP message, an echo request by default."""
    head = struct.pack(">BBH", kind, 0, 0)
    return head[:2] + struct.pack(">H", inverted_sum(head + payload)) + payload


def arp(source: Station, target: int, *, operation: int = 1) -> bytes:
    return struct.pack(">HHBBH6sL6sL", 1, 0x0800, 6, 4, operation, source.mac, source.ip, b"\0" * 6,
                       target)


def datagram(source: Station, to: Station, payload: bytes, *, mac: bytes | None = None,
             **options) -> bytes:
    """A frame with a datagram. options: of `ip`."""
    return ethernet(source, mac or to.mac, 0x0800,
                    ip(source, to.ip, 17, udp(source, to, payload), **options))


def read_datagram(frame: bytes, source: Station, to: Station) -> bytes:
    """Payload of a datagram that must be well made and from `source` to `to`."""
    _check_ip(frame, source, to, 17)
    ports = struct.unpack(">HHHH", frame[34:42])
    total = struct.unpack(">H", frame[16:18])[0]
    assert ports == (source.port, to.port, total - 20, 0), ports
    assert not any(frame[14 + total:])
    return frame[42:14 + total]


def read_echo_reply(frame: bytes, source: Station, to: Station) -> bytes:
    """What an echo reply carries after its checksum."""
    _check_ip(frame, source, to, 1)
    message = frame[34:14 + struct.unpack(">H", frame[16:18])[0]]
    assert message[:2] == b"\0\0" and inverted_sum(message) == 0, message[:4].hex()
    return message[4:]


def read_arp_reply(frame: bytes, source: Station, to: Station) -> None:
    """Checks an ARP reply."""
    assert frame[:14] == to.mac + source.mac + b"\x08\x06", frame[:14].hex()
    assert frame[14:42] == struct.pack(">HHBBH6sL6sL", 1, 0x0800, 6, 4, 2, source.mac, source.ip,
                                       to.mac, to.ip), frame[14:42].hex()


def _check_ip(frame: bytes, source: Station, to: Station, protocol: int) -> None:
    assert frame[:14] == to.mac + source.mac + b"\x08\x00", frame[:14].hex()
    assert frame[14] == 0x45 and inverted_sum(frame[14:34]) == 0, frame[14:34].hex()
    assert frame[20:22] == b"\x40\0" and frame[23] == protocol
    assert struct.unpack(">LL", frame[26:34]) == (source.ip, to.ip), frame[26:34].hex()
    assert struct.unpack(">H", frame[16:18])[0] + 14 <= len(frame)
