"""The adder of residual sums: every plane of a word read and written once, in time, and what is
written is the sum."""

from __future__ import annotations

from amaranth import Cat, Mux, Signal, Value

from hw.config import SUM_PLANES
from hw.sums import SumWriter
from sim.formal.checkers import implies
from sim.formal.harness import Bench, proof
from sim.formal.small import SMALL, steady


def _adder(f: Bench) -> SumWriter:
    """In a layer that adds, with words that come as the arbiter sends them."""
    dut = f.place("adder", SumWriter(SMALL))
    steady(f, dut.layer)
    planes = dut.layer.head_width
    f.assume((planes >= 2) & (planes <= SUM_PLANES) & ~dut.layer.attention)
    f.assume(implies(~f.past(f.started), ~dut.chosen))       # `adds` is a cycle late
    f.assume(implies(dut.chosen, ~dut.hold))
    f.assume(dut.first == f.past(dut.chosen, 2))
    return dut


@proof("sums.SumWriter/planes", depth=20, quick=True,
       scope="words of 32 bits, any stride and 2 to 7 planes")
def planes_of_a_word(f: Bench):
    """A word's planes are read in a row from its address on, as many as the layer says, each is
    written two cycles later at its place, and nothing else is; the next word may come with the
    cycle in which the last plane has been asked for."""
    dut = _adder(f)
    planes = dut.layer.head_width
    since, any_word = Signal(4), Signal()     # planes read of the word before
    f.m.d.sync += any_word.eq(any_word | dut.first)
    with f.m.If(dut.first):
        f.m.d.sync += since.eq(1)
    with f.m.Elif(dut.read):
        f.m.d.sync += since.eq(since + 1)
    f.claim("first_is_read", implies(dut.first, dut.read & (
        dut.read_address == dut.word.address)))
    f.claim("all_planes", implies(any_word & ~dut.read, since == planes))
    f.claim("no_more_planes", implies(any_word & dut.first, since == planes))
    f.claim("a_stride_apart", implies(dut.read & ~dut.first, f.past(dut.read) & (
        dut.read_address == (f.past(dut.read_address) + dut.layer.key)[:len(dut.read_address)])))
    f.claim("announced", dut.read == f.past(dut.asks, 2))
    f.claim("written_back", dut.write == f.past(dut.read, 2))
    f.claim("in_place", implies(dut.write, dut.o.address == f.past(dut.read_address, 2)))
    f.claim("tells_that_it_works", implies(f.past(dut.chosen) | dut.write, dut.busy))
    f.cover("two_words", dut.first & any_word & f.past(dut.first, 3))


@proof("sums.SumWriter/sum", depth=16, scope="one bit of a word of 32, 2 to 7 planes")
def sum_of_a_bit(f: Bench):
    """Of any position and timestep, what is written is what was there and the word's spike; modulo
    what the planes hold. A plane that has not been written before counts as zero."""
    dut = _adder(f)
    bit, planes = f.constant("bit", 5), dut.layer.head_width
    back = f.past(dut.read)
    plane, before, made = Signal(4), Signal(9), Signal(9)
    f.m.d.sync += plane.eq(Mux(back & ~dut.first, plane + 1, 0))
    starts = f.past(dut.first)
    number = Mux(starts, 0, plane)
    with f.m.If(starts):
        f.m.d.sync += plane.eq(1)
    spike = f.past(Value.cast(dut.word.data).bit_select(bit, 1))
    new = (number == planes - 1) & dut.layer.key_words[0]
    held = dut.data.bit_select(bit, 1) & ~new
    total = Signal(9)
    f.m.d.comb += total.eq(Mux(starts, spike, before) + (held << number))
    out = Value.cast(dut.o.data).bit_select(bit, 1)
    written, last = f.past(number), f.past(back & (number == planes - 1))
    result = Signal(9)
    f.m.d.comb += result.eq(Mux(written == 0, 0, made) + (out << written))
    f.m.d.sync += [before.eq(total), made.eq(result)]
    bits = Signal(9)
    f.m.d.comb += bits.eq((1 << planes[:3]) - 1)
    f.claim("exact", implies(dut.write & last, ((result ^ before) & bits) == 0))
    f.cover("carries_through", dut.write & last & (planes == 3) & (result == 4)
            & Cat(f.past(spike), f.past(spike, 2), f.past(spike, 3)).any())
