"""What a board must answer to any bytes, written from `docs/link.md`; `sim.parser_fuzz` compares.

It knows frames, order, refusals and epochs. It does not know what is in memory nor how long a run
takes, so it predicts a reply's status, numbers and length, not its words.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hw import program, registers
from hw.config import CoreConfig
from hw.registers import PROTOCOL, REQUEST, Space, Status
from sw.board.protocol import FrameError, decode_frame, digest

READ_CYCLES, WRITE_CYCLES, FIXED_CYCLES = 16, 16, 200 + registers.FRAME_WORDS
"""Clock cycles that a word read (and sent) or written takes at most, and everything else: taking
the request out of the buffer, a reply without words."""


@dataclass(frozen=True)
class Expected:
    """A reply: its status (more than one where only the board can know), the number it carries, the
    number the board takes next, its words, the epoch. cycles: in which the board has answered."""

    status: frozenset[Status]
    seq: int
    next: int
    words: int
    cycles: int
    epoch: int


class ParserModel:
    """The board's side of the protocol, from a reset on.

    config: of the core.
    """

    def __init__(self, config: CoreConfig):
        self._sizes = registers.space_words(config)
        self.synced, self.expected, self.last, self.epoch = False, 0, Status.OK, 0

    @property
    def state(self) -> tuple[bool, int, Status, int]:
        """What a request may change; set again where it was not begun."""
        return self.synced, self.expected, self.last, self.epoch

    @state.setter
    def state(self, state: tuple[bool, int, Status, int]) -> None:
        self.synced, self.expected, self.last, self.epoch = state

    def frame(self, data: bytes) -> Expected | None:
        """Answer to the bytes between two zeros; None to nothing, stuffed (0x01) or not."""
        if data in (b"", b"\1"):
            return None
        try:
            frame = decode_frame(data)
        except FrameError:
            frame = np.zeros(0, np.uint32)
        words = [int(word) for word in frame]
        if not len(REQUEST) <= len(words) < registers.FRAME_WORDS:
            return self._expect(Status.BAD_FRAME, self.expected)
        fields = program.unpack_words(REQUEST, words[:len(REQUEST)])
        payload = words[len(REQUEST):]
        seq = fields["seq"]
        if fields["version"] != PROTOCOL or fields["reply"]:
            return self._expect(Status.VERSION, seq)
        verdict, repeated = self._verdict(fields, payload), False
        if fields["sync"] or (self.synced and seq == self.expected):
            self.synced, self.expected, self.last = True, (seq + 1) & 0xFFFF, verdict
            if not fields["sync"] or fields["write"] or fields["run"]:
                self.epoch = registers.next_epoch(self.epoch, digest(frame))
        elif self.synced and (seq + 1) & 0xFFFF == self.expected:
            verdict, repeated = self.last, True
        else:
            verdict = Status.ORDER
        if verdict != Status.OK:
            return self._expect(verdict, seq)
        allowed = {Status.OK}
        cycles = 0
        if not repeated:
            cycles += WRITE_CYCLES * self._written(fields, payload)
            if fields["run"]:
                allowed.add(Status.TIMEOUT)
                cycles += fields["max_cycles"]
        count = 0
        if fields["read"]:
            cycles += READ_CYCLES * fields["read_count"]
            count = 1 if fields["digest"] else fields["read_count"]
        return Expected(frozenset(allowed), seq, self.expected, count, cycles + FIXED_CYCLES,
                        self.epoch)

    def answered(self, status: Status) -> None:
        """Which of the possible answers to a run the board gave; it gives the same again."""
        self.last = status

    def _expect(self, status: Status, seq: int) -> Expected:
        return Expected(frozenset({status}), seq, self.expected, 0, FIXED_CYCLES, self.epoch)

    @staticmethod
    def _written(fields: dict[str, int], payload: list[int]) -> int:
        """Words of memory that a request writes."""
        if not fields["write"]:
            return 0
        if fields["packed"]:
            return payload[0]
        return len(payload) * (4 if fields["expand"] else 1)

    def _verdict(self, fields: dict[str, int], payload: list[int]) -> Status:
        packed, write, space = fields["packed"], fields["write"], fields["write_space"]
        if (fields["unused"] or (not write and (packed or payload)) or (packed and not payload)
                or (fields["digest"] and not fields["read"])
                or (fields["read"] and fields["read_space"] not in self._sizes)
                or (write and (space not in self._sizes or space == Space.COUNTER))):
            return Status.BAD_REQUEST
        if write and (fields["write_addr"] + self._written(fields, payload)
                      > self._sizes[Space(space)]):
            return Status.RANGE
        return Status.OK
