"""A second program at the board's port, and what it says: whole, valid requests of its own."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np

from hw import program, registers
from hw.config import CoreConfig
from hw.registers import REQUEST, Space
from sw.board.protocol import FrameError, Read, Request, Run, Write, decode_frame, encode_frame

from .fault_lab import Lab, Tally

PLACES = (Space.MAP, Space.WEIGHT, Space.PROGRAM, Space.GATE)
MOST_CYCLES = 5000
"""Limit of its runs; how long ones are ended is a test of its own (`tests/test_link.py`)."""

OPERATIONS = 10
"""For each of the runs that `check faults --runs` asks for."""


class Speaker:
    """Says requests that mean something. heard: the number of the session's last request."""

    def __init__(self, draw: random.Random, config: CoreConfig):
        self._draw, self._sizes = draw, registers.space_words(config)
        self.heard = 0

    def hear(self, data: bytes) -> None:
        """What the session sends."""
        try:
            words = decode_frame(data.strip(b"\0"))
        except FrameError:
            return
        self.heard = int(words[0]) >> 16

    def says(self) -> bytes:
        """One to three requests of one conversation: it starts anew, or has overheard the number
        that is due."""
        draw = self._draw
        seq = (self.heard + draw.choice((1, 1, 1, 2, 0))) & 0xFFFF
        sync = draw.random() < 0.6
        if sync:
            seq = draw.randrange(1 << 16)
        parts = [b"\0"]
        for number in range(draw.choice((1, 1, 2, 3))):
            request = self._request(sync and number == 0)
            parts.append(self._spoilt(request, seq) if draw.random() < 0.1
                         else request.encode(seq))
            seq = (seq + 1) & 0xFFFF
        return b"".join(parts)

    def _request(self, sync: bool) -> Request:
        draw = self._draw
        kind = draw.choice(("write", "write", "write and run", "run", "read", "nothing"))
        write = self._write() if kind.startswith("write") else None
        run = Run(draw.randrange(4), draw.randrange(3), draw.randrange(MOST_CYCLES)) \
            if kind.endswith("run") else None
        read = None
        if kind == "read" or draw.random() < 0.3:
            read = Read(draw.choice(list(Space)), draw.randrange(64), draw.randrange(24),
                        digest=draw.random() < 0.3)
        return Request(write, run, read, sync=sync)

    def _write(self) -> Write:
        draw = self._draw
        space = draw.choice([place for place in PLACES if self._sizes[place]])
        count = draw.randrange(1, 1 + min(8, self._sizes[space]))
        address = draw.randrange(min(40, self._sizes[space] - count + 1))
        words = np.array([draw.getrandbits(32) for _ in range(count)], np.uint32)
        return Write(space, address, words)

    def _spoilt(self, request: Request, seq: int) -> bytes:
        """The request with a field that means nothing, or of another version."""
        words = np.frombuffer(request.frame(seq), "<u4").copy()
        fields = program.unpack_words(REQUEST, [int(word) for word in words[:len(REQUEST)]])
        name = self._draw.choice(("version", "unused", "write_space", "read_space", "write_addr"))
        width = next(width for table in REQUEST for field, width in table if field == name)
        fields[name] = self._draw.getrandbits(width)
        words[:len(REQUEST)] = program.pack_words(REQUEST, fields)
        return encode_frame(words)


def second_speaker(lab: Lab, tally: Tally, count: int) -> Iterator[None]:
    """Another program says valid requests, within loads, batches and traces, and between calls.

    A call ends in the right result or in an error; so does the first call after it; the next one
    is right.
    """
    line, board = lab.connect(tally)
    speaker = Speaker(lab.random, lab.transport.config)
    done = 0
    while done < count * OPERATIONS:
        for case in lab.cases:
            for _, do in case.operations(board, lab.random):
                left = [lab.random.randrange(12)]

                def event(data: bytes, left: list[int] = left) -> bool:
                    speaker.hear(data)
                    left[0] -= 1
                    if left[0] == -1:
                        line.inner.write(speaker.says())
                        tally.faults += 1
                    return False

                line.event = event
                lab.attempt(tally, line, do)
                line.quieten()
                if lab.random.random() < 0.5:
                    line.inner.write(speaker.says())
                    tally.faults += 1

                lab.attempt(tally, line, lambda case=case: case.infer_again(board))
                lab.still_usable(tally, line, board, case)
                done += 1
                yield
