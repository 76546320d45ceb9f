"""The driver on UDP: datagrams, who holds the board, networks that do not carry them."""

import errno
import json
import socket
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.registers import CALL, UDP_PORT, Space
from sw.board import udp, udp_socket
from sw.board.announcement import Announcement
from sw.board.driver import Accelerator
from sw.board.protocol import Request, Write, encode_frame, words
from sw.board.udp import FRAMES, MOST_BYTES, UdpTransport
from sw.board.udp_socket import Place
from sw.cli.app import main
from sw.errors import BadInput, BoardError, BoardSilent, WrongBoard
from sw.pool import Pool
from sw.replay import RecordingTransport, ReplayTransport

from .tiny_board import TINY, random_case
from .udp_board import FakeBoard, announcement

OTHERS = Request(Write(Space.WEIGHT, 0, words([1, 2, 3])), sync=True).encode(9)
"""A request of another host."""


@pytest.fixture(scope="module")
def case():
    return random_case(5, 4)


@pytest.fixture
def fake(transport):
    with FakeBoard(transport) as board:
        yield board


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(udp, "CALL_SECONDS", 0.02)


class Taken:
    """A wire that remembers what was sent; `says` comes back, in turn."""

    local = ("10.0.0.5", 4000)

    def __init__(self, place=None, says=()):
        self.sent, self.says = [], list(says)

    def send(self, data):
        self.sent.append(bytes(data))

    def receive(self, timeout):
        return self.says.pop(0) if self.says else b""

    def close(self):
        pass


def test_a_ticket_runs(fake, case):
    image, inputs, logits = case
    for _ in range(2):  # at once again: the program that held it has ended
        with Accelerator.open(fake.where) as board:
            assert board.config == TINY and board.trials == []
            board.load(image)
            assert (board.infer(inputs).logits == logits).all()
            assert board.verify()
            one = dict(board.trace(inputs[0]))
            assert set(one) == set(image.maps)
            assert board.statistics.recoveries == 0


