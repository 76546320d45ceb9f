"""Inputs for live mode, one at a time as they come: image folders, event files, streams."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .board.batches import Framing, Wanted, as_input
from .data import depth, event_files, folders
from .data.arrays import npy_header, read_npy
from .data.events import Events
from .data.image_arrays import pixels
from .data.image_fit import fit_images
from .data.notes import Notes
from .data.pictures import SUFFIXES, read_picture
from .errors import BadInput

STDIN = "-"

_NPY = b"\x93NUMPY"
_MAX_HEADER = 10_000


@dataclass(frozen=True)
class Source:
    """Where inputs come from. where: a folder, a file, or "-" for standard input.

    wanted: what the network takes. framing: how events become frames. window_us: cut an event file
    into inputs of so many microseconds; None: a file is one input. notes: what was repaired, shown
    as it is first met.
    """

    where: str
    wanted: Wanted
    framing: Framing
    window_us: int | None = None
    notes: Notes = field(default_factory=lambda: Notes(at_once=True))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input: [C, H, W], or [T, C, H, W] where it is not static."""
        wanted = self.wanted
        return wanted.input_shape if wanted.static else (wanted.timesteps, *wanted.input_shape)

    def describe(self) -> str:
        """What is done to the inputs, in a line for people."""
        channels, height, width = self.wanted.input_shape
        size = " x ".join(map(str, self.shape))
        depth_said = ""
        if self.wanted.static and self.wanted.input_bits < depth.FULL:
            depth_said = f", the upper {self.wanted.input_bits} of 8 bits"
        if self.where == STDIN:
            return (f"standard input: frames of {size} = {int(np.prod(self.shape)):,} bytes, or "
                    f".npy{depth_said}")
        if not self.wanted.static:
            each = (f"every {self.window_us / 1e3:g} ms" if self.window_us else "a file")
            return (f"events to counts of {size}, {each} one input, timesteps by "
                    f"{self.framing.by}, {self.framing.fit}")
        return (f"images to {width} x {height} (bilinear where they have another size), "
                f"{'grey' if channels == 1 else 'colour'}{depth_said}")

    def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
        """(name, input) in order; raises SpikeTicketError naming file or frame and what is wrong.
        """
        if self.where == STDIN:
            yield from self._frames(sys.stdin.buffer, "standard input")
            return
        path = Path(self.where)
        if path.is_dir():
            found = [one for one in folders.entries(path) if one.is_file() and self._reads(one)]
            if not found:
                raise self._nothing(path, folders.entries(path))
        elif path.is_file():
            found = [path]
            if not self._reads(path):
                raise self._nothing(path, [path])
        else:
            raise BadInput(f"{path}: no such file or folder; '-' reads standard input")
        for one in found:
            yield from self._of_file(one)

    def _suffixes(self) -> tuple[str, ...]:
        if self.wanted.static:
            return (*SUFFIXES, ".npy")
        return tuple(event_files.READERS)

    def _nothing(self, path: Path, there: list[Path]) -> BadInput:
        """That none of the files that are there is read, and what they seem to be."""
        ours, theirs = (("pictures", "event recordings") if self.wanted.static
                        else ("event recordings", "pictures"))
        met = {one.suffix.lower() for one in there}
        hint = ""
        if met & (set(SUFFIXES) | set(event_files.READERS)) - {".npy", ".npz"}:
            hint = f"; for {theirs} choose another ticket (spiketicket run --list)"
        elif ".npz" in met:
            hint = ("; an .npz holds event recordings, which are for another ticket, or a labelled "
                    "set, which is for spiketicket run --data")
        return BadInput(f"{path}: ticket {self.wanted.name!r} takes {ours}, files that end in "
                        f"{', '.join(self._suffixes())}{hint}")

    def _reads(self, path: Path) -> bool:
        return path.suffix.lower() in self._suffixes()

    def _of_file(self, path: Path) -> Iterator[tuple[str, np.ndarray]]:
        if not path.stat().st_size:
            raise BadInput(f"{path}: the file is empty; copy it again or remove it")
        if path.suffix.lower() == ".npy":
            shape, fortran, dtype = npy_header(path)
            if dtype == np.uint8 and not fortran and self.shape in (shape, shape[1:]):
                with path.open("rb") as file:
                    yield from self._frames(file, path.name)
                return
            events = dtype.names is not None or (len(shape) == 2 and shape[1] == 4)
            if self.wanted.static or not events:
                yield from self._of_array(path)
                return
        if self.wanted.static:
            yield path.name, self._fitted(read_picture(path, self.notes), path)
        else:
            unstated = path.suffix.lower() in event_files.UNSTATED
            events = event_files.read(path, self.framing.sensor if unstated else None)
            self.notes.take(events.notes)
            for name, part in self._windows(path.name, events):
                yield name, as_input(self.wanted, part, self.framing)

    def _of_array(self, path: Path) -> Iterator[tuple[str, np.ndarray]]:
        """Inputs of an .npy array of pictures, or of frames, of another type, layout or size."""
        array = read_npy(path)
        dimensions = len(self.shape)
        if array.dtype.names:
            raise BadInput(f"{path}: holds events ({', '.join(array.dtype.names)}), but "
                           f"ticket {self.wanted.name!r} takes images")
        if self.wanted.static:
            one = array.ndim == 2 or (array.ndim == 3 and (
                array.shape[0] == self.shape[0] or array.shape[2] in (1, 3, 4)))
            found = pixels(array[None] if one else array, str(path), self.notes)
        elif array.ndim in (dimensions, dimensions + 1):
            found = pixels(array if array.ndim > dimensions else array[None], str(path), self.notes)
        else:
            raise BadInput(f"{path}: an array of {array.dtype} {list(array.shape)} is "
                           f"neither events nor frames {list(self.shape)}; save events "
                           "as a structured array of x, y, t, p (t in microseconds)")
        for index, values in enumerate(found):
            name = path.name if len(found) == 1 else f"{path.name}[{index}]"
            yield name, self._fitted(values, path) if self.wanted.static else _of_shape(
                values, self.shape, path)

    def _windows(self, name: str, events: Events) -> Iterator[tuple[str, Events]]:
        if self.window_us is None or not len(events):
            yield name, events
            return
        first, last = int(events.t.min()), int(events.t.max())
        for start in range(first, last + 1, self.window_us):
            yield (f"{name}@{(start - first) / 1e3:g}ms",
                   events.between(start, start + self.window_us))

    def _fitted(self, values: np.ndarray, path: Path) -> np.ndarray:
        """A picture, uint8 [C, H, W], as the ticket takes it."""
        channels, height, width = self.wanted.input_shape
        if channels not in (1, 3):
            raise BadInput(f"{path}: ticket {self.wanted.name!r} takes {channels} "
                           "channels, a picture has 1 or 3")
        if values.shape[1] * width != values.shape[2] * height:
            self.notes.add(path, f"not in the proportion of {width} x {height}; stretched")
        fitted = fit_images(values[None], (width, height), "resize", channels, str(path))[0]
        return self._at_bits(fitted, str(path))

    def _frames(self, stream: BinaryIO, source: str) -> Iterator[tuple[str, np.ndarray]]:
        for name, values in frames(stream, self.shape, source):
            yield name, self._at_bits(values, source) if self.wanted.static else values

    def _at_bits(self, picture: np.ndarray, source: str) -> np.ndarray:
        """A picture of 8 bits at the bits of the ticket's input."""
        found = depth.upper_bits(picture, self.wanted.input_bits)
        if picture.any() and not found.any():
            self.notes.add(source, f"no pixel is above {int(picture.max())} of 255; all are 0 in "
                                   f"the upper {self.wanted.input_bits} of 8 bits, which the "
                                   "ticket takes")
        return found


