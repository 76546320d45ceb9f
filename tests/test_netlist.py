"""The synthesised netlist, and the models of FPGA cells that it is simulated with."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest

from hw.build import tools
from hw.config import CoreConfig
from hw.registers import COUNTERS
from sim import netlist
from sim.board import SimTransport
from sim.cell_wrappers import Cells, Multipliers
from sim.netlist import CELLS
from sim.runner import run_bench
from sim.samples.networks import random_input, random_network
from sw.board.driver import Accelerator
from sw.cli.app import main
from sw.compile.compiler import DoesNotFit, compile_network
from sw.core import cycles
from sw.integer import reference
from sw.integer.network import INPUT

SMALLEST = CoreConfig(engines=2, units=2, window=8, acc_depth=16, queue_depth=16, lanes=1,
                      map_words=512, weight_words=1024, program_words=256, taps=16, planes=16)
"""Two engines, so that both ports of the memories are used; else as small as can be."""

READ_FIRST, WRITE_FIRST, NO_CHANGE = "READ_FIRST", "WRITE_FIRST", "NO_CHANGE"


def spec(cell, read, write, mode, *, simple=False, seed=0, reset=(0x9A5C3_1234, 0x5_4321_0FED)):
    return {"cell": cell, "read": read, "write": write, "mode": mode, "simple": simple,
            "seed": seed, "reset": reset}


XC7 = [
    spec("RAMB36E1", (36, 36), (36, 0), (READ_FIRST, READ_FIRST)),
    spec("RAMB36E1", (36, 36), (36, 36), (READ_FIRST, WRITE_FIRST), seed=1),
    spec("RAMB36E1", (18, 9), (36, 18), (WRITE_FIRST, NO_CHANGE), seed=2),
    spec("RAMB36E1", (1, 4), (2, 9), (NO_CHANGE, READ_FIRST), seed=3),
    spec("RAMB36E1", (9, 1), (4, 1), (READ_FIRST, WRITE_FIRST), seed=4),
    spec("RAMB36E1", (72, 0), (0, 72), (READ_FIRST, READ_FIRST), simple=True, seed=5),
    spec("RAMB36E1", (36, 0), (0, 72), (WRITE_FIRST, WRITE_FIRST), simple=True, seed=6),
    spec("RAMB36E1", (72, 0), (0, 9), (WRITE_FIRST, WRITE_FIRST), simple=True, seed=7),
    spec("RAMB18E1", (18, 18), (18, 18), (READ_FIRST, NO_CHANGE), seed=8),
    spec("RAMB18E1", (2, 9), (18, 4), (WRITE_FIRST, WRITE_FIRST), seed=9),
    spec("RAMB18E1", (36, 0), (0, 36), (READ_FIRST, READ_FIRST), simple=True, seed=10),
    spec("RAMB18E1", (18, 0), (0, 36), (WRITE_FIRST, WRITE_FIRST), simple=True, seed=11),
]
ECP5 = [
    spec("DP16KD", (18, 18), (18, 18), (READ_FIRST, WRITE_FIRST)),
    spec("DP16KD", (9, 18), (9, 18), (NO_CHANGE, READ_FIRST), seed=1),
    spec("DP16KD", (1, 4), (1, 4), (WRITE_FIRST, NO_CHANGE), seed=2),
    spec("DP16KD", (2, 9), (2, 0), (READ_FIRST, NO_CHANGE), seed=3),
    spec("DP16KD", (0, 36), (36, 0), (NO_CHANGE, NO_CHANGE), seed=4),
    spec("DP16KD", (0, 18), (36, 0), (NO_CHANGE, NO_CHANGE), seed=5),
    spec("DP16KD", (0, 9), (36, 0), (NO_CHANGE, NO_CHANGE), seed=6),
]


@pytest.mark.parametrize("family", ["xc7", "ecp5"])
def test_block_ram_models(family):
    """Modes, widths, byte enables and initial content; unknown exactly where vendors say so."""
    specs = {"xc7": XC7, "ecp5": ECP5}[family]
    run_bench(Cells(specs), "sim.units.cells.bench", specs=specs, seed=1,
              promised=family == "xc7", resets=0.1 if family == "xc7" else 0,
              cells=[CELLS / "block_ram.v", CELLS / f"{family}.v"])


@pytest.mark.parametrize(("family", "cell", "parameter"), [
    ("xc7", "RAMB36E1", ".DOA_REG(1)"), ("xc7", "RAMB18E1", ".IS_ENARDEN_INVERTED(1'b1)"),
    ("xc7", "RAMB36E1", '.RAM_EXTENSION_A("LOWER")'), ("ecp5", "DP16KD", '.REGMODE_B("OUTREG")'),
    ("ecp5", "MULT18X18D", '.REG_OUTPUT_CLK("CLK0")')])
def test_what_is_not_modelled_is_refused(family, cell, parameter, tmp_path):
    (tmp_path / "top.v").write_text(f"module top; {cell} #({parameter}) cell0(); endmodule\n")
    done = subprocess.run(
        ["iverilog", "-s", "top", "-o", "out", "top.v", CELLS / "block_ram.v",
         CELLS / f"{family}.v"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode and "_is_not_modelled" in done.stderr


def test_multiplier_model():
    run_bench(Multipliers(), "sim.units.cells.bench", seed=1,
              cells=[CELLS / "block_ram.v", CELLS / "ecp5.v"])


@pytest.fixture(scope="module")
def library():
    # Strict: the core needs nothing that a vendor promises between the ports of a block RAM.
    return netlist.build(SMALLEST, "xc7", strict=True, progress=False)


@pytest.mark.skipif(tools.find("yosys") is None, reason="needs Yosys: the extra [build]")
def test_random_networks_on_a_netlist(library):
    """Logits and every spike equal the reference, cycles those of the model."""
    rng = np.random.default_rng(11)
    transport = SimTransport(SMALLEST, library=library)
    measured = predicted = networks = spikes = 0
    with Accelerator(transport, SMALLEST) as accelerator:
        while networks < 8:
            network = random_network(rng, max_size=8, max_channels=6)
            try:
                image = compile_network(network, SMALLEST)
            except DoesNotFit:
                continue
            networks += 1
            inputs = np.stack([random_input(rng, network) for _ in range(2)])
            accelerator.load(image)
            result = accelerator.infer(inputs, counters=True)
            expected = reference.run(network, inputs)
            assert (result.logits == expected.logits).all()
            for name, found in accelerator.trace(inputs[0]):
                if name != INPUT:
                    want = expected.spikes[name][:, 0, :, :found.shape[2], :found.shape[3]]
                    assert (found == want).all(), (networks, name)
                    spikes += found.size
            measured += int(result.counters[:, :, COUNTERS.index("cycles")].sum())
            predicted += sum(layer.cycles for array in inputs
                             for layer in cycles.simulate(image, array).layers)
    assert spikes > 1000
    assert measured == pytest.approx(predicted, rel=0.02)


def test_bad_input(capsys):
    assert main(["check", "netlist", "--images", "0"]) == 2
    assert "--images 0 is below 1" in capsys.readouterr().err
    assert main(["check", "netlist", "--family", "max10"]) == 2
    assert "xc7" in capsys.readouterr().err
