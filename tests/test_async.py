"""Submitted and streamed inputs on the simulated board: order, overlap, errors, closing."""

import contextlib
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from sim.board import SimTransport
from sw.board.background import Background
from sw.board.driver import Accelerator
from sw.errors import SpikeTicketError

from .faulty import FaultyTransport
from .tiny_board import TINY, random_cases


@pytest.fixture(scope="module")
def cases():
    """Two networks with ten inputs each, and their logits."""
    return [(image, inputs, expected.logits)
            for _, image, inputs, expected in random_cases(21, 2, 10)]


def test_submitted_batches_come_back_in_order(transport, cases):
    image, inputs, logits = cases[0]
    with Accelerator(transport, TINY) as board:
        board.load(image)
        futures = [board.submit(inputs[:n]) for n in (1, 0, 4, 10)]
        order = []
        for number, future in enumerate(futures):
            future.add_done_callback(lambda _, number=number: order.append(number))
        last = board.submit(inputs, counters=True)
        for n, future in zip((1, 0, 4, 10), futures, strict=True):
            assert (future.result(60).logits == logits[:n]).all()
        assert order == [0, 1, 2, 3]
        assert last.result(60).counters.shape[:2] == (10, len(image.layers))
        assert (board.infer(inputs).logits == logits).all()


@pytest.mark.parametrize("ahead", [0, 1, 8])
def test_stream(transport, cases, ahead):
    image, inputs, logits = cases[0]
    with Accelerator(transport, TINY) as board:
        board.load(image)
        taken = []

        def source():
            for number, array in enumerate(inputs):
                taken.append(number)
                yield array

        for number, result in enumerate(board.stream(source(), ahead=ahead)):
            assert (result.logits == logits[number]).all() and len(result.logits) == 1
            assert len(taken) <= number + ahead + 1
        assert number == 9
        with pytest.raises(SpikeTicketError, match="ahead -1"):
            next(board.stream([], ahead=-1))
        # left early: the rest is cancelled, the board stays usable
        for _ in board.stream(source(), ahead=3):
            break
        assert (board.infer(inputs).logits == logits).all()


def test_the_next_input_is_sent_while_one_is_computed(tiny_library, cases):
    """At a baud rate, what takes longest sets the pace; one at a time, all three add up."""
    image, inputs, logits = max(cases, key=lambda case: case[0].surviving)
    transport = SimTransport(TINY, library=tiny_library, baud=12_000_000)
    with Accelerator(transport, TINY) as board:
        board.load(image)
        spent = {}
        for ahead in (0, 8):
            begun = transport.cycles
            results = list(board.stream(np.concatenate([inputs] * 3), ahead=ahead))
            spent[ahead] = (transport.cycles - begun) / len(results)
            assert (results[-1].logits == logits[-1]).all()
        byte = 10 * TINY.clock_hz / 12_000_000
        there, back = (byte * np.mean([getattr(result, name) for result in results])
                       for name in ("request_bytes", "reply_bytes"))
        core = np.mean([result.cycles for result in results])
        assert spent[0] >= there + core + back - 2 * byte
        assert spent[8] <= 1.15 * max(there, core, back) + 100
        assert spent[8] < spent[0]


def test_bad_input_is_told_at_once_and_changes_nothing(transport, cases):
    image, inputs, logits = cases[0]
    with Accelerator(transport, TINY) as board:
        with pytest.raises(SpikeTicketError, match="no network is loaded"):
            board.submit(inputs)
        board.load(image)
        future = board.submit(inputs)
        with pytest.raises(SpikeTicketError, match="takes uint8"):
            board.submit(inputs.astype(np.int64))
        assert (future.result(60).logits == logits).all()


def test_a_batch_for_a_replaced_network_is_refused(transport, cases):
    (image, inputs, logits), (other, others, wanted) = cases
    with Accelerator(transport, TINY) as board:
        board.load(image)
        future = board.submit(inputs)
        board.load(other)  # waits for what was submitted
        assert (future.result(0).logits == logits).all()
        assert (board.infer(others).logits == wanted).all()
        with board._background.exclusive():
            late = board.submit(others)  # cannot begin yet
            board._held = replace(board._held, image=image)
        with pytest.raises(SpikeTicketError, match="was replaced before"):
            late.result(60)


def test_an_error_ends_what_was_submitted_and_no_more(transport, cases):
    image, inputs, logits = cases[0]
    line = FaultyTransport(transport)
    with Accelerator(line, TINY) as board:
        board.load(image)
        board._session._slack = 0.01
        with board._background.exclusive():
            futures = [board.submit(inputs) for _ in range(3)]
            line.mute = True
        for future in futures:
            with pytest.raises(SpikeTicketError, match="no answer"):
                future.result(60)
        line.mute = False
        assert (board.submit(inputs).result(60).logits == logits).all()


def test_closing_fails_what_has_not_begun(transport, cases):
    image, inputs, _ = cases[0]
    board = Accelerator(transport, TINY).connect()
    board.load(image)
    with board._background.exclusive():
        future = board.submit(inputs)
        cancelled = board.submit(inputs)
        assert cancelled.cancel()
        closing = threading.Thread(target=board.close)
        closing.start()
        with pytest.raises(SpikeTicketError, match="was closed"):
            future.result(60)
    closing.join(60)
    assert cancelled.cancelled()
    with pytest.raises(SpikeTicketError, match="was closed"):
        board.submit(inputs)


class TakesAhead:
    """A session that takes every job before the first is done."""

    transport = SimpleNamespace(name="ahead")

    def __init__(self):
        self.go = threading.Event()

    def run(self, take, done):
        self.go.wait(60)
        taken = []
        with contextlib.suppress(StopIteration):
            while True:
                taken.append(take())
        for job in taken:
            if job == "fails":
                raise SpikeTicketError("the line is gone")
            done([job])


@pytest.mark.parametrize("fails", [False, True])
def test_an_empty_batch_ends_in_its_turn(fails):
    session, ended = TakesAhead(), []
    background = Background(session)
    batches = [], ["a"], [], [], ["fails" if fails else "b", "c"], []
    futures = [background.submit(jobs, lambda: None,
                                 lambda replies, number=number: ended.append(number))
               for number, jobs in enumerate(batches)]
    session.go.set()
    broken = 0
    for future in futures:
        try:
            future.result(60)
        except SpikeTicketError:
            broken += 1
    assert (ended, broken) == (([0, 1, 2, 3], 2) if fails else ([0, 1, 2, 3, 4, 5], 0))
    background.close()


def test_callbacks_cannot_use_the_board(transport, cases):
    image, inputs, _ = cases[0]
    with Accelerator(transport, TINY) as board:
        board.load(image)
        told = []

        def callback(_):
            with pytest.raises(SpikeTicketError, match="callback"):
                board.infer(inputs)
            told.append(True)

        with board._background.exclusive():
            board.submit(inputs).add_done_callback(callback)
        assert board.verify() and told


def test_threads_share_a_board(transport, cases):
    image, inputs, logits = cases[0]
    with Accelerator(transport, TINY) as board:
        board.load(image)
        wrong = []

        def work(number):
            for _ in range(3):
                got = (board.infer(inputs) if number % 2 else board.submit(inputs).result(60))
                wrong.append((got.logits != logits).any())

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert wrong == [False] * 12
