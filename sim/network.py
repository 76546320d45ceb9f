"""The simulated board's network, within this process: datagrams, and hosts that send them.

A host's address is (IPv4 address as a number, UDP port), as the gateware has it. Time is the
board's, so the figures of a cable (`CabledBoard.set_cable`) are exact.
"""

from __future__ import annotations

import ctypes
import socket
from collections import defaultdict, deque

from hw import registers
from sw.board.throughput import DATAGRAM_OVERHEAD, ETHERNET_BYTES_PER_S
from sw.board.udp import UdpTransport
from sw.board.udp_socket import Place

from .board import SimTransport

Address = tuple[int, int]

HOST = "192.168.1.7"
"""Where hosts are unless they say so."""

MOST = 2048
"""Bytes of a datagram, at most."""


class CabledBoard(SimTransport):
    """`SimTransport`, the serial line, and datagrams.

    Time that passes without the board running (`read` waits for nothing) is added to what it
    announces: it would have counted it.
    """

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        handle, u16, u32, u64 = ctypes.c_void_p, ctypes.c_uint16, ctypes.c_uint32, ctypes.c_uint64
        self._bind({
            "break": (None, handle), "cable": (None, handle, u32, u32),
            "udp_send": (None, handle, ctypes.c_char_p, u64, u32, u16),
            "udp_receive": (u64, handle, ctypes.c_char_p, u64, ctypes.POINTER(u32),
                            ctypes.POINTER(u16)),
            "working": (u32, handle)})
        self._cable = 0, 0
        self._heard = 0.0  # skipped seconds when the holder last spoke

    @property
    def _skipped(self) -> float:
        return self.now() - self.cycles / self.config.clock_hz

    def write(self, data: bytes) -> None:
        self._heard = self._skipped
        super().write(data)

    def power_cycle(self) -> None:
        super().power_cycle()
        self._heard = self._skipped
        self._library.board_cable(self._board, *self._cable)

    def break_line(self) -> None:
        """A break on the serial line."""
        self._library.board_break(self._board)

    def set_cable(self, bytes_per_s: float = ETHERNET_BYTES_PER_S,
                  overhead: int = DATAGRAM_OVERHEAD) -> None:
        """From now on a byte takes its time, each way, and `overhead` bytes go with a datagram."""
        gap = round(self.config.clock_hz / bytes_per_s)
        self._cable = gap, gap * overhead
        self._library.board_cable(self._board, *self._cable)

    def send(self, data: bytes, sender: Address) -> None:
        """A datagram to the board."""
        if data != registers.CALL:
            self._heard = self._skipped
        self._library.board_udp_send(self._board, bytes(data), len(data), *sender)

    def receive(self) -> tuple[bytes, Address] | None:
        """The next datagram that has come, and for whom; None if there is none. Takes no time."""
        buffer = ctypes.create_string_buffer(MOST)
        ip, port = ctypes.c_uint32(), ctypes.c_uint16()
        count = self._library.board_udp_receive(self._board, buffer, MOST, ip, port)
        return (self._aged(buffer.raw[:count]), (ip.value, port.value)) if count else None

    def wait(self, seconds: float) -> tuple[bytes, Address] | None:
        """`receive`, after `seconds` at most; they pass where nothing comes."""
        end = self.now() + seconds
        while (found := self.receive()) is None and self.now() < end:
            if self.working:
                self.run(end - self.now())
            else:
                self.rest(end - self.now())
        return found

    @property
    def working(self) -> bool:
        """Whether it has anything to do, or a datagram is on its way."""
        return bool(self._library.board_working(self._board))

    def _aged(self, data: bytes) -> bytes:
        place = sum(width for _, width in registers.ANNOUNCEMENT[:4]) // 8
        if len(data) != registers.ANNOUNCEMENT_BYTES or not data.startswith(b"SPKT"):
            return data
        idle = int.from_bytes(data[place:place + 4], "little")
        more = int((self._skipped - self._heard) * self.config.clock_hz) >> registers.IDLE_SHIFT
        return data[:place] + min(idle + more, 0xFFFF).to_bytes(4, "little") + data[place + 4:]


class LocalNetwork:
    """Hosts and a board; `wire` makes a host's way to it.

    Datagrams pass through `to_board` and `from_board`, each of which makes of one those that come.
    counts: datagrams and bytes of payload so far, [to the board, from it].
    """

    def __init__(self, board: CabledBoard):
        self.board = board
        self.quieten()
        self.datagrams, self.payload = [0, 0], [0, 0]
        self._waiting: dict[Address, deque[bytes]] = defaultdict(deque)
        self._ports = 40_000

    def quieten(self) -> None:
        """Datagrams pass as they are."""
        self.to_board = self.from_board = lambda data: [data]

    def wire(self, place: Place) -> SimWire:
        self._ports += 1
        return SimWire(self, (HOST, self._ports))

    def send(self, data: bytes, sender: Address) -> None:
        for one in self.to_board(data):
            self._count(0, one)
            self.board.send(one, sender)

    def receive(self, host: Address, timeout: float) -> bytes:
        """A datagram for a host, b"" if none comes; others' wait for them."""
        end = self.board.now() + timeout
        while not self._waiting[host]:
            if (found := self.board.wait(end - self.board.now())) is None:
                return b""
            data, to = found
            for one in self.from_board(data):
                self._count(1, one)
                self._waiting[to].append(one)
        return self._waiting[host].popleft()

    def forget(self, host: Address) -> None:
        """Nobody is there any more."""
        self._waiting.pop(host, None)

    def _count(self, way: int, data: bytes) -> None:
        self.datagrams[way] += 1
        self.payload[way] += len(data)


class SimWire:
    """A `sw.board.udp.Wire` from a host of a network."""

    def __init__(self, network: LocalNetwork, local: tuple[str, int]):
        self._network, self.local = network, local
        self._address = int.from_bytes(socket.inet_aton(local[0]), "big"), local[1]

    def send(self, data: bytes) -> None:
        self._network.send(data, self._address)

    def receive(self, timeout: float) -> bytes:
        return self._network.receive(self._address, timeout)

    def close(self) -> None:
        self._network.forget(self._address)


class SimUdpTransport(UdpTransport):
    """`UdpTransport` on a network, by the board's time; closes the board, unless it is to `keep`.
    """

    simulated = timed = True

    def __init__(self, network: LocalNetwork, where: str = "udp://192.168.1.50", *,
                 keep: bool = False):
        super().__init__(where, wire=network.wire)
        self.network, self.config, self._keep = network, network.board.config, keep

    def now(self) -> float:
        return self.network.board.now()

    def close(self) -> None:
        super().close()
        if not self._keep:
            self.network.board.close()
