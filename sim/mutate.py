"""Mutation check: does the regression notice every wrong line?

    spiketicket check mutations                 all mutations of sim.mutations
    spiketicket check mutations --only 3 17     some of them
    spiketicket check mutations --list          what there is

Each mutation is applied alone to a copy of the sources, and `sim.regression` runs on the copy:
gateware mutations against the cases of the unchanged tree, all others from the start. Mutations of
the link, which the regression does without, and of what its networks never come to are judged by
their tests.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from sw.errors import BadInput, SpikeTicketError

from .mutations import MUTATIONS
from .wrong_lines import Mutation

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("hw", "sw", "sim", "tests")
INVALID = ("SyntaxError", "IndentationError", "NameError", "ImportError", "ModuleNotFoundError",
           "AttributeError")
"""A mutation that ends in one of these is a mistake in the mutation, not a catch."""

SHARED = ("hw/program.py", "hw/config.py", "hw/registers.py")
"""Gateware sources that the compiler uses too."""


@dataclass
class Outcome:
    """Result of one mutation: "caught", "survived" or "invalid"; how it showed; seconds."""

    number: int
    file: str
    why: str
    verdict: str
    how: str
    seconds: float


def changed(mutation: Mutation, root: Path) -> str:
    """The mutated file's text. Raises SpikeTicketError where `old` is not there exactly once."""
    path = root / mutation.file
    text = path.read_text() if path.exists() else ""
    count = text.count(mutation.old)
    if count != 1 or mutation.old == mutation.new:
        raise SpikeTicketError(
            f"mutation {mutation.why!r}: {mutation.old!r} occurs {count} times in {mutation.file}; "
            "bring the mutations (sim/units, sim/mutations.py) up to date")
    return text.replace(mutation.old, mutation.new)


def copy_tree(target: Path) -> None:
    """Copy the sources, with their caches of compiled code, which go by content and time."""
    for name in COPIED:
        shutil.copytree(ROOT / name, target / name)


class Bench:
    """Runs the regression on copies of the tree; `work` keeps the unchanged tree's cases."""

    def __init__(self, work: Path):
        self.work, self.cases = work, work / "cases"
        self.limit = 1800.0         # of the unchanged tree: 4 minutes on a core of its own

    def baseline(self, mutations: Sequence[Mutation]) -> float:
        """Run on the unchanged tree what judges these. Raises SpikeTicketError if it does not pass;
        returns seconds."""
        began = time.monotonic()
        for tests in dict.fromkeys(mutation.tests for mutation in mutations):
            code, how = (self._test(ROOT, tests) if tests
                         else self._run(ROOT, "--cases", str(self.cases)))
            if code:
                raise SpikeTicketError(f"{tests[0] if tests else 'the regression'} fails without a "
                                       f"mutation: {how}; repair that first")
        seconds = time.monotonic() - began
        self.limit = max(300.0, 10 * seconds)
        return seconds

    def judge(self, number: int, mutation: Mutation) -> Outcome:
        began = time.monotonic()
        with tempfile.TemporaryDirectory(dir=self.work) as folder:
            tree = Path(folder)
            copy_tree(tree)
            (tree / mutation.file).write_text(changed(mutation, ROOT))
            if mutation.tests:
                code, how = self._test(tree, mutation.tests)
            elif mutation.file.startswith("hw/") and mutation.file not in SHARED:
                code, how = self._run(tree, "--gateware", str(self.cases))
            else:
                code, how = self._run(tree, "--cases", str(tree / "cases"))
        verdict = "survived" if not code else "caught"
        if how.startswith(INVALID):
            verdict = "invalid"
        return Outcome(number, mutation.file, mutation.why, verdict, how,
                       round(time.monotonic() - began, 1))

    def _run(self, tree: Path, *arguments: str) -> tuple[int, str]:
        """Exit code of the regression and the last line that it wrote to standard error."""
        code, _, errors = self._call(tree, "sw.cli", "check", "regression", *arguments)
        return code, ["", *errors.strip().splitlines()][-1]

    def _test(self, tree: Path, tests: Sequence[str]) -> tuple[int, str]:
        """Exit code of pytest and its first line that says what failed."""
        code, output, _ = self._call(tree, "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests)
        lines = [line[1:].strip() for line in output.splitlines() if line.startswith("E  ")]
        return code, [*lines, ""][0]

    def _call(self, tree: Path, module: str, *arguments: str) -> tuple[int, str, str]:
        environment = os.environ | {
            "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1",
            "SPIKETICKET_CACHE": str(self.work / "cache")}
        try:
            done = subprocess.run(
                [sys.executable, "-m", module, *arguments], cwd=tree, env=environment,
                capture_output=True, text=True, timeout=self.limit)
        except subprocess.TimeoutExpired:
            late = f"no answer after {self.limit:.0f} s"
            return 1, f"E  {late}", late
        return done.returncode, done.stdout, done.stderr


def run(numbers: Sequence[int], jobs: int, progress: bool = True) -> list[Outcome]:
    """Judge mutations by their numbers (from 0) in MUTATIONS, `jobs` at a time."""
    with tempfile.TemporaryDirectory(prefix="spiketicket-mutate-") as folder:
        bench = Bench(Path(folder))
        seconds = bench.baseline([MUTATIONS[number] for number in numbers])
        bar = tqdm(total=len(numbers), desc=f"mutations (baseline {seconds:.0f} s)",
                   disable=not progress)
        with ThreadPoolExecutor(jobs) as pool, bar:
            def one(number: int) -> Outcome:
                outcome = bench.judge(number, MUTATIONS[number])
                bar.update()
                if outcome.verdict != "caught" and progress:
                    bar.write(f"{number}: {outcome.verdict}: {outcome.why} ({outcome.how})")
                return outcome

            return list(pool.map(one, numbers))


def table(outcomes: Sequence[Outcome]) -> str:
    lines = [f"{'no':>3}  {'verdict':8} {'s':>6}  {'file':24} what is wrong: how it shows"]
    lines += [f"{o.number:3}  {o.verdict:8} {o.seconds:6.1f}  {o.file:24} {o.why}: {o.how[:110]}"
              for o in outcomes]
    counts = {verdict: sum(o.verdict == verdict for o in outcomes)
              for verdict in ("caught", "survived", "invalid")}
    lines.append(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    return "\n".join(lines)


def check(only: Sequence[int] | None, jobs: int, progress: bool = True) -> list[Outcome]:
    """`run` for these numbers (None: all), when all mutations apply. Raises SpikeTicketError."""
    for number in only or ():
        if not 0 <= number < len(MUTATIONS):
            raise BadInput(f"--only {number} is outside 0..{len(MUTATIONS) - 1}; see --list")
    for mutation in MUTATIONS:
        changed(mutation, ROOT)
    return run(only or range(len(MUTATIONS)), jobs, progress)


def listing() -> str:
    """What there is, a line each."""
    return "\n".join(f"{number:3}  {m.file:24} {m.why}" for number, m in enumerate(MUTATIONS))
