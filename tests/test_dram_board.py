"""A board with DRAM, simulated: loading, exactness, and what damaged weights end in."""

from __future__ import annotations

import numpy as np
import pytest

from hw.config import PRESETS, STREAM_BLOCK
from hw.registers import Space
from sim.samples.networks import random_input
from sw import Accelerator
from sw.board.protocol import Read, Request, Run, Write, words
from sw.compile.compiler import compile_network
from sw.compile.listing import read_program
from sw.core import cycles
from sw.errors import SpikeTicketError
from sw.integer import reference
from tests.test_dram import CONFIG, MEMORIES, wide_network


@pytest.fixture(scope="module", params=MEMORIES)
def board(request):
    with Accelerator.open("sim", manifest=MEMORIES[request.param]) as found:
        yield found


@pytest.fixture(scope="module")
def case(board):
    """(network, image, inputs, what the reference makes of them)."""
    rng = np.random.default_rng(4)
    network = wide_network(rng, "wide")
    inputs = np.stack([random_input(rng, network) for _ in range(2)])
    return network, compile_network(network, board.config), inputs, reference.run(network, inputs)


def test_it_says_what_it_has(board):
    found = board.identify()
    assert found.dram_bytes == 4 * CONFIG.dram_words and found.dram_passed is None
    assert found.preset == ("tinyd" if board.config == CONFIG else "")


def check_board(board, image, inputs, expected):
    """A loaded network: every spike, every layer's cycles, and its memories before and after."""
    assert board.verify()
    for n, array in enumerate(inputs):
        found = board.infer(inputs[n:n + 1], counters=True)
        assert (found.logits[0] == expected.logits[n]).all()
        model = cycles.simulate(image, array)
        assert found.counters[0, :, 0].tolist() == [layer.cycles for layer in model.layers]
        assert 0 <= found.cycles[0] - model.total <= 4      # the link's own
    for name, spikes in board.trace(inputs[1]):             # layer by layer: the streams go on
        want = expected.spikes[name][:, 1, :, :spikes.shape[2], :spikes.shape[3]]
        assert (spikes == want).all(), name
    assert board.verify(), "the streams stay off what they do not own"


def test_every_spike_and_cycle(board, case):
    network, image, inputs, expected = case
    assert {layer.streamed for layer in image.layers} == {True, False}
    board.load(network)
    check_board(board, image, inputs, expected)


def test_a_flipped_bit_ends_in_an_error(board, case):
    """Never in a label; and the next load puts it right."""
    _, image, inputs, expected = case
    board.load(image)
    rng = np.random.default_rng(1)
    print("seed 1")
    for engine in range(CONFIG.engines):
        stored = image.streams[engine]
        at = int(rng.integers(len(stored)))
        place = engine * CONFIG.stream_stride + at
        wrong = int(stored[at]) ^ 1 << int(rng.integers(32))
        board._session.ask(Request(Write(Space.DRAM, place, words([wrong])),
                                   read=Read(Space.DRAM, place, 1)))
        assert not board.verify()
        with pytest.raises(SpikeTicketError, match=r"weights in DRAM are damaged.*load the net"):
            board.infer(inputs)
        board.load(image)
        assert (board.infer(inputs).logits == expected.logits).all()


def test_blocks_of_another_place(board, case):
    """Right words at a wrong place are found, too."""
    _, image, inputs, expected = case
    board.load(image)
    place = CONFIG.stream_stride
    one, two = image.streams[1][:STREAM_BLOCK], image.streams[1][STREAM_BLOCK:2 * STREAM_BLOCK]
    board._session.ask(Request(Write(Space.DRAM, place, np.concatenate([two, one]))))
    with pytest.raises(SpikeTicketError, match="damaged"):
        board.infer(inputs)
    board.load(image)
    assert (board.infer(inputs).logits == expected.logits).all()


def test_layers_out_of_turn(board, case):
    """A streamed layer whose weights have gone by, or that nothing streams for, does not run."""
    _, image, inputs, expected = case
    board.load(image)
    codes = read_program(image.program, board.config)
    n = max(n for n, layer in enumerate(image.layers) if layer.streamed)
    run = Request(run=Run(codes[n].address, stop_after=1, max_cycles=100_000))
    with pytest.raises(SpikeTicketError, match="from its first layer"):
        board._session.ask(run)
    assert (board.infer(inputs).logits == expected.logits).all()
    with pytest.raises(SpikeTicketError, match="from its first layer"):
        board._session.ask(run)
    assert (board.infer(inputs).logits == expected.logits).all()


def test_another_network_after_half_a_run(board, case):
    """Blocks that are still to come do not damage what is loaded next."""
    network, image, inputs, expected = case
    board.load(image)
    next(iter(board.trace(inputs[0], layer="conv0")))
    resident = compile_network(network, board.config, stream=True)
    board.load(resident)
    assert board.verify()
    assert (board.infer(inputs).logits == expected.logits).all()
    board.load(image)
    assert (board.infer(inputs).logits == expected.logits).all()


def test_presets():
    assert PRESETS["a35td"].resident_depths == (5120, 5120)
    assert PRESETS["tinyd"].ring_bases == (256, 384, 128)
