"""Outputs: joins visits of the drain walk, by OR in a pool window, by sum in a readout."""

from __future__ import annotations

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from . import layouts
from .config import CoreConfig


def visit_tag() -> data.StructLayout:
    """What travels with a visit of the drain walk, from the accumulators to its spikes."""
    return data.StructLayout({
        "valid": 1,
        "parity": 1,           # which of the two live passes
        "window_first": 1, "window_last": 1,
        "row_end": 1, "phase_end": 1,
        "pass_first": 1, "pass_end": 1,
        "inside": 2,           # lane is a real output
        "slot": 10,            # place of the membrane
    })


def output(config: CoreConfig) -> data.StructLayout:
    """One output position (with a pair of outputs two), or the end of a pass."""
    return data.StructLayout({
        "masks": data.ArrayLayout(layouts.MASK, config.lanes),
        "inserts": 1,          # the masks belong into a map word
        "parity": 1,           # which of the two live passes
        "first": 1,            # the pass' first masks
        "row_end": 1, "phase_end": 1,
        "sequence_end": 1,     # the last masks of a sequence of words
        "finishes": 1,         # the last output of a row
        "pass_end": 1,
    })


class Outputs(wiring.Component):
    """Takes a visit every cycle and never waits; the queue behind it has room (`drain.Drain`).

    Members
    -------
    tag: the visit whose `spikes` (one mask a neuron lane) and `sum` come in the next cycle.
    header0, header1: the two live passes.
    push, o: outputs. total0, total1: a readout's sum over the row that a pass has ended, by the
        pass' parity; it stays until the pass after the next one ends.
    """

    def __init__(self, config: CoreConfig):
        self._config = config
        super().__init__({
            "layer": In(layouts.LAYER), "tag": In(visit_tag()),
            "spikes": In(data.ArrayLayout(layouts.MASK, config.lanes)), "sum": In(signed(20)),
            "header0": In(layouts.pass_header()), "header1": In(layouts.pass_header()),
            "push": Out(1), "o": Out(output(config)),
            "total0": Out(signed(32)), "total1": Out(signed(32)),
        })

    def elaborate(self, platform):
        m = Module()
        layer, o = self.layer, self.o

        # Decided one cycle before the spikes are there.
        tag, last, starts, threshold = self.tag, Signal(layouts.MASK), Signal(), Signal(signed(24))
        header = data.View(layouts.pass_header(), Mux(
            tag.parity, self.header1.as_value(), self.header0.as_value()))
        visit = Signal(visit_tag())
        m.d.sync += [
            visit.eq(tag),
            last.eq(Mux(header.last_group, layer.last_mask, 0b1111)),
            starts.eq(tag.pass_first & header.first), threshold.eq(header.row.threshold),
            o.inserts.eq(tag.valid & tag.window_last & ~layer.readout),
            o.sequence_end.eq(tag.phase_end & (layer.flush_strip | header.last_strip)),
            o.finishes.eq(tag.pass_end & header.last),
        ]
        m.d.comb += [
            o.parity.eq(visit.parity), o.row_end.eq(visit.row_end),
            o.phase_end.eq(visit.phase_end), o.pass_end.eq(visit.pass_end),
            self.push.eq(o.inserts | (visit.valid & visit.pass_end)),
        ]

        # Pool window: OR of its visits. With a pair of two outputs each lane is its own window.
        merged, window_or = Signal(layouts.MASK), Signal(layouts.MASK)
        m.d.comb += merged.eq(self.spikes[0] & visit.inside[0].replicate(4))
        if self._config.lanes == 2:
            second = self.spikes[1] & visit.inside[1].replicate(4)
            m.d.comb += [
                merged.eq((self.spikes[0] & visit.inside[0].replicate(4))
                          | Mux(layer.pair_merge, second, 0)),
                o.masks[1].eq(second & last),
            ]
        m.d.comb += o.masks[0].eq((merged | Mux(visit.window_first, 0, window_or)) & last)
        with m.If(visit.valid):
            m.d.sync += window_or.eq(Mux(visit.window_last, 0, merged | Mux(
                visit.window_first, 0, window_or)))

        # A window has many visits; the first output stands for the pass' first visit.
        first = Signal()
        m.d.comb += o.first.eq(visit.pass_first | first)
        with m.If(o.inserts):
            m.d.sync += first.eq(0)
        with m.Elif(visit.valid & visit.pass_first):
            m.d.sync += first.eq(1)

        # Readout: the row's sum, from the bias (in the place of the threshold) on.
        total, so_far = Signal(signed(32)), Signal(signed(32))
        m.d.comb += total.eq(Mux(starts, threshold, so_far) + self.sum)
        with m.If(visit.valid):
            m.d.sync += so_far.eq(total)
            with m.If(visit.pass_end & ~visit.parity):
                m.d.sync += self.total0.eq(total)
            with m.If(visit.pass_end & visit.parity):
                m.d.sync += self.total1.eq(total)
        return m
