"""The simulated board with DDR3: initialised and levelled over the link."""

from __future__ import annotations

import numpy as np
import pytest

from hw.ddr3_control import LANES, Control
from hw.registers import Space
from sim.board import SimTransport
from sim.ddr3 import WINDOWS, litedram_board
from sim.samples.networks import random_input
from sw import Accelerator
from sw.board import ddr3
from sw.board.protocol import Read, Request, Run, Write, words
from sw.compile.compiler import compile_network
from sw.errors import BoardError, SpikeTicketError
from sw.integer import reference
from tests.test_dram import MEMORIES, wide_network
from tests.test_dram_board import check_board

CONFIG = MEMORIES["ddr3"]


@pytest.fixture
def board():
    with Accelerator.open("sim", manifest=CONFIG) as found:
        yield found


def window(slip: int, first: int, count: int) -> int:
    """As `sim/ddr3_control.v` takes it."""
    return slip | first << 3 | count << 8


def test_levelled_at_open(board):
    """The lanes are where the model's windows are, and the memory test passes."""
    assert board.check_memory() > 4000 and board.identify().dram_passed
    found = ddr3.initialise(board._session)
    for lane in range(LANES):
        wanted = WINDOWS[lane]
        assert found[lane] == (wanted & 7, wanted >> 3 & 31, wanted >> 8)


def test_windows_anywhere(board):
    """Eyes of any place and width: the longest run of all bit slips is found, whole."""
    rng = np.random.default_rng(3)
    print("seed 3")
    for _ in range(4):
        eyes = [(int(rng.integers(8)), int(rng.integers(32)), int(rng.integers(5, 14)))
                for _ in range(LANES)]
        board.transport.set_windows(*(window(*eye) for eye in eyes))
        found = ddr3.initialise(board._session)
        for (slip, first, count), got in zip(eyes, found, strict=True):
            seen = {}       # a bit slip further the same eye is 16 delays earlier
            for late in (-1, 0, 1):
                low = max(0, first - 16 * late)
                seen[(slip + late) % 8] = (low, min(32, first - 16 * late + count) - low)
            assert (got.first, got.count) == seen[got.slip]
            assert got.count == max(length for _, length in seen.values())
    board.check_memory()


@pytest.mark.parametrize(("first", "count"), [(0, 5), (27, 5), (0, 32), (9, 9)])
def test_windows_at_either_end(first, count):
    right = np.zeros((8, 32), bool)
    right[1, [3, 4, 6]] = True
    right[6, first:first + count] = True
    assert ddr3._longest(right) == (6, first, count)


def test_a_lane_that_is_dead(board):
    for eyes, said in (
            ((window(3, 4, 0), WINDOWS[1]), "data lines 0 to 7 read right at no delay"),
            ((WINDOWS[0], window(1, 14, 3)),
             r"data lines 8 to 15 read right at 3 of 32 delays only, from 14 on at bit slip 1"),
            ((window(0, 9, 0), window(0, 9, 0)), r"lines 0 to 7 .*; data lines 8 to 15 ")):
        board.transport.set_windows(*eyes)
        with pytest.raises(BoardError, match=f"the DRAM cannot be levelled: .*{said}"):
            board.check_memory()
        assert board.identify().dram_passed is False
    board.transport.set_windows(*WINDOWS)
    assert board.check_memory() > 4000


def test_a_board_that_cannot_be_levelled_is_not_opened():
    transport = SimTransport(CONFIG)
    transport.set_windows(window(0, 0, 0), WINDOWS[1])
    with pytest.raises(BoardError, match="cannot be levelled"):
        Accelerator(transport, CONFIG).connect()


def test_lines_that_are_stuck(board):
    for low, high, said in ((1 << 5, 0, "data line 5 is stuck at 0"),
                            (0, 1 << 15, "data line 15 is stuck at 1"),
                            (0, 0xFFFF, "the DRAM does not answer: every word reads as ones")):
        board.transport.stick(low, high)
        with pytest.raises(BoardError, match=said):
            board.check_memory()
    board.transport.stick()
    assert board.check_memory() > 4000


def test_a_run_before_the_memory_is_initialised(board):
    """It ends in an error, reads are ones; and power that fails under a session is put right."""
    rng = np.random.default_rng(4)
    network = wide_network(rng, "wide")
    inputs = random_input(rng, network)[None]
    image = compile_network(network, CONFIG)
    board.load(image)
    expected = reference.run(network, inputs)
    session = board._session
    session.ask(Request(Write(Space.DRAM_CONTROL, Control.ddrctrl_init_done, words([0]))))
    [ones] = session.ask(Request(read=Read(Space.DRAM, 5, 1))).words
    assert ones == 0xFFFFFFFF
    with pytest.raises(SpikeTicketError, match="the memory does not answer"):
        session.ask(Request(run=Run(0, max_cycles=1_000_000)))
    session.ask(Request(Write(Space.DRAM_CONTROL, Control.ddrctrl_init_done, words([1]))))
    assert (board.infer(inputs).logits == expected.logits).all()
    board.transport.power_cycle()
    assert (board.infer(inputs).logits == expected.logits).all()


def test_registers_that_are_not_there(board):
    """An access that nobody answers would hold the link: it reads as ones."""
    reply = board._session.ask(Request(read=Read(Space.DRAM_CONTROL, Control.ddrphy_rdphase, 2)))
    assert reply.words.tolist() == [2, 3]
    with pytest.raises(SpikeTicketError, match="outside the memory"):
        board._session.ask(Request(Write(Space.DRAM_CONTROL, 2047, words([0, 0]))))


def test_a_streamed_network_through_litedram():
    """The board with LiteDRAM's own controller: every spike, every layer's cycles."""
    rng = np.random.default_rng(4)
    print("seed 4")
    network = wide_network(rng, "wide")
    inputs = np.stack([random_input(rng, network) for _ in range(2)])
    image = compile_network(network, CONFIG, stream=True)
    transport = SimTransport(CONFIG, library=litedram_board(CONFIG))
    with Accelerator(transport, CONFIG) as found:
        found.load(image)
        check_board(found, image, inputs, reference.run(network, inputs))
