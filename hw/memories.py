"""Map and weight memories: true dual-port block RAM, one copy for a pair of engines.

Port A reads for the even engine of the pair and does the writes (a write takes port A's turn);
port B reads for the odd engine. Read and write of port A share one address, which is what lets
synthesis use one physical port for both.
"""

from __future__ import annotations

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out


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
        m.submodules.ram = ram = Memory(shape=self._width, depth=self._depth, init=[])
        write, a, b = ram.write_port(), ram.read_port(), ram.read_port()
        m.d.comb += [
            write.addr.eq(self.a_address), write.data.eq(self.write_data),
            write.en.eq(self.write),
            a.addr.eq(self.a_address), self.a_data.eq(a.data),
            b.addr.eq(self.b_address), self.b_data.eq(b.data),
        ]
        return m
