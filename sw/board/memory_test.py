"""The test of a board's DRAM: its lines one by one, then words all over it.

It finds what a cold joint, a wrong chip or a dead one does: not every weak cell, which the checks
of the streams find while a network runs.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hw import registers
from hw.config import WORD_BITS, CoreConfig
from hw.registers import Space
from hw.sdram_timing import HALF

from ..errors import BadInput, BoardError
from .jobs import chunks
from .protocol import Read, Request, Write
from .session import Job, Session

ONES = (1 << WORD_BITS) - 1

PLACES, BLOCK = 64, 64
"""How many blocks all over the memory are filled with random words, and how long they are."""


def check_dram(session: Session, config: CoreConfig,
               progress: Callable[[int], object] | None = None) -> int:
    """Write and read back; returns the words that were compared. Overwrites what is there.

    progress: called with the words of each step. Raises BoardError, which names the DRAM and the
    lines that are stuck, or a word that is wrong; BadInput for a board without DRAM.
    """
    name, size = session.transport.name, config.dram_words
    if not size:
        raise BadInput(f"{name}: this board has no DRAM to test")
    rng = np.random.default_rng(1)
    walk = [0, ONES, *(1 << bit for bit in range(WORD_BITS)),
            *(ONES ^ 1 << bit for bit in range(WORD_BITS))]
    lines = [0, *(1 << bit for bit in range((size - 1).bit_length()))]
    places = np.arange(PLACES) * (size // PLACES) + rng.integers(0, size // PLACES - BLOCK, PLACES)
    steps = (
        {0: np.array(walk, np.uint32)},
        {place: rng.integers(0, 1 << WORD_BITS, 1, np.uint32) for place in lines},
        {int(place): rng.integers(0, 1 << WORD_BITS, BLOCK, np.uint32) for place in places})
    done = 0
    for step in steps:
        put(session, step)
        for place, sent in step.items():
            got = get(session, place, len(sent))
            if (got != sent).any():
                raise BoardError(f"{name}: {_diagnosis(session, config, step, place, sent, got)}; "
                                 "program the board again, and suspect its DRAM if that does not "
                                 "help")
            done += len(sent)
            if progress:
                progress(len(sent))
    return done


def put(session: Session, blocks: dict[int, np.ndarray]) -> None:
    """Write words at addresses of the DRAM."""
    jobs: list[Job] = [
        [Request(Write(Space.DRAM, place + start, words[start:start + count]))]
        for place, words in blocks.items()
        for start, count in chunks(0, len(words), session.transport.frames.load)]
    session.exchange(jobs)


def get(session: Session, place: int, count: int) -> np.ndarray:
    """Words from an address of the DRAM on, uint32 [count]."""
    jobs: list[Job] = [[Request(read=Read(Space.DRAM, start, length))]
                       for start, length in chunks(place, count, registers.MAX_READ)]
    return np.concatenate([reply.words for [reply] in session.exchange(jobs)])


def _diagnosis(session: Session, config: CoreConfig, step: dict[int, np.ndarray], place: int,
               sent: np.ndarray, got: np.ndarray) -> str:
    """What is wrong, as far as the words tell."""
    if len(sent) == 1:      # of the walk over addresses: is it a word of another one?
        other = next((at for at, words in step.items() if at != place and words[0] == got[0]), None)
        if other is not None:
            return (f"the DRAM gives the word of address {other:#x} at {place:#x}: an address line "
                    "is stuck")
    if (got == ONES).all():
        return "the DRAM does not answer: every word reads as ones"
    # A word comes over the data lines of a chip of 16 bits in two halves.
    in_halves = config.sdram or config.ddr3
    halves = np.concatenate([got & (1 << HALF) - 1, got >> HALF]) if in_halves else got
    bits, what = (HALF, "data line") if in_halves else (WORD_BITS, "bit")
    stuck = [f"{what} {bit} is stuck at {value}" for bit in range(bits) for value in (0, 1)
             if (halves >> bit & 1 == value).all()]
    if stuck and len(sent) > 1:
        return f"the DRAM is damaged: {', '.join(stuck[:4])}"
    at = int(np.flatnonzero(got != sent)[0])
    return (f"the DRAM is damaged: at {place + at:#x} it has {int(got[at]):08x}, written was "
            f"{int(sent[at]):08x}")
