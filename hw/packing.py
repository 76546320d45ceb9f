"""Unpacks spike masks: from bytes that name the active positions to words of a map."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .config import TIMESTEPS_PER_GROUP
from .registers import GROUP_WORDS


class Unpacker(wiring.Component):
    """Turns a stream of bytes, four in a word and the lowest first, into 32-bit words of 8 masks.

    `docs/link.md` has the format. In short, `packed`: a byte says which of 8 words have an active
    position (0: none in these nor in as many more groups as the next byte says), a byte for each
    of them which of its positions are active, and 4 bits for each of these the mask: from half a
    byte, or `mask` for all where that is not 0. Not `packed`: a byte for every word, and `mask`.

    A word of `i` is taken with its last byte; `ended` says that no more come, zeros follow then.
    `o` never ends. A word without active positions takes 2 cycles, another one 10 to 13 (at 25
    Mbaud a byte takes 40), a byte that names groups 1 or 2 more. Begins a new stream after a reset;
    the settings stay as they are meanwhile.
    """

    def __init__(self):
        super().__init__({
            "packed": In(1), "mask": In(TIMESTEPS_PER_GROUP), "ended": In(1),
            "i": In(stream.Signature(32)), "o": Out(stream.Signature(32)),
        })

    def elaborate(self, platform):
        m = Module()
        byte, some, take = Signal(8), Signal(), Signal()
        number = Signal(2)                        # of the next byte in its word
        m.d.comb += self.i.ready.eq(~some & (number == 3))
        with m.If(some):
            m.d.sync += some.eq(~take)
        with m.Elif(self.ended):
            m.d.sync += [some.eq(1), byte.eq(0)]
        with m.Elif(self.i.valid):
            m.d.sync += [some.eq(1), number.eq(number + 1),
                         byte.eq(self.i.payload.word_select(number, 8))]

        present = Signal(GROUP_WORDS)             # words of the group that have active positions
        index = Signal(range(GROUP_WORDS))        # of the word in its group
        zeros = Signal(8)                         # groups of zeros behind this one
        active, place = Signal(8), Signal(3)      # positions of the word, the next of them
        half, half_left = Signal(TIMESTEPS_PER_GROUP), Signal()
        lane = Signal(32)
        m.d.comb += self.o.payload.eq(lane)
        with m.FSM():
            with m.State("GROUP"):
                with m.If(~self.packed):
                    m.next = "WORD"
                with m.Elif(some):
                    m.d.comb += take.eq(1)
                    m.d.sync += present.eq(byte)
                    m.next = "WORD"
                    with m.If(byte == 0):
                        m.next = "ZEROS"
            with m.State("ZEROS"):
                with m.If(some):
                    m.d.comb += take.eq(1)
                    m.d.sync += zeros.eq(byte)
                    m.next = "WORD"
            with m.State("WORD"):
                with m.If(self.packed & ~present.bit_select(index, 1)):
                    m.d.sync += lane.eq(0)
                    m.next = "OUT"
                with m.Elif(some):
                    m.d.comb += take.eq(1)
                    m.d.sync += active.eq(byte)
                    m.next = "MASKS"
            with m.State("MASKS"):
                is_active, own = Signal(), Signal()
                m.d.comb += [is_active.eq(active.bit_select(place, 1)),
                             own.eq(is_active & (self.mask == 0))]
                with m.If(~own | half_left | some):
                    value = Mux(own, Mux(half_left, half, byte[:4]), self.mask)
                    m.d.sync += [place.eq(place + 1),
                                 lane.eq(Cat(lane[4:], value & is_active.replicate(4)))]
                    with m.If(own):
                        m.d.sync += half_left.eq(~half_left)
                        with m.If(~half_left):
                            m.d.comb += take.eq(1)
                            m.d.sync += half.eq(byte[4:])
                    with m.If(place == 7):
                        m.next = "OUT"
            with m.State("OUT"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.d.sync += index.eq(index + 1)
                    m.next = "WORD"
                    with m.If(index == GROUP_WORDS - 1):
                        with m.If(zeros == 0):
                            m.next = "GROUP"
                        with m.Else():
                            m.d.sync += zeros.eq(zeros - 1)
        return m
