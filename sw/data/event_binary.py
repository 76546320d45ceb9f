"""Binary event files without packets: ATIS `.bin` and Prophesee `.dat`.

`.bin` (N-MNIST, N-Caltech101): 5 bytes an event, big-endian: x, y, polarity in bit 7 and 23 bits of
microseconds; y = 240 marks 2^13 µs of overflow.
`.dat` (N-CARS, Prophesee's cameras): lines that begin with "%", a byte of event type and one of
event size, then pairs of little-endian u32: microseconds, and x, y, p in 9, 8 and 1 bits (version
1) or 14, 14 and 4 bits (version 2).
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ..errors import BadInput
from .arrays import read_bytes
from .event_times import unwrapped
from .events import Events

_OVERFLOW_Y = 240
_OVERFLOW_US = 1 << 13
_DAT_EVENTS = (0x00, 0x0C)
"""Types of change detection events."""


def read_bin(path: str | Path, sensor: tuple[int, int] | None = None) -> Events:
    """An ATIS file; `sensor` is (width, height), None N-MNIST's 34 x 34, with a note."""
    path = Path(path)
    data = read_bytes(path)
    if len(data) % 5:
        raise BadInput(f"{path}: {len(data)} bytes are no multiple of 5, an event's size; "
                       "fetch it again")
    notes: tuple[str, ...] = ()
    if sensor is None:
        sensor, notes = (34, 34), (f"{path}: states no sensor; read as N-MNIST's, 34 x 34",)
    raw = np.frombuffer(data, np.uint8).reshape(-1, 5)
    late = raw[:, 2:].astype(np.int64)
    t = (late[:, 0] & 0x7F) << 16 | late[:, 1] << 8 | late[:, 2]
    marks = raw[:, 1] == _OVERFLOW_Y
    t += np.cumsum(marks) * _OVERFLOW_US
    real = ~marks
    t, turns = unwrapped(t[real], str(path), (1 << 23,))
    return Events(raw[real, 0], raw[real, 1], t, raw[real, 2] >> 7, sensor, str(path),
                  notes + turns)


def read_dat(path: str | Path, sensor: tuple[int, int] | None = None) -> Events:
    """Change detection events of version 1 or 2. `sensor` (width, height), where given, must be the
    header's; needed where that states no size."""
    path = Path(path)
    data = read_bytes(path)
    stated, at = {}, 0
    while data[at:at + 1] == b"%":
        end = data.find(b"\n", at, at + 4096)
        if end < 0:
            raise BadInput(f"{path}: truncated in the header; fetch it again")
        match = re.match(rb"%\s*(Version|Width|Height)\s*:?\s*(\d{1,9})\s*$", data[at:end].strip(),
                         re.IGNORECASE)
        if match:
            stated[match[1].decode().lower()] = int(match[2])
        at = end + 1
    version = stated.get("version")
    if version not in (1, 2):
        raise BadInput(f"{path}: " + (
            "no line '% Version' at its beginning; not a Prophesee .dat file" if version is None
            else f"version {version} of .dat is not 1 or 2; save it again as version 2"))
    kind, size = data[at:at + 1], data[at + 1:at + 2]
    if not size or kind[0] not in _DAT_EVENTS or size[0] != 8:
        raise BadInput(f"{path}: events of type {kind.hex() or '?'} and {size.hex() or '?'}"
                       " bytes, not change detection (00 or 0c) of 8; truncated or other")
    if (len(data) - at - 2) % 8:
        raise BadInput(f"{path}: {len(data) - at - 2} bytes after the header are no "
                       "multiple of 8, an event's size; fetch it again")
    if {"width", "height"} <= stated.keys():
        held = stated["width"], stated["height"]
        if sensor is not None and held != tuple(sensor):
            raise BadInput(f"{path}: recorded by a {held[0]} x {held[1]} sensor, not "
                           f"{sensor[0]} x {sensor[1]}; leave sensor out")
        sensor = held
    if sensor is None:
        raise BadInput(f"{path}: its header states no size; give sensor as width, height")
    raw = np.frombuffer(data, "<u4", offset=at + 2).reshape(-1, 2).astype(np.int64)
    bits = (9, 8) if version == 1 else (14, 14)
    word = raw[:, 1]
    return Events(word & (1 << bits[0]) - 1, word >> bits[0] & (1 << bits[1]) - 1, raw[:, 0],
                  word >> sum(bits) & (1 if version == 1 else 15), sensor, str(path))
