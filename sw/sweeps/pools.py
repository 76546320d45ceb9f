"""Running the cells of a sweep: on a pool of processes, or as Ray tasks."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

from ..errors import BadInput, SpikeTicketError
from .plan import Cell

Run = Callable[[dict, Path], dict]
"""One cell: settings and a folder of its own -> a result that JSON can hold."""


def search(settings: dict, folder: Path) -> dict:
    """The cell of a sweep over tickets: `sw.tickets.run.run`, which resumes in its folder."""
    from ..tickets import training
    from ..tickets.run import run
    training.keep_freed_memory()
    return run(settings, folder)


def run_cell(run: str, settings: dict, folder: str, threads: int = 1) -> dict:
    """One cell in a worker: {"result": ..., "seconds": ...} or {"error": one line}.

    What the search prints goes to FOLDER.log. One cell's result depends on its settings and on
    `threads` only, so every pool gives the same table.
    """
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(threads)
    began = time.monotonic()
    module, name = run.split(":")
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with (open(f"{folder}.log", "w") as log, contextlib.redirect_stderr(log),
              contextlib.redirect_stdout(log)):
            if "torch" in sys.modules:  # else it will read the environment
                sys.modules["torch"].set_num_threads(threads)
            try:
                function: Run = getattr(importlib.import_module(module), name)
            except (ImportError, AttributeError) as error:
                raise BadInput(f"run {run!r}: cannot be imported ({error})") from error
            result = function(dict(settings), Path(folder))
        json.dumps(result)
    except Exception as error:  # a cell's failure is a line of the table, the others go on
        text = " ".join(str(error).split())
        known = isinstance(error, SpikeTicketError)
        return {"error": text if known else f"{type(error).__name__}: {text}"}
    return {"result": result, "seconds": round(time.monotonic() - began, 2)}


def _end_with_parent(parent: int) -> None:
    """Have Linux end this worker when the sweep is killed; else it would train on, unread."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it died before that
        os._exit(1)


Job = tuple[Cell, str]


def on_processes(run: str, jobs: list[Job], workers: int, threads: int) -> Iterator[
        tuple[Cell, dict]]:
    """Cells on a pool of processes, as they finish."""
    with ProcessPoolExecutor(workers, get_context("spawn"), _end_with_parent,
                             (os.getpid(),)) as pool:
        futures = {pool.submit(run_cell, run, cell.settings, folder, threads): cell
                   for cell, folder in jobs}
        try:
            for future in as_completed(futures):
                try:
                    outcome = future.result()
                except BrokenProcessPool:
                    outcome = {"error": "its process was killed (out of memory?); run again with "
                                        "fewer --jobs"}
                yield futures[future], outcome
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def on_ray(run: str, jobs: list[Job], workers: int, threads: int, address: str | None) -> Iterator[
        tuple[Cell, dict]]:
    """Cells as Ray tasks, as they finish; `address` None starts Ray on this host."""
    import ray
    local = {} if address else {"num_cpus": workers * threads, "include_dashboard": False,
                                "object_store_memory": 100 << 20}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", runtime_env={
            "env_vars": {"PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)}},
            **local)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise BadInput(f"Ray at {address or 'this host'}: "
                       f"{' '.join(str(error).split())}; start it, or give --pool "
                       "processes") from error
    try:
        task = ray.remote(num_cpus=threads, max_retries=0)(run_cell)
        waiting = {task.remote(run, cell.settings, folder, threads): cell for cell, folder in jobs}
        while waiting:
            done, _ = ray.wait(list(waiting))
            try:
                outcome = ray.get(done[0])
            except ray.exceptions.RayError as error:
                outcome = {"error": f"its worker ended: {str(error).split(chr(10))[0]}"}
            yield waiting.pop(done[0]), outcome
    finally:
        ray.shutdown()


def has_ray() -> bool:
    """Whether Ray is installed, and can be imported."""
    try:
        importlib.import_module("ray")
    except ImportError:
        return False
    return True
