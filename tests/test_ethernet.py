# amaranth: UnusedElaboratable=no
"""Ethernet: the shell from the pins of its PHY, in cocotb, with a stand-in core."""

from __future__ import annotations

from dataclasses import replace

import pytest
from amaranth import Cat, ClockDomain, ClockSignal, Module, ResetInserter, Signal
from amaranth.back import rtlil
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from hw.build import estimate, fit, usage, yosys
from hw.config import PRESETS
from hw.datagrams import Datagrams
from hw.ethernet.management import BIT_CYCLES, Management
from hw.ethernet.mii import MIN_CLOCK_HZ, Mii
from hw.ethernet.rgmii import Rgmii
from hw.ethernet.udp import UdpHost
from hw.shell import PHYS, Shell
from sim.runner import run_bench

from .stand_in import StandInCore

TINY = PRESETS["tiny"]
RESET_CYCLES = 300


class InputCell(wiring.Component):
    """What an FPGA's pad has for both edges, ECP5's IDDRX1F: `o` is the pin at the rising edge and
    at the falling one after it, from the next rising one on. Clock: the domain "pins"."""

    def __init__(self):
        super().__init__({"i": In(1), "o": Out(2)})

    def elaborate(self, platform):
        m = Module()
        first, second = Signal(), Signal()
        m.d.pins += [first.eq(self.i), self.o.eq(Cat(first, second))]
        m.d.pins_fall += second.eq(self.i)
        return m


class Board(wiring.Component):
    """A shell with the pins of its PHY and a clock."""

    def __init__(self, config, phy):
        self._shell = Shell(config, core=StandInCore(config), reset_cycles=RESET_CYCLES, phy=phy)
        self._phy = phy
        pins = {
            "mii": {"rx_dv": In(1), "rx_er": In(1), "tx_clk": In(1), "tx_en": Out(1)},
            "rgmii": {"rx_ctl": In(1), "oscillator": In(1), "tx_clk": Out(1), "tx_ctl": Out(1)},
        }[phy]
        super().__init__({
            "clk": In(1), "rx": In(1, init=1), "tx": Out(1), "reset_button": In(1),
            "phy_reset": Out(1), "rx_clk": In(1), "rx_data": In(4), "tx_data": Out(4), **pins})

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = domain = ClockDomain(reset_less=True)
        m.submodules.shell = shell = self._shell
        m.d.comb += [
            domain.clk.eq(self.clk), shell.rx.eq(self.rx), self.tx.eq(shell.tx),
            shell.reset_button.eq(self.reset_button), shell.locked.eq(1),
            self.phy_reset.eq(shell.phy_reset),
        ]
        pins = getattr(shell, self._phy)
        m.d.comb += [pins.rx_clk.eq(self.rx_clk), self.tx_data.eq(pins.tx_data)]
        if self._phy == "mii":
            m.d.comb += [pins.rx_dv.eq(self.rx_dv), pins.rx_er.eq(self.rx_er),
                         pins.rx_data.eq(self.rx_data), pins.tx_clk.eq(self.tx_clk),
                         self.tx_en.eq(pins.tx_en)]
            return m
        m.domains.pins = ClockDomain(reset_less=True)
        m.domains.pins_fall = ClockDomain(reset_less=True, clk_edge="neg")
        m.d.comb += [ClockSignal("pins").eq(self.rx_clk), ClockSignal("pins_fall").eq(self.rx_clk),
                     pins.oscillator.eq(self.oscillator), self.tx_clk.eq(pins.tx_clk),
                     self.tx_ctl.eq(pins.tx_ctl)]
        for name, pin, sampled in [("ctl", self.rx_ctl, pins.rx_ctl)] + [
                (f"data{bit}", self.rx_data[bit], pins.rx_data[bit]) for bit in range(4)]:
            m.submodules[name] = cell = InputCell()
            m.d.comb += [cell.i.eq(pin), sampled.eq(cell.o)]
        return m


@pytest.mark.parametrize("phy, clock_hz, few", [
    ("mii", MIN_CLOCK_HZ, False), ("mii", TINY.clock_hz, True), ("rgmii", MIN_CLOCK_HZ, True)])
def test_shell_from_the_pins_of_its_phy(phy, clock_hz, few):
    """All trials at the lowest clock, at which the sender is just fast enough; RGMII differs from
    MII in nothing but the pins."""
    config = replace(TINY, clock_hz=clock_hz)
    run_bench(Board(config, phy), "sim.units.ethernet.bench", config=config.as_dict(),
              reset_cycles=RESET_CYCLES, seed=7, few=few, phy=phy)


