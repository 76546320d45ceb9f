"""Reading a file that may be anything: at most so many bytes, whatever it says of itself."""

from __future__ import annotations

import stat
from pathlib import Path

from .errors import BadInput

_PART = 1 << 20


def read(path: str | Path, limit: int, what: str) -> bytes:
    """The bytes of a file or pipe, at most `limit`; `what` it should be ("a ticket") is for the
    message.

    Devices are refused: they may give bytes without end. Raises SpikeTicketError.
    """
    path = Path(path)
    try:
        status = path.stat()
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISFIFO(status.st_mode)):
            raise BadInput(f"{path}: is no file, so not {what}")
        size, parts = status.st_size, []
        if size <= limit:
            with path.open("rb") as file:
                size = 0
                while size <= limit and (part := file.read(min(_PART, limit + 1 - size))):
                    parts.append(part)
                    size += len(part)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", None) or error
        raise BadInput(f"{path}: cannot be read ({reason}); name {what}") from None
    if size > limit:
        raise BadInput(f"{path}: more than the {limit:,} bytes that {what} may have; is it "
                       "one?")
    return b"".join(parts)
