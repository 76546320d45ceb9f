"""The monitor: its sums are the board's, its view needs no terminal."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

from hw.config import PRESETS
from hw.registers import DEFAULT_BAUD
from sim.board import SimTransport
from sw import bundled, ticket
from sw.board.connect import connect
from sw.board.monitor_view import spark, view
from sw.board.readings import Readings
from sw.cli.app import main
from sw.data import datasets
from sw.integer import reference
from sw.monitor import watch
from tests import small_runs

KEYS = {"ticket", "board", "transport", "images", "accuracy", "frames_per_s_host",
        "frames_per_s_core", "cycles_per_image", "useful_fraction", "layers", "link",
        "board_counts"}


@pytest.fixture(scope="module")
def readings(tmp_path_factory):
    """(all readings of a run over 30 inputs of 12 samples, direct results, network)"""
    path, data, network, images, labels = small_runs.save(tmp_path_factory.mktemp("monitor"))
    config = PRESETS["tiny"]
    samples = datasets.for_network(network, str(data))

    def to():
        return connect(ticket.load(path), config=config,
                       transport=SimTransport(config, progress=False))
    with (one := to()).accelerator:
        found = list(watch(one, samples, images=30, interval=0))
    with (other := to()).accelerator as board:
        board.load(other.image)
        result = board.infer(images, counters=True)
    return found, result, network, labels


def drawn(values, width=80, height=None):
    console = Console(record=True, width=width, file=io.StringIO())
    console.print(view(values, width, height))
    return console.export_text()


def test_the_sums_are_the_boards(readings):
    found, result, _, labels = readings
    last = found[-1]
    order = np.arange(30) % 12
    assert set(last) >= KEYS and last["images"] == 30 and len(found) == 31
    assert [values["images"] for values in found[:-1]] == list(range(1, 31))
    assert last["cycles_per_image"] == pytest.approx(result.cycles[order].mean())
    assert last["accuracy"] == pytest.approx((result.labels == labels)[order].mean())
    assert last["frames_per_s_core"] == pytest.approx(
        last["clock_hz"] / result.cycles[order].mean())
    assert last["cycles_recent"] == result.cycles[order].tolist()
    for index, layer in enumerate(last["layers"]):
        counted = result.counters[order, index].mean(axis=0)
        assert layer["cycles"] == pytest.approx(counted[0])
        assert layer["weights"] == pytest.approx(counted[2])
        assert layer["updates"] == pytest.approx(counted[3])
        assert 0 < layer["useful"] <= 1 and 0 <= layer["queue_stall"] <= 1
    assert sum(layer["share"] for layer in last["layers"]) == pytest.approx(1)
    updates = result.counters[order, :, 3].sum() / result.cycles[order].sum()
    assert last["useful_updates_per_cycle"] == pytest.approx(updates)


def test_the_link_counts(readings):
    last = readings[0][-1]
    link = last["link"]
    assert link["recoveries"] == 0 and link["jobs"] >= 30
    assert link["bytes_sent"] > 30 * 64 and link["bytes_per_s"] > 0
    assert last["board_counts"]["bad_frames"] == last["board_counts"]["overruns"] == 0
    assert last["board_counts"]["frames"] >= 30
    json.dumps(last)


@pytest.mark.parametrize("width", [60, 80, 160])
def test_the_view(readings, width):
    text = drawn(readings[0][-1], width)
    assert "small on" in text and "line errors: 0 recoveries" in text
    assert all(len(line) <= width for line in text.splitlines())
    for layer in readings[0][-1]["layers"]:
        assert f"{layer['name']} " in text and f"{layer['cycles']:,.0f}" in text
    assert "…" not in text


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("count", [5, 30])
def test_the_view_fits_a_terminal_of_24_rows(readings, width, count):
    """Nothing is cut: layers that find no room are counted in one row."""
    values = json.loads(json.dumps(readings[0][-1]))
    first = values["layers"][0]
    values["layers"] = [first | {"name": f"blocks.{i}.attention.projection", "cycles": 1000.0 + i}
                        for i in range(count)]
    text = drawn(values, width, 24)
    lines = text.splitlines()
    assert len(lines) <= 23 and all(len(line) <= width for line in lines)
    assert "line errors: 0 recoveries" in text
    assert f"{1000 + count - 1:,}" in text          # the one with most cycles
    rows = [line for line in lines if "projection" in line]
    left = [line for line in lines if " more " in line]
    shown = len(rows) + (int(left[0].split()[1]) if left else 0)
    assert shown == count and bool(left) == (len(rows) < count)
    rest = sum(1000 + i for i in range(count - len(rows)))
    assert not left or f"{rest:,}" in left[0]


def test_errors_are_red(readings):
    values = json.loads(json.dumps(readings[0][-1]))
    values["board_counts"]["bad_frames"] = 3
    assert "3 bad frames" in drawn(values)
    assert view(values).border_style == "red"
    assert view(readings[0][-1]).border_style == "green"


def test_wrapping_registers(readings, monkeypatch):
    """The board's counts are 32 bits and wrap."""
    class Board:
        statistics = type("S", (), {})()

    to = type("To", (), {"accelerator": Board, "image": type("I", (), {"logged": ()})})
    counts = iter([0xFFFF_FFFE, 5])
    monkeypatch.setattr(Readings, "_ask", lambda self: {"frames": next(counts)})
    watched = Readings(to)
    watched.ask()
    assert watched.counts() == {"frames": 7}


