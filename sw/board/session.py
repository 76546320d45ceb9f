"""Reliable exchange of requests and replies with a board over any transport.

A job is a few requests that must be done in order and undisturbed (write an input, run, read).
Requests are sent ahead of the replies as far as the board can buffer, so that it never has more
than it holds, however fast the line is and however long a request takes. After any trouble (a
damaged frame, a reply that does not come) the line is left to calm down, the sequence starts anew,
and every job whose last reply is missing is sent again from its beginning: a job is done whole or
not at all.

Each reply carries the board's epoch, which depends on every request that was ever done
(`hw.registers.next_epoch`). So it proves that the board did what this session asked, and nothing
that anybody else did.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from hw import registers
from hw.registers import STATUS_TEXT, Register, Space, Status

from ..errors import BoardError, BoardHeld, BoardSilent, LineDamaged, WrongBoard
from .protocol import FrameError, Reply, Request, Splitter, Write, stuffed, words
from .transport import Transport

Job = Sequence[Request]

_AGAIN = {Status.BAD_FRAME, Status.OVERRUN, Status.ORDER, Status.STOPPED}
"""Answers after which the same request may well succeed."""

_REMEDIES = {
    Status.TIMEOUT: "load the network again",
    Status.DAMAGED: "load the network again, and suspect the memory if that fails too",
    Status.OUT_OF_TURN: "run the network from its first layer",
}
"""What helps against other answers than OK, where it is not another version."""

_MAX_STALE = 1000
"""Answers to nothing that was asked, in a row, before the line counts as disturbed."""

_SYNC_ROOM = 16
"""Words of the board's buffer kept free, so that a request to start anew always fits."""

_WINDOW, _TROUBLES = 64, 8
"""So many recoveries within so many jobs, and a line whose rate was raised goes back to its first.
"""

MAX_RESETS = 5
"""Resets of the board within one job, after which it is not worth another attempt."""

KEEPS_RESETTING = "the board keeps resetting; check its power supply and its reset button"

_RESET_AFTER = 3
"""Attempts to start anew without an answer before the line is reset: the board's rate may be
another than the host's, since it lost power or since the request that set it got lost."""

_SECOND_SPEAKER = (
    "another program has sent requests to the board, so its network and results may not be this "
    "session's; end that program, then try again (the network is loaded anew)")

_SILENT = "no answer"


@dataclass
class Statistics:
    """What went over the line since the session began."""

    bytes_sent: int = 0
    bytes_received: int = 0
    jobs: int = 0
    recoveries: int = 0


@dataclass(eq=False)
class _Job:
    """A job, how many of its requests were sent, and the replies to those that have been done."""

    requests: Job
    sent: int = 0
    replies: list[Reply] = field(default_factory=list)


@dataclass
class _Sent:
    """A request on its way: of `job`, `last` if it ends the job."""

    job: _Job
    last: bool
    seq: int
    request: Request
    seconds: float
    """That the board may take, the time of the bytes on the line included."""
    epoch: int
    """The board's once it has been done, if nobody else asks for anything."""


@dataclass
class _Streak:
    """Failures since the last job was done: after `resets` and at time `since`; `allowed`: seconds
    that the open requests may take, and `done`: those that were answered since."""

    resets: int
    since: float
    failures: int = 0
    allowed: float = 0.0
    done: float = 0.0


