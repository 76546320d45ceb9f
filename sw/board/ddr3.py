"""A board's DDR3: initialised, and its data lines levelled, by the registers of its controller.

The order of events is that of LiteDRAM's own software for this chip and PHY (a build compares the
modes with what its generator writes, `hw.build.litedram.check_modes`). Each of the two lanes of
eight data lines is read with every bit slip and delay; of the longest run of delays at which all
patterns come back, the middle one is taken.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hw import registers
from hw.ddr3_control import (
    CLOCK_HZ,
    DELAYS,
    LANES,
    MODES,
    PHASE_STRIDE,
    PHASES,
    READ_PHASE,
    SLIPS,
    WRITE_PHASE,
    Control,
    Lines,
    Strobes,
)
from hw.registers import Register, Space

from ..errors import BoardError
from .protocol import Read, Request, Write, words
from .session import Job, Session

PATTERNS = 3
"""Bursts that have to come back as they were written, at each delay."""

LEAST_WINDOW = 4
"""Delays in a row at which a lane has to read right: 0.3 ns, of a bit that takes 16."""

DIGEST_CYCLES = 3
"""Cycles at least that the board takes for a word of a digest (docs/link.md)."""

RESET_S, WAKE_S, ENABLE_S, SETTLE_S = 200e-6, 500e-6, 100e-6, 6e-6
"""Reset; from its end to CKE; from CKE to the first command; DLL and calibration."""

_CALIBRATE_ALL = 1 << 10
"""Address bit of ZQ CALIBRATION: the long one."""


class Window(NamedTuple):
    """Where a lane reads right: a bit slip, the first delay, and how many in a row; count 0: never.
    """

    slip: int
    first: int
    count: int

    @property
    def middle(self) -> int:
        return self.first + self.count // 2


def prepare(session: Session) -> None:
    """Initialise the memory unless that has been done since the board was configured.

    Raises BoardError where the controller does not answer, or a lane reads right nowhere.
    """
    state = session.ask(Request(read=Read(Space.DRAM_CONTROL, Control.ddrctrl_init_done, 2))).words
    if state.tolist() != [1, 0]:
        initialise(session)


def initialise(session: Session) -> tuple[Window, ...]:
    """Initialise and level the memory, whose content is lost; returns the lanes' windows.

    Raises as `prepare`.
    """
    begin = [_put(Control.ddrctrl_init_done, 0, 0), _put(Control.sdram_dfii_control, 0),
             _put(Control.ddrphy_rst, 1), _put(Control.ddrphy_rst, 0),
             _put(Control.ddrphy_rdphase, READ_PHASE, WRITE_PHASE),
             Request(read=Read(Space.DRAM_CONTROL, Control.ddrphy_rdphase, 2))]
    [replies] = session.exchange([begin])
    if replies[-1].words.tolist() != [READ_PHASE, WRITE_PHASE]:
        raise BoardError(f"{session.transport.name}: the controller of the board's DRAM does not "
                         "answer; program the board again")
    session.exchange([_start_up()])
    windows = tuple(_longest(lane) for lane in _scan(session))
    wrong = [n for n, window in enumerate(windows) if window.count < LEAST_WINDOW]
    if wrong:
        session.exchange([[_put(Control.sdram_dfii_control, Lines.HARDWARE),
                           _put(Control.ddrctrl_init_error, 1)]])
        raise BoardError(f"{session.transport.name}: the DRAM cannot be levelled: "
                         f"{'; '.join(_told(n, windows[n]) for n in wrong)}. Program the board "
                         "again, and suspect its DRAM if that does not help")
    session.exchange([_chosen(1 << n, window.slip, window.middle)
                      for n, window in enumerate(windows)])
    session.exchange([[_put(Control.ddrphy_dly_sel, 0),
                       _put(Control.sdram_dfii_control, Lines.HARDWARE),
                       _put(Control.ddrctrl_init_done, 1, 0)]])
    return windows


def _put(register: int, *values: int) -> Request:
    """Values to a register and those behind it."""
    return Request(Write(Space.DRAM_CONTROL, register, words(values)))


def _pause(seconds: float) -> Request:
    """A request that the board takes at least so long for, with the core's clock."""
    count = int(seconds * CLOCK_HZ) // DIGEST_CYCLES + 1
    return Request(read=Read(Space.REGISTER, Register.MAGIC, min(count, registers.MAX_DIGEST),
                             stride=0, digest=True))


def _of_phase(register: int, phase: int) -> int:
    """A register of phase 0 in another one."""
    return register + phase * PHASE_STRIDE


