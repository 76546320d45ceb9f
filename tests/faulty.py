"""A transport that disturbs another one: byte errors, losses, duplicates, silence, power cuts."""

from __future__ import annotations

import random
from collections.abc import Callable

from sw.board.transport import Transport


class FaultyTransport(Transport):
    """Disturbs every byte, each way, with probability `rate`; otherwise `inner`.

    A fault is, by chance: a flipped bit, a lost byte, a byte twice, a foreign byte, or the loss of
    the rest of the portion. mute: swallow everything. events: called before write number n.
    """

    def __init__(self, inner: Transport, rate: float = 0.0, seed: int = 0):
        self.inner, self.rate, self.name, self.baud = inner, rate, inner.name, inner.baud
        self.random = random.Random(seed)
        self.mute = False
        self.faults = 0
        self.writes = 0
        self.events: dict[int, Callable[[], None]] = {}

    def _disturb(self, data: bytes) -> bytes:
        out = bytearray()
        for byte in data:
            if self.random.random() >= self.rate:
                out.append(byte)
                continue
            self.faults += 1
            match self.random.randrange(5):
                case 0:
                    out.append(byte ^ 1 << self.random.randrange(8))
                case 1:
                    pass
                case 2:
                    out += bytes([byte, byte])
                case 3:
                    out += bytes([byte, self.random.randrange(256)])
                case 4:
                    break
        return bytes(out)

    def write(self, data: bytes) -> None:
        self.writes += 1
        if event := self.events.pop(self.writes, None):
            event()
        if not self.mute:
            self.inner.write(self._disturb(data))

    def read(self, timeout: float) -> bytes:
        return b"" if self.mute else self._disturb(self.inner.read(timeout))

    def reset(self) -> None:
        self.inner.reset()

    def close(self) -> None:
        self.inner.close()
