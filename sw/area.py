"""Resources of a core on a 7-series FPGA, before synthesis (`spiketicket bench area`).

By the units that a build's report names (`hw.build.usage`), and from such reports: a unit that is
synthesised alone seems larger, as what it has in common with its copies is not merged. `UNITS` has
a unit's cells in the whole `a35t`; what grows with a parameter is scaled. Two small functions share
a LUT6: pairs within a unit and between units are taken off, as Yosys' estimate of logic cells does.
`tests/test_study.py` holds the model to the reports in `bitstreams/`, by unit and in sum. Placed
designs differ by some per cent.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace

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

UNITS = {
    "engine.unit": Area(233, 150),
    "engine.decoder": Area(582, 272),
    "engine.fetch": Area(710, 709, 0, 1),
    "engine.drain": Area(513, 546, 0, 1),
    "engine.drain.finished": Area(19, 12),
    "engine.drain.lane": Area(401, 322, 0.5, 4),
    "engine.drain.outputs": Area(89, 260),
    "engine.drain.packer": Area(381, 359),
    "engine.drain.walker": Area(154, 137),
    "engine (wiring)": Area(26, 17),
    "engine.attention": Area(585, 508),
    "engine.drain.scores": Area(66, 58),
    "gate": Area(270, 219),
    "arbiter": Area(142, 281),
    "core (counters, host bus)": Area(517, 699, 0.5),
    "sequencer": Area(116, 160),
    "link": Area(1423, 970, 1.5),
    "uart": Area(200, 106),
    "pads, clock, reset": Area(49, 59),
}
"""Cells of one copy of a unit in the whole build of `_DEFAULT`, before small functions share LUTs.
Of attention, scores and gate: what `a35tf` had more (18,770 LUT in its build), in the ratio of a
small core's units."""

SHARED = {
    "engine.unit": 0.14, "engine.decoder": 0.22, "engine.fetch": 0.22, "engine.drain": 0.22,
    "engine.drain.finished": 0.22, "engine.drain.lane": 0.18, "engine.drain.outputs": 0.24,
    "engine.drain.packer": 0.25, "engine.drain.walker": 0.28, "engine (wiring)": 0.45,
    "engine.attention": 0.33, "engine.drain.scores": 0.29, "gate": 0.22, "arbiter": 0.02,
    "core (counters, host bus)": 0.11, "sequencer": 0.32, "link": 0.29, "uart": 0.37,
    "pads, clock, reset": 0.34,
}
"""Fraction of a unit's LUTs that its own pairs save: the same within 0.02 in netlists of cores of
one and of two engines."""

ACROSS = 0.026
"""Fraction of all LUTs that pairs from two units save: 0.015 to 0.042."""

_DEFAULT = replace(PRESETS["a35t"], lanes=1, drain_engines=1)

_SECOND = Area(200, 108)
"""What a drain takes for a second engine, the choice among its currents besides: from two drains
synthesised alone, as no whole build has one yet."""


def ram36(width: int, depth: int, dual: bool = True) -> float:
    """BRAM36 (in halves) of a memory; true dual port: 1k x 36, 2k x 18, 4k x 9, ... each."""
    widths = {1024: 36, 2048: 18, 4096: 9, 8192: 4, 16384: 2, 32768: 1}
    if not dual and depth <= 512:
        return math.ceil(width / 36) / 2
    if depth <= 1024 and width <= 18:
        return 0.5
    best = math.inf
    for rows, bits in widths.items():
        over = width % bits         # the last one of them may be half a block
        columns = width // bits + (0.5 if 0 < over <= bits // 2 else over > 0)
        best = min(best, columns * math.ceil(depth / rows))
    return best


def lutram(width: int, depth: int, reads: int = 1) -> float:
    """LUTs of a distributed RAM with one write and `reads` read ports (RAM32M, RAM64M)."""
    per_cell = 6 if depth <= 32 else 3
    return 4 * math.ceil(width / per_cell) * math.ceil(depth / 64) * reads


def unit(config: CoreConfig) -> Area:
    """Cells of one accumulate unit with its queue."""
    def parts(c: CoreConfig) -> float:
        job = c.subs * 5 + c.acc_bits + 6
        adders = 0 if c.dsp_adders else 4 * c.acc_bits
        return (adders + 4 * c.acc_bits + lutram(4 * c.acc_bits, 2 * c.acc_depth)
                + lutram(job, c.queue_depth) + 2.5 * c.subs)
    base, slices = UNITS["engine.unit"], 4 * config.slice_bits // 48
    return Area(base.lut + parts(config) - parts(_DEFAULT),
                base.ff + (config.subs - _DEFAULT.subs) * 5
                + 5 * (config.acc_bits - _DEFAULT.acc_bits),
                0, slices if config.dsp_adders else 0)


