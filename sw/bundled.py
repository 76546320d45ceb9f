"""The tickets and samples that come with SpikeTicket, by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .errors import BadInput, did_you_mean

if TYPE_CHECKING:
    from .ticket import Ticket

FOLDER = Path(__file__).parents[1] / "bundled"
SUFFIX = ".safetensors"
DEFAULT = "fmnist-scnn"

SAMPLES = {"fashion-mnist": "fashion-mnist-test500.npz", "n-mnist": "nmnist-test20.npz"}
"""Test samples that are bundled, by data set."""


def names() -> list[str]:
    """Names of the bundled tickets."""
    return sorted(path.name.removesuffix(SUFFIX) for path in FOLDER.glob(f"*{SUFFIX}"))


def find(name: str) -> Path:
    """The file of a ticket: a path, or the name of a bundled one. Raises BadInput."""
    path = Path(name)
    if path.exists():
        return path
    if name in names():
        return FOLDER / f"{name}{SUFFIX}"
    raise BadInput(f"ticket {name!r} is neither a file nor bundled; {did_you_mean(name, names())}")


def data_for(found: Ticket) -> str:
    """Bundled samples of the data set that a ticket was trained on, in the ticket's size, for
    `sw.data.datasets.for_network`. Raises BadInput where none are bundled."""
    trained_on = str(found.metadata.get("data", "")).split(":")[0].split("+")[0]
    if trained_on not in SAMPLES:
        raise BadInput(f"no samples of {trained_on or 'its data set'!r} are bundled for "
                       f"ticket {found.network.name!r}; choose them with --data")
    spec = found.network.input
    return f"{FOLDER / SAMPLES[trained_on]}:size={spec.width}x{spec.height}"


def describe() -> list[dict]:
    """One row per bundled ticket: name, data, shape, sparsity, accuracies, patches."""
    from . import ticket  # here: options need the names only
    rows = []
    for name in names():
        found = ticket.load(FOLDER / f"{name}{SUFFIX}")
        network, known = found.network, found.metadata
        gate = next(iter(network.gates.values()), None)
        rows.append({
            "name": name, "data": known.get("data"), "timesteps": network.timesteps,
            "input": [network.input.channels, network.input.height, network.input.width],
            "weights": network.weights_total, "weights_surviving": network.weights_surviving,
            "sparsity": network.sparsity,
            "patches": f"{gate.keep} of {gate.tokens} ({gate.mode})" if gate else None,
            "accuracy_dense": known.get("accuracy_dense", known.get("accuracy_dense_float")),
            "accuracy_integer": known.get("accuracy_integer",
                                          known.get("accuracy_ticket_integer"))})
    return rows
