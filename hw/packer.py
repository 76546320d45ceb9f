"""Packer: turns the drain's stream of spike masks into map words in their place in memory."""

from __future__ import annotations

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from . import layouts
from .config import CoreConfig


def visit_tag() -> data.StructLayout:
    """What travels with a visit of the drain walk, from the accumulators to the packer."""
    return data.StructLayout({
        "valid": 1,
        "parity": 1,           # which of the two live passes
        "window_first": 1, "window_last": 1,
        "row_end": 1, "phase_end": 1,
        "pass_first": 1, "pass_end": 1,
        "inside": 2,           # lane is a real output
        # What the packer decides by, worked out one step before it:
        "inserts": 1,          # the visit ends a window of a layer with neurons
        "ends": 1,             # the last visit of a sequence of words
        "finishes": 1,         # the last visit of a row
        "slot": 10,            # place of the membrane
    })


class Packer(wiring.Component):
    """Collects spike masks (or the readout's sums) into words and queues them for the arbiter.

    `advance` (a register) is low while a finished word cannot move on or zero words must be
    inserted: the drain pipeline then stands still. Takes one visit a cycle.

    Members
    -------
    advance_front: the same register again for the walk and the units, which halves the wires of
        each; another reset value, at which nothing moves, keeps synthesis from merging the two.
    tag, spikes, total: the visit and its results. header0/1, base0/1: of the two live passes.
    o: finished words.
    """

    def __init__(self, config: CoreConfig):
        self._config = config
        self._address_bits = (config.map_words - 1).bit_length()
        super().__init__({
            "layer": In(layouts.LAYER), "advance": Out(1, init=1), "advance_front": Out(1),
            "tag": In(visit_tag()),
            "spikes": In(data.ArrayLayout(layouts.MASK, 2)), "sum": In(signed(20)),
            "header0": In(layouts.pass_header()), "header1": In(layouts.pass_header()),
            "base0": In(self._address_bits), "base1": In(self._address_bits),
            "o": Out(stream.Signature(layouts.map_write(config))),
            "busy": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        cfg, layer, tag = self._config, self.layer, self.tag
        window = cfg.window
        lane_bits = (window - 1).bit_length()

        header = data.View(layouts.pass_header(),
                           Mux(tag.parity, self.header1.as_value(), self.header0.as_value()))
        first_base = Mux(tag.parity, self.base1, self.base0)

        # `word` is collected; a finished one moves on to `out` in the next cycle, while the first
        # mask of the following word is already put into the cleared `word`.
        word = Signal(data.ArrayLayout(layouts.MASK, window))
        pending, pending_address = Signal(), Signal(self._address_bits)
        out, out_valid = Signal(layouts.map_write(cfg)), Signal()
        fill = Signal(4)           # zero words still to insert ...
        fill_ends = Signal()       # ... after which the sequence ends
        move = Signal()
        # `advance` moves the whole drain, so it comes from a register: it is worked out from what
        # the others become.
        next_pending, next_out, next_fill = Signal(), Signal(), Signal(4)
        m.d.comb += [
            self.o.valid.eq(out_valid), self.o.payload.eq(out),
            move.eq(pending & (~out_valid | self.o.ready)),
            next_out.eq(move | (out_valid & ~self.o.ready)),
            next_pending.eq(pending & ~move), next_fill.eq(fill),
            self.busy.eq(pending | out_valid),
        ]
        go_on = ~(next_pending & next_out) & (next_fill == 0)
        m.d.sync += [
            out_valid.eq(next_out), pending.eq(next_pending), fill.eq(next_fill),
            self.advance.eq(go_on), self.advance_front.eq(go_on),
        ]
        total = Signal(signed(32))
        with m.If(move):
            m.d.sync += [out.address.eq(pending_address), out.data.eq(word)]
            with m.If(layer.readout):
                m.d.sync += out.data[:32].eq(total)

        # Pool window: OR of its visits. With a pair of two outputs each lane is its own window.
        merged, window_or = Signal(layouts.MASK), Signal(layouts.MASK)
        last = Signal(layouts.MASK)
        pair_of_outputs = layer.pair & ~layer.pair_merge
        m.d.comb += [
            last.eq(Mux(header.last_group, layer.last_mask, 0b1111)),
            merged.eq((self.spikes[0] & tag.inside[0].replicate(4))
                      | Mux(layer.pair_merge, self.spikes[1] & tag.inside[1].replicate(4), 0)),
        ]
        outputs = [Signal(layouts.MASK, name=f"output{i}") for i in range(2)]
        m.d.comb += [
            outputs[0].eq((merged | Mux(tag.window_first, 0, window_or)) & last),
            outputs[1].eq(self.spikes[1] & tag.inside[1].replicate(4) & last),
        ]
        visit = Signal()
        m.d.comb += visit.eq(tag.valid & self.advance)
        with m.If(visit):
            m.d.sync += window_or.eq(Mux(tag.window_last, 0, merged | Mux(
                tag.window_first, 0, window_or)))

        lane, index = Signal(lane_bits), Signal(10)
        base = Signal(self._address_bits)
        here = Signal(self._address_bits)
        m.d.comb += here.eq(Mux(tag.pass_first, first_base, base))

        # Clock enable and reset of each lane's flip-flops do the insertion and the clearing.
        insert = Signal()
        m.d.comb += insert.eq(self.advance & tag.inserts)
        odd_output = Mux(pair_of_outputs, outputs[1], outputs[0])
        for i in range(window):
            at = lane == i
            if i % 2:
                at = Mux(pair_of_outputs, lane[1:] == i >> 1, at)
            hit = insert & at
            with m.If(hit):
                m.d.sync += word[i].eq(odd_output if i % 2 else outputs[0])
            with m.Elif(move):
                m.d.sync += word[i].eq(0)

        next_lane = Signal(lane_bits + 1)
        pitch_lanes = (layer.out_pitch - 1)[:lane_bits]
        pitch_words = Signal(4)
        m.d.comb += [
            pitch_words.eq((layer.out_pitch - 1) >> lane_bits),
            next_lane.eq(Mux(tag.row_end, (lane | pitch_lanes) + 1,
                             lane + Mux(pair_of_outputs, 2, 1))),
        ]
        sequence_end = Signal()
        flush, rest = Signal(), Signal(4)
        m.d.comb += [
            sequence_end.eq(tag.ends),
            # next_lane[lane_bits] without the adder: all bits of the lane, the pitch's or the
            # pair's included, are set.
            flush.eq(Mux(tag.row_end, (lane | pitch_lanes).all(), (lane | pair_of_outputs).all())
                     | sequence_end),
            # Zero words up to the next image row when an image row is longer than a word.
            rest.eq(Mux(tag.row_end, pitch_words & ~index[:4], 0)),
        ]

        row_start = tag.pass_first & header.first
        with m.If(visit & layer.readout):
            m.d.sync += total.eq(Mux(row_start, header.row.threshold, total) + self.sum)
            with m.If(tag.finishes):
                m.d.comb += next_pending.eq(1)
                m.d.sync += pending_address.eq(first_base)
        with m.If(visit & tag.pass_first):
            m.d.sync += base.eq(first_base)
        with m.If(insert):
            m.d.sync += lane.eq(next_lane[:lane_bits])
            with m.If(tag.phase_end):
                m.d.sync += base.eq(here + layer.out_phase_stride)
            with m.If(flush):
                m.d.comb += [next_pending.eq(1), next_fill.eq(rest)]
                m.d.sync += [pending_address.eq(here + index), index.eq(index + 1)]
            with m.If(sequence_end):
                m.d.sync += [lane.eq(0), fill_ends.eq(1)]
                with m.If(rest == 0):
                    m.d.sync += [index.eq(0), fill_ends.eq(0)]
        with m.If((fill != 0) & move):
            m.d.comb += [next_pending.eq(1), next_fill.eq(fill - 1)]
            m.d.sync += [pending_address.eq(pending_address + 1), index.eq(index + 1)]
            with m.If((fill == 1) & fill_ends):
                m.d.sync += [index.eq(0), fill_ends.eq(0)]
        return m