def test_what_the_phy_is_told():
    """Reset, a pause, three writes to each address, then nothing; a reset has it all again."""
    dut, again = Management(1_000_000, reset_ms=0.02, settle_ms=0.05, addresses=2), Signal()
    m = Module()
    m.submodules.dut = ResetInserter(again)(dut)
    written, risen = [], []

    async def run(ctx):
        bits, clock, left = [], 0, 0
        for cycle in range(2 * 64 * BIT_CYCLES * 3 + 500):
            left += ctx.get(dut.phy_reset)
            rises, clock = ctx.get(dut.mdc) > clock, ctx.get(dut.mdc)
            if rises:       # a PHY looks at the data
                assert not ctx.get(dut.phy_reset)
                bits.append(ctx.get(dut.mdio))
                risen.append(cycle)
            await ctx.tick()
        assert left == 20 and 20 + 50 < risen[0] < 20 + 50 + BIT_CYCLES
        assert len(bits) % 64 == 0
        written.append([int("".join(map(str, bits[at:at + 64])), 2)
                        for at in range(0, len(bits), 64)])
        risen.clear()

    async def bench(ctx):
        await run(ctx)
        ctx.set(again, 1)
        await ctx.tick()
        ctx.set(again, 0)
        await run(ctx)

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    once = []
    for frame in written[0]:
        assert frame >> 28 == 0xFFFF_FFFF5 and frame >> 16 & 3 == 0b10      # a write, clause 22
        once.append((frame >> 23 & 31, frame >> 18 & 31, frame & 0xFFFF))
    # 1000BASE-T control, advertisement (100BASE-TX full duplex, IEEE 802.3), control: restart
    told = [(9, 0), (4, 1 << 8 | 1), (0, 1 << 12 | 1 << 9)]
    assert once == [(address, *setting) for address in range(2) for setting in told]
    assert written[1] == written[0]


def test_too_slow_a_clock():
    with pytest.raises(ValueError, match="clock_hz 40000000 is below 50000000"):
        Shell(replace(TINY, clock_hz=40_000_000), phy="mii")


class Addition(wiring.Component):
    """What Ethernet adds to a board."""

    def __init__(self, phy):
        self._phy = phy
        super().__init__({
            phy: Out(PHYS[phy]), "ip": In(32), "serial_broken": In(1),
            "serial_rx": In(stream.Signature(8)), "serial_tx": Out(stream.Signature(8)),
            "link_rx": Out(stream.Signature(8)), "link_tx": In(stream.Signature(8)),
        })

    def elaborate(self, platform):
        m = Module()
        pins = Mii() if self._phy == "mii" else Rgmii(PRESETS["e45"].clock_hz)
        m.submodules[self._phy] = pins
        m.submodules.udp = udp = UdpHost()
        m.submodules.datagrams = datagrams = Datagrams(PRESETS["a35tw"], build=1 << 63 | 1)
        wiring.connect(m, wiring.flipped(getattr(self, self._phy)), getattr(pins, self._phy))
        wiring.connect(m, pins.rx, udp.rx)
        wiring.connect(m, udp.tx, pins.tx)
        wiring.connect(m, udp.udp, datagrams.udp)
        for name in ("serial_rx", "serial_tx", "link_rx", "link_tx"):
            wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(datagrams, name))
        m.d.comb += [udp.ip.eq(self.ip), datagrams.serial_broken.eq(self.serial_broken)]
        return m


@pytest.mark.parametrize("phy, family", [("mii", "xc7"), ("rgmii", "ecp5")])
def test_it_is_as_large_as_plans_say(tmp_path, phy, family):
    """Yosys counts what `fit.ETHERNET` has, every buffer lies in RAM, and no path is longer than
    the Arty's 100 MHz allow, as far as an estimate can tell."""
    text = rtlil.convert(Addition(phy), name="addition", emit_src=False)
    made = yosys.synthesise(text, family, "addition", tmp_path, pads=False)
    module, hierarchy = made.load(), usage.Hierarchy.of(text)
    used = usage.usage(module, usage.owners(module, hierarchy), family)
    assert set(used.units) == {"ethernet"}
    counted = usage.counted(used, made.cells, family)
    assert counted == pytest.approx(fit.ETHERNET[family], rel=0.03)
    if family == "xc7":
        locate = usage.locator(usage.owners(module, hierarchy), hierarchy)
        assert estimate.estimate(module, locate).clock_mhz > 100
    kinds = [memory["mapped"] for memory in usage.memories(hierarchy, made.log.read_text())]
    assert sorted(kinds) == 3 * [usage.BLOCK] + 2 * [usage.DISTRIBUTED]
