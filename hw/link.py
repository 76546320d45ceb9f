"""The host's link: frames from a byte stream to the core's memories and back.

`docs/link.md` specifies the protocol; `hw.registers` holds its tables.
"""

from __future__ import annotations

from amaranth import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from . import registers
from .commands import REQUEST_WORDS, Commands
from .config import CoreConfig
from .core import HostBus
from .framing import FrameReceiver, FrameSender
from .registers import Register, Space, Status


class RegisterFile(wiring.Component):
    """Registers of `registers.Register`, answering one cycle after a read.

    bus: enabled only for `Space.REGISTER`.
    good, bad, overrun: pulses to count. divisor: as the host set it; `restore_divisor` brings the
    default back. build: 64 bits that tell the build.
    ip: address as the host set it, `first_ip` after a reset; 0 for ever where that is 0.
    """

    def __init__(self, config: CoreConfig, *, divisor: int, build: int = 0, first_ip: int = 0):
        if not registers.MIN_DIVISOR <= divisor < 1 << 20:
            raise ValueError(f"divisor {divisor} is outside {registers.MIN_DIVISOR}..{2**20 - 1}")
        if not 0 <= build < 1 << 64:
            raise ValueError(f"build {build} is not a number of 64 bits")
        self._config, self._divisor, self._build = config, divisor, build
        self._first_ip = first_ip
        super().__init__({
            "bus": In(HostBus()),
            "good": In(1), "bad": In(1), "overrun": In(1),
            "divisor": Out(20, init=divisor), "restore_divisor": In(1),
            "ip": Out(32, init=first_ip),
        })

    def elaborate(self, platform):
        m = Module()
        bus = self.bus
        frames, bad, overruns, uptime = (
            Signal(32, name=name) for name in ("frames", "bad", "overruns", "uptime"))
        m.d.sync += [
            uptime.eq(uptime + 1), frames.eq(frames + self.good), bad.eq(bad + self.bad),
            overruns.eq(overruns + self.overrun),
        ]
        identity = registers.identity(self._config)
        values = {
            Register.MAGIC: registers.MAGIC, Register.PROTOCOL: registers.PROTOCOL,
            Register.ID_LOW: identity & 0xFFFFFFFF, Register.ID_HIGH: identity >> 32,
            Register.CLOCK_HZ: self._config.clock_hz, Register.FRAMES: frames,
            Register.BAD_FRAMES: bad, Register.OVERRUNS: overruns, Register.UPTIME: uptime,
            Register.DIVISOR: self.divisor,
            Register.BUILD_LOW: self._build & 0xFFFFFFFF, Register.BUILD_HIGH: self._build >> 32,
            Register.IP: self.ip,
        }
        m.d.sync += [bus.r_valid.eq(bus.r_en), bus.r_data.eq(0)]
        with m.Switch(bus.addr):
            for register, value in values.items():
                with m.Case(register):
                    m.d.sync += bus.r_data.eq(value)
        with m.If(bus.w_en & (bus.addr == Register.DIVISOR)
                  & (bus.w_data[:20] >= registers.MIN_DIVISOR)):
            m.d.sync += self.divisor.eq(bus.w_data)
        with m.If(self.restore_divisor):
            m.d.sync += self.divisor.eq(self._divisor)
        if self._first_ip:
            with m.If(bus.w_en & (bus.addr == Register.IP)
                      & registers.is_host_address(bus.w_data)):
                m.d.sync += self.ip.eq(bus.w_data)
        return m


