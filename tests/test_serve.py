"""The simulated board behind a pseudo-terminal, reached as a live board is: by pyserial."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from sim.serve import Board
from sw.board import board_clock, udp
from sw.board.driver import Accelerator
from sw.board.transport import SerialTransport
from sw.cli.app import main
from sw.errors import BoardError, SpikeTicketError

from .tiny_board import TINY, random_case


@pytest.fixture(scope="module")
def case():
    """A network that fits, inputs, and the reference's logits of them."""
    return random_case(5, 4)


def test_hosts_come_and_go(tiny_library, case, tmp_path):
    image, inputs, logits = case
    link = tmp_path / "board"
    link.symlink_to("/nowhere")  # of a board that ended badly
    with Board(TINY, library=tiny_library, link=link) as board:
        for port in (board.port, str(link)):
            with Accelerator(SerialTransport(port), TINY) as accelerator:
                accelerator.load(image)
                assert (accelerator.infer(inputs).logits == logits).all()
                for _ in range(3):
                    os.write(accelerator.transport._serial.fd, b"left by a host that died" * 50)
    assert not link.is_symlink()
    assert not os.path.exists(board.port)
    board.close()  # again


def test_power_cycle(tiny_library, case):
    image, inputs, logits = case
    with Board(TINY, library=tiny_library) as board, \
            Accelerator(SerialTransport(board.port), TINY) as accelerator:
        accelerator.load(image)
        board.power_cycle()
        assert (accelerator.infer(inputs).logits == logits).all()
        assert accelerator.statistics.recoveries >= 1


def test_nobody_reads(tiny_library):
    """Requests whose replies are not read fill neither memory nor the board for ever."""
    with Board(TINY, library=tiny_library) as board:
        port = os.open(board.port, os.O_RDWR | os.O_NOCTTY)
        junk = b"\x02\x01\x00" * 400  # damaged frames, each of which is answered
        for _ in range(20):
            os.write(port, junk)
        os.close(port)
        with Accelerator(SerialTransport(board.port), TINY) as accelerator:
            assert accelerator.identify().bad_frames > 0


def test_link_over_a_file(tiny_library, tmp_path):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(SpikeTicketError, match="there is a file of that name"):
        Board(TINY, library=tiny_library, link=tmp_path / "file")
    with pytest.raises(SpikeTicketError, match="cannot be made"):
        Board(TINY, library=tiny_library, link=tmp_path / "no" / "folder")
    assert (tmp_path / "file").read_text() == "precious"
    assert main(["sim", "serve", "--preset", "tiny", "--link", str(tmp_path / "file")]) == 2


def test_a_second_board_on_a_link_is_refused(tiny_library, tmp_path, capsys):
    link = tmp_path / "board"
    with Board(TINY, library=tiny_library, link=link) as first:
        with pytest.raises(SpikeTicketError, match="where a board is served already; end that one"):
            Board(TINY, library=tiny_library, link=link)
        assert main(["sim", "serve", "--preset", "tiny", "--link", str(link)]) == 2
        assert "served already" in capsys.readouterr().err
        with Accelerator(SerialTransport(str(link)), TINY) as accelerator:
            accelerator.identify()
        assert os.path.realpath(link) == first.port


@pytest.mark.parametrize("network", [False, True])
@pytest.mark.parametrize("by_the_wall", [False, True])
def test_a_board_that_is_merely_slow_is_waited_for(tiny_library, case, monkeypatch, by_the_wall,
                                                   network):
    """As on a busy computer: seconds of the wall for thousandths of the board's."""
    image, inputs, logits = case
    if by_the_wall:  # what the board's own clock is for
        monkeypatch.setattr(board_clock, "find", lambda port: None)
    with Board(TINY, library=tiny_library, udp=0) as board, \
            Accelerator.open(board.address if network else board.port, manifest=TINY,
                             max_baud=0) as accelerator:
        accelerator.load(image)
        vars(accelerator._held)["limit"] = 100_000
        accelerator._session._slack = 0.2
        quick, slow = board._transport.run, [4]

        def run(timeout):
            slow[0] -= 1
            if slow[0] >= 0:
                time.sleep(0.5)
            return quick(timeout)

        monkeypatch.setattr(board._transport, "run", run)
        assert (accelerator.infer(inputs).logits == logits).all()
        assert (accelerator.statistics.recoveries > 0) == by_the_wall


