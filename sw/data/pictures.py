"""One picture, as a viewer shows it: uint8 [C, H, W], grey or colour.

What a file says about itself is followed: turned upright by its EXIF orientation, composed on white
where it is transparent, palettes looked up. What cannot be shown in 8 bits without a decision is
decided with a note (16 bits: the upper 8; CMYK) or refused (floating point, 32 bits, LAB).
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import BadInput, SpikeTicketError
from .arrays import read_bytes
from .notes import Notes

FORMATS = ("PNG", "JPEG", "BMP", "PPM", "GIF", "TIFF", "WEBP")
"""Formats that are opened. Named ones only: some of Pillow's readers start other programs."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".pgm", ".ppm", ".pbm", ".pnm", ".gif", ".tif",
            ".tiff", ".webp")
MAX_PIXELS = 1 << 26
"""Largest picture that is opened, 64 million pixels."""
MAX_FILE = 1 << 28
WHITE = (255, 255, 255, 255)

_ORIENTATION = 0x0112
_BITS_PER_SAMPLE = 258


def read_picture(path: str | Path, notes: Notes | None = None) -> np.ndarray:
    """Pixels uint8 [C, H, W], C = 1 or 3. notes: where to note what was done (None: shown).

    Raises SpikeTicketError for anything that is no picture of `FORMATS`, or not of 8 or 16 bits.
    """
    path = Path(path)
    return decode(read_bytes(path, MAX_FILE), path, notes)


def decode(data: bytes, where: object, notes: Notes | None = None) -> np.ndarray:
    """`read_picture` of a file's bytes; `where` names it in messages."""
    told = Notes() if notes is None else notes
    if not data:
        raise BadInput(f"{where}: not a picture that can be read: the file is empty; copy "
                       "it again")
    try:
        # Pillow warns of odd EXIF blocks and sizes: the one is harmless, the other checked here.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                pixels = from_pil(image, where, told, _deep(image, data))
    except SpikeTicketError:
        raise
    except UnidentifiedImageError:
        raise BadInput(f"{where}: not a picture that can be read: it is none of "
                       f"{', '.join(FORMATS)}; save it as one") from None
    except Exception as error:      # Pillow's readers raise whatever the bytes led them to
        raise BadInput(f"{where}: not a picture that can be read "
                       f"({' '.join(str(error).split())[:160]}); copy it "
                       "again or save it again") from error
    if notes is None:
        told.show()
    return pixels


def from_pil(image: Image.Image, where: object, notes: Notes, deep: bool = False) -> np.ndarray:
    """Pixels uint8 [C, H, W] of a Pillow image. deep: it had 16 bits before Pillow read it."""
    if image.width * image.height > MAX_PIXELS:
        raise BadInput(f"{where}: {image.width} x {image.height} pixels are more than 64 "
                       "million; make it smaller")
    if not image.width * image.height:
        raise BadInput(f"{where}: a picture of {image.width} x {image.height} holds "
                       "nothing")
    if getattr(image, "n_frames", 1) > 1:
        notes.add(where, "holds several pictures; the first is taken")
    orientation = image.getexif().get(_ORIENTATION, 1)
    if orientation in range(2, 9):
        image = ImageOps.exif_transpose(image)
        notes.add(where, "turned upright, as its EXIF orientation says")
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        values = np.asarray(image).astype(np.int64)
        top = int(values.max())
        if 0 < top < 256 or "transparency" in image.info:
            raise BadInput(f"{where}: 16 bits a pixel, " + (
                f"but none is above {top} of 65535: the upper 8 bits are empty" if top < 256
                else "with a transparent grey") + "; save it with 8 bits")
        notes.add(where, "16 bits a pixel; the upper 8 are taken")
        if top < 4096:
            notes.add(where, f"its brightest pixel is {top} of 65535, almost black; scale it to "
                             "its depth if it has fewer than 16 bits")
        return (values >> 8).astype(np.uint8)[None]
    if deep:
        notes.add(where, "16 bits a pixel; the upper 8 are taken")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        return _composed(image, where, notes)
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))[None]
    if image.mode == "CMYK":
        notes.add(where, "CMYK; converted to RGB without a colour profile")
    elif image.mode not in ("RGB", "RGBX", "P", "YCbCr"):
        kinds = {"F": "floating-point pixels", "I": "32-bit pixels"}
        raise BadInput(f"{where}: {kinds.get(image.mode, f'colours of mode {image.mode}')}"
                       " have no stated range; save it as grey or RGB with 8 bits")
    return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


def _composed(image: Image.Image, where: object, notes: Notes) -> np.ndarray:
    """A picture with transparency on white; grey where it has no colour."""
    grey = image.mode in ("1", "L", "LA", "La")
    if image.mode in ("La", "RGBa"):
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
    layers = image.convert("RGBA")
    if layers.getextrema()[3][0] < 255:
        notes.add(where, "transparent; composed on white")
        layers = Image.alpha_composite(Image.new("RGBA", layers.size, WHITE), layers)
    pixels = np.asarray(layers)[..., :3].transpose(2, 0, 1)
    return pixels[:1] if grey else pixels


def _deep(image: Image.Image, data: bytes) -> bool:
    """Whether a colour picture has 16 bits in the file, of which Pillow gives the upper 8."""
    if image.format == "PNG":
        return data[24:25] == b"\x10" and image.mode != "I;16"
    if image.format == "TIFF":
        bits = image.tag_v2.get(_BITS_PER_SAMPLE, (8,))
        return max(bits if isinstance(bits, tuple) else (bits,)) == 16 and image.mode != "I;16"
    if image.format == "PPM" and data[:2] in (b"P6", b"P3"):
        # Width, height and the largest value, between them comments and white space.
        words = b" ".join(line.partition(b"#")[0] for line in data[2:512].split(b"\n")).split()
        return len(words) > 2 and words[2].isdigit() and int(words[2]) > 255
    return False
