"""A serial line with two ends that may disagree about its rate, before the simulated board."""

from __future__ import annotations

import random

from hw.registers import DEFAULT_BAUD, Register, Space
from sw.board.protocol import FrameError, Splitter, decode_frame
from sw.board.transport import Transport


class Line(Transport):
    """The simulated board behind a line: `inner` is the board.

    Bytes sent while the ends' rates differ by more than 2 % arrive as noise, and above `clean` baud
    every byte is damaged with probability `damage`, each way. The board's end follows its register
    DIVISOR as the gateware's UART does; a break brings the first rate back.
    """

    def __init__(self, inner: Transport, *, clean: int = 12_000_000, damage: float = 0.01,
                 bridge: int = 12_000_000, seed: int = 0):
        self.inner, self.name = inner, "line"
        self.clean, self.damage, self.bridge = clean, damage, bridge
        self.baud = self.first_baud = self.board_baud = DEFAULT_BAUD
        self.random = random.Random(seed)
        self.resets = 0
        self._splitter, self._next = Splitter(), None

    def write(self, data: bytes) -> None:
        data = self._through(data)
        for frame in self._splitter.feed(data):
            self._watch(frame)
        self.inner.write(data)

    def read(self, timeout: float) -> bytes:
        data = self._through(self.inner.read(timeout))
        if self._next is not None and data.endswith(b"\0"):  # the reply has left
            self.board_baud, self._next = self._next, None
        return data

    def reset(self) -> None:
        self.resets += 1
        self.baud = self.board_baud = self.first_baud
        self._next = None

    def set_baud(self, baud: int) -> None:
        self.baud = min(baud, self.bridge)

    def close(self) -> None:
        self.inner.close()

    def power_cycle(self) -> None:
        self.inner.power_cycle()
        self.board_baud = self.first_baud

    def _through(self, data: bytes) -> bytes:
        if abs(self.baud / self.board_baud - 1) > 0.02:
            return bytes(self.random.randrange(1, 256) for _ in data)
        if self.baud <= self.clean:
            return data
        return bytes(byte ^ 1 << self.random.randrange(8)
                     if self.random.random() < self.damage else byte for byte in data)

    def _watch(self, frame: bytes) -> None:
        """A request that sets DIVISOR changes the board's rate when it has been answered."""
        try:
            words = decode_frame(frame)
        except FrameError:
            return
        write = bool(words[0] >> 6 & 1)
        space, address = int(words[1]) >> 24 & 15, int(words[1]) & 0xFFFFFF
        if write and (space, address) == (Space.REGISTER, Register.DIVISOR):
            self._next = round(16 * self.inner.config.clock_hz / int(words[6]))
