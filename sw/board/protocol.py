"""Frames between host and board, on the host's side: stuffing, CRC, request and reply.

`docs/link.md` specifies the protocol, `hw.registers` holds its tables, `hw.framing` is the other
side.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from hw import program, registers
from hw.registers import PROTOCOL, REPLY, REQUEST, Space, Status

from ..errors import WrongBoard
from . import byte_kernels

MAX_PAYLOAD = registers.FRAME_WORDS - len(REQUEST) - 1
"""Most words a request can write."""

_MAX_REPLY_BYTES = 4 * (len(REPLY) + 0xFFFF + 1) * 255 // 254 + 2


@dataclass(frozen=True)
class FrameSizes:
    """Words of payload of a frame to the board, at most.

    load: of one that loads a network: 240 are 96 % of its bytes, and repeating one costs little.
    input: of one that writes an input. Two of 480 words fit the board's buffer, so the next one
        arrives while one is at work; as an input is repeated whole, more frames would not help.
    """

    load: int = 240
    input: int = 480


class FrameError(ValueError):
    """Bytes between two zeros are not a frame; the message says why."""


def cobs_encode(data: bytes) -> bytes:
    """Consistent overhead byte stuffing (Cheshire and Baker 1999) without the final zero."""
    return byte_kernels.stuff(np.frombuffer(data, np.uint8)).tobytes()


def cobs_decode(data: bytes) -> bytes:
    """Inverse of `cobs_encode`. Raises FrameError if `data` breaks off within a block."""
    plain, wrong = byte_kernels.unstuff(np.frombuffer(data, np.uint8))
    if wrong:
        raise FrameError(("the frame breaks off", "a zero byte inside a frame")[wrong - 1])
    return plain.tobytes()


def encode_frame(words: np.ndarray) -> bytes:
    """A frame of 32-bit words, stuffed and ended by a zero; the CRC is added here."""
    return stuffed(np.ascontiguousarray(words, dtype="<u4").tobytes())[0]


def stuffed(data: bytes) -> tuple[bytes, int]:
    """The frame of these bytes as it goes over the line, and their CRC."""
    crc = zlib.crc32(data)
    return cobs_encode(data + crc.to_bytes(4, "little")) + b"\0", crc


def decode_frame(frame: bytes) -> np.ndarray:
    """Words (uint32) of a frame without its final zero. Raises FrameError if it is damaged."""
    data = cobs_decode(frame)
    if len(data) % 4 or len(data) < 8:
        raise FrameError(f"{len(data)} bytes are no frame")
    if zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise FrameError("the CRC does not match")
    return np.frombuffer(data[:-4], dtype="<u4").astype(np.uint32)


def digest(words: np.ndarray) -> int:
    """CRC-32 the board computes of these words in its memory."""
    return zlib.crc32(np.ascontiguousarray(words, dtype="<u4").tobytes())


def words(values: Iterable[int] = ()) -> np.ndarray:
    """Integers as words of a frame: uint32 [n]."""
    return np.array(list(values), np.uint32)


@dataclass(frozen=True, eq=False)
class Write:
    """Words to write: uint32 [n] from `address` on.

    expand: 0 writes the words as they are. Otherwise every bit of every word becomes a 4-bit spike
    mask, `expand` where it is 1, so that a word fills 4 words of memory (a static input).
    packed: 0, or the number of words of memory that `words` fill, which are in the format of
    `sw.board.packing` then (with `expand` the mask of all active positions).
    """

    space: Space
    address: int
    words: np.ndarray = field(default_factory=words)
    expand: int = 0
    packed: int = 0

    @property
    def payload(self) -> np.ndarray:
        """Words of the frame between header and CRC: uint32."""
        if not self.packed:
            return self.words
        return np.concatenate([np.array([self.packed], np.uint32), self.words])

    @property
    def frame_words(self) -> int:
        """Words of the frame, CRC included; one more of the board's buffer does it take."""
        return len(REQUEST) + 1 + len(self.words) + (self.packed > 0)


@dataclass(frozen=True)
class Run:
    """A run of the core from program word `start`, of `stop_after` layers (0: all).

    The board gives up after `max_cycles`, resets the core and says so.
    """

    start: int = 0
    stop_after: int = 0
    max_cycles: int = 0xFFFFFFFF


@dataclass(frozen=True)
class Read:
    """`count` words, `stride` apart; with `digest` their CRC-32 instead (one word)."""

    space: Space
    address: int
    count: int
    stride: int = 1
    digest: bool = False

    @property
    def reply_words(self) -> int:
        return 1 if self.digest else self.count


