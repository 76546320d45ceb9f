"""Every entry of the zoo."""

from __future__ import annotations

from . import models, written
from .entry import Entry


def entries() -> list[Entry]:
    """SpikingJelly's classes ("sj/..."), then the written networks."""
    return [*models.entries(), *written.entries()]
