"""The link's parser on random and mutated frames: `sim.parser_fuzz`, in small."""

import json
import random

import numpy as np

from hw.config import PRESETS
from hw.registers import REQUEST, Space, Status
from sim import parser_fuzz
from sim.parser_inputs import MOST_CYCLES, mutate, random_frame, random_input
from sim.parser_model import ParserModel
from sw.board.protocol import (
    FrameError,
    Read,
    Request,
    Run,
    Write,
    decode_frame,
    encode_frame,
    words,
)
from sw.cli.app import main

TINY = PRESETS["tiny"]


def test_the_board_answers_as_the_model_says(tiny_library):
    found = parser_fuzz.fuzz(inputs=400, seed=6, library=tiny_library, progress=False)
    assert not found.fault, found.shown_by[:4000]
    assert found.inputs == 400 and found.frames > 1200 and found.kept
    # Two frames at a time never find the buffer full, and this board has no DRAM.
    assert set(found.statuses) == {status.name for status in Status} - {
        "OVERRUN", "DAMAGED", "OUT_OF_TURN"}


def test_a_wrong_answer_is_found_and_shown_again(tiny_library, monkeypatch):
    """A model that knows of no order: the board's ORDER is wrong then."""
    right = ParserModel.frame

    def careless(self, data):
        self.synced = True
        return right(self, data)

    monkeypatch.setattr(ParserModel, "frame", careless)
    found = parser_fuzz.fuzz(inputs=300, seed=1, library=tiny_library, progress=False)
    assert "ORDER" in found.fault
    again = parser_fuzz.replay(bytes.fromhex(found.shown_by), library=tiny_library)
    assert again.fault == found.fault


def test_a_board_that_takes_too_long_is_found(tiny_library, monkeypatch):
    monkeypatch.setattr(parser_fuzz, "ParserModel", lambda config: type("Model", (ParserModel,), {
        "frame": lambda self, data: ParserModel.frame(self, data) and
        ParserModel.frame(self, data).__class__(frozenset({Status.OK}), 0, 1, 1, -100, 0)})(config))
    found = parser_fuzz.fuzz(inputs=1, seed=1, library=tiny_library, progress=False)
    assert "still at work after" in found.fault


def test_model():
    model = ParserModel(TINY)

    def answer(request, seq):
        return model.frame(request.encode(seq)[:-1])

    assert model.frame(b"") is None
    assert answer(Request(), 0).status == {Status.ORDER}
    assert answer(Request(sync=True), 7).status == {Status.OK} and model.expected == 8
    assert model.frame(b"\x05abc").status == {Status.BAD_FRAME}
    assert model.frame(encode_frame(words(range(4)))[:-1]).seq == 8
    run = answer(Request(run=Run(max_cycles=50), read=Read(Space.MAP, 0, 9)), 8)
    assert run.status == {Status.OK, Status.TIMEOUT} and run.words == 9
    model.answered(Status.TIMEOUT)
    assert answer(Request(), 8).status == {Status.TIMEOUT}   # the same again
    wide = Write(Space.PROGRAM, TINY.program_words - 1, words([1, 2]))
    assert answer(Request(wide), 9).status == {Status.RANGE}
    assert answer(Request(Write(Space.COUNTER, 0, words([1]))), 10).status == {Status.BAD_REQUEST}


def test_inputs_end_and_keep_runs_short():
    draw = random.Random(3)
    whole = 0
    for _ in range(300):
        frame = random_frame(draw, 5)
        assert frame.endswith(b"\0") and frame.count(b"\0") == 1
        data = mutate(draw, random_input(draw, 5), random_input(draw, 6))
        for part in data.split(b"\0"):
            try:
                got = decode_frame(part)
            except FrameError:
                continue
            if len(got) >= len(REQUEST):
                assert got[5] < MOST_CYCLES
                whole += 1
    assert whole > 200


def test_command(tiny_library, capsys, monkeypatch):
    monkeypatch.setattr(parser_fuzz, "build", lambda **_: tiny_library)
    assert main(["check", "frames", "--minutes", "0.02", "--json", "--seed", "2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["inputs"] and found["fault"] == "" and found["seed"] == 2
    noise = np.random.default_rng(1).bytes(40).hex()
    assert main(["check", "frames", "--replay", noise]) == 0
    assert "answers" in capsys.readouterr().out
    assert main(["check", "frames", "--replay", "xyz"]) == 2
    assert "--replay takes bytes in hexadecimal" in capsys.readouterr().err
    assert main(["check", "frames", "--minutes", "0"]) == 2
    assert "--minutes 0 is below" in capsys.readouterr().err
