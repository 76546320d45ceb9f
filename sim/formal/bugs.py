"""Seeded bugs: does every checker notice what it is there for?

Each is one wrong line in a copy of the gateware; the proof must fail there, at the claim named.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sim.mutate import ROOT, changed
from sim.units import collected
from sim.wrong_lines import Bug

from .run import Outcome, environment

COPIED = ("hw", "sw", "sim")


BUGS: tuple[Bug, ...] = tuple(collected("BUGS"))


def judge(bug: Bug, folder: Path) -> Outcome:
    """Run the bug's proof on a broken copy of the sources in `folder`."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=folder) as name:
        tree = Path(name)
        for part in COPIED:
            shutil.copytree(ROOT / part, tree / part,
                            ignore=shutil.ignore_patterns("__pycache__"))
        (tree / bug.mutation.file).write_text(changed(bug.mutation, ROOT))
        command = [sys.executable, "-m", "sw.cli", "check", "proofs", "--json", "--jobs", "1",
                   "--only", bug.proof]
        if bug.depth:
            command += ["--depth", str(bug.depth)]
        run = subprocess.run(
            command, cwd=tree, capture_output=True, text=True,
            env=os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1",
                              "SPIKETICKET_CACHE": str(tree / "cache")})
    if run.returncode == 2 or not run.stdout.startswith("["):
        lines = run.stderr.strip().splitlines() or ["?"]
        verdict, how, result = "error", lines[-1], {}
    else:
        result = json.loads(run.stdout)[0]
        verdict, how = result["verdict"], result["how"]
        if verdict in ("failed", "unknown"):
            # Some show only after many cycles, but at once in the step of an induction.
            claim = how.split(": ")[-1]
            verdict = "caught" if claim.startswith(bug.claim) else "elsewhere"
        elif verdict in ("proved", "holds"):
            verdict = "survived"
    return Outcome(bug.name, verdict, result.get("depth", 0), result.get("claims", 0),
                   round(time.monotonic() - began, 1), how)


def check(bugs: Sequence[Bug], *, jobs: int = 1,
          report: Callable[[Outcome], None] = lambda outcome: None) -> list[Outcome]:
    """Verdict "caught" for each bug, or "survived", "elsewhere" (another claim failed) or "error".

    Raises SpikeTicketError if the tools are missing or a bug's text is no longer there.
    """
    for bug in bugs:
        changed(bug.mutation, ROOT)
    with tempfile.TemporaryDirectory(prefix="spiketicket-formal-") as name:
        folder = Path(name)
        environment(folder)
        with ThreadPoolExecutor(jobs) as pool:
            def one(bug: Bug) -> Outcome:
                outcome = judge(bug, folder)
                report(outcome)
                return outcome
            return list(pool.map(one, bugs))
