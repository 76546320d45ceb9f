"""Lines that disturb what passes. They keep their own time, so that a second's wait costs none."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from sw.board.transport import Transport


class ByteFaults:
    """Disturbs bytes that pass, each with probability `rate`; what was held back comes later.

    kind: one of `KINDS`. faults: how many there were.
    Raises ValueError for another kind or a rate outside 0..1.
    """

    KINDS = ("flip", "replace", "insert", "drop", "duplicate", "truncate", "reorder")

    def __init__(self, kind: str, rate: float, random: random.Random):
        if kind not in self.KINDS:
            raise ValueError(f"kind {kind!r} is none of {', '.join(self.KINDS)}")
        if not 0 <= rate < 1:
            raise ValueError(f"rate {rate} is outside 0..1")
        self.kind, self.rate, self.random, self.faults = kind, rate, random, 0
        self._held = b""
        self._left = self._gap()

    def _gap(self) -> int:
        """Bytes before the next fault: geometric, so that undisturbed bytes cost nothing."""
        if not self.rate:
            return 1 << 62
        return int(math.log(1 - self.random.random()) / math.log1p(-self.rate))

    def __call__(self, data: bytes) -> bytes:
        """What comes of a portion."""
        held, self._held = self._held, b""
        out = bytearray()
        while self._left < len(data):
            out += data[:self._left]
            data = self._disturb(out, data[self._left:])
            self._left = self._gap()
            self.faults += 1
        self._left -= len(data)
        return bytes(out + data) + held

    def release(self) -> bytes:
        """What was held back and nothing came after."""
        held, self._held = self._held, b""
        return held

    def _disturb(self, out: bytearray, data: bytes) -> bytes:
        """Put the first byte of `data`, disturbed, at the end of `out`; returns what follows."""
        byte, draw = data[0], self.random.randrange
        match self.kind:
            case "flip":
                out.append(byte ^ 1 << draw(8))
            case "replace":
                out.append(draw(256))
            case "insert":
                out += bytes([draw(256), byte])
            case "duplicate":
                count = draw(1, 65)
                out += data[:count] * 2
                return data[count:]
            case "truncate":
                return b""
            case "reorder":
                self._held += data
                return b""
        return data[1:]


class Foreign:
    """Puts another program's bytes into portions, with probability `chance` each; otherwise as
    `ByteFaults`."""

    def __init__(self, chance: float, random: random.Random):
        self.chance, self.random, self.faults = chance, random, 0

    def __call__(self, data: bytes) -> bytes:
        if self.random.random() >= self.chance:
            return data
        self.faults += 1
        place = self.random.randrange(len(data) + 1)
        return data[:place] + foreign(self.random) + data[place:]

    def release(self) -> bytes:
        return b""


class Line(Transport):
    """A line to `inner` that disturbs what passes and keeps its own time.

    inner: the simulated board. to_board, from_board: `ByteFaults`, `Foreign` or None, each way.
    event: called with the bytes of each write; where it returns True it has dealt with them itself.
    mute: nothing passes. jobs: gives how many have been done.

    `now()` is in seconds of the simulated board, and a wait for nothing lasts as long as it was
    allowed to although it takes no time here. `since`: seconds since a job was done or `start` was
    called; `longest`: the most between two; `patience`: the longest wait that was allowed.
    """

    def __init__(self, inner: Transport, random: random.Random):
        self.inner, self.name, self.baud = inner, inner.name, inner.baud
        self.frames, self.advice = inner.frames, inner.advice
        self.random_below = random.randrange
        self.to_board: ByteFaults | Foreign | None = None
        self.from_board: ByteFaults | Foreign | None = None
        self.event: Callable[[bytes], bool] | None = None
        self.jobs: Callable[[], int] = int
        self.mute = False
        self.bytes = 0
        self.longest = self.patience = self._waited = self._mark = 0.0
        self._done = 0

    def now(self) -> float:
        return self.inner.now() + self._waited

    def start(self) -> None:
        """Measure from here."""
        self._done, self._mark, self.longest, self.patience = self.jobs(), self.now(), 0.0, 0.0

    @property
    def since(self) -> float:
        return self.now() - self._mark

    def quieten(self) -> None:
        """No more faults."""
        self.to_board = self.from_board = self.event = None
        self.mute = False

    def write(self, data: bytes) -> None:
        self.bytes += len(data)
        if self.to_board:
            data = self.to_board(data)
        if not self.mute and not (self.event and self.event(data)):
            self.inner.write(data)

    def read(self, timeout: float) -> bytes:
        if (done := self.jobs()) != self._done:
            self.longest = max(self.longest, self.since)
            self._done, self._mark = done, self.now()
        self.patience = max(self.patience, timeout)
        before = self.now()
        data = b"" if self.mute else self.inner.read(timeout)
        self.bytes += len(data)
        if self.from_board:
            data = self.from_board(data) or self.from_board.release()
        if not data:
            self._waited += max(0.0, timeout - (self.now() - before))
        return data

    def reset(self) -> None:
        self.inner.reset()

    def close(self) -> None:
        """Nothing: the board behind the line stays."""


class Device(Transport):
    """Something else at the port. answer: gives what it says to what it was sent; each portion it
    says takes a millisecond."""

    def __init__(self, name: str, answer: Callable[[bytes], bytes]):
        self.name, self._answer = name, answer
        self.bytes, self._time, self._sent = 0, 0.0, b""

    def now(self) -> float:
        return self._time

    def write(self, data: bytes) -> None:
        self.bytes += len(data)
        self._sent += data

    def read(self, timeout: float) -> bytes:
        sent, self._sent = self._sent, b""
        data = self._answer(sent)
        self.bytes += len(data)
        self._time += 1e-3 if data else timeout
        return data

    def reset(self) -> None:
        """It takes no notice."""

    def close(self) -> None:
        """Nothing to let go of."""


CONSOLE = (b"\r\nU-Boot 2024.01 (Jan 08 2024)\r\nDRAM:  512 MiB\r\n", b"login: ", b"\x1b[2J\x1b[H",
           b"[    0.000000] Booting Linux on physical CPU 0x0\r\n", b"# \r\n")
MODEM = (b"AT\r\n", b"ATZ\r", b"AT+CGMI\r\n", b"AT&F1E0V1\r", b"+++", b"OK\r\n", b"ERROR\r\n")


def foreign(random: random.Random) -> bytes:
    """Another program's bytes: a modem's, a console's, a binary protocol's."""
    match random.randrange(4):
        case 0:
            return random.choice(MODEM)
        case 1:
            return random.choice(CONSOLE) * random.randrange(1, 4)
        case 2:
            return random.randbytes(random.choice((1, 7, 300, 3000)))
        case _:
            return b"\x7e" + random.randbytes(random.randrange(2, 60)).replace(b"\0", b"") + b"\x7e"
