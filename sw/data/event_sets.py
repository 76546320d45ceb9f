"""Event data sets from local folders, as SpikingJelly and tonic lay them out, and from packs.

Each set is a table of the places its recordings may lie in. A recording's label comes from its
folder (or file) name, as a number where it is one: class 10 of DVS128-Gesture is label 10 here,
whereas `spikingjelly.datasets` sorts the folders as text.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ..errors import BadInput
from . import event_files, folders
from .arrays import read_bytes
from .cifar import CIFAR10_LABELS
from .event_packs import Recording, frames_of, join, of_pack
from .events import Events
from .notes import Notes

GESTURES = ("hand_clapping", "right_hand_wave", "left_hand_wave", "right_arm_clockwise",
            "right_arm_counter_clockwise", "left_arm_clockwise", "left_arm_counter_clockwise",
            "arm_roll", "air_drums", "air_guitar", "other_gestures")
SUITS = ("club", "diamond", "heart", "spade")


@dataclass(frozen=True)
class EventSet:
    """sensor: (width, height); packs: patterns of .npz packs; folders: (folder with {split}, its
    words for train and test, columns of plain arrays, microseconds per unit of time). official:
    recordings of the published splits, where the files are one each."""

    sensor: tuple[int, int]
    names: tuple[str, ...]
    packs: tuple[str, ...]
    folders: tuple[tuple[str, tuple[str, str], str, float | None], ...]
    aliases: tuple[str, ...] = ()
    by_name: bool = False
    split_at: int = 0
    official: tuple[int, int] | None = None
    remedy: str = ""


_JELLY = ("events_np/{split}", ("train", "test"), "", None)
SETS: dict[str, EventSet] = {
    "n-mnist": EventSet(
        (34, 34), tuple("0123456789"), ("nmnist_{split}*.npz", "nmnist_*_{split}*.npz"),
        (("NMNIST/{split}", ("Train", "Test"), "", None), ("{split}", ("Train", "Test"), "", None),
         ("extract/{split}", ("Train", "Test"), "", None), _JELLY),
        by_name=True, official=(60_000, 10_000),
        remedy="unpack Train.zip and Test.zip of N-MNIST, digits 0..9 as folders"),
    "cifar10-dvs": EventSet(
        (128, 128), CIFAR10_LABELS, ("cifar10_dvs*.npz",),
        (("CIFAR10DVS", ("", ""), "", None), ("CIFAR10DVS/CIFAR10DVS", ("", ""), "", None),
         ("events_np", ("", ""), "", None), ("extract", ("", ""), "", None),
         (".", ("", ""), "", None)), split_at=100,
        official=(9000, 1000),
        remedy="unpack its ten class archives; .aedat4 (tonic), .aedat or .npz (SpikingJelly)"),
    "dvs128-gesture": EventSet(
        (128, 128), GESTURES, ("dvs128_gesture*.npz",),
        (("DVSGesture/{split}", ("ibmGestureTrain", "ibmGestureTest"), "xypt", 1000.0),
         ("{split}", ("ibmGestureTrain", "ibmGestureTest"), "xypt", 1000.0), _JELLY),
        remedy="unpack DvsGesture.tar.gz there, or give SpikingJelly's or tonic's folder"),
    "poker-dvs": EventSet(
        (35, 35), SUITS, ("poker_dvs*.npz",),
        (("POKERDVS/{split}", ("pips_train", "pips_test"), "txyp", None),
         ("{split}", ("pips_train", "pips_test"), "txyp", None)),
        aliases=("cl", "di", "he", "sp"),
        remedy="unpack tonic's pips_train.tar.gz and pips_test.tar.gz"),
}


def load(name: str, split: str, roots: list[Path], notes: Notes,
         **how) -> tuple[np.ndarray, np.ndarray, tuple[str, ...], str]:
    """Frames uint8 [N, T, 2, H, W], labels int64 [N], class names and source of a known set.

    how: options of `frames_of`, `sensor` and `label_key`. The first root with a folder layout or
    packs wins; of its layouts the one with most classes and recordings, with a note where another
    comes first; of several packs all are taken, each recording once. Raises SpikeTicketError naming
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
                    return *frames_of(found, sensor, name, notes, **how), known.names, str(base)
        found, base = _fullest(known, root, word, split, sensor, notes)
        if found:
            _say_what_is_missing(found, known, base, word, split, notes)
            return *frames_of(found, sensor, name, notes, **how), known.names, str(base)
        paths = list(dict.fromkeys(path for pattern in known.packs
                                   for path in sorted(root.glob(pattern.format(split=split)))))
        if paths:
            found, sensor, names = join([of_pack(path, split, sensor, label_key, notes)
                                         for path in paths], paths)
            source = " + ".join(map(str, paths))
            return *frames_of(found, sensor, source, notes, **how), names or known.names, source
    places = [f.format(split=words[word]) for f, words, _, _ in known.folders]
    packs = [pattern.format(split=split) for pattern in known.packs]
    raise BadInput(
        f"data set {name}: no recordings of the {split} split; expected one of "
        f"{', '.join(places + packs)} below {', '.join(map(str, roots)) or 'a root'}; "
        f"{known.remedy}, or name its folder in SPIKETICKET_DATA")


