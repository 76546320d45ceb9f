"""Frames/s with the link: the one definition, and how it is measured.

Inputs are sent one behind the other, round and round. When the line has been filled, one whole
round is timed, from the result of the input before it to that of its last one: frames/s are its
inputs divided by that time. So filling and emptying the line do not count, and every input counts
once.

A simulated board is timed by its own clock cycles, its line as slow as a UART's (`sim.board`), at
the board's fastest rate and at the one that boards have after power-up; a live board by the host's
clock, at the rate its line has. Where the far end is a simulated board behind a port (`sim.serve`)
or a recording, bytes take no time, and there is nothing to measure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from hw.boards import BOARDS
from hw.registers import DEFAULT_BAUD

from .driver import Accelerator

IMAGES = 8
"""Inputs of a round where the user does not say: the first ones of the data."""

FILLING = 4
"""Inputs before the timed round, at least: what the board's buffer and the core hold."""


ETHERNET_BYTES_PER_S, DATAGRAM_OVERHEAD = 12_500_000, 66
"""Of 100 Mbit Ethernet, each way; and bytes that go with a datagram's payload: 8 preamble, 18
Ethernet's header and check sequence, 20 IP, 8 UDP, 12 gap."""


@dataclass(frozen=True)
class Throughput:
    """Frames/s over the link at a rate (None: of Ethernet), of so many images."""

    baud: int | None
    frames_per_s: float
    images: int


def line_seconds(baud: int | None, size: float, datagrams: float = 1) -> float:
    """What so many bytes take on the line, one way; on Ethernet (None) in so many datagrams."""
    if baud is None:
        return (size + datagrams * DATAGRAM_OVERHEAD) / ETHERNET_BYTES_PER_S
    return 10 * size / baud


def line_name(baud: int | None) -> str:
    """A rate in words."""
    return "100 Mbit Ethernet" if baud is None else f"{baud / 1e6:g} Mbaud"


def rates(board: str, fastest: int | None = None) -> tuple[int, ...]:
    """Rates to measure at, the fastest first: the board's own, or `fastest`, and the first one."""
    top = fastest or BOARDS[board].max_baud
    return tuple(sorted({top, min(top, DEFAULT_BAUD)}, reverse=True))


def round_seconds(board: Accelerator, inputs: np.ndarray, masks: np.ndarray | None = None) -> float:
    """Seconds of a round of inputs in a busy line; `inputs` must not be empty.

    inputs, masks: as of `Accelerator.infer`. Overwrites the board's maps.
    """
    count = len(inputs)
    order = np.arange((-(-FILLING // count) + 1) * count) % count
    times: list[float] = []
    board.infer(inputs[order], None if masks is None else masks[order],
                progress=lambda _: times.append(board.transport.now()))
    return times[-1] - times[-1 - count]


def measure(board: Accelerator, inputs: np.ndarray, bauds: Iterable[int],
            masks: np.ndarray | None = None) -> tuple[Throughput, ...]:
    """Frames/s at the rates, of a live board at its own alone; empty where bytes take no time."""
    line = board.transport
    if not line.timed or not len(inputs):
        return ()
    found = []
    for baud in bauds if line.simulated else [line.baud]:
        if line.simulated:
            line.set_baud(baud)
        found.append(Throughput(baud, len(inputs) / round_seconds(board, inputs, masks),
                                len(inputs)))
    return tuple(found)
