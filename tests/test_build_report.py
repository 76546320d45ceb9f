"""What the report says: cells by unit, memories, critical path, estimate, fit."""

import pytest

from hw.boards import DEVICES
from hw.build import estimate, fit, networks, timing, usage, yosys
from hw.config import PRESETS
from sw.errors import SpikeTicketError

RTLIL = r"""
module \top
  wire width 1 input 0 \clk
  wire width 4 \from_fetch
  wire width 4 \back
  cell \top.core.cluster0.engine0.fetch \fetch
    connect \o \from_fetch [3:0]
  end
end
module \top.core.cluster0.engine0.fetch
  wire width 4 output 1 \o
  memory width 8 size 16 \taps
  memory width 4 size 16 \table
  cell $memwr_v2 $1
    parameter \MEMID "\\taps"
  end
  cell $memrd_v2 $2
    parameter \MEMID "\\table"
  end
end
module \top.core.cluster0.engine0.unit3
  wire width 4 input 0 \i
  wire width 4 output 1 \o
end
module \top.core.map1
  wire width 4 output 0 \data
  memory width 128 size 2048 \ram
  cell $memwr_v2 $3
    parameter \MEMID "\\ram"
  end
end
"""


def _cell(kind, **ports):
    outputs = {"O", "Q", "DOA", "CO", "P"}
    return {"type": kind, "connections": ports, "parameters": {},
            "port_directions": {p: "output" if p in outputs else "input" for p in ports}}


NETLIST = {
    "cells": {
        "a": _cell("LUT6", I0=[9], O=[2]),                   # drives fetch's output
        "b": _cell("LUT2", I0=[2], I1=[4], O=[3]),           # anonymous, feeds c in unit3
        "c": _cell("FDRE", C=[1], D=[3], Q=[4]),             # unit3's output
        "d": _cell("LUT1", I0=[4], O=[9]),                   # anonymous, feeds a
        "e": _cell("BUFG", I=[7], O=[1]),
        "core.map1.ram.0.0": _cell("RAMB36E1", DOA=[8]),     # named by its memory
        "f": _cell("LUT3", I0=[8], O=[6]),                   # feeds nothing: no unit
    },
    "netnames": {
        "from_fetch": {"bits": [2]}, "core.cluster0.engine0.unit3.i": {"bits": [2]},
        "core.cluster0.engine0.unit3.o": {"bits": [4]},
        "core.cluster0.engine0.unit3.i_LUT2_O": {"bits": [3]},
        "clk": {"bits": [7]},
    },
}


@pytest.fixture
def hierarchy():
    return usage.Hierarchy.of(RTLIL)


def test_cells_belong_to_the_unit_that_drives_their_net(hierarchy):
    owned = usage.owners(NETLIST, hierarchy)
    assert owned["a"] == "engine.fetch"      # through the parent's wire; not the reader's input
    assert owned["b"] == owned["c"] == "engine.unit"
    assert owned["d"] == "engine.fetch"
    assert owned["core.map1.ram.0.0"] == "map"
    assert owned["f"] == usage.OTHER


def test_sums_equal_the_totals(hierarchy):
    owned = usage.owners(NETLIST, hierarchy)
    found = usage.usage(NETLIST, owned, "xc7")
    assert found.total == {"lut": 4, "ff": 1, "bram": 1, "dsp": 0}
    assert found.units["engine.unit"] == {"lut": 1, "ff": 1, "bram": 0, "dsp": 0}
    cells = {"LUT6": 1, "LUT3": 1, "LUT2": 1, "LUT1": 1}
    assert usage.counted(found, cells, "xc7")["lut"] == 3    # LUT3 and LUT2 share a LUT6


@pytest.mark.parametrize("path, unit", [
    ("shell.serial.top.core.cluster6.engine1.unit3.queue", "engine.unit"),
    ("shell.serial.top.core.cluster0.drain$150.lane1.x", "engine.drain.lane"),
    ("shell.serial.top.core.cluster0.drain.passes.queue0", "engine.drain"),
    ("shell.serial.top.core.cluster0.engine0", "engine (wiring)"),
    ("shell.serial.top.core.cluster0", "engine (wiring)"), ("shell.serial.top.core.map0", "map"),
    ("sdram.fsm", "sdram"), ("sdram_pads", "sdram"), ("ddr3.arrived", "ddr3"),
    ("litedram", "ddr3"), ("shell.serial.top.bridge", "ddr3"),
    ("shell.serial.top.core.streamer", "streamer"),
    ("shell.serial.top.link.receiver.cobs", "link"), ("shell.serial.sender", "uart"),
    ("pll", usage.OTHER), (None, usage.OTHER)])
def test_units(path, unit):
    assert usage.unit_of(path) == unit


def test_memories_and_what_they_became(hierarchy):
    log = ("mapping memory top.core.map1.ram via $__XILINX_BLOCKRAM_TDP_\n"
           "using FF mapping for memory top.core.cluster0.engine0.fetch.taps\n"
           "using FF mapping for memory top.core.cluster0.engine0.fetch.table\n")
    found = {row["name"]: row for row in usage.memories(hierarchy, log)}
    assert found["core.map1.ram"]["mapped"] == usage.BLOCK
    assert found["core.map1.ram"]["bits"] == 128 * 2048
    assert found["core.cluster0.engine0.fetch.taps"]["mapped"] == usage.REGISTERS
    assert "core.cluster0.engine0.fetch.table" not in found        # constants: logic, no memory
    distributed = usage.memories(hierarchy, "mapping memory top.core.map1.ram via "
                                            "$__TRELLIS_DPR16X4_\n")
    assert {row["mapped"] for row in distributed} == {usage.DISTRIBUTED, usage.GONE}


