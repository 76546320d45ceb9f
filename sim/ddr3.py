"""DDR3 in simulation, at the core's port: `hw.ddr3`, and behind it either a stand-in for LiteDRAM's
controller (`sim/ddr3_lines.v`) or that itself, with the model of a DDR3 that its authors give it.

What the host does to the chip through the controller's registers ends in `sim/ddr3_control.v`,
which holds it to the chip's order and times, and has the windows that levelling looks for.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from amaranth import ClockSignal, Const, Instance, Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.build import litedram
from hw.config import CoreConfig
from hw.ddr3 import ControlPort, Ddr3Buffer, LinePort, instance_ports
from hw.ddr3_control import LANES, LATENCY, LINE_WORDS, Control
from hw.sdram_timing import HALF
from hw.stream import DramPort

from . import board

_HERE = Path(__file__).parent
VERILOG = (_HERE / "ddr3_lines.v", _HERE / "ddr3_control.v")
"""What `SimulatedDdr3` instantiates."""

WINDOW_BITS = 13
WINDOWS = (3 | 6 << 3 | 11 << 8, 2 | 12 << 3 | 10 << 8)
"""Of a simulated board's lanes: slip, first delay, number of delays (`sim/ddr3_control.v`)."""

RULES = ("none", "reset for less than 200 us",
         "CKE less than 500 us behind reset, or a command without it",
         "modes or calibration in the wrong order", "a mode that the model has not",
         "ACTIVATE before the DLL has settled", "a row that is open, or is not",
         "told to be initialised before it was",
         "a lane that reads wrong, or at the edge of its window, when it is told to be levelled")
"""What `violation` says is broken."""


def violated(number: int) -> str:
    """For people: which rule."""
    return f"the DDR3 chip's rules were broken: {RULES[number]}"


class SimulatedDdr3(wiring.Component):
    """A memory for `config.dram_words`.

    initialised: from the beginning on, for a core without a host that does it.
    litedram: behind the buffer is LiteDRAM's own controller, with its model of PHY and chip
    (256 MB, whatever the core uses of them, and no stuck lines).
    pause: cycles of a refresh otherwise; from 90 or so on words are late.
    latency: of the buffer.

    Members
    -------
    port, control: see `hw.stream.DramPort`, `hw.ddr3.ControlPort`. violation: index in RULES of the
    first rule that the host has broken. stuck: data lines that always read as 0 (lower half), as 1
    (upper half). windows: of the lanes, see `sim/ddr3_control.v`.
    """

    def __init__(self, config: CoreConfig, *, initialised: bool = False, litedram: bool = False,
                 pause: int = 50, latency: int = LATENCY):
        self._words, self._initialised = config.dram_words, initialised
        self._litedram, self._pause, self._latency = litedram, pause, latency
        super().__init__({"port": In(DramPort()), "control": In(ControlPort()),
                          "violation": Out(8), "stuck": In(2 * HALF),
                          "windows": In(LANES * WINDOW_BITS)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.buffer = buffer = Ddr3Buffer(self._latency)
        wiring.connect(m, wiring.flipped(self.port), buffer.port)
        own = ControlPort().create()    # what LiteDRAM's own registers get
        if self._initialised:
            m.d.comb += buffer.ready.eq(1)
        else:
            self._registers(m, buffer, own)
        if self._litedram:
            idle = dict.fromkeys(("i_wb_ctrl_cti", "i_wb_ctrl_bte"), 0)
            m.submodules.memory = Instance(
                litedram.NAME, i_clk=ClockSignal(), i_wb_ctrl_stb=own.cyc, i_wb_ctrl_sel=15, **idle,
                **({} if self._initialised else {"o_init_done": buffer.ready}),
                **pins(ControlPort(), own, "wb_ctrl_"),
                **pins(LinePort(), buffer.lines, "user_port_lines_"))
        else:
            m.submodules.memory = Instance(
                "ddr3_lines", p_LINES=self._words // LINE_WORDS, p_PAUSE=self._pause,
                i_clk=ClockSignal(), i_stuck_low=self.stuck[:HALF],
                i_stuck_high=self.stuck[HALF:], **pins(LinePort(), buffer.lines))
        return m

    def _registers(self, m, buffer, own) -> None:
        """Of PHY and chip the model's; whether all is initialised tells LiteDRAM itself, if it is
        there: its first page is the same without a PHY."""
        model = ControlPort().create()
        first = (self.control.adr < Control.ddrphy_rst) if self._litedram else Const(0, 1)
        for bus, chosen in ((own, first), (model, ~first)):
            m.d.comb += [bus.cyc.eq(self.control.cyc & chosen), bus.we.eq(self.control.we),
                         bus.adr.eq(self.control.adr), bus.dat_w.eq(self.control.dat_w)]
        m.d.comb += [self.control.ack.eq(own.ack | model.ack),
                     self.control.dat_r.eq(Mux(own.ack, own.dat_r, model.dat_r))]
        ready = {} if self._litedram else {"o_init_done": buffer.ready}
        m.submodules.registers = Instance(
            "ddr3_control", i_clk=ClockSignal(), i_windows=self.windows,
            o_violation=self.violation, **ready, **pins(ControlPort(), model))


def litedram_verilog() -> Path:
    """File with LiteDRAM's core for simulation. Raises ProgramMissing without the extra `dram`."""
    text = litedram.verilog(simulated=True)
    path = board.cache_directory() / f"litedram-{hashlib.sha256(text.encode()).hexdigest()[:16]}.v"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return path


def litedram_board(config: CoreConfig) -> Path:
    """Library for `SimTransport` of a board with LiteDRAM's own controller, built once."""
    core = litedram_verilog()
    library = board.cache_directory() / f"{core.stem}-{board.build_key(config)}.so"
    if not library.exists():
        behind = SimulatedDdr3(config, litedram=True)
        board.compile_verilog(lambda: {
            "top.v": board.gateware(config, behind), "control.v": VERILOG[1].read_text(),
            "litedram.v": core.read_text()}, library, progress=False,
            options=("-Wno-fatal",))    # of its combinational blocks, which have delays
        board.keep_newest(library.parent, "litedram-*.so")
    return library


def pins(signature: wiring.Signature, port, prefix: str = "") -> dict[str, object]:
    """Of an instance behind a port, by the names of its members."""
    return {f"{way}_{prefix}{name}": value for way, name, value in instance_ports(signature, port)}
