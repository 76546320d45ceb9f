"""Packer: puts the drain's outputs into map words, in their place in memory."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from . import layouts
from .config import CoreConfig
from .outputs import output


def word_number(config: CoreConfig) -> range:
    """Number of a map word within the flat positions that the patch gate can choose from."""
    return range(max(2, config.gate_tokens // config.window))


def scored_output(config: CoreConfig) -> data.StructLayout:
    """An output on its way to `gate.Scores`."""
    return data.StructLayout({
        "valid": 1, "masks": data.ArrayLayout(layouts.MASK, config.lanes), "pair": 1,
        "position": range(config.gate_tokens),
    })


class Packer(wiring.Component):
    """Collects spike masks (or a readout's sum) into words and hands them to the arbiter.

    Takes one output a cycle. While a finished word cannot move on or words of zeros must be
    inserted, it takes none; `i.ready` is a register.

    Members
    -------
    i: outputs. base0/1: where the words of the two live passes go; total0/1: see `outputs.Outputs`.
    word0/1: words of the row's strips before, 0 where `index` counts them; scores: the output that
        is packed, for `gate.Scores` (both only with config.gate).
    pass_done: the last output of a pass has been taken; nothing of it is read any more.
    o: finished words.
    """

    def __init__(self, config: CoreConfig):
        self._config = config
        self._address_bits = (config.map_words - 1).bit_length()
        gate = {
            "word0": In(word_number(config)), "word1": In(word_number(config)),
            "scores": Out(scored_output(config)),
        }
        super().__init__({
            "layer": In(layouts.LAYER), "i": In(stream.Signature(output(config))),
            "base0": In(self._address_bits), "base1": In(self._address_bits),
            "total0": In(signed(32)), "total1": In(signed(32)),
            "pass_done": Out(1), "busy": Out(1),
            "o": Out(stream.Signature(layouts.map_write(config))),
        } | (gate if config.gate else {}))

    def elaborate(self, platform):
        m = Module()
        cfg, layer = self._config, self.layer
        window = cfg.window
        lane_bits = (window - 1).bit_length()

        # `word` is collected; a finished one moves on to `out` in the next cycle, while the first
        # mask of the following word is already put into the cleared `word`.
        word = Signal(data.ArrayLayout(layouts.MASK, window))
        pending, pending_address = Signal(), Signal(self._address_bits, reset_less=True)
        out, out_valid = Signal(layouts.map_write(cfg), reset_less=True), Signal()
        fill = Signal(4)           # zero words still to insert ...
        fill_ends = Signal()       # ... after which the sequence ends
        # `advance` is worked out from what the others become. Whether the arbiter takes `out` in
        # this cycle comes too late for that, so a full `out` counts as full for a cycle more.
        advance, move = Signal(init=1), Signal()
        next_pending, next_fill = Signal(), Signal(4)
        m.d.comb += [
            self.o.valid.eq(out_valid), self.o.payload.eq(out), self.i.ready.eq(advance),
            move.eq(pending & ~out_valid),
            next_pending.eq(pending & ~move), next_fill.eq(fill),
        ]
        m.d.sync += [
            out_valid.eq(move | (out_valid & ~self.o.ready)),
            pending.eq(next_pending), fill.eq(next_fill),
            advance.eq(~(next_pending & (move | out_valid)) & (next_fill == 0)),
        ]
        total = Signal(signed(32), reset_less=True)
        with m.If(move):
            m.d.sync += [out.address.eq(pending_address), out.data.eq(word)]
            with m.If(layer.readout):
                m.d.sync += out.data[:32].eq(total)

        item = Signal(output(cfg), reset_less=True)
        item_valid, inserts = Signal(), Signal()
        with m.If(advance):
            m.d.sync += [
                item.eq(self.i.payload), item_valid.eq(self.i.valid),
                inserts.eq(self.i.valid & self.i.payload.inserts),
            ]
        visit, insert = Signal(), Signal()
        m.d.comb += [
            visit.eq(item_valid & advance), insert.eq(inserts & advance),
            self.pass_done.eq(visit & item.pass_end),
            self.busy.eq(item_valid | pending | out_valid),
        ]

        lane, index = Signal(lane_bits), Signal(10)
        # Fixed while the layer runs, so a cycle late is early enough.
        pitch_lanes, pitch_words = Signal(lane_bits), Signal(4)
        pair_of_outputs = Signal()
        m.d.sync += Cat(pitch_lanes, pitch_words).eq(layer.out_pitch - 1)
        if cfg.lanes == 2:
            m.d.sync += pair_of_outputs.eq(layer.pair & ~layer.pair_merge)

        if cfg.gate:
            m.d.comb += [
                self.scores.valid.eq(insert & layer.score), self.scores.masks.eq(item.masks),
                self.scores.pair.eq(pair_of_outputs),
                self.scores.position.eq(
                    Cat(lane, Mux(item.parity, self.word1, self.word0) + index)),
            ]

        # Clock enable and reset of each lane's flip-flops do the insertion and the clearing.
        odd_output = Mux(pair_of_outputs, item.masks[cfg.lanes - 1], item.masks[0])
        for i in range(window):
            at = lane == i
            if i % 2:
                at = Mux(pair_of_outputs, lane[1:] == i >> 1, at)
            hit = insert & at
            with m.If(hit):
                m.d.sync += word[i].eq(odd_output if i % 2 else item.masks[0])
            with m.Elif(move):
                m.d.sync += word[i].eq(0)

        base, here = Signal(self._address_bits), Signal(self._address_bits)
        first_base = Mux(item.parity, self.base1, self.base0)
        next_lane = Signal(lane_bits + 1)
        flush, rest = Signal(), Signal(4)
        m.d.comb += [
            here.eq(Mux(item.first, first_base, base)),
            next_lane.eq(Mux(item.row_end, (lane | pitch_lanes) + 1,
                             lane + Mux(pair_of_outputs, 2, 1))),
            # next_lane[lane_bits] without the adder: all bits of the lane, the pitch's or the
            # pair's included, are set.
            flush.eq(Mux(item.row_end, (lane | pitch_lanes).all(), (lane | pair_of_outputs).all())
                     | item.sequence_end),
            # Zero words up to the next image row when an image row is longer than a word.
            rest.eq(Mux(item.row_end, pitch_words & ~index[:4], 0)),
        ]

        with m.If(visit & layer.readout):
            m.d.sync += total.eq(Mux(item.parity, self.total1, self.total0))
            with m.If(item.finishes):
                m.d.comb += next_pending.eq(1)
                m.d.sync += pending_address.eq(first_base)
        with m.If(insert):
            m.d.sync += [
                lane.eq(next_lane[:lane_bits]),
                base.eq(here + Mux(item.phase_end, layer.out_phase_stride, 0)),
            ]
            with m.If(flush):
                m.d.comb += [next_pending.eq(1), next_fill.eq(rest)]
                m.d.sync += [pending_address.eq(here + index), index.eq(index + 1)]
            with m.If(item.sequence_end):
                m.d.sync += [lane.eq(0), fill_ends.eq(1)]
                with m.If(rest == 0):
                    m.d.sync += [index.eq(0), fill_ends.eq(0)]
        with m.If((fill != 0) & move):
            m.d.comb += [next_pending.eq(1), next_fill.eq(fill - 1)]
            m.d.sync += [pending_address.eq(pending_address + 1), index.eq(index + 1)]
            with m.If((fill == 1) & fill_ends):
                m.d.sync += [index.eq(0), fill_ends.eq(0)]
        return m
