"""The host in C (examples/c_host) against the simulated board and the reference."""

import shutil
import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest

from hw.config import PRESETS
from hw.registers import Space
from sim.samples.networks import random_input, random_network
from sim.samples.spikeformers import random_spikeformer
from sim.serve import Board
from sw import flat_image
from sw.board.protocol import Read, Request
from sw.cli.app import main
from sw.compile.compiler import DoesNotFit, compile_network
from sw.errors import SpikeTicketError
from sw.integer import reference

SOURCE = Path(__file__).parents[1] / "examples" / "c_host" / "spiketicket.c"
TINY = PRESETS["tiny"]

pytestmark = pytest.mark.skipif(not shutil.which("gcc"), reason="gcc is not installed")


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """The program, compiled with every warning and with checks of memory and arithmetic."""
    program = tmp_path_factory.mktemp("c_host") / "spiketicket"
    checks = ["-Wall", "-Wextra", "-Wconversion", "-Werror", "-fsanitize=address,undefined",
              "-fno-sanitize-recover=all"]
    subprocess.run(["gcc", "-std=c11", "-D_DEFAULT_SOURCE", "-O1", *checks, "-o", program, SOURCE],
                   check=True)
    return program


@pytest.fixture(scope="module")
def board(tiny_library):
    with Board(TINY, library=tiny_library, udp=0) as board:
        yield board


def networks():
    """Random networks that fit, static inputs and event frames, few and many timesteps."""
    rng = np.random.default_rng(3)
    found: dict[tuple, tuple] = {}
    while len(found) < 4:
        network = random_network(rng)
        kind = network.input.static, network.timesteps > 4
        if kind in found:
            continue
        try:
            image = compile_network(network, TINY)
        except DoesNotFit:
            continue
        found[kind] = network, image, np.stack([random_input(rng, network) for _ in range(3)])
    return list(found.values())


def run(host, board, folder, image, inputs, logits, network=False):
    out = folder / "net.txt"
    flat_image.write(image, out)
    flat_image.write_inputs(inputs, logits, out)
    port = board.address if network else board.port
    return subprocess.run([host, port, out, f"{out}.inputs"], capture_output=True, text=True,
                          timeout=120)


@pytest.mark.parametrize("network, image, inputs", networks(), ids=lambda value: getattr(
    value, "name", ""))
def test_logits_are_the_references(host, board, tmp_path, network, image, inputs):
    logits = reference.run(network, inputs).logits
    done = run(host, board, tmp_path, image, inputs, logits)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (tmp_path / "net.txt.logits").read_text()
    assert done.stderr.count("cycles") == len(inputs)


def test_over_the_network(host, tiny_library, tmp_path):
    network, image, inputs = networks()[0]
    logits = reference.run(network, inputs).logits
    with Board(TINY, library=tiny_library, udp=0) as board:
        for _ in range(2):  # one host after the other
            done = run(host, board, tmp_path, image, inputs, logits, network=True)
            assert done.returncode == 0, done.stderr
            assert done.stdout == (tmp_path / "net.txt.logits").read_text()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as thief:
            thief.connect(("127.0.0.1", int(board.address.rpartition(":")[2])))
            thief.settimeout(20)
            sync = Request(sync=True, read=Read(Space.REGISTER, 0, 1))
            # More inputs than are done before it comes.
            many = np.concatenate([inputs] * 400)
            flat_image.write(image, tmp_path / "net.txt")
            flat_image.write_inputs(many, np.concatenate([logits] * 400), tmp_path / "net.txt")
            with subprocess.Popen([host, board.address, tmp_path / "net.txt",
                                   tmp_path / "net.txt.inputs"], stdout=subprocess.DEVNULL,
                                  stderr=subprocess.PIPE, text=True) as running:
                running.stderr.readline()  # the first input is done
                thief.send(sync.encode(7))
                assert thief.recv(2048)
                said = running.communicate(timeout=60)[1]
            assert running.returncode == 1
            assert "another host holds the board: 127.0.0.1; end it" in said
    done = run(host, board, tmp_path, image, inputs, logits, network=True)
    assert done.returncode == 1 and "the board is gone (Connection refused)" in done.stderr


def test_a_line_with_rubbish_on_it(host, board, tmp_path):
    network, image, inputs = networks()[0]
    with open(board.port, "wb", buffering=0) as port:
        port.write(b"half a frame of another program")
    done = run(host, board, tmp_path, image, inputs, reference.run(network, inputs).logits)
    assert done.stdout == (tmp_path / "net.txt.logits").read_text(), done.stderr


def test_what_is_wrong_is_said(host, board, tmp_path):
    network, image, inputs = networks()[0]
    out = tmp_path / "net.txt"
    logits = reference.run(network, inputs).logits
    assert run(host, board, tmp_path, image, inputs[:0], logits).returncode == 0
    text = flat_image.to_text(image)

    def said(content=text, port=board.port, given=b"x"):
        out.write_text(content)
        (tmp_path / "in").write_bytes(given)
        done = subprocess.run([host, port, out, tmp_path / "in"], capture_output=True, text=True,
                              timeout=60)
        assert done.returncode == 1
        return done.stderr

    assert "ends within an input" in said()
    assert "damaged" in said(text.replace("layouts", "layouty"))
    assert "no network to be read" in said("")
    assert "cannot be opened as a serial port" in said(port=str(tmp_path / "none"))
    assert "cannot be opened as a serial port" in said(port="/dev/null")
    other = compile_network(network, PRESETS["a35tw"])
    assert "the network is for" in said(flat_image.to_text(other))


def test_no_board(host, tmp_path):
    """A port where nothing answers."""
    import os
    import pty
    network, image, inputs = networks()[0]
    ours, theirs = pty.openpty()
    try:
        class Silent:
            port = os.ttyname(theirs)
        logits = reference.run(network, inputs).logits
        done = run(host, Silent, tmp_path, image, inputs, logits)
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 1 and "no answer" in done.stderr


def test_gates_that_hosts_choose_are_refused():
    rng = np.random.default_rng(4)
    for _ in range(200):
        network = random_spikeformer(rng)
        if any(gate.mode == "host" for gate in network.gates.values()):
            try:
                image = compile_network(network, TINY)
            except DoesNotFit:
                continue
            with pytest.raises(SpikeTicketError, match="host that chooses patches"):
                flat_image.to_text(image)
            return
    pytest.fail("no such network drawn")


def test_command(tmp_path, capsys):
    out = tmp_path / "scnn.txt"
    assert main(["export", "flat", "fmnist-scnn", "--out", str(out), "--inputs", "2"]) == 0
    assert "fmnist" in capsys.readouterr().out
    assert len((tmp_path / "scnn.txt.inputs").read_bytes()) == 2 * 28 * 28
    assert len((tmp_path / "scnn.txt.logits").read_text().splitlines()) == 2
    assert main(["export", "flat", "fmnist-scnn", "--out", "/proc/none/x"]) == 2
    assert main(["export", "flat", "fmnist-scnn", "--out", str(out), "--inputs", "-1"]) == 2