@dataclass(frozen=True)
class Request:
    """What one frame asks for, in this order: write, run, read."""

    write: Write | None = None
    run: Run | None = None
    read: Read | None = None
    sync: bool = False

    @functools.cached_property
    def buffer_words(self) -> int:
        """Words that the frame takes of the board's buffer."""
        return 1 + (self.write.frame_words if self.write else len(REQUEST) + 1)

    @property
    def reply_words(self) -> int:
        """Words that the reply carries if all goes well."""
        return self.read.reply_words if self.read else 0

    @property
    def chained(self) -> bool:
        """Whether it advances the board's epoch."""
        return not self.sync or self.write is not None or self.run is not None

    def encode(self, seq: int) -> bytes:
        """The frame as it goes over the line. Raises as `frame`."""
        return stuffed(self.frame(seq))[0]

    def frame(self, seq: int) -> bytes:
        """The frame's words without its CRC. Raises ValueError naming a field that does not fit."""
        if not 0 <= seq < 1 << 16:
            raise ValueError(f"seq = {seq} is outside 0..65535")
        first, rest = self._numberless
        return (first | seq << _SEQ_PLACE).to_bytes(4, "little") + rest

    @functools.cached_property
    def _numberless(self) -> tuple[int, bytes]:
        """The first word without the number, and the bytes of all others."""
        if self.write is None:
            return _header(self.sync, None, 0, 0, False, self.run, self.read)
        write, payload = self.write, self.write.payload
        if len(payload) > MAX_PAYLOAD:
            raise ValueError(f"{len(payload)} words to write are more than {MAX_PAYLOAD}")
        first, rest = _header(self.sync, write.space, write.address, write.expand,
                              write.packed > 0, self.run, self.read)
        return first, rest + payload.astype("<u4", copy=False).tobytes()


_SEQ_PLACE = sum(width for name, width in REQUEST[0] if name != "seq")


@functools.lru_cache(4096)
def _header(sync: bool, space: Space | None, address: int, expand: int, packed: bool,
            run: Run | None, read: Read | None) -> tuple[int, bytes]:
    """The first word of a header without its number, and the bytes of the others; space: None
    without a write. Of the inputs of a batch they are mostly the same."""
    first, *rest = program.pack_words(REQUEST, {
        "version": PROTOCOL, "reply": 0, "sync": sync, "write": space is not None,
        "run": run is not None, "read": read is not None, "packed": packed, "unused": 0, "seq": 0,
        "digest": read is not None and read.digest,
        "write_addr": address, "write_space": Space.MAP if space is None else space,
        "expand": expand, "start": 0, "stop_after": 0, "max_cycles": 0,
        "read_addr": 0, "read_space": Space.MAP, "read_count": 0, "read_stride": 1,
    } | ({} if run is None else vars(run)) | ({} if read is None else {
        "read_addr": read.address, "read_space": read.space, "read_count": read.count,
        "read_stride": read.stride}))
    return first, np.array(rest, "<u4").tobytes()


@dataclass(frozen=True, eq=False)
class Reply:
    """The board's answer. cycles: of the run, 0 without one. epoch: see `registers.next_epoch`.
    words: what was read, uint32."""

    status: Status
    seq: int
    expected: int
    cycles: int
    epoch: int
    words: np.ndarray

    @classmethod
    def decode(cls, frame: bytes) -> Reply:
        """Raises FrameError if the bytes (without the final zero) are no whole reply.

        Raises SpikeTicketError if they are one of another protocol version.
        """
        words = decode_frame(frame)
        header = words[:len(REPLY)].tolist()
        first = program.unpack(REPLY[0], header[0])
        if not first["reply"]:
            raise FrameError("a request came back: the line is looped")
        if first["version"] != PROTOCOL:
            raise WrongBoard(
                f"the board speaks protocol {first['version']}, this host {PROTOCOL}; "
                "use a bitstream and a host of one version")
        if len(words) < len(REPLY):
            raise FrameError(f"{len(words)} words are no reply")
        values = program.unpack_words(REPLY, header)
        if values["count"] != len(words) - len(REPLY) or values["status"] not in _STATUSES:
            raise FrameError("the reply's header contradicts itself")
        return cls(Status(values["status"]), values["seq"], values["expected"], values["cycles"],
                   values["epoch"], words[len(REPLY):])


_STATUSES = frozenset(Status)


class Splitter:
    """Cuts received bytes into frames at their zeros; bytes may come in any portions."""

    def __init__(self):
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Complete frames, without their zeros. Overlong garbage is dropped."""
        self._rest += data
        *frames, rest = self._rest.split(b"\0")
        self._rest = bytearray(rest[-_MAX_REPLY_BYTES:])
        for frame in frames:
            if frame:
                yield bytes(frame)

    def clear(self) -> None:
        self._rest.clear()
