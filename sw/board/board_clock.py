"""The clock of a simulated board behind a port: who waits for the board waits by its time.

A simulated board is as slow as the computer it runs on lets it be. `sim.serve` publishes the
board's own seconds in a small file named after the port; `SerialTransport` finds it there. On
other ports, and where no such file can be, the clock on the wall counts.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import tempfile
from pathlib import Path

try:
    import fcntl
except ImportError:  # no POSIX system, so no pseudo-terminal either
    fcntl = None

_SECONDS = struct.Struct("<d")


def _path(port: str) -> Path:
    real = os.path.realpath(port).strip("/").replace("/", "-")
    return Path(tempfile.gettempdir()) / f"spiketicket-clock-{real}"


class BoardClock:
    """The board's side: the file is there, locked, from here to `close`. Seconds begin at 0.

    Raises OSError where the file cannot be made.
    """

    def __init__(self, port: str):
        self._path = _path(port)
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()  # of a board that was killed, at a port of this number
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        os.ftruncate(self._file, mmap.PAGESIZE)
        self._map = mmap.mmap(self._file, mmap.PAGESIZE)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._seconds = 0.0

    def add(self, seconds: float) -> None:
        """So much of the board's time has passed."""
        self._seconds += seconds
        _SECONDS.pack_into(self._map, 0, self._seconds)

    def close(self) -> None:
        """The file vanishes."""
        with contextlib.suppress(OSError):
            self._path.unlink()
        self._map.close()
        os.close(self._file)


class ClockReader:
    """The host's side: `seconds` of the board. Use `find`."""

    def __init__(self, file: int):
        self._map = mmap.mmap(file, mmap.PAGESIZE, access=mmap.ACCESS_READ)

    @property
    def seconds(self) -> float:
        return _SECONDS.unpack_from(self._map, 0)[0]


def find(port: str) -> ClockReader | None:
    """The clock of the simulated board at a port; None where no such board is.

    Only a file of the port's own user counts, and only while a board holds it.
    """
    if fcntl is None or "://" in port:
        return None
    try:
        file = os.open(_path(port), os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        if os.fstat(file).st_uid != os.stat(port).st_uid \
                or os.fstat(file).st_size < mmap.PAGESIZE:
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return ClockReader(file)  # held by a board that lives
        return None
    except OSError:
        return None
    finally:
        os.close(file)
