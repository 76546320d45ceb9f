"""Where a command writes: checked as its arguments are read, before any work is done.

    parser.add_argument("--out", type=outputs.folder, ...)     # or outputs.file

Nothing is made here; whoever writes makes the folder.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from .errors import BadInput


def folder(name: str | Path) -> Path:
    """A folder that is there or can be made, and written to. Raises SpikeTicketError."""
    path = Path(name)
    _check(path, path)
    return path


def file(name: str | Path) -> Path:
    """A file that is there or can be made. Raises SpikeTicketError."""
    path = Path(name)
    if path.is_dir():
        raise BadInput(f"{path}: is a folder; name a file in it")
    _check(path, path.parent)
    return path


def _check(path: Path, there: Path) -> None:
    """Whether the nearest folder that there is can be written to."""
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise BadInput(f"{path}: {there} is a file, not a folder; choose another place")
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise BadInput(f"{path}: nothing can be written to {there} ({error.strerror}); "
                       "choose another place") from None
