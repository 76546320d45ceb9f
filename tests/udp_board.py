"""A board on a UDP socket, by default of loopback: the holder's rules, then the gateware."""

from __future__ import annotations

import ipaddress
import socket
import struct
import threading

from hw import registers
from hw.datagrams import REPLY_BYTES
from hw.registers import CALL
from sim.board import SimTransport


def announcement(holder: tuple[int, int] = (0, 0), idle: int = 0xFFFFFFFF, *, identity: int = 0,
                 clock_hz: int = 1, protocol: int = registers.PROTOCOL) -> bytes:
    """The datagram; idle in units of 2^20 cycles."""
    ip, port = holder
    return struct.pack("<4sHHIIQQI", b"SPKT", protocol, port, ip, idle, identity, 7, clock_hz)


class FakeBoard:
    """Serves `board` until `close`; `where` is its address for `Accelerator.open`.

    holder: (ip, port) as numbers, (0, 0) for the serial line. idle: in units of 2^20 cycles, what
    it says. mute: nothing is answered. protocol: what it says. lock: held by whoever uses `board`.
    """

    def __init__(self, board: SimTransport, address: tuple[str, int] = ("127.0.0.1", 0)):
        self.board, self.holder, self.idle = board, (0, 0), 0xFFFFFFFF
        self.mute, self.protocol = False, registers.PROTOCOL
        self.calls = 0
        self.lock = threading.Lock()
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(0.02)
        self.where = f"udp://127.0.0.1:{self.socket.getsockname()[1]}"
        self._ending = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> FakeBoard:
        return self

    def __exit__(self, *_) -> None:
        self._ending = True
        self._thread.join()
        self.socket.close()

    def reset(self) -> None:
        """As after power-up."""
        with self.lock:
            self.board.power_cycle()
            self.holder, self.idle = (0, 0), 0xFFFFFFFF

    def announcement(self) -> bytes:
        config = self.board.config
        return announcement(self.holder, self.idle, identity=registers.identity(config),
                            clock_hz=config.clock_hz, protocol=self.protocol)

    def _serve(self) -> None:
        while not self._ending:
            try:
                data, sender = self.socket.recvfrom(2048)
            except TimeoutError:
                continue
            with self.lock:
                self._answer(data, sender)

    def _answer(self, data: bytes, sender: tuple[str, int]) -> None:
        if self.mute:
            return
        assert len(data) <= 1472
        speaker = int(ipaddress.IPv4Address(sender[0])), sender[1]
        if data == CALL:
            self.calls += 1
        elif data[1:2] and data[1] & 0x3F == 0x23:
            self.holder = speaker
        if data == CALL or speaker != self.holder:
            self.socket.sendto(self.announcement(), sender)
            return
        assert data.endswith(b"\0")
        self.idle = 0
        self.board.write(data)
        while reply := self.board.read(1.0):
            for start in range(0, len(reply), REPLY_BYTES):
                self.socket.sendto(reply[start:start + REPLY_BYTES], sender)
