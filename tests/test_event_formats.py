"""Chips, versions and formats of event files: what is read, and that nothing falls to a default."""

import struct

import numpy as np
import pytest

from sim.samples import event_files as write
from sw.data import datasets, event_files
from sw.errors import SpikeTicketError

E = write.sample(60, (34, 34))


@pytest.fixture
def read(tmp_path):
    def call(name, data, sensor=None, **how):
        (tmp_path / name).write_bytes(data)
        return event_files.read(tmp_path / name, sensor, **how)
    return call


def same(found):
    return all(np.array_equal(getattr(found, key), E[key]) for key in "xytp")


@pytest.mark.parametrize("chip, sensor", [
    ("DVS128", (128, 128)), ("Tmpdiff128", (128, 128)), ("DAVIS240C", (240, 180)),
    ("Davis346blue", (346, 260)), ("Davis346BMono", (346, 260)), ("SBret21", (240, 180))])
def test_chips_of_aedat2(read, chip, sensor):
    base = "DVS128" if sensor == (128, 128) else "DAVIS240C"
    data = write.aedat2(E, base).replace(base.encode(), chip.encode())
    found = read("a.aedat", data)
    assert found.sensor == sensor and not found.notes
    assert same(found)
    assert read("a.aedat", data, sensor).sensor == sensor
    with pytest.raises(SpikeTicketError, match="not 34 x 34; leave sensor out"):
        read("a.aedat", data, (34, 34))


def test_marks_of_aedat2_are_no_events(read):
    data = bytearray(write.aedat2(E, "DVS128"))
    for behind, byte in ((1, 2), (4, 0), (2, 0)):   # bit 15 of one address, bit 31 of two
        data[len(data) - 8 * behind + byte] |= 0x80
    assert len(read("a.aedat", bytes(data))) == len(E["t"]) - 3


@pytest.mark.parametrize("chip", ["DavisRGB640", "DAVIS208Mono", "Davis640", "Samsung", "DVS1280"])
def test_other_chips_of_aedat2_are_refused(read, chip):
    with pytest.raises(SpikeTicketError, match=f"chip '{chip}' is not known.*DAVIS346"):
        read("a.aedat", write.aedat2(E, "DAVIS240C").replace(b"DAVIS240C", chip.encode()))


def test_no_chip_is_the_sensors_or_noted(read):
    data = write.aedat2(E)
    assert "names no chip; read as DVS128" in read("a.aedat", data).notes[0]
    assert not read("a.aedat", data, (128, 128)).notes
    with pytest.raises(SpikeTicketError, match="names no chip, and 34 x 34 is none of"):
        read("a.aedat", data, (34, 34))
    davis = write.aedat2(E, "DAVIS240C")
    bare = b"".join(line for line in davis.splitlines(True)[:3] if b"AEChip" not in line) + (
        davis[davis.index(b"AEChip"):].split(b"\n", 1)[1])
    assert same(read("a.aedat", bare, (240, 180)))
    with pytest.raises(SpikeTicketError, match="more than 16 bits are not a DVS128's"):
        read("a.aedat", bare)


@pytest.mark.parametrize("line, sensor, message", [
    (b"#Source 1: DVS128", None, None), (b"#Source 0: DAVIS346", None, None),
    (b"#Source 1: eDVS", None, "chip 'eDVS' is not known"), (b"", None, "no source and no size"),
    (b"#Source 1: DVS128", (34, 34), "by a DVS128, 128 x 128, not 34 x 34"),
    (b"#Format: Serial-TS", None, "in format 'Serial-TS' is not RAW")])
def test_sources_of_aedat3(read, line, sensor, message):
    data = write.aedat3(E)
    if line.startswith(b"#F"):
        data = data.replace(b"#Format: RAW", line)
    elif line:
        data = data.replace(b"#!END", line + b"\r\n#!END")
    if message is None:
        found = read("a.aedat", data)
        assert same(found) and found.sensor == ((128, 128) if b"128" in line else (346, 260))
    else:
        with pytest.raises(SpikeTicketError, match=message):
            read("a.aedat", data, sensor)


