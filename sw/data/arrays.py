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
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import BadInput, SpikeTicketError
from .archives import unpack_member

MAX_BYTES = 1 << 30
"""Largest file, and largest content of an .npz, that is read."""


def read_bytes(path: Path, limit: int = MAX_BYTES) -> bytes:
    """The bytes of a file. Raises SpikeTicketError if there is none or it is above `limit`."""
    try:
        status = path.stat()
        if status.st_size > limit:
            raise BadInput(f"{path}: {status.st_size:,} bytes are more than {limit:,}; "
                           "split it")
        if stat.S_ISREG(status.st_mode):
            return path.read_bytes()
        with path.open("rb") as file:  # a pipe or a device does not say how much it holds
            data = read_upto(file, limit + 1)
        if len(data) > limit:
            raise BadInput(f"{path}: more than {limit:,} bytes; split it")
        return data
    except FileNotFoundError as error:
        raise BadInput(f"{path}: no such file") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise BadInput(f"{path}: cannot be read ({error})") from error


def read_upto(file: BinaryIO, size: int) -> bytes:
    """Up to `size` bytes of a file; memory is taken for what is there, not for `size`."""
    parts = []
    while size > 0 and (part := file.read(min(size, 1 << 20))):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


_HEAD = 1 << 16
"""Bytes of a file that its header lies in."""


def _header(file: BinaryIO, where: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """(shape, whether in Fortran order, type) of an .npy file, read up to the first value."""
    try:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0}.get(version)
        if read is None:
            raise BadInput(f"{where}: .npy version {version} is not 1.0 or 2.0; save it "
                           "with numpy.save and plain field names")
        return read(file)
    except SpikeTicketError:
        raise
    except Exception as error:  # numpy parses the header as Python text: a dozen error types
        raise BadInput(f"{where}: not a NumPy array ({_one_line(error)}); fetch it "
                       "again") from error


def npy_header(path: Path) -> tuple[tuple[int, ...], bool, np.dtype]:
    """(shape, whether in Fortran order, type) that an .npy file claims. Raises SpikeTicketError."""
    try:
        with path.open("rb") as file:
            return _header(io.BytesIO(file.read(_HEAD)), str(path))
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error})") from error


def _array(data: bytes, where: str) -> np.ndarray:
    """The array of an .npy file's bytes."""
    file = io.BytesIO(data)
    shape, fortran, dtype = _header(file, where)
    if dtype.hasobject:
        raise BadInput(f"{where}: not a readable array: Python objects are never "
                       "unpickled; save plain numbers")
    left = len(data) - file.tell()
    claimed = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or claimed != left:
        raise BadInput(f"{where}: header claims {claimed:,} bytes of {dtype} "
                       f"{list(shape)}, the file holds {left:,}; fetch it again")
    try:
        flat = np.frombuffer(data, dtype, offset=file.tell()) if claimed else np.empty(0, dtype)
        return flat.reshape(shape, order="F" if fortran else "C")
    except (ValueError, TypeError) as error:
        raise BadInput(f"{where}: not a NumPy array ({_one_line(error)}); fetch it "
                       "again") from error


def read_npy(path: str | Path) -> np.ndarray:
    """The array of an .npy file, read-only. Raises SpikeTicketError for anything else."""
    return _array(read_bytes(Path(path)), str(path))


@dataclass(frozen=True)
class NpzFile:
    """An .npz file whose directory was read: `names` of its arrays, unpacked when asked for."""

    path: Path
    data: bytes
    members: dict[str, zipfile.ZipInfo]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.members)

    def read(self, wanted: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        """Arrays by name; `wanted` (None: all) limits what is unpacked, others are left out.

        Raises SpikeTicketError for damage, objects, and for more than `MAX_BYTES` unpacked.
        """
        chosen = self.names if wanted is None else [n for n in wanted if n in self.members]
        if sum(self.members[name].file_size for name in chosen) > MAX_BYTES:
            raise BadInput(f"{self.path}: more than 1 GiB unpacked; split the pack")
        return {name: _array(unpack_member(self.data, self.members[name], f"{self.path}: {name}"),
                             f"{self.path}: {name}") for name in chosen}


def open_npz(path: str | Path) -> NpzFile:
    """The directory of an .npz file. Raises SpikeTicketError for what is no archive."""
    path = Path(path)
    data = read_bytes(path)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            held = archive.infolist()
    except Exception as error:  # zipfile raises a dozen types on damaged files
        raise BadInput(f"{path}: not a readable .npz pack ({_one_line(error)}); fetch it "
                       "again") from error
    members = {info.filename.removesuffix(".npy"): info for info in held
               if info.filename.endswith(".npy") and not info.filename.startswith("__MACOSX/")}
    return NpzFile(path, data, members)


def read_npz(path: str | Path, wanted: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """Arrays of an .npz file by name, as `NpzFile.read`."""
    return open_npz(path).read(wanted)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
