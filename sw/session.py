"""Reliable exchange of requests and replies with a board over any transport.

A job is a few requests that must be done in order and undisturbed (write an input, run, read). Jobs
are sent ahead of the replies as far as the board can buffer. After any trouble (a damaged frame, a
reply that does not come) the line is left to calm down, the sequence starts anew, and every job
whose last reply is missing is sent again from its beginning: a job is done whole or not at all.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from hw import registers
from hw.registers import STATUS_TEXT, Register, Space, Status

from .errors import SpikeTicketError
from .protocol import FrameError, Read, Reply, Request, Splitter, Write, words
from .transport import Transport

Job = Sequence[Request]

_AGAIN = {Status.BAD_FRAME, Status.OVERRUN, Status.ORDER}
"""Answers after which the same request may well succeed."""

_MAX_STALE = 1000
"""Answers to nothing that was asked, in a row, before the line counts as disturbed."""

_SYNC_ROOM = 16
"""Words of the board's buffer kept free, so that a request to start anew always fits."""

_CHECK = "check cable, port, baud rate and that the bitstream is SpikeTicket's"


@dataclass
class Statistics:
    """What went over the line since the session began."""

    bytes_sent: int = 0
    bytes_received: int = 0
    jobs: int = 0
    recoveries: int = 0


@dataclass
class _Sent:
    """A request on its way: of job `index`, `last` if it ends the job."""

    index: int
    last: bool
    seq: int
    request: Request
    seconds: float
    """That the board may take, the time of the bytes on the line included."""


