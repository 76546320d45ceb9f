"""Live mode: sources, lines, latencies, and its ways to end."""

import io
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, seed
from hypothesis import strategies as st
from PIL import Image

from hw.config import PRESETS
from hw.registers import DEFAULT_BAUD
from sim.board import SimTransport
from sim.samples import event_files
from sw import live, ticket
from sw.board.batches import Framing, Wanted
from sw.cli.app import main
from sw.data import depth
from sw.data.events import Events
from sw.data.events import frames as event_frames
from sw.errors import SpikeTicketError
from sw.integer import reference
from sw.live_inputs import Source, frames, read_picture
from tests import small_runs

ROOT = Path(__file__).parents[1]
SHAPE = (1, 8, 8)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """(ticket, network, images [12, 1, 8, 8])"""
    path, _, network, images, _ = small_runs.save(tmp_path_factory.mktemp("live"))
    return str(path), network, images


def run(path, where, **options):
    """(tally, printed lines)"""
    out = options.pop("out", None) or io.StringIO()
    config = options.pop("config", PRESETS["tiny"])
    tally = live.run_live(path, str(where), board="sim", baud=DEFAULT_BAUD, config=config,
                          transport=SimTransport(config, progress=False), out=out, **options)
    return tally, out.getvalue().splitlines()


def save_pictures(folder, images):
    folder.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image[0]).save(folder / f"{i}.png")
    return folder


def feed(monkeypatch, data):
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BufferedReader(
        io.BytesIO(data))))


def test_a_folder_of_pictures(small, tmp_path, capsys):
    path, network, images = small
    folder = save_pictures(tmp_path / "in", images)
    (folder / "notes.txt").write_text("not a picture")
    tally, lines = run(path, folder, as_json=True, checked=5)
    *rows, last = map(json.loads, lines)
    expected = reference.run(network, images)
    assert [row["name"] for row in rows] == [f"{i}.png" for i in range(12)]    # 10 behind 9
    assert [row["label"] for row in rows] == expected.labels.tolist()
    assert [row["logits"] for row in rows] == expected.logits.tolist()
    assert [row["class"] for row in rows] == [small_runs.TITLES[n] for n in expected.labels]
    assert all(row["core_us"] == pytest.approx(row["cycles"] / 100) for row in rows)
    summary = last["summary"]
    assert summary["inputs"] == 12 and summary["checked"] == 5 and summary["different"] == 0
    cycles = [row["cycles"] for row in rows]
    assert summary["core_cycles"]["p50"] == np.percentile(cycles, 50)
    assert summary["core_us"]["p99"] == pytest.approx(np.percentile(cycles, 99) / 100)
    assert summary["host_ms"]["p90"] == pytest.approx(
        np.percentile([row["host_ms"] for row in rows], 90))
    assert "images to 8 x 8" in capsys.readouterr().err and tally.inputs == 12


def test_text_lines_and_the_summary(small, tmp_path, capsys):
    path, _, images = small
    _, lines = run(path, save_pictures(tmp_path / "in", images[:3]), images=2, checked=1)
    assert len(lines) == 2 and lines[1].startswith("1.png") and "cycles" in lines[1]
    err = capsys.readouterr().err
    assert "2 inputs in" in err and err.count("p99") == 3 and "1 inputs compared, all equal" in err


def test_results_keep_their_order_when_sent_ahead(small, tmp_path):
    path, network, images = small
    np.save(tmp_path / "x.npy", images)
    _, lines = run(path, tmp_path / "x.npy", ahead=4, as_json=True)
    assert [json.loads(line)["logits"] for line in lines[:-1]] == reference.run(
        network, images).logits.tolist()


@pytest.mark.parametrize("kind", ["raw", "npy", "npys"])
def test_standard_input(small, monkeypatch, kind):
    path, network, images = small
    data = images.tobytes()
    if kind != "raw":
        buffer = io.BytesIO()
        for part in [images] if kind == "npy" else images:
            np.save(buffer, part)
        data = buffer.getvalue()
    feed(monkeypatch, data)
    _, lines = run(path, "-", as_json=True)
    assert [json.loads(line)["logits"] for line in lines[:-1]] == reference.run(
        network, images).logits.tolist()


def test_a_stream_that_ends_within_a_frame(small, monkeypatch):
    path, _, images = small
    feed(monkeypatch, images.tobytes()[:100])
    out = io.StringIO()
    with pytest.raises(SpikeTicketError, match="ends within frame 1, 28 bytes too early"):
        run(path, "-", out=out)
    assert len(out.getvalue().splitlines()) == 1       # what was whole was answered


