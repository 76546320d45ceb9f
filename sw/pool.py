"""Several boards as one: every image goes to whichever board is free.

    from sw import Pool

    with Pool(["/dev/ttyUSB1", "/dev/ttyUSB3", "sim"]) as pool:
        pool.load("fmnist-scnn")
        result = pool.infer(images)            # in the order of `images`

    Pool(["auto@10.0.0.5", "auto@10.0.0.6"], ray="auto")       # boards at other hosts, through Ray

    spiketicket bench pool sim sim /dev/ttyUSB1 --images 200    # images/s, and who did how many

Logits do not depend on which board computed them, nor on how many there are; cycles and counters
are those of the board that did the image, so they are the same everywhere only if the boards are.
"""

from __future__ import annotations

import threading
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from .board.batches import Framing, Loadable, Wanted, as_batch, opened
from .board.driver import Accelerator
from .board.inference import Inference
from .compile.image import Image
from .errors import SpikeTicketError
from .integer.gate import check_masks
from .ticket import Ticket


class BoardLost(UserWarning):
    """A board of a pool failed and was dropped; the others do its images."""


@dataclass(eq=False)
class _Member:
    """A board of the pool. chunk: images in one request, more where each request costs much."""

    name: str
    board: Accelerator | object
    chunk: int = 1
    alive: bool = True
    done: int = 0


@dataclass(eq=False)
class _Work:
    """A batch on its way. waiting: first images of chunks that no board has; parts: results by
    first image."""

    arrays: np.ndarray
    masks: np.ndarray | None
    counters: bool
    progress: Callable[[int], object] | None
    waiting: deque[int]
    parts: dict[int, Inference] = field(default_factory=dict)
    left: int = 0
    error: BaseException | None = None


