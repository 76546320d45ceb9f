"""Resources of a core on a 7-series FPGA, before synthesis (`spiketicket bench area`).

LUTs are Yosys' estimate of logic cells (pairs of small functions share a LUT6) plus LUTRAM and
shift registers; `BLOCKS` holds what `--measure` found for the blocks at the default parameters,
and `estimate` scales the parts that grow with a parameter. Placed designs differ by some per cent.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from hw import boards
from hw.config import PRESETS, WORD_BITS, CoreConfig

LUT_BUDGET = 0.85
"""Share of a device's LUTs that a design should take at most."""


@dataclass(frozen=True)
class Area:
    """Resources; bram in units of BRAM36 (halves are BRAM18)."""

    lut: float = 0
    ff: float = 0
    bram: float = 0
    dsp: int = 0

    def __add__(self, other: Area) -> Area:
        return Area(self.lut + other.lut, self.ff + other.ff, self.bram + other.bram,
                    self.dsp + other.dsp)

    def times(self, n: float) -> Area:
        return Area(self.lut * n, self.ff * n, self.bram * n, round(self.dsp * n))

    def fits(self, device: Area, share: float = LUT_BUDGET) -> bool:
        return (self.lut <= device.lut * share and self.ff <= device.ff
                and self.bram <= device.bram and self.dsp <= device.dsp)


DEVICES = {name: Area(device.lut, device.ff, device.bram, device.dsp)
           for name, device in boards.DEVICES.items() if device.family == "xc7"}

BLOCKS = {
    "unit": Area(158, 133),
    "decoder": Area(441, 383),
    "fetch": Area(951, 823, 0, 1),
    "lane": Area(327, 262, 0, 4),
    "packer": Area(312, 348),
    "drain": Area(449, 857, 0, 1),
    "attention": Area(380, 472),
    "scores": Area(110, 58),
    "gate": Area(220, 219),
    "rest": Area(2327, 1771, 2),
}
"""Blocks at the default parameters: `drain` without its lanes and packer; `scores` is what the
patch gate adds to an engine's drain, `gate` what it takes once; `rest` (sequencer, counters,
arbiter, link and its buffers) is what a whole top level, the a35t preset's, has besides."""

_DEFAULT = CoreConfig()


def ram36(width: int, depth: int, dual: bool = True) -> float:
    """BRAM36 (in halves) of a memory; true dual port: 1k x 36, 2k x 18, 4k x 9, ... each."""
    widths = {1024: 36, 2048: 18, 4096: 9, 8192: 4, 16384: 2, 32768: 1}
    if not dual and depth <= 512:
        return math.ceil(width / 36) / 2
    if depth <= 1024 and width <= 18:
        return 0.5
    best = math.inf
    for rows, bits in widths.items():
        best = min(best, math.ceil(width / bits) * math.ceil(depth / rows))
    return best


def lutram(width: int, depth: int, reads: int = 1) -> float:
    """LUTs of a distributed RAM with one write and `reads` read ports (RAM32M, RAM64M)."""
    per_cell = 6 if depth <= 32 else 3
    return 4 * math.ceil(width / per_cell) * math.ceil(depth / 64) * reads


def unit(config: CoreConfig) -> Area:
    """One accumulate unit with its queue."""
    def parts(c: CoreConfig) -> float:
        job = c.subs * 5 + c.acc_bits + 6
        adders = 4 * c.acc_bits
        return (adders + lutram(4 * c.acc_bits, 2 * c.acc_depth)
                + lutram(job, c.queue_depth) + 2.5 * c.subs)
    base = BLOCKS["unit"]
    return Area(base.lut + parts(config) - parts(_DEFAULT),
                base.ff + (config.subs - _DEFAULT.subs) * 5
                + 5 * (config.acc_bits - _DEFAULT.acc_bits))


