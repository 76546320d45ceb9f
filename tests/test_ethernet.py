# amaranth: UnusedElaboratable=no
"""Ethernet: the shell from the pins of its PHY, in cocotb, with a stand-in core."""

from __future__ import annotations

from dataclasses import replace

import pytest
from amaranth import ClockDomain, Module
from amaranth.back import rtlil
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.build import fit, usage, yosys
from hw.config import PRESETS
from hw.datagrams import Datagrams
from hw.ethernet.mii import MII, MIN_CLOCK_HZ, Mii
from hw.ethernet.udp import UdpHost
from hw.shell import Shell
from sim.runner import run_bench

from .stand_in import StandInCore

TINY = PRESETS["tiny"]
RESET_CYCLES = 300


class Board(wiring.Component):
    """A shell with the pins of its PHY and a clock."""

    def __init__(self, config):
        self._shell = Shell(config, core=StandInCore(config), reset_cycles=RESET_CYCLES,
                            ethernet=True)
        super().__init__({
            "clk": In(1), "rx": In(1, init=1), "tx": Out(1), "reset_button": In(1),
            "phy_reset": Out(1), "rx_clk": In(1), "rx_dv": In(1), "rx_er": In(1), "rx_data": In(4),
            "tx_clk": In(1), "tx_en": Out(1), "tx_data": Out(4),
        })

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = domain = ClockDomain(reset_less=True)
        m.submodules.shell = shell = self._shell
        mii = shell.mii
        m.d.comb += [
            domain.clk.eq(self.clk), shell.rx.eq(self.rx), self.tx.eq(shell.tx),
            shell.reset_button.eq(self.reset_button), shell.locked.eq(1),
            self.phy_reset.eq(shell.phy_reset),
            mii.rx_clk.eq(self.rx_clk), mii.rx_dv.eq(self.rx_dv), mii.rx_er.eq(self.rx_er),
            mii.rx_data.eq(self.rx_data), mii.tx_clk.eq(self.tx_clk),
            self.tx_en.eq(mii.tx_en), self.tx_data.eq(mii.tx_data),
        ]
        return m


@pytest.mark.parametrize("clock_hz, few", [(MIN_CLOCK_HZ, False), (TINY.clock_hz, True)])
def test_shell_from_the_pins_of_its_phy(clock_hz, few):
    """All trials at the lowest clock, at which the sender is just fast enough."""
    config = replace(TINY, clock_hz=clock_hz)
    run_bench(Board(config), "sim.benches.ethernet_bench", config=config.as_dict(),
              reset_cycles=RESET_CYCLES, seed=7, few=few)


def test_too_slow_a_clock():
    with pytest.raises(ValueError, match="clock_hz 40000000 is below 50000000"):
        Shell(replace(TINY, clock_hz=40_000_000), ethernet=True)


class Addition(wiring.Component):
    """What Ethernet adds to a board."""

    def __init__(self):
        super().__init__({
            "mii": Out(MII), "ip": In(32), "serial_broken": In(1),
            "serial_rx": In(stream.Signature(8)), "serial_tx": Out(stream.Signature(8)),
            "link_rx": Out(stream.Signature(8)), "link_tx": In(stream.Signature(8)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.mii = mii = Mii()
        m.submodules.udp = udp = UdpHost()
        m.submodules.datagrams = datagrams = Datagrams(PRESETS["a35tw"], build=1 << 63 | 1)
        wiring.connect(m, wiring.flipped(self.mii), mii.mii)
        wiring.connect(m, mii.rx, udp.rx)
        wiring.connect(m, udp.tx, mii.tx)
        wiring.connect(m, udp.udp, datagrams.udp)
        for name in ("serial_rx", "serial_tx", "link_rx", "link_tx"):
            wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(datagrams, name))
        m.d.comb += [udp.ip.eq(self.ip), datagrams.serial_broken.eq(self.serial_broken)]
        return m


def test_it_is_as_large_as_plans_say(tmp_path):
    """Yosys counts what `fit.ETHERNET` has, and every buffer lies in RAM."""
    text = rtlil.convert(Addition(), name="addition", emit_src=False)
    made = yosys.synthesise(text, "xc7", "addition", tmp_path, pads=False)
    module, hierarchy = made.load(), usage.Hierarchy.of(text)
    used = usage.usage(module, usage.owners(module, hierarchy), "xc7")
    assert set(used.units) == {"ethernet"}
    counted = usage.counted(used, made.cells, "xc7")
    assert counted == pytest.approx(fit.ETHERNET, rel=0.03)
    kinds = [memory["mapped"] for memory in usage.memories(hierarchy, made.log.read_text())]
    assert sorted(kinds) == 3 * [usage.BLOCK] + 2 * [usage.DISTRIBUTED]
