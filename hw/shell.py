"""All of a board that is neither a pin nor a PLL: reset, link with the core, Ethernet, LEDs.

    m.domains.sync = ClockDomain("sync", reset_less=True)   # clock of config.clock_hz
    m.submodules.shell = shell = Shell(config)
    m.d.comb += [shell.rx.eq(uart.rx.i), uart.tx.o.eq(shell.tx), shell.locked.eq(pll_locked), …]

There is one clock domain, "sync", and with Ethernet the two of `hw.ethernet.mii`. Three inputs
are asynchronous to all: `rx`, `reset_button` and `locked`; each passes two flip-flops before
anything looks at it.
"""

from __future__ import annotations

from amaranth import Module, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.cdc import AsyncFFSynchronizer, FFSynchronizer
from amaranth.lib.wiring import In, Out

from .config import CoreConfig
from .ddr3 import memory_ports
from .ethernet.mii import MII, MIN_CLOCK_HZ, Mii
from .ethernet.rgmii import RGMII, Rgmii
from .ethernet.udp import UdpHost
from .registers import DEFAULT_BAUD
from .top import SerialTop
from .uart import divisor_for

PHYS = {"mii": MII, "rgmii": RGMII}
"""Kinds of Ethernet PHYs, and their pins."""

LEDS = ("heartbeat", "activity", "error")
"""What `Shell.leds` shows, from bit 0 on."""

TICK_HZ = 128
"""The LEDs' time base."""

ACTIVITY_TICKS, ERROR_TICKS = 7, TICK_HZ - 1
"""How long an LED stays lit after its cause: 50 ms, 1 s."""


