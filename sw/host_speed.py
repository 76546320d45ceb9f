"""What an image costs the host: encoding, session and decoding, without a board.

    spiketicket bench host

The driver runs a ticket on a board of a few lines that answers every request at once with its right
number and epoch, and logits that mean nothing. Processor time of that board is not counted.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from hw import program, registers
from hw.boards import BOARDS
from hw.config import CoreConfig
from hw.registers import PROTOCOL, REPLY, REQUEST, Space, Status

from . import bundled, ticket
from .board.driver import Accelerator
from .board.protocol import decode_frame, digest, encode_frame
from .board.transport import Transport
from .compile.compiler import compile_network
from .core import cores
from .data import datasets
from .plan import recorded_activity

ROUNDS = 5
"""Of which the fastest counts: what else the computer does only adds."""


class Answering(Transport):
    """A board that holds whatever is sent, and does everything at once. seconds: processor time
    that it took."""

    name = "a board that answers at once"
    timed = False

    def __init__(self, config: CoreConfig):
        self.seconds = 0.0
        self._answers, self._rest, self._epoch = bytearray(), b"", 0
        self._memory = {space: np.zeros(words, np.uint32)
                        for space, words in registers.space_words(config).items()}
        identity = registers.identity(config)
        self._memory[Space.REGISTER][:5] = [registers.MAGIC, PROTOCOL, identity & 0xFFFFFFFF,
                                            identity >> 32, config.clock_hz]

    def write(self, data: bytes) -> None:
        began = time.thread_time()
        *frames, self._rest = (self._rest + data).split(b"\0")
        for frame in filter(None, frames):
            self._answers += self._answer(decode_frame(frame))
        self.seconds += time.thread_time() - began

    def _answer(self, words: np.ndarray) -> bytes:
        asked = program.unpack_words(REQUEST, words[:len(REQUEST)].tolist())
        if not asked["sync"] or asked["write"] or asked["run"]:
            self._epoch = registers.next_epoch(self._epoch, digest(words))
        if asked["write"] and asked["write_space"] != Space.MAP:    # `load` checks it
            data = words[len(REQUEST):]
            self._memory[asked["write_space"]][asked["write_addr"]:][:len(data)] = data
        read = np.zeros(0, np.uint32)
        if asked["read"]:
            read = self._memory[asked["read_space"]][
                asked["read_addr"]::asked["read_stride"]][:asked["read_count"]]
        if asked["digest"]:
            read = np.array([digest(read)], np.uint32)
        header = program.pack_words(REPLY, {
            "version": PROTOCOL, "reply": 1, "unused": 0, "status": Status.OK, "seq": asked["seq"],
            "expected": (asked["seq"] + 1) & 0xFFFF, "count": len(read), "cycles": 1,
            "epoch": self._epoch})
        return encode_frame(np.concatenate([np.array(header, np.uint32), read]))

    def read(self, timeout: float) -> bytes:
        answers = bytes(self._answers)
        self._answers.clear()
        return answers

    def close(self) -> None:
        pass

    def reset(self) -> None:
        pass


def measure(names: Sequence[str] | None = None, images: int = 320) -> list[dict]:
    """Microseconds of processor time per image, of each bundled or given ticket.

    Raises SpikeTicketError where it cannot be loaded or has no samples.
    """
    rows = []
    for name in names or bundled.names():
        found = ticket.load(bundled.find(name))
        samples = datasets.for_network(found.network, bundled.data_for(found), limit=images).images
        inputs = np.resize(samples, (images, *samples.shape[1:]))
        preset, config = cores.choose(BOARDS["sim"], found.network)
        transport = Answering(config)
        with Accelerator(transport, config) as board:
            board.load(compile_network(found.network, config, recorded_activity(found)))
            taken = [_seconds(board, transport, inputs) for _ in range(ROUNDS)]
        rows.append({"ticket": name, "preset": preset, "images": images,
                     "us_per_image": 1e6 * min(taken) / images,
                     "images_per_s": images / min(taken)})
    return rows


def _seconds(board: Accelerator, transport: Answering, inputs: np.ndarray) -> float:
    began, before = time.process_time(), transport.seconds
    board.infer(inputs)
    return time.process_time() - began - (transport.seconds - before)


def show(rows: Sequence[dict]) -> None:
    """As text."""
    for row in rows:
        print(f"{row['ticket']:20} {row['us_per_image']:6.0f} us of processor time an image: "
              f"{row['images_per_s']:,.0f} images/s keep one core busy")
