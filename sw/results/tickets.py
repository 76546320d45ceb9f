"""What chosen tickets of the sweeps are made of: `sw.analysis`, kept small enough to be stored.

docs/results/tickets.yaml names the cells: for every sweep a list of settings that single one out.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

from .. import analysis
from ..errors import SpikeTicketError
from ..plots import analysis as analysis_plots
from . import tables

IMAGES = 100
"""Test samples that spikes and operations are counted on."""

KEPT = ("sparsity", "accuracy", "images", "sop_executed", "sop_all_weights", "sop_dense",
        "energy_uj")
LAYER = ("weights", "sparsity", "spike_rate", "sop_executed")


def read_choice(path: Path) -> dict[str, dict[str, str]]:
    """{sweep: {label: conditions}} of tickets.yaml; {} where there is none."""
    from ..tickets.config import read
    if not path.is_file():
        return {}
    chosen = read(path)
    for name, labels in chosen.items():
        if not isinstance(labels, dict) or not all(
                isinstance(text, str) and all("=" in part for part in text.split())
                for text in labels.values()):
            raise SpikeTicketError(f"{path}: {name} must be labels with settings, e.g. "
                                   "'imp: method=imp seed=0'")
    return chosen


def store(name: str, chosen: dict[str, str], sweep: Path, docs: Path) -> list[Path]:
    """Analyse those of the chosen cells that are finished; docs/results/NAME.json and its
    pictures."""
    rows = tables.read(docs / "results" / f"{name}.csv")
    subjects = []
    for label, conditions in chosen.items():
        found = tables.matching(rows, dict(part.split("=", 1) for part in conditions.split()))
        if not found:  # not run yet
            continue
        if len(found) != 1:
            raise SpikeTicketError(f"{name}: {conditions!r} are {len(found)} finished cells, "
                                   "not one")
        subject = analysis.open_subject(sweep / "cells" / str(found[0]["cell"]))
        data = str(found[0]["data"])
        subjects.append((dataclasses.replace(subject, name=label), data))
    if not subjects:
        return []
    if len({data for _, data in subjects}) != 1:
        raise SpikeTicketError(f"{name}: its cells are of several data sets")
    result = analysis.analyse([s for s, _ in subjects], subjects[0][1], images=IMAGES)
    files = []
    for path in analysis_plots.write_all(result, sweep / "analysis"):
        if path.name.startswith("patches-"):    # the page has layers as a table, draws overlap
            target = docs / "img" / f"results-{name}-{path.name}"
            shutil.copyfile(path, target)
            files.append(target)
    target = docs / "results" / f"{name}.json"
    small = {"tickets": {label: _small(entry) for label, entry in result["tickets"].items()},
             "overlap": [{key: _short(value) for key, value in pair.items()
                          if key in ("a", "b", "jaccard", "chance")} for pair in result["overlap"]]}
    target.write_text(json.dumps(small, indent=1) + "\n")
    return [target, *files]


def _small(entry: dict) -> dict:
    return {**{key: _short(entry[key]) for key in KEPT if key in entry},
            "layers": {layer: {key: _short(row[key]) for key in LAYER}
                       for layer, row in entry.get("layers", {}).items()}}


def _short(value):
    return float(f"{value:.5g}") if isinstance(value, float) else value


def read_stored(path: Path) -> dict:
    """What `store` wrote; without tickets where it has not. Raises SpikeTicketError."""
    if not path.exists() and path.with_suffix(".csv").exists():
        return {"tickets": {}, "overlap": []}
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SpikeTicketError(f"{path}: cannot be read ({error}); "
                               "spiketicket look results --collect writes it") from error


def markdown(path: Path) -> str:
    """The stored analysis as tables: one of the tickets, one of their common survivors."""
    held = read_stored(path)
    if not held["tickets"]:
        return "(not run yet)"
    text = ["| ticket | removed | SOP per image | SpikingJelly's count | dense | µJ |",
            "|---|---|---|---|---|---|"]
    for label, entry in held["tickets"].items():
        text.append(f"| {label} | {100 * entry['sparsity']:.1f} % | {entry['sop_executed']:,.0f} | "
                    f"{entry['sop_all_weights']:,.0f} | {entry['sop_dense']:,.0f} | "
                    f"{entry['energy_uj']:.2f} |")
    layers = list(dict.fromkeys(n for e in held["tickets"].values() for n in e["layers"]))
    text += ["", "| removed (spike rate) | " + " | ".join(layers) + " |",
             "|---" * (len(layers) + 1) + "|"]
    for label, entry in held["tickets"].items():
        cells = []
        for name in layers:
            row = entry["layers"].get(name)
            rate = "" if not row or row["spike_rate"] is None else f" ({row['spike_rate']:.3f})"
            gone = "" if not row or row["sparsity"] is None else f"{100 * row['sparsity']:.0f} %"
            cells.append(gone + rate)
        text.append(f"| {label} | " + " | ".join(cells) + " |")
    pairs = [pair for pair in held["overlap"] if "jaccard" in pair]
    if pairs:
        text += ["", "| tickets | survivors shared | by chance |", "|---|---|---|"]
        text += [f"| {p['a']} and {p['b']} | {100 * p['jaccard']:.1f} % | "
                 f"{100 * p['chance']:.1f} % |" for p in pairs]
    return "\n".join(text)