class Session:
    """See the module.

    transport: the line; the session does not close it.
    clock_hz: of the board, to turn cycle limits into seconds; may be changed.
    retries: times in a row that jobs may fail before SpikeTicketError is raised.
    slack: seconds that a reply may be late beyond what its bytes and cycles take.
    limit: seconds beyond the bytes and cycles of the open jobs within which a job must be done;
    after the first failure past them SpikeTicketError is raised.
    on_reset: called when the board turns out to have lost its state, to put it back.

    Where another program has changed the board's state, the call that notices raises
    SpikeTicketError, and the next one puts the state back first, as after a reset.
    """

    SYNC_RETRIES = 10

    def __init__(self, transport: Transport, clock_hz: int = 1_000_000, *, retries: int = 100,
                 slack: float = 0.5, limit: float = 20.0):
        self.transport, self.statistics = transport, Statistics()
        self.on_reset: Callable[[], None] | None = None
        self.clock_hz, self._retries, self._slack = clock_hz, retries, slack
        self._limit = limit
        self._splitter = Splitter()
        self._arrived: deque[Reply] = deque()
        self._sent: deque[_Sent] = deque()
        self.resets = 0  # times that the board's state turned out not to be this session's
        self._synced = False
        self._seq = 0
        # Epochs that the board may have by what this session asked; None before it was asked.
        self._epochs: set[int] | None = None
        self._restoring = False
        self._fresh = False  # it answered as only a board does that was reset
        self._troubles: deque[int] = deque()  # jobs done at each of the last recoveries

    @contextlib.contextmanager
    def strict(self) -> Iterator[None]:
        """Within it the first trouble is an error, instead of the hundredth in a row."""
        kept, self._retries = self._retries, 0
        try:
            yield
        finally:
            self._retries = kept

    def set_rate(self, baud: int, divisor: int) -> None:
        """Change the line's rate, at the board (`divisor`: 1/16 clock cycles) and here.

        Should the answer get lost, the next exchange finds no board and goes back to the first
        rate.
        """
        self.ask(Request(Write(Space.REGISTER, Register.DIVISOR, words([divisor]))))
        self.transport.set_baud(baud)

    def restore_rate(self) -> None:
        """Back to the line's first rate at both ends (a break)."""
        self._troubles.clear()
        self._synced = False
        self.transport.reset()

    def ask(self, request: Request) -> Reply:
        """One request, one reply."""
        return self.exchange([[request]])[0][0]

    def exchange(self, jobs: Iterable[Job],
                 progress: Callable[[int], object] | None = None) -> list[list[Reply]]:
        """Do all jobs; returns the replies of each. `progress` is called with 1 per job done.

        `jobs` are taken one by one as the board has room, so that a generator makes the next while
        the board is at work. Raises as `run`.
        """
        results: list[list[Reply]] = []

        def done(replies: list[Reply]) -> None:
            results.append(replies)
            if progress is not None:
                progress(1)

        self.run(iter(jobs).__next__, done)
        return results

    def run(self, take: Callable[[], Job], done: Callable[[list[Reply]], object]) -> None:
        """Do jobs in order until there is none left and none unanswered.

        take: gives the next job, called whenever the board may have room for one; raises
        StopIteration where there is none now (it is asked again after the next reply).
        done: called with the replies of each job, in order; an exception in it ends the run.

        Raises SpikeTicketError if the board refuses a request or stays silent; the next run finds
        the line usable again, whatever ended this one.
        """
        unsent: deque[_Job] = deque()  # taken, not or not wholly sent, or to be sent again
        streak = _Streak(self.resets, self.transport.now())
        self._forget_sent()
        try:
            while True:
                self._send_ahead(unsent, take)
                if not self._sent:
                    return
                streak.allowed = max(streak.allowed, streak.done + self._patience())
                found, trouble = self._next_done()
                if found is not None:
                    item, reply = found
                    item.job.replies.append(reply)
                    streak.done += item.seconds
                    if item.last:
                        self.statistics.jobs += 1
                        done(item.job.replies)
                        streak = _Streak(self.resets, self.transport.now())
                    continue
                self._give_up_or_not(streak, trouble)
                self._recover(unsent)
        except BaseException as error:
            self._synced = False
            if isinstance(error, BoardHeld):  # whatever the board holds now is another's
                self._sent.clear()
                self._epochs = set()
            raise

    def _send_ahead(self, unsent: deque[_Job], take: Callable[[], Job]) -> None:
        """Send what the board has room for, of `unsent` first, then of what `take` gives."""
        while True:
            if not unsent:
                try:
                    unsent.append(_Job(take()))
                except StopIteration:
                    return
            if not self._synced:
                self._synchronise()
            job = unsent[0]
            while job.sent < len(job.requests):
                request = job.requests[job.sent]
                if not self._has_room(request):
                    return
                job.sent += 1
                self._sent.append(self._send(request, job, job.sent == len(job.requests)))
            unsent.popleft()

    def _give_up_or_not(self, streak: _Streak, trouble: str) -> None:
        """One more failure without a job done in between; raises if it is one too many."""
        streak.failures += 1
        resets = self.resets - streak.resets
        seconds = self.transport.now() - streak.since - streak.allowed
        name = self.transport.name
        if resets >= MAX_RESETS:
            raise BoardError(f"{name}: {KEEPS_RESETTING}")
        if streak.failures > self._retries or seconds > self._limit:
            kind = BoardSilent if trouble == _SILENT else LineDamaged
            raise kind(f"{name}: {trouble}, {streak.failures} times in a row; "
                       f"{self.transport.advice}")

    def _recover(self, unsent: deque[_Job]) -> None:
        """What is not finished starts again; a line that fails often goes back to its first rate.
        """
        self.statistics.recoveries += 1
        again = dict.fromkeys(item.job for item in self._sent if item.job not in unsent)
        unsent.extendleft(reversed(again))
        for job in unsent:
            job.sent, job.replies = 0, []
        self._synced = False
        self._troubles.append(self.statistics.jobs)
        while self._troubles[0] + _WINDOW < self.statistics.jobs:
            self._troubles.popleft()
        if len(self._troubles) >= _TROUBLES and self.transport.faster:
            self.restore_rate()

    def _next_done(self) -> tuple[tuple[_Sent, Reply] | None, str]:
        """The oldest request with its reply, or (None, what is wrong)."""
        for _ in range(_MAX_STALE):
            reply = self._reply(self._patience())
            if reply is None:
                for item in self._sent:
                    item.seconds = 0.0  # waited for now
                return None, _SILENT
            place = next((i for i, item in enumerate(self._sent) if item.seq == reply.seq), None)
            if reply.status in _AGAIN:
                numbers = {item.seq for item in self._sent} | {self._seq}
                self._fresh |= reply.expected == 0 and 0 not in numbers
                return None, STATUS_TEXT[reply.status]
            if place is None:
                continue  # a second copy of an answer
            if reply.epoch != self._sent[place].epoch:
                return None, "an answer belongs to something else"
            if reply.status != Status.OK:
                remedy = _REMEDIES.get(reply.status, "use a board and a host of one version")
                cycles = f" ({reply.cycles} cycles)" if reply.status == Status.TIMEOUT else ""
                raise BoardError(
                    f"{self.transport.name}: {STATUS_TEXT[reply.status]}{cycles}; {remedy}")
            if place > 0 or len(reply.words) != self._sent[0].request.reply_words:
                return None, "answers are missing"
            self._epochs = {reply.epoch}
            return (self._sent.popleft(), reply), ""
        return None, "stale answers"

    def _has_room(self, request: Request) -> bool:
        """Whether it may be sent ahead: what is unanswered must fit the board's buffer."""
        waiting = sum(item.request.buffer_words for item in self._sent)
        return (not waiting
                or waiting + request.buffer_words < registers.BUFFER_WORDS - _SYNC_ROOM)

    def _send(self, request: Request, job: _Job | None = None, last: bool = True,
              lead: bytes = b"") -> _Sent:
        frame, crc = stuffed(request.frame(self._seq))
        data = lead + frame
        before = self._sent[-1].epoch if self._sent else next(iter(self._epochs or {0}))
        epoch = registers.next_epoch(before, crc) if request.chained else before
        seconds = request.run.max_cycles / self.clock_hz if request.run else 0.0
        if self.transport.baud:
            seconds += 10 * (len(data) + 4 * request.reply_words + 32) / self.transport.baud
        item = _Sent(job or _Job(()), last, self._seq, request, seconds, epoch)
        self._seq = (self._seq + 1) & 0xFFFF
        self.transport.write(data)
        self.statistics.bytes_sent += len(data)
        return item

    def _patience(self) -> float:
        return sum(item.seconds for item in self._sent) + self._slack

    def _reply(self, timeout: float) -> Reply | None:
        """The next whole reply; None if none comes in time. Damaged ones are dropped."""
        deadline = self.transport.now() + timeout
        while not self._arrived:
            data = self.transport.read(timeout)
            self.statistics.bytes_received += len(data)
            for frame in self._splitter.feed(data):
                try:
                    self._arrived.append(Reply.decode(frame))
                except FrameError:
                    continue
            if not data or self.transport.now() > deadline:
                break
        return self._arrived.popleft() if self._arrived else None

    def _forget_sent(self) -> None:
        """Nothing is waited for any more; the board may have done any part of it, from the first
        request on."""
        if self._epochs is not None:
            self._epochs.update(item.epoch for item in self._sent)
        self._sent.clear()

    def _synchronise(self) -> None:
        """Start the sequence anew; every answer to what was sent before comes before this one's.

        Its epoch tells whether the board has the state that this session gave it.
        """
        patience = self._patience()
        self._forget_sent()
        for attempt in range(self.SYNC_RETRIES):
            if attempt == _RESET_AFTER:
                self.restore_rate()
            self._seq = self.transport.random_below(1 << 16)
            item = self._send(Request(sync=True), lead=b"\0")
            for _ in range(_MAX_STALE):
                reply = self._reply(patience + item.seconds)
                patience = self._slack  # whatever the board was at, it has ended
                if reply is None:
                    break
                if (reply.seq, reply.status, len(reply.words)) == (item.seq, Status.OK, 0):
                    self._synced = True
                    self._found(reply.epoch)
                    return
        raise BoardSilent(f"{self.transport.name}: {_SILENT}; {self.transport.advice}")

    def _found(self, epoch: int) -> None:
        """The board has this epoch: 0 after a reset, one that is possible, or another program's."""
        possible, self._epochs = self._epochs, {epoch}
        again, self._fresh = self._fresh and epoch == 0, False
        if possible is None or (epoch in possible and not again):
            return
        self.resets += 1
        if epoch != 0 and possible:
            self._epochs = set()  # the next start finds a board without this session's state
            raise WrongBoard(f"{self.transport.name}: {_SECOND_SPEAKER}")
        if self.on_reset is not None and not self._restoring:
            # A reset meanwhile shows in `resets`, and what puts the state back begins again.
            self._restoring = True
            try:
                self.on_reset()
            except BaseException:
                self._epochs = set()
                raise
            finally:
                self._restoring = False
