"""NumPy files that nobody vouches for: .npy and .npz, never pickle, sizes checked before memory.

numpy allocates what a header claims before it reads a byte. Here the claim is held against the
bytes that are there first, so that a lying file of a hundred bytes cannot ask for a terabyte.
"""

from __future__ import annotations

import io
import math
import stat
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import SpikeTicketError

MAX_BYTES = 1 << 30
"""Largest file, and largest content of an .npz, that is read."""


def read_bytes(path: Path, limit: int = MAX_BYTES) -> bytes:
    """The bytes of a file. Raises SpikeTicketError if there is none or it is above `limit`."""
    try:
        status = path.stat()
        if status.st_size > limit:
            raise SpikeTicketError(f"{path}: {status.st_size:,} bytes are more than {limit:,}; "
                                   "split it")
        if stat.S_ISREG(status.st_mode):
            return path.read_bytes()
        with path.open("rb") as file:  # a pipe or a device does not say how much it holds
            data = read_upto(file, limit + 1)
        if len(data) > limit:
            raise SpikeTicketError(f"{path}: more than {limit:,} bytes; split it")
        return data
    except FileNotFoundError as error:
        raise SpikeTicketError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise SpikeTicketError(f"{path}: cannot be read ({error})") from error


def read_upto(file: BinaryIO, size: int) -> bytes:
    """Up to `size` bytes of a file; memory is taken for what is there, not for `size`."""
    parts = []
    while size > 0 and (part := file.read(min(size, 1 << 20))):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _array(data: bytes, where: str) -> np.ndarray:
    """The array of an .npy file's bytes."""
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0}.get(version)
        if read is None:
            raise SpikeTicketError(f"{where}: .npy version {version} is not 1.0 or 2.0; save it "
                                   "with numpy.save and plain field names")
        shape, fortran, dtype = read(file)
    except SpikeTicketError:
        raise
    except Exception as error:  # numpy parses the header as Python text: a dozen error types
        raise SpikeTicketError(f"{where}: not a NumPy array ({_one_line(error)}); fetch it "
                               "again") from error
    if dtype.hasobject:
        raise SpikeTicketError(f"{where}: not a readable array: Python objects are never "
                               "unpickled; save plain numbers")
    left = len(data) - file.tell()
    claimed = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or claimed != left:
        raise SpikeTicketError(f"{where}: header claims {claimed:,} bytes of {dtype} "
                               f"{list(shape)}, the file holds {left:,}; fetch it again")
    try:
        flat = np.frombuffer(data, dtype, offset=file.tell()) if claimed else np.empty(0, dtype)
        return flat.reshape(shape, order="F" if fortran else "C")
    except (ValueError, TypeError) as error:
        raise SpikeTicketError(f"{where}: not a NumPy array ({_one_line(error)}); fetch it "
                               "again") from error


def read_npy(path: str | Path) -> np.ndarray:
    """The array of an .npy file, read-only. Raises SpikeTicketError for anything else."""
    return _array(read_bytes(Path(path)), str(path))


def read_npz(path: str | Path, wanted: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """Arrays of an .npz file by name; `wanted` (None: all) limits what is unpacked.

    Names that are not there are left out. Raises SpikeTicketError for a file that is no archive,
    is damaged, holds objects, or unpacks to more than `MAX_BYTES`.
    """
    path = Path(path)
    data = read_bytes(path)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = {info.filename.removesuffix(".npy"): info for info in archive.infolist()
                     if info.filename.endswith(".npy")}
            if wanted is not None:
                names = {key: names[key] for key in wanted if key in names}
            for info in names.values():  # numpy's methods; LZMA could ask for 4 GiB at once
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise SpikeTicketError(f"{path}: {info.filename} is compressed by method "
                                           f"{info.compress_type}; save it with numpy.savez")
            size = sum(info.file_size for info in names.values())
            if size > MAX_BYTES:
                raise SpikeTicketError(f"{path}: more than 1 GiB unpacked; split the pack")
            result = {}
            for key, info in names.items():
                with archive.open(info) as member:  # a lying file_size ends in a wrong CRC or here
                    content = read_upto(member, info.file_size + 1)
                result[key] = _array(content, f"{path}: {key}")
            return result
    except SpikeTicketError:
        raise
    except Exception as error:  # zipfile and zlib raise a dozen types on damaged files
        raise SpikeTicketError(f"{path}: not a readable .npz pack ({_one_line(error)}); fetch it "
                               "again") from error


def names_of(path: str | Path) -> tuple[str, ...]:
    """Names of the arrays in an .npz file, without reading them. Raises SpikeTicketError."""
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return tuple(info.filename.removesuffix(".npy") for info in archive.infolist()
                         if info.filename.endswith(".npy"))
    except FileNotFoundError as error:
        raise SpikeTicketError(f"{path}: no such file; give a data set name or an .npz") from error
    except Exception as error:  # zipfile raises a dozen types on damaged files
        raise SpikeTicketError(f"{path}: not a readable .npz pack ({_one_line(error)})") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
