"""One wrong line in a copy of the sources: what tests must notice, and what proofs must."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """Replaces `old`, which occurs exactly once in `file`, by `new`; `why` says what is wrong then.

    Keep `old` as short as it can be. tests: arguments of pytest that judge it; (): the regression's
    networks.
    """

    file: str
    old: str
    new: str
    why: str
    tests: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bug:
    """A wrong line, the proof that must notice, and how the name of the failed claim begins.

    depth: cycles from reset in which it shows, where the proof's own depth is that of an induction;
    without it, a step of the induction must fail.
    quick: part of the test suite.
    """

    proof: str
    claim: str
    mutation: Mutation
    depth: int | None = None
    quick: bool = False

    @property
    def name(self) -> str:
        return f"{self.proof}: {self.mutation.why}"


def bad(file: str, *entries: tuple[str, str, str],
        tests: tuple[str, ...] = ()) -> tuple[Mutation, ...]:
    """Mutations of one file: (old, new, why) each."""
    return tuple(Mutation(file, *entry, tests) for entry in entries)


def bug(proof: str, claim: str, file: str, old: str, new: str, why: str,
        depth: int | None = None, quick: bool = False) -> Bug:
    """A bug in `hw/FILE.py`."""
    return Bug(proof, claim, Mutation(f"hw/{file}.py", old, new, why), depth, quick)
