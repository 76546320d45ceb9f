"""Stand-ins for a ticket search in the tests of sw.sweep."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path


def run(settings: dict, folder: Path) -> dict:
    """A result that only the settings determine; a line in FOLDER/runs for every call."""
    with open(folder / "runs", "a") as file:
        file.write("run\n")
    print("some progress", file=sys.stderr)
    time.sleep(settings.get("sleep", 0))
    if settings.get("sparsity") == settings.get("fails_at", -1):
        raise ValueError("too sparse\nby far")
    if settings.get("sparsity") == settings.get("dies_at", -1):
        os._exit(9)
    accuracy = 0.9 - 0.3 * settings.get("sparsity", 0) ** 2 + 0.01 * settings["seed"]
    return {"accuracy_ticket": accuracy + 0.005 * settings.get("timesteps", 4),
            "seed": settings["seed"], "nested": {"not": "in the table"}, "config": "a\nb\n"}


def bad(settings: dict, folder: Path) -> dict:
    """A result that JSON cannot hold."""
    return {"accuracy": {1, 2}}
