"""Passes: which one a drain walks next, of the engines that share it, and where its words go."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from . import layouts
from .config import CoreConfig
from .packer import word_number

HEADERS = 4
"""Pass headers that wait for a drain, by engine."""


class DrainPort(wiring.Signature):
    """Between a drain and one of its engines, from the drain's side.

    headers: one per pass, from the row decoder. filled: per unit, its two bank flags.
    read, clear, bank, address, currents: read (and clear) accumulators of the units in `read`,
        each claimed one cycle before. release: `bank` has been read.
    """

    def __init__(self, config: CoreConfig):
        super().__init__({
            "headers": In(stream.Signature(layouts.pass_header())),
            "filled": In(data.ArrayLayout(2, config.units)),
            "release": Out(1), "bank": Out(1),
            "claim": Out(config.units), "read": Out(config.units), "clear": Out(1),
            "address": Out(range(config.acc_depth)),
            "currents": In(data.ArrayLayout(layouts.currents(config), config.units)),
        })


def live_pass(config: CoreConfig, engines: int) -> data.StructLayout:
    """A pass from its choice until its last output is packed.

    base: address of its first word. words: words of the row's strips before, 0 where the packer
    counts them. engine: whose it is.
    """
    return data.StructLayout({
        "header": layouts.pass_header(), "base": range(config.map_words),
        "words": word_number(config), "engine": range(engines),
    })


class HeaderQueue(wiring.Component):
    """First-in first-out queue of `HEADERS` pass headers; a push is visible in the next cycle."""

    def __init__(self):
        super().__init__({
            "i": In(stream.Signature(layouts.pass_header())),
            "o": Out(stream.Signature(layouts.pass_header())),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.ram = ram = Memory(shape=layouts.pass_header(), depth=HEADERS, init=[])
        write, read = ram.write_port(), ram.read_port(domain="comb")
        level = Signal(range(HEADERS + 1))
        pop = self.o.valid & self.o.ready
        m.d.comb += [
            self.i.ready.eq(level != HEADERS), self.o.valid.eq(level != 0),
            write.data.eq(self.i.payload), write.en.eq(self.i.valid & self.i.ready),
            self.o.payload.eq(read.data),
        ]
        m.d.sync += level.eq(level + write.en - pop)
        with m.If(write.en):
            m.d.sync += write.addr.eq(write.addr + 1)
        with m.If(pop):
            m.d.sync += read.addr.eq(read.addr + 1)
        return m


class Passes(wiring.Component):
    """Chooses the next pass among the engines' filled banks, in turn where both have one.

    A pass is chosen in one cycle, prepared in the next (`start`), walked from then on until
    `walked`. Two are live at a time, the one that is walked and the one before, told apart by
    `parity`; of an engine's passes only one where a layer has several groups of timesteps, as the
    next one needs its membranes. Between the passes of a row nothing of another engine comes where
    something is handed on that drain and packer have once: a readout's sum, a word begun.

    Members
    -------
    headers, filled: of every engine, see `DrainPort`.
    waits: no pass is chosen yet. start: the walk may begin.
    engine, bank, first_strip, parity: of the pass that is chosen, until `walked` (the walk's last
        step). live: the two live passes. done: the older one's last output has been packed.
    idle: no pass waits or is live.
    """

    def __init__(self, config: CoreConfig, engines: int):
        self._config, self._engines = config, engines
        super().__init__({
            "layer": In(layouts.LAYER),
            "headers": In(stream.Signature(layouts.pass_header())).array(engines),
            "filled": In(data.ArrayLayout(2, config.units)).array(engines),
            "waits": Out(1), "start": Out(1), "engine": Out(range(engines)), "bank": Out(1),
            "first_strip": Out(1), "parity": Out(1), "walked": In(1),
            "live": Out(data.ArrayLayout(live_pass(config, engines), 2)), "done": In(1),
            "idle": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        layer, engines = self.layer, range(self._engines)
        queues = [HeaderQueue() for _ in engines]
        for e, queue in enumerate(queues):
            m.submodules[f"queue{e}"] = queue
            wiring.connect(m, wiring.flipped(self.headers[e]), queue.i)

        # Layer constants and flags a cycle late: a flag, once set, stays until its bank has been
        # walked, and is gone two cycles after that, before the other bank's pass can have been.
        one_group, hands_on = Signal(), Signal()
        filled = [Signal(2, name=f"filled{e}") for e in engines]
        banks = Signal(self._engines)
        m.d.sync += [
            one_group.eq(layer.n_groups == 1), hands_on.eq(layer.readout | ~layer.flush_strip)]
        m.d.sync += [filled[e].eq(Cat(Cat(flags[bank] for flags in self.filled[e]).all()
                                      for bank in range(2))) for e in engines]

        in_flight, held = Signal(2), Signal()
        owner = Mux(self.parity, self.live[0].engine, self.live[1].engine)
        may = Signal(self._engines)
        for e, queue in enumerate(queues):
            own = (in_flight != 0) & (owner == e)
            m.d.comb += may[e].eq(
                queue.o.valid & filled[e].bit_select(banks[e], 1) & ~in_flight[1]
                & (one_group | ~own) & (~held | (self.engine == e)))
        chosen, header = Signal.like(self.engine), queues[0].o.payload
        if self._engines == 2:
            m.d.comb += chosen.eq(Mux(self.engine, ~may[0], may[1]))
            header = data.View(layouts.pass_header(), Mux(
                chosen, queues[1].o.payload.as_value(), header.as_value()))

        go = Signal()
        live = [Signal(live_pass(self._config, self._engines), name=f"live{i}", reset_less=True)
                for i in range(2)]
        m.d.comb += [self.live[i].eq(live[i]) for i in range(2)]
        address = (self._config.map_words - 1).bit_length()
        strip_offsets, group_offsets = (
            [Signal(address, name=f"{name}_offset{e}") for e in engines]
            for name in ("strip", "group"))
        first_strips = Signal(self._engines)
        product = Signal(address)
        for e, queue in enumerate(queues):
            m.d.comb += queue.o.ready.eq(go & (chosen == e))
            mine = queue.o.payload
            with m.If(queue.o.ready):
                with m.If(mine.first_group):
                    m.d.sync += [
                        group_offsets[e].eq(0), first_strips[e].eq(mine.first),
                        strip_offsets[e].eq(
                            Mux(mine.first, 0, strip_offsets[e] + layer.strip_out_words)),
                    ]
                with m.Else():
                    m.d.sync += group_offsets[e].eq(group_offsets[e] + layer.out_group_stride)
        strip_offset, group_offset = (
            offsets[0] if self._engines == 1 else Mux(self.engine, offsets[1], offsets[0])
            for offsets in (strip_offsets, group_offsets))

        m.d.comb += [
            self.bank.eq(banks.bit_select(self.engine, 1)),
            self.first_strip.eq(first_strips.bit_select(self.engine, 1)),
        ]
        with m.FSM() as fsm:
            with m.State("CHOOSE"):
                m.d.comb += [go.eq(may.any()), self.waits.eq(~go)]
                with m.If(go):
                    m.d.sync += [
                        self.engine.eq(chosen), held.eq(~header.last & hands_on),
                        product.eq(header.row.channel * layer.out_channel_stride),
                    ]
                    for i in range(2):
                        with m.If(self.parity == i):
                            m.d.sync += [live[i].header.eq(header), live[i].engine.eq(chosen)]
                    m.next = "START"
            with m.State("START"):
                m.d.comb += self.start.eq(1)
                offset = Mux(layer.flush_strip, strip_offset + group_offset, 0)
                for i in range(2):
                    with m.If(self.parity == i):
                        m.d.sync += [
                            live[i].base.eq(layer.out_base + product + offset),
                            live[i].words.eq(Mux(layer.flush_strip, strip_offset, 0)),
                        ]
                m.next = "WALK"
            with m.State("WALK"):
                with m.If(self.walked):
                    m.d.sync += [
                        self.parity.eq(~self.parity), banks.eq(banks ^ (1 << self.engine))]
                    m.next = "CHOOSE"
        # Every layer begins alike, whoever was served last in the one before.
        with m.If(self.idle & ~held):
            m.d.sync += self.engine.eq(0)
        m.d.sync += in_flight.eq(in_flight + go - self.done)
        m.d.comb += self.idle.eq(fsm.ongoing("CHOOSE") & (in_flight == 0)
                                 & ~Cat(queue.o.valid for queue in queues).any())
        return m