def _command(strobes: Strobes, phase: int = 0) -> Request:
    """The chip gets a command, with the address of its phase."""
    return _put(_of_phase(Control.sdram_dfii_pi0_command, phase), strobes | Strobes.CS, 1)


def _place(address: int, bank: int, phase: int = 0) -> Request:
    return _put(_of_phase(Control.sdram_dfii_pi0_address, phase), address, bank)


def _start_up() -> Job:
    """From reset to a chip that takes commands (JEDEC 79-3, 3.3.1)."""
    awake = Lines.RESET_N | Lines.ODT
    job = [_put(Control.sdram_dfii_control, 0), _pause(RESET_S), _place(0, 0),
           _put(Control.sdram_dfii_control, awake), _pause(WAKE_S),
           _put(Control.sdram_dfii_control, awake | Lines.CKE), _pause(ENABLE_S)]
    for bank, mode in MODES:
        job += [_place(mode, bank), _command(Strobes.RAS | Strobes.CAS | Strobes.WE)]
    return [*job, _pause(SETTLE_S), _place(_CALIBRATE_ALL, 0), _command(Strobes.WE),
            _pause(SETTLE_S), *(_place(0, 0, phase) for phase in range(PHASES))]


def _slipped(lanes: int, slip: int) -> list[Request]:
    """Lanes (bits) at a bit slip, without delay."""
    return [_put(Control.ddrphy_dly_sel, lanes), _put(Control.ddrphy_rdly_dq_bitslip_rst, 1),
            *[_put(Control.ddrphy_rdly_dq_bitslip, 1)] * slip, _put(Control.ddrphy_rdly_dq_rst, 1)]


def _chosen(lanes: int, slip: int, delay: int) -> Job:
    return [*_slipped(lanes, slip), *[_put(Control.ddrphy_rdly_dq_inc, 1)] * delay]


def _scan(session: Session) -> np.ndarray:
    """Whether each lane reads right: bool [lane, slip, delay]."""
    rng = np.random.default_rng(1)
    right = np.ones((LANES, SLIPS, DELAYS), bool)
    for _ in range(PATTERNS):
        pattern = rng.integers(0, 1 << 32, PHASES, np.uint32)
        slips = [slip for slip in range(SLIPS) if right[:, slip].any()]
        jobs = [_scan_job(slip, pattern) for slip in slips]
        for slip, replies in zip(slips, session.exchange(jobs), strict=True):
            read = np.array([reply.words for reply in replies if len(reply.words)], "<u4")
            same = (read ^ pattern).astype("<u4").view(np.uint8).reshape(DELAYS, -1, LANES) == 0
            right[:, slip] &= same.all(axis=1).T
    return right


def _scan_job(slip: int, pattern: np.ndarray) -> Job:
    """One bit slip at every delay: written, read, and read out. A job is done from its beginning
    or not at all, so that a line that is disturbed does not move a delay twice."""
    job = [*_slipped((1 << LANES) - 1, slip),
           *(_put(_of_phase(Control.sdram_dfii_pi0_wrdata, phase), int(word))
             for phase, word in enumerate(pattern))]
    for _ in range(DELAYS):
        close = _command(Strobes.RAS | Strobes.WE).write
        job += [_command(Strobes.RAS),
                _command(Strobes.CAS | Strobes.WE | Strobes.WRITE_DATA, WRITE_PHASE),
                _command(Strobes.CAS | Strobes.READ_DATA, READ_PHASE),
                Request(close, read=Read(Space.DRAM_CONTROL, Control.sdram_dfii_pi0_rddata, PHASES,
                                         stride=PHASE_STRIDE)),
                _put(Control.ddrphy_rdly_dq_inc, 1)]
    return job


def _longest(right: np.ndarray) -> Window:
    """The longest run of delays that read right, of a lane's [slip, delay]."""
    best = Window(0, 0, 0)
    for slip, delays in enumerate(right):
        first = None
        for delay, good in enumerate([*delays, False]):
            if good and first is None:
                first = delay
            elif not good and first is not None:
                best = max(best, Window(slip, first, delay - first), key=lambda one: one.count)
                first = None
    return best


def _told(lane: int, window: Window) -> str:
    lines = f"data lines {8 * lane} to {8 * lane + 7}"
    if not window.count:
        return f"{lines} read right at no delay and no bit slip"
    return (f"{lines} read right at {window.count} of {DELAYS} delays only, from {window.first} on "
            f"at bit slip {window.slip}")