def fetch(config: CoreConfig) -> Area:
    """Cells of the fetch: rotator, tap and plane tables, active lanes, live bits (two memories of 8
    bits, each bit with its write enable: a RAM64X1D, or a RAM128X1D and so on)."""
    def parts(c: CoreConfig) -> float:
        levels = (c.units - 1).bit_length() / 2             # a LUT6 is a 4:1 multiplexer
        live = 16 * 2 * math.ceil(max(2, c.map_words // 16) / 64)
        return (4 * c.window * levels + 2 * c.window + lutram(107, c.taps, 2)
                + lutram(17, c.planes) + live)
    base = UNITS["engine.fetch"]
    return Area(base.lut + parts(config) - parts(_DEFAULT),
                base.ff + 8 * (config.window - _DEFAULT.window), 0, base.dsp)


def copies(config: CoreConfig, name: str) -> int:
    """How many of an engine's unit there are: one for each engine, or for each drain."""
    return config.drains if name.startswith("engine.drain") else config.engines


def engine(config: CoreConfig) -> dict[str, Area]:
    """Cells of one engine, and of one drain, by unit, of all its copies of one."""
    plus = config.window - _DEFAULT.window
    choice = config.lanes * config.drain_engines * config.acc_bits
    mux = 4 * config.units * (choice - _DEFAULT.acc_bits) / 16
    second = _SECOND.times(config.drain_engines - 1)
    found = {name: area for name, area in UNITS.items() if name.startswith("engine")}
    more = config.lanes - _DEFAULT.lanes
    drain, finished, outputs, packer, attention = (
        found[f"engine.{name}"] for name in (
            "drain", "drain.finished", "drain.outputs", "drain.packer", "attention"))
    found |= {
        "engine.unit": unit(config).times(config.units),
        "engine.fetch": fetch(config),
        "engine.drain": Area(drain.lut + mux + second.lut, drain.ff + 80 * more + second.ff, 0,
                             drain.dsp),
        "engine.drain.lane": found["engine.drain.lane"].times(config.lanes),
        "engine.drain.finished": replace(finished, lut=finished.lut + 4 * more),
        "engine.drain.outputs": replace(outputs, lut=outputs.lut + 11 * more),
        "engine.drain.packer": Area(packer.lut + 4 * plus, packer.ff + 4 * plus),
        "engine.attention": Area(attention.lut + 8 * plus, attention.ff + 7 * plus),
    }
    if not config.attention:
        del found["engine.attention"]
    if not config.gate:
        del found["engine.drain.scores"]
    return found


def units(config: CoreConfig) -> dict[str, Area]:
    """Cells of the whole design by unit, as a build's report has them; block RAM of maps, weights
    and program besides (`memories`)."""
    grown = config.engines / _DEFAULT.engines
    found = {name: area.times(copies(config, name)) for name, area in engine(config).items()}
    found |= {name: area for name, area in UNITS.items() if not name.startswith("engine")}
    counters, sequencer, arbiter = (found[name] for name in (
        "core (counters, host bus)", "sequencer", "arbiter"))
    found |= {
        "core (counters, host bus)": replace(counters, lut=counters.lut + 176 * (grown - 1)),
        "sequencer": replace(sequencer, ff=sequencer.ff + 100 * (grown - 1)),
        # Every drain's words to every copy of the map.
        "arbiter": replace(arbiter, lut=arbiter.lut * (
            grown * config.drains / _DEFAULT.drains) ** 0.75),
    }
    if not config.gate:
        del found["gate"]
    return found


def counted(cells: dict[str, Area]) -> Area:
    """Resources of units: LUTs less those that pairs of small functions save."""
    total = sum(cells.values(), Area())
    saved = sum(area.lut * (SHARED[name] + ACROSS) for name, area in cells.items())
    return replace(total, lut=total.lut - saved)


def memories(config: CoreConfig) -> dict[str, float]:
    """BRAM36 by use."""
    return {
        "maps": config.pairs * ram36(config.map_bits, config.map_words),
        "weights": config.pairs * ram36(WORD_BITS, config.weight_words),
        "program": ram36(WORD_BITS, config.program_words, dual=False),
        "membranes": config.drains * config.lanes * 0.5,
        "counters and link": UNITS["link"].bram + UNITS["core (counters, host bus)"].bram,
    }


def estimate(config: CoreConfig) -> Area:
    """Resources of the whole design."""
    total = counted(units(config))
    return Area(round(total.lut), round(total.ff), sum(memories(config).values()), total.dsp)


def most_engines(config: CoreConfig, device: Area) -> int:
    """Most engines of this kind whose LUTs and DSPs fit the budget of a device."""
    one = counted(cluster(config))
    return config.drain_engines * int(min((device.lut * LUT_BUDGET - rest(config).lut) // one.lut,
                                          device.dsp // one.dsp))


def cluster(config: CoreConfig) -> dict[str, Area]:
    """Cells of the engines that share a drain, and the drain, by unit."""
    return {name: area if name.startswith("engine.drain") else area.times(config.drain_engines)
            for name, area in engine(config).items()}


def rest(config: CoreConfig) -> Area:
    """What a core has besides its engines."""
    return counted({name: area for name, area in units(config).items()
                    if not name.startswith("engine")})


def presets() -> dict[str, dict]:
    """Resources of every preset, JSON-ready."""
    return {name: asdict(estimate(config)) | {"bram_by_use": memories(config)}
            for name, config in PRESETS.items()}


def show(result: dict[str, dict]) -> None:
    """Print resources of presets, and what the boards' FPGAs have."""
    for name, entry in result.items():
        print(f"{name:12}" + "  ".join(f"{key} {value:g}" for key, value in entry.items()
                                       if not isinstance(value, dict)))
    for (name, device), preset in zip(DEVICES.items(), ("a35t", "a100t"), strict=True):
        print(f"{name:12}" + "  ".join(f"{k} {v:g}" for k, v in asdict(device).items())
              + f"  (engines that fit {LUT_BUDGET:.0%}: {most_engines(PRESETS[preset], device)})")
