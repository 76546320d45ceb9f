"""The papers' tables with rows of ours below them."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from ..sweeps import labels
from . import tables
from .tables import Row

OURS = {  # table: its rows: settings of ours
    "table1": {
        "SNN dense": "method=dense binary=False",
        "BinWSNN dense": "method=dense binary=True",
        "SNN-ConnS": "method=scores binary=False sparsity=0.5 learn_norms=True",
        "BinWSNN-ConnS": "method=scores binary=True sparsity=0.5 learn_norms=True"},
    "table2": {
        "dense": "method=dense",
        "patch tickets": "method=patches patch_sparsity=0.3125 place=pixels ranking=selector",
        "CPS (ECPT)": "method=ecpt patch_sparsity=0.3125 sparsity=0.5 learn_norms=True"}}
MAIN = "timesteps=4 decay=0.99"
SWEEPS = {
    "table1": {"CIFAR-10": "cifar10-small", "Fashion-MNIST": "fmnist-cnn", "N-MNIST": "nmnist-cnn"},
    "table2": {"CIFAR-10": "cifar10-patches", "Fashion-MNIST": "fmnist-spikeformer",
               "N-MNIST": "nmnist-spikeformer"}}
IMP = "cifar10", "method=imp early_time=False"
"""The sweep, and its cells, beside Kim et al.'s curve."""


class Stored(Protocol):
    """Where tables are: `sw.results.page.Page`."""

    folder: Path

    def rows(self, name: str, conditions: str = "") -> list[Row]:
        """Rows of a sweep with these settings."""


def beside(stored: Stored, table: str) -> str:
    """A table of the paper, one figure a cell, with rows of ours that had a validation part, and
    what these ran."""
    ours = OURS[table]
    paper = [r for r in tables.read(stored.folder / "paper.csv") if r["source"] == table]
    text = ["| | " + " | ".join(ours) + " |", "|---" * (1 + len(ours)) + "|"]
    for data, network in dict.fromkeys((r["data"], r["column"]) for r in paper):
        theirs = {r["row"]: f"{r['value']:.2f}" for r in paper
                  if (r["data"], r["column"]) == (data, network)}
        text.append(f"| {data}, {network} | "
                    + " | ".join(theirs.get(row, "") for row in ours) + " |")
    ran = []
    for data, name in SWEEPS[table].items():
        runs = _chosen({row: [r for r in stored.rows(name, f"{conditions} {MAIN}")
                              if r.get("accuracy_validation") is not None]
                        for row, conditions in ours.items()})
        means = [tables.mean(rows) for rows in runs.values()]
        text.append(f"| **ours**, {data} | " + " | ".join(
            f"**{tables.percent(mean)}**" if mean else "not run" for mean in means) + " |")
        notes: dict[str, list[str]] = {}
        for row, rows in runs.items():
            if rows:
                notes.setdefault(_note(rows), []).append(f"{row} {rows[0]['epochs_trained']:.0f}")
        ran += [f"* {note}; epochs: {', '.join(epochs)}" for note, epochs in notes.items()]
    return "\n".join([*text, *(["", "Ours:", "", *ran] if ran else [])])


def rounds(stored: Stored) -> str:
    """Kim et al.'s curve beside our rounds."""
    paper = tables.read(stored.folder / "paper.csv")
    curve = [row for row in paper if row["source"] == "imp"]
    columns = list(dict.fromkeys((row["data"], row["column"]) for row in curve))
    ours = _ends(stored)
    text = ["| removed | " + " | ".join(f"{c}, {d}" for d, c in columns)
            + " | ours: removed | ours |", "|---" * (len(columns) + 3) + "|"]
    for i, wanted in enumerate([0.0, *dict.fromkeys(row["row"] for row in curve)]):
        theirs = {(r["data"], r["column"]): r["value"] for r in curve if r["row"] == wanted}
        text.append(f"| {f'{100 * wanted:.1f} %' if i else 'dense'} | "
                    + " | ".join(f"{theirs.get(c, '')}" for c in columns)
                    + f" | {ours[i] if i < len(ours) else ' | not run'} |")
    return "\n".join(text)


def _chosen(runs: dict[str, list[Row]]) -> dict[str, list[Row]]:
    """Of each row's runs those of one length: the longest tickets, and the shortest dense networks
    that had at least as many epochs as any of them, stages and rounds together."""
    longest = {row: max((r["epochs_trained"] for r in rows), default=0)
               for row, rows in runs.items()}
    wanted = max((longest[row] for row in runs if "dense" not in row), default=0)
    chosen = {}
    for row, rows in runs.items():
        length = longest[row] if "dense" not in row else min(
            (r["epochs_trained"] for r in rows if r["epochs_trained"] >= wanted),
            default=longest[row])
        chosen[row] = [r for r in rows if r["epochs_trained"] == length]
    return chosen


def _note(rows: list[Row]) -> str:
    """Network, data and seeds of runs."""
    row, seeds = rows[0], len({row.get("seed") for row in rows})
    return (f"`{row['model']}`, {row['weights']:,.0f} weights, "
            f"{labels.data_name(row['data'])}, {row['images_train']:,.0f} samples, "
            f"{seeds} seed{'s' * (seeds > 1)}")


def _ends(stored: Stored) -> list[str]:
    """What IMP's stages end with, mean of the seeds, the dense network's first: "removed |
    accuracy"."""
    cells = {str(row["cell"]) for row in stored.rows(*IMP)}
    stages: dict[str, list[Row]] = {}
    if cells:
        for row in tables.read(stored.folder / f"{IMP[0]}-rounds.csv"):
            if str(row["cell"]) in cells:
                stages.setdefault(str(row["stage"]), []).append(row)
    return [f"{100 * rows[0]['sparsity']:.1f} % | "
            f"**{tables.percent(tables.mean(rows, 'accuracy'))}**" for rows in stages.values()]
