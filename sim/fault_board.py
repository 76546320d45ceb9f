"""The simulated board behind its serial pins, and what can happen to those and to its memory.

`sim.board` passes whole bytes; here `hw.top.SerialTop` receives and sends bits, so that a break, a
wrong bit, a start bit that is none and a reset in the middle of a byte are real ones.
"""

from __future__ import annotations

import ctypes
import hashlib
from pathlib import Path

from amaranth import ClockDomain, Module, Signal
from amaranth.back import verilog

from hw.config import PRESETS, CoreConfig
from hw.top import SerialTop

from .board import SimTransport, build_key, cache_directory, compile_verilog, keep_newest

HARNESS = Path(__file__).with_name("fault_harness.cpp")

CONFIG = PRESETS["tiny"]
"""The core that faults are tried on: quick to simulate."""

BIT_CYCLES = 4
"""As in the harness: the fastest UART there is."""

RESET_CYCLES, BREAK_CYCLES = 1 << 14, 1 << 18
"""How long a reset lasts (`hw.shell.Shell`), and a line at 0 that counts as a break."""


def _design(config: CoreConfig) -> dict[str, str]:
    """`SerialTop` with registered inputs (see `sim.board.top_level`), its weights to be reached."""
    m = Module()
    m.domains.sync = domain = ClockDomain(reset_less=True)
    clk, rx, reset = Signal(name="clk"), Signal(name="rx", init=1), Signal(name="reset")
    tx, busy = Signal(name="tx", init=1), Signal(name="busy")
    m.submodules.top = top = SerialTop(config, default_baud=config.clock_hz // BIT_CYCLES,
                                       break_cycles=BREAK_CYCLES)
    m.d.comb += domain.clk.eq(clk)
    m.d.sync += [top.rx.eq(rx), top.reset.eq(reset), tx.eq(top.tx), busy.eq(top.busy)]
    text = verilog.convert(m, name="top", ports=[clk, rx, reset, tx, busy],
                           strip_internal_attrs=True)
    return {"reached.vlt": '`verilator_config\npublic_flat_rw -module "*weights0" -var "ram"\n',
            "top.v": text}


def build(config: CoreConfig = CONFIG, *, progress: bool = True) -> Path:
    """Build it unless that has been done; returns the shared library. Raises as `sim.board.build`.
    """
    content = hashlib.sha256(HARNESS.read_bytes() + Path(__file__).read_bytes())
    name = f"pins-{build_key(config)}-{content.hexdigest()[:8]}.so"
    library = cache_directory() / name
    if not library.exists():
        compile_verilog(lambda: _design(config), library, progress=progress, harness=HARNESS)
        keep_newest(library.parent, "pins-*.so")
    return library


class PinTransport(SimTransport):
    """`SimTransport` through a UART of 4 cycles a bit, with faults that bytes do not have."""

    name = "simulated board at its pins"

    def __init__(self, config: CoreConfig = CONFIG, *, library: Path | None = None,
                 progress: bool = True):
        super().__init__(config, library=library or build(config, progress=progress))
        handle, u32, u64 = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64
        self._bind({"noise": (None, handle, u64, u64), "wrong_bits": (u64, handle),
                    "hold": (None, handle, u64), "reset": (None, handle, u64),
                    "flip_weight": (None, handle, u32, u32)})

    def noise(self, rate: float, seed: int) -> None:
        """From now on a bit on the line, either way, is wrong with probability `rate`."""
        self._library.board_noise(self._board, int(rate * (1 << 64)), seed)

    @property
    def wrong_bits(self) -> int:
        return self._library.board_wrong_bits(self._board)

    def hold_low(self, cycles: int) -> None:
        """The line to the board is 0 for so long: a break from `BREAK_CYCLES` on."""
        self._library.board_hold(self._board, cycles)

    def press_reset(self) -> None:
        """Everything but the memories begins anew; the UART goes on."""
        self._library.board_reset(self._board, RESET_CYCLES)

    def flip_weights(self, word: int, mask: int) -> None:
        """Flip the bits of `mask` in a word of the weight memory."""
        if not 0 <= word < self.config.weight_words:
            raise ValueError(f"word {word} is outside 0..{self.config.weight_words - 1}")
        self._library.board_flip_weight(self._board, word, mask)

    def reset(self) -> None:
        """A break."""
        self.hold_low(BREAK_CYCLES + 16)
