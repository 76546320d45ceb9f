"""What to build, checked: names, clock, UART rate, toolchain."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

from hw.boards import BOARDS, DEVICES, Board
from hw.config import PRESETS, CoreConfig
from hw.ddr3_control import CLOCK_HZ
from hw.ethernet.mii import MIN_CLOCK_HZ
from hw.registers import DEFAULT_BAUD, MIN_DIVISOR
from sw.errors import BadInput, did_you_mean

from .clocking import parameters
from .design import platform_of

_ROOT = Path(__file__).parents[2]
PLACE = _ROOT if (_ROOT / "pyproject.toml").is_file() else Path.cwd()
"""Where builds go: the checkout; with an installed package the current folder."""

BITSTREAMS = PLACE / "bitstreams"
TOOLCHAINS = ("auto", "trellis", "vivado", "open", "archive")
DEFAULT_SEEDS = {"ecp5": 4, "xc7": 1}


@dataclass(frozen=True)
class Request:
    """What to build. seeds: placement seeds; preset: name, "" where `config` is changed by hand;
    ethernet: with the board's PHY."""

    board: Board
    preset: str
    config: CoreConfig
    baud: int
    toolchain: str
    seeds: tuple[int, ...]
    output: Path
    ethernet: bool = False

    @property
    def family(self) -> str:
        return DEVICES[self.board.device].family


def request(board: str, *, preset: str | None = None, clock_mhz: float | None = None,
            baud: int | None = None, changes: dict[str, int] | None = None,
            toolchain: str = "auto", seeds: tuple[int, ...] | None = None,
            output: Path | None = None, ethernet: bool = False) -> Request:
    """A checked request; what is None is the board's default.

    Raises SpikeTicketError naming the bad value and what to choose instead.
    """
    buildable = [name for name, known in BOARDS.items() if known.part]
    if board not in buildable:
        raise BadInput(f"--board {board!r} is unknown; {did_you_mean(board, buildable)}")
    found = BOARDS[board]
    chosen = preset or found.preset
    if chosen not in PRESETS:
        raise BadInput(f"--preset {chosen!r} is unknown; {did_you_mean(chosen, PRESETS)}")
    hertz = found.clock_hz if clock_mhz is None else round(clock_mhz * 1e6)
    unknown = sorted(set(changes or ()) - set(PRESETS[chosen].as_dict()))
    if unknown:
        raise BadInput(f"--set {unknown[0]}: no such parameter; "
                       f"{did_you_mean(unknown[0], PRESETS[chosen].as_dict())}")
    try:
        config = replace(PRESETS[chosen], **({"clock_hz": hertz} | (changes or {})))
    except ValueError as error:
        raise BadInput(f"--set: {error}") from None
    _check_dram(found, config)
    family = DEVICES[found.device].family
    _check_toolchain(toolchain, family)
    parameters(family, round(platform_of(found).default_clk_frequency), config.clock_hz)
    if ethernet:
        _check_ethernet(found, config)
    rate = DEFAULT_BAUD if baud is None else baud
    _check_baud(rate, found, config)
    plain = not changes and chosen == found.preset and hertz == found.clock_hz
    if output is None:
        suffix = "" if plain else f"-{chosen}" + ("" if not changes and clock_mhz is None
                                                  else f"-{_short_hash(config.as_dict())}")
        output = BITSTREAMS / f"{board}{suffix}{'-ethernet' if ethernet else ''}"
    return Request(found, chosen if not changes else f"{chosen}*", config, rate, toolchain,
                   seeds or tuple(range(1, DEFAULT_SEEDS[family] + 1)), output, ethernet)


def _short_hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:6]


def _check_toolchain(toolchain: str, family: str) -> None:
    if toolchain not in TOOLCHAINS:
        raise BadInput(f"--toolchain {toolchain!r} is unknown; "
                       f"{did_you_mean(toolchain, TOOLCHAINS)}")
    fits = {"ecp5": ("auto", "trellis"), "xc7": ("auto", "vivado", "open", "archive")}[family]
    if toolchain not in fits:
        raise BadInput(f"--toolchain {toolchain} does not build for this board's FPGA; "
                       f"choose from {', '.join(fits)}")


def _check_dram(board: Board, config: CoreConfig) -> None:
    if not board.has_memory_of(config):
        kind = ("an SDR SDRAM chip" if config.sdram else "DDR3 with a controller" if config.ddr3
                else "a memory of the kind that is simulated")
        raise BadInput(f"a core with DRAM (dram_words {config.dram_words}) is not for "
                       f"{board.name}, which has not {kind}; choose another --preset")
    if config.ddr3 and config.clock_hz != CLOCK_HZ:
        raise BadInput(f"--clock {config.clock_hz / 1e6:g}: the controller of DDR3 and all that is "
                       f"timed for the chip are for {CLOCK_HZ / 1e6:g} MHz")


def _check_ethernet(board: Board, config: CoreConfig) -> None:
    if not board.phy:
        able = ", ".join(name for name, known in BOARDS.items() if known.phy)
        raise BadInput(f"--ethernet: {board.name} has no Ethernet PHY; boards that have one: "
                       f"{able}")
    if config.clock_hz < MIN_CLOCK_HZ:
        raise BadInput(f"--clock {config.clock_hz / 1e6:g} is too slow for --ethernet; choose "
                       f"{MIN_CLOCK_HZ / 1e6:g} MHz or more")


def _check_baud(baud: int, board: Board, config: CoreConfig) -> None:
    fastest = min(board.max_baud, config.clock_hz * 16 // MIN_DIVISOR)
    if not 9_600 <= baud <= fastest:
        raise BadInput(f"--baud {baud} is outside 9600..{fastest}, what {board.name}'s "
                       f"USB bridge and a clock of {config.clock_hz / 1e6:g} MHz take")
    divisor = round(16 * config.clock_hz / baud)
    error = 16 * config.clock_hz / divisor / baud - 1
    if abs(error) > 0.01:
        raise BadInput(f"--baud {baud} is missed by {error:.1%} at a clock of "
                       f"{config.clock_hz / 1e6:g} MHz (bit time in 1/16 cycles)")
