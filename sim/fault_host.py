"""Kinds of fault that need real processes and a real port: a host killed within a frame, a port
that vanishes. Run as a program this is the host that gets killed.

    python -m sim.fault_host PORT KIND SEED      # loads and infers until somebody ends it
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sw.board.driver import Accelerator
from sw.board.transport import SerialTransport
from sw.errors import SpikeTicketError, command

from .fault_board import CONFIG
from .fault_cases import draw
from .fault_lab import Lab, Tally
from .serve import Board

PIECE = 16
"""Bytes that the host hands to the port at a time, so that it dies within a frame."""


class PortLine(SerialTransport):
    """A serial port that counts, and sends piece by piece."""

    def __init__(self, port: str):
        super().__init__(port)
        self.bytes = 0

    def write(self, data: bytes) -> None:
        self.bytes += len(data)
        for place in range(0, len(data), PIECE):
            super().write(data[place:place + PIECE])

    def read(self, timeout: float) -> bytes:
        data = super().read(timeout)
        self.bytes += len(data)
        return data


@contextmanager
def _served(lab: Lab) -> Iterator[tuple[Board, Path]]:
    """The lab's core behind a pseudo-terminal, under a name that stays."""
    with tempfile.TemporaryDirectory(prefix="spiketicket-") as folder:
        link = Path(folder) / "board"
        with Board(CONFIG, link=link, library=lab.library) as board:
            yield board, link


def host_killed(lab: Lab, tally: Tally, count: int) -> Iterator[None]:
    """SIGKILL for a host process that loads and infers, at any moment; another host comes after."""
    case = lab.cases[0]
    with _served(lab) as (_, link):
        for _ in range(count):
            program = [sys.executable, "-m", "sim.fault_host", str(link), case.kind, str(case.seed)]
            with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as host:
                try:
                    if host.stdout.readline() != "begun\n":
                        raise SpikeTicketError("the host that is to be killed did not start")
                    time.sleep(lab.random.random() * 0.05)
                finally:
                    host.kill()
            tally.faults += 1
            line = PortLine(str(link))

            def come(line: PortLine = line) -> bool:
                with Accelerator(line, CONFIG) as board:
                    return case.load(board) and case.infer(board)

            if lab.attempt(tally, line, come) != "right":
                tally.unusable_after += 1
            yield


def port_vanishes(lab: Lab, tally: Tally, count: int) -> Iterator[None]:
    """The port is gone in the middle of an operation; later it is back, with a board as after
    power-up. The same `Accelerator` goes on."""
    case = lab.cases[0]
    for _ in range(count):
        with tempfile.TemporaryDirectory(prefix="spiketicket-") as folder:
            link = Path(folder) / "board"
            served = Board(CONFIG, link=link, library=lab.library)
            line = PortLine(str(link))
            with Accelerator(line, CONFIG) as board:
                case.load(board)
                gone = threading.Timer(lab.random.random() * 0.05, served.close)

                def until_gone(board: Accelerator = board) -> bool:
                    while case.infer(board):
                        pass
                    return False

                gone.start()
                tally.faults += 1
                lab.attempt(tally, line, until_gone)
                gone.join()
                with Board(CONFIG, link=link, library=lab.library):
                    if lab.attempt(tally, line, lambda board=board: case.infer(board)) != "right":
                        tally.unusable_after += 1
                    board.close()
        yield


REAL = {"host killed": host_killed, "port vanishes": port_vanishes}


@command
def main(arguments: Sequence[str] | None = None) -> int:
    port, kind, seed = sys.argv[1:] if arguments is None else arguments
    _, image, inputs, masks = draw(kind, int(seed), CONFIG)
    with Accelerator(PortLine(port), CONFIG) as board:
        print("begun", flush=True)
        while True:
            board.load(image)
            board.infer(inputs, masks)


if __name__ == "__main__":
    sys.exit(main())
