"""Events in arrays: `.npy`, `.npz` and HDF5 files, and arrays that a program holds.

Fields are x, y, t, p under their usual names, in a structured array or one array each; or a plain
[N, 4] array whose order `columns` gives. Nothing in these files states the unit of time or the
sensor: times are microseconds unless `time_unit` is given, and `sensor` must be.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..errors import BadInput, ProgramMissing, SpikeTicketError
from .arrays import MAX_BYTES, open_npz, read_npy
from .event_times import microseconds, plausible, whole
from .events import Events

ALIASES = {"t": ("t", "ts", "timestamp", "timestamps", "time"), "x": ("x", "xs"), "y": ("y", "ys"),
           "p": ("p", "ps", "pol", "polarity", "on")}
HDF5_GROUPS = ("/", "events", "CD")
"""Where HDF5 files keep x, y, t, p: at the top, in `events` (DSEC), in `CD` (Metavision)."""
_FILTERS = (None, "gzip", "lzf")


def matched(names: Mapping | tuple[str, ...]) -> dict[str, str]:
    """Which of `names` is x, y, t, p; what is not there is left out."""
    lower = {name.lower(): name for name in names}
    return {key: lower[alias] for key, known in ALIASES.items()
            for alias in reversed(known) if alias in lower}


def from_fields(fields: Mapping[str, np.ndarray], source: str, sensor: tuple[int, int] | None,
                time_unit: float | None = None) -> Events:
    """Events of arrays by name. Raises SpikeTicketError for missing ones and for a missing sensor.
    """
    found = matched(fields)
    missing = [key for key in "xytp" if key not in found]
    if missing:
        raise BadInput(f"{source}: no field {', '.join(missing)}; it holds "
                       f"{', '.join(map(str, fields)) or 'nothing'}, events need x, y, t, "
                       "p")
    if sensor is None:
        raise BadInput(f"{source}: arrays of events do not state the sensor's size; give "
                       "sensor as width, height")
    x, y, t, p = (np.asarray(fields[found[key]]) for key in "xytp")
    notes: tuple[str, ...] = ()
    if time_unit is not None:
        t = microseconds(t, time_unit, source)
    elif t.dtype.kind in "iuf" and t.ndim == 1 and np.isfinite(t).all():
        notes = plausible(whole(t, source) if t.dtype.kind == "f" else t, source)
    return Events(x, y, t, p, sensor, source, notes)


def from_array(array: np.ndarray, source: str, sensor: tuple[int, int] | None, columns: str = "",
               time_unit: float | None = None) -> Events:
    """Events of a structured array, or of [N, 4] in the order of `columns`, e.g. "txyp"."""
    if array.dtype.names:
        return from_fields({name: array[name] for name in array.dtype.names}, source, sensor,
                           time_unit)
    if array.ndim == 2 and array.shape[1] == 4 and sorted(columns) == sorted("txyp"):
        return from_fields({name: array[:, i] for i, name in enumerate(columns)}, source, sensor,
                           time_unit)
    if array.ndim == 2 and array.shape[1] == 4:
        raise BadInput(f"{source}: events in {list(array.shape)} without names; give the "
                       "order of its columns, e.g. columns=txyp")
    raise BadInput(f"{source}: {array.dtype} {list(array.shape)} is neither a structured "
                   "array of x, y, t, p nor [N, 4] with its columns given (e.g. txyp)")


def read_numpy(path: str | Path, sensor: tuple[int, int] | None = None, columns: str = "",
               time_unit: float | None = None) -> Events:
    """Events of an .npy or .npz file.

    columns: order of the columns of a plain [N, 4] array. time_unit: microseconds of one unit of t
    (1000 for milliseconds); None: t is microseconds, and fractions are refused.
    """
    path = Path(path)
    if path.suffix.lower() != ".npz":
        return from_array(read_npy(path), str(path), sensor, columns, time_unit)
    pack = open_npz(path)
    names = list(matched(pack.names).values())
    if not names and len(pack.names) == 1:
        array, = pack.read().values()
        return from_array(array, str(path), sensor, columns, time_unit)
    fields = dict.fromkeys(pack.names) | pack.read(names)
    return from_fields(fields, str(path), sensor, time_unit)


def read_hdf5(path: str | Path, sensor: tuple[int, int] | None = None, columns: str = "",
              time_unit: float | None = None) -> Events:
    """Events of an HDF5 file, its arrays in one of `HDF5_GROUPS` or one array `events`.

    Needs the package h5py. Arrays stored in other files and other compressions than gzip and LZF
    are refused, as are claims above 1 GiB.
    """
    path = Path(path)
    try:
        import h5py
    except ImportError:
        raise ProgramMissing(f"{path}: HDF5 files need the package h5py: pip install "
                             "'spiketicket[data]'") from None
    if not path.is_file():
        raise BadInput(f"{path}: no such file")
    try:
        with h5py.File(path, "r") as file:
            held = _hdf5_arrays(file, path)
    except SpikeTicketError:
        raise
    except Exception as error:  # h5py raises nearly every type for damaged files
        raise BadInput(f"{path}: not a readable HDF5 file ({type(error).__name__}: "
                       f"{' '.join(str(error).split())[:120]}); fetch it again") from error
    if isinstance(held, np.ndarray):
        return from_array(held, str(path), sensor, columns, time_unit)
    return from_fields(held, str(path), sensor, time_unit)


def _hdf5_arrays(file, path: Path) -> np.ndarray | dict[str, np.ndarray]:
    """The array `events`, or arrays by name."""
    import h5py

    def items(group) -> dict:
        # Hard links only: others lead out of the file.
        return {key: group[key] for key in group
                if isinstance(group.get(key, getlink=True), h5py.HardLink)}

    def array(item) -> np.ndarray:
        size = math.prod(item.shape or (0,)) * item.dtype.itemsize
        if (item.is_virtual or item.external or item.dtype.hasobject or size > MAX_BYTES
                or item.compression not in _FILTERS):
            raise BadInput(f"{path}: array {item.name} of {item.dtype} "
                           f"{list(item.shape or ())}, compression {item.compression}, is "
                           "too large, kept outside the file, or no plain numbers")
        return item[()]

    for name in HDF5_GROUPS:
        inner = items(file)
        for part in name.strip("/").split("/") if name != "/" else ():
            inner = items(inner[part]) if isinstance(inner.get(part), h5py.Group) else {}
        arrays = {key: item for key, item in inner.items() if isinstance(item, h5py.Dataset)}
        if len(matched(arrays)) == 4:
            return {key: array(arrays[key]) for key in matched(arrays).values()}
        if "events" in arrays:
            return array(arrays["events"])
    raise BadInput(f"{path}: no arrays x, y, t, p or events in {', '.join(HDF5_GROUPS)}; "
                   f"it holds {', '.join(list(file)[:8]) or 'nothing'}")
