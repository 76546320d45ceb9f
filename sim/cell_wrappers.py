"""Block RAM cells and multipliers behind one set of ports, for `sim.units.cells.bench`.

The pins are connected as the vendors document them, independently of the models in `sim/cells`.
"""

from __future__ import annotations

import numpy as np
from amaranth import Cat, ClockSignal, Const, Instance, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

ROW_BYTES = 8
BYTES = {"RAMB36E1": 4096, "RAMB18E1": 2048, "DP16KD": 2048}


def content(spec: dict) -> np.ndarray:
    """The initial bytes of 9 bits that a memory of this specification gets."""
    rng = np.random.default_rng(spec["seed"])
    return rng.integers(0, 512, BYTES[spec["cell"]])


class Cells(wiring.Component):
    """Several memories with common inputs.

    specs: "cell", "read" and "write" widths of both ports, "mode" of both, "simple" (dual port).
    Bit 9 i + 8 of a port's data is its i-th byte's parity bit.
    """

    def __init__(self, specs: list[dict]):
        self._specs = specs
        ports = {"en": In(2), "reset": In(2)}
        for x in "ab":
            ports |= {f"we_{x}": In(8), f"address_{x}": In(16), f"di_{x}": In(72)}
            ports |= {f"do_{x}{i}": Out(72) for i in range(len(specs))}
        super().__init__(ports)

    def elaborate(self, platform):
        m = Module()
        m.d.sync += Signal(name="unused").eq(1)  # so that there is a clock and a reset
        for i, spec in enumerate(self._specs):
            make = _dp16kd if spec["cell"] == "DP16KD" else _ramb
            m.submodules[f"cell{i}"] = make(self, i, spec, ClockSignal())
        return m


