"""A core with the ports of `hw.core.Core` that is small enough to test what surrounds it.

A "layer" increments word 0 of the map memory's lane 0 and takes LAYER_CYCLES. The program word at
the start address is the number of layers; STUCK there never ends.
"""

from __future__ import annotations

from amaranth import Module, Mux, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw import registers
from hw.config import CoreConfig
from hw.core import HostBus
from hw.registers import Space

LAYER_CYCLES = 20
STUCK = 0xFFFF_FFFF


class StandInCore(wiring.Component):
    """See the module. Every memory is a plain 32-bit one; reads take `read_latency` cycles."""

    def __init__(self, config: CoreConfig, read_latency: int = 2):
        self._config, self._latency = config, read_latency
        super().__init__({
            "reset": In(1), "start": In(1), "first_layer_address": In(range(config.program_words)),
            "stop_after": In(8), "busy": Out(1), "done": Out(1), "layer": Out(8),
            "bus": In(HostBus()),
        })

    def elaborate(self, platform):
        m = Module()
        bus = self.bus
        reads = Signal(self._latency)
        m.d.sync += reads.eq((reads << 1) | bus.r_en)
        m.d.comb += bus.r_valid.eq(reads[-1])
        sizes = registers.space_words(self._config)
        program = None
        for space in sorted(set(sizes) - {Space.REGISTER}):
            if not sizes[space]:
                continue
            m.submodules[space.name] = ram = Memory(shape=32, depth=sizes[space], init=[])
            write, read = ram.write_port(), ram.read_port()
            chosen = bus.space == space
            inside = bus.addr < sizes[space]
            data = Signal(32)
            m.d.comb += [write.addr.eq(bus.addr), write.data.eq(bus.w_data),
                         write.en.eq(bus.w_en & chosen & inside), read.addr.eq(bus.addr)]
            m.d.sync += data.eq(Mux(inside, read.data, 0))
            with m.If(chosen & bus.r_valid):
                m.d.comb += bus.r_data.eq(data)
            if space == Space.MAP:
                map_write, map_read = write, read
            if space == Space.PROGRAM:
                program = read
            if space == Space.COUNTER:
                log = write

        layers, wait = Signal(32), Signal(range(LAYER_CYCLES + 1))
        with m.FSM():
            with m.State("IDLE"):
                with m.If(self.start):
                    m.d.comb += program.addr.eq(self.first_layer_address)
                    m.d.sync += self.layer.eq(0)
                    m.next = "PROGRAM"
            with m.State("PROGRAM"):
                m.d.sync += [layers.eq(program.data), wait.eq(0)]
                m.next = "LAYER"
            with m.State("LAYER"):
                m.d.comb += [self.busy.eq(1), map_read.addr.eq(0)]
                with m.If(layers != STUCK):
                    m.d.sync += wait.eq(wait + 1)
                with m.If(wait == LAYER_CYCLES - 1):
                    m.d.comb += [
                        map_write.addr.eq(0), map_write.data.eq(map_read.data + 1),
                        map_write.en.eq(1),
                        log.addr.eq(self.layer * registers.COUNTER_WORDS),
                        log.data.eq(LAYER_CYCLES), log.en.eq(1),
                    ]
                    m.d.sync += [wait.eq(0), self.layer.eq(self.layer + 1)]
                    with m.If((self.layer + 1 == layers) | (self.layer + 1 == self.stop_after)):
                        m.d.comb += self.done.eq(1)
                        m.next = "IDLE"
        return ResetInserter(self.reset)(m)