def _of_shape(values: np.ndarray, shape: tuple[int, ...], path: Path) -> np.ndarray:
    if values.shape != shape:
        raise BadInput(f"{path}: frames of {list(values.shape)}, not {list(shape)}; build "
                       "them with the ticket's timesteps and size")
    return values


def frames(stream: BinaryIO, shape: tuple[int, ...],
           source: str) -> Iterator[tuple[str, np.ndarray]]:
    """Inputs of a stream: raw uint8 of `shape` one behind the other, or NumPy arrays (.npy) of
    `shape` or [N, *shape], also several. Yields each as soon as its last byte is there."""
    size, index = int(np.prod(shape)), 0
    while head := _exactly(stream, min(size, len(_NPY)), source, index, ends=True):
        if head != _NPY:
            rest = _exactly(stream, size - len(head), source, index)
            yield f"frame {index}", np.frombuffer(head + rest, np.uint8).reshape(shape)
            index += 1
            continue
        for _ in range(_frames_of(stream, shape, source, index)):
            data = _exactly(stream, size, source, index)
            yield f"frame {index}", np.frombuffer(data, np.uint8).reshape(shape)
            index += 1


def _exactly(stream: BinaryIO, size: int, source: str, index: int, ends: bool = False) -> bytes:
    """`size` bytes; b"" where the stream ends before the first and may."""
    data = bytearray()
    while len(data) < size:
        more = stream.read(size - len(data))
        if not more:
            if ends and not data:
                return b""
            raise BadInput(f"{source}: ends within frame {index}, {size - len(data)} bytes "
                           "too early; send whole frames")
        data += more
    return bytes(data)


def _frames_of(stream: BinaryIO, shape: tuple[int, ...], source: str, index: int) -> int:
    """Frames that the .npy array holds whose magic was just read."""
    version = tuple(_exactly(stream, 2, source, index))
    length = int.from_bytes(_exactly(stream, 2 if version[0] == 1 else 4, source, index), "little")
    found, order, dtype = None, False, None
    if version in ((1, 0), (2, 0), (3, 0)) and length <= _MAX_HEADER:
        header = _exactly(stream, length, source, index)
        try:
            found, order, dtype = _header(version, header)
        except Exception:  # numpy parses it as Python text: a dozen error types
            found = None
    if found is None:
        raise BadInput(f"{source}: the .npy header of frame {index} cannot be read; write "
                       "it with numpy.save")
    if dtype != np.uint8 or order or found not in (shape, (*found[:1], *shape)):
        raise BadInput(f"{source}: an array of {dtype} {list(found)}"
                       f"{' in Fortran order' if order else ''}, not uint8 "
                       f"{list(shape)} or [N, {', '.join(map(str, shape))}]")
    return 1 if found == shape else found[0]


def _header(version: tuple[int, ...], header: bytes) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether in Fortran order, and type, as numpy.lib.format reads them."""
    import io
    wide = 2 if version[0] == 1 else 4
    packed = io.BytesIO(len(header).to_bytes(wide, "little") + header)
    read = (np.lib.format.read_array_header_1_0 if version[0] == 1
            else np.lib.format.read_array_header_2_0)
    return read(packed, max_header_size=_MAX_HEADER)
