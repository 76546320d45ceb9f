"""Compressed content that nobody vouches for: methods, claims, bombs."""

import gzip
import io
import resource
import struct
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from sw.data import arrays, datasets, idx
from sw.data.archives import MAX_WINDOW
from sw.errors import SpikeTicketError

METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def pack(path, method, **members):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return path


@contextmanager
def little_memory(more=128 << 20):
    """A limit on the address space a little above what is taken."""
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    old = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (held + more, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, old)


@pytest.mark.parametrize("method", METHODS)
def test_methods_that_numpy_reads(tmp_path, method):
    values = np.arange(3000).reshape(3, -1)
    path = pack(tmp_path / "a.npz", method, x=npy(values), empty=npy(np.zeros((0, 2))))
    with np.load(path) as theirs:
        ours = arrays.read_npz(path)
        assert set(ours) == set(theirs) and all(np.array_equal(ours[k], theirs[k]) for k in ours)


@pytest.mark.parametrize("method", METHODS[1:])
def test_bombs_are_not_unpacked(tmp_path, method):
    """200 MB of zeros in a few kB, claimed as they are, and as 100 bytes."""
    whole = npy(np.zeros(25 << 20))
    path = pack(tmp_path / "a.npz", method, x=whole)
    data = bytearray(path.read_bytes())
    at = data.find(b"PK\x01\x02") + 24
    data[at:at + 4] = struct.pack("<I", 100)
    path.write_bytes(data)
    with little_memory(), pytest.raises(SpikeTicketError, match="are not as the archive claims"):
        arrays.read_npz(path)
    data[at:at + 4] = struct.pack("<I", 3 << 29)
    path.write_bytes(data)
    with little_memory(), pytest.raises(SpikeTicketError, match="more than 1 GiB unpacked"):
        arrays.read_npz(path)


def test_lzma_windows_are_checked_first(tmp_path):
    path = pack(tmp_path / "a.npz", zipfile.ZIP_LZMA, x=npy(np.zeros(4)))
    data = path.read_bytes()
    at = data.index(b"\x5d\x00\x00\x80\x00")
    path.write_bytes(data[:at + 1] + b"\xff" * 4 + data[at + 5:])
    with little_memory(), pytest.raises(SpikeTicketError, match="a window of 4,294,967,295 bytes"):
        arrays.read_npz(path)
    assert MAX_WINDOW >= 64 << 20           # what the widest preset writes


@pytest.mark.parametrize("change, message", [
    (lambda d: d.replace(b"\x93NUMPY", b"\x93NUMPI"), "checksum are not as"),
    (lambda d: d[:4] + b"\0" * 20 + d[24:], None),
    (lambda d: d.replace(b"PK\x03\x04", b"PK\x03\x05"), "its place in the archive is damaged"),
    (lambda d: d.replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"),
     "is encrypted"),
    (lambda d: d.replace(b"PK\x01\x02\x14\x03\x14\x00\x00\x00\x00",
                         b"PK\x01\x02\x14\x03\x14\x00\x00\x00\x63"), "zip method 99 is not stored"),
    (lambda d: d[:-30], "not a readable .npz")])
def test_damage(tmp_path, change, message):
    path = pack(tmp_path / "a.npz", zipfile.ZIP_STORED, x=npy(np.arange(9)))
    path.write_bytes(change(path.read_bytes()))
    if message is None:                     # the directory counts, not the copy before the data
        assert arrays.read_npz(path)["x"].tolist() == list(range(9))
        return
    with pytest.raises(SpikeTicketError, match=message):
        arrays.read_npz(path)


def test_a_macs_members_are_passed_over(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", npy(np.arange(3)))
        archive.writestr("__MACOSX/._x.npy", b"\0\5\x16\7")
    assert arrays.open_npz(tmp_path / "a.npz").names == ("x",)


def test_gzip_bombs_and_claims(tmp_path):
    path = tmp_path / "a.gz"
    head = struct.pack(">4I", 0x803, 5, 28, 28)
    path.write_bytes(gzip.compress(head + bytes(200 << 20)))
    with little_memory(), pytest.raises(SpikeTicketError, match="the file holds more"):
        idx.read_idx(path)
    path.write_bytes(gzip.compress(head + bytes(5 * 784)))
    assert idx.read_idx(path).shape == (5, 28, 28)
    whole = gzip.compress(head) + gzip.compress(bytes(5 * 784)) + bytes(9)   # two members, padded
    path.write_bytes(whole)
    assert idx.read_idx(path).shape == (5, 28, 28)
    path.write_bytes(gzip.compress(head + bytes(5 * 784))[:-4])
    with pytest.raises(SpikeTicketError, match="cannot be read"):
        idx.read_idx(path)


@pytest.mark.parametrize("name", ["a.npz", "a.npy", "a.bin", "a.aedat", "a.dat"])
def test_files_of_gigabytes_are_refused_by_their_size(tmp_path, name):
    path = tmp_path / "train/0" / name
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.truncate(3 << 30)
    with little_memory(), pytest.raises(SpikeTicketError, match=r"3,221,225,472 bytes are more"):
        if name == "a.npz":
            datasets.load(path)
        datasets.load(tmp_path, "train", sensor=(34, 34))