@pytest.mark.parametrize("version", ["1.0", "3.0", "4.1", "5.0"])
def test_other_versions_are_refused(read, version):
    with pytest.raises(SpikeTicketError, match=f"AEDAT {version} is not 2.0, 3.1 or 4.0"):
        read("a.aedat4", f"#!AER-DAT{version}\r\n".encode())
    with pytest.raises(SpikeTicketError, match="or one of version 1"):
        read("a.aedat", bytes(12))


def test_the_first_line_decides_not_the_name(read):
    assert same(read("a.aedat", write.aedat4(E)))
    assert same(read("a.aedat4", write.aedat2(E), (128, 128)))


def test_several_streams_are_noted(read):
    data = write.aedat4(E)
    begin, end = data.index(b"<node name=\"0\""), data.index(b"</node></dv>")
    two = data[:end] + data[begin:end].replace(b'"0"', b'"1"') + data[end:]
    grown = len(two) - len(data)
    # The length of the header, and of the string in it.
    size, = struct.unpack_from("<I", data, 14)
    text = data.index(b"<dv ") - 4
    length, = struct.unpack_from("<I", data, text)
    two = bytearray(two)
    struct.pack_into("<I", two, 14, size + grown)
    struct.pack_into("<I", two, text, length + grown)
    found = read("a.aedat4", bytes(two))
    assert same(found) and "holds 2 streams of events; the first is read" in found.notes[0]


def dat(version=2, kind=0x0C, size=8, lines=b"% Width 34\n% Height 34\n"):
    bits = (9, 8) if version == 1 else (14, 14)
    word = E["x"] | E["y"] << bits[0] | E["p"] << sum(bits)
    body = np.stack([E["t"], word], 1).astype("<u4").tobytes()
    return (b"% Data file containing CD events.\n% Version " + str(version).encode() + b"\n" + lines
            + bytes([kind, size]) + body)


@pytest.mark.parametrize("version", [1, 2])
def test_dat(read, version):
    found = read("a.dat", dat(version))
    assert same(found) and found.sensor == (34, 34)
    assert same(read("a.dat", dat(version, lines=b""), (34, 34)))


@pytest.mark.parametrize("data, sensor, message", [
    (dat(3), None, "version 3 of .dat is not 1 or 2"), (dat(kind=0x0E), None, "events of type 0e"),
    (dat(size=4), None, "and 04 bytes"), (dat()[:-3], None, "no multiple of 8"),
    (dat(lines=b""), None, "states no size; give sensor"), (b"abc", None, "not a Prophesee"),
    (dat(), (35, 34), "recorded by a 34 x 34 sensor, not 35"), (dat()[:40], None, "truncated")])
def test_dat_that_is_refused(read, data, sensor, message):
    with pytest.raises(SpikeTicketError, match=message):
        read("a.dat", data, sensor)


@pytest.mark.parametrize("group", ["/", "events", "CD"])
@pytest.mark.parametrize("compound", [False, True])
def test_hdf5(tmp_path, group, compound):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        if compound:
            file.create_dataset(f"{group}/events", data=write.structured(E).astype(
                [("x", "i2"), ("y", "i2"), ("t", "i8"), ("p", "i1")]))
        else:
            for key in "xytp":
                file.create_dataset(f"{group}/{key}", data=E[key], compression="gzip")
    assert same(event_files.read(path, (34, 34)))
    with pytest.raises(SpikeTicketError, match="do not state the sensor"):
        event_files.read(path)


def test_hdf5_that_lies(tmp_path):
    h5py = pytest.importorskip("h5py")
    secret, path = tmp_path / "b.h5", tmp_path / "a.h5"
    with h5py.File(secret, "w") as file:
        for key in "xytp":
            file[key] = E[key]

    def made(change):
        with h5py.File(path, "w") as file:
            for key in "ytp":
                file[key] = E[key]
            change(file)
        with pytest.raises(SpikeTicketError) as error:
            event_files.read(path, (34, 34))
        return str(error.value)

    assert "no arrays x, y, t, p" in made(lambda f: f.__setitem__("x", h5py.ExternalLink(
        str(secret), "x")))
    assert "too large" in made(lambda f: f.create_dataset("x", (1 << 40,), "i8", chunks=(1 << 20,)))
    layout = h5py.VirtualLayout((60,), np.int64)
    layout[:] = h5py.VirtualSource(str(secret), "x", (60,))
    assert "kept outside the file" in made(lambda f: f.create_virtual_dataset("x", layout))
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99))
    with pytest.raises(SpikeTicketError, match="not a readable HDF5 file"):
        event_files.read(path, (34, 34))


