"""One row of the zoo's table: import, compare on whole numbers and near them, plan."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field

from torch import nn

from hw.config import PRESETS

from ...compile.compiler import compile_network
from ...core import cores
from ...errors import SpikeTicketError
from ...integer.network import Network
from ..integers import Imported
from .compare import Comparison, compare
from .entry import Entry
from .settle import bits, inputs, scale, settled

CORES = ("a35t", "a35tf", "a100t", "a100tf", "large")
"""Presets that a network is tried on, smallest first."""

OWN = "its own"
"""Neurons of a network that is tried with no others."""

WIDTHS = (8, 4)
"""Bits of the weights that a random float network is rounded to."""


@dataclass
class Verdict:
    """A network with one kind of neuron.

    line: why it is refused. equal: every spike and the logits are the module's, on whole numbers;
    layers: neuron layers compared; quiet: those that never fire or never rest. near: fraction of
    equal spikes by bits. fits: the smallest core, or what the compiler says.
    """

    name: str
    way: str
    neuron: str
    imports: bool = False
    line: str = ""
    equal: bool | None = None
    layers: int = 0
    quiet: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    near: dict[int, float] = field(default_factory=dict)
    fits: str = ""
    seconds: float = 0.0
    expected: str | None = None
    difference: str = ""

    @property
    def right(self) -> bool:
        """As it must be: equal, or refused for the reason that is expected."""
        if self.expected is not None:
            return not self.imports and self.expected.lower() in self.line.lower()
        return bool(self.imports and self.equal and not self.quiet)

    @classmethod
    def of(cls, values: dict) -> Verdict:
        """What `as_dict` gave."""
        values = {name: value for name, value in values.items() if name != "right"}
        near = {int(bits): share for bits, share in values.pop("near").items()}
        return cls(**{**values, "near": near, "quiet": tuple(values["quiet"]),
                      "notes": tuple(values["notes"])})

    def as_dict(self) -> dict:
        """For JSON."""
        return {**asdict(self), "right": self.right}


def check(entry: Entry, kind: str | None, near: bool = True, plan: bool = True) -> Verdict:
    """Run an entry with a kind of neuron. near: also with random float weights."""
    row = Verdict(entry.name, entry.way, kind or OWN, expected=entry.refusal)
    start = time.perf_counter()
    try:
        imported, agreement = imported_and_compared(entry, kind, whole=True)
    except SpikeTicketError as error:
        row.line = str(error)
    else:
        row.imports, row.notes = True, imported.notes
        _told(row, agreement)
        if plan:
            row.fits = smallest_core(imported.network)
        if near:
            try:
                row.near = _nearness(entry, kind)
            except SpikeTicketError as error:
                row.equal, row.difference = False, f"with random floats: {error}"
    row.seconds = time.perf_counter() - start
    return row


def _nearness(entry: Entry, kind: str | None) -> dict[int, float]:
    """Fraction of equal spikes by width of the weights."""
    net, near = settled(entry, kind, whole=False), {}
    for width in WIDTHS:                    # compared here, so not by the importer, too
        imported = _imported(entry, net, False, width, check=False)
        near[width] = _compared(entry, net, imported, False).mean
    return near


def imported_and_compared(entry: Entry, kind: str | None, *, whole: bool, width: int = 8,
                          seed: int = 0) -> tuple[Imported, Comparison]:
    """The entry's module imported with `width` bits, against its own run on other inputs."""
    net = settled(entry, kind, whole=whole, seed=seed)
    imported = _imported(entry, net, whole, width)
    return imported, _compared(entry, net, imported, whole, seed)


def _imported(entry: Entry, net: nn.Module, whole: bool, width: int, **given: object) -> Imported:
    return entry.importer(
        net, entry.shape, entry.timesteps, bits=width, input_bits=bits(entry, whole),
        static=entry.static, input_scale=scale(entry, whole), name=entry.name, **given)


def _compared(entry: Entry, net: nn.Module, imported: Imported, whole: bool,
              seed: int = 0) -> Comparison:
    return compare(entry, net, imported.network, inputs(entry, whole, seed + 1),
                   scale(entry, whole))


def _told(row: Verdict, agreement: Comparison) -> None:
    row.equal, row.layers = agreement.equal, len(agreement.shares)
    row.quiet = tuple(name for name, rate in agreement.rates.items() if not 0 < rate < 1)
    if not agreement.equal:
        parted = [f"{name} {share:.3f}" for name, share in agreement.shares.items() if share < 1]
        row.difference = "; ".join([
            *parted[:3], *(f"{name} has no layer" for name in agreement.missing[:3]),
            f"logits {agreement.logits:.2g}"])


def smallest_core(network: Network) -> str:
    """The first of `CORES` that holds the network, else why the last one does not."""
    reason = ""
    for name in CORES:
        if not cores.suits(network, PRESETS[name]):
            continue
        try:
            compile_network(network, PRESETS[name], {})
        except SpikeTicketError as error:
            reason = str(error)
        else:
            return name
    return reason


def rows(entries: list[Entry], near: bool, quick: bool, done: Callable[[Verdict], None],
         kept: Mapping[tuple[str, str], Verdict]) -> list[Verdict]:
    """Every entry with every kind of neuron, `near` and its core with the first one; quick: with
    the first kind only, without `near`. kept: rows that are taken as they are."""
    found = []
    for entry in entries:
        for kind in entry.kinds[:1] if quick else entry.kinds:
            row = kept.get((entry.name, kind or OWN))
            first = kind == entry.kinds[0]
            found.append(row or check(entry, kind, near and first, first))
            done(found[-1])
    return found
