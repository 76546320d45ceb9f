"""`sw.link_speed`, and how many bytes an input takes."""

import json
from pathlib import Path

import numpy as np
import pytest

from hw.config import PRESETS
from hw.registers import MAGIC, REPLY, Space, next_epoch
from sim.board import SimTransport
from sim.network import CabledBoard, LocalNetwork, SimUdpTransport
from sw import link_speed, ticket
from sw.board import jobs, throughput
from sw.board.driver import Accelerator
from sw.board.jobs import input_jobs
from sw.board.packing import FORMS, pack, to_words, writes
from sw.board.protocol import Read, Request, Run, decode_frame, digest, encode_frame
from sw.cli.app import main
from sw.compile.compiler import compile_network
from sw.integer.network import InputSpec, Layer, Network, Synapses

TINY = PRESETS["tiny"]


def readout(spec, timesteps=4):
    """One readout of ten classes that looks at every position."""
    rng = np.random.default_rng(3)
    shape = (10, spec.channels, spec.height, spec.width)
    weight = (rng.integers(1, 4, shape) * (rng.random(shape) < 0.05)).astype(np.int8)
    zeros = np.zeros(10, np.int64)
    layer = Layer("out", (Synapses(weight),), zeros, zeros, neuron=None)
    return Network(spec, timesteps, (layer,), "readout")


@pytest.mark.parametrize(("bits", "words"), [(1, 28), (4, 4 * 28), (8, 8 * 28)])
def test_static_images_send_their_bit_planes_alone(bits, words):
    """28 rows in a pitch of 32: 4 bytes a row and plane, a bit for each position."""
    image = compile_network(readout(InputSpec(1, 28, 28, bits=bits)), PRESETS["a35tw"])
    array = np.full((1, 28, 28), (1 << bits) - 1, np.uint8)
    [[request]] = input_jobs(image, array[None], None, ("expand",))
    assert len(request.write.words) == words and request.write.expand == 15
    array[:] = 0
    array[0, 14, 14] = 1
    [[request]] = input_jobs(image, array[None], None)
    assert len(request.write.words) <= 2, "one active position"


def test_event_frames_send_their_events():
    """Few events, few bytes: about two for each of them, whatever the frames hold."""
    spec = InputSpec(2, 32, 32, bits=4, static=False)
    image = compile_network(readout(spec, 8), PRESETS["a35tw"])
    array = np.zeros((8, 2, 32, 32), np.uint8)
    rng = np.random.default_rng(5)
    events = 200
    array[rng.integers(0, 8, events), rng.integers(0, 2, events), rng.integers(0, 32, events),
          rng.integers(0, 32, events)] += 1
    [plainly], [shortest] = (input_jobs(image, array[None], None, forms)
                             for forms in (("plain",), FORMS))
    plain, sent = (sum(len(r.write.payload) for r in job) for job in (plainly, shortest))
    assert 4 * plain == 8192 and 4 * sent < 3.5 * events


def _line(library, ethernet):
    if not ethernet:
        return SimTransport(TINY, baud=3_000_000, library=library)
    board = CabledBoard(TINY, library=library)
    board.set_cable()
    return SimUdpTransport(LocalNetwork(board))


@pytest.mark.parametrize("ethernet", [False, True])
def test_speed_on_the_board(tiny_library, ethernet):
    """At a low rate the line sets the pace, and the rate is that of its bytes."""
    image = compile_network(readout(InputSpec(1, 16, 16, bits=4)), TINY)
    rng = np.random.default_rng(1)
    inputs = rng.integers(0, 16, (7, 1, 16, 16)).astype(np.uint8)
    transport = _line(tiny_library, ethernet)
    with Accelerator(transport, TINY) as board:
        loaded = link_speed.load_speed(board, image)
        frames = len(jobs.load_job(image, transport.frames))
        line = throughput.line_seconds(transport.baud, loaded["bytes"][0], frames)
        there_and_back = 6e-5 if ethernet else 0  # of the last frame, and of the check
        assert line < loaded["seconds"] < 1.5 * line + there_and_back
        at = link_speed.inference_speed(board, image, inputs)
        assert at["us_one_at_a_time"][0] <= at["us_one_at_a_time"][1] < 1.1e6 / at[
            "frames_per_s_one_at_a_time"]
    assert at["bound"] == "line"
    near = 0.05 if ethernet else 0.01
    assert at["frames_per_s"] == pytest.approx(at["frames_per_s_line"], rel=near)
    assert at["frames_per_s_one_at_a_time"] < at["frames_per_s"] < at["frames_per_s_core"]
    forms = link_speed.forms_of(image, inputs)
    assert forms["sent"] == at["bytes_per_image"][0] <= min(forms.values())


