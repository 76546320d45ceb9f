"""The unit's four adders: DSP slices equal their arithmetic, bit for bit."""

from __future__ import annotations

import re
import subprocess

import pytest
from amaranth.back import verilog

from hw.adders import FourAdders
from hw.boards import BOARDS
from hw.build import artix, tools, yosys
from hw.build.design import platform_of
from hw.config import CoreConfig

BENCH = """
module bench;
    reg clk = 0, rst = 0, clear;
    reg [{top}:0] currents, weights;
    wire [{top}:0] wanted, found;
    integer cycle, seed = 1, different = 0;
    sums sums(.currents(currents), .weights(weights), .clear(clear), .sums(wanted));
    slices slices(.clk(clk), .rst(rst), .currents(currents), .weights(weights), .clear(clear),
                  .sums(found));
    initial begin
        for (cycle = 0; cycle < 5000; cycle = cycle + 1) begin
            currents = {{$random(seed), $random(seed), $random(seed)}};
            weights = {{$random(seed), $random(seed), $random(seed)}};
            clear = $random(seed);
            if (cycle % 4 == 1) weights = ~currents;        // carries run through every bit
            if (cycle % 4 == 2) weights = -currents;
            #1 if (found !== wanted) different = different + 1;
        end
        $display("different %0d of %0d", different, cycle);
        $finish;
    end
endmodule
"""


@pytest.mark.skipif(tools.find("yosys") is None, reason="needs Yosys' cell models: extra [build]")
@pytest.mark.parametrize(("bits", "mode", "slices"), [
    (8, "FOUR12", 1), (12, "FOUR12", 1), (13, "TWO24", 2), (24, "TWO24", 2)])
def test_slices_equal_their_arithmetic(bits, mode, slices, tmp_path):
    """Against Yosys' model of the DSP48E1, sums that overflow included."""
    config = CoreConfig(acc_bits=bits, dsp_adders=True)
    board = platform_of(BOARDS["arty_a7"])
    text = verilog.convert(FourAdders(config), name="slices", platform=board)
    assert text.count("DSP48E1 #(") == slices == text.count(f'.USE_SIMD("{mode}")')
    (tmp_path / "slices.v").write_text(text)
    (tmp_path / "sums.v").write_text(verilog.convert(FourAdders(config), name="sums"))
    (tmp_path / "bench.v").write_text(BENCH.format(top=4 * bits - 1))
    library = yosys.share_folder() / yosys.cell_models("xc7")[0].removeprefix("+/")
    subprocess.run(["iverilog", "-g2012", "-s", "bench", "-o", "bench", "bench.v", "slices.v",
                    "sums.v", library], cwd=tmp_path, check=True, capture_output=True)
    said = subprocess.run(["vvp", "bench"], cwd=tmp_path, check=True, capture_output=True,
                          text=True).stdout
    assert re.search(r"^different 0 of 5000$", said, re.MULTILINE), said


@pytest.mark.parametrize(("config", "board"), [
    (CoreConfig(acc_bits=12), "arty_a7"),
    (CoreConfig(acc_bits=12, dsp_adders=True), "ulx3s_85f"),
    (CoreConfig(acc_bits=12, dsp_adders=True), None)])
def test_no_slices_elsewhere(config, board):
    """Without the switch, on other families, and in simulation the sums are plain arithmetic."""
    text = verilog.convert(FourAdders(config), name="sums",
                           platform=platform_of(BOARDS[board]) if board else None)
    assert "DSP48E1" not in text


def test_a_slice_of_four_sums_gets_both_of_its_bits(tmp_path):
    fasm = tmp_path / "top.fasm"
    fasm.write_text("DSP_R_X9Y5.DSP48.DSP_0.USE_SIMD_FOUR12\nDSP_R_X9Y5.DSP48.DSP_1.ZPREG[0]\n"
                    "DSP_R_X9Y10.DSP48.DSP_0.USE_SIMD_FOUR12_TWO24\n")
    artix.complete_slices(fasm)
    assert fasm.read_text().splitlines() == [
        "DSP_R_X9Y5.DSP48.DSP_0.USE_SIMD_FOUR12", "DSP_R_X9Y5.DSP48.DSP_0.USE_SIMD_FOUR12_TWO24",
        "DSP_R_X9Y5.DSP48.DSP_1.ZPREG[0]", "DSP_R_X9Y10.DSP48.DSP_0.USE_SIMD_FOUR12_TWO24"]
