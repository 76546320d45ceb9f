"""Sweeps: a ticket search per cell of a grid, on all cores or a Ray cluster; one table of results.

A YAML file says what is swept::

    base:                            # settings of every cell, see sw.tickets.config
      model: 16p-32p-64
      data: fashion-mnist
      epochs: 4
    sweep:                           # one grid (the product of its lists), or a list of grids
      - sparsity: [0.2, 0.5, 0.8]
      - timesteps: [1, 2, 4]
      - decay: [0.99, 0.8, 0.6]
    seed: [0, 1, 2]                  # of every cell of every grid
    metric: accuracy_ticket          # what the plots show (default: the first accuracy there is)

Writes OUT/results.csv (one line per cell; results.parquet too where pyarrow is installed),
OUT/cells/ID.json (one cell's settings and result) and OUT/plots/*.svg. A finished cell is not run
again: the same command goes on after an interrupt, and after more values were added to the file.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

from tqdm import tqdm

from . import outputs
from .errors import SpikeTicketError, command
from .sweeps.plan import DEFAULT_RUN, Plan, read_plan
from .sweeps.pools import has_ray, on_processes, on_ray
from .sweeps.table import finished, rows_of, write_cell, write_table

EXAMPLES = """\
examples:
  python -m sw.sweep --config sweep.yaml --out runs/sweep             # all cores
  python -m sw.sweep --config sweep.yaml --out runs/sweep --list      # cells, and which are done
  python -m sw.sweep --config sweep.yaml --address auto               # the Ray cluster of this host
  python -m sw.sweep --config sweep.yaml --out runs/sweep --plot-only --metric spike_rate
"""
TABLE_SECONDS = 10
"""Between two writings of the table while cells run."""


def run_plan(todo: Plan, out: str | Path, *, pool: str = "auto", jobs: int | None = None,
             threads: int = 1, address: str | None = None) -> list[dict]:
    """Run the cells that are not finished, write the table; returns its rows.

    pool: "ray", "processes", or "auto" (Ray where it is installed). jobs: cells at a time (None:
    cores / threads). address: of a Ray cluster, "auto" for the one this host belongs to.
    """
    if pool not in ("auto", "ray", "processes"):
        raise SpikeTicketError(f"pool {pool!r} is not auto, ray or processes")
    if address and pool == "processes":
        raise SpikeTicketError(f"--address {address} is Ray's; leave out --pool processes")
    if (address or pool == "ray") and not has_ray():
        raise SpikeTicketError("Ray is not installed; pip install 'spiketicket[sweep]', or "
                               "--pool processes")
    if threads < 1 or (jobs is not None and jobs < 1):
        raise SpikeTicketError(f"jobs {jobs} and threads {threads} must be at least 1")
    from .tickets.checkpoint import locked
    out = Path(out)
    (out / "cells").mkdir(parents=True, exist_ok=True)
    with locked(out):
        left = [(cell, str((out / "cells" / cell.id).resolve())) for cell in todo.cells
                if finished(out, cell) is None]
        workers = min(jobs or max(1, (os.cpu_count() or 1) // threads), max(1, len(left)))
        use_ray = bool(address) or pool == "ray" or (pool == "auto" and has_ray())
        outcomes = (on_ray(todo.run, left, workers, threads, address) if use_ray
                    else on_processes(todo.run, left, workers, threads))
        with tqdm(total=len(todo.cells), initial=len(todo.cells) - len(left), unit="cell",
                  smoothing=0.1) as bar:
            failed, written = 0, time.monotonic()
            for cell, outcome in outcomes if left else ():
                write_cell(out, cell, outcome)
                if "error" in outcome:
                    failed += 1
                    bar.write(f"{cell.text(todo.axes) or cell.id}: {outcome['error']}",
                              file=sys.stderr)
                bar.set_postfix_str(f"{cell.text(todo.axes)} failed={failed}")
                bar.update()
                if time.monotonic() - written > TABLE_SECONDS:
                    write_table(out, rows_of(todo, out))
                    written = time.monotonic()
        rows = rows_of(todo, out)
        write_table(out, rows)
    return rows


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    p = argparse.ArgumentParser(prog="python -m sw.sweep", description=__doc__, epilog=EXAMPLES,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    add = p.add_argument
    add("--config", required=True, metavar="YAML", help="what is swept, see above")
    add("--out", type=outputs.folder, default="runs/sweep",
        help="folder of the sweep (default: %(default)s)")
    add("--pool", choices=("auto", "ray", "processes"), default="auto",
        help="auto: Ray where it is installed, else a pool of processes; the results are the same")
    add("--address", help="of a Ray cluster; its nodes have SpikeTicket installed and share --out")
    add("--jobs", type=int, help="cells at a time (default: cores / threads)")
    add("--threads", type=int, default=1, help="CPU threads of a cell (default: %(default)s)")
    add("--run", metavar="MODULE:FUNCTION", help="allow the file to run this function instead of "
        "a ticket search, when it says so (run: module:function)")
    add("--metric", help="what the plots show, a column of the table")
    add("--list", action="store_true", help="print the cells and their status, run nothing")
    add("--plot-only", action="store_true", help="run nothing, draw the plots again")
    add("--json", action="store_true", help="print the table as one JSON object")
    return p.parse_args(argv)


@command
def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code (1: cells failed, 2: bad input, 130: interrupted)."""
    args = _arguments(argv)
    todo = read_plan(args.config)
    out = Path(args.out)
    if args.list or args.plot_only:
        rows = rows_of(todo, out)
    elif todo.run not in (DEFAULT_RUN, args.run):
        raise SpikeTicketError(f"{args.config}: runs {todo.run!r}, which is code; if you trust "
                               f"it, add --run {todo.run}")
    else:
        rows = run_plan(todo, out, pool=args.pool, jobs=args.jobs, threads=args.threads,
                        address=args.address)
    plots = []
    if not args.list:
        from .sweeps.plots import write_plots
        plots = write_plots(rows, todo.axes, out / "plots", args.metric or todo.metric)
    if args.json:
        print(json.dumps({"out": str(out), "rows": rows, "plots": [str(p) for p in plots]}))
    else:
        for row, cell in zip(rows, todo.cells, strict=True):
            print(f"{row['cell']}  {row['status']:6}  {cell.text(todo.axes)}")
        counts = {s: sum(row["status"] == s for row in rows) for s in ("done", "failed", "to do")}
        print(f"{counts['done']} done, {counts['failed']} failed, {counts['to do']} to do"
              + ("" if args.list else f"; {out / 'results.csv'}, {len(plots)} plots"))
    return int(any(row["status"] == "failed" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
