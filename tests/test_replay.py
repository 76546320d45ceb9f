"""Recordings of a session: written whole, read strictly, refused where they do not fit."""

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.config import PRESETS
from sw.board.driver import Accelerator
from sw.board.transport import Transport
from sw.cli.app import main
from sw.errors import SpikeTicketError
from sw.replay import RecordingTransport, ReplayTransport, read_recording

TINY = PRESETS["tiny"]
RECORDING = Path(__file__).with_name("recordings") / "the_board_says_what_it_is.jsonl"


class Parrot(Transport):
    """Says what it was sent, and remembers what else was asked of it."""

    name, baud, first_baud = "parrot", 1000, 1000

    def __init__(self):
        self.said, self.asked = b"", []

    def write(self, data):
        self.said += data

    def read(self, timeout):
        said, self.said = self.said, b""
        return said

    def reset(self):
        self.asked.append("reset")

    def set_baud(self, baud):
        self.asked.append(baud)

    def close(self):
        self.asked.append("close")


@pytest.fixture
def recorded(tmp_path):
    parrot = Parrot()
    line = RecordingTransport(parrot, tmp_path / "run.jsonl", TINY, seed=5)
    line.reset()
    line.write(b"ab")
    line.write(b"cde")
    assert line.read(1) == b"abcde" and line.read(1) == b""
    line.set_baud(2000)
    numbers = [line.random_below(1 << 16) for _ in range(5)]
    assert not line.path.exists()
    line.close()
    line.close()
    assert parrot.asked == ["reset", 2000, "close"]
    return line.path, numbers


def test_a_recording_plays_what_was_recorded(recorded):
    path, numbers = recorded
    line = ReplayTransport(path)
    assert (line.name, line.baud, line.config) == ("recording of parrot", 1000, TINY)
    assert [line.random_below(1 << 16) for _ in range(5)] == numbers
    line.reset()
    line.write(b"abc")  # in other portions
    line.write(b"de")
    assert line.read(1) == b"abcde" and line.read(1) == b""
    assert not line.finished
    line.set_baud(2000)
    assert line.finished and line.baud == 2000
    with pytest.raises(SpikeTicketError, match="read comes after its end; record it again"):
        line.read(1)


@pytest.mark.parametrize(("calls", "message"), [
    (lambda line: line.read(1), "line 2: read comes where it has reset"),
    (lambda line: (line.reset(), line.write(b"ax")), "other bytes are sent"),
    (lambda line: (line.reset(), line.write(b"a"), line.read(1)), "before a write has ended"),
    (lambda line: (line.reset(), line.write(b"abcdef")), "write comes where it has read"),
    (lambda line: (line.reset(), line.write(b"abcde"), line.read(1), line.read(1),
                   line.set_baud(7)), "the rate is set to 7"),
])
def test_other_calls_depart_from_it(recorded, calls, message):
    with pytest.raises(SpikeTicketError, match=message):
        calls(ReplayTransport(recorded[0]))


def test_a_recording_of_the_board_opens_by_name(capsys):
    with Accelerator.open(f"replay:{RECORDING}") as board:
        assert board.identify().preset == "tiny" and board.trials == []
    assert main(["look", "recording", str(RECORDING), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["clock_hz"] == TINY.clock_hz and found["read_bytes"] > 50
    assert main(["look", "recording", str(RECORDING)]) == 0
    assert "write_bytes" in capsys.readouterr().out
    assert sum(path.stat().st_size for path in RECORDING.parent.iterdir()) < 100_000


@pytest.mark.parametrize(("text", "line"), [
    ("", 1), ("{}", 1), ("[]", 1), ('{"format": "spiketicket-recording", "version": 2}', 1),
    ("HEAD\n{}", 2), ('HEAD\n{"write": "YQ=="}\n{"write": "?"}', 3), ('HEAD\n{"read": 5}', 2),
    ('HEAD\n{"baud": true}', 2), ('HEAD\n{"reset": 1}', 2), ("HEAD\n[[[[", 2),
    ('HEAD\n{"write": "", "read": ""}', 2), ("HEAD\n" + "[" * 100_000, 2)])
def test_files_that_are_no_recordings(tmp_path, text, line):
    head = RECORDING.read_text().splitlines()[0]
    path = tmp_path / "bad.jsonl"
    path.write_text(text.replace("HEAD", head))
    with pytest.raises(SpikeTicketError, match=rf"bad\.jsonl: line {line} is not of a recording"):
        ReplayTransport(path)


@pytest.mark.parametrize("damage", [{"identity": "0"}, {"seed": "x"}, {"baud": -1}, {"config": 1},
                                    {"config": {"engines": 0}}])
def test_heads_that_lie(tmp_path, damage):
    head = json.loads(RECORDING.read_text().splitlines()[0]) | damage
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps(head))
    with pytest.raises(SpikeTicketError, match="line 1 is not of a recording"):
        read_recording(path)


@given(st.randoms(use_true_random=False))
def test_damaged_recordings_are_refused_or_read(tmp_path_factory, rng: random.Random):
    data = bytearray(RECORDING.read_bytes())
    for _ in range(rng.randrange(1, 4)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    path = tmp_path_factory.getbasetemp() / "damaged.jsonl"
    path.write_bytes(bytes(data))
    try:
        head, _ = read_recording(path)
    except SpikeTicketError as error:
        assert "damaged.jsonl" in str(error)
    else:
        assert head["config"] == TINY


def test_a_file_that_is_missing_or_cannot_be_written(tmp_path):
    with pytest.raises(SpikeTicketError, match="cannot be read"):
        ReplayTransport(tmp_path / "none")
    line = RecordingTransport(Parrot(), tmp_path / "no" / "run.jsonl", TINY)
    with pytest.raises(SpikeTicketError, match="cannot be written"):
        line.close()
    assert line.inner.asked == ["close"]