def test_path_joins_neighbours_in_one_unit():
    units = {"a": "engine.fetch", "b": "engine.fetch", "c": "engine.unit"}
    steps = timing.merge([("a", "end", .5), ("a", "routing", 1.0), ("b", "logic", .2),
                          ("?", "routing", .3), ("c", "logic", .4), ("c", "end", .1)], units.get)
    assert [(s.unit, s.logic_ns, s.routing_ns, s.levels) for s in steps] == [
        ("engine.fetch", .7, 1.3, 1), ("engine.unit", .5, 0, 1)]


def test_log_without_a_clock_is_an_error():
    with pytest.raises(SpikeTicketError, match="no clock"):
        timing.from_log("Info: done\n", lambda name: None)


def test_estimate_adds_cells_and_wires(hierarchy):
    owned = usage.owners(NETLIST, hierarchy)
    found = estimate.estimate(NETLIST, usage.locator(owned, hierarchy))
    # c -> d -> a -> b -> c: three LUTs, four wires
    wires = (estimate.wire(2) + 3 * estimate.wire(1))
    longest = estimate.FF_OUT + 3 * estimate.LUT + wires + estimate.FF_IN
    assert found.clock_mhz == pytest.approx(1e3 / longest)
    assert sum(s.logic_ns + s.routing_ns for s in found.path) == pytest.approx(longest, abs=.01)
    assert [s.unit for s in found.path] == ["engine.unit", "engine.fetch", "engine.unit"]


def test_estimate_of_carry_memory_and_multiplier():
    cells = {
        "bram": _cell("RAMB36E1", DOA=[10]), "carry": _cell("CARRY4", S=[10], CI=[], O=[11],
                                                           CO=[12]),
        "dsp": _cell("DSP48E1", A=[12], P=[13]), "ff": _cell("FDRE", D=[13], Q=[14]),
        "mux": _cell("MUXF7", I0=[14], I1=[14], S=[14], O=[15]),
        "ram": _cell("RAM64X1D", D=[15], A0=[15], DPRA0=[15], WE=[15]),
        "srl": _cell("SRL16E", D=[14], Q=[16]),
    }
    found = estimate.estimate({"cells": cells}, lambda name: name)
    expected = (estimate.BRAM_OUT + estimate.CARRY_S_OUT + estimate.DSP_THROUGH + estimate.FF_IN
                + 4 * estimate.wire(1) - estimate.wire(1))
    assert found.clock_mhz == pytest.approx(1e3 / expected)


def test_verdicts_name_what_is_short():
    device = DEVICES["XC7A35T"]
    fits = fit.uses(device, {"lut": 10_000, "ff": 10_000, "bram": 42.5, "dsp": 40})
    assert fit.verdict(fits).startswith("fits: LUT 10,000 of 20,800 (48%)")
    short = fit.uses(device, {"lut": 21_000, "ff": 10_000, "bram": 51.5, "dsp": 40})
    with pytest.raises(SpikeTicketError, match=r"LUT short by 200 \(21,000 of 20,800\), BRAM36 "
                                               r"short by 1.5 \(51.5 of 50\).*--set engines=N"):
        fit.check(short, "a35t on XC7A35T")
    tight = fit.uses(device, {"lut": 20_000, "ff": 1, "bram": 1, "dsp": 1})
    assert fit.verdict(tight).startswith("fits tightly")


def test_weights_that_fit_fill_the_memory():
    config = PRESETS["tiny"]
    rows = networks.weights_that_fit(config)
    assert {row["bits"] for row in rows} == {1, 4}
    for row in rows:
        used = row["surviving"] * row["bits_per_surviving"]
        assert used == pytest.approx(config.pairs * config.weight_words * 32, rel=.01)
        assert row["surviving"] == pytest.approx(row["weights"] * row["density"], abs=1)


def test_port_b_of_a_pair_memory_may_not_care():
    from amaranth.back import rtlil

    from hw.core import Core

    text = rtlil.convert(Core(PRESETS["tiny"]), name="top", emit_src=False)
    relaxed = yosys.relax_collisions(text)
    changed = [(old, new) for old, new in zip(text.splitlines(), relaxed.splitlines(), strict=True)
               if old != new]
    # one a copy of the maps and of the weights
    assert len(changed) == 2 * PRESETS["tiny"].pairs
    assert all(new == old.replace("1'0", "1'1") and "COLLISION_X" in old for old, new in changed)


def test_scripts():
    with pytest.raises(ValueError, match="family 'ice40'"):
        yosys.script("ice40", "top", "design")
    xc7 = yosys.script("xc7", "top", "design")
    assert "abc -luts" in xc7 and "delete t:$scopeinfo" in xc7 and "-nobram" not in xc7
    assert "-noiopad" in yosys.script("xc7", "top", "design", pads=False)
    assert "-noflatten" in yosys.script("ecp5", "top", "design", flatten=False)
    assert yosys.stage("2.14. Executing OPT_EXPR pass (perform...)") == "2.14 opt_expr"
