"""Files for `sim.fuzz_targets`: valid small ones, and attacks made by hand."""

from __future__ import annotations

import importlib.util
import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sim.samples import event_files as writers
from sw.data import arrays

from .fuzz_mutations import pack_zip


class Payload:
    """Unpickled, it would leave a trace: `sim.fuzz_files` forbids the call."""

    def __reduce__(self):
        return eval, ("__import__('os').system('true')",)


def npy_file(array: np.ndarray, **how) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **how)
    return buffer.getvalue()


def npz_file(method: int = zipfile.ZIP_DEFLATED, **named: np.ndarray) -> bytes:
    return pack_zip({f"{name}.npy": npy_file(array) for name, array in named.items()}, method)


def claims(shape: tuple, kind: str = "|u1", body: bytes = b"") -> bytes:
    """An .npy whose header claims what is not there."""
    head = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape!r}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + body


def zip_bombs(names: tuple[str, ...]) -> list[bytes]:
    """Archives whose directory says that a member unpacks to 1.5 GiB, or to 16 bytes of 32 MiB."""
    whole = pack_zip({f"{name}.npy": claims((32 << 20,), body=bytes(32 << 20)) for name in names})
    found = []
    for claim in (3 << 29, 16):
        data = bytearray(whole)
        at = 0
        while (at := data.find(b"PK\x01\x02", at)) >= 0:
            data[at + 24:at + 28] = struct.pack("<I", claim)
            at += 4
        found.append(bytes(data))
    return found


def hostile_npy() -> list[bytes]:
    objects = npy_file(np.array([Payload()], object), allow_pickle=True)
    return [objects, pickle.dumps(Payload()), claims((1 << 40,)), claims((1 << 31, 1 << 31)),
            claims((0, 1 << 62)), claims((1 << 62,), "|V0"), claims((-1, -4), body=b"1234"),
            claims((2,) * 200), b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535]


def hostile_npz(*names: str) -> Callable[[], list[bytes]]:
    def made() -> list[bytes]:
        inner = [pack_zip(dict.fromkeys([f"{name}.npy" for name in names], data))
                 for data in hostile_npy()]
        lzma = pack_zip({f"{name}.npy": npy_file(np.zeros(4)) for name in names}, zipfile.ZIP_LZMA)
        lzma = lzma.replace(b"\x5d\x00\x00\x80\x00", b"\x5d\xff\xff\xff\xff")  # a window of 4 GiB
        return [*inner, *zip_bombs(names[:2]), lzma, pack_zip({})]
    return made


def jpeg_pack(sizes: list[tuple[int, int]]) -> bytes:
    from PIL import Image as Picture
    files = []
    for width, height in sizes:
        buffer = io.BytesIO()
        Picture.new("RGB", (width, height), (9, 99, 200)).save(buffer, "JPEG")
        files.append(buffer.getvalue())
    return npz_file(test_jpeg=np.frombuffer(b"".join(files), np.uint8),
                test_off=np.cumsum([0, *map(len, files)]),
                test_y=np.arange(len(files), dtype=np.int64))


def many_claimed() -> list[bytes]:
    """One picture of 1024 x 1024 and offsets for a hundred thousand: 300 GB of pixels."""
    pack = arrays._array  # the valid pack, with more offsets
    with zipfile.ZipFile(io.BytesIO(jpeg_pack([(1024, 1024)]))) as archive:
        jpeg = pack(archive.read("test_jpeg.npy"), "jpeg")
    off = np.full(100_001, len(jpeg))
    off[0] = 0
    return [npz_file(test_jpeg=jpeg, test_off=off, test_y=np.zeros(100_000, np.int64))]


EVENTS = writers.sample(12)


def aedat4_bombs() -> list[bytes]:
    """Packets that unpack to 50 MB, one event in each: kept, they would fill any memory."""
    found = []
    one = {key: values[:1] for key, values in EVENTS.items()}
    for number, module in ((2, "lz4.frame"), (4, "zstandard")):
        if importlib.util.find_spec(module.split(".")[0]) is None:
            continue
        compress = importlib.import_module(module).compress
        data = writers.aedat4(one, compression=number,
                              pack=lambda body, do=compress: do(body + bytes(50 << 20)))
        start = 18 + struct.unpack_from("<I", data, 14)[0]
        found.append(data + data[start:] * 12)
    return found


def aedat4_files() -> list[bytes]:
    seeds = [writers.aedat4(EVENTS), writers.aedat4(EVENTS, table=b"behind")]
    for number, module in ((1, "lz4.frame"), (3, "zstandard")):
        if importlib.util.find_spec(module.split(".")[0]) is not None:
            seeds.append(writers.aedat4(EVENTS, compression=number,
                                        pack=importlib.import_module(module).compress))
    return seeds


def event_npz(**more) -> bytes:
    return npz_file(**{**{key: np.array(values) for key, values in EVENTS.items()}, **more})


def event_pack() -> bytes:
    buffer = io.BytesIO()
    writers.pack(buffer, [EVENTS] * 8, [0, 1] * 4, class_names=np.array(["a", "b"]))
    with zipfile.ZipFile(buffer) as archive:
        return pack_zip({name: archive.read(name) for name in archive.namelist()})


