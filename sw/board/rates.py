"""The rate of a board's serial line: raised as far as bytes pass unharmed.

Register DIVISOR sets the board's end; a break brings the first rate back, so a rate that turns out
too high costs half a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hw import registers
from hw.boards import BOARDS
from hw.config import CoreConfig
from hw.registers import Space

from ..errors import SpikeTicketError
from .protocol import Read, Request, Write
from .session import Session

RATES = (12_000_000, 8_000_000, 6_000_000, 4_000_000, 3_000_000, 2_000_000, 1_000_000)
"""Rates to try, the highest first: those that USB bridges make exactly (12 MHz / n)."""

CYCLES_A_BIT = 5
"""Fewer leave too little room for a host whose clock is off (`docs/link.md`, Rates)."""

DIVISOR_ERROR = 0.01
"""How far a rate may be off by the rounding of the board's bit time."""

FRAMES, WORDS = 64, 240
"""Of a trial: frames of so many random words each way, 61 KB. With none wrong, fewer than 3 bytes
in 61,000 are, with 95 % confidence (the rule of three)."""


@dataclass(frozen=True)
class Trial:
    """A rate that was tried. frames: of `FRAMES` that passed; trouble: what ended it, or ""."""

    baud: int
    frames: int
    trouble: str

    @property
    def passed(self) -> bool:
        return not self.trouble


def fastest(usb: tuple[int, int] | None) -> int:
    """The highest rate of a USB bridge (vendor, product); of an unknown one, the boards' highest.
    """
    known = [board.max_baud for board in BOARDS.values() if board.usb and board.usb[:2] == usb]
    return max(known or [board.max_baud for board in BOARDS.values()])


def candidates(clock_hz: int, above: int, limit: int) -> Iterator[tuple[int, int]]:
    """(baud, divisor) of rates above `above`, up to `limit`, that a board of this clock can make;
    the highest first."""
    for baud in RATES:
        divisor = round(16 * clock_hz / baud)
        exact = abs(16 * clock_hz / divisor / baud - 1) <= DIVISOR_ERROR
        if above < baud <= limit and divisor >= 16 * CYCLES_A_BIT and exact:
            yield baud, divisor


def trial(session: Session, config: CoreConfig, seed: int = 0) -> Trial:
    """Send random words both ways at the rate of now, through the board's map memory.

    The first frame that is damaged, lost or answered wrongly ends it.
    """
    lanes = registers.map_lanes(config)
    count = min(WORDS // lanes, config.map_words) * lanes
    rng = np.random.default_rng(seed)
    passed = 0
    try:
        with session.strict():
            for _ in range(FRAMES):
                sent = rng.integers(0, 1 << 32, count, np.uint32)
                got = session.ask(Request(Write(Space.MAP, 0, sent),
                                          read=Read(Space.MAP, 0, count))).words
                if not np.array_equal(got, sent):
                    return Trial(session.transport.baud, passed, "words came back changed")
                passed += 1
    except SpikeTicketError as error:
        return Trial(session.transport.baud, passed, str(error))
    return Trial(session.transport.baud, passed, "")


def raise_rate(session: Session, config: CoreConfig, limit: int) -> list[Trial]:
    """Raise the line's rate to the highest, `limit` at most, whose trial passes.

    Returns the trials in order; where the last one did not pass, the line has its first rate.
    Overwrites the board's maps. A line without a rate of its own is left alone.
    """
    transport = session.transport
    if transport.first_baud is None:
        return []
    trials: list[Trial] = []
    for baud, divisor in candidates(config.clock_hz, transport.baud, limit):
        try:
            session.set_rate(baud, divisor)
        except SpikeTicketError as error:  # a bridge that refuses the rate
            trials.append(Trial(baud, 0, str(error)))
        else:
            trials.append(trial(session, config, seed=baud))
        if trials[-1].passed:
            break
        session.restore_rate()
    return trials
