"""Network images as .npz files: JSON and integer arrays, no pickle."""

from __future__ import annotations

import io
import json
import os
import typing
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ..data.arrays import read_npz
from ..errors import SpikeTicketError
from ..typed import typed
from .image import Image
from .image_check import check_image

FORMAT = "spiketicket-image-4"


def save(image: Image, path: str | os.PathLike) -> None:
    """Write a file, atomically."""
    meta = asdict(image)
    for name in ("program", "weights", "streams"):
        del meta[name]
    arrays = {f"{name}{n}": words for name in ("weights", "streams")
              for n, words in enumerate(getattr(image, name))}
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, format=np.array(FORMAT), program=image.program,
        meta=np.frombuffer(json.dumps(meta).encode(), np.uint8), **arrays)
    path = Path(path)
    part = path.with_name(path.name + f".{os.getpid()}.tmp")
    part.write_bytes(buffer.getvalue())
    os.replace(part, path)


def load(path: str | os.PathLike) -> Image:
    """Read a file. Raises SpikeTicketError naming it and the reason."""
    path = Path(path)
    arrays = read_npz(path)
    try:
        if (form := str(arrays.pop("format"))) != FORMAT:
            raise ValueError(f"format {form!r} is unknown")
        meta = json.loads(arrays.pop("meta").tobytes())
        hints = typing.get_type_hints(Image)
        if set(meta) != set(hints) - {"program", "weights", "streams"}:
            raise ValueError(f"it holds {', '.join(sorted(meta))}")
        image = Image(program=_words(arrays, "program"), weights=_numbered(arrays, "weights"),
                      streams=_numbered(arrays, "streams"),
                      **{key: typed(value, hints[key], key) for key, value in meta.items()})
        check_image(image)
        return image
    except (ValueError, KeyError, TypeError, RecursionError, SpikeTicketError) as error:
        raise SpikeTicketError(f"{path}: not a network image ({error}); compile the ticket "
                               "again") from error


def _numbered(arrays: dict[str, np.ndarray], name: str) -> list[np.ndarray]:
    count = sum(key.startswith(name) for key in arrays)
    return [_words(arrays, f"{name}{n}") for n in range(count)]


def _words(arrays: dict[str, np.ndarray], name: str) -> np.ndarray:
    array = arrays.pop(name)
    if array.dtype != np.uint32 or array.ndim != 1:
        raise ValueError(f"{name} is {array.dtype} {list(array.shape)}, not uint32 [n]")
    return array
