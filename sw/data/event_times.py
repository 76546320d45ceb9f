"""Times of events: whole microseconds in rising order, or what is wrong with them in one line.

What cameras and files do to times: counters of 31 or 32 bits wrap, threads write events late,
recordings are joined, libraries store seconds or milliseconds.
"""

from __future__ import annotations

import numpy as np

from ..errors import BadInput

WRAPS = (1 << 32, 1 << 31)
"""Where counters of microseconds wrap: int32 and uint32; AEDAT 3's 31 bits."""
CROWDED = 10
"""Events a microsecond that no camera sends: the unit is another one."""


def microseconds(t: np.ndarray, unit: float | None, source: str) -> np.ndarray:
    """Times in units of `unit` microseconds as microseconds, rounded; None: they are already."""
    if unit is None:
        return t
    if t.dtype.kind not in "iuf" or t.ndim != 1:
        raise BadInput(f"{source}: t is {t.dtype} {list(t.shape)}, not numbers [N]")
    return t if unit == 1 and t.dtype.kind != "f" else np.rint(t.astype(np.float64) * unit)


def whole(t: np.ndarray, source: str) -> np.ndarray:
    """Floating-point times, refused if they have fractions: their unit is not known then."""
    broken = np.isfinite(t) & (t != np.rint(t))
    if broken.any():
        at = int(np.argmax(broken))
        raise BadInput(
            f"{source}: event {at} has t = {t[at]:.6g}: a time with a fraction is not in "
            "microseconds; give time_unit (1000000 for seconds, 1000 for milliseconds, 1 to round)")
    return t


def plausible(t: np.ndarray, source: str) -> tuple[str, ...]:
    """A note where whole times of no stated unit can hardly be microseconds."""
    if len(t) < 100:
        return ()
    span = int(t.max()) - int(t.min())
    if len(t) <= CROWDED * span:
        return ()
    note = (f"{source}: {len(t):,} events within {span} µs; if its times are milliseconds or "
            "seconds, give time_unit=1000 or 1000000")
    return (note,)


def unwrapped(t: np.ndarray, source: str,
              wraps: tuple[int, ...] = WRAPS) -> tuple[np.ndarray, tuple[str, ...]]:
    """int64 [N] with the turns of a counter added, and a note if there were any.

    A turn is a step of more than 7/8 of the counter's range, by times that lie within it.
    """
    step = np.diff(t)
    if not (step < 0).any():
        return t, ()
    low, high = int(t.min()), int(t.max())
    for wrap in wraps:
        leap = wrap - wrap // 8
        within = (low >= 0 and high < wrap) or (low >= -(wrap // 2) and high < wrap // 2)
        if within and (step < -leap).any():
            turns = np.cumsum((step < -leap).astype(np.int64) - (step > leap))
            at = int(np.argmax(step < -leap)) + 1
            note = (f"{source}: its times wrap at {wrap.bit_length() - 1} bits (event {at:,}); "
                    "read on from there")
            return t + wrap * np.concatenate([[0], turns]), (note,)
    return t, ()


def in_order(t: np.ndarray,
             source: str) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]:
    """(times in rising order, the order to bring events into or None, notes) of int64 [N].

    Wrapped counters are read on. Events out of order are sorted, those of one time keep their
    order. A few jumps back by a large part of the recording are refused: they join recordings.
    """
    t, notes = unwrapped(t, source)
    if len(t) and t.min() < 0:
        notes += (f"{source}: its times begin below 0, at {t.min():,} µs; only differences count",)
    back = np.flatnonzero(np.diff(t) < 0)
    if not len(back):
        return t, None, notes
    drop = t[back] - t[back + 1]
    far = back[drop > (int(t.max()) - int(t.min())) // 4]
    if len(far) and len(back) <= max(2, len(t) // 50):
        at = int(far[0])
        raise BadInput(
            f"{source}: times jump back by {int(t[at] - t[at + 1]):,} µs at event {at + 1:,} of "
            f"{len(t):,}; split it there if these are several recordings, else sort it by time")
    order = np.argsort(t, kind="stable")
    return t[order], order, (*notes, f"{source}: its events are not in order of time; sorted")
