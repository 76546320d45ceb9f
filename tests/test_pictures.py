"""One picture of every kind: what its pixels must be, what is noted, what is refused."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from sw.data.notes import Notes
from sw.data.pictures import decode, read_picture
from sw.errors import SpikeTicketError

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
COLOUR = np.stack([GREY, GREY[::-1], 255 - GREY], 2)


def read(path):
    """(pixels, what was noted without the file's name)"""
    notes = Notes()
    pixels = read_picture(path, notes)
    assert pixels.dtype == np.uint8 and all(str(path) in line for line in notes.lines())
    return pixels, [line.split(": ", 1)[1] for line in notes.lines()]


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.ppm", "a.tif", "a.webp", "a.gif"])
def test_plain_pictures_need_no_note(tmp_path, name):
    how = {"lossless": True} if name == "a.webp" else {}
    Image.fromarray(GREY).save(tmp_path / f"grey{name}", **how)
    pixels, notes = read(tmp_path / f"grey{name}")
    assert not notes and all(np.array_equal(plane, GREY) for plane in pixels)
    if name != "a.gif":
        Image.fromarray(COLOUR).save(tmp_path / name, **how)
        pixels, notes = read(tmp_path / name)
        assert not notes and np.array_equal(pixels, COLOUR.transpose(2, 0, 1))


def test_one_bit_and_palette(tmp_path):
    Image.fromarray(GREY > 100).save(tmp_path / "bit.png")
    pixels, notes = read(tmp_path / "bit.png")
    assert np.array_equal(pixels[0], np.where(GREY > 100, 255, 0)) and not notes
    palette = Image.new("P", (8, 6))
    palette.putdata((GREY.ravel() % 2).tolist())
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.save(tmp_path / "p.png")
    pixels, notes = read(tmp_path / "p.png")
    assert pixels[:, 0, 0].tolist() == [10, 20, 30] and pixels[:, 0, 1].tolist() == [200, 100, 50]
    palette.save(tmp_path / "t.png", transparency=0)
    pixels, notes = read(tmp_path / "t.png")
    assert pixels[:, 0, 0].tolist() == [255] * 3 and notes == ["transparent; composed on white"]


@pytest.mark.parametrize("mode, name", [("RGBA", "a.png"), ("LA", "a.png"), ("RGBA", "a.webp"),
                                        ("RGBA", "a.tif")])
def test_transparent_pictures_are_composed_on_white(tmp_path, mode, name):
    layers = np.zeros((4, 4, 4), np.uint8)      # black, in columns of growing opacity
    layers[..., 3] = [0, 51, 204, 255]
    how = {"lossless": True, "exact": True} if name == "a.webp" else {}
    Image.fromarray(layers).convert(mode).save(tmp_path / name, **how)
    pixels, notes = read(tmp_path / name)
    assert pixels.shape[0] == (1 if mode == "LA" else 3)
    assert pixels[0, 0].tolist() == [255, 204, 51, 0]
    assert notes == ["transparent; composed on white"]
    layers[..., 3] = 255
    Image.fromarray(layers).convert(mode).save(tmp_path / name, **how)
    assert read(tmp_path / name)[1] == []       # nothing was lost, nothing to say


def test_a_transparent_colour(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png", transparency=5)
    pixels, notes = read(tmp_path / "a.png")
    assert pixels[0, 0, :3].tolist() == [0, 255, 10] and len(notes) == 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_pictures_are_turned_upright(tmp_path, orientation, name):
    """As EXIF defines it: which edge of the stored picture is at the top and which at the left."""
    upright = np.zeros((16, 32), np.uint8)
    upright[:8, :16] = 255
    stored = {1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
              5: upright.T, 6: np.rot90(upright), 7: upright[::-1, ::-1].T,
              8: np.rot90(upright, -1)}[orientation]
    exif = Image.Exif()
    exif[0x112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / name, exif=exif)
    pixels, notes = read(tmp_path / name)
    assert pixels.shape == (1, 16, 32) and (np.abs(pixels[0].astype(int) - upright) < 8).all()
    assert notes == ([] if orientation == 1 else ["turned upright, as its EXIF orientation says"])


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_16_bits(tmp_path, name):
    deep = GREY.astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / name)
    pixels, notes = read(tmp_path / name)
    assert np.array_equal(pixels[0], GREY) and notes == ["16 bits a pixel; the upper 8 are taken"]
    Image.fromarray(deep // 17).save(tmp_path / name)     # 12 bits
    assert "its brightest pixel is 3552 of 65535, almost black" in read(tmp_path / name)[1][1]
    Image.fromarray(GREY.astype(np.uint16)).save(tmp_path / name)
    with pytest.raises(SpikeTicketError, match="none is above 235 of 65535"):
        read_picture(tmp_path / name)


def test_16_bits_of_colour(tmp_path):
    data = b"P6\n# made by hand\n8 6\n65535\n" + (COLOUR.astype(">u2") * 257).tobytes()
    notes = Notes()
    assert np.array_equal(decode(data, "a", notes), COLOUR.transpose(2, 0, 1))
    assert notes.lines() == ("a: 16 bits a pixel; the upper 8 are taken",)


def test_cmyk_is_noted(tmp_path):
    Image.fromarray(COLOUR).convert("CMYK").save(tmp_path / "a.tif")
    pixels, notes = read(tmp_path / "a.tif")
    assert np.array_equal(pixels, COLOUR.transpose(2, 0, 1)) and notes[0].startswith("CMYK")


def test_the_first_of_several(tmp_path):
    one = Image.fromarray(GREY)
    for name in ("a.gif", "a.tif"):
        one.save(tmp_path / name, save_all=True, append_images=[one.rotate(180)])
        pixels, notes = read(tmp_path / name)
        assert np.array_equal(pixels[0], GREY)
        assert notes == ["holds several pictures; the first is taken"]


@pytest.mark.parametrize("image, message", [
    (Image.fromarray(GREY.astype(np.float32)), "floating-point pixels have no stated range"),
    (Image.fromarray(GREY.astype(np.int32)), "32-bit pixels have no stated range"),
    (Image.fromarray(COLOUR).convert("LAB"), "colours of mode LAB")])
def test_what_has_no_stated_range_is_refused(tmp_path, image, message):
    image.save(tmp_path / "a.tif")
    with pytest.raises(SpikeTicketError, match=message):
        read_picture(tmp_path / "a.tif")


@pytest.mark.parametrize("data, message", [
    (b"", "the file is empty"), (b"....ftypheic", "it is none of PNG, JPEG"),
    (b"\x89PNG\r\n\x1a\nbroken", "not a picture that can be read")])
def test_no_pictures(data, message):
    with pytest.raises(SpikeTicketError, match=message):
        decode(data, "a.png")


def test_huge_pictures_and_files_are_refused(tmp_path, monkeypatch):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    with monkeypatch.context() as patch:
        patch.setattr("sw.data.pictures.MAX_PIXELS", 10)
        with pytest.raises(SpikeTicketError, match="8 x 6 pixels are more"):
            read_picture(tmp_path / "a.png")
    with (tmp_path / "a.png").open("r+b") as file:
        file.truncate(3 << 30)          # 3 GB of nothing, told by the size alone
    with pytest.raises(SpikeTicketError, match="3,221,225,472 bytes are more"):
        read_picture(tmp_path / "a.png")


def test_notes_are_shown_where_nobody_takes_them(tmp_path, caplog):
    layers = np.zeros((4, 4, 4), np.uint8)
    Image.fromarray(layers).save(tmp_path / "a.png")
    read_picture(tmp_path / "a.png")
    assert caplog.messages == [f"note: {tmp_path / 'a.png'}: transparent; composed on white"]


@pytest.mark.parametrize("kind, channels", [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_pngs_of_16_bits_by_hand(kind, channels):
    """Grey, colour, and both with alpha; Pillow itself gives only the upper 8 bits of colour."""
    def chunk(name, body):
        whole = name + body
        return struct.pack(">I", len(body)) + whole + struct.pack(">I", zlib.crc32(whole))
    layers = np.stack([COLOUR[..., 0], COLOUR[..., 1], COLOUR[..., 2]][:channels - (kind > 2)], 2)
    if kind > 2:
        layers = np.dstack([layers, np.full(GREY.shape, 255, np.uint8)])
    rows = (layers.astype(">u2") * 257).astype(">u2").reshape(6, -1)
    data = (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 6, 16, kind, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)))
            + chunk(b"IEND", b""))
    notes = Notes()
    pixels = decode(data, "a", notes)
    right = layers[..., :channels - (kind > 2)].transpose(2, 0, 1)
    # Grey with alpha comes as three equal channels.
    assert np.array_equal(pixels, np.broadcast_to(right, pixels.shape))
    assert notes.lines() == ("a: 16 bits a pixel; the upper 8 are taken",)
