"""Bytes for `sim.parser_fuzz`: whole frames with any fields, and damage of every kind."""

from __future__ import annotations

import random
import zlib

import numpy as np

from hw import program, registers
from hw.registers import PROTOCOL, REQUEST, Space
from sw.board.protocol import FrameError, cobs_encode, decode_frame, encode_frame

MOST_CYCLES = 3000
"""Limit of a run: a board may take as long as it was allowed to."""

LENGTHS = (0, 0, 0, 1, 2, 3, 8, 40, 100, 240, 504, 505)
EDGES = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFF, 0xFFFFFF)


def random_frame(draw: random.Random, expected: int, busy: bool = False) -> bytes:
    """A whole frame, its zero included, that mostly means something. expected: the sequence number
    the board takes next. busy: one that keeps the board at work, if the rest is right."""
    write, payload = draw.random() < 0.6, []
    if write or draw.random() < 0.1:
        kind = draw.randrange(4)
        payload = [0 if kind == 0 else 0xFFFFFFFF if kind == 1 else draw.getrandbits(32)
                   for _ in range(draw.choice(LENGTHS))]
    packed = write and draw.random() < 0.25
    if packed and payload and draw.random() < 0.9:
        payload[0] = draw.randrange(300)
    read = draw.random() < 0.6
    values = {
        "version": PROTOCOL if draw.random() < 0.97 else draw.randrange(16),
        "reply": draw.random() < 0.02, "sync": busy or draw.random() < 0.3, "write": write,
        "run": busy or draw.random() < 0.2, "read": read, "digest": read and draw.random() < 0.3,
        "packed": packed, "unused": 0 if draw.random() < 0.97 else draw.getrandbits(4),
        "seq": (expected + draw.choice((0, 0, 0, 0, -1, -1, 1, draw.getrandbits(16)))) & 0xFFFF,
        "write_addr": _address(draw), "write_space": _space(draw),
        "expand": draw.getrandbits(4) if draw.random() < 0.3 else 0,
        "read_addr": _address(draw), "read_space": _space(draw),
        "read_count": draw.randrange(40) if draw.random() < 0.97 else draw.choice((1023, 4000)),
        "read_stride": draw.choice((0, 1, 1, 2, 4, 0xFFFF)),
        "start": draw.choice((0, 0, 7, 0xFFFF)), "stop_after": draw.choice((0, 1, 255)),
        "max_cycles": draw.randrange(MOST_CYCLES),
    }
    header = program.pack_words(REQUEST, {name: int(value) for name, value in values.items()})
    return encode_frame(np.array([*header, *payload], np.uint32))


def _sync(draw: random.Random) -> bytes:
    fields = dict.fromkeys((name for word in REQUEST for name, _ in word), 0)
    fields |= {"version": PROTOCOL, "sync": 1, "seq": draw.getrandbits(16)}
    return encode_frame(np.array(program.pack_words(REQUEST, fields), np.uint32))


def _address(draw: random.Random) -> int:
    return draw.choice((*EDGES, draw.randrange(600), draw.randrange(600)))


def _space(draw: random.Random) -> int:
    return draw.randrange(len(Space)) if draw.random() < 0.95 else draw.randrange(16)


def random_input(draw: random.Random, expected: int) -> bytes:
    """Some frames, noise between them."""
    parts = []
    for number in range(draw.randrange(1, 5)):
        kind = draw.random()
        if kind < 0.7:
            parts.append(random_frame(draw, expected + number))
        elif kind < 0.8:
            parts.append(draw.randbytes(draw.randrange(80)))
        elif kind < 0.9:   # stuffing that runs to its limits
            parts.append(bytes([draw.choice((1, 2, 0xFE, 0xFF))]) * draw.choice((1, 28, 300, 2100)))
        else:              # a frame of any length with a right CRC
            data = draw.randbytes(draw.choice((0, 1, 3, 4, 20, 23, 24, 25, 2044, 2048, 2052)))
            parts.append(cobs_encode(data + zlib.crc32(data).to_bytes(4, "little")))
        if draw.random() < 0.2:    # whoever comes next, while the board is at work or soon after
            parts += [b"\0", random_frame(draw, expected + number, busy=True),
                      b"\0" * draw.choice((0, 1, 30, 300, 2000)), _sync(draw)]
        parts.append(b"\0" * draw.choice((0, 0, 1, 2)))
    return b"".join(parts)


def mutate(draw: random.Random, data: bytes, other: bytes) -> bytes:
    """`data`, changed; `other` lends parts."""
    for _ in range(draw.choice((1, 1, 2, 4))):
        size = len(data) or 1
        place, length = draw.randrange(size), draw.choice((1, 1, 2, 4, 30, 300))
        match draw.randrange(8):
            case 0:
                data = data[:place] + bytes([(data[place:place + 1] or b"\0")[0]
                                             ^ 1 << draw.randrange(8)]) + data[place + 1:]
            case 1:
                data = data[:place] + draw.randbytes(length) + data[place + length:]
            case 2:
                data = data[:place] + data[place + length:]
            case 3:
                data = data[:place] + data[place:place + length] * 2 + data[place + length:]
            case 4:
                data = data[:place] + bytes([draw.choice((0, 0, 1, 0xFE, 0xFF))]) + data[place:]
            case 5:
                start = draw.randrange(len(other) or 1)
                data = data[:place] + other[start:start + 8 * length] + data[place:]
            case 6:
                data = data[:place]
            case 7:
                data = _change_words(draw, data)
    return b"\0".join(_tamed(part) for part in data[:20_000].split(b"\0"))


def _change_words(draw: random.Random, data: bytes) -> bytes:
    """Change words of one of the whole frames in `data` and make its CRC right again."""
    frames = data.split(b"\0")
    index = draw.randrange(len(frames))
    try:
        words = decode_frame(frames[index]).copy()
    except FrameError:
        return data
    place = draw.randrange(len(words))
    words[place] ^= np.uint32(1 << draw.randrange(32))
    if draw.random() < 0.3:
        words = np.concatenate([words[:place], words[place // 2:]])[:registers.FRAME_WORDS + 4]
    frames[index] = encode_frame(words)[:-1]
    return b"\0".join(frames)


def _tamed(frame: bytes) -> bytes:
    """A whole frame with a run whose limit is small: what the board is allowed to is no hang."""
    try:
        words = decode_frame(frame)
    except FrameError:
        return frame
    if len(words) < len(REQUEST):
        return frame
    if words[5] < MOST_CYCLES and words[3] & 0xFFFF <= 4096:
        return frame
    words = words.copy()
    words[5] %= MOST_CYCLES
    words[3] &= 0xFFFF0FFF
    return encode_frame(words)[:-1]
