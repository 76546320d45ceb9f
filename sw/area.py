"""Resources of a core on a 7-series FPGA, before synthesis (`spiketicket bench area`).

By the units that a build's report names (`hw.build.usage`), and from such reports: a unit that is
synthesised alone seems larger, as what it has in common with its copies is not merged. `UNITS` has
a unit's cells as the builds of `a35t`, `a100t` and `a35tf` agree on them (those of `sums` are of
the unit alone); what grows with a parameter is scaled. Two small functions share a LUT6: pairs
within a unit and between units are taken off, as Yosys' estimate of logic cells does.
`tests/test_study.py` holds the model to the reports in `bitstreams/`, by unit and in sum. Placed
designs differ by some per cent.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace

from hw import boards
from hw.config import PRESETS, TIMESTEPS_PER_GROUP, WORD_BITS, CoreConfig

LUT_BUDGET = 0.85
"""Share of a device's LUTs that a design should take at most."""


@dataclass(frozen=True)
class Area:
    """Resources; bram in units of BRAM36 (halves are BRAM18). paired: of `lut`, what pairs save
    besides the share of `SHARED`."""

    lut: float = 0
    ff: float = 0
    bram: float = 0
    dsp: int = 0
    paired: float = 0

    def __add__(self, other: Area) -> Area:
        return Area(self.lut + other.lut, self.ff + other.ff, self.bram + other.bram,
                    self.dsp + other.dsp, self.paired + other.paired)

    def times(self, n: float) -> Area:
        return Area(self.lut * n, self.ff * n, self.bram * n, round(self.dsp * n), self.paired * n)

    def fits(self, device: Area, share: float = LUT_BUDGET) -> bool:
        return (self.lut <= device.lut * share and self.ff <= device.ff
                and self.bram <= device.bram and self.dsp <= device.dsp)


DEVICES = {name: Area(device.lut, device.ff, device.bram, device.dsp)
           for name, device in boards.DEVICES.items() if device.family == "xc7"}

UNITS = {
    "engine.unit": Area(295, 146),
    "engine.decoder": Area(620, 286),
    "engine.fetch": Area(702, 790, 0, 1),
    "engine.drain": Area(488, 640, 0, 1),
    "engine.drain.finished": Area(19, 12),
    "engine.drain.lane": Area(473, 318, 0.5, 4),
    "engine.drain.outputs": Area(87, 170),
    "engine.drain.packer": Area(397, 369),
    "engine.drain.walker": Area(157, 68),
    "engine (wiring)": Area(51, 85),
    "engine.attention": Area(502, 494),
    "engine.drain.scores": Area(122, 53),
    "gate": Area(328, 178),
    "arbiter": Area(142, 281),
    "sums": Area(428, 300),
    "core (counters, host bus)": Area(565, 699, 0.5),
    "sequencer": Area(142, 498),
    "link": Area(1423, 970, 1.5),
    "uart": Area(200, 106),
    "pads, clock, reset": Area(49, 59),
}
"""Cells of one copy of a unit of `_DEFAULT` in a whole build, before small functions share LUTs."""

TOLD = 497
"""Registers of a drain and its engines for what all are told (`hw.cluster`); the reports count them
with the engines' fetch."""

SHARED = {
    "engine.unit": 0.14, "engine.decoder": 0.22, "engine.fetch": 0.22, "engine.drain": 0.22,
    "engine.drain.finished": 0.22, "engine.drain.lane": 0.18, "engine.drain.outputs": 0.24,
    "engine.drain.packer": 0.25, "engine.drain.walker": 0.28, "engine (wiring)": 0.45,
    "engine.attention": 0.28, "engine.drain.scores": 0.29, "gate": 0.22, "arbiter": 0.02,
    "sums": 0.2,
    "core (counters, host bus)": 0.11, "sequencer": 0.32, "link": 0.29, "uart": 0.37,
    "pads, clock, reset": 0.34,
}
"""Fraction of a unit's LUTs that its own pairs save: the same within 0.02 in netlists of cores of
one and of two engines."""

PAIRED = 0.3
"""Fraction of the adders' LUTs that pairs save besides: a bit's two have inputs in common."""

ACROSS = 0.06
"""Fraction of all LUTs that pairs from two units save: 0.04 to 0.065."""

_DEFAULT = replace(PRESETS["a35tw"], dsp_adders=False, lanes=1, drain_engines=1)

_SECOND = Area(107, 68)
"""What a drain takes for a second engine, the choice among its currents besides."""

_LIST = Area(180, 100)
"""What a drain with a patch gate takes for the list of kept tokens."""

_SECOND_SUM = 75
"""LUTs of the sum over a mask's places that a drain has for every lane."""


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


