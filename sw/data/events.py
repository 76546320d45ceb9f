"""Event streams of a camera and the frames of event counts that a spiking network reads.

An event is (x, y, t, p): a pixel, a time in microseconds, a polarity (1 = brighter). Frames are
uint8 [T, 2, H, W]: how many events each pixel had in timestep t, OFF in channel 0 and ON in
channel 1, saturated at `max_count`. Recordings are cut into T slices of equal numbers of events or
of equal time (the rules of `spikingjelly.datasets`: the last slice takes what a division leaves).
Nothing here is random.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import BadInput
from . import event_times
from .arrays import read_npz

MAX_EVENTS = 1 << 27
MAX_TIMESTEPS = 1024
MAX_SIDE = 4096
"""Pixels of a sensor or a picture along one axis."""
MAX_COUNTED = 1 << 21
"""Places that are counted by a table; more would take memory that a small file does not merit."""
FITS = ("pad", "crop", "pad-crop", "resize")


@dataclass(frozen=True, eq=False)
class Events:
    """One recording in order of time.

    x, y, p: integers [N]; t: int64 [N], microseconds. sensor: (width, height). p is 0 or 1, or -1
    or 1, which is read as 0 or 1. notes: what was done to them, such as sorting. Raises
    SpikeTicketError for arrays that disagree, for fractions, for events outside the sensor and for
    times that jump back (`sw.data.event_times`).
    """

    x: np.ndarray
    y: np.ndarray
    t: np.ndarray
    p: np.ndarray
    sensor: tuple[int, int]
    source: str = "events"
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        if len(self.sensor) != 2 or not all(1 <= n <= MAX_SIDE for n in self.sensor):
            raise BadInput(f"{self.source}: sensor {self.sensor} is not (width, height) in "
                           f"1..{MAX_SIDE}")
        shape = np.shape(self.x)
        if len(shape) != 1 or shape[0] > MAX_EVENTS:
            raise BadInput(f"{self.source}: x has shape {list(shape)}, not [N] with N up "
                           f"to {MAX_EVENTS:,}")
        for name, low, high in (("x", 0, self.sensor[0] - 1), ("y", 0, self.sensor[1] - 1),
                                ("p", -1, 1), ("t", -1 << 61, 1 << 61)):
            object.__setattr__(self, name, self._checked(name, shape, low, high))
        t, order, notes = event_times.in_order(self.t, self.source)
        object.__setattr__(self, "t", t)
        if order is not None:
            for name in "xyp":
                object.__setattr__(self, name, getattr(self, name)[order])
        object.__setattr__(self, "notes", (*self.notes, *notes))

    def _checked(self, name: str, shape: tuple[int, ...], low: int, high: int) -> np.ndarray:
        values = np.asarray(getattr(self, name))
        if values.shape != shape or values.dtype.kind not in "iufb":
            raise BadInput(f"{self.source}: {name} is {values.dtype} "
                           f"{list(values.shape)}, not numbers {list(shape)}")
        if values.dtype.kind == "b":
            values = values.view(np.uint8)
        if name == "t" and values.dtype.kind == "f":
            values = event_times.whole(values, self.source)
        wrong = ~((values >= low) & (values <= high))  # also true for NaN
        if wrong.any():
            at = int(np.argmax(wrong))
            where = (f"a sensor of {self.sensor[0]} x {self.sensor[1]}" if name in "xy"
                     else f"{low}..{high}")
            hint = ("; these count from 1, subtract it" if name in "xy" and values.min() == 1
                    and values.max() == high + 1 else "")
            raise BadInput(f"{self.source}: event {at} has {name} = {values[at]}, outside "
                           f"{where}{hint}")
        result = values.astype(np.int64 if name == "t" else np.int32)
        if values.dtype.kind == "f" and (broken := values != result).any():
            raise BadInput(f"{self.source}: event {int(np.argmax(broken))} has {name} = "
                           f"{values[np.argmax(broken)]:g}, not a whole number")
        if name != "p":
            return result
        if len(result) and result.min() < 0:
            if (result == 0).any():
                raise BadInput(f"{self.source}: polarities -1 and 0 in one recording; OFF "
                               "and ON are 0 and 1, or -1 and 1")
            note = f"{self.source}: polarities -1 and 1, read as OFF and ON"
            object.__setattr__(self, "notes", (*self.notes, note))
        return (result > 0).astype(np.uint8)

    def __len__(self) -> int:
        return len(self.x)

    def between(self, start: int, stop: int) -> Events:
        """Events with start <= t < stop, microseconds."""
        keep = (self.t >= start) & (self.t < stop)
        return Events(self.x[keep], self.y[keep], self.t[keep], self.p[keep], self.sensor,
                      self.source)


def slices(t: np.ndarray, timesteps: int, by: str = "number") -> np.ndarray:
    """Timestep of every event: int64 [N] in 0..T-1.

    by "number": floor(N / T) events each, "time": floor(duration / T) microseconds each; the last
    timestep takes the rest.
    """
    if not 1 <= timesteps <= MAX_TIMESTEPS:
        raise BadInput(f"timesteps {timesteps} are outside 1..{MAX_TIMESTEPS}")
    if by not in ("number", "time"):
        raise BadInput(f"frames by {by!r}; give 'number' or 'time'")
    if by == "number":
        place, each = np.arange(len(t)), len(t) // timesteps
    else:
        place = t - (t.min() if len(t) else 0)
        each = int(place.max()) // timesteps if len(t) else 0
    return np.minimum(place // max(each, 1), timesteps - 1)


def fitted_size(sensor: tuple[int, int], size: tuple[int, int] | None,
                fit: str) -> tuple[int, int]:
    """(width, height) of a picture after `fit` to `size` (width, height); None leaves it.

    "pad" and "crop" refuse the other direction, "pad-crop" does what each axis needs.
    """
    if fit not in FITS:
        raise BadInput(f"fit {fit!r} is not {', '.join(FITS)}")
    if size is None:
        return tuple(sensor)
    if not all(1 <= n <= MAX_SIDE for n in size):
        raise BadInput(f"size {size} is outside 1..{MAX_SIDE}")
    grows, shrinks = (any(new > old for new, old in zip(size, sensor, strict=True)),
                      any(new < old for new, old in zip(size, sensor, strict=True)))
    if (fit == "pad" and shrinks) or (fit == "crop" and grows):
        raise BadInput(f"fit {fit!r} cannot turn {sensor[0]} x {sensor[1]} into "
                       f"{size[0]} x {size[1]}; use 'pad-crop' or 'resize'")
    return tuple(size)


def frames(events: Events, timesteps: int, by: str = "number",
           size: tuple[int, int] | None = None, fit: str = "pad-crop",
           max_count: int = 255) -> np.ndarray:
    """Event counts, uint8 [T, 2, H, W]; `size` is (width, height), None the sensor's.

    fit: "pad-crop" (also "pad", "crop"): the picture is centred, events outside are dropped.
        "resize": a pixel's events go to floor(x * new / old), so none is lost.
    max_count: counts saturate here, 1..255.
    """
    if not 1 <= max_count <= 255:
        raise BadInput(f"max_count {max_count} is outside 1..255")
    width, height = fitted_size(events.sensor, size, fit)
    step = slices(events.t, timesteps, by)
    x, y = (_fit_axis(values, old, new, fit) for values, old, new in
            ((events.x, events.sensor[0], width), (events.y, events.sensor[1], height)))
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    place = (((step * 2 + events.p) * height + y) * width + x)[inside]
    size = timesteps * 2 * height * width
    if size > MAX_COUNTED:
        result = np.zeros(size, np.uint8)
        place, counts = np.unique(place, return_counts=True)
        result[place] = np.minimum(counts, max_count)
    else:
        counts = np.bincount(place, minlength=size)  # 8 bytes a place, but no sorting
        result = np.minimum(counts, max_count).astype(np.uint8)
    return result.reshape(timesteps, 2, height, width)


def _fit_axis(values: np.ndarray, old: int, new: int, fit: str) -> np.ndarray:
    if fit == "resize":
        return values.astype(np.int64) * new // old
    return values.astype(np.int64) + (new - old) // 2  # floor: a crop of 3 takes 2 and 1


@dataclass(frozen=True, eq=False)
class Pack:
    """Recordings of an .npz pack: arrays x, y, p, dt over all events, `off` [N + 1] where each
    recording begins, `label` [N] and optionally `sensor` (width, height, polarities) and
    `class_names`. Time is cumsum(dt) within a recording, in microseconds.
    """

    arrays: dict[str, np.ndarray]
    labels: np.ndarray
    sensor: tuple[int, int]
    names: tuple[str, ...]
    source: str

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Events:
        first, last = self.arrays["off"][index], self.arrays["off"][index + 1]
        x, y, p, dt = (self.arrays[key][first:last] for key in ("x", "y", "p", "dt"))
        return Events(x, y, np.cumsum(dt, dtype=np.int64), p, self.sensor,
                      f"{self.source}: recording {index}")


def read_pack(path: str | Path, sensor: tuple[int, int] | None = None,
              label_key: str = "label") -> Pack:
    """Read an event pack; `sensor` overrides the pack's. Raises SpikeTicketError if it lies."""
    arrays = read_npz(path, ("x", "y", "p", "dt", "off", label_key, "sensor", "class_names"))

    def need(ok: bool, what: str) -> None:
        if not ok:
            raise BadInput(f"{path}: {what}")

    missing = [key for key in ("x", "y", "p", "dt", "off", label_key) if key not in arrays]
    need(not missing, f"no array {', '.join(missing)}; an event pack holds x y p dt off label")
    for key in ("x", "y", "p", "dt", "off", label_key):
        need(arrays[key].ndim == 1 and arrays[key].dtype.kind in "iu",
             f"{key} is {arrays[key].dtype} {list(arrays[key].shape)}, not integers [N]")
    count, off = len(arrays["x"]), arrays["off"].astype(np.int64)
    need(all(len(arrays[key]) == count for key in ("y", "p", "dt")),
         "x, y, p and dt differ in length")
    labels = arrays[label_key].astype(np.int64)
    need(len(off) == len(labels) + 1 and len(labels) > 0,
         f"{len(off)} offsets do not go with {len(labels)} labels (one more is needed)")
    need(bool(off[0] == 0 and off[-1] == count and (np.diff(off) >= 0).all()),
         f"offsets do not rise from 0 to the {count} events")
    need(bool((arrays["dt"] >= 0).all()), "a time step dt is negative")
    if sensor is None:
        stated = arrays.get("sensor")
        need(stated is not None and stated.ndim == 1 and len(stated) >= 2
             and stated.dtype.kind in "iu", "no array sensor (width, height); give sensor")
        sensor = int(stated[0]), int(stated[1])
    names = arrays.get("class_names", np.zeros(0, "U1"))
    return Pack({**arrays, "off": off}, labels, sensor, tuple(str(n) for n in names.ravel()),
                str(path))
