"""Folders of class folders: splits, classes, files, and what does not belong to them.

    ROOT/{train,test,val}/CLASS/FILES    or    ROOT/CLASS/FILES, every fourth of a class for testing

Class names are those of all splits together, so that a class which one split lacks does not shift
the others' labels. Files of systems (names that begin with a dot, __MACOSX, Thumbs.db) are passed
over in silence, other strangers with a note; empty files are refused.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ..errors import BadInput
from .notes import Notes

SPLITS = {"train": ("train", "training"), "test": ("test", "testing"),
          "val": ("val", "valid", "validation")}
"""Splits, and what their folders are called, in any case."""
EVERY = 4
"""Of a folder without splits, every fourth file of a class is for testing."""
_SYSTEM = ("thumbs.db", "desktop.ini", "__macosx", "__pycache__")
MAX_FILES = 2_000_000


@dataclass(frozen=True)
class ClassFiles:
    """files: (label, path), classes taking turns, so that the first n hold all of them."""

    names: tuple[str, ...]
    files: tuple[tuple[int, Path], ...]
    source: str


def system_file(path: Path) -> bool:
    """Whether a file or folder is a system's own, not the user's."""
    return path.name.startswith(".") or path.name.lower() in _SYSTEM


def natural(name: str) -> list:
    """Key that sorts 2.png before 10.png."""
    return [int(part[:18]) if part.isdecimal() else part.lower()
            for part in re.split(r"(\d+)", name)]


def entries(folder: Path) -> list[Path]:
    """What a folder holds, without systems' files, in order of name. Raises SpikeTicketError."""
    try:
        found = [path for path in folder.iterdir() if not system_file(path)]
    except OSError as error:
        raise BadInput(f"{folder}: cannot be read ({error.strerror})") from error
    return sorted(found, key=lambda path: (natural(path.name), path.name))


def subfolders(folder: Path) -> list[Path]:
    return [path for path in entries(folder) if path.is_dir()]


def files_of(folder: Path, suffixes: Collection[str], notes: Notes) -> list[Path]:
    """Files of a folder that end in `suffixes`; its only subfolder's where it has none itself.

    Raises SpikeTicketError for empty files.
    """
    held = entries(folder)
    files = [path for path in held if path.is_file()]
    found = [path for path in files if path.suffix.lower() in suffixes]
    inner = [path for path in held if path.is_dir()]
    if not files and len(inner) == 1:
        return files_of(inner[0], suffixes, notes)
    for path in (*inner, *(path for path in files if path.suffix.lower() not in suffixes)):
        notes.add(path, f"passed over: not a file that ends in {', '.join(suffixes)}")
    if len(found) > MAX_FILES:
        raise BadInput(f"{folder}: more than {MAX_FILES:,} files")
    for path in found:
        if not path.stat().st_size:
            raise BadInput(f"{path}: the file is empty; a copy or conversion was "
                           "interrupted, do it again or remove the file")
    return found


def split_folders(root: Path) -> dict[str, Path]:
    """Folders of splits that `root` has. Raises SpikeTicketError where two are the same one."""
    result: dict[str, Path] = {}
    for path in subfolders(root):
        for split, words in SPLITS.items():
            if path.name.lower() in words:
                if split in result:
                    raise BadInput(f"{root}: both {result[split].name} and {path.name} are "
                                   f"its {split} split; keep one")
                result[split] = path
    return result


def kind_of(root: Path, suffixes: dict[str, Collection[str]]) -> str | None:
    """The kind of files in class folders, told by a look at the first few files; None: no known.

    Raises SpikeTicketError where files of two kinds are among them.
    """
    found: dict[str, Path] = {}
    for base in split_folders(root).values() or [root]:
        for folder in subfolders(base)[:3]:
            inner = subfolders(folder)
            for place in (folder, *(inner if len(inner) == 1 else ())):
                for path in entries(place)[:50]:
                    for kind, known in suffixes.items():
                        if path.suffix.lower() in known:
                            found.setdefault(kind, path)
    if len(found) > 1:
        both = " and ".join(f"{kind} ({path})" for kind, path in found.items())
        raise BadInput(f"{root}: holds {both}; keep one kind in a folder")
    return next(iter(found), None)


def find(root: Path, split: str, suffixes: Collection[str], notes: Notes) -> ClassFiles:
    """Files of a split by class. Classes are numbered by value where their names are numbers, else
    as text. Raises SpikeTicketError naming what is expected and what is there."""
    splits = split_folders(root)
    base = _base(root, split, splits, notes)
    classes = {one: {path.name: path for path in subfolders(one)}
               for one in (splits.values() if splits else [root])}
    names = sorted(set().union(*classes.values()),
                   key=lambda name: (0, int(name), name) if name.isdecimal() and len(name) < 10
                   else (1, 0, name))
    if not classes[base]:
        raise BadInput(f"{base}: no class folders; lay the set out as {base.name}/CLASS/"
                       "FILES (files without labels: spiketicket classify)")
    rows = []
    for label, name in enumerate(names):
        folder = classes[base].get(name)
        files = files_of(folder, suffixes, notes) if folder else []
        if not splits:
            files = [path for place, path in enumerate(files)
                     if (place % EVERY == EVERY - 1) == (split == "test")]
        if not files:
            notes.add(base, f"no file of class {name} of {len(names)} in the {split} split")
        rows += [(place, label, path) for place, path in enumerate(files)]
    if not splits:
        notes.add(root, f"no folders train and test: every {EVERY}th file of a class, in order of "
                        "name, is for testing, the others are for training")
    held = sum(len(files_of(folder, suffixes, Notes())) for folder in classes[base].values())
    if not rows and held:
        raise BadInput(f"{base}: its {held} files in folders of {len(names)} classes leave "
                       f"none to the {split} split, which has every {EVERY}th of a class; "
                       "make folders train/CLASS and test/CLASS, or add files")
    if not rows:
        raise BadInput(f"{base}: no file of the {split} split in the folders of "
                       f"{len(names)} classes; names end in {', '.join(suffixes)}")
    rows.sort(key=lambda row: row[:2])
    return ClassFiles(tuple(names), tuple((label, path) for _, label, path in rows), str(base))


def _base(root: Path, split: str, splits: dict[str, Path], notes: Notes) -> Path:
    if not splits:
        if split == "val":
            raise BadInput(f"{root}: no folder val/CLASS; make one, or choose train or "
                           "test")
        return root
    if split in splits:
        return splits[split]
    if split == "test" and "val" in splits:
        notes.add(root, f"no folder test; {splits['val'].name} is taken for it")
        return splits["val"]
    raise BadInput(f"{root}: no folder {split}/CLASS, only "
                   f"{', '.join(path.name for path in splits.values())}; make one")
