"""Runs something on a board that is being disturbed, and judges how it ended."""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path

from sw.board.driver import Accelerator
from sw.errors import SpikeTicketError

from .board import SimTransport
from .fault_cases import Case
from .fault_lines import Device, Line
from .network import SimUdpTransport

LIMIT, SLACK, SYNCS = 20.0, 0.5, 10
"""Of `sw.board.session.Session`: seconds within which a job must be done beyond what bytes and
cycles take, seconds that a reply may be late, attempts to start anew. A test compares them."""

WATCHDOG = 300
"""Seconds of this computer's time after which a run counts as hanging."""


def bound(patience: float) -> float:
    """Seconds from the last job that was done to the error at the latest: the limit, the wait that
    notices that it is past, the attempts to start anew before that, and what bytes and cycles of
    the open requests take, three times. patience: the longest wait for a reply."""
    return LIMIT + SYNCS * SLACK + 3 * patience


class Hang(BaseException):
    """The watchdog's; nothing should catch it."""


@contextmanager
def watchdog(seconds: int = WATCHDOG) -> Iterator[None]:
    def bark(*_):
        raise Hang

    before = signal.signal(signal.SIGALRM, bark)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@dataclass
class Tally:
    """What happened under one kind of fault.

    kind, rate: per byte, None where faults come one by one. bytes: over the line, both ways.
    faults: injected. runs: operations (load, infer, trace, verify, connect). errors: that ended in
    a SpikeTicketError. silent_wrong: results that were not right and said nothing. hangs: runs that
    took longer than `bound` says. crashes: any other exception. unusable_after: faults after which
    the next undisturbed operation did not work.
    max_seconds_to_error: from the last job that was done to the error; max_seconds_to_result: the
    longest wait between two jobs of a run that ended well. Both in seconds of the line.
    messages: the errors' texts, with their numbers.
    """

    kind: str
    rate: float | None = None
    bytes: int = 0
    faults: int = 0
    runs: int = 0
    errors: int = 0
    silent_wrong: int = 0
    hangs: int = 0
    crashes: int = 0
    unusable_after: int = 0
    max_seconds_to_error: float = 0.0
    max_seconds_to_result: float = 0.0
    messages: Counter[str] = field(default_factory=Counter)

    @property
    def passed(self) -> bool:
        return not (self.silent_wrong or self.hangs or self.crashes or self.unusable_after)

    def as_dict(self) -> dict:
        return {field.name: getattr(self, field.name) for field in fields(self)} | {
            "messages": dict(self.messages.most_common())}

    def add(self, other: Tally) -> None:
        for name in ("bytes", "faults", "runs", "errors", "silent_wrong", "hangs", "crashes",
                     "unusable_after"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("max_seconds_to_error", "max_seconds_to_result"):
            setattr(self, name, max(getattr(self, name), getattr(other, name)))
        self.messages.update(other.messages)


class Lab:
    """A simulated board, networks for it, and random numbers.

    transport: bytes, pins (`fault_board.PinTransport`) or datagrams (`network.SimUdpTransport`).
    library: of the board for bytes.
    """

    def __init__(self, transport: SimTransport | SimUdpTransport, cases: list[Case],
                 library: Path, seed: object):
        self.transport, self.cases, self.library = transport, cases, library
        self.random = random.Random(f"{seed}")
        self._board: Accelerator | None = None

    def close(self) -> None:
        """Let go of the driver that `connect` made."""
        if self._board is not None:
            self._board.close()
            self._board = None

    def connect(self, tally: Tally) -> tuple[Line, Accelerator]:
        """A line without faults yet, and the driver on it; the one before is closed."""
        self.close()
        line = Line(self.transport, self.random)
        self._board = board = Accelerator(line, self.transport.config)
        line.jobs = lambda: board.statistics.jobs
        board.connect()
        tally.bytes += line.bytes
        line.bytes = 0
        return line, board

    def attempt(self, tally: Tally, line: Line | Device, do: Callable[[], bool]) -> str:
        """Run something; returns how it ended: right, wrong, error, hang or crash."""
        simulated = isinstance(line, Line)
        if simulated:
            line.start()
        began, message = line.now(), ""
        try:
            with watchdog():
                ended = "right" if do() else "wrong"
        except SpikeTicketError as error:
            ended, message = "error", str(error)
        except Hang:
            ended, message = "hang", f"no end after {WATCHDOG} s of computing time"
        except Exception as error:
            ended, message = "crash", f"{type(error).__name__}: {error}"
        seconds = line.since if simulated else line.now() - began
        tally.runs += 1
        tally.bytes += line.bytes
        line.bytes = 0
        if message:
            tally.messages[message.removeprefix(f"{line.name}: ")] += 1
        if max(seconds, line.longest if simulated else 0.0) > bound(
                line.patience if simulated else SLACK):
            ended = "hang"
        if ended == "error":
            tally.errors += 1
            tally.max_seconds_to_error = max(tally.max_seconds_to_error, seconds)
        elif ended == "right":
            tally.max_seconds_to_result = max(tally.max_seconds_to_result, seconds,
                                              line.longest if simulated else 0.0)
        tally.silent_wrong += ended == "wrong"
        tally.hangs += ended == "hang"
        tally.crashes += ended == "crash"
        return ended

    def still_usable(self, tally: Tally, line: Line, board: Accelerator, case: Case) -> None:
        """After a fault, on a line without any: the next command gives what it should."""
        line.quieten()
        before = tally.runs, tally.errors

        def command() -> bool:
            if board.image is None:
                case.load(board)
            return case.infer(board)

        if self.attempt(tally, line, command) != "right":
            tally.unusable_after += 1
        tally.runs, tally.errors = before[0] + 1, before[1]