def _ramb(top: Cells, index: int, spec: dict, clock) -> Instance:
    name, size = spec["cell"], BYTES[spec["cell"]]
    lanes = size // 1024                   # bytes of a port's pins
    data = content(spec)
    parameters = {}
    for i in range(size // 32):
        value = sum(int(byte & 0xFF) << 8 * k for k, byte in enumerate(data[32 * i:32 * i + 32]))
        parameters[f"p_INIT_{i:02X}"] = Const(value, 256)
    for i in range(size // 256):
        value = sum(int(byte >> 8) << k for k, byte in enumerate(data[256 * i:256 * i + 256]))
        parameters[f"p_INITP_{i:02X}"] = Const(value, 256)
    do_a, do_b = getattr(top, f"do_a{index}"), getattr(top, f"do_b{index}")
    di_a, di_b = top.di_a, top.di_b
    if spec["simple"]:      # port A's pins are the low half of both
        wide_write, wide_read = (spec[key][port] == 18 * lanes
                                 for key, port in (("write", 1), ("read", 0)))
        low, high = (di_b, di_b >> 9 * lanes) if wide_write else (Const(0, 72), di_b)
        out_low, out_high = do_a, do_a[9 * lanes:] if wide_read else Signal(72)
    else:
        low, high, out_low, out_high = di_a, di_b, do_a, do_b

    def eight(value):
        return Cat(value[9 * i:9 * i + 8] for i in range(lanes))

    def ninth(value):
        return Cat(value[9 * i + 8] for i in range(lanes))

    address = 15 if size == 4096 else 14
    pad = [Const(1, 1)] if size == 4096 else []
    return Instance(
        name, **parameters,
        p_RAM_MODE="SDP" if spec["simple"] else "TDP",
        p_READ_WIDTH_A=spec["read"][0], p_READ_WIDTH_B=spec["read"][1],
        p_WRITE_WIDTH_A=spec["write"][0], p_WRITE_WIDTH_B=spec["write"][1],
        p_WRITE_MODE_A=spec["mode"][0], p_WRITE_MODE_B=spec["mode"][1],
        p_SRVAL_A=Const(spec["reset"][0], 36), p_SRVAL_B=Const(spec["reset"][1], 36),
        i_CLKARDCLK=clock, i_CLKBWRCLK=clock, i_ENARDEN=top.en[0], i_ENBWREN=top.en[1],
        i_RSTRAMARSTRAM=top.reset[0], i_RSTRAMB=top.reset[1], i_RSTREGARSTREG=Const(0, 1),
        i_RSTREGB=Const(0, 1), i_REGCEAREGCE=Const(0, 1), i_REGCEB=Const(0, 1),
        i_ADDRARDADDR=Cat(top.address_a[:address], *pad),
        i_ADDRBWRADDR=Cat(top.address_b[:address], *pad),
        i_WEA=top.we_a[:lanes], i_WEBWE=top.we_b[:2 * lanes],
        i_DIADI=eight(low), i_DIPADIP=ninth(low), i_DIBDI=eight(high), i_DIPBDIP=ninth(high),
        o_DOADO=eight(out_low), o_DOPADOP=ninth(out_low),
        o_DOBDO=eight(out_high), o_DOPBDOP=ninth(out_high))


def _dp16kd(top: Cells, index: int, spec: dict, clock) -> Instance:
    data = content(spec)
    pins = {}
    for i in range(64):
        words = [int(data[2 * k]) | int(data[2 * k + 1]) << 9 for k in range(16 * i, 16 * i + 16)]
        pins[f"p_INITVAL_{i:02X}"] = Const(sum(word << 20 * k for k, word in enumerate(words)), 320)
    widths = [max(pair) for pair in zip(spec["read"], spec["write"], strict=True)]
    modes = {"READ_FIRST": "READBEFOREWRITE", "WRITE_FIRST": "WRITETHROUGH", "NO_CHANGE": "NORMAL"}
    di = {"A": top.di_a, "B": top.di_a[18:] if widths[0] == 36 else top.di_b}
    out_a, out_b = getattr(top, f"do_a{index}"), getattr(top, f"do_b{index}")
    out = {"A": out_b, "B": out_b[18:]} if widths[1] == 36 else {"A": out_a, "B": out_b}
    for i, x in enumerate("AB"):
        enables = top.we_a if x == "A" else top.we_b
        address = top.address_a if x == "A" else top.address_b
        written = spec["write"][i]
        count = max(1, written // 9)
        for k in range(14):
            pins[f"i_AD{x}{k}"] = enables[k] if written >= 18 and k < count else address[k]
        for k in range(18):
            pins[f"i_DI{x}{k}"], pins[f"o_DO{x}{k}"] = di[x][k], out[x][k]
        pins |= {
            f"p_DATA_WIDTH_{x}": widths[i], f"p_WRITEMODE_{x}": modes[spec["mode"][i]],
            f"p_CLK{x}MUX": f"CLK{x}", f"p_CSDECODE_{x}": "0b000", f"i_CLK{x}": clock,
            f"i_CE{x}": top.en[i], f"i_OCE{x}": Const(1, 1), f"i_RST{x}": Const(0, 1),
            f"i_WE{x}": (enables[:count].any() if written else Const(0, 1)),
            **{f"i_CS{x}{k}": Const(0, 1) for k in range(3)},
        }
    return Instance("DP16KD", **pins)


class Multipliers(wiring.Component):
    """One MULT18X18D for every choice of signed inputs: p0 unsigned, p1 a, p2 b, p3 both signed."""

    def __init__(self):
        super().__init__({"a": In(18), "b": In(18), **{f"p{i}": Out(36) for i in range(4)}})

    def elaborate(self, platform):
        m = Module()
        m.d.sync += Signal(name="unused").eq(1)
        for i in range(4):
            product = getattr(self, f"p{i}")
            m.submodules[f"cell{i}"] = Instance(
                "MULT18X18D", i_SIGNEDA=Const(i & 1, 1), i_SIGNEDB=Const(i >> 1, 1),
                **{f"i_A{k}": self.a[k] for k in range(18)},
                **{f"i_B{k}": self.b[k] for k in range(18)},
                **{f"o_P{k}": product[k] for k in range(36)})
        return m
