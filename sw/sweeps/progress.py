"""How far the running cells of a sweep are: the last line of each search's log."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from .plan import Cell

SECONDS = 2.0
"""From one look at the logs to the next."""
SHOWN = 2
"""Cells that the bar has room for."""


def inside(folder: Path) -> str:
    """"round 2, epoch 3, loss 0.412" of a running cell; "" before its first epoch has ended."""
    try:
        last = json.loads((folder / "log.jsonl").read_text().splitlines()[-1])
        loss = f", loss {last['loss']:.3g}" if "loss" in last else ""
        return f"{last['stage']}, epoch {last['epoch']}{loss}"
    except (OSError, ValueError, IndexError, KeyError, TypeError):
        return ""


def running(jobs: Iterable[tuple[Cell, str]], axes: Iterable[str], begun: float) -> list[str]:
    """What each cell is at that wrote its log since `begun` (seconds since 1970) and is not done,
    the latest first."""
    found = []
    for cell, folder in jobs:
        log, result = Path(folder) / "log.jsonl", Path(folder) / "result.json"
        try:
            written = log.stat().st_mtime
        except OSError:
            continue
        if written >= begun and not result.exists() and (text := inside(Path(folder))):
            found.append((written, f"{cell.text(axes) or cell.id}: {text}"))
    return [text for _, text in sorted(found, reverse=True)]


class Watch:
    """With it, the bar shows on a terminal what the running cells are at.

    jobs: cells with their folders. begun: when the sweep began, seconds since 1970.
    """

    def __init__(self, bar: tqdm, jobs: list[tuple[Cell, str]], axes: Iterable[str], begun: float):
        self._bar, self._jobs, self._axes, self._begun = bar, jobs, list(axes), begun
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, name="sweep's progress", daemon=True)

    def __enter__(self) -> Watch:
        if sys.stderr.isatty():
            self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._end.set()
        if self._thread.is_alive():
            self._thread.join()

    def _look(self) -> None:
        while not self._end.wait(SECONDS):
            found = running(self._jobs, self._axes, self._begun)
            if found:
                more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
                self._bar.set_postfix_str(" | ".join(found[:SHOWN]) + more)