def test_the_clock_of_a_board(tiny_library, tmp_path):
    with Board(TINY, library=tiny_library, link=tmp_path / "board") as board:
        clock = board_clock.find(str(tmp_path / "board"))
        before = clock.seconds
        end = time.monotonic() + 20
        while clock.seconds <= before:  # it goes on while the board has nothing to do
            assert time.monotonic() < end
            time.sleep(0.01)
        path, port = board_clock._path(board.port), board.port
        assert path.exists()
    assert not path.exists() and board_clock.find(port) is None
    file = tmp_path / "left"
    file.write_bytes(bytes(5000))
    path.symlink_to(file)  # not a board's: no lock, a link
    try:
        assert board_clock.find(port) is None
    finally:
        path.unlink()
    assert board_clock.find("/dev/null") is None and board_clock.find("loop://") is None


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_command(tiny_library, tmp_path, how):
    link = tmp_path / "board"
    running = subprocess.Popen(
        [sys.executable, "-m", "sim.serve", "--preset", "tiny", "--link", str(link), "--json"],
        stdout=subprocess.PIPE, text=True)
    try:
        shown = json.loads(running.stdout.readline())
        assert os.path.realpath(link) == shown["port"]
        with Accelerator(SerialTransport(str(link)), TINY) as accelerator:
            assert f"{accelerator.identify().id:016x}" == shown["identity"]
        running.send_signal(how)
        assert running.wait(10) == 0
    finally:
        running.kill()
        running.wait()
        running.stdout.close()
    assert not link.is_symlink()


def test_the_network(tiny_library, case):
    """One board, two doors; whoever holds it is told to the other."""
    image, inputs, logits = case
    with Board(TINY, library=tiny_library, udp=0) as board:
        with Accelerator.open(board.address) as accelerator:
            assert accelerator.transport.simulated and not accelerator.transport.timed
            accelerator.load(image)
            assert (accelerator.infer(inputs).logits == logits).all()
            assert set(dict(accelerator.trace(inputs[0]))) == set(image.maps)  # long replies
            board.power_cycle()
            assert (accelerator.infer(inputs).logits == logits).all()
            with pytest.raises(BoardError, match=r"127\.0\.0\.1:\d+ holds the board"):
                Accelerator.open(board.address)
            with Accelerator.open(f"{board.address}?take") as other:
                other.identify()
                with pytest.raises(BoardError, match=r"127\.0\.0\.1:\d+ has taken the board"):
                    accelerator.infer(inputs)
            assert (accelerator.infer(inputs).logits == logits).all()  # the other has ended
        with Accelerator.open(board.address, manifest=TINY) as accelerator:
            accelerator.load(image)
            assert (accelerator.infer(inputs).logits == logits).all()


def test_a_holder_that_is_silent_is_replaced(tiny_library):
    """After seconds of the board's own, in which it has nothing to do."""
    with Board(TINY, library=tiny_library, udp=0) as board, \
            Accelerator.open(board.address) as first:
        first.identify()
        until = first.transport.now() + udp.ABANDONED + 0.1
        end = time.monotonic() + 60
        while first.transport.now() < until:
            assert time.monotonic() < end
            time.sleep(0.05)
        with Accelerator.open(board.address) as second:
            second.identify()


def test_a_udp_port_that_cannot_be_had(tiny_library, capsys):
    with Board(TINY, library=tiny_library, udp=0) as board:
        port = board.address.rpartition(":")[2]
        assert main(["sim", "serve", "--preset", "tiny", "--udp", port]) == 2
        assert f"--udp {port}: this port cannot be had (Address already in use)" \
            in capsys.readouterr().err
        assert board_clock.find(board.address) is not None
    assert board_clock.find(board.address) is None
    with pytest.raises(BoardError, match="has no board at that port"):
        Accelerator.open(board.address)
    with pytest.raises(SpikeTicketError, match=r"not within 0\.\.65535"):
        Board(TINY, library=tiny_library, udp=70_000)


def test_command_with_a_network(tiny_library):
    running = subprocess.Popen(
        [sys.executable, "-m", "sim.serve", "--preset", "tiny", "--udp", "0", "--json"],
        stdout=subprocess.PIPE, text=True)
    try:
        shown = json.loads(running.stdout.readline())
        with Accelerator.open(shown["udp"]) as accelerator:
            assert f"{accelerator.identify().id:016x}" == shown["identity"]
    finally:
        running.kill()
        running.wait()
        running.stdout.close()
