"""Names of a ticket's classes."""

from __future__ import annotations

from ..integer.network import Network
from .cifar import CIFAR10_LABELS
from .event_sets import SETS
from .idx import LABELS

KNOWN = {"cifar10": CIFAR10_LABELS, **LABELS, **{name: known.names for name, known in SETS.items()}}


def of_ticket(network: Network, metadata: dict, names: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The network's own, else `names` (of the data that is run), else those of the data set that
    the ticket was trained on; () where none of them says."""
    trained_on = str(metadata.get("data", "")).split(":")[0].split("+")[0]
    return tuple(network.labels or names or KNOWN.get(trained_on, ()))