@seed(1)
@given(st.binary(max_size=200), st.booleans())
def test_any_stream_gives_frames_or_one_error(data, magic):
    data = b"\x93NUMPY" + data if magic else data
    try:
        for _, array in frames(io.BytesIO(data), (2, 3, 2), "here"):
            assert array.shape == (2, 3, 2) and array.dtype == np.uint8
    except SpikeTicketError as error:
        assert str(error).startswith("here: ") and "\n" not in str(error)


@pytest.mark.parametrize(("array", "message"), [
    (np.zeros((2, *SHAPE), np.float32), "an array of float32"),
    (np.zeros((2, 9, 9), np.uint8), r"\[2, 9, 9\], not uint8 \[1, 8, 8\]"),
    (np.asfortranarray(np.zeros((3, *SHAPE), np.uint8)), "in Fortran order"),
])
def test_arrays_that_do_not_fit(array, message):
    buffer = io.BytesIO()
    np.save(buffer, array)
    with pytest.raises(SpikeTicketError, match=message):
        list(frames(io.BytesIO(buffer.getvalue()), SHAPE, "here"))


def test_pictures_of_other_kinds(tmp_path):
    """Sizes, colours, transparency and 16 bits become what the ticket takes."""
    rng = np.random.default_rng(2)
    colour = rng.integers(0, 256, (20, 30, 3)).astype(np.uint8)
    kinds = {"rgb.png": Image.fromarray(colour),
             "rgba.png": Image.fromarray(colour).convert("RGBA"),
             "palette.png": Image.fromarray(colour).convert("P"),
             "grey.jpg": Image.fromarray(colour[..., 0]),
             "deep.png": Image.fromarray(colour[..., 0].astype(np.uint16) << 8),
             "bits.png": Image.fromarray(colour[..., 0]).convert("1")}
    for name, image in kinds.items():
        image.save(tmp_path / name)
    assert np.array_equal(read_picture(tmp_path / "rgb.png"), colour.transpose(2, 0, 1))
    assert np.array_equal(read_picture(tmp_path / "deep.png")[0], colour[..., 0])
    for bits, channels in ((8, 1), (4, 3)):
        source = Source(str(tmp_path), Wanted("w", 4, (channels, 9, 7), bits, True), Framing())
        found = dict(source)
        assert sorted(found) == sorted(kinds)
        assert all(a.shape == (channels, 9, 7) and a.max() < 1 << bits for a in found.values())
        assert f"the upper {bits} of 8 bits" in source.describe() or bits == 8


def test_frames_of_a_stream_and_of_a_file_are_pictures_of_8_bits(tmp_path, monkeypatch, caplog):
    """The upper bits are taken of every frame, as of a picture; a dark one is said to be none."""
    values = np.random.default_rng(3).integers(0, 256, (3, 1, 9, 7)).astype(np.uint8)
    values[2] //= 16
    np.save(tmp_path / "a.npy", values)
    feed(monkeypatch, values.tobytes())
    for where in ("-", str(tmp_path / "a.npy")):
        source = Source(where, Wanted("w", 4, (1, 9, 7), 4, True), Framing())
        assert np.array_equal([array for _, array in source], values >> 4)
        assert "the upper 4 of 8 bits" in source.describe()
        assert "no pixel is above 15 of 255; all are 0" in caplog.text


