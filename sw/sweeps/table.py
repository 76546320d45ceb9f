"""Stored cells of a sweep and the table of their results."""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
from pathlib import Path

from .plan import Cell, Plan


def write_cell(out: Path, cell: Cell, outcome: dict) -> None:
    """Keep what a cell came to, "result" and "seconds" or "error", in OUT/cells/ID.json."""
    from ..tickets.checkpoint import replace
    text = json.dumps({"key": cell.key, "settings": cell.settings, **outcome}, indent=1) + "\n"
    replace(out / "cells" / f"{cell.id}.json", lambda part: part.write_text(text))


def _read_cell(out: Path, cell: Cell) -> dict:
    """What the cell's file holds; {} where there is none of this cell."""
    try:
        held = json.loads((out / "cells" / f"{cell.id}.json").read_text())
    except (OSError, ValueError):
        return {}
    return held if isinstance(held, dict) and held.get("key") == cell.key else {}


def finished(out: Path, cell: Cell) -> dict | None:
    """The stored result of a cell; None where it has to run."""
    result = _read_cell(out, cell).get("result")
    return result if isinstance(result, dict) else None


def rows_of(plan: Plan, out: str | Path) -> list[dict]:
    """One row per cell: its settings, status ("done", "failed", "to do"), and the result's numbers
    and short texts (a result's own copy of a setting is left out)."""
    rows = []
    for cell in plan.cells:
        held = _read_cell(Path(out), cell)
        result = finished(Path(out), cell)
        status = "done" if result is not None else "failed" if "error" in held else "to do"
        row = {"cell": cell.id, "status": status, **cell.settings}
        for key, value in (result or {}).items():
            plain = value is None or isinstance(value, bool | int | float | str)
            if key not in row and plain and not (isinstance(value, str) and "\n" in value):
                row[key] = value
        row["cell_seconds"], row["error"] = held.get("seconds"), held.get("error")
        rows.append(row)
    return rows


def write_table(out: Path, rows: list[dict]) -> list[Path]:
    """OUT/results.csv, and results.parquet where pyarrow is installed."""
    from ..tickets.checkpoint import replace
    columns = list(dict.fromkeys(itertools.chain(*rows)))
    full = [{key: row.get(key) for key in columns} for row in rows]

    def write_csv(part: Path) -> None:
        with open(part, "w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(full)

    paths = [out / "results.csv"]
    replace(paths[0], write_csv)
    with contextlib.suppress(ImportError):
        import pyarrow
        from pyarrow import parquet
        table = pyarrow.table({key: _column([row[key] for row in full]) for key in columns})
        paths.append(out / "results.parquet")
        replace(paths[1], lambda part: parquet.write_table(table, part))
    return paths


def _column(values: list) -> list:
    """Values of one type: a column of mixed types becomes text."""
    kinds = {type(v) for v in values if v is not None}
    return values if len(kinds) <= 1 or kinds == {int, float} else [
        None if v is None else str(v) for v in values]