def idx_file(shape: tuple[int, ...]) -> bytes:
    return struct.pack(f">I{len(shape)}I", 0x800 | len(shape), *shape) + bytes(np.prod(shape))


def hostile_cifar() -> list[bytes]:
    whole = pickle.dumps({"data": Payload(), "labels": [0]}, 2)
    return [whole, pickle.dumps(Payload(), 4), b"\x80\x02]q\x00h\x00a.", b"(" * 100_000 + b"t" * 9,
            b"]" + b"2a" * 50 + b".", b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60),
            b"I" + b"9" * 5000 + b"\n.", b"}(U\x04data" + b"\x85" * 100_000 + b"u."]


def picture_files() -> list[bytes]:
    """Every format in the modes that are read in a way of their own."""
    from PIL import Image as Picture
    kinds = {"PNG": ("RGB", "L", "P", "1", "RGBA", "LA", "I;16"), "BMP": ("RGB", "P"),
             "PPM": ("RGB", "L", "1", "I;16"), "JPEG": ("L", "RGB", "CMYK"), "GIF": ("L", "P"),
             "TIFF": ("RGB", "L", "1", "I;16", "CMYK", "RGBA"), "WEBP": ("RGB", "RGBA")}
    exif = Picture.Exif()
    exif[0x112] = 6
    found = []
    for form, modes in kinds.items():
        for mode in modes:
            buffer = io.BytesIO()
            image = Picture.new(mode, (9, 7), 40 * 257 if mode == "I;16" else 40)
            how = {"exif": exif} if form in ("PNG", "JPEG", "TIFF", "WEBP") else {}
            if form == "GIF" or (form, mode) == ("TIFF", "L"):
                how |= {"save_all": True, "append_images": [Picture.new(mode, (9, 7), 9)]}
            if (form, mode) in (("PNG", "P"), ("GIF", "P"), ("PNG", "L")):
                how["transparency"] = 40
            if form == "TIFF":
                how["compression"] = {"RGB": "tiff_lzw", "L": "tiff_deflate"}.get(mode)
            image.save(buffer, form, **how)
            found.append(buffer.getvalue())
    return found


def dat_files() -> list[bytes]:
    """Prophesee's versions 1 and 2."""
    found = []
    for version, bits in ((1, (9, 8)), (2, (14, 14))):
        word = EVENTS["x"] | EVENTS["y"] << bits[0] | EVENTS["p"] << sum(bits)
        found.append(f"% Version {version}\n% Width 34\n% Height 34\n".encode() + b"\x0c\x08"
                     + np.stack([EVENTS["t"], word], 1).astype("<u4").tobytes())
    return found


def hdf5_files() -> list[bytes]:
    """Arrays one by one, compressed, and as one structured array; none without h5py."""
    if importlib.util.find_spec("h5py") is None:
        return []
    import h5py
    found = []
    for kind in ("plain", "packed", "structured"):
        buffer = io.BytesIO()
        with h5py.File(buffer, "w") as file:
            if kind == "structured":
                file["events"] = writers.structured(EVENTS).astype(
                    [("x", "i2"), ("y", "i2"), ("t", "i8"), ("p", "i1")])
            else:
                for key, values in EVENTS.items():
                    file.create_dataset(f"events/{key}", data=values,
                                        compression="gzip" if kind == "packed" else None)
        found.append(buffer.getvalue())
    return found


def hostile_pictures() -> list[bytes]:
    """A PNG that claims 60,000 x 60,000 pixels; PostScript, which is a program."""
    head = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    return [png, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) run\n"]


def recordings() -> list[bytes]:
    folder = Path(__file__).parents[1] / "tests" / "recordings"
    return [path.read_bytes() for path in sorted(folder.glob("*.jsonl"))]


BOMB = "\n".join(["a0: &a0 [x, x, x, x, x, x, x, x, x, x]",
                  *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12))])


YAML_HOSTILE = (BOMB, BOMB + "\nmetric: *a11\nmethod: *a11\n", "base: {method: 1}\nrun: *x\n",
                "a: &a [*a]\nmethod: *a\n", "x: 2001-13-45", "x: !!timestamp x", "x: !!int ''",
                "x: " + "1" * 6000, "seed: " + "1" * 4300, "lr: " + "9" * 4000, "[" * 9000,
                "!!python/object/apply:os.system [true]", "x: !!python/name:os.system ''",
                "prune_rate: 1.0e-15\nmethod: imp\n", "sparsity: 0.9999999999999999\n",
                "timesteps: 100000000000\n", "? {a: 1}\n: 2", "? !!set {a}\n: 2", "x: !!binary x",
                "base: {}\nsweep: {seed: [" + "1," * 20000 + "2], lr: [" + "1," * 9000 + "2]}",
                "base: {x: 2001-01-01}\nrun: 'os:system'", "\0", "\ufeff", "- 1", "1: 2")


SWEEP = b"""\
base: {model: 16p-32p, epochs: 2}
sweep:
  - sparsity: [0.2, 0.5]
  - {decay: 0.9}
seed: [0, 1]
metric: accuracy_ticket
"""