def test_hdf5_names_the_missing_package(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    (tmp_path / "a.h5").write_bytes(b"x")
    with pytest.raises(SpikeTicketError, match=r"need the package h5py: pip install"):
        event_files.read(tmp_path / "a.h5", (34, 34))


# -- half-converted folders ---------------------------------------------------------------------


def digits(folder, names, each):
    for name in names:
        (folder / name).mkdir(parents=True)
        for i in range(each):
            np.savez(folder / name / f"{i}.npz", **write.sample(20, (34, 34), int(name) * 9 + i))


def test_the_fuller_of_two_layouts_is_read(tmp_path):
    """An interrupted conversion: classes that lack, and files that lack."""
    ten = [str(n) for n in range(10)]
    digits(tmp_path / "extract/Train", ten, 2)
    digits(tmp_path / "events_np/train", ten[:4], 2)
    digits(tmp_path / "events_np/test", ten, 1)
    digits(tmp_path / "extract/Test", ten, 2)
    for split in ("Train", "Test"):
        found = datasets.load("n-mnist", split.lower(), tmp_path)
        assert len(found) == 20 and found.source == str(tmp_path / "extract" / split)
    assert datasets.load("n-mnist", "train", tmp_path).notes[0] == (
        f"{tmp_path}/extract/Train: holds 20 of the 60,000 recordings of the official train split")
    # extract comes first in the list: of the events_np folder nothing need be said. The other way:
    (tmp_path / "NMNIST/Train").mkdir(parents=True)
    (tmp_path / "NMNIST/Train/0").mkdir()
    np.savez(tmp_path / "NMNIST/Train/0/0.npz", **write.sample(20, (34, 34)))
    found = datasets.load("n-mnist", "train", tmp_path)
    assert len(found) == 20 and found.notes[0] == (
        f"{tmp_path}/NMNIST/Train: passed over: 1 recordings of 1 classes, but {tmp_path}/extract/"
        "Train has 20 of 10; it looks half converted")


def test_what_lacks_is_named_and_empty_files_are_refused(tmp_path):
    digits(tmp_path / "Test", ["0", "2", "3", "4", "5", "6", "7", "8"], 1)
    found = datasets.load("n-mnist", "test", tmp_path)
    assert "holds no recording of 1, 9 in the test split" in found.notes[0]
    assert found.labels.tolist() == [0, 2, 3, 4, 5, 6, 7, 8]
    (tmp_path / "Test/3/._0.npz").write_bytes(b"\0\5\x16\7")
    assert len(datasets.load("n-mnist", "test", tmp_path)) == 8
    (tmp_path / "Test/3/1.npz").write_bytes(b"")
    with pytest.raises(SpikeTicketError, match=r"3/1\.npz: the file is empty"):
        datasets.load("n-mnist", "test", tmp_path)


def test_recordings_without_events(tmp_path):
    none = {key: values[:0] for key, values in E.items()}
    write.pack(tmp_path / "a_test.npz", [E, none, none], [0, 1, 2])
    found = datasets.load(str(tmp_path / "a_test.npz"))
    assert not found.images[1:].any() and found.images[0].any()
    [note] = found.notes
    assert note == (f"{tmp_path}/a_test.npz: recording 1 (and 1 more): holds no event; its frames "
                    "are empty")
    write.pack(tmp_path / "a_test.npz", [none, none], [0, 1])
    with pytest.raises(SpikeTicketError, match="none of the 2 recordings holds an event"):
        datasets.load(str(tmp_path / "a_test.npz"))
