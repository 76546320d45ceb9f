"""AEDAT 4, the files of iniVation's DV: FlatBuffers in packets, plain, LZ4 or Zstandard.

    "#!AER-DAT4.0\\r\\n"
    u32 size, IOHeader {compression: i32, dataTablePosition: i64 = -1, infoNode: string}
    packets until dataTablePosition or the end: i32 stream, i32 size, the (compressed) content
    content of an event stream: u32 size, EventPacket {elements: [Event]}
    Event: i64 t in microseconds, i16 x, i16 y, bool on, 3 bytes of padding

`infoNode` is XML that names every stream's type and size. Decoded here because the compiled decoder
on PyPI ends the whole process on some damaged files; only decompression is left to libraries.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from ..errors import BadInput, ProgramMissing
from .events import MAX_EVENTS, Events

MAX_PACKET = 1 << 26
"""Largest packet after decompression, bytes."""
MAX_UNPACKED = 4 << 30
"""Of a file, all packets together."""

_EVENT = np.dtype([("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("on", "u1"), ("pad", "V3")])


def read_aedat4(path: Path, sensor: tuple[int, int] | None, data: bytes) -> Events:
    """Events of the first event stream; `sensor` (width, height), if given, must agree with it.

    data: the file's bytes, which begin with "#!AER-DAT4.0". Compressed files need the package lz4
    or zstandard. Raises SpikeTicketError for anything else.
    """
    begin = data.index(b"\n") + 1
    try:
        size, = struct.unpack_from("<I", data, begin)
        start = begin + 4 + size
        header = data[begin + 4:start]
        table, = struct.unpack_from("<I", header)
        compression = _number(header, table, 0, "<i", 0)
        end = _number(header, table, 1, "<q", -1)
        text = _string(header, table, 2)
    except (struct.error, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: damaged or truncated in the header; fetch it "
                       "again") from error
    end = len(data) if end == -1 else end
    if not start <= end <= len(data):
        raise BadInput(f"{path}: header claims that packets span bytes {start}..{end} of "
                       f"{len(data)}; fetch it again")
    stream, size, notes = _stream(text, path)
    if sensor is not None and size != tuple(sensor):
        raise BadInput(f"{path}: recorded by a {size[0]} x {size[1]} sensor, not "
                       f"{sensor[0]} x {sensor[1]}")
    unpack = _decompressor(compression, path)
    parts, count, unpacked = [], 0, 0
    while start < end:
        left = end - start - 8
        number, length = struct.unpack_from("<ii", data, start) if left >= 0 else (0, -1)
        if not 0 <= length <= left:
            raise BadInput(f"{path}: the packet at byte {start} claims {length} bytes, "
                           f"{max(left, 0)} are left; fetch it again")
        if number == stream:
            part, held = _events(unpack, data[start + 8:start + 8 + length], path, start)
            parts.append(part)
            count, unpacked = count + len(part), unpacked + held
            if count > MAX_EVENTS or unpacked > MAX_UNPACKED:
                raise BadInput(f"{path}: more than {MAX_EVENTS:,} events, or than 4 GiB "
                               "unpacked; split the file")
        start += 8 + length
    raw = np.concatenate(parts) if parts else np.zeros(0, _EVENT)
    return Events(raw["x"], raw["y"], raw["t"], raw["on"], size, str(path), notes)


def _field(buffer: bytes, table: int, index: int) -> int:
    """Where a FlatBuffers table keeps its field; 0 where it is left out."""
    fields = table - _at(buffer, "<i", table)
    if _at(buffer, "<H", fields) < 6 + 2 * index:
        return 0
    place = _at(buffer, "<H", fields + 4 + 2 * index)
    return table + place if place else 0


def _at(buffer: bytes, form: str, place: int) -> int:
    if place < 0:  # unpack_from would count from the end
        raise struct.error("negative offset")
    return struct.unpack_from(form, buffer, place)[0]


def _number(buffer: bytes, table: int, index: int, form: str, default: int) -> int:
    place = _field(buffer, table, index)
    return _at(buffer, form, place) if place else default


def _vector(buffer: bytes, table: int, index: int, itemsize: int) -> tuple[int, int]:
    """(first byte, items) of a vector; checked to lie in the buffer."""
    place = _field(buffer, table, index)
    if not place:
        return 0, 0
    place += _at(buffer, "<I", place)
    count = _at(buffer, "<I", place)
    if count * itemsize > len(buffer) - place - 4:
        raise struct.error("vector beyond the buffer")
    return place + 4, count


def _string(buffer: bytes, table: int, index: int) -> str:
    first, count = _vector(buffer, table, index, 1)
    return buffer[first:first + count].decode()


def _stream(text: str, path: Path) -> tuple[int, tuple[int, int], tuple[str, ...]]:
    """(number, (width, height), notes) of the first stream of events."""
    try:
        if "<!" in text:  # no entities, which could expand without bound
            raise ValueError("a declaration")
        nodes = [node for node in ElementTree.fromstring(text).iterfind(
            "./node[@name='outInfo']/node")
            if node.findtext("./attr[@key='typeIdentifier']") == "EVTS"]
        if nodes:
            width, height = (int(nodes[0].findtext(f"./node[@name='info']/attr[@key='{key}']"))
                             for key in ("sizeX", "sizeY"))
            notes = (f"{path}: holds {len(nodes)} streams of events; the first is read",)
            return (int(nodes[0].get("name")), (width, height),
                    notes if len(nodes) > 1 else ())
    except (ElementTree.ParseError, ValueError, TypeError) as error:
        raise BadInput(f"{path}: the description of its streams is damaged; fetch it "
                       "again") from error
    raise BadInput(f"{path}: holds no stream of events")


def _decompressor(compression: int, path: Path) -> Callable[[bytes], bytes]:
    if compression == 0:
        return lambda content: content
    try:
        if compression in (1, 2):
            import lz4.frame
            return lambda content: lz4.frame.LZ4FrameDecompressor().decompress(content, MAX_PACKET)
        if compression in (3, 4):
            import zstandard

            def unpack(content: bytes) -> bytes:
                with zstandard.ZstdDecompressor().stream_reader(content) as reader:
                    return reader.read(MAX_PACKET)
            return unpack
    except ImportError as error:
        raise ProgramMissing(f"{path}: compressed; its packets need the package {error.name}: "
                             "pip install 'spiketicket[data]'") from error
    raise BadInput(f"{path}: compression {compression} is none of AEDAT 4's 0..4")


def _events(unpack: Callable[[bytes], bytes], content: bytes, path: Path,
            at: int) -> tuple[np.ndarray, int]:
    """Events of a packet, and the bytes it unpacked to."""
    try:
        buffer = unpack(content)
        data = memoryview(buffer)[4:]
        first, count = _vector(data, _at(data, "<I", 0), 0, _EVENT.itemsize)
        # A copy: the packet may hold far more than its events.
        return np.frombuffer(data, _EVENT, count, first).copy(), len(buffer)
    except Exception as error:  # the decompressors have error types of their own
        raise BadInput(f"{path}: the packet at byte {at} is damaged "
                       f"({type(error).__name__}); fetch it again") from error
