"""Taps: kernel positions as flat shifts of map words, with the masks that keep rows apart.

Whether a lane may pass is not derived case by case: every input position of a channel is
compared with the output it would reach, and a tap is accepted only if one mask lets all needed
contributions through and none that would reach a visited output wrongly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hw import program
from hw.config import CoreConfig

from .steps import Step, Use, ceil_div


@dataclass(frozen=True, eq=False)
class Tap:
    """One tap before addresses are known.

    weights: int8 [C_out, channels]. phase: index of the phase map it reads (of the first plane).
    lanes: allowed input lanes, bool [window]. words: map words read per weight, plane and group,
    all strips together; active: of them, lanes that can cause an update.
    """

    weights: np.ndarray
    phase: int
    shift: int
    word_offset: int
    extra: int
    edge: int
    lanes: np.ndarray
    channel_stride: int
    channel_words: int
    words: int
    active: int

    @property
    def channels(self) -> int:
        return self.weights.shape[1]


class MaskConflict(Exception):
    """One mask cannot separate the rows; a larger pitch can."""


def mask_bits(lanes: np.ndarray, shift: int, units: int) -> int:
    """`TAP.mask`: bit m * units + u is input lane m * units + (u + shift) mod units."""
    bits = 0
    for m in range(len(lanes) // units):
        for u in range(units):
            if lanes[m * units + (u + shift) % units]:
                bits |= 1 << m * units + u
    return bits


def phase_planes(use: Use) -> list[int]:
    """Phase of each plane of a sum pool, relative to the tap's phase."""
    return [a * use.factor + b for a in range(use.pool) for b in range(use.pool)]


def make_taps(step: Step, use: Use, config: CoreConfig) -> list[Tap]:
    """Taps of one use that at least one weight needs. Raises MaskConflict."""
    if step.single:
        return _single_taps(use, config)
    taps = []
    for dy, dx in np.ndindex(use.weight.shape[2:]):
        weights = use.weight[:, :, dy, dx]
        if weights.any():
            tap = _flat_tap(step, use, config, weights, dy, dx)
            if tap is not None:
                taps.append(tap)
    return taps


def _single_taps(use: Use, config: CoreConfig) -> list[Tap]:
    """Output 0 only: a tap is a lane, and every word of every channel is a channel of it."""
    version, window = use.versions[0], config.window
    words = channel_words(version.height, version.factor, version.pitch, window)
    kh, kw = use.weight.shape[2:]
    c_out, c_in = use.weight.shape[:2]
    columns: dict[int, np.ndarray] = {}
    for dy in range(max(0, use.padding), min(kh, use.rows + use.padding)):
        for dx in range(max(0, use.padding), min(kw, use.columns + use.padding)):
            weights = use.weight[:, :, dy, dx]
            if not weights.any():
                continue
            flat = (dy - use.padding) * version.pitch + dx - use.padding
            word, lane = divmod(flat, window)
            matrix = columns.setdefault(lane, np.zeros((c_out, c_in, words), np.int8))
            matrix[:, :, word] = weights
    return [Tap(columns[lane].reshape(c_out, -1), 0, lane, 0, 0, program.EDGE_ALWAYS,
                np.arange(window) == lane, 1, 1, 1, 1) for lane in sorted(columns)]


def channel_words(height: int, factor: int, pitch: int, window: int) -> int:
    """Map words of one channel of one phase."""
    return ceil_div(ceil_div(height, factor) * pitch, window)


def _flat_tap(step: Step, use: Use, config: CoreConfig, weights: np.ndarray, dy: int,
              dx: int) -> Tap | None:
    version, window, pitch = use.versions[0], config.window, step.pitch
    sy, ry = divmod((dy - use.padding) * use.pool, use.factor)
    sx, rx = divmod((dx - use.padding) * use.pool, use.factor)
    first_row = int(step.overlaps)          # above it: padding, which no convolution may reach
    sy -= first_row
    shift = sy * pitch + sx
    words = channel_words(version.height, version.factor, pitch, window)

    flat = np.arange(words * window)
    y, x = np.divmod(flat, pitch)
    inside = ((y < ceil_div(version.height, version.factor))
              & (x < ceil_div(version.width, version.factor)))
    out = flat - shift
    yo, xo = np.divmod(out, pitch)
    rows, columns = step.accumulated
    visited = ((out >= 0) & (yo >= first_row) & (yo < rows) & (xo < columns)
               & (yo % step.walk == 0) & (xo % step.walk == 0))
    needed = inside & visited & (yo == y - sy) & (xo == x - sx)
    if not needed.any():
        return None
    forbidden = (inside & visited & ~needed).reshape(words, window)
    needed = needed.reshape(words, window)
    edge, lanes = _mask(needed, forbidden, max(1, pitch // window))

    start, extra = _word_range(step, out[needed.reshape(-1)], flat[needed.reshape(-1)], window)
    count = 0
    for n in range(step.strips):
        nw = step.strip_words if n < step.strips - 1 else step.last_words(window)
        low = n * step.strip_step + start
        count += max(0, min(low + nw - 1 + extra, words - 1) - max(low, 0) + 1)
    return Tap(weights, ry * use.factor + rx, shift, start, extra, edge, lanes,
               words, words, count, int(needed.sum()))


def _word_range(step: Step, out: np.ndarray, flat: np.ndarray, window: int) -> tuple[int, int]:
    """(TAP.word_offset, extra) for inputs `flat` that reach the accumulator positions `out`."""
    step_words, last = step.strip_step, step.strips - 1
    relative, excess = [], []
    for back in range(1 + step.overlaps):       # a position may belong to two strips
        strips = np.minimum(out // (step_words * window), last) - back
        size = np.where(strips == last, step.last_words(window), step.strip_words)
        inside = (strips >= 0) & (out // window - strips * step_words < size)
        word = (flat // window - strips * step_words)[inside]
        relative.append(word)
        excess.append(word - size[inside] + 1)
    first, largest = int(np.concatenate(relative).min()), int(np.concatenate(excess).max())
    if largest > first + 1:
        raise AssertionError("a flat shift spans at most one extra word")
    return (first, 1) if largest == first + 1 else (largest, 0)


def _mask(needed: np.ndarray, forbidden: np.ndarray,
          row_words: int) -> tuple[int, np.ndarray]:
    """(TAP.edge, allowed lanes) from needed and forbidden lanes, bool [words, window]."""
    in_row = np.arange(len(needed)) % row_words
    for edge, masked in ((program.EDGE_ALWAYS, np.ones(len(needed), bool)),
                         (program.EDGE_FIRST, in_row == 0),
                         (program.EDGE_LAST, in_row == row_words - 1)):
        lanes = needed[masked].any(axis=0)
        passed = np.where(masked[:, None], lanes, True)
        if not (forbidden & passed).any():
            return edge, lanes
    raise MaskConflict
