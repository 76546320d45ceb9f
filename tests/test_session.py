"""The session on lines that fail in ways of their own: resets without end, silence, slow clocks."""

import time

import numpy as np
import pytest

from hw.registers import BUFFER_WORDS, Register, Space
from sw.board import packing
from sw.board.driver import Accelerator
from sw.board.protocol import Read, Request, Write, words
from sw.board.session import Session
from sw.errors import BoardSilent, LineDamaged, SpikeTicketError

from .faulty import FaultyTransport
from .tiny_board import TINY, random_case

PROBE = Request(read=Read(Space.REGISTER, Register.MAGIC, 1))


@pytest.fixture(scope="module")
def case():
    return random_case(67, 3)


class BrownOut(FaultyTransport):
    """Loses power before every `every`-th write."""

    every = 0

    def write(self, data):
        if self.every and self.writes % self.every == 0:
            self.inner.power_cycle()
        super().write(data)


@pytest.mark.parametrize("every", [1, 2, 3, 4, 5])
def test_a_board_that_resets_again_and_again(transport, case, every):
    image, inputs, logits = case
    line = BrownOut(transport)
    with Accelerator(line, TINY) as board:
        board.load(image)
        line.every = every
        with pytest.raises(SpikeTicketError, match=r"keeps resetting|times in a row"):
            board.infer(np.concatenate([inputs] * 100))
        line.every = 0
        assert (board.infer(inputs).logits == logits).all()
        assert board.verify()


def test_a_job_that_is_slower_than_the_line_never_overruns_the_buffer(transport):
    """Frames of few bytes that write many words: the line brings them faster than they are done."""
    count = 300
    full = np.zeros(count, np.uint32)
    full[::7] = 3
    (write,) = packing.writes(Space.MAP, 0, full, forms=("packed",))
    job = [Request(write)] * 120
    session = Session(transport, TINY.clock_hz)
    assert sum(request.buffer_words for request in job) > 3 * BUFFER_WORDS
    told = []
    read = Request(read=Read(Space.MAP, 0, count))
    (replies, (back,)) = session.exchange([job, [read]], told.append)
    assert len(replies) == 120 and told == [1, 1]
    assert (np.asarray(back.words, np.uint32) == full).all()
    assert session.statistics.recoveries == 0
    counts = session.ask(Request(read=Read(Space.REGISTER, Register.OVERRUNS, 1)))
    assert int(counts.words[0]) == 0


@pytest.mark.parametrize("lost", [3, 40, 119, 121])
def test_a_job_of_many_frames_is_done_again_from_its_beginning(transport, lost):
    line = LosesOne(transport)
    session = Session(line, TINY.clock_hz)
    session.ask(PROBE)
    line.lost = line.writes + lost
    values = np.arange(1, 121, dtype=np.uint32)
    jobs = [[Request(Write(Space.MAP, i, values[i:i + 1])) for i in range(120)],
            [Request(read=Read(Space.MAP, 0, 120))], [PROBE]]
    found = session.exchange(jobs)
    assert [len(replies) for replies in found] == [120, 1, 1]
    assert (np.asarray(found[1][0].words, np.uint32) == values).all()
    assert session.statistics.recoveries == 1


class LosesOne(FaultyTransport):
    """Loses the write of number `lost`."""

    lost = -1

    def write(self, data):
        if self.writes == self.lost:
            self.writes += 1
        else:
            super().write(data)


def test_a_reload_that_fails_is_made_up_for(transport, case):
    """A board that lost its state must not be run before it has been loaded again."""
    image, inputs, logits = case
    line = FaultyTransport(transport)
    with Accelerator(line, TINY) as board:
        board.load(image)
        transport.power_cycle()
        restore, board._session.on_reset = board._session.on_reset, lambda: 1 / 0
        with pytest.raises(ZeroDivisionError):
            board.infer(inputs)
        board._session.on_reset = restore
        assert (board.infer(inputs).logits == logits).all()


def test_jobs_are_taken_as_there_is_room(transport):
    session = Session(transport, TINY.clock_hz)
    ahead, done = [], []
    big = [Request(Write(Space.WEIGHT, 0, words(range(400))))]

    def jobs():
        for number in range(8):
            ahead.append(number - len(done))
            yield big

    assert len(session.exchange(jobs(), done.append)) == len(done) == 8
    assert max(ahead) == 2  # two fit the buffer


def test_take_is_asked_again_after_every_reply(transport):
    session = Session(transport, TINY.clock_hz)
    supply, answers = [[PROBE]], []

    def take():
        if not supply:
            raise StopIteration
        return supply.pop()

    def done(replies):
        answers.append(replies)
        if len(answers) < 5:
            supply.append([PROBE])

    session.run(take, done)
    assert len(answers) == 5 and not session._sent


def test_strict_ends_at_the_first_trouble(transport):
    line = FaultyTransport(transport)
    session = Session(line, TINY.clock_hz)
    session.ask(PROBE)
    line.events[line.writes + 1] = lambda: transport.write(b"xyz\0")  # a damaged frame before it
    with session.strict(), pytest.raises(LineDamaged, match="damaged, 1 times in a row"):
        session.ask(PROBE)
    line.events[line.writes + 2] = lambda: transport.write(b"xyz\0")
    assert len(session.ask(PROBE).words) == 1 and session.statistics.recoveries >= 1


class Clock(FaultyTransport):
    """Counts its own seconds: a tenth for each look at it. Answers get lost, but for those to a
    request to start anew."""

    seconds = 0.0
    deaf = False

    def now(self):
        self.seconds += 0.1
        return self.seconds

    def read(self, timeout):
        data = super().read(timeout)
        return b"" if self.deaf and len(data) > 24 else data


def test_no_job_for_too_long_is_an_error(transport):
    line = Clock(transport)
    session = Session(line, TINY.clock_hz, retries=10**6, limit=5.0)
    session.ask(PROBE)
    line.deaf = True
    began = time.monotonic()
    with pytest.raises(BoardSilent, match=r"no answer, [0-9]+ times in a row"):
        session.ask(Request(read=Read(Space.REGISTER, 0, len(Register))))
    assert 5 < line.seconds < 30 and time.monotonic() - began < 20
    line.deaf = False
    assert len(session.ask(PROBE).words) == 1
