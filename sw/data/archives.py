"""Compressed content of files that nobody vouches for: zip members and gzip, bounded.

Python's `zipfile` unpacks whatever a piece of bzip2 or LZMA holds, gigabytes from a kilobyte; here
no decompressor is asked for more than the limit, and LZMA's claimed window is checked first.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zipfile
import zlib

from ..errors import BadInput

MAX_WINDOW = 1 << 26
"""Largest LZMA window, bytes: that of preset 9. The decompressor allocates what is claimed."""


def unpack_member(data: bytes, info: zipfile.ZipInfo, where: str) -> bytes:
    """Content of a member of the zip archive `data`: stored, deflate, bzip2 or LZMA.

    Holds at most its claimed size and one byte. Raises SpikeTicketError where size or checksum are
    not as claimed, for other methods, and for encryption.
    """
    if info.flag_bits & 1:
        raise BadInput(f"{where}: is encrypted; save it with numpy.savez")
    at = info.header_offset
    if not 0 <= at <= len(data) - 30 or data[at:at + 4] != b"PK\x03\x04":
        raise BadInput(f"{where}: its place in the archive is damaged; fetch it again")
    name, extra = struct.unpack_from("<HH", data, at + 26)
    packed = memoryview(data)[at + 30 + name + extra:][:info.compress_size]
    limit = info.file_size + 1
    try:
        content = _unpacked(packed, info.compress_type, limit, where)
    except (zlib.error, OSError, lzma.LZMAError, EOFError, ValueError, struct.error) as error:
        raise BadInput(f"{where}: damaged ({error}); fetch it again") from error
    if len(content) != info.file_size or zlib.crc32(content) != info.CRC:
        raise BadInput(f"{where}: size or checksum are not as the archive claims; fetch it "
                       "again")
    return content


def _unpacked(packed: memoryview, method: int, limit: int, where: str) -> bytes:
    if method == zipfile.ZIP_STORED:
        return bytes(packed[:limit])
    if method == zipfile.ZIP_DEFLATED:
        return zlib.decompressobj(-15).decompress(packed, limit)
    if method == zipfile.ZIP_BZIP2:
        return bz2.BZ2Decompressor().decompress(packed, limit)
    if method == zipfile.ZIP_LZMA:
        # u16 version, u16 size of the properties, which are one byte lc/lp/pb and the window.
        _, size, lc_lp_pb, window = struct.unpack_from("<HHBI", packed)
        if size != 5 or window > MAX_WINDOW:
            raise BadInput(f"{where}: LZMA with a window of {window:,} bytes, more than "
                           f"{MAX_WINDOW:,}; save it with numpy.savez_compressed")
        unpacker = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[{
            "id": lzma.FILTER_LZMA1, "dict_size": window, "lc": lc_lp_pb % 9,
            "lp": lc_lp_pb // 9 % 5, "pb": lc_lp_pb // 45}])
        return unpacker.decompress(packed[9:], limit)
    raise BadInput(f"{where}: zip method {method} is not stored, deflate, bzip2 or LZMA; "
                   "save it with numpy.savez_compressed")


def gunzip(data: bytes, limit: int) -> bytes:
    """Content of a gzip file, at most `limit` bytes of it. Raises zlib.error and EOFError."""
    parts: list[bytes] = []
    while data and limit > 0:
        unpacker = zlib.decompressobj(31)
        parts.append(unpacker.decompress(data, limit))
        limit -= len(parts[-1])
        if not unpacker.eof and limit > 0:
            raise EOFError("it breaks off")
        data = unpacker.unused_data.lstrip(b"\0")  # members one behind the other, padding
    return b"".join(parts)