class Shell(wiring.Component):
    """Reset, `top.SerialTop`, LEDs, in the domain "sync", whose own reset should not be used.

    Parameters
    ----------
    config: the core; `config.clock_hz` is the frequency of "sync".
    default_baud: rate of the line after power-up, reset and break.
    core: another core with the ports of `core.Core`, for tests.
    reset_cycles: the reset lasts so many cycles after its last cause (16,384: 0.16 ms at 100 MHz),
    at power-up too.
    break_cycles, build: see `top.SerialTop`, `top.Top`.
    phy: kind of the Ethernet PHY, of PHYS; None without Ethernet. The clock must be MIN_CLOCK_HZ or
    more with one.

    Members
    -------
    rx, tx: the serial line.
    reset_button: 1 resets the board, with the clock running or not; tie it to 0 where there is no
    button. locked: 0 resets the board too; the PLL's lock, or 1.
    leds: as `LEDS`, 1 is lit. Heartbeat: 1 Hz; steadily lit in reset or without a clock. Activity:
    50 ms from a byte on the line, either way, so steadily lit under traffic. Error: 1 s from a
    framing error, a damaged or lost frame or a run stopped at its cycle limit.
    mii or rgmii, phy_reset, where there is Ethernet: the PHY's pins; 1 while it is to be in reset.
    dram, dram_control: the memory of a core with one, which no reset of the shell concerns, and the
    registers of its controller (`top.Top`).

    A reset stops the core and forgets frames received and replies not sent. Memories keep their
    content. A byte already leaving leaves whole (`top.SerialTop`); then `tx` stays 1.
    Raises ValueError naming an impossible `default_baud`, `reset_cycles` or clock.
    """

    def __init__(self, config: CoreConfig, *, default_baud: int = DEFAULT_BAUD,
                 core: wiring.Component | None = None, reset_cycles: int = 1 << 14,
                 break_cycles: int = 1 << 18, build: int = 0, phy: str | None = None):
        if not 2 <= reset_cycles <= 1 << 24:
            raise ValueError(f"reset_cycles {reset_cycles} is outside 2..{1 << 24}")
        if config.clock_hz < 2 * TICK_HZ:
            raise ValueError(f"clock_hz {config.clock_hz} is below {2 * TICK_HZ}")
        if phy and config.clock_hz < MIN_CLOCK_HZ:
            raise ValueError(f"clock_hz {config.clock_hz} is below {MIN_CLOCK_HZ}, the least for "
                             "Ethernet")
        divisor_for(config.clock_hz, default_baud)  # refuses an impossible rate here
        self._config, self._core, self._reset_cycles = config, core, reset_cycles
        self._phy = phy
        self._baud, self._break_cycles, self._build = default_baud, break_cycles, build
        super().__init__({
            "rx": In(1, init=1), "tx": Out(1, init=1),
            "reset_button": In(1), "locked": In(1, init=1), "leds": Out(len(LEDS), init=1),
        } | ({phy: Out(PHYS[phy]), "phy_reset": Out(1, init=1)} if phy else {})
          | memory_ports(config))

    def elaborate(self, platform):
        m = Module()
        m.submodules.serial = serial = SerialTop(
            self._config, core=self._core, default_baud=self._baud,
            break_cycles=self._break_cycles, build=self._build,
            ethernet=self._phy is not None)

        for name in memory_ports(self._config):
            wiring.connect(m, getattr(serial, name), wiring.flipped(getattr(self, name)))

        # The first synchroniser catches a cause that is shorter than a cycle or comes while the
        # clock stands; but its output rises at any time, so a second one follows.
        caught, held = Signal(), Signal(init=1)
        reset, left = Signal(init=1), Signal(range(self._reset_cycles), init=self._reset_cycles - 1)
        m.submodules.catch = AsyncFFSynchronizer(self.reset_button | ~self.locked, caught)
        m.submodules.hold = FFSynchronizer(caught, held, init=1)
        m.d.sync += reset.eq(held | (left != 0))
        with m.If(held):
            m.d.sync += left.eq(self._reset_cycles - 1)
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)

        m.d.comb += [serial.rx.eq(self.rx), self.tx.eq(serial.tx), serial.reset.eq(reset)]
        self._light(m, serial, reset)
        if self._phy:
            self._connect_phy(m, serial, reset)
        return m

    def _connect_phy(self, m, serial, reset):
        if self._phy == "mii":
            m.submodules.mii = pins = Mii()
            m.d.comb += self.phy_reset.eq(reset)
        else:
            m.submodules.rgmii = pins = Rgmii(self._config.clock_hz)
            m.d.comb += [pins.reset.eq(reset), self.phy_reset.eq(pins.phy_reset)]
        udp = UdpHost()
        m.submodules.udp = ResetInserter(reset)(udp)
        wiring.connect(m, wiring.flipped(getattr(self, self._phy)), getattr(pins, self._phy))
        wiring.connect(m, pins.rx, udp.rx)
        wiring.connect(m, udp.tx, pins.tx)
        wiring.connect(m, udp.udp, serial.udp)
        m.d.comb += udp.ip.eq(serial.ip)

    def _light(self, m, serial, reset):
        period = self._config.clock_hz // TICK_HZ
        prescaler, beat = Signal(range(period)), Signal(range(TICK_HZ))
        activity, error = Signal(range(ACTIVITY_TICKS + 1)), Signal(range(ERROR_TICKS + 1))
        tick = Signal()
        m.d.sync += [prescaler.eq(prescaler + 1), tick.eq(prescaler == period - 2)]
        with m.If(tick):
            m.d.sync += [prescaler.eq(0), beat.eq(beat + 1)]
        for timer, cause, ticks in ((activity, serial.active, ACTIVITY_TICKS),
                                    (error, serial.error, ERROR_TICKS)):
            with m.If(cause):
                m.d.sync += timer.eq(ticks)
            with m.Elif(tick & (timer != 0)):
                m.d.sync += timer.eq(timer - 1)
        with m.If(reset):
            m.d.sync += [prescaler.eq(0), beat.eq(0), activity.eq(0), error.eq(0)]
        m.d.sync += self.leds.eq((~beat[-1]) | ((activity != 0) << 1) | ((error != 0) << 2))
