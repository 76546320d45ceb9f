"""Event files of the usual cameras and libraries, untrusted: any bytes give events or one error.

====================  =============================================================================
`.bin`                ATIS, as N-MNIST and N-Caltech101: `sw.data.event_binary`
`.dat`                Prophesee, as N-CARS: `sw.data.event_binary`
`.aedat`, `.aedat4`   AEDAT 2.0, 3.1 and 4.0; the first line says which: `sw.data.aedat`
`.npy`, `.npz`        structured array, x, y, t, p, or [N, 4] with `columns`: `sw.data.event_arrays`
`.h5`, `.hdf5`        the same in HDF5, where h5py is installed
====================  =============================================================================

Times are microseconds. Every reader checks counts, sizes and coordinates before it allocates.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..errors import BadInput
from .aedat import read_aedat
from .event_arrays import read_hdf5, read_numpy
from .event_binary import read_bin, read_dat
from .events import Events

READERS: dict[str, Callable[..., Events]] = {
    ".bin": read_bin, ".dat": read_dat, ".aedat": read_aedat, ".aedat4": read_aedat,
    ".npy": read_numpy, ".npz": read_numpy, ".h5": read_hdf5, ".hdf5": read_hdf5}
UNSTATED = (".bin", ".npy", ".npz", ".h5", ".hdf5")
"""Files that do not say what the sensor is."""


def read(path: str | Path, sensor: tuple[int, int] | None = None, columns: str = "",
         time_unit: float | None = None) -> Events:
    """Events of a file by the end of its name. Raises SpikeTicketError for anything unreadable."""
    path = Path(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise BadInput(f"{path}: event files end in {', '.join(READERS)}")
    if reader in (read_numpy, read_hdf5):
        return reader(path, sensor, columns, time_unit)
    return reader(path, sensor)
