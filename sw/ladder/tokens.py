"""A trained ticket with fewer tokens, without training: accuracy and cycles (`bench tokens`)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from hw.boards import BOARDS, DEFAULT_BOARD
from hw.config import CoreConfig

from .. import bundled, ticket
from ..compile.compiler import DoesNotFit
from ..core import cores
from ..data import datasets
from ..data.samples import Images
from ..errors import BadInput
from ..integer.gate import Gate
from ..integer.network import Network
from ..integer.spikingjelly import evaluate
from .measure import measure, spikes_of
from .variants import with_keep

SHARES = (1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125)
"""Of the tokens, where the command does not say how many; the ticket's own number comes besides."""

CYCLE_IMAGES = 4
"""Samples, the first ones, that the cycle model runs on."""


@dataclass(frozen=True)
class TokenPoint:
    """keep: of the tokens. trained: with as many, so that nothing was changed. accuracy: of the
    integers; random: with as many tokens drawn for each image. cycles: of an image, mean; None
    where the network does not fit the core."""

    ticket: str
    tokens: int
    keep: int
    trained: bool
    accuracy: float
    random: float
    cycles: float | None
    images: int


def at_random(network: Network, samples: Images, keep: int,
              seed: int) -> tuple[Network, np.ndarray, np.ndarray]:
    """The control: a network that takes its tokens from the host, the samples for it, and masks
    bool [N, tokens]. Where the ticket zeroes pixels of dropped patches, so do the samples."""
    gate = next(iter(network.gates.values()))
    masks = np.random.default_rng(seed).random((len(samples), gate.tokens)).argsort(1) < keep
    chosen = replace(gate, mode="host", keep=keep, scores=(), mask=None)
    images = samples.images
    if gate.mode == "input":
        kept = np.nonzero(masks)[1].reshape(len(masks), keep)
        timed = images[None] if samples.static else images.swapaxes(0, 1)
        zeroed = gate.zero_input(timed, kept)
        images = zeroed[0] if samples.static else zeroed.swapaxes(0, 1)
    layers = tuple(chosen if isinstance(layer, Gate) else layer for layer in network.layers)
    return replace(network, layers=layers), images, masks


def points(network: Network, samples: Images, keeps: Sequence[int], config: CoreConfig,
           name: str = "", seed: int = 0,
           progress: Callable[[int], object] | None = None) -> list[TokenPoint]:
    """A point for every number of tokens. progress(n): told of images that were classified."""
    gate = next(iter(network.gates.values()))
    found = []
    for keep in keeps:
        pruned = with_keep(network, keep)
        accuracy = evaluate(pruned, samples.images, samples.labels, progress=progress)[0]
        control, images, masks = at_random(network, samples, keep, seed)
        random = evaluate(control, images, samples.labels, progress=progress, masks=masks)[0]
        found.append(TokenPoint(name, gate.tokens, keep, keep == gate.keep, accuracy, random,
                                _cycles(pruned, config, samples.images), len(samples)))
    return found


def _cycles(network: Network, config: CoreConfig, images: np.ndarray) -> float | None:
    try:
        return measure(network, config, spikes_of(network, images[:CYCLE_IMAGES])).total
    except DoesNotFit:
        return None


def run(names: Sequence[str] | None, data: str | None = None, *, keeps: Sequence[int] = (),
        images: int = 500, board: str = DEFAULT_BOARD, preset: str | None = None, seed: int = 0,
        progress: bool = True) -> list[TokenPoint]:
    """The points of tickets whose patch gate chooses by itself.

    names: tickets (None: the bundled ones that have such a gate). data: samples (None: bundled ones
    that suit), at most `images` of them. keeps: numbers of tokens (default: SHARES of all, and the
    ticket's own). Raises BadInput.
    """
    work = []
    for name in names or bundled.names():
        found = ticket.load(bundled.find(name))
        gate = next(iter(found.network.gates.values()), None)
        if gate is None or gate.mode not in ("count", "input"):
            if names:
                raise BadInput(f"ticket {name!r} has no patch gate that ranks tokens (modes count "
                               "and input); `spiketicket find --patch-sparsity` makes one")
            continue
        wrong = [keep for keep in keeps if not 1 <= keep <= gate.tokens]
        if wrong:
            raise BadInput(f"--keep {wrong[0]} is outside 1..{gate.tokens}, the tokens of {name!r}")
        samples = datasets.for_network(found.network, data or bundled.data_for(found), limit=images)
        chosen = set(keeps) or {gate.keep, *(max(1, round(share * gate.tokens))
                                             for share in SHARES)}
        work.append((Path(name).stem, found.network, samples, sorted(chosen, reverse=True)))
    total = sum(2 * len(chosen) * len(samples) for _, _, samples, chosen in work)
    with tqdm(total=total, unit="img", disable=not progress) as bar:
        return [point for name, network, samples, chosen in work
                for point in points(network, samples, chosen,
                                    cores.choose(BOARDS[board], network, preset)[1], name, seed,
                                    bar.update)]


def show(found: Sequence[TokenPoint]) -> None:
    """Print a line for every point."""
    width = max(len(point.ticket) for point in found)
    print(f"{'ticket':{width}}    tokens  accuracy  at random     cycles")
    for p in found:
        cycles = "no room" if p.cycles is None else f"{p.cycles:,.0f}"
        print(f"{p.ticket:{width}}  {p.keep:3} of {p.tokens:3}  {p.accuracy:7.2%}  {p.random:9.2%}"
              f"  {cycles:>9}{'  as trained' * p.trained}")


def rows(found: Sequence[TokenPoint]) -> list[dict]:
    """For JSON; `stored` reads it back."""
    return [asdict(point) for point in found]


def stored(path: Path) -> list[TokenPoint]:
    """The points of a file that `bench tokens --json` made; [] without one. Raises BadInput."""
    if not path.is_file():
        return []
    try:
        return [TokenPoint(**row) for row in json.loads(path.read_text())]
    except (ValueError, TypeError) as error:
        raise BadInput(f"{path}: not what `spiketicket bench tokens --json` prints ({error})"
                       ) from error
