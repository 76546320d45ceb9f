"""Event files of every format, whole, damaged and random; frames; folders; packs; CIFAR."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sim.samples import event_files as write
from sw.data import event_files, events
from sw.data.arrays import read_npy, read_npz
from sw.data.cifar import read_binary_batch, read_python_batch
from sw.data.events import Events
from sw.errors import SpikeTicketError

SENSOR = (34, 34)
E = write.sample()


def save_npy(path: Path, array: np.ndarray) -> None:
    np.save(path, array, allow_pickle=False)


FILES = {
    "a.bin": write.atis_bin(E), "2.aedat": write.aedat2({**E}), "3.aedat": write.aedat3(E),
    "d.aedat": write.aedat2(E, "Davis346B"), "a.aedat4": write.aedat4(E)}


@pytest.fixture(params=[*FILES, "a.npy", "a.npz", "plain.npy"])
def file(request, tmp_path) -> Path:
    """One file of every format, with the same events."""
    path = tmp_path / request.param
    if request.param == "a.npz":
        np.savez(path, **E)
    elif request.param == "a.npy":
        save_npy(path, write.structured(E))
    elif request.param == "plain.npy":
        save_npy(path, np.stack([E[c] for c in "txyp"], 1).astype(np.float64))
    else:
        path.write_bytes(FILES[request.param])
    return path


def test_every_format_gives_the_same_events(file):
    read = event_files.read(file, None if file.suffix == ".aedat4" else
                            {"2": (128, 128), "d": (346, 260)}.get(file.stem, SENSOR), "txyp")
    assert len(read) == 40
    for name in "xytp":
        assert np.array_equal(getattr(read, name), E[name]), name


def test_aedat2_takes_the_sensor_from_its_header(tmp_path):
    for chip, sensor in (("", (128, 128)), ("Davis346B", (346, 260)), ("DAVIS240C", (240, 180))):
        path = tmp_path / "a.aedat"
        path.write_bytes(write.aedat2(E, chip))
        assert event_files.read(path).sensor == sensor


def test_bin_overflow_marks_add_time(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(bytes([1, 2, 128, 0, 9]) + bytes([0, 240, 0, 0, 0]) + bytes([3, 4, 0, 0, 9]))
    read = event_files.read(path)
    assert read.t.tolist() == [9, 8192 + 9] and read.x.tolist() == [1, 3]
    assert read.p.tolist() == [1, 0]


def test_aedat3_leaves_out_what_is_no_valid_polarity_event(tmp_path):
    whole = write.aedat3(E, packet=40, overflow=1)
    start = whole.index(b"END-HEADER") + len("END-HEADER\r\n")
    damaged = bytearray(whole)
    damaged[start + 28] &= 0xFE  # first event: not valid
    other = bytearray(whole[start:])
    other[0] = 2  # a packet of frames
    path = tmp_path / "a.aedat"
    path.write_bytes(bytes(damaged + other))
    read = event_files.read(path, SENSOR)
    assert len(read) == 39 and np.array_equal(read.t, E["t"][1:] + (1 << 31))


@pytest.mark.parametrize("name, change, message", [
    ("a.bin", lambda d: d[:-1], "no multiple of 5"),
    ("a.bin", lambda d: b"\xef" + d[1:], "x = 239, outside a sensor of 34 x 34"),
    ("2.aedat", lambda d: d[:-3], "no multiple of 8"),
    ("2.aedat", lambda d: d[1:], "does not begin"),
    ("2.aedat", lambda d: d[:9] + b"5" + d[10:], r"5\.0 is not 2\.0, 3\.1"),
    ("2.aedat", lambda d: d[:20], "truncated in the header"),
    ("3.aedat", lambda d: d[:-1], "claims 8 events of 8 bytes"),
    ("3.aedat", lambda d: d + b"\0" * 5, "truncated in a packet"),
    ("a.aedat4", lambda d: d[:-1], "claims 676 bytes, 675 are left"),
    ("a.aedat4", lambda d: d[:30], "in the header"),
    ("a.aedat4", lambda d: d.replace(b"EVTS</attr>", b"FRME</attr>"), "no stream of events"),
    ("a.aedat4", lambda d: d.replace(b"<dv ", b"<dw "), "streams is damaged"),
    ("a.aedat4", lambda d: d.replace(b'"int">34<', b'"int">33<'), "by a 33 x 33 sensor, not 34"),
    ("a.aedat4", lambda d: d[:-676 + 32] + b"\xff" * 4 + d[-676 + 36:], r"packet .* is damaged"),
    ("a.aedat4", lambda d: b"x" + d, "does not begin"),
])
def test_damage_is_named(tmp_path, name, change, message):
    path = tmp_path / name
    path.write_bytes(change(FILES[name]))
    with pytest.raises(SpikeTicketError, match=message) as error:
        event_files.read(path, SENSOR if name[0] != "2" else None)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("compression, module", [(1, "lz4.frame"), (3, "zstandard")])
def test_compressed_aedat4(tmp_path, compression, module):
    library = pytest.importorskip(module)
    path = tmp_path / "a.aedat4"
    path.write_bytes(write.aedat4(E, SENSOR, compression, library.compress, b"a table behind"))
    assert np.array_equal(event_files.read(path, SENSOR).t, E["t"])
    path.write_bytes(write.aedat4(E, SENSOR, compression, lambda body: body))
    with pytest.raises(SpikeTicketError, match=r"packet at byte .* is damaged"):
        event_files.read(path)


def test_compressed_aedat4_names_the_missing_package(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "zstandard", None)
    (tmp_path / "a.aedat4").write_bytes(write.aedat4(E, SENSOR, 4))
    with pytest.raises(SpikeTicketError, match=r"need the package zstandard: pip install"):
        event_files.read(tmp_path / "a.aedat4")
    (tmp_path / "a.aedat4").write_bytes(write.aedat4(E, SENSOR, 9))
    with pytest.raises(SpikeTicketError, match="compression 9"):
        event_files.read(tmp_path / "a.aedat4")


def test_lying_packet_count(tmp_path):
    data = bytearray(FILES["3.aedat"])
    start = data.index(b"END-HEADER") + len("END-HEADER\r\n")
    data[start + 16:start + 20] = b"\xff\xff\xff\x7f"  # capacity: 16 GiB of events
    path = tmp_path / "a.aedat"
    path.write_bytes(data)
    with pytest.raises(SpikeTicketError, match="claims 2147483647 events"):
        event_files.read(path, SENSOR)


@pytest.mark.parametrize("shape", [(1 << 40,), (10**30,), (3, -1), (0, 1 << 62), (999,)])
def test_lying_numpy_header_is_refused_before_memory(tmp_path, shape):
    path = tmp_path / "a.npy"
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<u2", "fortran_order": False, "shape": shape})
        file.write(bytes(2000))
    with pytest.raises(SpikeTicketError, match=r"a\.npy: header claims .* holds 2,000"):
        read_npy(path)


def test_objects_are_never_unpickled(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([{}], object), y=E["y"], t=E["t"], p=E["p"])
    with pytest.raises(SpikeTicketError, match="never unpickled"):
        event_files.read(tmp_path / "a.npz", SENSOR)


@pytest.mark.parametrize("fields, message", [
    ({"x": E["x"][:3]}, "not numbers"), ({"p": E["p"] + 5}, "p = "),
    ({"x": np.where(E["x"] == E["x"], np.nan, 0.0)}, "x = nan"), ({"y": E["y"] - 40}, "y = -"),
    ({"t": E["t"].astype("U5")}, "t is <U5")])
def test_numpy_fields_are_checked(tmp_path, fields, message):
    np.savez(tmp_path / "a.npz", **{**E, **fields})
    with pytest.raises(SpikeTicketError, match=message):
        event_files.read(tmp_path / "a.npz", SENSOR)


def test_numpy_needs_sensor_columns_and_fields(tmp_path):
    save_npy(tmp_path / "a.npy", write.structured(E))
    with pytest.raises(SpikeTicketError, match="give sensor"):
        event_files.read(tmp_path / "a.npy")
    save_npy(tmp_path / "a.npy", np.zeros((3, 4)))
    with pytest.raises(SpikeTicketError, match="the order of its columns"):
        event_files.read(tmp_path / "a.npy", SENSOR)
    np.savez(tmp_path / "a.npz", x=E["x"])
    with pytest.raises(SpikeTicketError, match="no field y, t, p"):
        event_files.read(tmp_path / "a.npz", SENSOR)
    with pytest.raises(SpikeTicketError, match="event files end in"):
        event_files.read(tmp_path / "a.txt", SENSOR)
    with pytest.raises(SpikeTicketError, match="no such file"):
        event_files.read(tmp_path / "b.bin", SENSOR)


SUFFIXES = (".bin", ".aedat", ".aedat4", ".npy", ".npz")
QUIET = settings(max_examples=100, deadline=None, derandomize=True,
                 suppress_health_check=[HealthCheck.function_scoped_fixture])


def only_our_error(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        event_files.read(path, SENSOR, "txyp")
    except SpikeTicketError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("suffix", SUFFIXES)
@QUIET
@given(data=st.binary(max_size=300), head=st.sampled_from(
    [b"", b"#!AER-DAT2.0\r\n", b"#!AER-DAT3.1\r\n#!END-HEADER\r\n", b"#!AER-DAT4.0\r\n",
     b"\x93NUMPY\x01\x00", b"PK\x03\x04"]))
def test_random_bytes(tmp_path, suffix, data, head):
    only_our_error(tmp_path / f"a{suffix}", head + data)


@pytest.mark.parametrize("name", [*FILES, "a.npy", "a.npz"])
@QUIET
@given(data=st.data())
def test_whole_files_with_bytes_changed(tmp_path, name, data):
    path = tmp_path / name
    if name == "a.npy":
        save_npy(path, write.structured(E))
        whole = path.read_bytes()
    elif name == "a.npz":
        np.savez(path, **E)
        whole = path.read_bytes()
    else:
        whole = FILES[name]
    changed = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 6))):
        changed[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    only_our_error(path, bytes(changed[:data.draw(st.integers(0, len(whole)))]))
    only_our_error(path, bytes(changed))


@QUIET
@given(data=st.binary(max_size=200), changes=st.lists(st.tuples(
    st.integers(0, 300), st.integers(0, 255)), max_size=5))
def test_random_batches_and_packs(tmp_path, data, changes):
    batch = bytearray(write.python2_batch(np.zeros((2, 3, 32, 32), np.uint8), [1, 2]))
    for at, value in changes:
        batch[at] = value
    for content in (data, b"\x80\x02" + data, bytes(batch)):
        path = tmp_path / "batch"
        path.write_bytes(content)
        for read in (read_python_batch, read_binary_batch, read_npz, events.read_pack):
            try:
                read(path)
            except SpikeTicketError as error:
                assert "\n" not in str(error)


# -- frames -----------------------------------------------------------------------------------


@QUIET
@given(count=st.integers(0, 60), timesteps=st.integers(1, 9), seed=st.integers(0, 99),
       by=st.sampled_from(["number", "time"]), top=st.integers(1, 3))
def test_frames_count_every_event_once(count, timesteps, seed, by, top):
    e = write.sample(count, (3, 2), seed)
    recording = Events(**e, sensor=(3, 2))
    made = events.frames(recording, timesteps, by, max_count=top)
    wanted = np.zeros((timesteps, 2, 2, 3), int)
    span = (e["t"][-1] - e["t"][0]) // timesteps if count else 0
    for i in range(count):
        place = (i // max(count // timesteps, 1) if by == "number"
                 else (e["t"][i] - e["t"][0]) // max(span, 1))
        wanted[min(place, timesteps - 1), e["p"][i], e["y"][i], e["x"][i]] += 1
    assert made.dtype == np.uint8
    assert np.array_equal(made, np.minimum(wanted, top))


def test_fit_of_frames():
    one = Events(np.array([0, 33, 17]), np.array([0, 33, 17]), np.arange(3), np.ones(3, int),
                 SENSOR)
    cropped = events.frames(one, 1, size=(32, 32))
    assert cropped.sum() == 1 and cropped[0, 1, 16, 16] == 1
    padded = events.frames(one, 1, size=(36, 36), fit="pad")
    assert padded.sum() == 3 and padded[0, 1, 1, 1] == 1 and padded[0, 1, 34, 34] == 1
    halved = events.frames(one, 1, size=(17, 17), fit="resize")
    assert halved[0, 1, 0, 0] == halved[0, 1, 16, 16] == halved[0, 1, 8, 8] == 1
    with pytest.raises(SpikeTicketError, match="'pad' cannot turn 34 x 34 into 32 x 32"):
        events.frames(one, 1, size=(32, 32), fit="pad")


@pytest.mark.parametrize("how, message", [
    ({"timesteps": 0}, "timesteps 0"), ({"by": "space"}, "by 'space'"), ({"fit": "warp"}, "warp"),
    ({"max_count": 256}, "max_count 256"), ({"size": (0, 5)}, "outside 1")])
def test_frames_refuse(how, message):
    with pytest.raises(SpikeTicketError, match=message):
        events.frames(Events(**E, sensor=SENSOR), **{"timesteps": 4, **how})
