"""The same driver tests on the simulated board, on recordings of it, and on a live board.

    pytest tests/test_board.py                                  # simulated and recorded
    pytest -m board --port /dev/ttyUSB1 tests/test_board.py     # live; or --board arty_a7
    pytest tests/test_board.py --record                         # record tests/recordings/ anew
"""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from hw import registers
from hw.config import PRESETS
from hw.registers import PROTOCOL, Space
from sw.board.driver import Accelerator
from sw.board.protocol import Request, Write
from sw.errors import SpikeTicketError
from sw.replay import RecordingTransport, ReplayTransport

from .tiny_board import TINY, random_cases

RECORDINGS = Path(__file__).with_name("recordings")
KINDS = ["simulated", "recorded", pytest.param("live", marks=pytest.mark.board)]


@pytest.fixture(params=KINDS)
def board(request):
    """An accelerator of each kind; the calls of a test are its recording."""
    options = request.config.option
    recording = RECORDINGS / f"{request.function.__name__.removeprefix('test_')}.jsonl"
    if request.param == "live":
        if options.port is None and "board" not in options.markexpr:
            pytest.skip("live board: give -m board and --port or --board")
        made = Accelerator.open(options.port or options.board, manifest=options.manifest)
    elif request.param == "recorded":
        if options.record:
            pytest.skip("recording anew")
        made = Accelerator(ReplayTransport(recording), TINY)
    else:
        sim_board = pytest.importorskip("sim.board")
        transport = sim_board.SimTransport(TINY, library=sim_board.build(TINY, progress=False))
        if options.record:
            RECORDINGS.mkdir(exist_ok=True)
            transport = RecordingTransport(transport, recording, TINY)
        made = Accelerator(transport, TINY)
    with made as connected:
        yield connected
        if request.param == "recorded":
            assert connected.transport.finished, "the recording goes on"


def case(board, number):
    """A small random network of this board: (network, image, three inputs, reference)."""
    [found] = random_cases(1000 + number, 1, 3, config=board.config, max_size=6, max_channels=4,
                           max_layers=3)
    return found


def test_the_board_says_what_it_is(board):
    found = board.identify()
    assert (found.protocol, found.id) == (PROTOCOL, registers.identity(board.config))
    assert found.clock_hz == board.config.clock_hz
    assert found.preset and found.build


def test_inference(board):
    for number in range(2):
        network, _, inputs, expected = case(board, number)
        board.load(network)
        result = board.infer(inputs, counters=True)
        assert (result.logits == expected.logits).all()
        assert (result.labels == expected.labels).all()
        assert (result.counters[:, :, 0].sum(axis=1) <= result.cycles).all()
        assert board.verify()


def test_counters_by_layer(board):
    network, image, inputs, _ = case(board, 2)
    board.load(image)
    result = board.infer(inputs, counters=True)
    found = board.counters()
    assert next(iter(found)) == image.layers[0].name and len(found) == len(image.layers)
    for values, row in zip(found.values(), result.counters[-1], strict=True):
        assert [getattr(values, name) for name in registers.COUNTERS] == row.tolist()
    assert {values.name for values in found.values()} <= {layer.name for layer in network.layers}
    assert sum(values.cycles for values in found.values()) <= result.cycles[-1]


def test_every_spike(board):
    _, image, inputs, expected = case(board, 3)
    board.load(image)
    seen = dict(board.trace(inputs[0]))
    assert set(seen) == set(image.maps)
    for name, spikes in seen.items():
        want = expected.spikes[name][:, 0, :, :spikes.shape[2], :spikes.shape[3]]
        assert (spikes == want).all(), name
    [(name, spikes)] = board.trace(inputs[1], layer="input")
    assert name == "input"
    assert (spikes == expected.spikes[name][:, 1, :, :spikes.shape[2], :spikes.shape[3]]).all()


def test_damaged_memory_is_found_and_put_right(board):
    _, image, inputs, expected = case(board, 4)
    board.load(image)
    pair = next(n for n, words in enumerate(image.weights) if len(words))
    address = pair * board.config.weight_words
    board._session.ask(Request(Write(Space.WEIGHT, address, image.weights[pair][:1] ^ 1)))
    assert not board.verify()
    board.load(image)
    assert board.verify()
    assert (board.infer(inputs).logits == expected.logits).all()


def test_misuse_is_explained(board):
    _, image, inputs, expected = case(board, 5)
    with pytest.raises(SpikeTicketError, match="no network is loaded"):
        board.infer(inputs)
    other = dataclasses.replace(image, config=PRESETS["large"])
    with pytest.raises(SpikeTicketError, match="compiled for another core"):
        board.load(other)
    board.load(image)
    with pytest.raises(SpikeTicketError, match="input is int64"):
        board.infer(inputs.astype(np.int64))
    with pytest.raises(SpikeTicketError, match="no map 'nothing'"):
        next(board.trace(inputs[0], layer="nothing"))
    assert (board.infer(inputs).logits == expected.logits).all()
