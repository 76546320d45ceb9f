"""Command line of the proofs."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict

from tqdm import tqdm

from sw.errors import SpikeTicketError, command

from . import load
from .bugs import BUGS, check
from .harness import Proof
from .run import Outcome, run

EXAMPLES = """examples:
  python -m sim.formal                                  everything
  python -m sim.formal --only unit.JobQueue drain       proofs whose names contain these
  python -m sim.formal --only packer.Packer/words --depth 40
  python -m sim.formal --bugs                           does every checker notice its seeded bug?

Exit code: 0 everything is proved (or every bug caught), 1 not everything, 2 bad arguments, missing
tools or a proof that no longer fits the gateware."""


def select(names: Sequence[str] | None, quick: bool = False) -> list[Proof]:
    """Proofs whose names contain one of `names` (None: all), in the registry's order.

    Raises SpikeTicketError, with the nearest names, for a name that fits no proof.
    """
    registry = load()
    for name in names or ():
        if not any(name in known for known in registry):
            near = difflib.get_close_matches(name, registry, 3, 0.3)
            raise SpikeTicketError(f"--only {name!r} is in no proof's name"
                                   + (f"; near: {', '.join(near)}" if near else "")
                                   + "; see --list")
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


def listing(proofs: Sequence[Proof]) -> str:
    lines = []
    for proof in proofs:
        kind = f"induction, {proof.depth} steps" if proof.induction else f"{proof.depth} cycles"
        lines += [f"{proof.name}  [{kind}{', quick' if proof.quick else ''}]",
                  f"    {proof.statement}", f"    at: {proof.scope}"]
    return "\n".join(lines)


@command
def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m sim.formal", epilog=EXAMPLES,
        description="Prove the stream rules of the gateware's queues, streams and arbiter.",
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="only say what is proved, and at what")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="proofs whose names contain NAME")
    parser.add_argument("--quick", action="store_true", help="the subset of the test suite")
    parser.add_argument("--depth", type=int, metavar="N",
                        help="search so many cycles from reset, without induction")
    parser.add_argument("--bugs", action="store_true",
                        help="break copies of the gateware instead, one seeded bug each")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), metavar="J",
                        help="proofs at a time (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args(arguments)
    if options.jobs < 1:
        raise SpikeTicketError(f"--jobs {options.jobs} is below 1; give 1 or more")
    if options.depth is not None and not 1 <= options.depth <= 1000:
        raise SpikeTicketError(f"--depth {options.depth} is outside 1..1000")
    proofs = select(options.only, options.quick)
    if options.list:
        print(json.dumps([{"name": p.name, "statement": p.statement, "scope": p.scope,
                           "depth": p.depth, "induction": p.induction, "quick": p.quick}
                          for p in proofs], indent=1) if options.json else listing(proofs))
        return 0
    names = {proof.name for proof in proofs}
    bugs = [bug for bug in BUGS if bug.proof in names]
    with tqdm(total=len(bugs if options.bugs else proofs), unit="proof",
              disable=None) as bar:
        def report(outcome: Outcome) -> None:
            bar.update()
            bar.write(f"{outcome.name}: {outcome.verdict} ({outcome.seconds:.0f} s) "
                      f"{outcome.how}", sys.stderr)

        if options.bugs:
            outcomes = check(bugs, jobs=options.jobs, report=report)
        else:
            outcomes = run(proofs, jobs=options.jobs, depth=options.depth, report=report)
    if options.json:
        print(json.dumps([asdict(outcome) for outcome in outcomes], indent=1))
    else:
        print(table(outcomes))
    return int(not all(outcome.passed for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
