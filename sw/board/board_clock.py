"""The clock of a simulated board behind a port: who waits for the board waits by its time.

A simulated board is as slow as the computer it runs on lets it be. `sim.serve` publishes the
board's own seconds in a small file named after the port, a device or "udp://ADDRESS:PORT";
`BoardTime` finds it there. On other ports, and where no such file can be, the clock on the wall
counts.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

try:
    import fcntl
except ImportError:  # no POSIX system, so no pseudo-terminal either
    fcntl = None

_SECONDS = struct.Struct("<d")
_UDP = "udp://"


def _path(port: str) -> Path:
    real = (port if port.startswith(_UDP) else os.path.realpath(port)).strip("/").replace("/", "-")
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

    Only a file of the port's own user counts (at a UDP port: of this one), and only while a board
    holds it.
    """
    network = port.startswith(_UDP)
    if fcntl is None or ("://" in port and not network):
        return None
    try:
        file = os.open(_path(port), os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        owner = os.getuid() if network else os.stat(port).st_uid
        if os.fstat(file).st_uid != owner \
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


class BoardTime:
    """Seconds by which a host waits for the board at a port: its own if it is a simulated one.

    `clock` is None where the wall's counts. `now` goes on where `follow` finds another.
    """

    STALLED = 60.0
    """Seconds in which a simulated board's time stands still before it counts as gone silent."""

    def __init__(self):
        self.clock: ClockReader | None = None
        self._shift = 0.0

    def follow(self, port: str) -> None:
        """From now on the time of the board at this port."""
        before = self.now()
        self.clock = find(port)
        self._shift += before - self.now()

    def now(self) -> float:
        return self._shift + (time.monotonic() if self.clock is None else self.clock.seconds)

    def wait(self, receive: Callable[[float], bytes], timeout: float) -> bytes:
        """What `receive`, called with seconds of the wall to wait, gives within `timeout` seconds
        of the board; b"" if that is nothing."""
        began, moved = self.now(), time.monotonic()
        while True:
            if got := receive(timeout if self.clock is None else min(timeout, 0.05)):
                return got
            passed = self.now() - began
            if self.clock is None or passed >= timeout:
                return b""
            if time.monotonic() - moved > self.STALLED:
                if passed == 0.0:
                    return b""
                began, timeout, moved = began + passed, timeout - passed, time.monotonic()
