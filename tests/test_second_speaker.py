"""Another program at the board's port, whose requests are valid: never a wrong result."""

import os
import random
from dataclasses import replace

import numpy as np
import pytest

from hw.registers import Register, Space
from sim.fault_speaker import Speaker
from sim.serve import Board
from sw.board import session as sessions
from sw.board.driver import Accelerator
from sw.board.protocol import Read, Request, Run, Write, words
from sw.board.transport import SerialTransport
from sw.errors import BoardSilent, SpikeTicketError

from .tiny_board import TINY, random_case

ANOTHER = "another program has sent requests"


@pytest.fixture(scope="module")
def case():
    """A network that fits, inputs, and the reference's logits of them."""
    return random_case(67, 3)


CHANGES = {
    "weight": Request(Write(Space.WEIGHT, 3, words([0x1234_5678]))),
    "program": Request(Write(Space.PROGRAM, 0, words([5]))),
    "map": Request(Write(Space.MAP, 0, words(range(8)))),
    "gate": Request(Write(Space.GATE, 0, words([1]))),
    "run": Request(run=Run(max_cycles=100)),
    "write, run and read": Request(Write(Space.MAP, 0, words([1])), Run(max_cycles=50),
                                   Read(Space.MAP, 0, 3)),
    "refused write": Request(Write(Space.MAP, 0xFFFFFF, words([1]))),
    "its own conversation": Request(read=Read(Space.MAP, 0, 2)),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("call", ["infer", "verify", "trace", "load"])
def test_a_change_between_two_calls_is_an_error_then_made_up_for(transport, case, change, call):
    image, inputs, logits = case
    request = CHANGES[change]
    sync = change != "its own conversation"
    with Accelerator(transport, TINY) as board:
        board.load(image)
        assert (board.infer(inputs).logits == logits).all()
        if sync:
            transport.write(b"\0" + Request(request.write, request.run, request.read, True)
                            .encode(77))
        else:
            transport.write(b"\0" + Request(sync=True).encode(77) + request.encode(78))
        act = {"infer": lambda: board.infer(inputs), "verify": board.verify,
               "trace": lambda: list(board.trace(inputs[0])), "load": lambda: board.load(image)}
        with pytest.raises(SpikeTicketError, match=ANOTHER):
            act[call]()
        if call == "load":
            board.load(image)
        assert board.verify()
        assert (board.infer(inputs).logits == logits).all()


@pytest.mark.parametrize("request_", [
    Request(sync=True), Request(read=Read(Space.REGISTER, 0, len(Register)), sync=True),
    Request(read=Read(Space.MAP, 0, 9), sync=True)])
def test_who_only_asks_does_no_harm(transport, case, request_):
    """As `sw.ports` does: the session starts anew and goes on."""
    image, inputs, logits = case
    with Accelerator(transport, TINY) as board:
        board.load(image)
        transport.write(request_.encode(5))
        assert (board.infer(inputs).logits == logits).all()
        assert board.statistics.recoveries == 1 and board.verify()


@pytest.mark.parametrize("foreign", [
    Request(Write(Space.WEIGHT, 0, words([1, 2]))), Request(read=Read(Space.MAP, 0, 2)),
    Request(run=Run(max_cycles=30))])
def test_a_request_with_the_number_that_is_due(transport, case, foreign):
    """The board takes the session's own request for a repetition and does not do it."""
    image, inputs, logits = case
    with Accelerator(transport, TINY) as board:
        board.load(image)
        transport.write(foreign.encode(board._session._seq))
        with pytest.raises(SpikeTicketError, match=ANOTHER):
            board.infer(inputs)
        assert (board.infer(inputs).logits == logits).all()


def test_an_answer_to_somebody_else_is_not_taken(transport, case):
    """Same number, same length, right CRC; only the epoch tells."""
    image, inputs, logits = case
    with Accelerator(transport, TINY) as board:
        board.load(image)
        lanes = max(1, TINY.map_bits // 32)
        read = Read(Space.MAP, 0, image.classes, stride=lanes)
        transport.write(Request(read=read).encode(board._session._seq))
        with pytest.raises(SpikeTicketError, match=ANOTHER):
            board.infer(inputs[:1])
        assert (board.infer(inputs).logits == logits).all()


def test_two_sessions_on_one_line(transport, case):
    """Each notices the other; neither gives a wrong result."""
    image, inputs, logits = case
    other, others, wanted = random_case(11, 3)
    right = errors = 0
    boards = []
    for network, *rest in ((image, inputs, logits), (other, others, wanted)):
        boards.append((Accelerator(transport, TINY).connect(), *rest))
        boards[-1][0].load(network)
    for turn in range(12):
        board, batch, expected = boards[turn // 2 % 2]
        try:
            right += bool((board.infer(batch).logits == expected).all())
        except SpikeTicketError as error:
            assert ANOTHER in str(error)
            errors += 1
    assert right + errors == 12 and right >= 4 and errors >= 4
    for board, *_ in boards[::-1]:
        board.close()


def test_a_foreign_run_without_end_is_ended(transport, case):
    """43 s of the board's time by its limit; the session's first `sync` ends it."""
    image, inputs, logits = case
    with Accelerator(transport, TINY) as board:
        board._session._slack = 0.001
        board.load(image)
        vars(board._held)["limit"] = 20_000
        endless = np.full(TINY.program_words, 0xFFFF_FFFF, np.uint32)[:200]
        transport.write(b"\0" + Request(Write(Space.PROGRAM, 0, endless), Run(), sync=True)
                        .encode(9))
        before = transport.cycles
        with pytest.raises(SpikeTicketError, match=ANOTHER):
            board.infer(inputs)
        assert transport.cycles - before < TINY.clock_hz
        assert (board.infer(inputs).logits == logits).all()


def test_without_epochs_it_would_be_silently_wrong(transport, case, monkeypatch):
    """What the checks are for: a session that does not look at epochs."""
    image, inputs, logits = case
    monkeypatch.setattr(sessions.registers, "next_epoch", lambda epoch, crc: 0)
    before = sessions.Reply.decode
    monkeypatch.setattr(sessions.Reply, "decode",
                        lambda frame: replace(before(frame), epoch=0))
    with Accelerator(transport, TINY) as board:
        board.load(image)
        transport.write(Request(Write(Space.WEIGHT, 0, words([0] * 20)), sync=True).encode(7))
        assert (board.infer(inputs).logits != logits).any()
        assert not board.verify()


def test_what_a_speaker_says_are_frames():
    draw = random.Random(4)
    speaker = Speaker(draw, TINY)
    speaker.hear(b"\0" + Request(Write(Space.MAP, 0, words([1]))).encode(41))
    assert speaker.heard == 41
    speaker.hear(b"no frame\0")
    assert speaker.heard == 41 and all(speaker.says().endswith(b"\0") for _ in range(50))


def test_a_second_host_at_a_served_board(tiny_library, case):
    """A program that opens the port without its lock and writes one valid frame."""
    image, inputs, logits = case
    with Board(TINY, library=tiny_library) as served, \
            Accelerator(SerialTransport(served.port), TINY) as board:
        board.load(image)
        with pytest.raises(BoardSilent, match="another program uses it"):
            SerialTransport(served.port)
        other = os.open(served.port, os.O_RDWR | os.O_NOCTTY)
        frame = Request(Write(Space.WEIGHT, 3, words([0x1234_5678])), sync=True).encode(77)
        os.write(other, b"\0" + frame)
        os.close(other)
        with pytest.raises(SpikeTicketError, match=ANOTHER):
            board.infer(inputs)
        assert (board.infer(inputs).logits == logits).all()