def test_one_definition_of_frames_per_s(small_files, small_board, capsys):
    """The run's report and `link_speed` give the same figures for the same images; they are those
    of the bytes where the line sets the pace, and of every image once however few there are."""
    path, data, _, images, labels = small_files
    np.savez(data, x_test=images[:8, 0], y_test=labels[:8])
    assert main(["run", "--ticket", str(path), "--data", str(data), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert [one["baud"] for one in values["link"]] == [12_000_000, 3_000_000]
    assert values["frames_per_s_link"] == values["link"][0]["frames_per_s"]
    image = compile_network(ticket.load(path).network, TINY)
    with Accelerator(SimTransport(TINY), TINY) as board:
        board.load(image)
        for one in values["link"]:
            board.transport.set_baud(one["baud"])
            at = link_speed.inference_speed(board, image, images[:8])
            assert one["frames_per_s"] == pytest.approx(at["frames_per_s"], rel=1e-3)
        slow = throughput.measure(board, images[:2], throughput.rates("sim", 200_000))
        sizes = board.infer(images[:2])
    assert [one.baud for one in slow] == [200_000] and slow[0].images == 2
    line = 200_000 / 10 / max(sizes.request_bytes, sizes.reply_bytes)
    assert slow[0].frames_per_s == pytest.approx(line, rel=0.01)


def test_a_served_board_says_that_it_is_simulated(small_files, served, capsys, tmp_path):
    """Bytes take no time on a pseudo-terminal, so frames/s with the link are not made up."""
    path, data, *_ = small_files
    arguments = ["--ticket", str(path), "--data", str(data), "--images", "2"]
    page = tmp_path / "run.html"
    for more in ([], ["--board", "arty_a7"]):
        assert main(["run", *arguments, "--port", served.port, "--json", *more,
                                   "--report", str(page)]) == 0
        values = json.loads(capsys.readouterr().out)
        assert values["simulated"] and values["frames_per_s_link"] is None and not values["link"]
        assert "a simulated " in page.read_text() and "not measured" in page.read_text()
        assert main(["run", *arguments, "--port", served.port, *more]) == 0
        out = " ".join(capsys.readouterr().out.split())
        assert "on a simulated " in out
        assert "not measured (the far end is a simulated board" in out
    assert main(["run", "--ticket", str(path), "--port", served.port, "--input",
                               str(_frames(tmp_path, small_files[3]))]) == 0
    assert f"{served.port}, a simulated board" in capsys.readouterr().err


def _frames(folder, images):
    np.save(folder / "x.npy", images[:1])
    return folder / "x.npy"


def test_synthetic_network():
    network = link_speed.synthetic(20_000)
    assert network.weights_surviving == 20_000
    with pytest.raises(ValueError, match="2000000 weights are more than the network has"):
        link_speed.synthetic(2_000_000)


def test_command(monkeypatch, capsys):
    at = {"line": "3 Mbaud", "us_one_at_a_time": [2000.0, 2100.0],
          "frames_per_s": 480.0, "frames_per_s_one_at_a_time": 378.0,
          "bound": "line",
          "frames_per_s_core": 3800.0, "bytes_per_image": [626.0, 58.0], "payload": 0.93,
          "load_line_s": 0.1}
    load = {"baud": 3_000_000, "seconds": 0.4, "bytes": [117_000, 99], "payload": 0.96}
    monkeypatch.setattr(link_speed, "measure", lambda name, bauds, images, ethernet: {
        "ticket": name, "weights_surviving": 5, "bytes_by_form": {"sent": 626},
        "loads": [load, load | {"baud": None}] if ethernet else [load],
        "rates": [at | {"baud": baud} for baud in bauds]})
    monkeypatch.setattr(link_speed, "measure_load", lambda: {
        "ticket": "100,000 weights", "weights_surviving": 100_000, "loads": [load]})
    assert main(["bench", "link"]) == 0
    shown = capsys.readouterr().out
    for text in ("nmnist-spikeformer", "0.4000 s at 3 Mbaud", "at 100 Mbit", "626 + 58", "2,100"):
        assert text in shown
    assert main(["bench", "link", "--json", "--ticket", "fmnist-scnn", "--baud", "1000000"]) == 0
    [row] = json.loads(capsys.readouterr().out)["tickets"]
    assert [rate["baud"] for rate in row["rates"]] == [1_000_000]
    for wrong in (["--images", "0"], ["--baud", "7"]):
        assert main(["bench", "link", *wrong]) == 2
        assert wrong[0] in capsys.readouterr().err


def test_examples_of_the_specification():
    """The frames that docs/link.md shows are what the driver sends and reads."""
    text = " ".join((Path(__file__).parents[1] / "docs" / "link.md").read_text().split())

    def shown(data):
        return data.hex(" ") in text
    masks = np.zeros((24, 8), np.uint8)
    masks[0, 0], masks[0, 7], masks[2, 1] = 1, 8, 5
    assert pack(to_words(masks)) == bytes.fromhex("05 81 81 02 05 00 01")
    [write] = writes(Space.MAP, 0x40, to_words(masks), forms=("packed",))
    sync = Request(sync=True, read=Read(Space.REGISTER, 0, 1)).encode(0x1234)
    run = Request(write, Run(max_cycles=1_000_000), Read(Space.MAP, 0x800, 10, 4)).encode(0x1235)
    assert shown(sync) and shown(run)
    fields = (3 | 1 << 4 | 0x1234 << 16, 0x1235 | 1 << 16, 0, 0, MAGIC)
    assert len(fields) == len(REPLY) + 1 and shown(encode_frame(np.array(fields, np.uint32)))
    for frame in (sync, run):
        assert f"0x{decode_frame(frame[:-1])[0]:08X}" in text
    assert f"0x{next_epoch(0, digest(decode_frame(run[:-1]))):08X}, which is the epoch" in text
