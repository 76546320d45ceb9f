"""The simulated board behind a pseudo-terminal, reached as a live board is: by pyserial."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from hw.config import PRESETS
from sim.serve import Board, main
from sw.board.driver import Accelerator
from sw.board.transport import SerialTransport
from sw.compile.compiler import DoesNotFit, compile_network
from sw.errors import SpikeTicketError
from sw.integer import reference

from .random_networks import random_input, random_network

TINY = PRESETS["tiny"]


@pytest.fixture(scope="module")
def case():
    """A network that fits, inputs, and the reference's logits of them."""
    rng = np.random.default_rng(5)
    while True:
        network = random_network(rng)
        try:
            image = compile_network(network, TINY)
        except DoesNotFit:
            continue
        inputs = np.stack([random_input(rng, network) for _ in range(4)])
        return image, inputs, reference.run(network, inputs).logits


def test_hosts_come_and_go(library, case, tmp_path):
    image, inputs, logits = case
    link = tmp_path / "board"
    link.symlink_to("/nowhere")  # of a board that ended badly
    with Board(TINY, library=library, link=link) as board:
        for port in (board.port, str(link)):
            with Accelerator(SerialTransport(port), TINY) as accelerator:
                accelerator.load(image)
                assert (accelerator.infer(inputs).logits == logits).all()
                for _ in range(3):
                    os.write(accelerator.transport._serial.fd, b"left by a host that died" * 50)
    assert not link.is_symlink()
    assert not os.path.exists(board.port)
    board.close()  # again


def test_power_cycle(library, case):
    image, inputs, logits = case
    with Board(TINY, library=library) as board, \
            Accelerator(SerialTransport(board.port), TINY) as accelerator:
        accelerator.load(image)
        board.power_cycle()
        assert (accelerator.infer(inputs).logits == logits).all()
        assert accelerator.statistics.recoveries >= 1


def test_nobody_reads(library):
    """Requests whose replies are not read fill neither memory nor the board for ever."""
    with Board(TINY, library=library) as board:
        port = os.open(board.port, os.O_RDWR | os.O_NOCTTY)
        junk = b"\x02\x01\x00" * 400  # damaged frames, each of which is answered
        for _ in range(20):
            os.write(port, junk)
        os.close(port)
        with Accelerator(SerialTransport(board.port), TINY) as accelerator:
            assert accelerator.identify().bad_frames > 0


def test_link_over_a_file(library, tmp_path):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(SpikeTicketError, match="there is a file of that name"):
        Board(TINY, library=library, link=tmp_path / "file")
    with pytest.raises(SpikeTicketError, match="cannot be made"):
        Board(TINY, library=library, link=tmp_path / "no" / "folder")
    assert (tmp_path / "file").read_text() == "precious"
    assert main(["--preset", "tiny", "--link", str(tmp_path / "file")]) == 2


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_command(library, tmp_path, how):
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