class Link(wiring.Component):
    """Answers the host's frames; see `commands.Commands` for what is done and what is promised.

    Members
    -------
    rx, tx: bytes from and to the host; `rx` is always ready.
    bus: memories of the core. start, first_layer_address, stop_after, done: see the core.
    core_reset: a pulse that resets the core (its memories keep their content); 1 in reset too.
    busy: a request is at work or a reply on its way.
    run_fault: with DRAM, of the core.
    error: a pulse when a frame is damaged or lost, or a run is stopped at its cycle limit.
    divisor: bit time of the UART in 1/16 cycles; `restore_divisor` brings the default back.
    ip: address of the board, `first_ip` after a reset; 0 where that is 0.
    """

    def __init__(self, config: CoreConfig, *, divisor: int, build: int = 0, first_ip: int = 0):
        self._config, self._divisor, self._build = config, divisor, build
        self._first_ip = first_ip
        super().__init__({
            "rx": In(stream.Signature(8)), "tx": Out(stream.Signature(8)),
            "bus": Out(HostBus()),
            "start": Out(1), "first_layer_address": Out(range(config.program_words)),
            "stop_after": Out(8), "done": In(1), "core_reset": Out(1),
            "busy": Out(1), "error": Out(1), "divisor": Out(20), "restore_divisor": In(1),
            "ip": Out(32),
        } | ({"run_fault": In(Status)} if config.dram_words else {}))

    def elaborate(self, platform):
        m = Module()
        m.submodules.receiver = receiver = FrameReceiver(
            min_words=REQUEST_WORDS + 1, max_words=registers.FRAME_WORDS,
            depth=registers.BUFFER_WORDS)
        m.submodules.commands = commands = Commands(self._config)
        m.submodules.sender = sender = FrameSender()
        m.submodules.file = file = RegisterFile(self._config, divisor=self._divisor,
                                                build=self._build, first_ip=self._first_ip)
        wiring.connect(m, wiring.flipped(self.rx), receiver.i)
        wiring.connect(m, receiver.o, commands.requests)
        wiring.connect(m, commands.replies, sender.i)
        wiring.connect(m, sender.o, wiring.flipped(self.tx))
        # The first byte of a request to start anew, as far as it matters; see registers.REQUEST.
        sync = Signal()
        m.d.comb += [
            sync.eq(receiver.first[:6] == registers.PROTOCOL | 1 << 5),
            commands.sync_kept.eq(receiver.good & sync),
            commands.sync_lost.eq(receiver.overrun & sync),
            commands.fault.eq(receiver.bad | receiver.overrun),
            commands.fault_status.eq(Mux(receiver.bad, Status.BAD_FRAME, Status.OVERRUN)),
            sender.quiet.eq(commands.quiet), sender.clear.eq(commands.clear),
            commands.digest.eq(sender.digest), commands.sender_idle.eq(sender.idle),
            self.start.eq(commands.start),
            self.first_layer_address.eq(commands.first_layer_address),
            self.stop_after.eq(commands.stop_after),
            self.core_reset.eq(commands.core_reset),
            self.busy.eq(~(commands.idle & sender.idle)),
            self.error.eq(receiver.bad | receiver.overrun | commands.timeout),
            self.divisor.eq(file.divisor), file.restore_divisor.eq(self.restore_divisor),
            self.ip.eq(file.ip),
        ]
        m.d.sync += [
            commands.done.eq(self.done), file.good.eq(receiver.good), file.bad.eq(receiver.bad),
            file.overrun.eq(receiver.overrun),
        ]
        if self._config.dram_words:
            m.d.sync += commands.run_fault.eq(self.run_fault)
        # A register on the way to both: the memories are far from the block RAM of the requests.
        own = commands.bus.space == Space.REGISTER
        for bus, chosen in ((self.bus, ~own), (file.bus, own)):
            m.d.sync += [
                bus.space.eq(commands.bus.space), bus.addr.eq(commands.bus.addr),
                bus.w_data.eq(commands.bus.w_data),
                bus.w_en.eq(commands.bus.w_en & chosen), bus.r_en.eq(commands.bus.r_en & chosen),
            ]
        m.d.comb += [
            commands.bus.r_valid.eq(file.bus.r_valid | self.bus.r_valid),
            commands.bus.w_done.eq(self.bus.w_done),
            commands.bus.r_data.eq(Mux(file.bus.r_valid, file.bus.r_data, self.bus.r_data)),
        ]
        return m
