"""LiteDRAM's controller and PHY of a board's DDR3, made by its generator when a board is built.

The generator is Python (extra `dram`) and runs in a process of its own. Its Verilog becomes RTLIL,
so that a design with it is one text like any other. Nothing of it is kept in the repository.
"""

from __future__ import annotations

import csv
import importlib.metadata
import re
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import yaml

from hw.ddr3_control import CLOCK_HZ, MODES, READ_PHASE, WRITE_PHASE, Control
from sw.errors import ProgramFailed, ProgramMissing

from . import tools

PACKAGE = "litedram"
EXTRA = "pip install 'spiketicket[dram]', or pip install -e '.[dram]' in this folder"

NAME = "litedram"
"""Of the Verilog module."""

CHIP = "MT41K128M16"

SETTINGS = {
    "cpu": None, "device": "xc7a35tcsg324-1", "speedgrade": -1, "memtype": "DDR3",
    "sdram_module": CHIP, "sdram_module_nb": 2, "sdram_rank_nb": 1, "sdram_phy": "A7DDRPHY",
    "cmd_latency": 0, "input_clk_freq": 100e6, "sys_clk_freq": float(CLOCK_HZ),
    "iodelay_clk_freq": 200e6,
    # Four commands a bank, and rows that stay open: streams read a row in order, and every LUT
    # is one that engines do not have.
    "cmd_buffer_depth": 4, "with_auto_precharge": False,
    "user_ports": {"lines": {"type": "native"}},
}
"""For `litedram_gen`; the speed grade is the oscillator's and PLL's, -1L is not slower there."""


def version() -> str:
    """Of the package. Raises ProgramMissing naming how to get it."""
    try:
        return importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        raise ProgramMissing(f"a core with DDR3 needs the Python package {PACKAGE}; get it: "
                             f"{EXTRA}") from None

SIMULATED = {"user_ports": {"lines": {"type": "native", "block_until_ready": False}},
             "refresh_zqcs_freq": 200e3}
"""What is other in simulation."""


@cache
def verilog(*, simulated: bool = False) -> str:
    """The core as Verilog without comments, whose only module is NAME.

    simulated: with the model of the chip that LiteDRAM has in place of PHY and pads, ready from the
    beginning on; the calibration that comes once a second comes with every refresh.
    Raises ProgramMissing where the package is not installed, ProgramFailed where the generator
    fails, gives a register another place than `hw.ddr3_control` does, or wants other modes.
    """
    version()
    settings = SETTINGS | (SIMULATED if simulated else {})
    with tempfile.TemporaryDirectory(prefix="spiketicket-") as folder:
        place = Path(folder)
        (place / "core.yml").write_text(yaml.safe_dump(settings))
        done = subprocess.run(
            [sys.executable, "-m", "litedram.gen", "core.yml", "--no-compile", "--output-dir",
             "out", "--name", NAME, *(["--sim"] if simulated else [])],
            cwd=place, capture_output=True, text=True, check=False)
        made = place / "out" / "gateware" / f"{NAME}.v"
        # With a model it ends at a library of its own simulator, its Verilog being written.
        if not made.exists() or (done.returncode and not simulated):
            said = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ProgramFailed(f"LiteDRAM's generator (version {version()}) failed: {said}")
        if not simulated:
            check_registers((place / "out" / "csr.csv").read_text())
            check_modes((place / "out" / "software/include/generated/sdram_phy.h").read_text())
        return re.sub(r"/\*.*?\*/|//[^\n]*", "", made.read_text(), flags=re.DOTALL)


def check_registers(table: str) -> None:
    """Raises ProgramFailed naming a register that is elsewhere than the host looks for it.

    table: the generator's csr.csv.
    """
    places = {row[1]: int(row[2], 0) // 4 for row in csv.reader(table.splitlines())
              if row and row[0] == "csr_register"}
    wrong = [name for name in Control.__members__ if places.get(name) != Control[name]]
    if wrong:
        raise ProgramFailed(
            f"LiteDRAM {version()} has the register {wrong[0]} at {places.get(wrong[0])}, not at "
            f"{Control[wrong[0]].value}, where the host looks for it; install the version that "
            "constraints.txt names")


def check_modes(header: str) -> None:
    """Raises ProgramFailed where the chip's modes or the phases of commands are not the host's.

    header: the generator's sdram_phy.h, C for a processor that we do not have.
    """
    found = re.findall(
        r"pi0_address_write\((\w+)\);\s*sdram_dfii_pi0_baddress_write\((\d+)\);\s*"
        r"command_p0\(DFII_COMMAND_RAS\|DFII_COMMAND_CAS\|DFII_COMMAND_WE\|DFII_COMMAND_CS\)",
        header)
    modes = tuple((int(bank), int(mode, 0)) for mode, bank in found)
    phases = tuple(int(number) for number in re.findall(
        r"define SDRAM_PHY_(?:RD|WR)PHASE (\d+)", header))
    if (modes, phases) != (MODES, (READ_PHASE, WRITE_PHASE)):
        raise ProgramFailed(
            f"LiteDRAM {version()} sets up the chip in another way than the host does: modes "
            f"{modes}, phases {phases}; install the version that constraints.txt names")


def rtlil(name: str) -> str:
    """The core as RTLIL, its module called `name`. Raises as `verilog`, and without a Yosys."""
    with tempfile.TemporaryDirectory(prefix="spiketicket-") as folder:
        place = Path(folder)
        (place / "core.v").write_text(verilog())
        (place / "core.ys").write_text(
            f"read_verilog core.v\nrename {NAME} \\{name}\nattrmap -remove src\n"
            "attrmap -modattr -remove src\nwrite_rtlil core.il\n")
        tools.run(tools.need("yosys"), ["-q", "-s", "core.ys"], place, "core.log")
        lines = (place / "core.il").read_text().splitlines(keepends=True)
        return "".join(line for line in lines if not line.startswith(("#", "autoidx")))