def fetch(config: CoreConfig) -> Area:
    """Fetch: rotator, tap and plane tables, active lanes, live bits (two of RAM64X1D for 64)."""
    def parts(c: CoreConfig) -> float:
        levels = (c.units - 1).bit_length() / 2             # a LUT6 is a 4:1 multiplexer
        return (4 * c.window * levels + 2 * c.window + lutram(107, c.taps, 2)
                + lutram(17, c.planes) + 8 * lutram(1, c.map_words // 16))
    base = BLOCKS["fetch"]
    return Area(base.lut + parts(config) - parts(_DEFAULT),
                base.ff + 8 * (config.window - _DEFAULT.window), 0, base.dsp)


def attention(config: CoreConfig) -> Area:
    """Attention's part of an engine; 35 LUTs are for longer items in decoder and fetch."""
    base = BLOCKS["attention"]
    lanes = config.window - _DEFAULT.window
    return Area(base.lut + 6 * lanes + 35, base.ff + 7 * lanes + 36)


def drain(config: CoreConfig) -> Area:
    """Drain with neuron lanes and packer."""
    def mux(c: CoreConfig) -> float:
        return c.lanes * 4 * c.acc_bits * c.units / 4
    base = (BLOCKS["drain"] + BLOCKS["packer"] + BLOCKS["lane"].times(config.lanes))
    membranes = config.lanes * 0.5
    return Area(base.lut + mux(config) - mux(_DEFAULT) + 4 * (config.window - _DEFAULT.window),
                base.ff + 4 * (config.window - _DEFAULT.window), membranes, base.dsp)


def engine(config: CoreConfig) -> Area:
    total = unit(config).times(config.units) + BLOCKS["decoder"] + fetch(config) + drain(config)
    if config.attention:
        total += attention(config)
    return total + BLOCKS["scores"] if config.gate else total


def memories(config: CoreConfig) -> dict[str, float]:
    """BRAM36 by use."""
    return {
        "maps": config.pairs * ram36(config.map_bits, config.map_words),
        "weights": config.pairs * ram36(WORD_BITS, config.weight_words),
        "program": ram36(WORD_BITS, config.program_words, dual=False),
        "membranes": config.engines * config.lanes * 0.5,
        "counters and link": BLOCKS["rest"].bram,
    }


def estimate(config: CoreConfig) -> Area:
    """Resources of the whole design."""
    total = engine(config).times(config.engines) + BLOCKS["rest"]
    if config.gate:
        total += BLOCKS["gate"]
    return Area(round(total.lut), round(total.ff), sum(memories(config).values()), total.dsp)


def most_engines(config: CoreConfig, device: Area) -> int:
    """Most engines of this kind whose LUTs and DSPs fit the budget of a device."""
    one, rest = engine(config), BLOCKS["rest"]
    return int(min((device.lut * LUT_BUDGET - rest.lut) // one.lut,
                   (device.dsp - rest.dsp) // one.dsp))


def measure() -> dict[str, dict[str, int]]:
    """Synthesise the blocks with Yosys; see the module's docstring."""
    from .core import area_yosys
    return area_yosys.measure(_DEFAULT)


def presets() -> dict[str, dict]:
    """Resources of every preset, JSON-ready."""
    return {name: asdict(estimate(config)) | {"bram_by_use": memories(config)}
            for name, config in PRESETS.items()}


def show(result: dict[str, dict], devices: bool) -> None:
    """Print resources by name; devices: with what the boards' FPGAs have."""
    for name, entry in result.items():
        print(f"{name:12}" + "  ".join(f"{key} {value:g}" for key, value in entry.items()
                                       if not isinstance(value, dict)))
    if devices:
        for (name, device), preset in zip(DEVICES.items(), ("a35t", "a100t"), strict=True):
            print(f"{name:12}" + "  ".join(f"{k} {v:g}" for k, v in asdict(device).items())
                  + f"  (engines that fit {LUT_BUDGET:.0%}: "
                  f"{most_engines(PRESETS[preset], device)})")