def adders(config: CoreConfig) -> float:
    """LUTs of a unit's adders: two a bit, one of which clears."""
    return 0 if config.dsp_adders else 2 * TIMESTEPS_PER_GROUP * config.acc_bits


def unit(config: CoreConfig) -> Area:
    """Cells of one accumulate unit with its queue."""
    def parts(c: CoreConfig) -> float:
        job = c.subs * 5 + c.acc_bits + 4
        return (adders(c) + lutram(4 * c.acc_bits, 2 * c.acc_depth)
                + lutram(job, c.queue_depth) + 2.5 * c.subs)
    base, slices = UNITS["engine.unit"], 4 * config.slice_bits // 48
    return Area(base.lut + parts(config) - parts(_DEFAULT),
                base.ff + (config.subs - _DEFAULT.subs) * 5
                + 5 * (config.acc_bits - _DEFAULT.acc_bits),
                0, slices if config.dsp_adders else 0, PAIRED * adders(config))


def fetch(config: CoreConfig) -> Area:
    """Cells of the fetch: rotator, tap and plane tables, active lanes, live bits (two memories of 8
    bits, each bit with its write enable: a RAM64X1D, or a RAM128X1D and so on)."""
    def parts(c: CoreConfig) -> float:
        levels = (c.units - 1).bit_length() / 2             # a LUT6 is a 4:1 multiplexer
        live = 16 * 2 * math.ceil(max(2, c.map_words // 16) / 64)
        return (4 * c.window * levels + 2 * c.window + 10 * c.acc_bits + lutram(107, c.taps, 2)
                + lutram(17, c.planes) + live)
    base = UNITS["engine.fetch"]
    return Area(base.lut + parts(config) - parts(_DEFAULT),
                base.ff + 8 * (config.window - _DEFAULT.window), 0, base.dsp)


def choice(config: CoreConfig) -> float:
    """LUTs of a drain's choice among its engines' accumulators: of the even lane among all units,
    of the odd one among every second; a LUT6 chooses from four."""
    units = config.units * config.engines / config.drains
    return 4 * config.acc_bits * sum((n - 1) / 3 for n in (units, units / 2)[:config.lanes])


def copies(config: CoreConfig, name: str) -> int:
    """How many of an engine's unit there are: one for each engine, or for each drain."""
    return config.drains if name.startswith("engine.drain") else config.engines


def engine(config: CoreConfig) -> dict[str, Area]:
    """Cells of one engine, and of one drain, by unit, of all its copies of one."""
    plus = config.window - _DEFAULT.window
    mux = choice(config) - choice(_DEFAULT) + _SECOND_SUM * (config.lanes - _DEFAULT.lanes)
    # The last drain may have an engine less than the others.
    second = _SECOND.times(config.engines / config.drains - 1)
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
    if config.gate:
        found["engine.drain"] += _LIST
    else:
        del found["engine.drain.scores"]
    return found


def units(config: CoreConfig) -> dict[str, Area]:
    """Cells of the whole design by unit, as a build's report has them; block RAM of maps, weights
    and program besides (`memories`)."""
    grown = config.engines / _DEFAULT.engines
    found = {name: area.times(copies(config, name)) for name, area in engine(config).items()}
    found |= {name: area for name, area in UNITS.items() if not name.startswith("engine")}
    counters, arbiter = (found[name] for name in ("core (counters, host bus)", "arbiter"))
    found |= {
        "core (counters, host bus)": replace(counters, lut=counters.lut + 175 * (grown - 1)),
        "engine.fetch": replace(found["engine.fetch"],
                                ff=found["engine.fetch"].ff + TOLD * config.drains),
        # Every drain's words to every copy of the map.
        "arbiter": replace(arbiter, lut=arbiter.lut * (
            grown * config.drains / _DEFAULT.drains) ** 0.75),
    }
    found["sums"] = found["sums"].times(config.map_bits / _DEFAULT.map_bits)
    for name in ("gate", "sums"):
        if not getattr(config, name):
            del found[name]
    return found


def counted(cells: dict[str, Area]) -> Area:
    """Resources of units: LUTs less those that pairs of small functions save."""
    total = sum(cells.values(), Area())
    saved = sum(area.lut * (SHARED[name] + ACROSS) + area.paired for name, area in cells.items())
    return replace(total, lut=total.lut - saved, paired=0)


def memories(config: CoreConfig) -> dict[str, float]:
    """BRAM36 by use."""
    return {
        "maps": config.pairs * ram36(config.map_bits, config.map_words),
        "weights": sum(ram36(WORD_BITS, depth) for depth in config.weight_depths),
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
