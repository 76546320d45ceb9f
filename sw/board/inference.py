"""What a board gives back: results of an inference, counters of its layers, its identity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hw import registers

from ..compile.coding import logits_of
from ..compile.image import Image
from .protocol import Reply


@dataclass
class Inference:
    """Results of a batch.

    logits: int64 [B, classes]. cycles: int64 [B], of the run as the link counts them.
    counters: int64 [B, layers of `Image.logged`, len(registers.COUNTERS)], or None.
    request_bytes, reply_bytes: on the line for an image, mean of the batch (inputs take the
    shortest form they can), without repetitions and counters.
    """

    logits: np.ndarray
    cycles: np.ndarray
    counters: np.ndarray | None
    request_bytes: int
    reply_bytes: int

    @property
    def labels(self) -> np.ndarray:
        """Predicted class of every image, ties to the lower index; int64 [B]."""
        return self.logits.argmax(1)

    @classmethod
    def joined(cls, parts: Sequence[Inference]) -> Inference:
        """One batch of several; their images in order. `parts` must not be empty."""
        counters = [part.counters for part in parts]
        if len({None if log is None else log.shape[1] for log in counters}) > 1:
            counters = [None]  # boards with other cores run programs of other lengths
        return cls(np.concatenate([part.logits for part in parts]),
                   np.concatenate([part.cycles for part in parts]),
                   None if counters[0] is None else np.concatenate(counters),
                   *(round(np.average([getattr(part, name) for part in parts],
                                      weights=[max(1, len(part.cycles)) for part in parts]))
                     for name in ("request_bytes", "reply_bytes")))


def inference(image: Image, replies: Sequence[Sequence[Reply]], counters: bool,
              sizes: Sequence[tuple[int, int]]) -> Inference:
    """What the replies to inference jobs say. sizes: bytes of each job, (there, back)."""
    runs = [answers[-2 if counters else -1] for answers in replies]
    logits = logits_of(np.array([run.words for run in runs], np.uint32).reshape(
        len(runs), image.classes))
    cycles = np.array([run.cycles for run in runs], np.int64)
    log = np.array([counter_rows(answers[-1].words) for answers in replies] if counters else [],
                   np.int64).reshape(-1, len(image.logged), len(registers.COUNTERS))
    mean = [round(np.mean(each)) for each in zip(*sizes, strict=True)] or [0, 0]
    return Inference(logits, cycles, log if counters else None, *mean)


def counter_rows(words: np.ndarray) -> np.ndarray:
    """Counters of the steps, [steps, len(COUNTERS)], from the words of the board."""
    return words.reshape(-1, registers.COUNTER_WORDS)[:, :len(registers.COUNTERS)]


@dataclass(frozen=True)
class LayerCounters:
    """What a step of the program did in the last run; `hw.registers.COUNTERS`.

    name, kind: as in `sw.compile.image.LayerInfo`. cycles: from its start to its end. words,
    weights, updates, neurons, written: map words read, weights decoded, accumulators updated,
    neurons updated, map words written. queue_stall, port_stall, starved: engine cycles lost to a
    full queue, a busy map port, a missing weight; bank_wait: unit cycles lost to a busy bank.
    """

    name: str
    kind: str
    cycles: int
    words: int
    weights: int
    updates: int
    queue_stall: int
    port_stall: int
    starved: int
    bank_wait: int
    neurons: int
    written: int


def named_counters(image: Image, log: np.ndarray) -> dict[str, LayerCounters]:
    """Counters [steps, len(COUNTERS)] by layer name, in order; a layer's second step is NAME#2."""
    found: dict[str, LayerCounters] = {}
    for info, row in zip(image.logged, log, strict=True):
        name, number = info.name, 2
        while name in found:
            name, number = f"{info.name}#{number}", number + 1
        values = dict(zip(registers.COUNTERS, (int(value) for value in row), strict=True))
        found[name] = LayerCounters(info.name, info.kind, **values)
    return found


@dataclass
class Identity:
    """What a board says about itself.

    id: `hw.registers.identity`; build: first 64 bits of the build's ID. board, preset: what is
    known under these numbers (`sw.board.identities`), "" if nothing is. simulated: as the
    transport knows it; gateware cannot tell. dram_bytes: of the memory behind the core, 0 without.
    dram_passed: whether that passed its last test (`Accelerator.check_memory`), None before one.
    """

    protocol: int
    id: int
    clock_hz: int
    frames: int
    bad_frames: int
    overruns: int
    build: int = 0
    board: str = ""
    preset: str = ""
    simulated: bool = False
    dram_bytes: int = 0
    dram_passed: bool | None = None
