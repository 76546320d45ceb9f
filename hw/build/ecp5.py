"""ECP5: nextpnr-ecp5 with several seeds in parallel, the best packed into a bitstream."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from sw.errors import SpikeTicketError

from . import timing, tools
from .design import PHY_CLOCK_HZ, TOP, Design
from .routed import Routed, nextpnr_utilisation

SIZES = {"LFE5U-12F": "--12k", "LFE5U-25F": "--25k", "LFE5U-45F": "--45k", "LFE5U-85F": "--85k",
         "LFE5UM-25F": "--um-25k", "LFE5UM-45F": "--um-45k", "LFE5UM-85F": "--um-85k",
         "LFE5UM5G-25F": "--um5g-25k", "LFE5UM5G-45F": "--um5g-45k", "LFE5UM5G-85F": "--um5g-85k"}
PACKAGES = {"BG256": "CABGA256", "MG285": "CSFBGA285", "BG381": "CABGA381", "BG554": "CABGA554",
            "BG756": "CABGA756"}


TIMING_WEIGHT = 40
"""How much the placer minds critical wires (nextpnr's own: 10). One netlist of `e45d`, seed 1:
71.7 MHz with 10, 78.9 with 40."""


def constraints(design: Design) -> str:
    """The LPF file: pins and clocks; from the oscillator's nextpnr derives the PLL's."""
    lines = ["BLOCK ASYNCPATHS;", "BLOCK RESETPATHS;"]
    for pin in design.pins:
        lines.append(f'LOCATE COMP "{pin.port}" SITE "{pin.pin}";')
        if pin.attributes:
            options = " ".join(f"{key}={value}" for key, value in pin.attributes)
            lines.append(f'IOBUF PORT "{pin.port}" {options};')
    for port, hertz in ((design.clock_port, design.clock_in_hz),
                        *((port, PHY_CLOCK_HZ) for port in design.phy_clocks)):
        lines.append(f'FREQUENCY PORT "{port}" {hertz / 1e6:g} MHZ;')
    return "\n".join(lines) + "\n"


def arguments(design: Design, seed: int) -> list[str]:
    """Options of nextpnr-ecp5, file names relative to the work folder."""
    size, package = re.fullmatch(r"(\w+-\d+F)-\d(\w+)", design.board.part).groups()
    speed = re.search(r"F-(\d)", design.board.part)[1]
    return [SIZES[size], "--package", PACKAGES[package], "--speed", speed,
            "--json", "design.json", "--lpf", "design.lpf", "--textcfg", f"seed{seed}.config",
            "--report", f"seed{seed}.report.json", "--freq", f"{design.config.clock_hz / 1e6:g}",
            "--seed", str(seed), "--timing-allow-fail",
            "--placer-heap-timingweight", str(TIMING_WEIGHT)]


def route(design: Design, folder: Path, seeds: Sequence[int], locate: timing.Locate, *,
          done: Callable[[int, float], None] | None = None,
          watch: Callable[[int, str], None] | None = None) -> list[Routed]:
    """Place and route with every seed, as many at a time as there are processors; best first.

    done: called with (seed, MHz); watch: with (seed, line of nextpnr's log).
    Raises SpikeTicketError if nextpnr-ecp5 is missing or fails with every seed.
    """
    tool = tools.need("nextpnr-ecp5")
    (folder / "design.lpf").write_text(constraints(design))

    def one(seed: int) -> Routed:
        tools.run(tool, arguments(design, seed), folder, f"seed{seed}.log",
                  watch=(lambda line: watch(seed, line)) if watch else None)
        found = timing.from_report(folder / f"seed{seed}.report.json", locate)
        if done:
            done(seed, found.clock_mhz)
        return Routed(seed, found, nextpnr_utilisation((folder / f"seed{seed}.log").read_text()),
                      folder / f"seed{seed}.config")

    workers = max(1, min(len(seeds), os.cpu_count() or 1))
    results, failure = [], None
    with ThreadPoolExecutor(workers) as pool:
        jobs = [pool.submit(one, seed) for seed in seeds]
        try:
            for job in as_completed(jobs):
                try:
                    results.append(job.result())
                except SpikeTicketError as error:
                    failure = error
        except BaseException:  # an interrupt: the other seeds must not go on
            pool.shutdown(wait=False, cancel_futures=True)
            while not all(job.done() for job in jobs):
                tools.end_all()
                time.sleep(0.1)
            raise
    if not results:
        raise failure or SpikeTicketError("--seeds 0: no seed to place with")
    return sorted(results, key=lambda routed: (-routed.timing.clock_mhz, routed.seed))


def pack(best: Routed, folder: Path) -> Path:
    """Compressed bitstream of a routed design; an SVF file for JTAG lies beside it."""
    bit = folder / f"{TOP}.bit"
    tools.run(tools.need("ecppack"),
              ["--compress", "--input", best.file.name, "--bit", bit.name, "--svf", f"{TOP}.svf"],
              folder, "ecppack.log")
    return bit
