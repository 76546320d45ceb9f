"""AEDAT 2.0 (jAER) and 3.1 (libcaer): addresses of DVS128, DAVIS240 and DAVIS346.

AEDAT 2.0: lines that begin with "#", then big-endian pairs of address and time; which bits of the
address are what depends on the chip, which the line "# AEChip: ..." names.
AEDAT 3.1: lines up to "#!END-HEADER", then packets of one type each; "#Source N: ..." names the
chip. Chips that are not known are refused: their addresses would be read as others'.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ..errors import BadInput
from .aedat4 import read_aedat4
from .arrays import read_bytes
from .events import Events

_HEADER_LIMIT = 1 << 20
"""Bytes of header lines; jAER writes its settings there."""
_PACKET = np.dtype([("type", "<u2"), ("source", "<u2"), ("size", "<u4"), ("offset", "<u4"),
                    ("overflow", "<u4"), ("capacity", "<u4"), ("number", "<u4"), ("valid", "<u4")])
_POLARITY_EVENT = 1
_SENSORS = {"DVS128": (128, 128), "DAVIS240": (240, 180), "DAVIS346": (346, 260)}
_CHIPS = (("DVS128", r"dvs128|tmpdiff128"), ("DAVIS240", r"davis240[abc]?|sbret(10|20|21)"),
          ("DAVIS346", r"davis346[abc]?(mono|rgb|red|blue|mini)?"))
"""Chips, and what jAER, v2e and libcaer call them, in lower case."""


def read_aedat(path: str | Path, sensor: tuple[int, int] | None = None) -> Events:
    """AEDAT 2.0, 3.1 or 4.0, as the first line says. `sensor` (width, height), where given, must
    be the chip's; it names the chip where the file does not.

    Invalid events and those of other types (frames, IMU, triggers) are left out. Raises
    SpikeTicketError for other versions and chips, and for damage.
    """
    path = Path(path)
    data = read_bytes(path)
    match = re.match(rb"#!AER-DAT(\d\.\d)\r?\n", data)
    version = match[1].decode() if match else None
    if version == "4.0":
        return read_aedat4(path, sensor, data)
    if version == "2.0":
        return _aedat2(path, data, sensor)
    if version == "3.1":
        return _aedat3(path, data, sensor)
    if version is None:
        raise BadInput(f"{path}: does not begin with #!AER-DAT; not an AEDAT file"
                       ", or one of version 1, which jAER can save again as 2.0")
    raise BadInput(f"{path}: AEDAT {version} is not 2.0, 3.1 or 4.0; save it again with "
                   "jAER or DV")


def _header(data: bytes, path: Path) -> tuple[list[str], int]:
    """(header lines, offset of the first byte after them)."""
    lines, at = [], 0
    while data[at:at + 1] == b"#":
        end = data.find(b"\n", at, at + 4096)
        if end < 0 or end > _HEADER_LIMIT:
            raise BadInput(f"{path}: truncated in the header; fetch it again")
        lines.append(data[at:end].decode("latin-1").strip())
        at = end + 1
        if lines[-1] == "#!END-HEADER":
            break
    return lines, at


def _chip(path: Path, stated: str | None,
          sensor: tuple[int, int] | None) -> tuple[str, tuple[str, ...]]:
    """The chip that the header or `sensor` says, and a note where neither does."""
    if stated is None:
        if sensor is None:
            return "DVS128", (f"{path}: names no chip; read as DVS128, 128 x 128",)
        found = next((chip for chip, size in _SENSORS.items() if size == tuple(sensor)), None)
        if found is None:
            raise BadInput(f"{path}: names no chip, and {sensor[0]} x {sensor[1]} is none "
                           f"of {_known()}; give the sensor of one of them")
        return found, ()
    found = next((chip for chip, names in _CHIPS if re.fullmatch(names, stated.lower())), None)
    if found is None:
        raise BadInput(f"{path}: chip {stated[:60]!r} is not known, its addresses cannot "
                       f"be read; known are {_known()}")
    if sensor is not None and tuple(sensor) != _SENSORS[found]:
        width, height = _SENSORS[found]
        raise BadInput(f"{path}: recorded by a {found}, {width} x {height}, not "
                       f"{sensor[0]} x {sensor[1]}; leave sensor out")
    return found, ()


def _known() -> str:
    return ", ".join(f"{chip} ({width} x {height})" for chip, (width, height) in _SENSORS.items())


def _stated(lines: list[str], pattern: str) -> str | None:
    """The chip's name on the first line of that pattern, without a Java package's."""
    for line in lines:
        if match := re.match(pattern, line):
            return match[1].strip().rpartition(".")[2]
    return None


def _aedat2(path: Path, data: bytes, sensor: tuple[int, int] | None) -> Events:
    lines, start = _header(data, path)
    if (len(data) - start) % 8:
        raise BadInput(f"{path}: {len(data) - start} bytes after the header are no "
                       "multiple of 8, an event's size; fetch it again")
    raw = np.frombuffer(data, ">u4", offset=start).reshape(-1, 2).astype(np.int64)
    chip, notes = _chip(path, _stated(lines, r"#\s*AEChip:(.*)"), sensor)
    address, t = raw[:, 0], raw[:, 1]
    if chip == "DVS128":
        # Bits 15 and 31 mark synchronisation and what else is no pixel's. The camera's axes are
        # swapped and mirrored, its polarity inverted; this is the picture upright, as
        # SpikingJelly's CIFAR10DVS turns it.
        keep = address & 0x8000_8000 == 0
        x, y = 127 - (address >> 8 & 0x7F), 127 - (address >> 1 & 0x7F)
        p = 1 - (address & 1)
        if notes and (address[keep] >> 16).any():
            raise BadInput(f"{path}: addresses of more than 16 bits are not a DVS128's; "
                           "give the sensor of another chip, such as 346x260")
    else:
        keep = (address >> 31 == 0) & (address >> 10 & 1 == 0)  # neither APS or IMU, nor triggers
        x, y, p = address >> 12 & 0x3FF, address >> 22 & 0x1FF, address >> 11 & 1
    return Events(x[keep], y[keep], t[keep], p[keep], _SENSORS[chip], str(path), notes)


def _aedat3(path: Path, data: bytes, sensor: tuple[int, int] | None) -> Events:
    lines, at = _header(data, path)
    form = next((line.partition(":")[2].strip() for line in lines if line.startswith("#Format:")),
                "RAW")
    if form != "RAW":
        raise BadInput(f"{path}: AEDAT 3.1 in format {form[:60]!r} is not RAW; save it "
                       "uncompressed")
    stated = _stated(lines, r"#Source \d+:(.*)")
    if stated is None and sensor is None:
        raise BadInput(f"{path}: names no source and no size; give sensor as width, height")
    if stated is not None:
        sensor = _SENSORS[_chip(path, stated, sensor)[0]]
    parts = []
    while at < len(data):
        if len(data) - at < _PACKET.itemsize:
            raise BadInput(f"{path}: truncated in a packet's header at byte {at}")
        head = {name: int(np.frombuffer(data, _PACKET, 1, at)[name][0]) for name in _PACKET.names}
        at += _PACKET.itemsize
        size = head["size"] * head["capacity"]
        if size > len(data) - at or head["number"] > head["capacity"]:
            raise BadInput(
                f"{path}: the packet at byte {at - _PACKET.itemsize} claims {head['capacity']} "
                f"events of {head['size']} bytes ({head['number']} used), {len(data) - at} bytes "
                "are left; fetch it again")
        if head["type"] == _POLARITY_EVENT:
            if head["size"] != 8:
                raise BadInput(f"{path}: polarity events of {head['size']} bytes, not 8, "
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
