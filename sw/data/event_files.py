"""Event files of the usual cameras and libraries, untrusted: any bytes give events or one error.

====================  =============================================================================
`.bin`                N-MNIST and N-Caltech101 (ATIS): 5 bytes an event, big-endian: x, y, polarity
                      in bit 7 and 23 bits of microseconds; y = 240 marks 2^13 us of overflow
`.aedat`              AEDAT 2.0 (jAER; DVS128 and DAVIS addresses) and 3.1 (libcaer packets); the
                      first line says which
`.aedat4`             AEDAT 4 (DV): `sw.data.aedat4`
`.npy`                structured array with fields x, y, t, p; or plain [N, 4] with `columns` given
`.npz`                arrays x, y, t, p (SpikingJelly's `events_np`)
====================  =============================================================================

Times are microseconds. Every reader checks counts, sizes and coordinates before it allocates.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from ..errors import SpikeTicketError
from .aedat4 import read_aedat4
from .arrays import read_bytes, read_npy, read_npz
from .events import Events

_OVERFLOW_Y = 240
_OVERFLOW_US = 1 << 13
_HEADER_LIMIT = 1 << 16
_PACKET = np.dtype([("type", "<u2"), ("source", "<u2"), ("size", "<u4"), ("offset", "<u4"),
                    ("overflow", "<u4"), ("capacity", "<u4"), ("number", "<u4"), ("valid", "<u4")])
_POLARITY_EVENT = 1
_CHIPS = {"dvs128": (128, 128), "davis240": (240, 180), "davis346": (346, 260)}


def read_bin(path: str | Path, sensor: tuple[int, int] | None = (34, 34)) -> Events:
    """N-MNIST's .bin file; `sensor` is (width, height)."""
    path = Path(path)
    data = read_bytes(path)
    if len(data) % 5:
        raise SpikeTicketError(f"{path}: {len(data)} bytes are no multiple of 5, an event's size; "
                               "fetch it again")
    raw = np.frombuffer(data, np.uint8).reshape(-1, 5)
    late = raw[:, 2:].astype(np.int64)
    t = (late[:, 0] & 0x7F) << 16 | late[:, 1] << 8 | late[:, 2]
    marks = raw[:, 1] == _OVERFLOW_Y
    t += np.cumsum(marks) * _OVERFLOW_US
    real = ~marks
    return Events(raw[real, 0], raw[real, 1], t[real], raw[real, 2] >> 7, sensor or (34, 34),
                  str(path))


def _aedat_header(data: bytes, path: Path) -> tuple[str, list[str], int]:
    """(version, header lines, offset of the first byte after them)."""
    match = re.match(rb"#!AER-DAT(\d\.\d)\r?\n", data)
    if match is None:
        raise SpikeTicketError(f"{path}: does not begin with #!AER-DAT; not an AEDAT file")
    lines, at = [], 0
    while data[at:at + 1] == b"#":
        end = data.find(b"\n", at, at + 4096)
        if end < 0 or end > _HEADER_LIMIT:
            raise SpikeTicketError(f"{path}: truncated in the header; fetch it again")
        lines.append(data[at:end].decode("latin-1").strip())
        at = end + 1
        if lines[-1] == "#!END-HEADER":
            break
    return match[1].decode(), lines, at


def read_aedat(path: str | Path, sensor: tuple[int, int] | None = None) -> Events:
    """AEDAT 2.0 or 3.1. `sensor` (width, height) overrides what an AEDAT 2.0 header says.

    AEDAT 3.1 headers do not state a size: without `sensor` 128 x 128 is taken. Invalid events and
    those of other types (frames, IMU, triggers) are left out.
    """
    path = Path(path)
    data = read_bytes(path)
    version, lines, start = _aedat_header(data, path)
    if version == "2.0":
        return _aedat2(path, data[start:], lines, sensor)
    if version == "3.1":
        return _aedat3(path, data, start, sensor or (128, 128))
    raise SpikeTicketError(f"{path}: AEDAT {version} is not 2.0 or 3.1"
                           + ("; name it .aedat4" if version == "4.0" else ""))


def _aedat2(path: Path, body: bytes, lines: list[str], sensor: tuple[int, int] | None) -> Events:
    if len(body) % 8:
        raise SpikeTicketError(f"{path}: {len(body)} bytes after the header are no multiple of 8, "
                               "an event's size; fetch it again")
    raw = np.frombuffer(body, ">u4").reshape(-1, 2).astype(np.int64)
    named = " ".join(lines).lower()
    chip = next((chip for chip in _CHIPS if chip in named), "dvs128")
    address, t = raw[:, 0], raw[:, 1]
    if chip == "dvs128":
        # Bit 15 marks synchronisation. The camera's axes are swapped and mirrored, its polarity
        # inverted; this is the picture upright, as SpikingJelly's CIFAR10DVS turns it.
        keep = address & 0x8000 == 0
        x, y = 127 - (address >> 8 & 0x7F), 127 - (address >> 1 & 0x7F)
        p = 1 - (address & 1)
    else:
        keep = (address >> 31 == 0) & (address >> 10 & 1 == 0)  # neither APS or IMU, nor triggers
        x, y, p = address >> 12 & 0x3FF, address >> 22 & 0x1FF, address >> 11 & 1
    return Events(x[keep], y[keep], t[keep], p[keep], sensor or _CHIPS[chip], str(path))


