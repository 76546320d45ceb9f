# amaranth: UnusedElaboratable=no
"""A board's design: pads, clocks and `hw.shell.Shell`, as RTLIL and pin constraints.

Pins, their names and electrical standards come from `amaranth_boards`. Pads are instantiated here,
one buffer a pin, since not every place-and-route program takes the tristate buffers that Amaranth
uses for plain outputs.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import NamedTuple

from amaranth import Cat, ClockDomain, ClockSignal, Const, Instance, Module, ResetInserter, Signal
from amaranth.back import rtlil
from amaranth.build import Platform
from amaranth.lib import io, wiring
from amaranth.lib.cdc import FFSynchronizer

from hw.boards import DEVICES, Board
from hw.config import CoreConfig
from hw.core import Core
from hw.ddr3 import ControlPort, Ddr3Buffer, LinePort, instance_ports
from hw.ddr3_control import CONTROL_BITS
from hw.ethernet.rgmii import OSCILLATOR_HZ
from hw.sdram import Sdram
from hw.sdram_pads import PHASE, SdramPads
from hw.shell import LEDS, Shell

from . import litedram
from .clocking import Pll, PllParameters, parameters, sync_domain

TOP = "spiketicket"
"""Name of the top module and of the bitstream."""

_FREE_LEDS = {"arty_a7": (("led", 0), ("led", 1), ("led", 2)),
              "arty_a7_100": (("led", 0), ("led", 1), ("led", 2)),
              "ulx3s_85f": (("led", 0), ("led", 1), ("led", 2)),
              "versa_ecp5": (("led", 0), ("led", 1), ("led", 2)),
              "ecpix5_85f": (("rgb_led", 0, "g"), ("rgb_led", 1, "b"), ("rgb_led", 2, "r"))}
_BUTTONS = {"arty_a7": ("rst", 0), "arty_a7_100": ("rst", 0), "ecpix5_85f": ("rst", 0),
            "versa_ecp5": ("rst", 0), "ulx3s_85f": ("button_fire", 0)}

LITEDRAM = f"{TOP}.litedram"
"""Name of LiteDRAM's module in the design: like one of ours, so that its cells are found."""

PHY_CLOCK_HZ = 25_000_000
"""Of the clocks from a PHY, and of the one that one on MII needs."""


@dataclass(frozen=True)
class Pin:
    """One pin of the FPGA. attributes: as the vendor's constraint file names them."""

    port: str
    pin: str
    attributes: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Design:
    """What synthesis and place-and-route need.

    rtlil: the whole design, top module TOP. pins: where its ports go. clock_port: the oscillator's,
    at clock_in_hz. config: of the core; pll: None where the clocks are the same. phy_clocks: ports
    of the Ethernet PHY's clocks, of PHY_CLOCK_HZ.
    """

    board: Board
    config: CoreConfig
    baud: int
    rtlil: str
    pins: tuple[Pin, ...]
    clock_port: str
    clock_in_hz: int
    pll: PllParameters | None
    phy_clocks: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        return DEVICES[self.board.device].family


def platform_of(board: Board) -> Platform:
    """A fresh platform object of `amaranth_boards`."""
    module, name = board.platform
    return getattr(importlib.import_module(f"amaranth_boards.{module}"), name)()


