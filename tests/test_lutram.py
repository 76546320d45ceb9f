"""Memories in LUTs: cells that the open flow packs, and the same values as the memory."""

from __future__ import annotations

import re
import subprocess

import pytest
from amaranth import Module
from amaranth.back import rtlil, verilog
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.build import tools, usage, yosys
from sw.errors import SpikeTicketError

SHAPES = [(32, 9), (64, 5), (100, 4), (128, 8), (256, 3)]
"""Words and bits of memories with one port: of accumulators, scores and totals, and deeper."""


class OnePort(wiring.Component):
    """Memories of SHAPES with one address, read at once, as an accumulator is."""

    def __init__(self):
        super().__init__({
            "address": In(8), "write": In(1), "i": In(16),
            **{f"o{n}": Out(width) for n, (_, width) in enumerate(SHAPES)}})

    def elaborate(self, platform):
        m = Module()
        for n, (words, width) in enumerate(SHAPES):
            m.submodules[f"ram{n}"] = ram = Memory(
                shape=width, depth=words, init=[i * 7 % (1 << width) for i in range(words)],
                attrs={"ram_style": "distributed"})
            write, read = ram.write_port(), ram.read_port(domain="comb")
            m.d.comb += [
                write.addr.eq(self.address), read.addr.eq(self.address), write.data.eq(self.i),
                write.en.eq(self.write & (self.address < words)),
                getattr(self, f"o{n}").eq(read.data),
            ]
        return m


BENCH = """
module bench;
    reg clk = 0, rst = 0, write;
    reg [7:0] address;
    reg [15:0] i;
    integer cycle, seed = 1, different = 0;
    {wires}
    gold gold(.clk(clk), .rst(rst), .write(write), .address(address), .i(i), {gold});
    top mapped(.clk(clk), .rst(rst), .write(write), .address(address), .i(i), {mapped});
    initial begin
        for (cycle = 0; cycle < 4000; cycle = cycle + 1) begin
            {{address, write, i}} = $random(seed);
            #1 if ({differs}) different = different + 1;
            clk = 1; #1 clk = 0;
        end
        $display("different %0d of %0d", different, cycle);
        $finish;
    end
endmodule
"""


@pytest.mark.skipif(tools.find("yosys") is None, reason="needs Yosys: the extra [build]")
def test_one_port_is_packed_and_equal(tmp_path):
    """Mapped, with its first content, against the same memory in simulation."""
    found = yosys.synthesise(rtlil.convert(OnePort(), name="top"), "xc7", "top", tmp_path,
                             name="top", pads=False, verilog=True)
    assert found.cells["RAM64M"] >= 2 + 1 + 4 + 3 and set(found.cells) <= yosys.PACKED
    kinds = {row["mapped"] for row in usage.memories(
        usage.Hierarchy.of(found.rtlil.read_text()), found.log.read_text())}
    assert kinds == {usage.DISTRIBUTED}

    outputs = [f"o{n}" for n in range(len(SHAPES))]
    # An address above a memory's last word reads anything.
    differs = " || ".join(f"(address < {words} && g_o{n} !== m_o{n})"
                          for n, (words, _) in enumerate(SHAPES))
    (tmp_path / "bench.v").write_text(BENCH.format(
        wires=" ".join(f"wire [{width - 1}:0] g_o{n}, m_o{n};"
                       for n, (_, width) in enumerate(SHAPES)),
        gold=", ".join(f".{o}(g_{o})" for o in outputs),
        mapped=", ".join(f".{o}(m_{o})" for o in outputs), differs=differs))
    (tmp_path / "gold.v").write_text(verilog.convert(OnePort(), name="gold"))
    library = yosys.share_folder() / yosys.cell_models("xc7")[0].removeprefix("+/")
    subprocess.run(["iverilog", "-g2012", "-s", "bench", "-o", "bench", "bench.v", "gold.v",
                    "top.netlist.v", library], cwd=tmp_path, check=True, capture_output=True)
    said = subprocess.run(["vvp", "bench"], cwd=tmp_path, check=True, capture_output=True,
                          text=True).stdout
    assert re.search(r"^different 0 of 4000$", said, re.MULTILINE), said


def test_cells_that_are_not_packed_are_named():
    with pytest.raises(SpikeTicketError, match=r"pack: RAM128X1S \(80\), RAM64X1S \(2\); "):
        yosys.check_cells("xc7", {"LUT6": 5, "RAM64X1S": 2, "RAM128X1S": 80})
    yosys.check_cells("xc7", {"LUT6": 5, "RAM64M": 2})
    yosys.check_cells("ecp5", {"TRELLIS_DPR16X4": 5})
