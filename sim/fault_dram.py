"""Kinds of fault of a board's DRAM, while weights stream from it.

The board has an SDRAM chip, simulated at its pins, and its networks stream all their weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from hw.config import PRESETS
from hw.registers import Space
from hw.sdram_timing import HALF
from sw.board.driver import Accelerator
from sw.board.protocol import Read, Request, Write, words

from .fault_kinds import once
from .fault_lab import Lab, Tally
from .fault_lines import Line

CONFIG = replace(PRESETS["tinyd"], sdram=True, clock_hz=80_000_000)
"""`tinyd` with that chip: what SDRAM is tried on."""

LONGEST = 100_000
"""Cycles that a chip fails for at most."""


def flipped(lab: Lab, tally: Tally, count: int) -> Iterator[None]:
    """A bit of the streamed weights flips: `verify` finds it, and an inference that reads it ends
    in an error. One of them comes first, in turn."""
    line, board = lab.connect(tally)
    for number in range(count):
        case = lab.random.choice(lab.cases)
        case.load(board)
        engine = lab.random.choice([n for n, words in enumerate(case.image.streams) if len(words)])
        stored = case.image.streams[engine]
        at = lab.random.randrange(len(stored))
        _write(board, board.config.stream_stride * engine + at,
               int(stored[at]) ^ 1 << lab.random.randrange(32))
        tally.faults += 1
        attempts: list[Callable[[], bool]] = [
            lambda case=case: case.infer(board), lambda: not board.verify()]
        for do in attempts if number % 2 else attempts[::-1]:
            lab.attempt(tally, line, do)
        if lab.attempt(tally, line, lambda case=case: case.load(board)) != "right":
            tally.unusable_after += 1
        lab.still_usable(tally, line, board, case)
        yield


def _write(board: Accelerator, address: int, word: int) -> None:
    """A word of DRAM, behind the driver's back but in its sequence."""
    board._session.ask(Request(Write(Space.DRAM, address, words([word])),
                               read=Read(Space.DRAM, address, 1)))


def failing(lab: Lab, tally: Tally, count: int) -> Iterator[None]:
    """One data line, or all of them, reads as 0 or 1 for a while, or until the operation has ended:
    a bad contact, a dead chip."""
    everything = (1 << HALF) - 1

    def fail(line: Line) -> None:
        lines = lab.random.choice((1 << lab.random.randrange(HALF), everything))
        line.inner.stick(*lab.random.choice(((lines, 0), (0, lines))))
        if lab.random.random() < 0.5:
            line.inner.step(int(LONGEST ** lab.random.random()))
            line.inner.stick()

    for during in ("load", "infer"):
        yield from once(lab, tally, -(-count // 2), during, fail,
                        mend=lambda line: line.inner.stick())


DRAM = {"DRAM bits": flipped, "DRAM fails": failing}
"""Kinds of a board with DRAM; with how many runs."""
