"""Event data sets from local folders, as SpikingJelly and tonic lay them out, and from packs.

Each set is a table of the places its recordings may lie in. A recording's label comes from its
folder (or file) name, as a number where it is one: class 10 of DVS128-Gesture is label 10 here,
whereas `spikingjelly.datasets` sorts the folders as text.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..errors import SpikeTicketError
from . import event_files, events
from .cifar import CIFAR10_LABELS
from .events import Events

MAX_FRAME_BYTES = 4 << 30
GESTURES = ("hand_clapping", "right_hand_wave", "left_hand_wave", "right_arm_clockwise",
            "right_arm_counter_clockwise", "left_arm_clockwise", "left_arm_counter_clockwise",
            "arm_roll", "air_drums", "air_guitar", "other_gestures")
SUITS = ("club", "diamond", "heart", "spade")

Recording = tuple[int, Callable[[], Events]]
"""Label, and a function that reads the events."""


@dataclass(frozen=True)
class EventSet:
    """sensor: (width, height); packs: patterns of .npz packs; folders: (folder with {split}, its
    words for train and test, columns of plain arrays, microseconds per unit of time)."""

    sensor: tuple[int, int]
    names: tuple[str, ...]
    packs: tuple[str, ...]
    folders: tuple[tuple[str, tuple[str, str], str, float], ...]
    aliases: tuple[str, ...] = ()
    by_name: bool = False
    split_at: int = 0
    remedy: str = ""


_JELLY = ("events_np/{split}", ("train", "test"), "", 1.0)
SETS: dict[str, EventSet] = {
    "n-mnist": EventSet(
        (34, 34), tuple("0123456789"), ("nmnist_{split}*.npz", "nmnist_*_{split}*.npz"),
        (("NMNIST/{split}", ("Train", "Test"), "", 1.0), ("{split}", ("Train", "Test"), "", 1.0),
         ("extract/{split}", ("Train", "Test"), "", 1.0), _JELLY),
        by_name=True, remedy="unpack Train.zip and Test.zip of N-MNIST, digits 0..9 as folders"),
    "cifar10-dvs": EventSet(
        (128, 128), CIFAR10_LABELS, ("cifar10_dvs*.npz",),
        (("CIFAR10DVS", ("", ""), "", 1.0), ("CIFAR10DVS/CIFAR10DVS", ("", ""), "", 1.0),
         ("events_np", ("", ""), "", 1.0), ("extract", ("", ""), "", 1.0),
         (".", ("", ""), "", 1.0)), split_at=100,
        remedy="unpack its ten class archives; .aedat4 (tonic), .aedat or .npz (SpikingJelly)"),
    "dvs128-gesture": EventSet(
        (128, 128), GESTURES, ("dvs128_gesture*.npz",),
        (("DVSGesture/{split}", ("ibmGestureTrain", "ibmGestureTest"), "xypt", 1000.0),
         ("{split}", ("ibmGestureTrain", "ibmGestureTest"), "xypt", 1000.0), _JELLY),
        remedy="unpack DvsGesture.tar.gz there, or give SpikingJelly's or tonic's folder"),
    "poker-dvs": EventSet(
        (35, 35), SUITS, ("poker_dvs*.npz",),
        (("POKERDVS/{split}", ("pips_train", "pips_test"), "txyp", 1.0),
         ("{split}", ("pips_train", "pips_test"), "txyp", 1.0)),
        aliases=("cl", "di", "he", "sp"),
        remedy="unpack tonic's pips_train.tar.gz and pips_test.tar.gz"),
}


def load(name: str, split: str, roots: list[Path], **how) -> tuple[np.ndarray, np.ndarray,
                                                                   tuple[str, ...], str]:
    """Frames uint8 [N, T, 2, H, W], labels int64 [N], class names and source of a known set.

    how: options of `frames_of`, `sensor` and `label_key`. The first root with a folder layout or
    packs wins; of several packs all are taken, each recording once. Raises SpikeTicketError naming
    what was looked for.
    """
    known = SETS[name]
    sensor = how.pop("sensor", None) or known.sensor
    label_key = how.pop("label_key", "label")
    word = {"train": 0, "test": 1}[split]
    for root in roots:
        if name == "dvs128-gesture":
            for base in (root / "DvsGesture", root / "extract/DvsGesture", root):
                if (base / f"trials_to_{split}.txt").is_file():
                    found = list(_gesture_trials(base, split, sensor))
                    return *frames_of(found, sensor, name, **how), known.names, str(base)
        for folder, words, columns, unit in known.folders:
            base = root / folder.format(split=words[word])
            found = _folder(known, base, split, sensor, columns, unit)
            if found:
                return *frames_of(found, sensor, name, **how), known.names, str(base)
        paths = list(dict.fromkeys(path for pattern in known.packs
                                   for path in sorted(root.glob(pattern.format(split=split)))))
        if paths:
            found, sensor, names = _join([_of_pack(path, split, sensor, label_key)
                                          for path in paths], paths)
            source = " + ".join(map(str, paths))
            return *frames_of(found, sensor, source, **how), names or known.names, source
    places = [f.format(split=words[word]) for f, words, _, _ in known.folders]
    packs = [pattern.format(split=split) for pattern in known.packs]
    raise SpikeTicketError(
        f"data set {name}: no recordings of the {split} split; expected one of "
        f"{', '.join(places + packs)} below {', '.join(map(str, roots)) or 'a root'}; "
        f"{known.remedy}, or give --data-root")


def _number(text: str) -> int:
    """The last number in a name; -1 where there is none."""
    digits = re.findall(r"\d+", text)
    return int(digits[-1][:18]) if digits else -1


def _class_of(folder: str, known: EventSet) -> int | None:
    """Label of a class folder; None for other folders."""
    for names in (known.names, known.aliases):
        if folder in names:
            return names.index(folder)
    if folder.isdecimal() and len(folder) < 4 and int(folder) < len(known.names):
        return int(folder)
    return None


def _files(folder: Path) -> list[Path]:
    return sorted((path for path in folder.iterdir()
                   if path.suffix.lower() in event_files.READERS and path.is_file()),
                  key=lambda path: (_number(path.stem), path.name))


def _folder(known: EventSet, base: Path, split: str, sensor: tuple[int, int], columns: str,
            unit: float) -> list[Recording]:
    """Recordings below `base`: class folders of files, or (tonic's gestures) users' folders of
    files that are named by class."""
    if not base.is_dir():
        return []
    rows = []
    for folder in sorted(path for path in base.iterdir() if path.is_dir()):
        label = _class_of(folder.name, known)
        by_file = label is None and folder.name.startswith("user")
        if label is None and not by_file:
            continue
        for place, path in enumerate(_files(folder)):
            if by_file:
                label = _class_of(path.stem, known)
                if label is None:
                    raise SpikeTicketError(f"{path}: named after none of the "
                                           f"{len(known.names)} classes")
            number = _number(path.stem)
            if known.split_at and (number < known.split_at) != (split == "test"):
                continue
            key = (number,) if known.by_name else (0 if by_file else place,)
            read = partial(event_files.read, path, sensor, columns, unit)
            rows.append((key, folder.name if by_file else "", label, path.name, read))
    # Classes take turns, so that the first n recordings hold all of them; N-MNIST's numbers are
    # MNIST's own order.
    rows.sort(key=lambda row: row[:4])
    return [(row[2], row[4]) for row in rows]


def _gesture_trials(base: Path, split: str, sensor: tuple[int, int]) -> Iterator[Recording]:
    """Recordings of DVS128-Gesture as published: an .aedat of a trial, cut by its `_labels.csv`."""
    held: dict[Path, Events] = {}  # a trial is read once, and let go when the next one comes
    for line in _text(base / f"trials_to_{split}.txt").splitlines():
        if not line.strip():
            continue
        trial = base / line.strip()
        if trial.suffix != ".aedat" or trial.parent != base:
            raise SpikeTicketError(f"{base / f'trials_to_{split}.txt'}: {line.strip()[:60]!r} is "
                                   "not the name of an .aedat file beside it")
        table = trial.with_name(f"{trial.stem}_labels.csv")
        for row in list(csv.reader(_text(table).splitlines()))[1:]:
            try:
                label, start, stop = (int(cell) for cell in row[:3])
            except ValueError as error:
                raise SpikeTicketError(f"{table}: row {','.join(row)[:60]!r} is not class, start, "
                                       "end in microseconds") from error
            if not 1 <= label <= len(GESTURES):
                raise SpikeTicketError(f"{table}: class {label} is outside 1..{len(GESTURES)}")
            yield label - 1, partial(_cut, held, trial, sensor, start, stop)


def _cut(held: dict[Path, Events], trial: Path, sensor: tuple[int, int], start: int,
         stop: int) -> Events:
    if trial not in held:
        held.clear()
        held[trial] = event_files.read_aedat(trial, sensor)
    return held[trial].between(start, stop)


def _text(path: Path) -> str:
    return event_files.read_bytes(path, 1 << 24).decode("utf-8", "replace")


def frames_of(found: list[Recording], sensor: tuple[int, int], what: str, *, timesteps: int = 4,
              by: str = "number", size: tuple[int, int] | None = None, fit: str = "pad-crop",
              max_count: int = 255, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Frames and labels of recordings; see `sw.data.events.frames`. limit: only the first n."""
    found = found[:limit]
    width, height = events.fitted_size(sensor, size, fit)
    shape = (len(found), timesteps, 2, height, width)
    if np.prod([int(n) for n in shape], dtype=object) > MAX_FRAME_BYTES:
        raise SpikeTicketError(f"{what}: frames {list(shape)} exceed 4 GiB; give fewer timesteps, "
                               "a smaller size, or a limit")
    images = np.empty(shape, np.uint8)
    for i, (_, read) in enumerate(tqdm(found, desc=f"{what} frames", unit="rec", mininterval=1.0,
                                       leave=False, disable=None)):
        images[i] = events.frames(read(), timesteps, by, size, fit, max_count)
    return images, np.array([label for label, _ in found], np.int64)


def load_pack(path: str | Path, split: str, sensor: tuple[int, int] | None = None,
              label_key: str = "label", **how) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Frames, labels and class names of a split of an event pack.

    A pack with "train" or "test" in its name holds that split only. Of any other, every fourth
    recording of a class (the 4th, 8th, ...) is the test split.
    """
    found, sensor, names = _of_pack(Path(path), split, sensor, label_key)
    return *frames_of(found, sensor, Path(path).name, **how), names


Part = tuple[list[Recording], tuple[int, int], tuple[str, ...]]
"""Recordings, sensor and class names of one pack."""


def _of_pack(path: Path, split: str, sensor: tuple[int, int] | None, label_key: str) -> Part:
    """A split of an event pack, its recordings yet to be read."""
    stated = [word for word in ("train", "test") if word in path.name.lower()]
    if len(stated) == 1 and stated[0] != split:
        raise SpikeTicketError(f"{path}: holds the {stated[0]} split by its name, not {split}")
    pack = events.read_pack(path, sensor, label_key)
    labels = pack.labels
    if (labels < 0).any():
        raise SpikeTicketError(f"{path}: recording {int(np.argmax(labels < 0))} has no label "
                               f"({labels.min()}); training and accuracy need labels, pictures "
                               "and demonstrations read it by sw.data.events.read_pack")
    chosen = np.arange(len(labels))
    if len(stated) != 1:
        turn = np.zeros(len(labels), np.int64)
        for label in np.unique(labels):
            turn[labels == label] = np.arange((labels == label).sum())
        test = turn % 4 == 3
        chosen = np.flatnonzero(test if split == "test" else ~test)
        chosen = chosen[np.lexsort((labels[chosen], turn[chosen]))]  # classes take turns
    found = [(int(labels[i]), partial(pack.__getitem__, int(i))) for i in chosen]
    return found, pack.sensor, pack.names


def _join(parts: list[Part], paths: list[Path]) -> Part:
    """The recordings of several packs of a set; one that an earlier pack has is left out."""
    if len(parts) == 1:
        return parts[0]
    joined: list[Recording] = []
    seen: set[bytes] = set()
    _, sensor, names = parts[0]
    for (found, _, its_names), path in zip(parts, paths, strict=True):
        if its_names != names:
            raise SpikeTicketError(f"{path}: its classes {', '.join(its_names) or '(none)'} are "
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


def load_folder(root: Path, split: str, sensor: tuple[int, int] | None,
                **how) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Frames, labels and class names of any event file set: ROOT/{train,test}/CLASS/FILES.

    Classes are the folder names, numbers in order of value, else sorted as text.
    """
    how.pop("label_key", None)
    columns, unit = how.pop("columns", ""), how.pop("time_unit", 1.0)
    base = next((root / word for word in (split, split.capitalize()) if (root / word).is_dir()),
                None)
    folders = [path for path in base.iterdir() if path.is_dir()] if base else []
    if not folders:
        raise SpikeTicketError(f"{root}: no folder {split}/CLASS with event files "
                               f"({', '.join(event_files.READERS)}); lay the set out so")
    names = sorted((path.name for path in folders),
                   key=lambda name: (0, int(name), name) if name.isdecimal() and len(name) < 10
                   else (1, 0, name))
    if sensor is None:
        raise SpikeTicketError(f"{root}: a folder of events does not state the sensor's size; give "
                               "sensor as width, height")
    known = EventSet(sensor, tuple(names), (), ())
    found = _folder(known, base, split, sensor, columns, unit)
    if not found:
        raise SpikeTicketError(f"{base}: no event files in the folders of {len(names)} "
                               f"classes; names end in {', '.join(event_files.READERS)}")
    return *frames_of(found, sensor, root.name, **how), tuple(names)
