"""What is asked of a board while faults are injected, and what is right."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hw.config import CoreConfig
from sim.samples.networks import random_input, random_network
from sim.samples.spikeformers import random_masks, random_spikeformer
from sw.board.driver import Accelerator, Inference
from sw.compile.compiler import DoesNotFit, compile_network
from sw.compile.image import Image
from sw.integer import reference
from sw.integer.network import Network

from .board import SimTransport

BATCH = 6
"""Inputs of a case."""

KINDS = ("static", "events", "gated")
"""Networks: with static inputs, with one for each timestep, a Spikeformer whose gate takes its mask
from the host."""

Operation = tuple[str, Callable[[], bool]]
"""Name, and what to do: returns whether what the board gave is right."""


@dataclass
class Case:
    """A network with inputs uint8 [B, …] and masks, the reference's run, and the board's on an
    undisturbed line (its cycles and counters are exact, so they are compared too)."""

    kind: str
    seed: int
    image: Image
    inputs: np.ndarray
    masks: np.ndarray | None
    expected: reference.Run
    quiet: Inference

    def load(self, board: Accelerator) -> bool:
        board.load(self.image)
        return True

    def infer(self, board: Accelerator) -> bool:
        got = board.infer(self.inputs, self.masks, counters=True)
        return (np.array_equal(got.logits, self.expected.logits)
                and np.array_equal(got.cycles, self.quiet.cycles)
                and np.array_equal(got.counters, self.quiet.counters))

    def infer_again(self, board: Accelerator) -> bool:
        """`infer`, after a load where what went before has left no network."""
        if board.image is None:
            self.load(board)
        return self.infer(board)

    def trace(self, board: Accelerator, index: int) -> bool:
        mask = None if self.masks is None else self.masks[index]
        seen = set()
        for name, spikes in board.trace(self.inputs[index], mask):
            want = self.expected.spikes[name][:, index, :, :spikes.shape[2], :spikes.shape[3]]
            if not np.array_equal(spikes, want):
                return False
            seen.add(name)
        return seen == set(self.image.maps)

    def operations(self, board: Accelerator, random: random.Random) -> Iterator[Operation]:
        """Load, infer, trace, verify: a user's afternoon."""
        yield "load", lambda: self.load(board)
        for _ in range(3):
            yield "infer", lambda: self.infer(board)
        yield "trace", lambda: self.trace(board, random.randrange(len(self.inputs)))
        yield "verify", board.verify
        yield "infer", lambda: self.infer(board)


def make_cases(config: CoreConfig, library: Path, most_cycles: int = 4000) -> list[Case]:
    """A case of every kind that `draw` knows, of the first network that fits `config` and takes at
    most so many cycles. Always the same for one configuration; with DRAM, all weights come from
    there."""
    with Accelerator(SimTransport(config, library=library), config) as board:
        return [_first(board, kind, most_cycles) for kind in KINDS]


def _first(board: Accelerator, kind: str, most_cycles: int) -> Case:
    for seed in range(1000):
        if (drawn := draw(kind, seed, board.config)) is None:
            continue
        network, image, inputs, masks = drawn
        board.load(image)
        quiet = board.infer(inputs, masks, counters=True)
        if quiet.cycles.max() <= most_cycles and quiet.logits.any():
            expected = reference.run(network, inputs, masks=masks)
            return Case(kind, seed, image, inputs, masks, expected, quiet)
    raise AssertionError(f"no random {kind} network is small and quick enough")


def draw(kind: str, seed: int, config: CoreConfig
         ) -> tuple[Network, Image, np.ndarray, np.ndarray | None] | None:
    """Random network of a kind with its image, inputs and masks; None where it does not do."""
    rng = np.random.default_rng(seed)
    if kind == "gated":
        network = random_spikeformer(rng, modes=("host",), max_side=5, max_heads=1,
                                     max_head_width=8, max_blocks=1, max_timesteps=4, column=False)
    else:
        network = random_network(rng, max_size=8, max_channels=6, max_layers=3, max_timesteps=5)
        if network.input.static != (kind == "static") or len(network.layers) < 3:
            return None
    try:
        image = compile_network(network, config, stream=bool(config.dram_words))
    except DoesNotFit:
        return None
    if sum(map(len, [*image.weights, *image.streams])) < 60:
        return None
    inputs = np.stack([random_input(rng, network) for _ in range(BATCH)])
    return network, image, inputs, random_masks(rng, network, BATCH)
