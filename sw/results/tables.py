"""Stored tables of sweeps (docs/results/*.csv), and figures looked up in them.

A table has one row per finished cell of a sweep: the settings that differ from a search's defaults
in any cell, the weights of the network, and the measured figures.
"""

from __future__ import annotations

import csv
import json
import statistics
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from ..errors import SpikeTicketError

MEASURED = ("accuracy_ticket", "accuracy_validation", "accuracy_integer", "integer_images",
            "sparsity_mask", "spike_rate", "accuracy_dense", "accuracy_dense_integer", "tokens",
            "tokens_kept", "images_train", "images_test", "timesteps_search", "epochs_ticket",
            "epochs_trained", "cycles", "train_seconds")
Row = dict[str, str | float | bool | None]


def collect(sweep: Path, plan_file: Path, out: Path) -> list[Path]:
    """Write OUT/NAME.csv from a sweep's folder, OUT/NAME-rounds.csv where it has rounds of imp, and
    the log of a sweep of one cell; the files. NAME is that of the plan, kept in docs/sweeps."""
    from ..sweeps.plan import read_plan
    from ..sweeps.table import finished
    from ..tickets.config import RunConfig
    plan, defaults = read_plan(plan_file), asdict(RunConfig())
    settings = [key for key in defaults if any(
        cell.settings[key] != defaults[key] for cell in plan.cells)]
    settings = list(dict.fromkeys([*settings, "model", "data", "method", "sparsity", "timesteps",
                                   "decay", "patch_sparsity", "binary", "seed"]))
    settings = [key for key in defaults if key in settings]
    rows, rounds, weights = [], [], {}
    for cell in plan.cells:
        result = finished(sweep, cell)
        if result is None:
            continue
        folder = sweep / "cells" / cell.id
        log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        model = str(cell.settings["model"])
        if model not in weights:
            weights[model] = _weights(folder, log)
        measured = {**result, "epochs_trained": len(log),
                    "accuracy_validation": log[-1].get("validation_accuracy")}
        rows.append({"cell": cell.id, **{key: cell.settings[key] for key in settings},
                     "weights": weights[model],
                     **{key: _short(measured.get(key)) for key in MEASURED}})
        rounds += _rounds(cell.id, cell.settings, result, log)
    files = [_write(out / f"{plan_file.stem}.csv", rows)]
    if len(plan.cells) == 1:
        files.append(out / f"{plan_file.stem}.log.jsonl")
        files[-1].write_text("".join(json.dumps(record) + "\n" for record in log))
    if rounds:
        files.append(_write(out / f"{plan_file.stem}-rounds.csv", rounds))
    return files


def _weights(folder: Path, log: list[dict]) -> int:
    """Connections of the network, from the checkpoint of its last stage in floats."""
    from ..tickets import checkpoint
    floats = [str(record["stage"]) for record in log if not record["stage"].endswith("integer")]
    stage = floats[-1].replace(" ", "-")
    state = checkpoint.load(folder / f"{stage}.safetensors")[0]["model"]
    return sum(value.numel() for name, value in state.items()
               if value.dim() > 1 and name.endswith(("weight", "weight.original")))


def _rounds(cell: str, settings: dict, result: dict, log: list[dict]) -> list[dict]:
    """What every stage of an imp search ended with."""
    if settings["method"] != "imp":
        return []
    search = result.get("timesteps_search") or settings["timesteps"]
    last = {record["stage"]: record for record in log}
    floats = [stage for stage in last if not stage.endswith("integer")]
    return [{"cell": cell, "stage": stage, "sparsity": last[stage]["sparsity"],
             "timesteps": settings["timesteps"] if stage in ("dense", floats[-1]) else search,
             "accuracy": last[stage].get("validation_accuracy"), "epochs": last[stage]["epoch"],
             "cycles": last[stage].get("cycles")}
            for stage in floats]


def _short(value):
    return round(value, 5) if isinstance(value, float) else value


def _write(path: Path, rows: list[dict]) -> Path:
    from ..tickets.checkpoint import replace
    if not rows:
        raise SpikeTicketError(f"{path.stem}: no cell is finished; run its sweep first")
    columns = [key for key in rows[0] if any(row.get(key) not in (None, "") for row in rows)]

    def write(part: Path) -> None:
        with open(part, "w", newline="") as file:
            writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, write)
    return path


def read(path: Path) -> list[Row]:
    """Rows of a table, numbers as floats, True and False as such, empty cells as None."""
    try:
        with open(path, newline="") as file:
            return [{key: text if key == "cell" else _value(text)  # "12e345678901" is a cell
                     for key, text in row.items()} for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SpikeTicketError(f"{path}: cannot be read ({error}); "
                               "spiketicket look results --collect writes it") from error


def _value(text: str | None) -> str | float | bool | None:
    if text in ("", None, "True", "False"):
        return {"True": True, "False": False}.get(text or "")
    try:
        return float(text)
    except ValueError:
        return text


def matching(rows: Iterable[Row], conditions: dict[str, str]) -> list[Row]:
    """Rows whose settings are the given ones; texts are read as in a table."""
    wanted = {key: _value(text) for key, text in conditions.items()}
    return [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]


def mean(rows: Iterable[Row], metric: str = "accuracy_ticket") -> tuple[float, float, int] | None:
    """(mean, sample deviation, rows) of a column; None where there is no row."""
    values = [float(row[metric]) for row in rows if isinstance(row.get(metric), float)]
    if not values:
        return None
    return (statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0,
            len(values))


def percent(found: tuple[float, float, int] | None, digits: int = 1) -> str:
    """"74.6 ± 0.2", without the deviation for one row, "not run" for none."""
    if found is None:
        return "not run"
    value, spread, count = found
    return (f"{100 * value:.{digits}f}"
            + (f" ± {100 * spread:.{digits}f}" if count > 1 else ""))
