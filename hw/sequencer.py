"""Sequencer: reads the layer program, sets up the engines, runs them layer by layer."""

from __future__ import annotations

from amaranth import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from . import layouts, program
from .config import WORD_BITS, CoreConfig


class Sequencer(wiring.Component):
    """Runs layers from `first_address` until the program's last one, or `stop_after` of them.

    A layer: one cycle per program word to load, then all engines until they are done, then the
    counters are logged.

    Members
    -------
    address, data: program memory, data one cycle after the address.
    layer, rows: parameters for all engines, and each engine's share. masks: of its fields' widths.
    tap_*, plane_*: table writes, to all engines.
    run: start of the engines, and in a gate step of the gate. engines_done: all are done, the gate
        too, and every word is written.
    clear_scores, scores_busy: clears the gate's scores; the engines wait for it.
    restart_streams, stream: the streams begin anew; may run ahead: while a layer is at work.
    settled: nothing is on its way from DRAM; waited for at the end of a run.
    begin: a layer starts (counters clear). log: its counters are stored, until `logged`.
    index: index of the running layer.
    next_address: program address after the last layer that was run.
    """

    def __init__(self, config: CoreConfig):
        self._config = config
        address = (config.program_words - 1).bit_length()
        super().__init__({
            "start": In(1), "first_address": In(address), "stop_after": In(8),
            "busy": Out(1), "done": Out(1), "index": Out(8), "next_address": Out(address),
            "address": Out(address), "data": In(WORD_BITS),
            "layer": Out(layouts.LAYER), "masks": Out(layouts.STREAM_MASKS),
            "rows": Out(data.ArrayLayout(layouts.ENGINE, config.engines)),
            "tap_write": Out(1), "tap_index": Out(7), "tap": Out(layouts.TAP),
            "plane_write": Out(1), "plane_index": Out(6), "plane": Out(layouts.PLANE),
            "begin": Out(1), "run": Out(1), "engines_done": In(1),
            "clear_scores": Out(1), "scores_busy": In(1),
            "log": Out(1), "logged": In(1),
        } | ({"restart_streams": Out(1), "stream": Out(1), "settled": In(1)}
             if config.dram_words else {}))

    def elaborate(self, platform):
        m = Module()
        cfg = self._config
        header_words = len(program.HEADER)
        header = [Signal(WORD_BITS, name=f"header{i}") for i in range(header_words)]
        m.d.comb += self.layer.eq(Cat(header))
        tap_words = [Signal(WORD_BITS, name=f"tap{i}") for i in range(program.TAP_WORDS - 1)]
        engine_words = [Signal(32, name=f"engine{i}") for i in range(cfg.engines)]
        m.d.comb += [self.rows[i].eq(w) for i, w in enumerate(engine_words)]
        m.d.comb += [
            self.plane.eq(self.data), self.tap.eq(Cat(*tap_words, self.data)),
        ]

        # Once for all engines, which would need a lookup table for each bit.
        for mask, bits in ((self.masks.gap, self.layer.rice_k),
                           (self.masks.channel, self.layer.channel_bits),
                           (self.masks.neuron, self.layer.neuron_bits - 1)):
            m.d.sync += mask.eq(Cat(bits > n for n in range(len(mask))))

        # Known in time: a tap takes several words, and planes are counted ahead.
        last_tap, planes_left = Signal(), Signal(7)
        m.d.sync += last_tap.eq(self.tap_index + 1 == self.layer.n_taps)

        settled = self.settled if cfg.dram_words else 1
        position = Signal(8)
        remaining = Signal(8)
        m.d.comb += self.busy.eq(1)
        # The accumulators are swept while the layer loads, which may be quicker than that.
        sweep_left = Signal(range(2 * cfg.acc_depth + 1))
        with m.If(self.begin):
            m.d.sync += sweep_left.eq(2 * cfg.acc_depth)
        with m.Elif(sweep_left != 0):
            m.d.sync += sweep_left.eq(sweep_left - 1)

        with m.FSM() as fsm:
            if cfg.dram_words:
                m.d.comb += self.stream.eq(self.busy & ~(self.log | fsm.ongoing("SETTLE")))
            with m.State("IDLE"):
                m.d.comb += self.busy.eq(0)
                with m.If(self.start):
                    m.d.sync += [
                        self.address.eq(self.first_address), self.index.eq(0),
                        remaining.eq(self.stop_after),
                    ]
                    m.next = "BEGIN"
            with m.State("BEGIN"):
                m.d.comb += self.begin.eq(1)
                m.d.sync += [
                    position.eq(0), self.plane_index.eq(0), self.tap_index.eq(0),
                    self.address.eq(self.address + 1),
                ]
                m.next = "HEADER"
            with m.State("HEADER"):
                m.d.sync += [self.address.eq(self.address + 1), position.eq(position + 1)]
                for i, word in enumerate(header):
                    with m.If(position == i):
                        m.d.sync += word.eq(self.data)
                # As soon as the layer's second word is there.
                m.d.comb += self.clear_scores.eq(self.layer.score_clear & (position == 2))
                if cfg.dram_words:  # likewise; nothing is decoded until all words are there
                    m.d.comb += self.restart_streams.eq(self.layer.stream_begin & (position == 11))
                with m.If(position == header_words - 1):
                    m.d.sync += position.eq(0)
                    m.next = "ENGINES"
            with m.State("ENGINES"):
                m.d.sync += [self.address.eq(self.address + 1), position.eq(position + 1)]
                for i, word in enumerate(engine_words):
                    with m.If(position == i):
                        m.d.sync += word.eq(self.data)
                with m.If(position == cfg.engines - 1):
                    m.d.sync += [position.eq(0), planes_left.eq(self.layer.n_planes)]
                    m.next = "PLANES"
            with m.State("PLANES"):
                m.d.sync += [
                    self.address.eq(self.address + 1),
                    self.plane_index.eq(self.plane_index + 1),
                ]
                m.d.comb += self.plane_write.eq(1)
                m.d.sync += planes_left.eq(planes_left - 1)
                with m.If(planes_left == 1):
                    m.next = "TAPS"
            with m.State("TAPS"):
                # Not past the first word of the next layer.
                with m.If((position != program.TAP_WORDS - 1) | ~last_tap):
                    m.d.sync += self.address.eq(self.address + 1)
                m.d.sync += position.eq(position + 1)
                for i, word in enumerate(tap_words):
                    with m.If(position == i):
                        m.d.sync += word.eq(self.data)
                with m.If(position == program.TAP_WORDS - 1):
                    m.d.comb += self.tap_write.eq(1)
                    m.d.sync += [position.eq(0), self.tap_index.eq(self.tap_index + 1)]
                    with m.If(last_tap):
                        m.next = "RUN"
            with m.State("RUN"):
                with m.If((sweep_left == 0) & ~self.scores_busy):
                    m.d.comb += self.run.eq(1)
                    m.next = "WAIT"
            with m.State("WAIT"):
                with m.If(self.engines_done):
                    m.next = "LOG"
            with m.State("LOG"):
                m.d.comb += self.log.eq(1)
                with m.If(self.logged):
                    m.d.sync += [self.index.eq(self.index + 1), remaining.eq(remaining - 1)]
                    with m.If(self.layer.last_layer | (remaining == 1)):
                        m.d.comb += self.done.eq(settled)
                        m.d.sync += self.next_address.eq(self.address)
                        m.next = "IDLE"
                        if cfg.dram_words:
                            with m.If(~settled):
                                m.next = "SETTLE"
                    with m.Else():
                        m.next = "BEGIN"
            if cfg.dram_words:
                with m.State("SETTLE"):
                    with m.If(settled):
                        m.d.comb += self.done.eq(1)
                        m.next = "IDLE"
        return m