@pytest.mark.parametrize(("name", "data", "message"), [
    ("a.png", b"\x89PNG\r\n\x1a\nbroken", "not a picture"), ("a.png", b"", "the file is empty"),
    ("a.npy", b"\x93NUMPY\x01\x00", "not a NumPy array"),
])
def test_broken_files(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(SpikeTicketError, match=message):
        list(Source(str(tmp_path / name), Wanted("w", 4, SHAPE, 8, True), Framing()))


def test_huge_pictures_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("sw.data.pictures.MAX_PIXELS", 10)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(SpikeTicketError, match="4 x 4 pixels are more"):
        read_picture(tmp_path / "a.png")


def test_nothing_to_read(tmp_path):
    wanted = Wanted("w", 4, SHAPE, 8, True)
    for where, message in ((tmp_path / "no", "no such file or folder"),
                           (tmp_path, "'w' takes pictures, files that end in .png"),
                           (Path(__file__), r"takes pictures, files .*\.npy$")):
        with pytest.raises(SpikeTicketError, match=message):
            list(Source(str(where), wanted, Framing()))


@pytest.mark.parametrize(("name", "static", "hint"), [
    ("a.bin", True, "for event recordings choose another ticket"),
    ("a.png", False, "for pictures choose another ticket"),
    ("a.npz", True, "an .npz holds event recordings, which are for another ticket, or a labelled"),
])
@pytest.mark.parametrize("alone", [True, False])
def test_a_ticket_for_other_inputs_is_told_so(tmp_path, name, static, hint, alone):
    (tmp_path / name).write_bytes(b"0")
    wanted = Wanted("w", 4, SHAPE if static else (2, 16, 16), 8, static)
    with pytest.raises(SpikeTicketError, match=hint):
        list(Source(str(tmp_path / name if alone else tmp_path), wanted, Framing()))


def test_event_files_and_windows(tmp_path):
    """Each recording framed as the ticket's data; with a window, cut by time."""
    sample = event_files.sample(400, (34, 34))
    (tmp_path / "a.bin").write_bytes(event_files.atis_bin(sample))
    wanted = Wanted("w", 3, (2, 16, 16), 4, False)
    framing = Framing(by="time", fit="resize")
    [(name, array)] = Source(str(tmp_path / "a.bin"), wanted, framing)
    events = Events(sample["x"], sample["y"], sample["t"], sample["p"], (34, 34))
    assert name == "a.bin" and np.array_equal(
        array, event_frames(events, 3, "time", (16, 16), "resize", 15))
    parts = list(Source(str(tmp_path / "a.bin"), wanted, framing, window_us=30_000))
    first = int(sample["t"].min())
    assert [name for name, _ in parts] == [f"a.bin@{30 * i}ms" for i in range(len(parts))]
    for i, (_, array) in enumerate(parts):
        cut = events.between(first + 30_000 * i, first + 30_000 * (i + 1))
        assert np.array_equal(array, event_frames(cut, 3, "time", (16, 16), "resize", 15))


@pytest.mark.parametrize(("mode", "static"), [("host", True), ("input", False)])
def test_patch_gates_and_event_tickets(tmp_path, mode, static, monkeypatch):
    network, masks = small_runs.gated_network(mode, static)
    path = tmp_path / "t.safetensors"
    ticket.save(path, network)
    shape = Source("-", Wanted.of(network), Framing()).shape
    top = 255 if network.input.static else (1 << network.input.bits) - 1
    values = np.random.default_rng(0).integers(0, top + 1, (3, *shape)).astype(np.uint8)
    feed(monkeypatch, values.tobytes())
    tally, lines = run(str(path), "-", masks=masks, as_json=True, checked=3)
    taken = depth.taken(values, network.input)      # of pictures the upper bits
    expected = reference.run(network, taken, masks=masks).logits
    assert [json.loads(line)["logits"] for line in lines[:-1]] == expected.tolist()
    assert tally.checked == 3 and tally.different == 0
    if masks is not None:
        feed(monkeypatch, values.tobytes())
        with pytest.raises(SpikeTicketError, match="holds 2; give a mask for each"):
            run(str(path), "-", masks=masks[:2])
        with pytest.raises(SpikeTicketError, match="takes a mask"):
            run(str(path), "-")
        with pytest.raises(SpikeTicketError, match="takes images"):
            run(str(path), "-", window_ms=5)


def test_a_wrong_logit_is_reported(small, tmp_path, monkeypatch, capsys):
    path, _, images = small
    check = reference.run

    def other(*arguments, **options):
        result = check(*arguments, **options)
        result.logits[0, 0] += 1
        return result
    monkeypatch.setattr(reference, "run", other)
    tally, _ = run(path, save_pictures(tmp_path / "in", images[:2]), checked=2)
    assert tally.different == 2 and "2 DIFFERENT" in capsys.readouterr().err


def test_an_interrupt_ends_it_with_the_summary(small, monkeypatch, capsys):
    path, _, images = small

    def interrupted(self):
        yield "one", images[0]
        raise KeyboardInterrupt
    monkeypatch.setattr(Source, "__iter__", interrupted)
    tally, lines = run(path, "-")
    assert tally.inputs == len(lines) == 1 and "1 inputs in" in capsys.readouterr().err


def test_a_reader_that_goes_away_ends_it(small, tmp_path):
    path, _, images = small

    class Pipe(io.StringIO):
        def write(self, text):
            if self.getvalue().count("\n") == 2:
                raise BrokenPipeError
            return super().write(text)
    tally, lines = run(path, save_pictures(tmp_path / "in", images), out=Pipe())
    assert len(lines) == 2 and tally.inputs == 3


@pytest.mark.usefixtures("small_board")
def test_the_command(small, tmp_path, capsys):
    path, network, images = small
    folder = save_pictures(tmp_path / "in", images[:2])
    assert main(["run", "--ticket", path, "--input", str(folder), "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["label"] for line in lines[:2]] == reference.run(
        network, images[:2]).labels.tolist()
    for arguments, message in ((["--images", "0"], "--images 0"),
                               (["--data", "x"], "--data does not go with --input"),
                               (["--window", "5"], "--window cuts event files"),
                               (["--ahead", "-1"], "-1")):
        assert main(["run", "--ticket", path, "--input", str(folder), *arguments]) == 2
        err = capsys.readouterr().err
        assert message in err.splitlines()[-1], err


def test_head_closes_the_pipe_quietly(small, tmp_path):
    """As in a shell: `... --input folder | head -1`, each line there as soon as it is known."""
    path, _, images = small
    np.save(tmp_path / "x.npy", np.concatenate([images] * 20))
    code = ("import sys; from hw.boards import BOARDS, Board; "
            "BOARDS['sim'] = Board('sim', 'small', 'tiny', 'XC7A35T'); "
            "from sw.cli.app import main; sys.exit(main())")
    with subprocess.Popen(
            [sys.executable, "-c", code, "run", "--ticket", path, "--input",
             str(tmp_path / "x.npy"), "--traced", "0"], cwd=ROOT, env=os.environ,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline().startswith(b"frame 0")
        process.stdout.close()
        errors = process.stderr.read().decode()
        assert process.wait(60) == 0 and "Error" not in errors and "Exception" not in errors, errors


@pytest.mark.parametrize("kind", ["float32", "hwc", "float one", "uint16", "fortran"])
def test_arrays_of_other_types_are_pictures(tmp_path, kind, capsys):
    """An .npy that is not raw frames: scaled, its channels found, brought to size."""
    grey = np.random.default_rng(0).integers(2, 256, (3, 8, 8)).astype(np.uint8)
    array = {"float32": (grey[:, None] / 255).astype(np.float32), "hwc": grey[..., None],
             "float one": grey[0] / 255, "uint16": grey.astype(np.uint16) * 257,
             "fortran": np.asfortranarray(grey[:, None])}[kind]
    np.save(tmp_path / "a.npy", array)
    found = list(Source(str(tmp_path / "a.npy"), Wanted("w", 4, SHAPE, 8, True), Framing()))
    right = grey[:1] if kind == "float one" else grey
    assert np.array_equal(np.stack([one for _, one in found]), right[:, None])


def test_frames_of_counts_in_floats(tmp_path):
    counts = np.random.default_rng(0).integers(0, 9, (2, 3, 2, 5, 4))
    wanted = Wanted("w", 3, (2, 5, 4), 4, False)
    np.save(tmp_path / "a.npy", counts.astype(np.float32))
    found = list(Source(str(tmp_path / "a.npy"), wanted, Framing()))
    assert np.array_equal(np.stack([one for _, one in found]), counts)
    for array, message in ((counts[:, :2] * 1.0, r"frames of \[2, 2, 5, 4\], not \[3, 2, 5, 4\]"),
                           (counts / 2, "whole numbers from 0 to 255"),
                           (np.zeros((4, 4, 4)), "neither events nor frames")):
        np.save(tmp_path / "a.npy", array)
        with pytest.raises(SpikeTicketError, match=message):
            list(Source(str(tmp_path / "a.npy"), wanted, Framing()))


def test_events_for_an_image_ticket(tmp_path):
    np.save(tmp_path / "a.npy", event_files.structured(event_files.sample()))
    with pytest.raises(SpikeTicketError, match=r"holds events \(x, y, t, p\), but ticket"):
        list(Source(str(tmp_path / "a.npy"), Wanted("w", 4, SHAPE, 8, True), Framing()))


def test_repairs_are_told_once_and_strangers_passed_over(tmp_path, caplog):
    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGBA", (16, 8), (0, 0, 0, 0)).save(tmp_path / name)
    (tmp_path / "._a.png").write_bytes(b"\0\5\x16\7")
    found = list(Source(str(tmp_path), Wanted("w", 4, SHAPE, 8, True), Framing()))
    assert len(found) == 3 and all((one == 255).all() for _, one in found)
    assert caplog.messages == [f"note: {tmp_path}/a.png: transparent; composed on white",
                               f"note: {tmp_path}/a.png: not in the proportion of 8 x 8; stretched"]
