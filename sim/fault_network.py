"""Kinds of fault of a network: what becomes of datagrams, and other hosts at the same board.

The board is `sim.network.CabledBoard`, the driver the one of UDP, which takes the board from
whoever holds it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from hw import registers
from sw.board.driver import Accelerator

from .fault_board import CONFIG
from .fault_lab import Lab, Tally
from .fault_speaker import Speaker
from .network import CabledBoard, LocalNetwork, SimUdpTransport

WHERE = "udp://192.168.1.50?take"

OTHER = (192 << 24 | 168 << 16 | 1 << 8 | 9, 50_000)
"""Another host."""

CHANCE = 0.1
"""Of a datagram, each way, to be disturbed."""

SILENCE = 6.0
"""Seconds after which a holder counts as gone, and more."""


class DatagramFaults:
    """Disturbs datagrams that pass; what was held back comes after the next one.

    kind: one of `KINDS`. faults: how many there were.
    """

    KINDS = ("lost", "doubled", "reordered", "truncated")

    def __init__(self, kind: str, chance: float, random: random.Random):
        self.kind, self.chance, self.random, self.faults = kind, chance, random, 0
        self._held: list[bytes] = []

    def __call__(self, data: bytes) -> list[bytes]:
        """What comes of one."""
        held, self._held = self._held, []
        if self.random.random() >= self.chance:
            return [data, *held]
        self.faults += 1
        match self.kind:
            case "doubled":
                return [data, data, *held]
            case "reordered":
                self._held = [data]
            case "truncated":
                return [data[:self.random.randrange(1, len(data))], *held]
        return held


def transport(library: Path) -> SimUdpTransport:
    """The driver's way to a board of its own."""
    return SimUdpTransport(LocalNetwork(CabledBoard(CONFIG, library=library)), WHERE)


def datagrams(kind: str, lab: Lab, tally: Tally, count: int) -> Iterator[None]:
    """Each of so many datagrams is disturbed, either way, during `count` operations."""
    line, board = lab.connect(tally)
    network = lab.transport.network
    for case, do in _operations(lab, board, count):
        faults = [DatagramFaults(kind, CHANCE, lab.random) for _ in range(2)]
        network.to_board, network.from_board = faults
        ended = lab.attempt(tally, line, do)
        tally.faults += sum(one.faults for one in faults)
        network.quieten()
        if ended != "right":
            lab.still_usable(tally, line, board, case)
        yield


def other_host(lab: Lab, tally: Tally, count: int) -> Iterator[None]:
    """Another host says valid requests, within operations and between them. It takes the board
    where they begin with a `sync`; else it is told who holds it, and nothing happens."""
    line, board = lab.connect(tally)
    speaker = Speaker(lab.random, CONFIG)
    for case, do in _operations(lab, board, count):
        left = [lab.random.randrange(8)]

        def event(data: bytes, left: list[int] = left) -> bool:
            speaker.hear(data)
            left[0] -= 1
            if left[0] == -1:
                lab.transport.network.send(speaker.says().lstrip(b"\0"), OTHER)
                tally.faults += 1
            return False

        line.event = event
        lab.attempt(tally, line, do)
        line.quieten()

        lab.attempt(tally, line, lambda case=case: case.infer_again(board))
        lab.still_usable(tally, line, board, case)
        yield


def calls(lab: Lab, tally: Tally, count: int) -> Iterator[None]:
    """Another host calls without end; every operation is right all the same."""
    line, board = lab.connect(tally)
    for case, do in _operations(lab, board, count):
        def event(data: bytes) -> bool:
            for _ in range(20):
                lab.transport.network.send(registers.CALL, OTHER)
            tally.faults += 20
            return False

        line.event = event
        if lab.attempt(tally, line, do) != "right":
            tally.unusable_after += 1
        lab.still_usable(tally, line, board, case)
        yield


def silent_host(lab: Lab, tally: Tally, count: int) -> Iterator[None]:
    """A host goes silent in the middle of a load; another one then finds the board free."""
    network = lab.transport.network
    for _ in range(count):
        line, board = lab.connect(tally)
        case, left = lab.random.choice(lab.cases), [lab.random.randrange(6)]

        def event(data: bytes, line=line, left=left) -> bool:
            left[0] -= 1
            line.mute = line.mute or left[0] < 0
            return line.mute

        line.event = event
        tally.faults += 1
        lab.attempt(tally, line, lambda case=case, board=board: case.load(board))
        network.board.rest(SILENCE)
        with Accelerator(SimUdpTransport(network, WHERE.removesuffix("?take"), keep=True),
                         CONFIG) as other:
            if not (case.load(other) and case.infer(other)):
                tally.silent_wrong += 1
        yield


def _operations(lab: Lab, board: Accelerator, count: int) -> Iterator[tuple]:
    """(case, what to do) of so many operations, the cases in turn."""
    done = 0
    while True:
        for case in lab.cases:
            for _, do in case.operations(board, lab.random):
                if done == count:
                    return
                done += 1
                yield case, do


NETWORK: dict[str, Callable[[Lab, Tally, int], Iterator[None]]] = {
    **{f"datagrams {kind}": partial(datagrams, kind) for kind in DatagramFaults.KINDS},
    "other host": other_host,
    "flood of calls": calls,
    "host goes silent": silent_host,
}
"""Kinds on a network; with how many runs."""
