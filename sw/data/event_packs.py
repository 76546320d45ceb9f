"""Recordings made frames; event packs (`.npz`) of whole sets, alone or several joined."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..errors import BadInput
from . import events
from .array_sets import split_of
from .events import Events
from .notes import Notes

MAX_FRAME_BYTES = 4 << 30

Recording = tuple[int, Callable[[], Events]]
"""Label, and a function that reads the events."""


def frames_of(found: list[Recording], sensor: tuple[int, int], what: str, notes: Notes, *,
              timesteps: int = 4, by: str = "number", size: tuple[int, int] | None = None,
              fit: str = "pad-crop", max_count: int = 255,
              limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Frames uint8 [N, T, 2, H, W] and labels int64 [N] of recordings; see `sw.data.events.frames`.

    limit: only the first n. Recordings without an event are noted; refused if all are such.
    """
    found = found[:limit]
    width, height = events.fitted_size(sensor, size, fit)
    shape = (len(found), timesteps, 2, height, width)
    if np.prod([int(n) for n in shape], dtype=object) > MAX_FRAME_BYTES:
        raise BadInput(f"{what}: frames {list(shape)} exceed 4 GiB; give fewer timesteps, "
                       "a smaller size, or a limit")
    images = np.empty(shape, np.uint8)
    held = 0
    for i, (_, read) in enumerate(tqdm(found, desc=f"{what} frames", unit="rec", mininterval=1.0,
                                       leave=False, disable=None)):
        recording = read()
        notes.take(recording.notes)
        held += len(recording)
        if not len(recording):
            notes.add(recording.source, "holds no event; its frames are empty")
        images[i] = events.frames(recording, timesteps, by, size, fit, max_count)
    if found and not held:
        raise BadInput(f"{what}: none of the {len(found)} recordings holds an event; fetch "
                       "or convert them again")
    return images, np.array([label for label, _ in found], np.int64)


def load_pack(path: str | Path, split: str, notes: Notes, sensor: tuple[int, int] | None = None,
              label_key: str = "label", **how) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Frames, labels and class names of a split of an event pack.

    A pack with "train" or "test" in its name holds that split only. Of any other, every fourth
    recording of a class (the 4th, 8th, ...) is the test split.
    """
    found, sensor, names = of_pack(Path(path), split, sensor, label_key, notes)
    return *frames_of(found, sensor, Path(path).name, notes, **how), names


Part = tuple[list[Recording], tuple[int, int], tuple[str, ...]]
"""Recordings, sensor and class names of one pack."""


def of_pack(path: Path, split: str, sensor: tuple[int, int] | None, label_key: str,
            notes: Notes) -> Part:
    """A split of an event pack, its recordings yet to be read."""
    pack = events.read_pack(path, sensor, label_key)
    labels = pack.labels
    if (labels < 0).any():
        raise BadInput(f"{path}: recording {int(np.argmax(labels < 0))} has no label "
                       f"({labels.min()}); training and accuracy need labels, pictures "
                       "and demonstrations read it by sw.data.events.read_pack")
    chosen = split_of(labels, split, path.name, str(path), notes)
    found = [(int(labels[i]), partial(pack.__getitem__, int(i))) for i in chosen]
    return found, pack.sensor, pack.names


def join(parts: list[Part], paths: list[Path]) -> Part:
    """The recordings of several packs of a set; one that an earlier pack has is left out."""
    if len(parts) == 1:
        return parts[0]
    joined: list[Recording] = []
    seen: set[bytes] = set()
    _, sensor, names = parts[0]
    for (found, _, its_names), path in zip(parts, paths, strict=True):
        if its_names != names:
            raise BadInput(f"{path}: its classes {', '.join(its_names) or '(none)'} are "
                           f"not those of {paths[0]}; keep packs of one set only in a "
                           "folder, or give a pack's path")
        fresh = [(_digest(*recording), recording) for recording in found]
        joined += [recording for digest, recording in fresh if digest not in seen]
        seen.update(digest for digest, _ in fresh)
    return joined, sensor, names


def _digest(label: int, read: Callable[[], Events]) -> bytes:
    """What tells recordings apart: label and events."""
    held = read()
    digest = hashlib.blake2b(str(label).encode(), digest_size=16)
    for array in (held.x, held.y, held.t, held.p):
        digest.update(array.tobytes())
    return digest.digest()
