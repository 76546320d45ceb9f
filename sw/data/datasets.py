"""Data sets of every kind by one call: `load(what, split, root)`. Nothing is downloaded.

`what` is a name, the path of a pack or folder, or a Python object; `LOADERS` is the list of kinds.
The result is `Images`: uint8 [N, C, H, W], or for event data frames of counts, uint8
[N, T, 2, H, W]; its `notes` say what was repaired or decided, and are shown (`sw.errors.note`).
Without `root` named sets are looked for in the folder that the environment variable
SPIKETICKET_DATA names, in Debian's, then in ./data. docs/data.md lists every layout.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import BadInput, SpikeTicketError, did_you_mean, near, note
from . import array_sets, cifar, depth, event_packs, event_sets, folders, idx, jpeg_packs, objects
from . import picture_sets as pictures
from .arrays import open_npz
from .data_options import Options, split_name
from .event_arrays import matched
from .event_files import READERS as EVENT_FILES
from .idx import FASHION_LABELS as FASHION_LABELS
from .image_arrays import labels_of
from .image_fit import fit_images
from .notes import Notes
from .pictures import SUFFIXES as PICTURES
from .samples import Images as Images

if TYPE_CHECKING:
    from ..integer.network import Network

_PACKS = {"fashion-mnist": "fashion*mnist*.npz", "mnist": "mnist*.npz", "cifar10": "cifar10*.npz",
          "cifar100": "cifar100*.npz"}
NAMES = (*idx.LABELS, "cifar10", "cifar100", *event_sets.SETS)
"""Data sets that `load` knows by name."""
ENVIRONMENT = "SPIKETICKET_DATA"


@dataclass(frozen=True)
class DataRequest:
    """What is asked for; `what` without the options that stood behind it."""

    what: object
    split: str
    root: str | Path | None
    options: Options

    @property
    def path(self) -> Path:
        return Path(str(self.what))

    @property
    def roots(self) -> list[Path]:
        """Folders to look in for a named set, in order."""
        if self.root is not None:
            return [Path(self.root)]
        places = (os.environ.get(ENVIRONMENT), idx.DEBIAN.get(str(self.what)), "data")
        return [Path(place) for place in places if place]


@dataclass(frozen=True)
class Loader:
    """One kind of data. takes: what it is, in words. accepts: whether a request is for it."""

    takes: str
    accepts: Callable[[DataRequest], bool]
    read: Callable[[DataRequest, Notes], Images]


def _named(request: DataRequest, notes: Notes) -> Images:
    name, roots = str(request.what), request.roots
    if request.split == "val":
        raise BadInput(f"data set {name} has no split 'val'; choose 'train' or 'test', a "
                       "validation part is split off the training data")
    if name in event_sets.SETS:
        images, labels, names, source = event_sets.load(name, request.split, roots, notes,
                                                        **request.options.of_events())
        labels = labels_of(labels, source, notes, len(names))
        return Images(images, labels, names, source, notes.lines())
    pack = next((path for base in roots for path in sorted(base.glob(_PACKS[name]))), None)
    if name in idx.LABELS:
        if idx.files(name, request.split, roots) or pack is None:
            return idx.load(name, request.split, roots, notes)
        found = _pack(replace(request, what=pack), notes)
        return replace(found, names=found.names or idx.LABELS[name])
    paths = cifar.find(name, request.split, roots)
    if paths:
        images, labels = cifar.read_files(name, paths)
        names = cifar.class_names(name, paths)
        source = str(paths[0].parent)
        return Images(np.ascontiguousarray(images), labels_of(labels, source, notes, len(names)),
                      names, source, notes.lines())
    if pack is None:
        raise BadInput(
            f"data set {name}: no files of the {request.split} split; expected "
            f"{cifar.expected(name, request.split)}, or {_PACKS[name]}, below "
            f"{', '.join(map(str, roots))}; unpack the Python or binary version there, or name its "
            f"folder in {ENVIRONMENT}")
    return _pack(replace(request, what=pack), notes)


def _pack(request: DataRequest, notes: Notes) -> Images:
    """Any .npz pack: images, JPEG bytes or events, told apart by the names of its arrays."""
    path, split, options = request.path, request.split, request.options
    pack = open_npz(path)
    if {"off", "dt"} <= set(pack.names):
        images, labels, names = event_packs.load_pack(path, split, notes, **options.of_events())
    elif {"train_jpeg", "test_jpeg"} & set(pack.names):
        images, labels, names = jpeg_packs.read_jpeg_pack(path, split, options.limit)
    elif len(matched(pack.names)) == len("xytp"):
        raise BadInput(f"{path}: one recording (x, y, t, p) has no label; lay recordings "
                       "out as CLASS/FILES (spiketicket classify needs no labels)")
    else:
        return array_sets.from_arrays(pack.names, pack.read, split, options, str(path), notes)
    return Images(np.ascontiguousarray(images), labels_of(labels, str(path), notes, len(names)),
                  names, str(path), notes.lines())


def _folder(request: DataRequest, notes: Notes) -> Images:
    """Class folders of pictures or event files, or a folder of .npy arrays."""
    root, options = request.path, request.options
    if array_sets.folder_arrays(root) and not folders.subfolders(root):
        return array_sets.load_folder(root, request.split, options, notes)
    kind = folders.kind_of(root, {"pictures": PICTURES, "event files": tuple(EVENT_FILES)})
    if kind == "pictures":
        return pictures.load_folder(root, request.split, options, notes)
    if kind is None:
        if any(path.suffix.lower() in (*PICTURES, *EVENT_FILES) for path in folders.entries(root)):
            raise BadInput(f"{root}: files without class folders have no labels; lay them "
                           "out as CLASS/FILES (spiketicket classify needs no labels)")
        raise BadInput(
            f"{root}: no class folders with pictures ({', '.join(PICTURES)}) or event files "
            f"({', '.join(EVENT_FILES)}); lay the set out as {{train,test}}/CLASS/FILES or "
            f"CLASS/FILES. A set with a name ({', '.join(NAMES)}) is given by it, and its folder "
            f"by {ENVIRONMENT}")
    images, labels, names, source = event_sets.load_folder(
        root, request.split, notes, columns=options.columns, time_unit=options.time_unit,
        **options.of_events())
    return Images(images, labels, names, source, notes.lines())


LOADERS = (
    Loader("a Python data set", lambda r: objects.accepts(r.what),
           lambda r, notes: objects.load(r.what, r.split, r.options, notes)),
    Loader(f"a name ({', '.join(NAMES)})", lambda r: r.what in NAMES, _named),
    Loader("the path of an .npz pack", lambda r: r.path.suffix.lower() == ".npz", _pack),
    Loader("the path of an .npy file of images with its labels beside it",
           lambda r: r.path.suffix.lower() == ".npy" and r.path.is_file(),
           lambda r, notes: array_sets.load_npy(r.path, r.split, r.options, notes)),
    Loader("the path of a folder of class folders or of .npy arrays", lambda r: r.path.is_dir(),
           _folder),
)
"""Kinds of data in the order they are tried; the first that accepts reads."""


def load(what: object, split: str = "test", root: str | Path | None = None,
         options: Options | None = None, **more) -> Images:
    """Load a data set: a name, a path, or a Python object (`LOADERS`).

    options, or single ones as keywords: see `Options`. They may also stand behind a name or path,
    for commands: "n-mnist:size=32,frames_by=time"; those win. Raises SpikeTicketError with the
    expected layout where files are missing, and with file and reason where one is damaged.
    """
    if isinstance(what, str | Path):
        what, written = split_name(str(what))
        what, more = _spelled(what), more | written
    if split not in folders.SPLITS:
        raise BadInput(f"split {split!r} is not 'train', 'test' or 'val'")
    known = Options.__dataclass_fields__
    for key in more:
        if key not in known:
            raise BadInput(f"data option {key!r} is unknown; "
                           f"{did_you_mean(key, known)}")
    options = Options(**{**(asdict(options) if options else {}), **more})
    request, notes = DataRequest(what, split, root, options), Notes()
    loader = next((one for one in LOADERS if one.accepts(request)), None)
    if loader is None:
        raise _unknown(what)
    found = loader.read(request, notes)
    if options.limit is not None and options.limit < len(found):
        found = found.first(options.limit)
    if found.static:
        pictures.say_what_is_lost(found.images[0], options, found.source, notes)
        images = fit_images(found.images, options.width_height, options.fit, options.channels,
                            found.source)
        found = replace(found, images=images, notes=notes.lines())
    for line in found.notes:
        note(line)
    return found


def _spelled(name: str) -> str:
    """The known name that `name` is but for case, hyphens and underscores; a path stays."""
    def plain(text: str) -> str:
        return text.lower().replace("-", "").replace("_", "")

    if Path(name).exists():
        return name
    return next((known for known in NAMES if plain(known) == plain(name)), name)


def _unknown(what: object) -> SpikeTicketError:
    if not isinstance(what, str):
        return BadInput(f"a {type(what).__name__} is no data set; give "
                        f"{', '.join(one.takes for one in LOADERS)}")
    path = Path(what)
    if path.exists():
        kind = ("one picture has no label; spiketicket classify takes it"
                if path.suffix.lower() in PICTURES else
                "one recording has no label; spiketicket classify takes it"
                if path.suffix.lower() in EVENT_FILES else "no kind of data that is known")
        return BadInput(f"{path}: {kind}; a data set is "
                        f"{', '.join(one.takes for one in LOADERS[1:])}")
    beside = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
    close = near(path.name, [*beside, *(NAMES if path.name == what else ())])
    return BadInput(f"data set {what!r} is unknown: neither a name nor a path that is "
                    f"there; {f'did you mean {close[0]}? ' if close else ''}give "
                    f"{', '.join(one.takes for one in LOADERS[1:])}")


def for_network(network: Network, data: object, split: str = "test",
                root: str | Path | None = None, limit: int | None = None) -> Images:
    """Load `data` for an integer network: its T, pictures at its input's bits (`sw.data.depth`),
    counts within them.

    Size and channels are converted only where options behind the name say so, and `split` may stand
    there, too: a finished ticket can run on its training samples, a search never tests on them.
    Raises SpikeTicketError where they are not the network's, and for labels beyond its classes.
    """
    spec, name, written = network.input, data, {}
    if isinstance(data, str | Path):
        name, written = split_name(str(data))
        split = written.pop("split", split)
    found = load(name, split, root, **{"limit": limit, "timesteps": network.timesteps,
                                       "max_count": (1 << spec.bits) - 1, **written})
    shape = (spec.channels, spec.height, spec.width)
    if not spec.static:
        shape = (network.timesteps, *shape)
    if found.images.shape[1:] != shape:
        kind = "images" if found.static else "event frames"
        raise BadInput(
            f"{found.source}: {kind} of shape {list(found.images.shape[1:])}, but ticket "
            f"{network.name!r} takes {list(shape)}; {_remedy(found, shape, data)}")
    labels_of(found.labels, f"{found.source}, for ticket {network.name!r}", Notes(),
              network.layers[-1].channels)
    if not spec.static:
        return found
    return replace(found, images=depth.fitted(found.images, spec.bits, found.source))


def _remedy(found: Images, shape: tuple[int, ...], data: object) -> str:
    """What to do about images of another shape, for exactly what differs."""
    held = found.images.shape[1:]
    if found.static and len(shape) == 4:
        return ("it takes event recordings: choose an event set, such as n-mnist or a folder of "
                "recordings, or a ticket for images")
    if not found.static and len(shape) == 3:
        return ("it takes still images: choose an image set, such as fashion-mnist or a folder of "
                "pictures, or a ticket for event recordings")
    if len(shape) == 4 and held[0] != shape[0]:
        return f"these frames are of {held[0]} timesteps: build them with {shape[0]}"
    options = {}
    if held[-3] != shape[-3]:
        if (held[-3], shape[-3]) not in ((1, 3), (3, 1)):
            return (f"{held[-3]} channels cannot become {shape[-3]}: choose data or a ticket with "
                    "the other's channels")
        options["channels"] = f"{shape[-3]}"
    if held[-2:] != shape[-2:]:
        options |= {"size": f"{shape[-1]}x{shape[-2]}", "fit": "resize"}
    name = ""
    if isinstance(data, str | Path):
        name, written = split_name(str(data))
        pairs = {key: "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
                 for key, value in written.items()}
        name, options = f"{name}:", pairs | options
    words = {"1": ", grey made of colour", "3": ", grey repeated as colour"}
    said = words[str(shape[-3])] if held[-3] != shape[-3] else ""
    scaled = (", scaled (without fit=resize: centred, cropped or padded)"
              if held[-2:] != shape[-2:] else "")
    return f"give {name}{','.join(f'{k}={v}' for k, v in options.items())}{said}{scaled}"
