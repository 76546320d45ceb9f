"""Whether a result can be written, asked before the work that makes it."""

from __future__ import annotations

from pathlib import Path

from .errors import SpikeTicketError


def check_file(path: str | Path, option: str = "--out") -> Path:
    """The path, if a file can be put there; else SpikeTicketError. A file that is there stays."""
    path = Path(path)
    if path.is_dir():
        raise SpikeTicketError(f"{option} {path} is a folder; name a file in it")
    trial = path.with_name(path.name + ".part")
    try:
        there = trial.exists()
        with trial.open("ab"):
            pass
        if not there:
            trial.unlink()
    except (OSError, ValueError) as error:          # ValueError: a name with a null character
        reason = getattr(error, "strerror", None) or error
        raise SpikeTicketError(f"{option} {path}: cannot be written ({reason}); choose another "
                               "place") from error
    return path
