"""The simulated board with the synthesised netlist in the place of the gateware.

    spiketicket check netlist --family xc7 --images 2
    spiketicket check netlist --family xc7 --preset tiny --build      # synthesise and compile only

Yosys maps `hw.top.Top` to the cells of the FPGA; Verilator compiles the netlist with Yosys' models
of these cells, and those of `sim/cells` where Yosys has only a black box. Then the driver loads and
runs a ticket as on any board: logits and every spike must equal the reference, all counters and the
cycles of every run those of the gateware.

With --strict no block RAM promises anything where one port reads what the other writes, whatever
the vendor says: a design that passes never uses such data.

Netlists and builds are kept in ~/.cache/spiketicket (or $SPIKETICKET_CACHE) by content.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from hw.boards import BOARDS, DEVICES
from hw.build import tools, yosys
from hw.build.design import platform_of
from hw.config import PRESETS, CoreConfig
from sw import bundled
from sw.errors import SpikeTicketError
from sw.run_inference import run as run_inference

from . import board

CELLS = Path(__file__).with_name("cells")
OWN = {"xc7": ("RAMB18E1", "RAMB36E1"), "ecp5": ("DP16KD", "MULT18X18D")}
"""Cells that Yosys knows only by their ports; `sim/cells` has models of them."""

FAST = ("-O1",)
_VERILATOR = ("-Wno-INITIALDLY", "-Wno-COMBDLY", "-Wno-SPECIFYIGN", "-DNO_INCLUDES",
              "--output-split", "100000", "--output-split-cfuncs", "2000")
_KEPT = 4


def build_key(config: CoreConfig, family: str, *, strict: bool = False) -> str:
    """Hash of all that a build depends on."""
    digest = hashlib.sha256(_netlist_key(config, family).encode())
    digest.update(json.dumps([strict, FAST, _VERILATOR]).encode())
    for path in _models(family):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:20]


def _netlist_key(config: CoreConfig, family: str) -> str:
    script = yosys.script(family, "top", "top", pads=False, verilog=True)
    parts = [board.build_key(config), script, tools.need("yosys").version,
             Path(yosys.__file__).read_text(), yosys.libraries(family)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:20]


def _models(family: str) -> list[Path]:
    files = [CELLS / "block_ram.v", *(CELLS / f"{family}.{kind}" for kind in ("v", "vlt"))]
    return [path for path in files if path.exists()]


def netlist(config: CoreConfig, family: str, *, progress: bool = True) -> yosys.Synthesis:
    """The board's top level (`board.top_level`) as cells of a family; synthesised once."""
    from amaranth.back import rtlil

    folder = board.cache_directory() / f"netlist-{family}-{_netlist_key(config, family)}"
    if (folder / "done").exists():
        return yosys.opened(family, "top", folder, name="top")
    top, ports = board.top_level(config)
    with tqdm(desc=f"synthesis for {family}", unit=" lines", leave=False,
              disable=None if progress else True) as bar:
        def watch(line: str) -> None:
            bar.update()
            if stage := yosys.stage(line):
                bar.set_postfix_str(stage)

        # A platform of the family: with it the design takes the cells that it names itself.
        platform = platform_of(next(board for board in BOARDS.values() if board.part
                                    and DEVICES[board.device].family == family))
        text = rtlil.convert(top, name="top", platform=platform, ports=ports)
        result = yosys.synthesise(text, family, "top", folder, name="top", pads=False,
                                  verilog=True, watch=watch)
    (folder / "done").touch()
    old = sorted(folder.parent.glob("netlist-*-*/"), key=lambda path: -path.stat().st_mtime)
    for path in old[_KEPT:]:
        shutil.rmtree(path, ignore_errors=True)
    return result


def cell_library(family: str) -> str:
    """Yosys' models of a family's cells, without those that `sim/cells` replaces."""
    text = ""
    for name in yosys.cell_models(family)[:1]:
        path = yosys.share_folder() / name.removeprefix("+/")
        text += path.read_text()
    for cell in OWN[family]:
        text = re.sub(rf"(?ms)^module {cell}\b.*?^endmodule", "", text)
    return text