class BoardTop(wiring.Component):
    """Pads, clocks, shell. `pll`, `clock_port` and `phy_clocks` are known after elaboration."""

    def __init__(self, board: Board, config: CoreConfig, baud: int,
                 core: wiring.Component | None = None, build: int = 0, ethernet: bool = False):
        self._board, self._config, self._baud, self._core = board, config, baud, core
        self._build, self._ethernet = build, ethernet
        self._family = DEVICES[board.device].family
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        self.clock_in_hz = round(platform.default_clk_frequency)
        self.pll = (None if self._config.ddr3 else
                    parameters(self._family, self.clock_in_hz, self._config.clock_hz))

        clock = platform.request(platform.default_clk, dir="-")
        self.phy_clocks = ()
        self.clock_port = (clock.p if isinstance(clock, io.DifferentialPort) else clock.io).name
        if self._config.ddr3:
            pll = LitedramClock(Signal(), Signal(), Signal())
        else:
            m.submodules.pll = pll = Pll(self._family, self.pll,
                                         PHASE if self._config.sdram else None)
        m.d.comb += pll.clk_in.eq(self._input(m, "clock_pad", clock))
        sync_domain(m, pll.clk_out)

        m.submodules.shell = shell = Shell(self._config, default_baud=self._baud,
                                             core=self._core, build=self._build,
                                             phy=self._board.phy if self._ethernet else None)
        # All its lines, the handshake that some boards have too, which the link leaves alone.
        uart = self._all_lines(platform, "uart")
        button = platform.request(*_BUTTONS[self._board.name], dir="-")
        m.d.comb += [
            shell.rx.eq(self._input(m, "rx_pad", uart.rx)), shell.locked.eq(pll.locked),
            shell.reset_button.eq(self._input(m, "button_pad", button)),
        ]
        self._output(m, "tx_pad", uart.tx, shell.tx)
        for name, (resource, number, *part), lit in zip(
                LEDS, _FREE_LEDS[self._board.name], shell.leds, strict=True):
            led = platform.request(resource, number, dir=dict.fromkeys("rgb", "-") if part else "-")
            self._output(m, f"{name}_pad", getattr(led, part[0]) if part else led, lit)
            for other in sorted(set("rgb") - set(part)) if part else ():
                self._output(m, f"{name}_{other}_pad", getattr(led, other), Const(0))
        if self._config.sdram:
            self._sdram(m, self._all_lines(platform, "sdram"), shell, pll)
        if self._config.ddr3:
            self._ddr3(m, self._all_lines(platform, "ddr3"), shell, pll)
        if self._ethernet:
            pins = self._mii if self._board.phy == "mii" else self._rgmii
            phy = self._all_lines(platform, f"eth_{self._board.phy}")
            self._output(m, "phy_reset_pad", phy.rst, shell.phy_reset)
            pins(m, platform, phy, shell, pll.clk_in)
        return m

    def _all_lines(self, platform, name: str):
        """A resource as it is, without buffers."""
        lines = [signal.name for signal in platform.lookup(name, 0).ios]
        return platform.request(name, 0, dir=dict.fromkeys(lines, "-"))

    def _sdram(self, m: Module, chip, shell: Shell, pll: Pll) -> None:
        """An SDRAM chip, its controller, and the pads, whose buffers have nothing between them and
        the registers of `hw.sdram_pads`: those hold what the chip's lines are."""
        locked = Signal()
        m.submodules.sdram_locked = FFSynchronizer(pll.locked, locked)
        controller = Sdram(self._config)
        m.submodules.sdram = ResetInserter(~locked)(controller)
        m.submodules.sdram_pads = pads = SdramPads()
        wiring.connect(m, shell.dram, controller.port)
        wiring.connect(m, controller.pins, pads.pins)
        m.d.comb += pads.clock.eq(pll.clk_late)
        lines = pads.lines
        for name, port, value in (
                ("clk", chip.clk, lines.clk), ("cke", chip.clk_en, lines.cke),
                ("cs", chip.cs, Const(0)), ("ras", chip.ras, lines.ras_n),
                ("cas", chip.cas, lines.cas_n), ("we", chip.we, lines.we_n),
                ("ba", chip.ba, lines.ba), ("a", chip.a, lines.a), ("dqm", chip.dqm, lines.dqm)):
            for bit in range(len(port)):
                m.submodules[f"sdram_{name}{bit}_pad"] = Instance(
                    "OB", i_I=value[bit], o_O=port.io[bit])
        for bit in range(len(chip.dq)):
            m.submodules[f"sdram_dq{bit}_pad"] = Instance(
                "BB", i_T=lines.dq_off[bit], i_I=lines.dq_out[bit], o_O=lines.dq_in[bit],
                io_B=chip.dq.io[bit])

    def _ddr3(self, m: Module, chip, shell: Shell, clock: LitedramClock) -> None:
        """A DDR3 chip and LiteDRAM's core, which has the PLL and the buffers of the data lines, the
        strobes and the chip's clock. Its lines are as the chip sees them."""
        m.submodules.ddr3 = buffer = Ddr3Buffer()
        wiring.connect(m, shell.dram, buffer.port)
        ports = {f"{way}_user_port_lines_{name}": value
                 for way, name, value in instance_ports(LinePort(), buffer.lines)}
        ports |= {f"{way}_wb_ctrl_{name}": value for way, name, value in
                  instance_ports(ControlPort(), shell.dram_control) if name != "adr"}
        for name, port in (("reset_n", chip.rst), ("cke", chip.clk_en), ("cs_n", chip.cs),
                           ("ras_n", chip.ras), ("cas_n", chip.cas), ("we_n", chip.we),
                           ("a", chip.a), ("ba", chip.ba), ("dm", chip.dm), ("odt", chip.odt)):
            line = Signal(len(port), name=f"ddr3_{name}")
            ports[f"o_ddram_{name}"] = line
            for bit in range(len(port)):
                m.submodules[f"ddr3_{name}{bit}_pad"] = Instance(
                    "OBUF", i_I=line[bit], o_O=port.io[bit])
        m.submodules.litedram = Instance(
            LITEDRAM, i_clk=clock.clk_in, i_rst=Const(0), o_user_clk=clock.clk_out,
            o_pll_locked=clock.locked, o_init_done=buffer.ready,
            i_wb_ctrl_adr=Cat(shell.dram_control.adr, Const(0, 30 - CONTROL_BITS)),
            i_wb_ctrl_stb=shell.dram_control.cyc, i_wb_ctrl_sel=Const(-1, 4),
            i_wb_ctrl_cti=Const(0, 3), i_wb_ctrl_bte=Const(0, 2),
            o_ddram_clk_p=chip.clk.p, o_ddram_clk_n=chip.clk.n, io_ddram_dq=chip.dq.io,
            io_ddram_dqs_p=chip.dqs.p, io_ddram_dqs_n=chip.dqs.n, **ports)

    def _mii(self, m: Module, platform, phy, shell: Shell, oscillator: Signal) -> None:
        """The pins of a PHY on MII, and the reference that it needs: the oscillator's 100 MHz
        divided by flip-flops, which adds less jitter than a PLL. Its management port is left alone:
        the straps of the boards make it negotiate 100 Mbit, full duplex."""
        mii = shell.mii
        reference = platform.request("eth_clk25", 0, dir="-")
        self.phy_clocks = (phy.rx_clk.io.name, phy.tx_clk.io.name)
        for name in ("rx_clk", "tx_clk"):
            m.submodules[f"{name}_buffer"] = Instance(
                "BUFG", i_I=self._input(m, f"{name}_pad", getattr(phy, name)),
                o_O=getattr(mii, name))
        for name in ("rx_dv", "rx_er"):
            m.d.comb += getattr(mii, name).eq(self._input(m, f"{name}_pad", getattr(phy, name)))
        for bit in range(4):
            m.d.comb += mii.rx_data[bit].eq(self._input(m, f"rx_data{bit}_pad", phy.rx_data[bit]))
            self._output(m, f"tx_data{bit}_pad", phy.tx_data[bit], mii.tx_data[bit])
        self._output(m, "tx_en_pad", phy.tx_en, mii.tx_en)
        m.domains += ClockDomain("reference", reset_less=True)
        m.submodules.reference_buffer = Instance("BUFG", i_I=oscillator,
                                                 o_O=ClockSignal("reference"))
        divider = Signal(range(self.clock_in_hz // PHY_CLOCK_HZ))
        m.d.reference += divider.eq(divider + 1)
        self._output(m, "reference_pad", reference, divider[-1])

    def _rgmii(self, m: Module, platform, phy, shell: Shell, oscillator: Signal) -> None:
        """The pins of a PHY on RGMII. What is timed passes the cells in the pads that work at both
        edges of their clock, so that all lines take the same time; of what comes, only the control
        line has two halves (`hw.ethernet.rgmii`)."""
        assert self.clock_in_hz == OSCILLATOR_HZ, self._board.name
        rgmii = shell.rgmii
        self.phy_clocks = (phy.rx_clk.io.name,)
        # The boards' files do not agree on the name of the control lines.
        rx_ctl, tx_ctl = (getattr(phy, f"{way}_ctl", None) or getattr(phy, f"{way}_ctrl")
                          for way in ("rx", "tx"))
        m.d.comb += [rgmii.rx_clk.eq(self._input(m, "rx_clk_pad", phy.rx_clk)),
                     rgmii.oscillator.eq(oscillator)]
        lines = [("rx_ctl", rx_ctl, rgmii.rx_ctl)]
        lines += [(f"rx_data{bit}", phy.rx_data[bit], rgmii.rx_data[bit]) for bit in range(4)]
        for name, port, value in lines:
            edges = Signal(2, name=f"{name}_edges")
            m.submodules[f"{name}_cell"] = Instance(
                "IDDRX1F", i_D=self._input(m, f"{name}_pad", port), i_SCLK=rgmii.rx_clk,
                i_RST=Const(0), o_Q0=edges[0], o_Q1=edges[1])
            m.d.comb += value.eq(edges)
        lines = [("tx_clk", phy.tx_clk, rgmii.tx_clk), ("tx_ctl", tx_ctl, rgmii.tx_ctl)]
        lines += [(f"tx_data{bit}", phy.tx_data[bit], rgmii.tx_data[bit]) for bit in range(4)]
        for name, port, value in lines:
            timed = Signal(name=f"{name}_timed")
            m.submodules[f"{name}_cell"] = Instance(
                "ODDRX1F", i_D0=value, i_D1=value, i_SCLK=oscillator, i_RST=Const(0), o_Q=timed)
            self._output(m, f"{name}_pad", port, timed)
        self._output(m, "mdc_pad", phy.mdc, rgmii.mdc)
        self._output(m, "mdio_pad", phy.mdio, rgmii.mdio)

    def _input(self, m: Module, name: str, port) -> Signal:
        value = Signal(name=name)
        if isinstance(port, io.DifferentialPort):
            m.submodules[name] = buffer = io.Buffer("i", port)
            m.d.comb += value.eq(buffer.i)
            return value
        raw = Signal(name=f"{name}_raw")
        if self._family == "xc7":
            m.submodules[name] = Instance("IBUF", i_I=port.io, o_O=raw)
        else:
            m.submodules[name] = Instance("IB", i_I=port.io, o_O=raw)
        m.d.comb += value.eq(raw ^ port.invert[0])
        return value

    def _output(self, m: Module, name: str, port, value) -> None:
        raw = Signal(name=f"{name}_raw")
        m.d.comb += raw.eq(value ^ port.invert[0])
        kind = "OBUF" if self._family == "xc7" else "OB"
        m.submodules[name] = Instance(kind, i_I=raw, o_O=port.io)


class LitedramClock(NamedTuple):
    """In place of `Pll`, with its ports: LiteDRAM's core has the board's PLL."""

    clk_in: Signal
    clk_out: Signal
    locked: Signal


class _NoCore(wiring.Component):
    """The ports of a core, nothing behind them."""

    def elaborate(self, platform):
        return Module()


def prepare(board: Board, config: CoreConfig, baud: int, *, core: bool = True,
            build: int = 0, ethernet: bool = False) -> Design:
    """Elaborate a board's design (seconds).

    core: False leaves the core out, for the pins and the clock only. build: what the registers
    BUILD_LOW and BUILD_HIGH say. ethernet: whether the board's PHY (`Board.phy`) is used.
    Raises SpikeTicketError where no PLL setting gives config.clock_hz, and for a core with DDR3
    where LiteDRAM's is not to be had (`litedram`).
    """
    platform = platform_of(board)
    top = BoardTop(board, config, baud, None if core else _NoCore(Core(config).signature), build,
                   ethernet)
    made: dict[str, object] = {}

    def take(design, name, **_):
        # Without source lines, so that the text does not depend on where this project lies.
        made["rtlil"], _names = rtlil.convert_fragment(design, name=name, emit_src=False,
                                                       propagate_domains=False)
        made["pins"] = tuple(
            Pin(port, pin, tuple(sorted((str(key), str(value)) for key, value in attrs.items())))
            for port, pin, attrs in platform.iter_port_constraints_bits())

    # Amaranth's own scripts are not used: its flow for nextpnr-xilinx has no block RAM and no
    # clock constraint, and Verilog takes much longer to write and read than RTLIL.
    platform.toolchain_prepare = take
    platform.prepare(top, TOP)
    if config.ddr3 and core:
        made["rtlil"] += litedram.rtlil(LITEDRAM)
    return Design(board, config, baud, made["rtlil"], made["pins"], top.clock_port, top.clock_in_hz,
                  top.pll, top.phy_clocks)
