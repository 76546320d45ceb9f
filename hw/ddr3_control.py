"""The DDR3 memory of a board: its timing, and the registers of its controller that the host works
with (`Space.DRAM_CONTROL`, an address for each 32-bit word).

Plain Python, so that the host needs no Amaranth. LiteDRAM's generator gives the registers their
places; `hw.build.litedram` refuses a core that has them elsewhere.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

LATENCY = 96
"""Cycles from a command at the core's port to its word, always: what LiteDRAM takes at most for
lines that are asked for every 4 cycles is 74, refresh and calibration included, and the way through
`hw.ddr3` takes 3 (docs/memory.md)."""

CLOCK_HZ = 100_000_000
"""Of controller and core; the chip's is four times as fast."""

LINE_WORDS = 4
"""32-bit words that the controller moves at a time: a burst of the chip."""

LANES = 2
"""Groups of eight data lines, with a strobe of their own, that are levelled apart."""

PHASES = 4
"""Cycles of the chip in one of the controller's."""

READ_PHASE, WRITE_PHASE = 2, 3
"""In which a READ or WRITE of the host's has to be, for the latencies of `MODES`."""

DELAYS, SLIPS = 32, 8
"""Steps of a data line's delay (78 ps each), and of its bits within a burst."""

MODES = ((2, 0x200), (3, 0), (1, 0x006), (0, 0x930))
"""Mode registers and what they get, in this order: write latency 5, dynamic termination 60 ohm; no
pattern; driver 34 ohm, termination 60 ohm; read latency 7 (one more than the clock needs, as
there is no write levelling on Artix-7), bursts of 8, reset of the DLL."""

CONTROL_BITS = 11
"""Of an address."""


def _registers() -> dict[str, int]:
    """Places by name, as LiteX hands them out: pages of 512, registers by name's order of birth."""
    pages = {
        "ddrctrl": ("init_done", "init_error"),
        "ddrphy": ("rst", "dly_sel", "half_sys8x_taps", "wlevel_en", "wlevel_strobe",
                   "rdly_dq_rst", "rdly_dq_inc", "rdly_dq_bitslip_rst", "rdly_dq_bitslip",
                   "wdly_dq_bitslip_rst", "wdly_dq_bitslip", "rdphase", "wrphase"),
        "sdram_dfii": ("control", *(
            f"pi{phase}_{name}" for phase in range(PHASES)
            for name in ("command", "command_issue", "address", "baddress", "wrdata", "rddata"))),
    }
    return {f"{page}_{name}": 512 * number + place for number, (page, names) in
            enumerate(pages.items()) for place, name in enumerate(names)}


Control = IntEnum("Control", _registers())
"""Registers, by LiteDRAM's names for them; docs/memory.md tells which do what."""

PHASE_STRIDE = Control.sdram_dfii_pi1_command - Control.sdram_dfii_pi0_command
"""Registers from one phase to the next."""


class Lines(IntFlag):
    """What `sdram_dfii_control` holds. HARDWARE: the controller has the chip, not the host."""

    HARDWARE = 1
    CKE = 2
    ODT = 4
    RESET_N = 8


class Strobes(IntFlag):
    """A command of the host's to the chip, in `sdram_dfii_pi*_command`."""

    CS = 1
    WE = 2
    CAS = 4
    RAS = 8
    WRITE_DATA = 16
    READ_DATA = 32
