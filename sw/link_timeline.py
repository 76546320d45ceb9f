"""What line and core do at each moment while inputs run one behind the other (`spiketicket bench
overlap`): input n + 1 arrives while n computes and the result of n - 1 leaves.

On the simulated board all times but one are measured, in its own cycles: when the driver wrote a
request, whose bytes follow those before at the line's rate; when a reply's last byte came; how long
a run took. Where a run lies follows from these: it ends when its reply begins, which on Ethernet,
where a reply is collected before it leaves, is a few microseconds late.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np

from hw.boards import BOARDS

from . import bundled, ticket
from .board.driver import Accelerator
from .board.jobs import inference_jobs, line_bytes
from .board.throughput import line_name, line_seconds
from .board.transport import Transport
from .compile.compiler import compile_network
from .compile.image import Image
from .core import cores
from .data import datasets
from .errors import BadInput
from .link_speed import BAUDS, ethernet_line, serial_line
from .plan import recorded_activity

SHOWN = 6
"""Inputs in a picture."""

Span = tuple[float, float]
"""Seconds, begin and end."""


@dataclass(frozen=True)
class Passage:
    """An input's way: on the line to the board, in the core, on the line back."""

    there: Span
    core: Span
    back: Span


@dataclass(frozen=True)
class Timeline:
    """Passages of inputs, in order, over a line; seconds from the first byte on."""

    line: str
    passages: tuple[Passage, ...]

    @property
    def overlapped(self) -> float:
        """Share of the time that the core computes in which a later input arrives; while it is at
        the last one there is none, so that does not count."""
        shared = sum(max(0.0, min(one.core[1], later.there[1]) - max(one.core[0], later.there[0]))
                     for n, one in enumerate(self.passages) for later in self.passages[n + 1:])
        return shared / sum(end - begin for begin, end in (one.core for one in self.passages[:-1]))

    def as_dict(self) -> dict:
        return asdict(self) | {"overlapped": self.overlapped}


def record(board: Accelerator, image: Image, inputs: np.ndarray) -> Timeline:
    """Run the first SHOWN inputs of a network that is loaded.

    Raises BadInput where the board is no simulated one, or requests were repeated.
    """
    line, inputs = board.transport, inputs[:SHOWN]
    if not (line.simulated and line.timed):
        raise BadInput(f"{line.name}: a timeline is of a simulated board")
    jobs = list(inference_jobs(image, inputs, None, 1, False, frames=line.frames))
    ended: list[float] = []
    with _noted(line) as writes:
        result = board.infer(inputs, progress=lambda _: ended.append(line.now()))
    if len(writes) != sum(map(len, jobs)):
        raise BadInput(f"{line.name}: {len(writes)} requests for {sum(map(len, jobs))}; "
                       "measure again, undisturbed")
    clock = image.config.clock_hz
    # A byte takes whole cycles.
    baud = line.baud and 10 * clock / round(10 * clock / line.baud)
    passages, free, place = [], 0.0, iter(writes)
    for job, end, cycles in zip(jobs, ended, result.cycles, strict=True):
        begins = []
        for written, size in (next(place) for _ in job):
            begins.append(max(written, free))
            free = begins[-1] + line_seconds(baud, size)
        leaves = end - line_seconds(baud, line_bytes(job[-1:])[1])
        passages.append(Passage((begins[0], free),
                                (leaves - int(cycles) / clock, leaves), (leaves, end)))
    return Timeline(line_name(line.baud), tuple(_from(passages[0].there[0], passages)))


@contextmanager
def _noted(line: Transport) -> Iterator[list[tuple[float, int]]]:
    """(time, bytes) of every write within."""
    writes, write = [], line.write

    def noted(data: bytes) -> None:
        writes.append((line.now(), len(data)))
        write(data)

    line.write = noted
    try:
        yield writes
    finally:
        del line.write


def _from(start: float, passages: list[Passage]) -> Iterator[Passage]:
    for one in passages:
        yield Passage(*(tuple(at - start for at in span)
                        for span in (one.there, one.core, one.back)))


def measure(name: str, progress: bool = True) -> tuple[Timeline, ...]:
    """A ticket's timelines, on its first samples: at 3 and 12 Mbaud, and over Ethernet.

    Raises SpikeTicketError where the ticket cannot be loaded or has no samples.
    """
    found = ticket.load(bundled.find(name))
    inputs = datasets.for_network(found.network, bundled.data_for(found), limit=SHOWN).images
    _, config = cores.choose(BOARDS["sim"], found.network)
    image = compile_network(found.network, config, recorded_activity(found))
    timelines = []
    with Accelerator(serial_line(config, max(BAUDS), progress), config) as board:
        board.load(image)
        for baud in BAUDS:
            board.transport.set_baud(baud)
            timelines.append(record(board, image, inputs))
    with Accelerator(ethernet_line(config, progress), config) as board:
        board.load(image)
        timelines.append(record(board, image, inputs))
    return tuple(timelines)


def show(timelines: list[dict]) -> None:
    """Print a line for each."""
    for one in timelines:
        print(f"{one['line']}: while the core computes, the next input arrives "
              f"{one['overlapped']:.0%} of the time")
