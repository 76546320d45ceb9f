"""A thread that keeps a board busy: jobs of one batch follow those of the one before at once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..errors import BadInput, SpikeTicketError
from .protocol import Reply
from .session import Job, Session


@dataclass(eq=False)
class _Task:
    """Jobs that were submitted together. check: raises if they must not be sent any more."""

    jobs: Sequence[Job]
    check: Callable[[], None]
    finish: Callable[[list[list[Reply]]], object]
    future: Future = field(default_factory=Future)
    taken: int = 0
    replies: list[list[Reply]] = field(default_factory=list)


@dataclass(eq=False)
class _Turn:
    """A place in the queue of somebody who wants the session for himself."""


class Background:
    """Runs submitted jobs in order on a session, in a thread that starts with the first of them.

    The session belongs to the thread while it has work, and else to whoever is in `exclusive`; both
    in the order in which they asked.
    """

    def __init__(self, session: Session):
        self._session = session
        self._state = threading.Condition()
        self._waiting: deque[_Task | _Turn] = deque()  # not taken whole yet
        self._open: deque[_Task] = deque()  # taken, in part or whole, not finished
        self._running = self._closed = False
        self._owner: int | None = None  # thread within `exclusive`
        self._thread: threading.Thread | None = None

    def submit(self, jobs: Sequence[Job], check: Callable[[], None],
               finish: Callable[[list[list[Reply]]], object]) -> Future:
        """A future of `finish(replies of each job)`, called in the thread.

        check: called there before the first job is sent; what it raises fails the future.
        """
        task = _Task(jobs, check, finish)
        with self._state:
            self._check_open()
            self._waiting.append(task)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, daemon=True,
                                                name=f"board {self._session.transport.name}")
                self._thread.start()
            self._state.notify_all()
        return task.future

    @contextmanager
    def exclusive(self) -> Iterator[Session]:
        """The session for the caller alone, after all that was submitted before has ended. Raises
        SpikeTicketError where it was closed."""
        me = threading.get_ident()
        if self._thread is not None and self._thread.ident == me:
            raise BadInput("a future's callback runs in the board's own thread and cannot "
                           "ask the board; do that where the result is waited for")
        if self._owner == me:  # again within
            yield self._session
            return
        turn = _Turn()
        with self._state:
            self._check_open()
            self._waiting.append(turn)
            try:
                self._state.wait_for(lambda: self._closed or (
                    self._owner is None and self._waiting[0] is turn
                    and not (self._open or self._running)))
                self._check_open()
                self._owner = me
            finally:
                self._waiting.remove(turn)
                self._state.notify_all()
        try:
            yield self._session
        finally:
            with self._state:
                self._owner = None
                self._state.notify_all()

    def close(self) -> None:
        """Wait for what is on its way; what is not fails."""
        with self._state:
            self._closed = True
            self._state.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        with self._state:
            self._state.wait_for(lambda: self._owner in (None, threading.get_ident()))

    def _check_open(self) -> None:
        if self._closed:
            raise BadInput(f"{self._session.transport.name}: the connection was closed; "
                           "open it again")

    def _work(self) -> None:
        while True:
            with self._state:
                self._state.wait_for(lambda: self._closed or (
                    self._waiting and isinstance(self._waiting[0], _Task)
                    and self._owner is None))
                if self._closed:
                    self._fail(SpikeTicketError(
                        f"{self._session.transport.name}: the connection was closed"))
                    return
                self._running = True
            error = None
            try:
                self._session.run(self._take, self._done)
            except BaseException as found:  # it belongs to those who wait for results
                error = found
            with self._state:
                self._running = False
                if error is not None:
                    self._fail(error)
                self._state.notify_all()

    def _fail(self, error: BaseException) -> None:
        """End every task with this error."""
        begun = list(self._open)
        later = [task for task in self._waiting if isinstance(task, _Task) and task not in begun]
        self._open.clear()
        self._waiting = deque(turn for turn in self._waiting if isinstance(turn, _Turn))
        for task in begun:
            task.future.set_exception(error)
        for task in later:
            if task.future.set_running_or_notify_cancel():
                task.future.set_exception(error)

    def _take(self) -> Job:
        with self._state:
            while self._waiting and not self._closed:
                task = self._waiting[0]
                if isinstance(task, _Turn):  # what was asked for after it waits
                    break
                if task.taken or self._begin(task):
                    task.taken += 1
                    if task.taken == len(task.jobs):
                        self._waiting.popleft()
                    return task.jobs[task.taken - 1]
                self._waiting.popleft()
            raise StopIteration

    def _begin(self, task: _Task) -> bool:
        """Whether a task has jobs to do: not cancelled, not out of date, not empty."""
        if not task.future.set_running_or_notify_cancel():
            return False
        try:
            task.check()
        except Exception as error:
            task.future.set_exception(error)
            return False
        self._open.append(task)
        if not task.jobs and self._open[0] is task:
            self._finish_first()
        return bool(task.jobs)

    def _done(self, replies: list[Reply]) -> None:
        task = self._open[0]
        task.replies.append(replies)
        if len(task.replies) == len(task.jobs):
            self._finish_first()
            while self._open and not self._open[0].jobs:  # empty ones end in their turn
                self._finish_first()

    def _finish_first(self) -> None:
        """End the earliest of the open tasks, all of whose replies are there."""
        with self._state:
            task = self._open.popleft()
        try:
            result = task.finish(task.replies)
        except Exception as error:
            task.future.set_exception(error)
        else:
            task.future.set_result(result)