def test_reports_of_it(fake, small_files, tmp_path, capsys):
    """Its line is called what it is, and its figures are those of Ethernet."""
    path, data, *_ = small_files
    run = ["run", "--ticket", str(path), "--data", str(data), "--images", "2",
           "--port", fake.where]
    assert main([*run, "--json", "--report", str(tmp_path / "run.html")]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["baud"] is None and [one["baud"] for one in values["link"]] == [None]
    assert values["load_s_link"] == pytest.approx(
        (values["load_bytes"] + 66 * -(-values["load_bytes"] // MOST_BYTES)) / 12.5e6)
    assert "100 Mbit Ethernet" in (tmp_path / "run.html").read_text()
    assert main(run) == 0
    out = capsys.readouterr().out
    assert "at 100 Mbit Ethernet" in out and "Mbaud" not in out


def test_a_recording_of_it(fake, case, tmp_path):
    image, inputs, logits = case
    path = tmp_path / "run.jsonl"
    line = RecordingTransport(UdpTransport(fake.where), path, TINY)
    with Accelerator(line, TINY) as board:
        board.load(image)
        board.infer(inputs)
    replay = ReplayTransport(path)
    assert replay.frames == FRAMES
    with Accelerator(replay, TINY) as board:
        board.load(image)
        assert (board.infer(inputs).logits == logits).all()


def test_a_pool_of_them(tiny_library, case):
    from sim.board import SimTransport
    image, inputs, logits = case
    boards = [SimTransport(TINY, library=tiny_library) for _ in range(2)]
    with FakeBoard(boards[0]) as one, FakeBoard(boards[1]) as two:
        with Pool([one.where, two.where]) as pool:
            pool.load(image)
            assert (pool.infer(inputs).logits == logits).all()
            assert sorted(pool.boards.values()) and sum(pool.boards.values()) == len(inputs)
        with pytest.raises(BoardError, match="holds the board"), Accelerator.open(one.where), \
                Accelerator.open(one.where):
            pass
    for board in boards:
        board.close()


def test_a_board_that_loses_its_power(fake, case):
    image, inputs, logits = case
    with Accelerator.open(fake.where) as board:
        board.load(image)
        fake.reset()
        assert (board.infer(inputs).logits == logits).all()
        assert board.statistics.recoveries


def test_another_host_takes_it(fake, case):
    """The loser is told by whom; it may have the board back when that one is silent."""
    image, inputs, logits = case
    with Accelerator.open(fake.where) as board:
        board.load(image)
        fake.holder, fake.idle = (0x0A000007, 4242), 95
        with pytest.raises(BoardError, match=r"10\.0\.0\.7:4242 has taken the board.*spoke 1\.0 s"):
            board.infer(inputs)
        fake.idle = 95
        with pytest.raises(BoardError, match=r"10\.0\.0\.7:4242 holds the board"):
            board.infer(inputs)
        fake.idle = 500
        with fake.lock:
            fake.board.power_cycle()
            fake.board.write(b"\0" + OTHERS)  # which that host has changed
            assert fake.board.read(1.0)
        assert (board.infer(inputs).logits == logits).all()


@pytest.mark.parametrize("holder, name", [((0x0A000007, 4242), r"10\.0\.0\.7:4242"),
                                          ((0, 0), "the serial line")])
def test_a_board_in_use(fake, holder, name):
    fake.holder, fake.idle = holder, 95
    with pytest.raises(BoardError, match=rf"{name} holds the board.*udp://127\.0\.0\.1.*\?take"):
        Accelerator.open(fake.where)
    assert fake.holder == holder
    with Accelerator.open(fake.where + "?take") as board:
        assert board.identify().preset == "tiny" and fake.holder != holder
    fake.holder, fake.idle = holder, int(udp.ABANDONED * TINY.clock_hz) // (1 << 20) + 1
    with Accelerator.open(fake.where) as board:
        assert board.identify().preset == "tiny"


def test_a_program_of_this_computer(fake):
    here = int.from_bytes(socket.inet_aton("127.0.0.1"), "big")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        fake.holder, fake.idle = (here, other.getsockname()[1]), 0
        with pytest.raises(BoardError, match="holds the board"):
            Accelerator.open(fake.where)
    with Accelerator.open(fake.where) as board:  # it has ended
        board.identify()


def test_no_answer(fake, quick, case):
    """The session says what to check, and goes on when the board is there again."""
    fake.mute = True
    with pytest.raises(BoardSilent, match=r"nothing comes back to 127\.0\.0\.1; check .* firewall"):
        Accelerator.open(fake.where)
    fake.mute = False
    image, inputs, logits = case
    with Accelerator.open(fake.where) as board:
        board.load(image)
        board._session._slack, board._session._limit = 0.02, 0.1
        fake.mute = True
        with pytest.raises(BoardSilent, match=r"no answer.*check cable, power and network"):
            board.infer(inputs)
        fake.mute = False
        assert (board.infer(inputs).logits == logits).all()


def test_another_protocol(fake):
    fake.protocol = 9
    with pytest.raises(WrongBoard, match="speaks protocol 9"):
        Accelerator.open(fake.where)


def test_no_board_there():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(BoardError, match="a computer answers there, and it has no board"):
        Accelerator.open(f"udp://127.0.0.1:{port}")


def test_a_name_nobody_has():
    with pytest.raises(BoardSilent, match="no IPv4 address of that name"):
        Accelerator.open("udp://no board.invalid")


@pytest.mark.parametrize("where", [
    "udp:", "udp://", "udp://h:0", "udp://h:99999", "udp://h:x", "udp://h/path", "udp://h?steal",
    "udp://u@h", "udp://[::1]", "udp://h#x"])
def test_what_is_no_place(where):
    with pytest.raises(BadInput, match=r"not a board on the network; write udp://192\.168\.1\.50"):
        Accelerator.open(where)


def test_places():
    assert Place.read("udp://h") == Place("h", UDP_PORT) and Place("h").name == "udp://h"
    assert Place.read("udp://h:5?take") == Place("h", 5, True) and Place("h", 5).name == "udp://h:5"


@pytest.mark.parametrize("number, remedy", [
    (errno.ENETUNREACH, "an interface of this computer has an address"),
    (errno.EHOSTUNREACH, "nothing has that address"), (errno.EPERM, "firewall"),
    (errno.EIO, "check the cable")])
def test_networks_that_fail(fake, case, monkeypatch, number, remedy):
    """At the beginning, and in the middle (a cable is pulled); the next call works."""
    image, inputs, logits = case

    def fail(*_):
        raise OSError(number, "as the system says")

    class Broken(socket.socket):
        connect = fail

    with Accelerator.open(fake.where) as board:
        board.load(image)
        board.transport._wire._socket.close()
        board.transport._wire._socket = type("Socket", (), {"send": fail, "close": lambda _: 0})()
        with pytest.raises(BoardError, match=f"as the system says.*{remedy}"):
            board.infer(inputs)
        assert (board.infer(inputs).logits == logits).all()
    monkeypatch.setattr(udp_socket.socket, "socket", Broken)
    with pytest.raises(BoardSilent, match=f"cannot be reached .as the system says.; .*{remedy}"):
        Accelerator.open(fake.where)


@given(st.lists(st.integers(0, FRAMES.load), max_size=6), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_frames_are_never_cut(sizes, seed):
    rng = np.random.default_rng(seed)
    frames = [encode_frame(rng.integers(1, 1 << 32, 6 + size, np.uint32)) for size in sizes]
    wires = []

    def make(place):
        wires.append(Taken(says=[announcement()]))
        return wires[-1]

    line = UdpTransport("udp://127.0.0.1", wire=make)
    line.write(b"\0" + b"\0\0".join(frames) if frames else b"")
    if not frames:
        assert not wires
        return
    assert wires[0].sent == [CALL]
    sent = wires[1].sent
    assert b"".join(sent) == b"".join(frames) and all(len(one) <= MOST_BYTES for one in sent)
    assert all(one.endswith(b"\0") for one in sent)
    for one, two in pairwise(sent):  # none would have taken the next frame too
        assert len(one) + two.index(b"\0") + 1 > MOST_BYTES


def test_the_longest_frames_just_fit():
    worst = np.full(6 + FRAMES.load, 0x01010101, np.uint32)
    assert len(encode_frame(worst)) == 1471 <= MOST_BYTES
    line = UdpTransport("udp://127.0.0.1", wire=Taken)
    with pytest.raises(BadInput, match="a frame of 2058 bytes is more than the 1472 of a datagram"):
        line.write(encode_frame(np.full(511, 0x01010101, np.uint32)))


@given(st.binary(max_size=60))
def test_what_is_no_announcement(data):
    assert Announcement.decode(data) is None


def test_what_an_announcement_says():
    found = Announcement.decode(announcement((0x7F000001, 5), 3, identity=9, clock_hz=1 << 20))
    assert (found.holder, found.idle, found.identity) == ((0x7F000001, 5), 3.0, 9)
    assert found.holder_name == "127.0.0.1:5"
    assert Announcement.decode(announcement((0, 77))).holder_name == "the serial line"
    assert Announcement.decode(announcement() + b"x") is None
