"""Run a ticket on a board and check every result against the integer reference.

`spiketicket run`, which `python -m sw.run_inference` is, too; see `sw.cli.run` for its options.
"""

from __future__ import annotations

import time

import numpy as np
from tqdm import tqdm

from hw.boards import DEFAULT_BOARD
from hw.config import CoreConfig

from . import bundled, ticket
from .board import throughput
from .board.connect import connect
from .board.driver import Accelerator
from .board.jobs import load_words
from .board.transport import Transport
from .data import class_names, datasets
from .errors import BadInput
from .integer import reference
from .integer.gate import check_masks, read_masks
from .integer.network import INPUT, Layer
from .report import TRACES, Checked, RunReport, report

DEFAULT_IMAGES = 500
DEFAULT_TRACED = 20
"""Images whose spikes are all read back; the others' logits are compared."""


def run(ticket_path: str, data: str | None = None, *, board: str = DEFAULT_BOARD,
        preset: str | None = None, port: str | None = None, baud: int | None = None,
        images: int | None = None, traced: int = DEFAULT_TRACED, masks: str | None = None,
        progress: bool = True, transport: Transport | None = None,
        config: CoreConfig | None = None) -> tuple[RunReport, Checked]:
    """Run and check; returns the report and what it was made from.

    ticket_path: a file or the name of a bundled ticket. data: as of `sw.data.datasets.load`; None:
    the
        bundled samples that suit the ticket.
    board, preset, port, baud: as of `sw.board.connect.connect`.
    masks: .npy file of kept tokens, bool [images, N], for a patch gate that takes them.
    images: how many of the data set's first images (None: DEFAULT_IMAGES, or all if fewer).
    traced: how many of these have every spike of every layer compared.
    transport, config: instead of the board's own; the transport is closed at the end.
    Raises SpikeTicketError for bad input or a board that does not answer.
    """
    found = ticket.load(bundled.find(ticket_path))
    data = data or bundled.data_for(found)
    loaded = datasets.for_network(found.network, data, limit=max(1, images or DEFAULT_IMAGES))
    loaded = loaded.first(min(DEFAULT_IMAGES, len(loaded)) if images is None else images)
    if traced < 0:
        raise BadInput(f"--traced {traced} is negative")
    network = found.network
    values = loaded.images
    chosen = check_masks(network.gates,
                         None if masks is None else read_masks(masks)[:len(values)], len(values))
    to = connect(found, board=board, preset=preset, port=port, baud=baud, progress=progress,
                 transport=transport, config=config)
    image = to.image
    with to.accelerator as accelerator:
        with _bar(progress, "loading the ticket", load_words(image), "word") as bar:
            load_bytes = accelerator.load(image, bar.update)
        with _bar(progress, "running", len(values), "image") as bar:
            began = time.perf_counter()
            result = accelerator.infer(values, chosen, counters=True, progress=bar.update)
            seconds = time.perf_counter() - began
        checked = Checked(network, image, loaded, result, np.empty(0), masks=chosen,
                          names=class_names.of_ticket(network, found.metadata, loaded.names),
                          identity=accelerator.identify(), host_seconds=seconds)
        with _bar(progress, "checking", len(values), "image") as bar:
            _check_logits(checked, values, chosen, bar)
        with _bar(progress, "comparing spikes", min(traced, len(values)), "image") as bar:
            for index in range(min(traced, len(values))):
                one = slice(index, index + 1)
                _check_spikes(checked, accelerator, values[one],
                              None if chosen is None else chosen[one])
                bar.update()
        few = slice(0, throughput.IMAGES)
        checked.link = throughput.measure(accelerator, values[few],
                                          throughput.rates(to.board, to.baud),
                                          None if chosen is None else chosen[few])
        name = accelerator.transport.name
    return report(ticket_path, to.board, to.preset, name, checked, to.baud, load_bytes), checked


def _bar(progress: bool, what: str, total: int, unit: str) -> tqdm:
    # None: no bar where standard error is not a terminal
    return tqdm(total=total, desc=what, unit=unit, disable=None if progress else True, leave=False)


def _check_logits(checked: Checked, values: np.ndarray, masks: np.ndarray | None,
                  bar: tqdm) -> None:
    """Logits and work of the reference, a few images at a time to bound memory."""
    parts, kept = [], []
    rates: dict[str, np.ndarray] = {}
    attention = {layer.name for layer in checked.network.layers
                 if isinstance(layer, Layer) and layer.attention is not None}
    for first in range(0, len(values), 20):
        some = slice(first, first + 20)
        part = reference.run(checked.network, values[some],
                             masks=None if masks is None else masks[some])
        parts.append(part.logits)
        kept += list(part.kept.values())[:1]
        for name, work in reference.sop(checked.network, part.spikes).items():
            checked.executed += work.executed
            checked.dense += work.dense
            # What attention counts of k and v takes no accumulate slot.
            checked.useful += 0 if name in attention else work.useful
        for name, spikes in part.spikes.items():
            if name != INPUT:
                rates[name] = rates.get(name, 0) + spikes.mean(axis=(2, 3, 4)).sum(axis=1)
        bar.update(len(part.logits))
    checked.logits = np.concatenate(parts)
    checked.kept = np.concatenate(kept) if kept else None
    checked.rates = {name: total / len(values) for name, total in rates.items()}


def _check_spikes(checked: Checked, accelerator: Accelerator, values: np.ndarray,
                  masks: np.ndarray | None) -> None:
    """Compare every spike of every layer of one image, as the board stores them, and what the patch
    gate keeps."""
    expected = reference.run(checked.network, values, masks=masks)
    arguments = [values[0]] if masks is None else [values[0], masks[0]]
    maps: dict[str, np.ndarray] = {}
    for name, spikes in accelerator.trace(*arguments):
        if name == INPUT:
            continue
        maps[name] = spikes
        want = expected.spikes[name][:, 0, :, :spikes.shape[2], :spikes.shape[3]]
        checked.spikes += spikes.size
        checked.mismatches += int((spikes != want).sum())
    for kept in expected.kept.values():
        found = np.flatnonzero(accelerator.kept())
        checked.mismatches += len(np.setxor1d(found, kept[0]))
    if len(checked.traces) < TRACES:
        checked.traces.append(maps)


if __name__ == "__main__":
    from .cli.app import door
    door("run")
