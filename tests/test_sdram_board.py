"""The simulated ULX3S with its SDRAM: a streamed network through link, controller and chip, and the
memory test, which names what is wrong with a chip."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from hw.config import PRESETS
from hw.registers import Space
from sim.samples.networks import random_input
from sw import Accelerator
from sw.board.jobs import FRAMES
from sw.board.memory_test import check_dram
from sw.compile.compiler import compile_network
from sw.errors import BadInput, BoardError
from sw.integer import reference
from tests.test_dram import CONFIG, MEMORIES, wide_network
from tests.test_dram_board import check_board

E45D = PRESETS["e45d"]


@pytest.fixture(scope="module")
def board():
    with Accelerator.open("sim:e45d", test_memory=True) as found:
        yield found


def test_it_says_what_it_has(board):
    found = board.identify()
    assert (found.preset, found.dram_bytes, found.dram_passed) == ("e45d", 32 << 20, True)


def test_a_streamed_network(board):
    """Every spike, and every layer's cycles."""
    rng = np.random.default_rng(4)
    print("seed 4")
    network = wide_network(rng, "wide")
    inputs = np.stack([random_input(rng, network) for _ in range(2)])
    image = compile_network(network, E45D, stream=True)
    expected = reference.run(network, inputs)
    assert all(layer.streamed for layer in image.layers)
    board.load(image)
    check_board(board, image, inputs, expected)


def test_a_chip_that_is_not_sound(board):
    """What the test says, what loading says, and that all is well again without the fault."""
    image = compile_network(wide_network(np.random.default_rng(4), "wide"), E45D, stream=True)
    for low, high, said in ((1 << 5, 0, "the DRAM is damaged: data line 5 is stuck at 0"),
                            (0, 1 << 15, "data line 15 is stuck at 1"),
                            (0, 0xFFFF, "the DRAM does not answer: every word reads as ones")):
        board.transport.stick(low, high)
        with pytest.raises(BoardError, match=said):
            board.check_memory()
        assert board.identify().dram_passed is False
        with pytest.raises(BoardError, match="the board's DRAM does not hold what was sent"):
            board.load(image)
        board.transport.stick()
    assert board.check_memory() > 4000
    assert board.identify().dram_passed and board.image is None
    board.load(image)


class FakeSession:
    """A session with a board whose DRAM's addresses pass `wired`."""

    def __init__(self, config, wired):
        self.transport = SimpleNamespace(name="fake", frames=FRAMES)
        self.words, self.wired = np.zeros(config.dram_words, np.uint32), wired

    def exchange(self, jobs):
        replies = []
        for [request] in jobs:
            if request.write is not None:
                assert request.write.space == Space.DRAM
                for n, word in enumerate(request.write.words):
                    self.words[self.wired(request.write.address + n)] = word
                replies.append([SimpleNamespace(words=None)])
            else:
                at = [self.wired(request.read.address + n) for n in range(request.read.count)]
                replies.append([SimpleNamespace(words=self.words[at])])
        return replies


def test_address_lines():
    """Each line, stuck at 0 or shorted to the next one."""
    config = MEMORIES["sdram"]
    assert check_dram(FakeSession(config, lambda at: at), config) > 4000
    for line in range((config.dram_words - 1).bit_length()):
        with pytest.raises(BoardError, match="DRAM"):
            check_dram(FakeSession(config, lambda at, line=line: at & ~(1 << line)), config)
    for line in range(7, (config.dram_words - 1).bit_length()):     # beyond the first words
        with pytest.raises(BoardError, match="address line is stuck"):
            check_dram(FakeSession(config, lambda at, line=line: at & ~(1 << line)), config)


def test_a_word_that_is_wrong():
    config = CONFIG     # a memory of any kind: bits, not data lines
    fake = FakeSession(config, lambda at: at)
    exchange = fake.exchange

    def damaged(jobs):
        replies = exchange(jobs)
        if jobs[0][0].read is not None and len(replies[0][0].words) > 60:
            replies[0][0].words[7] ^= 0x100
        return replies

    fake.exchange = damaged
    with pytest.raises(BoardError, match=r"the DRAM is damaged: at 0x7 it has \w+, written was"):
        check_dram(fake, config)


def test_a_board_without_dram():
    with pytest.raises(BadInput, match="no DRAM to test"):
        check_dram(FakeSession(CONFIG, None), PRESETS["tiny"])
