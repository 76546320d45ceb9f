"""Map and weight memories: true dual-port block RAM, one copy for a pair of engines.

Port A reads for the even engine of the pair and does the writes (a write takes port A's turn);
port B reads for the odd engine. Read and write of port A share one address, which is what lets
synthesis use one physical port for both.
"""

from __future__ import annotations

from amaranth import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.vendor import LatticePlatform

DP16KD = 1 << 14
"""Bits of an ECP5's block RAM where its words have no ninth bit."""


def part_bits(platform, width: int, depth: int) -> int:
    """A memory lies in memories of so many bits side by side. On ECP5, where a block RAM is deep
    enough for its words with a few bits each, that many: Yosys would take fewer ones of half the
    depth, and the multiplexer that they need is behind a block RAM's own 5 ns."""
    bits = DP16KD // depth
    return bits if isinstance(platform, LatticePlatform) and 1 < bits < 8 else width


class PairMemory(wiring.Component):
    """`depth` words of `width` bits; data of a read one cycle after its address.

    A write reads the old word on port A.
    """

    def __init__(self, width: int, depth: int):
        self._width, self._depth = width, depth
        address = (depth - 1).bit_length()
        super().__init__({
            "a_address": In(address), "a_data": Out(width),
            "b_address": In(address), "b_data": Out(width),
            "write": In(1), "write_data": In(width),
        })

    def elaborate(self, platform):
        m = Module()
        bits, read = part_bits(platform, self._width, self._depth), []
        for first in range(0, self._width, bits):
            data = self.write_data[first:first + bits]
            ram = Memory(shape=len(data), depth=self._depth, init=[])
            m.submodules["ram" if bits == self._width else f"ram{first}"] = ram
            write, a, b = ram.write_port(), ram.read_port(), ram.read_port()
            m.d.comb += [
                write.addr.eq(self.a_address), write.data.eq(data), write.en.eq(self.write),
                a.addr.eq(self.a_address), b.addr.eq(self.b_address),
            ]
            read.append((a.data, b.data))
        a_data, b_data = zip(*read, strict=True)
        m.d.comb += [self.a_data.eq(Cat(a_data)), self.b_data.eq(Cat(b_data))]
        return m
