"""Python objects as data sets: torch, torchvision, SpikingJelly, tonic, or anything of their form.

Nothing is asked for by type. A data set is what has `__getitem__` and `__len__`, or is iterable
(then a limit is needed); a sample is (picture or events, label) or a dictionary of these. Pictures
are Pillow images, arrays or tensors; events are structured arrays or dictionaries of x, y, t, p, as
tonic's and SpikingJelly's event data sets give; frames [T, C, H, W] are taken as they are. Also
taken: a pair (images, labels) of arrays, a loader (its data set is read in order), and for commands
that want both splits a dictionary {"train": ..., "test": ...}.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

import numpy as np

from ..errors import BadInput
from .data_options import Options
from .event_arrays import from_array, from_fields, matched
from .event_packs import Recording, frames_of
from .events import Events
from .folders import SPLITS
from .image_arrays import labels_of, pixels
from .image_fit import MAX_BYTES
from .notes import Notes
from .picture_sets import assemble
from .samples import Images

_INPUTS = ("image", "img", "pixel_values", "images", "x", "data", "input", "events", "frames")
_LABELS = ("label", "labels", "target", "targets", "y", "class", "fine_label")


def accepts(what: object) -> bool:
    """Whether `what` has the form of a data set."""
    return not isinstance(what, str | Path | bytes | type) and (
        hasattr(what, "__getitem__") or hasattr(what, "__iter__"))


def load(what: object, split: str, options: Options, notes: Notes) -> Images:
    """Samples of an object; see above. Raises SpikeTicketError naming the sample and what it is.
    """
    what = _of_split(what, split)
    source = type(what).__name__
    if _batches(what):
        notes.add(source, "a loader of batches; its data set is read in order")
        what = what.dataset
        source = type(what).__name__
    _same_split(what, split, source)
    names = _names(what)
    if _is_pair(what):
        images, labels = (_numpy(part) for part in what)
        if images.ndim == 0 or labels.ndim == 0 or len(images) != len(labels) or not len(images):
            raise BadInput(f"{source}: images {list(images.shape)} and labels "
                           f"{list(labels.shape)} are not a pair of equal length")
        count = slice(options.limit)
        return Images(pixels(images, source, notes, options.layout)[count],
                      labels_of(labels, source, notes, len(names))[count], names, source,
                      notes.lines())
    samples = list(_samples(what, source, options.limit))
    if not samples:
        raise BadInput(f"{source}: holds no sample")
    _repeatable(what, samples[0][0], source, notes)
    labels = labels_of(np.array([_label(label, source, i) for i, (_, label) in enumerate(samples)]),
                       source, notes, len(names))
    inputs = [one for one, _ in samples]
    if _is_events(inputs[0]):
        sensor = options.sensor or _sensor(what)
        found: list[Recording] = [
            (int(label), lambda one=one, i=i: _events(one, f"{source}[{i}]", sensor, options))
            for i, (one, label) in enumerate(zip(inputs, labels, strict=True))]
        sensor = sensor or found[0][1]().sensor
        how = options.of_events()
        images, labels = frames_of(found, sensor, source, notes, **{
            key: value for key, value in how.items() if key not in ("sensor", "label_key")})
    else:
        images = _pictures(inputs, source, options, notes)
    return Images(images, labels, names, source, notes.lines())


def _of_split(what: object, split: str) -> object:
    """What a dictionary of splits holds for this one."""
    if isinstance(what, Mapping) and what and {str(key) for key in what} <= set(SPLITS):
        if split not in what:
            raise BadInput(f"data sets for {', '.join(map(str, what))}, none for {split}; "
                           f"add {split!r}")
        return what[split]
    if isinstance(what, Mapping) or hasattr(what, "dtype"):
        kind = (f"a dictionary of {', '.join(map(str, what))[:60] or 'nothing'}"
                if isinstance(what, Mapping) else f"one array {list(what.shape)}")
        raise BadInput(f"{kind} is no data set: give a pair (images, labels), or a "
                       'dictionary {"train": ..., "test": ...} of data sets')
    return what


def _same_split(what: object, split: str, source: str) -> None:
    """torchvision's, tonic's and SpikingJelly's sets say by `train` whether they are for training.
    """
    train = getattr(what, "train", None)
    if isinstance(train, bool) and train != (split == "train"):
        held = "training" if train else "test"
        raise BadInput(f"{source}: is the {held} set by its attribute train={train}, but "
                       f"the {split} split is asked for; give both as "
                       '{"train": ..., "test": ...}')


def _batches(what: object) -> bool:
    return hasattr(what, "dataset") and hasattr(what, "batch_size")


def _is_pair(what: object) -> bool:
    return (isinstance(what, tuple | list) and len(what) == 2
            and all(hasattr(part, "shape") and hasattr(part, "dtype") for part in what))


def _numpy(value: object) -> np.ndarray:
    if hasattr(value, "detach"):  # torch, without importing it
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":  # NumPy has no such type
            value = value.float()
        value = value.numpy()
    return np.asarray(value)


def _names(what: object) -> tuple[str, ...]:
    names = getattr(what, "classes", None)
    known = isinstance(names, list | tuple) and names and all(isinstance(n, str) for n in names)
    return tuple(names) if known else ()


def _samples(what: object, source: str, limit: int | None) -> Iterator[tuple[object, object]]:
    """(input, label) of each sample."""
    if hasattr(what, "__getitem__") and hasattr(what, "__len__"):
        count = len(what) if limit is None else min(limit, len(what))
        taken = (what[i] for i in range(count))
    elif limit is None:
        raise BadInput(f"{source}: does not say how many samples it has; give a limit")
    else:
        taken = islice(iter(what), limit)
    held = 0
    for i in range(1 << 62):
        try:
            one = next(taken)
        except StopIteration:
            return
        except Exception as error:  # the user's own code
            raise BadInput(f"{source}: its sample {i} raises {type(error).__name__} "
                           f"({' '.join(str(error).split())[:160]})") from error
        if isinstance(one, Mapping) and len(matched(tuple(map(str, one)))) < 4:
            one = tuple(next((one[key] for key in keys if key in one), None)
                        for keys in (_INPUTS, _LABELS))
            if one[0] is None or one[1] is None:
                raise BadInput(f"{source}: sample {i} is a dictionary without one of "
                               f"{', '.join(_INPUTS)} or one of {', '.join(_LABELS)}")
        if not isinstance(one, tuple | list) or len(one) != 2:
            count = f" of {len(one)}" if isinstance(one, tuple | list) else ""
            raise BadInput(f"{source}: sample {i} is a {type(one).__name__}{count}, not "
                           "(input, label)")
        held += int(getattr(one[0], "nbytes", 0) or 0)
        if held > MAX_BYTES:
            raise BadInput(f"{source}: its samples exceed 4 GiB; give a limit")
        yield one[0], one[1]


def _label(label: object, source: str, index: int) -> object:
    value = _numpy(label)
    if value.size != 1 or value.dtype.kind not in "biuf":
        raise BadInput(f"{source}: the label of sample {index} is {value.dtype} "
                       f"{list(value.shape)}, not one whole number")
    return value.reshape(())[()]


def _repeatable(what: object, first: object, source: str, notes: Notes) -> None:
    """Notes where the same sample comes out differently: random transforms."""
    if not (hasattr(what, "__getitem__") and hasattr(first, "shape")):
        return
    again = next(_samples(what, source, 1))[0]
    if not np.array_equal(_numpy(first), _numpy(again)):
        notes.add(source, "gives other values each time (random transforms?); one of each is taken")


def _is_events(one: object) -> bool:
    if isinstance(one, Events):
        return True
    if isinstance(one, np.ndarray):
        return one.dtype.names is not None or (one.ndim == 2 and one.shape[1] == 4
                                               and one.shape[0] != 4)
    return hasattr(one, "keys") and len(matched(tuple(map(str, one.keys())))) == 4


def _sensor(what: object) -> tuple[int, int] | None:
    """(width, height) as tonic (`sensor_size`) and SpikingJelly (`get_H_W`) say it."""
    size = getattr(what, "sensor_size", None)
    if isinstance(size, tuple | list) and len(size) >= 2:
        return int(size[0]), int(size[1])
    if hasattr(what, "get_H_W"):
        height, width = what.get_H_W()
        return int(width), int(height)
    inner = getattr(what, "dataset", None)  # a subset's
    return None if inner is None else _sensor(inner)


def _events(one: object, source: str, sensor: tuple[int, int] | None, options: Options) -> Events:
    if isinstance(one, Events):
        return one
    if isinstance(one, np.ndarray):
        return from_array(one, source, sensor, options.columns, options.time_unit)
    return from_fields({str(key): _numpy(one[key]) for key in one.keys()}, source, sensor,
                       options.time_unit)


def _pictures(inputs: list, source: str, options: Options, notes: Notes) -> np.ndarray:
    where = [f"{source}[{i}]" for i in range(len(inputs))]
    if hasattr(inputs[0], "getexif") and hasattr(inputs[0], "mode"):  # Pillow's
        from .pictures import from_pil
        readers = [lambda one=one, name=name: from_pil(one, name, notes)
                   for one, name in zip(inputs, where, strict=True)]
        return assemble(readers, where, options, notes, source)
    arrays = [_numpy(one) for one in inputs]
    shapes = {array.shape for array in arrays}
    if len(shapes) == 1:
        return pixels(np.stack(arrays), source, notes, options.layout)
    if any(array.ndim not in (2, 3) for array in arrays):
        raise BadInput(f"{source}: samples of {len(shapes)} shapes, such as "
                       f"{' and '.join(str(list(s)) for s in sorted(shapes)[:2])}; give "
                       "frames of one number of timesteps and one size")
    readers = [lambda one=one, name=name: pixels(one[None], source, notes, options.layout)[0]
               for one, name in zip(arrays, where, strict=True)]
    return assemble(readers, where, options, notes, source)
