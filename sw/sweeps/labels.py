"""Words for a sweep's settings and data, as tables, titles and legends say them."""

from __future__ import annotations

import re
from collections.abc import Iterable

METHODS = {"scores": "trained scores", "imp": "IMP", "patches": "patch ticket", "ecpt": "ECPT",
           "random": "random mask"}
VALUES = {
    "binary": {True: "±\N{GREEK SMALL LETTER ALPHA}", False: "real weights"},
    "learn_norms": {True: "norms learnt", False: "norms without scale and shift"},
    "place": {"pixels": "pixels removed", "tokens": "only tokens removed"},
    "ranking": {"spikes": "by spikes", "selector": "by a trained selector", "input": "by input",
                "random": "at random"}}
"""Words for settings that say what they are by their value alone."""

AXES = {"sparsity": "connections removed", "patch_sparsity": "patches dropped",
        "timesteps": "timesteps T", "decay": "decay λ", "accuracy_ticket": "ticket's accuracy",
        "accuracy_integer": "accuracy in integers", "accuracy_dense": "dense network's accuracy"}
SHARES = ("sparsity", "patch_sparsity")
DATA = {"fashion-mnist": "Fashion-MNIST", "mnist": "MNIST", "cifar10": "CIFAR-10 (JPEG q75)",
        "n-mnist": "N-MNIST", "nmnist-all.npz": "N-MNIST"}
CLASSES = {"Fashion-MNIST": 10, "MNIST": 10, "CIFAR-10 (JPEG q75)": 10, "N-MNIST": 10}
"""Classes of the sets whose number a row of a sweep does not say."""


def axis(key: str) -> str:
    """Name of a setting or figure."""
    return AXES.get(key, key.replace("_", " "))


def at(key: str, value: object) -> str:
    """A setting's value alone: "50 %" of a share."""
    if key in SHARES and isinstance(value, int | float):
        return f"{100 * value:g} %"
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def setting(key: str, value: object) -> str:
    """A setting with its value, as a legend names a line."""
    if key == "method":
        return METHODS.get(str(value), str(value))
    if value in VALUES.get(key, {}):
        return VALUES[key][value]
    if key in ("model", "data"):
        return data_name(value) if key == "data" else str(value)
    short = {"timesteps": "T =", "decay": "λ ="}.get(key)
    return (f"{short} {at(key, value)}" if short else
            f"{at(key, value)} of the {'patches' if 'patch' in key else 'connections'} removed"
            if key in SHARES else f"{axis(key)} {at(key, value)}")


def data_name(data: object) -> str:
    """The data set of a row, and the size it was brought to."""
    name, _, options = str(data).partition(":")
    name = name.rsplit("/", 1)[-1]
    size = re.search(r"\bsize=(\d+)", options)
    return DATA.get(name, name) + (f" at {size[1]}x{size[1]}" if size else "")


def subject(rows: Iterable[dict]) -> str:
    """Data and network of a sweep's rows, for a title: "N-MNIST at 16x16, 16p-32p-64"; "" where
    rows do not say."""
    rows = list(rows)
    parts = []
    for key in ("data", "model"):
        found = list(dict.fromkeys(setting(key, row[key]) for row in rows if row.get(key)))
        parts += [found[0] if len(found) == 1 else f"{len(found)} {key} sets"] if found else []
    return ", ".join(parts).replace("model sets", "networks")


def chance(rows: Iterable[dict]) -> float | None:
    """Accuracy of guessing, where all rows are of one set whose classes are known."""
    names = {data_name(row.get("data")).split(" at ")[0] for row in rows}
    known = {CLASSES.get(name) for name in names}
    (classes,) = known if len(known) == 1 else (None,)
    return 1 / classes if classes else None