def _aedat3(path: Path, data: bytes, at: int, sensor: tuple[int, int]) -> Events:
    parts = []
    while at < len(data):
        if len(data) - at < _PACKET.itemsize:
            raise SpikeTicketError(f"{path}: truncated in a packet's header at byte {at}")
        head = {name: int(np.frombuffer(data, _PACKET, 1, at)[name][0]) for name in _PACKET.names}
        at += _PACKET.itemsize
        size = head["size"] * head["capacity"]
        if size > len(data) - at or head["number"] > head["capacity"]:
            raise SpikeTicketError(
                f"{path}: the packet at byte {at - _PACKET.itemsize} claims {head['capacity']} "
                f"events of {head['size']} bytes ({head['number']} used), {len(data) - at} bytes "
                "are left; fetch it again")
        if head["type"] == _POLARITY_EVENT:
            if head["size"] != 8:
                raise SpikeTicketError(f"{path}: polarity events of {head['size']} bytes, not 8, "
                                       f"at byte {at}")
            raw = np.frombuffer(data, "<u4", 2 * head["number"], at).reshape(-1, 2)
            raw = raw[raw[:, 0] & 1 == 1].astype(np.int64)
            raw[:, 1] |= head["overflow"] << 31
            parts.append(raw)
        at += size
    raw = np.concatenate(parts) if parts else np.zeros((0, 2), np.int64)
    word = raw[:, 0]
    return Events(word >> 17 & 0x7FFF, word >> 2 & 0x7FFF, raw[:, 1], word >> 1 & 1, sensor,
                  str(path))


def _from_fields(fields: Mapping[str, np.ndarray], path: Path,
                 sensor: tuple[int, int] | None) -> Events:
    aliases = {"t": ("t", "ts", "timestamp"), "x": ("x",), "y": ("y",),
               "p": ("p", "pol", "polarity", "on")}
    found = {}
    for key, names in aliases.items():
        name = next((name for name in names if name in fields), None)
        if name is None:
            raise SpikeTicketError(f"{path}: no field {key}; it holds "
                                   f"{', '.join(fields) or 'nothing'}, events need x, y, t, p")
        found[key] = fields[name]
    if sensor is None:
        raise SpikeTicketError(f"{path}: NumPy events do not state the sensor's size; give sensor "
                               "as width, height")
    return Events(found["x"], found["y"], found["t"], found["p"], sensor, str(path))


def read_numpy(path: str | Path, sensor: tuple[int, int] | None = None, columns: str = "",
               time_unit: float = 1.0) -> Events:
    """Events of an .npy or .npz file.

    columns: order of the columns of a plain [N, 4] array, e.g. "txyp"; structured arrays need none.
    time_unit: microseconds of one unit of t (1000 for milliseconds).
    """
    path = Path(path)
    if path.suffix == ".npz":
        fields = read_npz(path, ("x", "y", "t", "p"))
    else:
        array = read_npy(path)
        if array.dtype.names:
            fields = {name: array[name] for name in array.dtype.names}
        elif array.ndim == 2 and array.shape[1] == 4 and sorted(columns) == sorted("txyp"):
            fields = {name: array[:, i] for i, name in enumerate(columns)}
        else:
            raise SpikeTicketError(
                f"{path}: {array.dtype} {list(array.shape)} is neither a structured array of x, y, "
                "t, p nor [N, 4] with its columns given (e.g. txyp)")
    if time_unit != 1.0 and "t" in fields:
        t = fields["t"]
        if t.dtype.kind not in "iuf" or t.ndim != 1:
            raise SpikeTicketError(f"{path}: t is {t.dtype} {list(t.shape)}, not numbers [N]")
        fields = {**fields, "t": t.astype(np.float64) * time_unit}
    return _from_fields(fields, path, sensor)


READERS: dict[str, Callable[..., Events]] = {
    ".bin": read_bin, ".aedat": read_aedat, ".aedat4": read_aedat4, ".npy": read_numpy,
    ".npz": read_numpy}


def read(path: str | Path, sensor: tuple[int, int] | None = None, columns: str = "",
         time_unit: float = 1.0) -> Events:
    """Events of a file by the end of its name. Raises SpikeTicketError for anything unreadable."""
    path = Path(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise SpikeTicketError(f"{path}: event files end in {', '.join(READERS)}")
    if reader is read_numpy:
        return read_numpy(path, sensor, columns, time_unit)
    return reader(path, sensor)
