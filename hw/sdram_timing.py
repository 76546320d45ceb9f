"""Rules of an SDR SDRAM chip, and what they are in cycles of a clock: for the controller
(`hw.sdram`), the chip's model (`sim/sdram.v`) and the cycle model (`sw.core.steps.sdram`).

Plain Python, so that the host needs no Amaranth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

CAS_LATENCY = 2
"""Chip cycles from READ to its first half word."""

HALF = 16
"""Bits of a chip's data."""

BURST = 2
"""Half words that one READ or WRITE moves: a word of the port."""

ROW_WORDS = 256
"""Words of 32 bits in a row: 512 columns."""

BANKS = 4

MOST_WORDS = BANKS * (1 << 13) * ROW_WORDS
"""Words of a chip with 13 row bits: 32 MB."""

MOST_HZ = 100_000_000
"""Fastest clock at CAS_LATENCY."""

READ_LATENCY = 7
"""Cycles from the controller's choice of READ to the word at its port: a register behind the
choice, the pad's, CAS_LATENCY, the pad's, one for the first half word, one for both; and as the
chip's clock is late by part of a cycle, the word comes in the cycle after."""


@dataclass(frozen=True)
class SdramChip:
    """Least times in ns: of MT48LC16M16A2-75, or longer where another chip of 4 banks x 8,192 rows
    x 512 columns x 16 bits that boards carry in its place needs it (IS42S16160, AS4C16M16SA,
    W9825G6).

    init: with a stable clock, before the first command. mrd: cycles behind LOAD MODE. rcd: ACTIVATE
    to READ or WRITE. rp: PRECHARGE to ACTIVATE or REFRESH. ras: ACTIVATE to PRECHARGE. rc: ACTIVATE
    to ACTIVATE. rfc: behind REFRESH. wr: last half word written to PRECHARGE. refresh: most time
    from one REFRESH to the next.
    """

    init: int = 200_000
    mrd: int = 2
    rcd: int = 20
    rp: int = 20
    ras: int = 45
    rc: int = 66
    rfc: int = 66
    wr: int = 15
    refresh: int = 64_000_000 // 8192


CHIP = SdramChip()


class SdramCycles(NamedTuple):
    """Of a clock, from one command to the first cycle in which the next may come.

    init, mrd, rcd, rp, rfc: as of `SdramChip`. ras: ACTIVATE to PRECHARGE. recovery: WRITE to
    PRECHARGE. burst: READ or WRITE to the next. interval: REFRESH until the next is due; early
    enough for all that it can have to wait for. rest: without a command for so long, the memory
    rests: its refreshes are unseen. wake: the command that ends that waits for a refresh that
    begins so many cycles behind it, when none of before can still be under way. latency: see
    READ_LATENCY.
    """

    init: int
    mrd: int
    rcd: int
    rp: int
    ras: int
    rfc: int
    recovery: int
    burst: int
    interval: int
    rest: int
    wake: int
    latency: int


REST = 32
"""See `SdramCycles.rest`."""


def cycles(clock_hz: int, chip: SdramChip = CHIP) -> SdramCycles:
    """What the controller keeps to. Raises ValueError for a clock that the chip does not take."""
    if clock_hz > MOST_HZ:
        raise ValueError(f"clock_hz {clock_hz} is above {MOST_HZ}, the most for SDR SDRAM")

    def least(ns: int) -> int:
        return -(-ns * clock_hz // 1_000_000_000)

    rp, rfc, recovery = least(chip.rp), least(chip.rfc), BURST - 1 + least(chip.wr)
    ras = max(least(chip.ras), least(chip.rc) - rp)
    wake = rp + rfc
    interval = chip.refresh * clock_hz // 1_000_000_000 - (wake + ras + recovery + rp + 4)
    if interval < 4 * wake:
        raise ValueError(f"clock_hz {clock_hz} is too slow to refresh SDR SDRAM")
    return SdramCycles(least(chip.init), chip.mrd, least(chip.rcd), rp, ras, rfc, recovery, BURST,
                       interval, REST, wake, READ_LATENCY)