def _fullest(known: EventSet, root: Path, word: int, split: str, sensor: tuple[int, int],
             notes: Notes) -> tuple[list[Recording], Path]:
    """Recordings of the layout below `root` that has most classes, then most recordings."""
    held = []
    for folder, words, columns, unit in known.folders:
        base = root / folder.format(split=words[word])
        found = _folder(known, base, split, sensor, columns, unit, notes)
        if found:
            held.append((len({label for label, _ in found}), len(found), found, base))
    if not held:
        return [], root
    best = max(held, key=lambda row: row[:2])  # the first of equal ones
    if best is not held[0]:
        classes, count, _, base = held[0]
        notes.add(base, f"passed over: {count:,} recordings of {classes} classes, but {best[3]} "
                        f"has {best[1]:,} of {best[0]}; it looks half converted")
    return best[2], best[3]


def _say_what_is_missing(found: list[Recording], known: EventSet, base: Path, word: int,
                         split: str, notes: Notes) -> None:
    held = {label for label, _ in found}
    missing = [name for label, name in enumerate(known.names) if label not in held]
    if missing:
        notes.add(base, f"holds no recording of {', '.join(missing)} in the {split} split")
    if known.official and len(found) < known.official[word]:
        notes.add(base, f"holds {len(found):,} of the {known.official[word]:,} recordings of the "
                        f"official {split} split")


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


def _files(folder: Path, notes: Notes) -> list[Path]:
    return sorted(folders.files_of(folder, event_files.READERS, notes),
                  key=lambda path: (_number(path.stem), path.name))


def _folder(known: EventSet, base: Path, split: str, sensor: tuple[int, int], columns: str,
            unit: float | None, notes: Notes) -> list[Recording]:
    """Recordings below `base`: class folders of files, or (tonic's gestures) users' folders of
    files that are named by class."""
    if not base.is_dir():
        return []
    rows = []
    for folder in folders.subfolders(base):
        label = _class_of(folder.name, known)
        by_file = label is None and folder.name.startswith("user")
        if label is None and not by_file:
            continue
        for place, path in enumerate(_files(folder, notes)):
            if by_file:
                label = _class_of(path.stem, known)
                if label is None:
                    raise BadInput(f"{path}: named after none of the "
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
            raise BadInput(f"{base / f'trials_to_{split}.txt'}: {line.strip()[:60]!r} is "
                           "not the name of an .aedat file beside it")
        table = trial.with_name(f"{trial.stem}_labels.csv")
        for row in list(csv.reader(_text(table).splitlines()))[1:]:
            try:
                label, start, stop = (int(cell) for cell in row[:3])
            except ValueError as error:
                raise BadInput(f"{table}: row {','.join(row)[:60]!r} is not class, start, "
                               "end in microseconds") from error
            if not 1 <= label <= len(GESTURES):
                raise BadInput(f"{table}: class {label} is outside 1..{len(GESTURES)}")
            yield label - 1, partial(_cut, held, trial, sensor, start, stop)


def _cut(held: dict[Path, Events], trial: Path, sensor: tuple[int, int], start: int,
         stop: int) -> Events:
    if trial not in held:
        held.clear()
        held[trial] = event_files.read_aedat(trial, sensor)
    return held[trial].between(start, stop)


def _text(path: Path) -> str:
    return read_bytes(path, 1 << 24).decode("utf-8", "replace")


def load_folder(root: Path, split: str, notes: Notes, sensor: tuple[int, int] | None,
                **how) -> tuple[np.ndarray, np.ndarray, tuple[str, ...], str]:
    """Frames, labels, class names and source of any event file set; see `sw.data.folders`.

    sensor: (width, height); needed where the files do not state it, and where they differ.
    """
    how.pop("label_key", None)
    columns, unit = how.pop("columns", ""), how.pop("time_unit", None)
    found = folders.find(root, split, event_files.READERS, notes)
    read = [(label, partial(event_files.read, path, sensor, columns, unit))
            for label, path in found.files]
    if sensor is None:
        sensor = _stated_sensor(root, found.files[0][1])
        read = [(label, partial(_of_sensor, path, sensor)) for label, path in found.files]
    return *frames_of(read, sensor, root.name, notes, **how), found.names, found.source


def _stated_sensor(root: Path, first: Path) -> tuple[int, int]:
    if first.suffix.lower() in event_files.UNSTATED:
        raise BadInput(f"{root}: {first.suffix} files of events do not state the sensor's "
                       f"size; give sensor, such as {root}:sensor=34x34")
    return event_files.read(first).sensor


def _of_sensor(path: Path, sensor: tuple[int, int]) -> Events:
    found = event_files.read(path)
    if found.sensor != sensor:
        raise BadInput(f"{path}: recorded by a {found.sensor[0]} x {found.sensor[1]} "
                       f"sensor, the first by {sensor[0]} x {sensor[1]}; keep one camera's "
                       "recordings in a folder")
    return found
