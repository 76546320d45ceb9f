"""`spiketicket check files`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sim import fuzz_files
from sim.fuzz_targets import TARGETS

from .options import Json, exclusive, flag, number, one_of, out_folder, put


def files(*, target: Annotated[list[one_of(sorted(TARGETS))] | None, Parameter(
              help="loaders (default: all)", consume_multiple=True)] = None,
          cases: Annotated[int | None, number("files for each loader (default: 300)", 1)] = None,
          minutes: Annotated[float | None, number(
              "instead of --cases: how long, shared by the loaders", 1e-6)] = None,
          seed: Annotated[int, number("of the first file", 0)] = 0,
          out: Annotated[Path, out_folder("for findings")] = Path("runs/fuzz"),
          coverage: Annotated[bool, flag(
              "guided by coverage (needs atheris), one loader")] = False,
          replay: Annotated[list[Path] | None, Parameter(
              help="check saved findings again", consume_multiple=True)] = None,
          json: Json = False) -> int:
    """Broken and hostile files for every loader.

    A case passes if the loader gives a result or raises SpikeTicketError with one
    line, holds no more memory than it may, takes at most 10 s, and starts no
    program, opens no connection, writes no file, imports and unpickles nothing.
    Each loader runs in a process of its own, so that a crash of a compiled
    library is a finding too. Exit code 1 if there is any.

    examples:
      spiketicket check files --minutes 10                  # all loaders in turn
      spiketicket check files --target ticket sweep --cases 2000 --seed 7
      spiketicket check files --target ticket --coverage --minutes 60
      spiketicket check files --replay findings/ticket-0123456789ab
    """
    exclusive(cases=cases, minutes=minutes)
    if replay:
        return fuzz_files.replay(replay)
    rows = fuzz_files.run(target or list(TARGETS), cases, minutes, seed, out, coverage)
    put(rows, json, fuzz_files.show)
    return int(any(row["findings"] for row in rows))
