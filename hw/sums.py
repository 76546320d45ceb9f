"""Residual sums as bit-planes: adds a finished map word to the sum that lies in the map memory.

The sum of n spike maps is kept as planes of shifts 0, 1, 2 ... (`docs/core.md`). A word of the next
summand is the carry into plane 0; every plane is read, half-added, and written back:

word ─► carry ─┬─► AND ─► carry of the next plane
        plane ─┴─► XOR ─► the plane's new word
"""

from __future__ import annotations

from amaranth import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from . import layouts
from .config import SUM_PLANES, CoreConfig


class SumWriter(wiring.Component):
    """Hands words to the map memory, or adds them to a sum that lies there, a plane a cycle, while
    a layer says so.

    `adds` is the layer's `head_width` != 0 without `attention`: `head_width` planes, 2 to
    `SUM_PLANES`, `key` words apart, the first at the word's own address. With `key_words` = 1 the
    last plane has not been written before and counts as zero. A carry out of the last plane is
    lost; the compiler gives as many planes as the summands need.

    A word that the arbiter takes in cycle t is there in cycle t + 2, in which its plane 0 is read;
    plane p is read p cycles later and written 2 cycles after that. `hold` lets the next word come
    when the planes of this one are read.

    Members
    -------
    chosen: the arbiter takes a word, never while `hold`. first: it is there, as `word`.
    asks: a read follows in two cycles; read: it takes place; `data` is there a cycle later.
    write, o: a write takes place: with `adds` always two cycles after a read, else `word`.
    busy: something is here, or comes in this cycle.
    """

    def __init__(self, config: CoreConfig):
        self._config = config
        address, word = range(config.map_words), config.map_bits
        super().__init__({
            "layer": In(layouts.LAYER), "adds": Out(1), "chosen": In(1), "hold": Out(1),
            "first": In(1), "word": In(layouts.map_write(config)),
            "asks": Out(1), "read": Out(1), "read_address": Out(address), "data": In(word),
            "write": Out(1), "o": Out(layouts.map_write(config)), "busy": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        layer = self.layer
        # Planes of the word that are still to be asked for.
        left, starts = Signal(range(SUM_PLANES)), Signal()
        asked, comes_back, writes, last = Signal(), Signal(), Signal(), Signal(3)
        # Fixed while the layer runs, so a cycle late is early enough.
        m.d.sync += self.adds.eq(layer.head_width.any() & ~layer.attention)
        m.d.comb += [
            starts.eq(self.chosen & self.adds), self.hold.eq(left.any()),
            self.asks.eq(starts | left.any()),
            self.busy.eq(asked | self.read | comes_back | self.write),
        ]
        with m.If(starts):
            m.d.sync += left.eq(layer.head_width - 1)
        with m.Elif(left.any()):
            m.d.sync += left.eq(left - 1)
        m.d.sync += [
            asked.eq(self.asks), self.read.eq(asked), comes_back.eq(self.read),
            writes.eq(comes_back), last.eq(last << 1 | (left == 1)),
        ]

        place, behind, address = (Signal.like(self.read_address, name=name)
                                  for name in ("place", "behind", "address"))
        m.d.comb += self.read_address.eq(Mux(self.first, self.word.address, place))
        m.d.sync += [
            place.eq(self.read_address + layer.key), behind.eq(self.read_address),
            address.eq(behind),
        ]

        bits = self._config.map_bits
        held = Signal(bits)
        carry, total = Signal(bits, reset_less=True), Signal(bits, reset_less=True)
        m.d.comb += held.eq(Mux(last[2] & layer.key_words[0], 0, self.data))
        m.d.sync += [
            total.eq(held ^ carry), carry.eq(Mux(self.first, self.word.data, held & carry)),
        ]
        m.d.comb += [self.write.eq(writes | self.first & ~self.adds), self.o.eq(self.word)]
        with m.If(writes):
            m.d.comb += [self.o.address.eq(address), self.o.data.eq(total)]
        return m
