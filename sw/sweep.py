"""Sweeps: a ticket search per cell of a grid, on all cores or a Ray cluster; one table of results.

`spiketicket find sweep` says what a sweep's YAML file holds and what is written.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from tqdm import tqdm

from .errors import BadInput, ProgramMissing
from .sweeps.plan import Plan
from .sweeps.pools import has_ray, on_processes, on_ray
from .sweeps.progress import Watch
from .sweeps.table import finished, rows_of, write_cell, write_table

TABLE_SECONDS = 10
"""Between two writings of the table while cells run."""


def run_plan(plan: Plan, out: str | Path, *, pool: str = "auto", jobs: int | None = None,
             threads: int = 1, address: str | None = None) -> list[dict]:
    """Run the cells that are not finished, write the table; returns its rows.

    pool: "ray", "processes", or "auto" (Ray where it is installed). jobs: cells at a time (None:
    cores / threads). address: of a Ray cluster, "auto" for the one this host belongs to.
    """
    if pool not in ("auto", "ray", "processes"):
        raise BadInput(f"pool {pool!r} is not auto, ray or processes")
    if address and pool == "processes":
        raise ProgramMissing(f"--address {address} is Ray's; leave out --pool processes")
    if (address or pool == "ray") and not has_ray():
        raise ProgramMissing("Ray is not installed; pip install 'spiketicket[sweep]', or "
                             "--pool processes")
    if threads < 1 or (jobs is not None and jobs < 1):
        raise BadInput(f"jobs {jobs} and threads {threads} must be at least 1")
    from .tickets.checkpoint import locked
    out = Path(out)
    (out / "cells").mkdir(parents=True, exist_ok=True)
    with locked(out):
        left = [(cell, str((out / "cells" / cell.id).resolve())) for cell in plan.cells
                if finished(out, cell) is None]
        workers = min(jobs or max(1, (os.cpu_count() or 1) // threads), max(1, len(left)))
        use_ray = bool(address) or pool == "ray" or (pool == "auto" and has_ray())
        outcomes = (on_ray(plan.run, left, workers, threads, address) if use_ray
                    else on_processes(plan.run, left, workers, threads))
        with (tqdm(total=len(plan.cells), initial=len(plan.cells) - len(left), unit="cell",
                   smoothing=0.1) as bar, Watch(bar, left, plan.axes, time.time())):
            failed, written = 0, time.monotonic()
            for cell, outcome in outcomes if left else ():
                write_cell(out, cell, outcome)
                if "error" in outcome:
                    failed += 1
                    bar.write(f"{cell.text(plan.axes) or cell.id}: {outcome['error']}",
                              file=sys.stderr)
                bar.set_postfix_str(f"{cell.text(plan.axes)} failed={failed}")
                bar.update()
                if time.monotonic() - written > TABLE_SECONDS:
                    write_table(out, rows_of(plan, out))
                    written = time.monotonic()
        rows = rows_of(plan, out)
        write_table(out, rows)
    return rows


def show(rows: list[dict], plan: Plan) -> None:
    """Print every cell with its status, and how many there are of each."""
    for row, cell in zip(rows, plan.cells, strict=True):
        print(f"{row['cell']}  {row['status']:6}  {cell.text(plan.axes)}")
    counts = {s: sum(row["status"] == s for row in rows) for s in ("done", "failed", "to do")}
    print(f"{counts['done']} done, {counts['failed']} failed, {counts['to do']} to do")
