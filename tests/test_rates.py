"""The line's rate: raised as far as bytes pass, and back down when they do not."""

import numpy as np
import pytest

from hw.registers import DEFAULT_BAUD
from sw.board import rates
from sw.board.driver import Accelerator
from sw.board.protocol import Request
from sw.board.session import Session

from .line import Line
from .tiny_board import TINY, random_case

LIMIT = 12_000_000


@pytest.fixture(scope="module")
def case():
    return random_case(67, 6)


@pytest.mark.parametrize(("clean", "expected", "tried"), [
    (12_000_000, 12_000_000, [12_000_000]),
    (6_500_000, 6_000_000, [12_000_000, 8_000_000, 6_000_000]),
    (3_000_000, 3_000_000, [12_000_000, 8_000_000, 6_000_000, 4_000_000]),
])
def test_the_highest_rate_that_passes(transport, case, clean, expected, tried):
    image, inputs, logits = case
    line = Line(transport, clean=clean)
    with Accelerator(line, TINY) as accelerator:
        trials = accelerator.raise_rate(LIMIT)
        assert [trial.baud for trial in trials] == tried
        assert [trial.passed for trial in trials[:-1]] == [False] * (len(tried) - 1)
        assert trials[-1].passed == (expected > DEFAULT_BAUD)
        assert trials[-1].frames == (rates.FRAMES if trials[-1].passed else trials[-1].frames)
        assert line.baud == expected == pytest.approx(line.board_baud, rel=.01)
        accelerator.load(image)
        assert (accelerator.infer(inputs).logits == logits).all()


def test_a_bridge_that_cannot_and_a_line_without_rate(transport, case):
    image, inputs, logits = case
    line = Line(transport, bridge=3_000_000)
    with Accelerator(line, TINY) as accelerator:
        assert not any(trial.passed for trial in accelerator.raise_rate(LIMIT))
        assert accelerator.raise_rate(DEFAULT_BAUD) == []
        assert line.baud == DEFAULT_BAUD
        accelerator.load(image)
        assert (accelerator.infer(inputs).logits == logits).all()
    assert rates.raise_rate(Session(transport), TINY, LIMIT) == []


def test_candidates_keep_what_the_uart_can():
    assert list(rates.candidates(100_000_000, 3_000_000, LIMIT)) == [
        (12_000_000, 133), (8_000_000, 200), (6_000_000, 267), (4_000_000, 400)]
    assert all(divisor >= 80 for _, divisor in rates.candidates(48_000_000, 1_000_000, LIMIT))
    assert rates.fastest((0x0403, 0x6015)) == 3_000_000
    assert rates.fastest((0x0403, 0x6010)) == rates.fastest(None) == LIMIT


def test_a_line_that_turns_bad_goes_back_to_its_first_rate(transport, case):
    image, inputs, logits = case
    line = Line(transport)
    with Accelerator(line, TINY) as accelerator:
        accelerator.raise_rate(LIMIT)
        accelerator.load(image)
        line.clean, line.damage = 3_000_000, 0.003
        many = np.concatenate([inputs] * 10)
        assert (accelerator.infer(many).logits == np.concatenate([logits] * 10)).all()
        assert line.baud == line.board_baud == DEFAULT_BAUD
        assert accelerator.statistics.recoveries >= 8


def test_power_cut_at_a_raised_rate(transport, case):
    """The board comes back at its first rate; a break brings the host there, and it loads again."""
    image, inputs, logits = case
    line = Line(transport)
    with Accelerator(line, TINY) as accelerator:
        accelerator.raise_rate(LIMIT)
        accelerator.load(image)
        line.power_cycle()
        assert line.baud == LIMIT
        assert (accelerator.infer(inputs).logits == logits).all()
        assert line.baud == DEFAULT_BAUD and line.resets == 2


def test_a_lost_answer_to_the_change_of_rate(transport, case):
    """The board has changed its rate and the host has not."""
    line = Line(transport)
    with Accelerator(line, TINY) as accelerator:
        line.board_baud = 8_000_000
        accelerator._session.ask(Request())
        assert line.board_baud == DEFAULT_BAUD and line.resets == 2
