"""The proofs and what comes of them, chosen and printed (`spiketicket check proofs`)."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

from tqdm import tqdm

from sw.errors import BadInput, near

from . import load
from .bugs import BUGS
from .bugs import check as check_bugs
from .harness import Proof
from .run import Outcome, run


def select(names: Sequence[str] | None, quick: bool = False) -> list[Proof]:
    """Proofs whose names contain one of `names` (None: all), in the registry's order.

    Raises BadInput, with the nearest names, for a name that fits no proof.
    """
    registry = load()
    for name in names or ():
        if not any(name in known for known in registry):
            close = near(name, {part for known in registry for part in re.split("[./]", known)})
            raise BadInput(f"--only {name!r} is in no proof's name; "
                           + (f"did you mean {' or '.join(close)}?" if close else "see --list"))
    return [proof for proof in registry.values()
            if (names is None or any(name in proof.name for name in names))
            and (proof.quick or not quick)]


def table(outcomes: Sequence[Outcome]) -> str:
    lines = [f"{'proof':32} {'verdict':9} {'depth':>5} {'claims':>6} {'s':>6}"]
    for o in outcomes:
        how = "".join(f"  {text}" for text in (o.how, o.trace) if text)
        lines.append(f"{o.name:32} {o.verdict:9} {o.depth:5} {o.claims:6} {o.seconds:6.1f}{how}")
    counts: dict[str, int] = {}
    for o in outcomes:
        counts[o.verdict] = counts.get(o.verdict, 0) + 1
    claims, seconds = sum(o.claims for o in outcomes), sum(o.seconds for o in outcomes)
    lines.append(", ".join(f"{n} {verdict}" for verdict, n in sorted(counts.items()))
                 + f"; {claims} claims, {seconds:.0f} s")
    return "\n".join(lines)


def listed(proofs: Sequence[Proof]) -> list[dict]:
    """What is proved, JSON-ready."""
    return [{"name": p.name, "statement": p.statement, "scope": p.scope, "depth": p.depth,
             "induction": p.induction, "quick": p.quick} for p in proofs]


def show_list(proofs: list[dict]) -> None:
    """Print what `listed` returned."""
    for p in proofs:
        kind = f"induction, {p['depth']} steps" if p["induction"] else f"{p['depth']} cycles"
        print(f"{p['name']}  [{kind}{', quick' if p['quick'] else ''}]\n    {p['statement']}\n"
              f"    at: {p['scope']}")


def check(only: Sequence[str] | None = None, *, quick: bool = False, depth: int | None = None,
          bugs: bool = False, jobs: int = 1) -> list[Outcome]:
    """Outcomes of the proofs (see `select`), or of their seeded bugs, each told when it is there.

    depth: of `run`. Raises SpikeTicketError.
    """
    proofs = select(only, quick)
    names = {proof.name for proof in proofs}
    seeded = [bug for bug in BUGS if bug.proof in names]
    with tqdm(total=len(seeded if bugs else proofs), unit="proof", disable=None) as bar:
        def report(outcome: Outcome) -> None:
            bar.update()
            bar.write(f"{outcome.name}: {outcome.verdict} ({outcome.seconds:.0f} s) "
                      f"{outcome.how}", sys.stderr)

        if bugs:
            return check_bugs(seeded, jobs=jobs, report=report)
        return run(proofs, jobs=jobs, depth=depth, report=report)
