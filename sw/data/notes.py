"""Notes: what a loader repaired or decided, each kind once, with where and how often."""

from __future__ import annotations

from ..errors import note


class Notes:
    """Collects notes. at_once: each kind is also shown as soon as it is first met (streams)."""

    def __init__(self, at_once: bool = False):
        self._at_once = at_once
        self._kinds: dict[str, tuple[str, int]] = {}

    def add(self, where: object, what: str) -> None:
        """`what` was done to `where` (a file, a sample)."""
        first, count = self._kinds.get(what, (str(where), 0))
        self._kinds[what] = first, count + 1
        if self._at_once and not count:
            note(f"{where}: {what}")

    def take(self, lines: tuple[str, ...]) -> None:
        """Notes of the form "where: what" that another collector wrote."""
        for line in lines:
            where, _, what = line.partition(": ")
            self.add(where, what)

    def lines(self) -> tuple[str, ...]:
        """One line a kind: "a.png (and 3 more): transparent, composed on white"."""
        return tuple(f"{first}{f' (and {count - 1:,} more)' if count > 1 else ''}: {what}"
                     for what, (first, count) in self._kinds.items())

    def show(self) -> None:
        for line in self.lines():
            note(line)
