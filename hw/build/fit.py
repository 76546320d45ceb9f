"""Will a core fit an FPGA? Before synthesis by the area model, after it by what was counted."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from hw.boards import Device
from hw.config import WORD_BITS, CoreConfig
from sw import area
from sw.errors import SpikeTicketError

ECP5_PER_LUT6, ECP5_PER_FF = 3.2, 1.55
"""LUT4s (carry chains and distributed RAM included) and registers of a core on ECP5 per LUT6 and
register on a 7-series part, of `a35t` after synthesis. ECP5 has no shift registers in LUTs, hence
the registers."""

LABELS = {"lut": "LUT", "ff": "FF", "bram36": "BRAM36", "dp16kd": "DP16KD", "dsp": "DSP"}


@dataclass(frozen=True)
class Use:
    """One resource of an FPGA. short: how much is missing, 0 if it fits."""

    name: str
    used: float
    available: int

    @property
    def short(self) -> float:
        return max(0, self.used - self.available)

    @property
    def share(self) -> float:
        return self.used / self.available

    def __str__(self) -> str:
        return f"{LABELS[self.name]} {self.used:,g} of {self.available:,}"


def uses(device: Device, counted: dict[str, float]) -> list[Use]:
    """counted: "lut", "ff", "bram", "dsp"; the block RAM gets the device's name for it."""
    return [Use("lut", counted["lut"], device.lut), Use("ff", counted["ff"], device.ff),
            Use(device.ram, counted["bram"], device.bram), Use("dsp", counted["dsp"], device.dsp)]


ETHERNET = {"xc7": {"lut": 844, "ff": 657, "bram": 2, "dsp": 0},
            "ecp5": {"lut": 1926, "ff": 795, "bram": 4, "dsp": 0}}
"""What Ethernet adds: its blocks, on MII and on RGMII, counted after synthesis (docs/ethernet.md).
"""

SDRAM = {"lut": 811, "ff": 627, "bram": 0, "dsp": 0}
"""What streamer and SDRAM controller take on ECP5, counted after synthesis of `e45d`."""

DDR3 = {"lut": 2907, "ff": 2229, "bram": 0, "dsp": 0}
"""What streamer, LiteDRAM's core and our buffer take on 7 series, of `a35td`."""


def estimate(config: CoreConfig, device: Device, *, ethernet: bool = False) -> dict[str, float]:
    """Resources before synthesis: `sw.area`, converted for ECP5, Ethernet's and the DRAM's."""
    if device.family == "xc7":
        total = area.estimate(config)
        core = {name: getattr(total, name) for name in ("lut", "ff", "bram", "dsp")}
    else:
        total = area.estimate(replace(config, dsp_adders=False))
        core = {"lut": round(total.lut * ECP5_PER_LUT6), "ff": round(total.ff * ECP5_PER_FF),
                "bram": sum(ecp5_memories(config).values()),
                # Yosys multiplies 24 x 10 bits in two 18-bit multipliers, in each of 4 timesteps.
                "dsp": config.drains * 8 * config.lanes + config.engines + config.drains + 1}
    more = ETHERNET[device.family]
    return {name: (count + more[name] * ethernet + SDRAM[name] * config.sdram
                   + DDR3[name] * config.ddr3)
            for name, count in core.items()}


def dp16kd(width: int, depth: int, dual: bool = True) -> int:
    """Blocks of 18 Kbit of a memory; two ports that each read or write: 1k x 18 and deeper."""
    widths = {1024: 18, 2048: 9, 4096: 4, 8192: 2, 16384: 1}
    if not dual:
        widths |= {512: 36}
    return min(math.ceil(width / bits) * math.ceil(depth / rows) for rows, bits in widths.items())


def ecp5_memories(config: CoreConfig) -> dict[str, int]:
    """DP16KD by use."""
    return {"maps": config.pairs * dp16kd(config.map_bits, config.map_words),
            "weights": sum(dp16kd(WORD_BITS, depth) for depth in config.weight_depths),
            "program": dp16kd(WORD_BITS, config.program_words),
            "membranes": config.drains * config.lanes,
            "counters and link": 1 + 2 + 1}


def verdict(found: list[Use]) -> str:
    """One line: fits or not, and by how much."""
    short = [use for use in found if use.short]
    if short:
        return "does not fit: " + ", ".join(
            f"{LABELS[use.name]} short by {use.short:,g} ({use.used:,g} of {use.available:,})"
            for use in short)
    tight = max(found, key=lambda use: use.share)
    words = "fits" if tight.share <= area.LUT_BUDGET else "fits tightly"
    return f"{words}: " + ", ".join(f"{use} ({use.share:.0%})" for use in found)


MODEL_ERROR = 1.1
"""A design that the model puts this far above a part, or less, is synthesised all the same."""


def check(found: list[Use], what: str, *, margin: float = 1.0) -> None:
    """Raises SpikeTicketError naming each resource that is short, and the remedy.

    margin: how far above the part a resource may be.
    """
    if any(use.share > margin for use in found):
        raise SpikeTicketError(f"{what} {verdict(found)}; use fewer engines or smaller memories "
                               "(--set engines=N, --preset), or a larger board")
