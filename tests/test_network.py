"""The simulated board's network: the gateware's rules, what its cable takes, the driver on it."""

import pytest

from hw.registers import CALL, FIRST_IP, IDLE_SHIFT, Register, Space
from sim.network import CabledBoard, LocalNetwork, SimUdpTransport
from sw.board.announcement import Announcement
from sw.board.driver import Accelerator
from sw.board.protocol import Read, Request, Splitter, Write, words
from sw.errors import BoardError

from .tiny_board import TINY, random_case

ONE, OTHER = (0xC0A80107, 40_000), (0xC0A80109, 50_001)
SYNC = Request(sync=True, read=Read(Space.REGISTER, 0, 1)).encode(7)


@pytest.fixture(scope="module")
def case():
    return random_case(5, 4)


@pytest.fixture
def cabled(tiny_library):
    board = CabledBoard(TINY, library=tiny_library)
    yield board
    board.close()


def announced(board, caller=OTHER):
    board.send(CALL, caller)
    data, to = board.wait(1e-3)
    assert to == caller
    return Announcement.decode(data)


def test_who_holds_the_board(cabled):
    cabled.rest(7.0)
    assert announced(cabled).holder is None and announced(cabled).idle > 600  # since power-up
    cabled.send(SYNC, ONE)
    assert cabled.wait(1e-3)[1] == ONE
    assert announced(cabled).holder == ONE and announced(cabled).idle == 0
    cabled.write(b"\0" + SYNC)  # on the serial line, which does not hold it
    assert cabled.read(1e-3) == b""
    cabled.break_line()
    cabled.write(b"\0" + SYNC)
    assert cabled.read(1e-3).endswith(b"\0")
    assert announced(cabled).holder is None and announced(cabled).idle == 0
    cabled.send(SYNC[:-1], ONE)
    cabled.power_cycle()
    assert announced(cabled).holder is None and announced(cabled).idle > 600


def test_how_long_the_holder_has_been_silent(cabled):
    """In cycles of the gateware, and in time that passes without them."""
    cabled.send(SYNC, ONE)
    cabled.wait(1e-3)
    cabled.step(1 << IDLE_SHIFT)
    assert announced(cabled).idle * TINY.clock_hz == 1 << IDLE_SHIFT
    cabled.rest(3.0)
    assert announced(cabled).idle == pytest.approx(3.01, abs=0.02)
    cabled.send(SYNC, OTHER)
    cabled.wait(1e-3)
    assert announced(cabled, ONE).idle == 0


def test_a_cable_takes_its_time(cabled):
    """A datagram of n bytes takes (n + 66) * 8 cycles at 100 MHz, each way."""
    def cycles():
        before = cabled.cycles
        cabled.send(SYNC, ONE)
        data, _ = cabled.wait(1.0)
        return cabled.cycles - before, len(data)

    at_once, _ = cycles()
    cabled.set_cable()
    took, back = cycles()
    cable = 8 * (len(SYNC) + 66 + back + 66)
    assert at_once < 300 and cable <= took <= cable + at_once


def test_datagrams_one_behind_the_other(cabled):
    cabled.set_cable()
    big = Request(Write(Space.WEIGHT, 0, words(range(1, 301))))
    sent = SYNC, big.encode(8), big.encode(9)
    for data in sent:
        cabled.send(data, ONE)
    began, splitter, frames = cabled.cycles, Splitter(), 0
    while frames < 3:
        frames += len([*splitter.feed(cabled.wait(1.0)[0])])
    bytes_sent = sum(map(len, sent)) + 66 * 3
    assert 8 * bytes_sent < cabled.cycles - began < 8 * (bytes_sent + 500)


def test_the_driver(cabled, case):
    image, inputs, logits = case
    network = LocalNetwork(cabled)
    with Accelerator(SimUdpTransport(network), TINY) as board:
        board.load(image)
        assert (board.infer(inputs).logits == logits).all()
        assert set(dict(board.trace(inputs[0]))) == set(image.maps)
        assert board.statistics.recoveries == 0
        assert network.payload[0] == board.statistics.bytes_sent + len(CALL) - 1
        cabled.power_cycle()
        assert (board.infer(inputs).logits == logits).all()
        cabled.break_line()
        with pytest.raises(BoardError, match="the serial line has taken the board"):
            board.infer(inputs)
        cabled.rest(6.0)
        assert (board.infer(inputs).logits == logits).all()


def test_its_address(cabled):
    cabled.write(b"\0" + Request(sync=True, read=Read(Space.REGISTER, Register.IP, 1)).encode(1))
    reply = cabled.read(1e-3)
    assert FIRST_IP.to_bytes(4, "little") in reply