def test_spark():
    assert spark([]) == "" and spark([3, 3]) == "▄▄" and spark([0, 1, 2]) == "▁▅█"


@pytest.mark.usefixtures("small_board")
def test_the_command(small_files, capsys):
    path, data, network, images, _ = small_files
    arguments = ["--ticket", str(path), "--data", str(data), "--images", "5"]
    assert main(["look", "monitor", *arguments, "--once", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert set(values) >= KEYS and values["images"] == 5
    expected = reference.run(network, images[:5])
    assert len(expected.logits) == 5
    assert main(["look", "monitor", *arguments, "--json", "--interval", "0"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["images"] for line in lines] == [1, 2, 3, 4, 5, 5]
    for once in ([], ["--once"]):
        assert main(["look", "monitor", *arguments, *once]) == 0
        assert "line errors: 0 recoveries" in capsys.readouterr().out


def test_a_board_on_a_port(small_files, served, capsys):
    """It says itself what it is; the other commands reach it the same way."""
    path, data, _, images, _ = small_files
    arguments = ["--ticket", str(path), "--data", str(data), "--images", "4", "--json"]
    assert main(["look", "monitor", *arguments, "--once", "--port", served.port]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["preset"] == "tiny" and values["transport"] == served.port
    assert values["images"] == 4 and values["link"]["baud"] > DEFAULT_BAUD
    assert main(["run", *arguments, "--port", served.port]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["logits_equal"] and values["spike_mismatches"] == 0
    assert values["preset"] == "tiny" and values["transport"] == served.port
    np.save(path.with_name("x.npy"), images[:2])
    assert main(["run", "--ticket", str(path), "--port", served.port, "--input",
                 str(path.with_name("x.npy"))]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.usefixtures("small_board")
@pytest.mark.parametrize(("arguments", "message"), [
    (["--images", "0"], "--images 0"), (["--baud", "0"], "--baud 0"),
    (["--interval", "-1"], "--interval -1"), (["--ticket", "none"], "ticket 'none'"),
    (["--port", "/dev/nothing", "--images", "1"], "/dev/nothing: cannot be opened"),
])
def test_bad_arguments(arguments, message, capsys):
    assert main(["look", "monitor", "--ticket", bundled.DEFAULT, *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


@pytest.mark.usefixtures("small_board")
def test_an_interrupt_ends_with_the_last_view(small_files, capsys, monkeypatch):
    path, data, *_ = small_files
    add = Readings.add

    def third(self, *arguments):
        add(self, *arguments)
        if self.values()["images"] == 3:
            raise KeyboardInterrupt
    monkeypatch.setattr(Readings, "add", third)
    assert main(["look", "monitor", "--ticket", str(path), "--data", str(data), "--interval",
                 "0"]) == 0
    assert "2 in" in capsys.readouterr().out