def build(config: CoreConfig, family: str, *, strict: bool = False, progress: bool = True,
          force: bool = False) -> Path:
    """A library for `board.SimTransport` made from the netlist, unless that has been done.

    strict: block RAMs give noise wherever one port reads what the other writes.
    Raises SpikeTicketError where a tool is missing or fails.
    """
    key = build_key(config, family, strict=strict)
    library = board.cache_directory() / f"netlist-{family}-{key}.so"
    if library.exists() and not force:
        return library
    found = netlist(config, family, progress=progress)

    def sources() -> dict[str, str]:
        return {"top.v": found.verilog.read_text(), "library.v": cell_library(family),
                **{path.name: path.read_text() for path in _models(family)}}

    include = [f"-I{(yosys.share_folder() / name.removeprefix('+/')).parent}"
               for name in yosys.cell_models(family)[:1]]
    strictly = ["-DBLOCK_RAM_STRICT"] if strict else []
    board.compile_verilog(sources, library, fast=FAST, progress=progress,
                          options=[*_VERILATOR, *include, *strictly])
    board.keep_newest(library.parent, f"netlist-{family}-*.so")
    return library


class TimedTransport(board.SimTransport):
    """A simulated board that remembers its cycles and its time when it is closed."""

    def __init__(self, config: CoreConfig, library: Path, name: str):
        super().__init__(config, library=library)
        self.name, self._since = name, time.monotonic()
        self.total_cycles, self.seconds = 0, 0.0

    def close(self) -> None:
        if self._board is not None:
            self.total_cycles, self.seconds = self.cycles, time.monotonic() - self._since
        super().close()


def run(preset: str = board.DEFAULT_PRESET, family: str = "xc7", *, strict: bool = False,
        ticket: str = bundled.DEFAULT, data: str | None = None, images: int = 2,
        progress: bool = True) -> dict:
    """Run a ticket's first images on the netlist and on the gateware; returns the findings.

    "agrees" is True if every logit and every spike of the netlist equals the reference, and the
    cycles of every run and all its counters those of the gateware.
    """
    if images < 1:
        raise SpikeTicketError(f"--images {images} is not positive")
    config = PRESETS[preset]
    begin = time.monotonic()
    cells = netlist(config, family, progress=progress).cells
    synthesised = time.monotonic()
    library = build(config, family, strict=strict, progress=progress)
    compiled = time.monotonic()
    boards = {"netlist": library, "gateware": board.build(config, progress=progress)}
    found = {}
    for name, path in boards.items():
        transport = TimedTransport(config, path, f"{name} of {preset} ({family})")
        found[name] = (*run_inference(ticket, data, images=images, traced=images,
                                      progress=progress, transport=transport, config=config),
                       transport)
    (values, checked, simulated), (expected, model, _) = found.values()
    same = all(np.array_equal(getattr(checked.result, name), getattr(model.result, name))
               for name in ("cycles", "counters"))
    return {
        "family": family, "preset": preset, "strict": strict, "ticket": ticket, "images": images,
        "cells": dict(sorted(cells.items())),
        "logits_equal": values.logits_equal, "logits_compared": values.logits_compared,
        "spikes_compared": values.spikes_compared,
        "spike_mismatches": values.spike_mismatches, "counters_equal": same,
        "cycles_per_image": values.cycles_per_image,
        "cycles_per_image_gateware": expected.cycles_per_image,
        "cycles": simulated.total_cycles,
        "cycles_per_s": simulated.total_cycles / simulated.seconds,
        "seconds": {"synthesis": synthesised - begin, "compilation": compiled - synthesised,
                    "simulation": simulated.seconds},
        "yosys": tools.need("yosys").version, "agrees": values.agrees and same,
    }


def show(values: dict) -> None:
    """Print what `run` returned."""
    def verdict(equal: bool) -> str:
        return "equal" if equal else "DIFFERENT"

    seconds = values["seconds"]
    rows = {
        "logits": f"{verdict(values['logits_equal'])} to the integer reference "
                  f"({values['logits_compared']:,})",
        "spikes": f"{values['spikes_compared']:,} compared, {values['spike_mismatches']:,} differ",
        "cycles, counters": f"{verdict(values['counters_equal'])} to the gateware's, run by run",
        "cycles per image": f"{values['cycles_per_image']:,.0f}, gateware "
                            f"{values['cycles_per_image_gateware']:,.0f}",
        "cycles simulated": f"{values['cycles']:,}, loading and reading all maps included",
        "block RAM": "nothing promised between ports" if values["strict"] else
                     "as the vendor promises",
        "cells": ", ".join(f"{name} {count:,}" for name, count in values["cells"].items()),
        "simulated at": f"{values['cycles_per_s']:,.0f} cycles/s ({seconds['simulation']:.0f} s; "
                        f"synthesis {seconds['synthesis']:.0f} s, compilation "
                        f"{seconds['compilation']:.0f} s; 0 s: kept from before)",
    }
    print(f"{values['ticket']}, {values['images']} images, netlist of {values['preset']} for "
          f"{values['family']}")
    for name, value in rows.items():
        print(f"{name:22} {value}")
    print("the netlist agrees" if values["agrees"] else "THE NETLIST DIFFERS")