class Session:
    """See the module.

    transport: the line; the session does not close it.
    clock_hz: of the board, to turn cycle limits into seconds.
    retries: times in a row that jobs may fail before SpikeTicketError is raised.
    slack: seconds that a reply may be late beyond what its bytes and cycles take.
    on_reset: called when the board turns out to have lost its state, to put it back.
    """

    SYNC_RETRIES = 10

    def __init__(self, transport: Transport, clock_hz: int, *, retries: int = 30,
                 slack: float = 0.5):
        self.transport, self.statistics = transport, Statistics()
        self.on_reset: Callable[[], None] | None = None
        self._clock_hz, self._retries, self._slack = clock_hz, retries, slack
        self._splitter = Splitter()
        self._arrived: deque[Reply] = deque()
        self._sent: deque[_Sent] = deque()
        self.epoch = 0  # grows whenever the board turns out to have lost its state
        self._synced = False
        self._seq = 0
        self._nonce: int | None = None

    def ask(self, request: Request) -> Reply:
        """One request, one reply."""
        return self.exchange([[request]])[0][0]

    def exchange(self, jobs: Iterable[Job],
                 progress: Callable[[int], object] | None = None) -> list[list[Reply]]:
        """Do all jobs; returns the replies of each. `progress` is called with 1 per job done.

        Raises SpikeTicketError if the board refuses a request or stays silent; the next exchange
        finds the line usable again, whatever ended this one.
        """
        all_jobs = list(jobs)
        todo = deque(range(len(all_jobs)))
        results: list[list[Reply]] = [[] for _ in all_jobs]
        failures = 0
        self._sent.clear()
        try:
            while todo or self._sent:
                if not self._synced:
                    self._synchronise()
                while todo and self._has_room(all_jobs[todo[0]]):
                    self._send_job(todo[0], all_jobs[todo[0]])
                    results[todo.popleft()] = []
                done, trouble = self._next_done()
                if done is not None:
                    results[done[0].index].append(done[1])
                    if done[0].last:
                        failures = 0
                        self.statistics.jobs += 1
                        if progress is not None:
                            progress(1)
                    continue
                failures += 1
                if failures > self._retries:
                    raise SpikeTicketError(f"{self.transport.name}: {trouble}, {failures} times in "
                                           f"a row; {_CHECK}")
                # What is not finished starts again.
                self.statistics.recoveries += 1
                todo.extendleft(sorted({item.index for item in self._sent}, reverse=True))
                self._synced = False
        except BaseException:
            self._synced = False
            raise
        return results

    def _next_done(self) -> tuple[tuple[_Sent, Reply] | None, str]:
        """The oldest request with its reply, or (None, what is wrong)."""
        for _ in range(_MAX_STALE):
            reply = self._reply(self._patience())
            if reply is None:
                return None, "no answer"
            place = next((i for i, item in enumerate(self._sent) if item.seq == reply.seq), None)
            if reply.status in _AGAIN:
                return None, STATUS_TEXT[reply.status]
            if place is None:
                continue  # a second copy of an answer
            if reply.status != Status.OK:
                remedy = (f" ({reply.cycles} cycles); load the network again"
                          if reply.status == Status.TIMEOUT
                          else "; use a board and a host of one version")
                raise SpikeTicketError(
                    f"{self.transport.name}: {STATUS_TEXT[reply.status]}{remedy}")
            if place > 0 or len(reply.words) != self._sent[0].request.reply_words:
                return None, "answers are missing"
            return (self._sent.popleft(), reply), ""
        return None, "stale answers"

    def _has_room(self, job: Job) -> bool:
        """Whether the job may be sent ahead: what is unanswered must fit the board's buffer."""
        waiting = sum(item.request.frame_words for item in self._sent)
        need = sum(request.frame_words for request in job)
        return not waiting or waiting + need < registers.BUFFER_WORDS - _SYNC_ROOM

    def _send_job(self, index: int, job: Job) -> None:
        for part, request in enumerate(job):
            self._sent.append(self._send(request, index, part == len(job) - 1))

    def _send(self, request: Request, index: int = 0, last: bool = True,
              lead: bytes = b"") -> _Sent:
        data = lead + request.encode(self._seq)
        seconds = request.run.max_cycles / self._clock_hz if request.run else 0.0
        if self.transport.baud:
            seconds += 10 * (len(data) + 4 * request.reply_words + 32) / self.transport.baud
        item = _Sent(index, last, self._seq, request, seconds)
        self._seq = (self._seq + 1) & 0xFFFF
        self.transport.write(data)
        self.statistics.bytes_sent += len(data)
        return item

    def _patience(self) -> float:
        return sum(item.seconds for item in self._sent) + self._slack

    def _reply(self, timeout: float) -> Reply | None:
        """The next whole reply; None if none comes in time. Damaged ones are dropped."""
        deadline = time.monotonic() + timeout
        while not self._arrived:
            data = self.transport.read(timeout)
            self.statistics.bytes_received += len(data)
            for frame in self._splitter.feed(data):
                try:
                    self._arrived.append(Reply.decode(frame))
                except FrameError:
                    continue
            if not data or time.monotonic() > deadline:
                break
        return self._arrived.popleft() if self._arrived else None

    def _synchronise(self) -> None:
        """Start the sequence anew; every answer to what was sent before comes before this one's.

        A number kept in the board's scratch register tells whether the board kept its state.
        """
        patience = self._patience()
        self._sent.clear()
        read = Read(Space.REGISTER, Register.SCRATCH, 1)
        for _ in range(self.SYNC_RETRIES):
            self._seq = secrets.randbelow(1 << 16)
            item = self._send(Request(read=read, sync=True), lead=b"\0")
            for _ in range(_MAX_STALE):
                reply = self._reply(patience + item.seconds)
                if reply is None:
                    break
                if (reply.seq, reply.status, len(reply.words)) == (item.seq, Status.OK, 1):
                    self._synced = True
                    if int(reply.words[0]) != self._nonce:
                        self._new_board(first=self._nonce is None)
                    return
        raise SpikeTicketError(f"{self.transport.name}: no answer; {_CHECK}")

    def _new_board(self, first: bool) -> None:
        self.epoch += 1
        self._nonce = secrets.randbelow((1 << 32) - 1) + 1
        self.ask(Request(Write(Space.REGISTER, Register.SCRATCH, words([self._nonce]))))
        if not first and self.on_reset is not None:
            self.on_reset()
