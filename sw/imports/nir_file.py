"""NIR files (HDF5), checked before anything in them is read.

Sizes are held against limits before memory is asked for, and nothing outside the file is opened:
a dataset may claim any shape in a few bytes, and HDF5 knows links and storage in other files.
"""

from __future__ import annotations

import math
from pathlib import Path
from types import ModuleType

from ..errors import SpikeTicketError
from .nir_nodes import MAX_NUMBERS

MAX_FILE_BYTES = 256 << 20
MAX_ARRAY_BYTES = 16 * MAX_NUMBERS
"""Bytes that all arrays together may claim: double precision, half of them weights, half what nodes
hold for every neuron. A tiny file may claim any shape, as nothing need be stored for zeros."""

MAX_OBJECTS = 1 << 14
MAX_DEPTH = 16
FILTERS = (None, "gzip", "lzf", "szip")


def import_nir() -> ModuleType:
    """The `nir` package, or an error that says how to get it."""
    try:
        import nir
    except ImportError as error:
        raise SpikeTicketError("NIR graphs need the package nir: pip install "
                               f"'spiketicket[nir]' ({error})") from error
    return nir


def read(path: str | Path):
    """The nir.NIRGraph in a file. Raises SpikeTicketError naming file and reason."""
    nir = import_nir()
    path = Path(path)
    try:
        size = path.stat().st_size
    except OSError as error:
        raise SpikeTicketError(f"{path}: cannot be read ({error.strerror})") from error
    if path.is_dir():
        raise SpikeTicketError(f"{path}: is a folder, not a NIR graph")
    if size > MAX_FILE_BYTES:
        raise SpikeTicketError(f"{path}: {size} bytes are more than a graph's {MAX_FILE_BYTES}")
    try:
        if not _is_hdf5(path):
            raise SpikeTicketError("no NIR graph: it is not an HDF5 file, which nir.write makes")
        _check(path)
        graph = nir.read(path, type_check=False)
    except SpikeTicketError as error:
        raise SpikeTicketError(f"{path}: {error}") from error
    except Exception as error:      # h5py and nir raise nearly every type for damaged files
        raise SpikeTicketError(f"{path}: no NIR graph ({type(error).__name__}: "
                               f"{' '.join(str(error).split())[:160]})") from error
    return graph


def _is_hdf5(path: Path) -> bool:
    import h5py
    return h5py.is_hdf5(path)


def _check(path: Path) -> None:
    """Raise unless every object of the file is plain, of a sane size, and there."""
    import h5py
    total = count = 0
    with h5py.File(path, "r") as file:
        if "node" not in file:
            raise SpikeTicketError("has no 'node', so it is not a NIR graph")
        stack, seen = [("", file, 0)], set()
        while stack:
            name, group, depth = stack.pop()
            identity = h5py.h5o.get_info(group.id).addr
            if identity in seen or depth > MAX_DEPTH:
                raise SpikeTicketError(f"group {name!r} contains itself or lies too deep")
            seen.add(identity)
            for key in group:
                where, count = f"{name}/{key}", count + 1
                if count > MAX_OBJECTS:
                    raise SpikeTicketError(f"more than {MAX_OBJECTS} objects")
                if type(group.get(key, getlink=True)) is not h5py.HardLink:
                    raise SpikeTicketError(f"{where!r} is a link out of its place")
                item = group[key]
                if isinstance(item, h5py.Group):
                    stack.append((where, item, depth + 1))
                elif isinstance(item, h5py.Dataset):
                    total += _array_bytes(item, where)
                    if total > MAX_ARRAY_BYTES:
                        raise SpikeTicketError(f"arrays up to {where!r} claim {total} bytes, "
                                               f"more than the {MAX_ARRAY_BYTES} of the largest "
                                               "graph that a ticket could hold")
                else:
                    raise SpikeTicketError(f"{where!r} is a named type, not a group or an array")


def _array_bytes(item, where: str) -> int:
    kind = item.dtype.kind
    if item.is_virtual or item.external:
        raise SpikeTicketError(f"{where!r} is stored outside the file")
    if item.shape is None or kind not in "biufSO" or item.compression not in FILTERS:
        raise SpikeTicketError(f"{where!r}: type {item.dtype}, compression {item.compression} are "
                               "not a NIR graph's")
    if kind == "O":
        import h5py
        if h5py.check_string_dtype(item.dtype) is None:
            raise SpikeTicketError(f"{where!r}: type {item.dtype} is not a NIR graph's")
    return math.prod(item.shape) * max(1, item.dtype.itemsize)
