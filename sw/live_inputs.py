"""Inputs for live mode, one at a time as they come: image folders, event files, streams."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .board.batches import Framing, Wanted, as_input
from .data import event_files
from .data.events import Events
from .data.image_fit import fit_images
from .errors import SpikeTicketError

STDIN = "-"
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".pgm", ".ppm")
PICTURE_FORMATS = ("PNG", "JPEG", "BMP", "PPM")
MAX_PIXELS = 1 << 26
"""Largest picture that is opened, 64 million pixels."""

_NPY = b"\x93NUMPY"
_MAX_HEADER = 10_000


@dataclass(frozen=True)
class Source:
    """Where inputs come from. where: a folder, a file, or "-" for standard input.

    wanted: what the network takes. framing: how events become frames. window_us: cut an event file
    into inputs of so many microseconds; None: a file is one input.
    """

    where: str
    wanted: Wanted
    framing: Framing
    window_us: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input: [C, H, W], or [T, C, H, W] where it is not static."""
        wanted = self.wanted
        return wanted.input_shape if wanted.static else (wanted.timesteps, *wanted.input_shape)

    def describe(self) -> str:
        """What is done to the inputs, in a line for people."""
        channels, height, width = self.wanted.input_shape
        size = " x ".join(map(str, self.shape))
        if self.where == STDIN:
            return f"standard input: frames of {size} = {int(np.prod(self.shape)):,} bytes, or .npy"
        if not self.wanted.static:
            each = (f"every {self.window_us / 1e3:g} ms" if self.window_us else "a file")
            return (f"events to counts of {size}, {each} one input, timesteps by "
                    f"{self.framing.by}, {self.framing.fit}")
        depth = self.wanted.input_bits
        less = f", the upper {depth} of 8 bits" if depth < 8 else ""
        return (f"images to {width} x {height} (bilinear where they have another size), "
                f"{'grey' if channels == 1 else 'colour'}{less}")

    def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
        """(name, input) in order; raises SpikeTicketError naming file or frame and what is wrong.
        """
        if self.where == STDIN:
            yield from frames(sys.stdin.buffer, self.shape, "standard input")
            return
        path = Path(self.where)
        if path.is_dir():
            found = sorted((p for p in path.iterdir() if p.is_file() and self._reads(p)),
                           key=lambda p: _natural(p.name))
            if not found:
                raise SpikeTicketError(f"--input {path}: no file that ends in "
                                       f"{', '.join(self._suffixes())}")
        elif path.is_file():
            found = [path]
            if not self._reads(path):
                raise SpikeTicketError(f"--input {path}: ticket {self.wanted.name!r} takes files "
                                       f"that end in {', '.join(self._suffixes())}")
        else:
            raise SpikeTicketError(f"--input {path}: no such file or folder; '-' reads standard "
                                   "input")
        for one in found:
            yield from self._of_file(one)

    def _suffixes(self) -> tuple[str, ...]:
        if self.wanted.static:
            return (*IMAGES, ".npy")
        return tuple(event_files.READERS)

    def _reads(self, path: Path) -> bool:
        return path.suffix.lower() in self._suffixes()

    def _of_file(self, path: Path) -> Iterator[tuple[str, np.ndarray]]:
        if path.suffix.lower() == ".npy" and _holds_frames(path):
            with path.open("rb") as file:
                yield from frames(file, self.shape, path.name)
        elif self.wanted.static:
            yield path.name, self._picture(path)
        else:
            # These files do not say what the sensor is; .aedat and .aedat4 do.
            silent = path.suffix.lower() in (".bin", ".npy", ".npz")
            events = event_files.read(path, self.framing.sensor if silent else None)
            for name, part in self._windows(path.name, events):
                yield name, as_input(self.wanted, part, self.framing)

    def _windows(self, name: str, events: Events) -> Iterator[tuple[str, Events]]:
        if self.window_us is None or not len(events):
            yield name, events
            return
        first, last = int(events.t.min()), int(events.t.max())
        for start in range(first, last + 1, self.window_us):
            yield (f"{name}@{(start - first) / 1e3:g}ms",
                   events.between(start, start + self.window_us))

    def _picture(self, path: Path) -> np.ndarray:
        channels, height, width = self.wanted.input_shape
        if channels not in (1, 3):
            raise SpikeTicketError(f"{path}: ticket {self.wanted.name!r} takes {channels} "
                                   "channels, a picture has 1 or 3")
        pixels = read_picture(path)[None]
        fitted = fit_images(pixels, (width, height), "resize", channels, str(path))[0]
        return fitted >> (8 - min(8, self.wanted.input_bits))


def read_picture(path: Path) -> np.ndarray:
    """Pixels uint8 [C, H, W], C = 1 or 3. Raises SpikeTicketError for anything else."""
    try:
        from PIL import Image
    except ImportError:
        raise SpikeTicketError("pictures need the Python package pillow; install it: "
                               "pip install 'spiketicket[data]'") from None
    try:
        # Named ones only: some of Pillow's readers start other programs.
        with Image.open(path, formats=PICTURE_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise SpikeTicketError(f"{path}: {image.width} x {image.height} pixels are more "
                                       "than 64 million; make it smaller")
            if image.mode.startswith("I;16"):
                pixels = (np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)
            else:
                grey = image.mode in ("1", "L", "LA", "I", "F")
                pixels = np.asarray(image.convert("L" if grey else "RGB"))
    except SpikeTicketError:
        raise
    except Exception as error:      # Pillow's readers raise whatever the bytes led them to
        raise SpikeTicketError(f"{path}: not a picture that can be read ({error}); remove it or "
                               "save it again") from error
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


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
            raise SpikeTicketError(f"{source}: ends within frame {index}, {size - len(data)} bytes "
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
        raise SpikeTicketError(f"{source}: the .npy header of frame {index} cannot be read; write "
                               "it with numpy.save")
    if dtype != np.uint8 or order or found not in (shape, (*found[:1], *shape)):
        raise SpikeTicketError(f"{source}: an array of {dtype} {list(found)}"
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


def _holds_frames(path: Path) -> bool:
    """Whether an .npy file holds plain bytes; else it may be events."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False).dtype == np.uint8
    except Exception:  # numpy parses the header as Python text: a dozen error types
        return False


def _natural(name: str) -> list:
    """2.png before 10.png."""
    return [int(part[:18]) if part.isdecimal() else part.lower()
            for part in re.split(r"(\d+)", name)]