class Pool:
    """Boards that share batches; see the module.

    members: accelerators, or what `Accelerator.open` takes; "WHERE@HOST" opens WHERE at another
        host, where a Ray node runs. All are closed with the pool.
    ray: address of the Ray cluster for members with a host; None starts one on this computer.
    ahead: requests that each board has at a time, so that its line does not rest.

    A board that fails is dropped with a `BoardLost` warning, and its images go to the others.
    Raises SpikeTicketError if none is left, and for a bad input before any board is asked.
    """

    def __init__(self, members: Sequence[str | Accelerator], *, ray: str | None = None,
                 ahead: int = 4):
        if not members:
            raise SpikeTicketError("a pool needs at least one board")
        if ahead < 1:
            raise SpikeTicketError(f"ahead {ahead} is below 1")
        self._ahead = ahead
        self._members: list[_Member] = []
        self._state = threading.Condition()
        self._wanted: Wanted | Image | None = None
        self._gates: object = None
        self._framing = Framing()
        self._remote = None
        self._lost: list[str] = []
        try:
            for number, member in enumerate(members):
                self._members.append(self._opened(member, number, ray))
        except BaseException:
            self.close()
            raise

    def _opened(self, member: str | Accelerator, number: int, ray: str | None) -> _Member:
        if not isinstance(member, str):
            return _Member(f"{number}: {member.transport.name}", member)
        where, at, host = member.rpartition("@")
        if not at:
            return _Member(f"{number}: {member}", Accelerator.open(member))
        from .board.pool_ray import CHUNK, Cluster

        if self._remote is None:
            self._remote = Cluster(ray)
        return _Member(f"{number}: {member}", self._remote.open(where, host), CHUNK)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Let go of all boards."""
        for member in self._members:
            try:
                member.board.close()
            except SpikeTicketError as error:  # a board that is gone cannot be left properly
                self._lost.append(f"board {member.name}: {error}")
        self._members = []
        if self._remote is not None:
            self._remote.close()
            self._remote = None
        self._warn()

    @property
    def boards(self) -> dict[str, int]:
        """Boards that are left, by name, with the images each has done."""
        return {member.name: member.done for member in self._members if member.alive}

    def load(self, what: Loadable) -> None:
        """Load a ticket into every board, each compiled for its own core; see `Accelerator.load`.

        A board that it does not fit is dropped with a warning.
        """
        what = opened(what)
        network = what.network if isinstance(what, Ticket) else what
        self._wanted = network if isinstance(network, Image) else Wanted.of(network)
        self._gates = network.gate if isinstance(network, Image) else network.gates
        self._framing = Framing.of(what.metadata) if isinstance(what, Ticket) else Framing()
        living = self._living()
        with ThreadPoolExecutor(len(living)) as threads:
            for member, future in [(member, threads.submit(member.board.load, what))
                                   for member in living]:
                try:
                    future.result()
                except SpikeTicketError as error:
                    self._drop(member, error)
        self._warn()
        self._living()

    def infer(self, batch: object, masks: np.ndarray | None = None, *, counters: bool = False,
              progress: Callable[[int], object] | None = None) -> Inference:
        """As `Accelerator.infer`; images are shared out one by one."""
        if self._wanted is None:
            raise SpikeTicketError("no network is loaded; call load() first")
        arrays = as_batch(self._wanted, batch, self._framing)
        masks = self._checked(masks, len(arrays))
        living = self._living()
        if not len(arrays):
            return living[0].board.submit(arrays, masks, counters=counters).result()
        size = max(1, min(min(member.chunk for member in living),
                          len(arrays) // (2 * len(living))))
        work = _Work(arrays, masks, counters, progress, deque(range(0, len(arrays), size)),
                     left=len(range(0, len(arrays), size)))
        threads = [threading.Thread(target=self._feed, args=(member, work, size), daemon=True,
                                    name=f"pool {member.name}") for member in living]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        except BaseException as error:  # an interrupt: what is on its way ends, nothing new begins
            with self._state:
                work.error = error
                self._state.notify_all()
            for thread in threads:
                thread.join()
        self._warn()
        if work.error is not None:
            raise work.error
        return Inference.joined([work.parts[first] for first in sorted(work.parts)])

    def alone(self, batch: object) -> Inference:
        """As `infer`, on the first board alone: what the others are compared with."""
        arrays = as_batch(self._wanted, batch, self._framing)
        return self._living()[0].board.submit(arrays, None).result()

    def _checked(self, masks: np.ndarray | None, images: int) -> np.ndarray | None:
        if isinstance(self._wanted, Image):
            return (self._gates.check_masks(masks, images) if self._gates is not None
                    else check_masks({}, masks, images))
        return check_masks(self._gates, masks, images)

    def _living(self) -> list[_Member]:
        living = [member for member in self._members if member.alive]
        if not living:
            raise SpikeTicketError("no board of the pool is left; see the warnings for what became "
                                   "of each, then make a new pool")
        return living

    def _drop(self, member: _Member, error: BaseException) -> None:
        member.alive = False
        self._lost.append(f"board {member.name} is dropped: {error}")

    def _warn(self) -> None:
        """Tell of the boards that were lost; in the caller's thread, which may turn it into an
        error."""
        lost, self._lost = self._lost, []
        for text in lost:
            warnings.warn(BoardLost(text), stacklevel=3)

    def _feed(self, member: _Member, work: _Work, size: int) -> None:
        """Keep one board busy until the whole batch is done."""
        mine: deque[tuple[int, Future]] = deque()
        while True:
            with self._state:
                # Others may fail yet and leave their images to this board.
                self._state.wait_for(lambda: mine or work.waiting or not work.left or work.error)
                if work.error or not work.left:
                    return
                taken = ([work.waiting.popleft()
                          for _ in range(min(self._ahead - len(mine), len(work.waiting)))])
            try:
                for first in taken:
                    some = slice(first, first + size)
                    mine.append((first, member.board.submit(
                        work.arrays[some], None if work.masks is None else work.masks[some],
                        counters=work.counters)))
                first, future = mine[0]
                part = future.result()
            except Exception as error:
                self._leave(member, work, sorted({*taken, *(first for first, _ in mine)}), error)
                return
            mine.popleft()
            with self._state:
                work.parts[first] = part
                work.left -= 1
                member.done += len(part.logits)
                try:
                    if work.progress is not None:
                        for _ in range(len(part.logits)):
                            work.progress(1)
                except BaseException as error:
                    work.error = error
                self._state.notify_all()

    def _leave(self, member: _Member, work: _Work, images: list[int], error: Exception) -> None:
        """A board is lost; `images` are for the others."""
        with self._state:
            self._drop(member, error)
            work.waiting.extendleft(reversed(images))
            if not any(other.alive for other in self._members):
                work.error = SpikeTicketError("no board of the pool is left; the last one, "
                                              f"{member.name}: {error}")
            self._state.notify_all()
