"""The driver on the simulated board (real gateware, link included), quiet and disturbed."""

import os
import pty
import time

import numpy as np
import pytest

from hw import registers
from hw.config import PRESETS
from hw.registers import Space
from sim.board import SimTransport
from sw.board.driver import Accelerator
from sw.board.jobs import cycle_limit, load_words
from sw.board.opening import open_transport
from sw.board.protocol import Request, Run, Write, words
from sw.board.transport import SerialTransport
from sw.compile.compiler import compile_network
from sw.errors import BoardSilent, SpikeTicketError, WrongBoard
from sw.integer import reference
from sw.integer.network import InputSpec, Layer, Network, Synapses

from .faulty import FaultyTransport
from .tiny_board import TINY, random_cases


@pytest.fixture(scope="module")
def cases():
    """Random networks that fit, with images, inputs and what the reference says of them.

    This seed's take frames of half a kilobyte at most: longer ones hardly ever come through a line
    that disturbs every 250th byte.
    """
    return random_cases(67, 10, 3)


def is_right(result, expected):
    return (result.logits == expected.logits).all() and (result.labels == expected.labels).all()


@pytest.mark.parametrize("number", range(10))
def test_networks_through_the_link(transport, cases, number):
    _, image, inputs, expected = cases[number]
    with Accelerator(transport, TINY) as board:
        board.load(image)
        result = board.infer(inputs, counters=True)
        assert is_right(result, expected)
        summed = result.counters[:, :, 0].sum(axis=1)
        assert (summed <= result.cycles).all()
        assert (result.cycles - summed <= 20 * len(image.layers) + 20).all()
        for index, array in enumerate(inputs):
            seen = set()
            for name, spikes in board.trace(array):
                want = expected.spikes[name][:, index, :, :spikes.shape[2], :spikes.shape[3]]
                assert (spikes == want).all(), name
                seen.add(name)
            assert seen == set(image.maps)
        assert is_right(board.infer(inputs), expected)
        assert board.verify()
        assert board.statistics.recoveries == 0


def test_networks_replace_each_other(transport, cases):
    with Accelerator(transport, registers.manifest(TINY)) as board:
        for _, image, inputs, expected in cases[:4]:
            board.load(image)
            assert is_right(board.infer(inputs), expected)


def test_read_map_after_inference(transport, cases):
    network, _, inputs, expected = next(case for case in cases if len(case[0].layers) > 2)
    image = compile_network(network, TINY, keep_all=True)
    with Accelerator(transport, TINY) as board:
        board.load(image)
        board.infer(inputs[:1])
        for layer in network.layers[:-1]:
            spikes = board.read_map(layer.name)
            want = expected.spikes[layer.name][:, 0, :, :spikes.shape[2], :spikes.shape[3]]
            assert (spikes == want).all()
        with pytest.raises(SpikeTicketError, match="no map 'nothing'"):
            board.read_map("nothing")


def test_identity_is_checked(transport):
    with pytest.raises(WrongBoard, match="identity"):
        Accelerator(transport, PRESETS["a35tw"]).__enter__()
    with pytest.raises(SpikeTicketError, match="not a SpikeTicket manifest"):
        Accelerator(transport, {"format": "other"})


def test_identify(transport):
    with Accelerator(transport, TINY) as board:
        found = board.identify()
        assert (found.protocol, found.id) == (registers.PROTOCOL, registers.identity(TINY))
        assert (found.clock_hz, found.bad_frames, found.overruns) == (TINY.clock_hz, 0, 0)


def test_misuse_is_explained_and_leaves_the_board_usable(transport, cases):
    _, image, inputs, expected = cases[0]
    other = compile_network(cases[0][0], PRESETS["a35tw"])
    with Accelerator(transport, TINY) as board:
        with pytest.raises(SpikeTicketError, match="no network is loaded"):
            board.infer(inputs)
        with pytest.raises(SpikeTicketError, match="compiled for another core"):
            board.load(other)
        board.load(image)
        with pytest.raises(SpikeTicketError, match="input is int64"):
            board.infer(inputs.astype(np.int64))
        with pytest.raises(SpikeTicketError, match="input is uint8"):
            board.infer(inputs[:, :1, :1])
        assert len(board.infer(inputs[:0]).logits) == 0
        assert is_right(board.infer(inputs), expected)


def test_a_run_that_takes_too_long_is_an_error(transport, cases):
    _, image, inputs, expected = max(cases, key=lambda case: case[1].surviving)
    with Accelerator(transport, TINY) as board:
        board.load(image)
        limit, vars(board._held)["limit"] = board._held.limit, 10
        with pytest.raises(SpikeTicketError, match="cycle limit"):
            board.infer(inputs)
        vars(board._held)["limit"] = limit
        assert is_right(board.infer(inputs), expected)


def test_a_limit_above_32_bits_is_the_most_there_is(transport, cases):
    """A network that fits runs, however far its worst case is from what a request can say."""
    rng = np.random.default_rng(0)
    big = Network(InputSpec(1, 64, 64, 8), 16, (Layer(
        "out", (Synapses(rng.integers(1, 3, (20, 1, 5, 5)).astype(np.int8), padding=2),),
        np.zeros(20, np.int64), np.zeros(20, np.int64), None),), "big")
    assert cycle_limit(compile_network(big, PRESETS["a35tf"])) == 2**32 - 1
    _, image, inputs, expected = cases[0]
    with Accelerator(transport, TINY) as board:
        board.load(image)
        vars(board._held)["limit"] = 2**32 - 1
        assert is_right(board.infer(inputs), expected)


def test_damaged_memory_is_found(transport, cases):
    _, image, _, _ = max(cases, key=lambda case: case[1].surviving)
    with Accelerator(transport, TINY) as board:
        board.load(image)
        assert board.verify()
        board._session.ask(Request(Write(Space.WEIGHT, 0, image.weights[0][:1] ^ 1)))
        assert not board.verify()


def test_the_link_carries_mostly_payload(transport, cases):
    _, image, _, _ = max(cases, key=lambda case: load_words(case[1]))
    with Accelerator(transport, TINY) as board:
        start = board.statistics.bytes_sent
        data = np.arange(2000, dtype=np.uint32)[:TINY.weight_words]
        jobs = [[Request(Write(Space.WEIGHT, at, data[at:at + 240]))]
                for at in range(0, len(data), 240)]
        board._session.exchange(jobs)
        assert 4 * len(data) / (board.statistics.bytes_sent - start) > 0.9
        assert board.load(image) < 4 * load_words(image) / 0.8 + 200


@pytest.mark.parametrize(("rate", "seed"), [(1e-4, 1), (1e-3, 2), (1e-3, 3), (4e-3, 4)])
def test_disturbed_line_never_gives_a_wrong_result(transport, cases, rate, seed):
    line = FaultyTransport(transport, rate, seed)
    runs = 0
    with Accelerator(line, TINY) as board:
        for _, image, inputs, expected in cases:
            for _ in range(3):
                board.load(image)
                assert is_right(board.infer(inputs), expected)
                runs += len(inputs)
        if rate >= 1e-3:
            assert line.faults > 20 and board.statistics.recoveries > 5


def test_silent_board_is_an_error_within_seconds(transport, cases):
    _, image, inputs, expected = cases[0]
    line = FaultyTransport(transport)
    with Accelerator(line, TINY) as board:
        board.load(image)
        line.mute = True
        start = time.monotonic()
        with pytest.raises(BoardSilent, match="no answer; check cable"):
            board.infer(inputs)
        assert time.monotonic() - start < 20
        line.mute = False
        assert is_right(board.infer(inputs), expected)


@pytest.mark.parametrize("after", [1, 2, 3, 5])
def test_power_cut_in_the_middle(transport, cases, after):
    """The board loses everything; the driver notices, loads again and gives right results."""
    network, image, inputs, expected = max(cases, key=lambda case: case[1].surviving)
    line = FaultyTransport(transport)
    with Accelerator(line, TINY) as board:
        board.load(image)
        line.events[line.writes + after] = transport.power_cycle
        assert is_right(board.infer(inputs.repeat(3, axis=0)),
                        reference.run(network, inputs.repeat(3, axis=0)))
        assert board.statistics.recoveries >= 1
        line.events[line.writes + after] = transport.power_cycle
        board.load(image)
        assert is_right(board.infer(inputs), expected)


def test_power_cut_while_maps_are_read(transport, cases):
    _, image, inputs, expected = max(cases, key=lambda case: len(case[1].layers))
    line = FaultyTransport(transport)
    with Accelerator(line, TINY) as board:
        board.load(image)
        line.events[line.writes + 4] = transport.power_cycle
        with pytest.raises(SpikeTicketError, match="lost its maps"):
            for _ in board.trace(inputs[0]):
                pass
        assert is_right(board.infer(inputs), expected)


def test_other_programs_bytes_do_no_harm(transport, cases):
    _, image, inputs, expected = cases[1]
    with Accelerator(transport, TINY) as board:
        board.load(image)
        rng = np.random.default_rng(0)
        for size in (1, 40, 700, 5000):
            transport.write(rng.bytes(size))
            assert is_right(board.infer(inputs), expected)


def test_host_killed_in_the_middle_of_a_frame(transport, cases):
    _, image, inputs, expected = cases[2]
    # A run nobody waits for and half a frame; then another host comes.
    transport.write(Request(run=Run(max_cycles=5000), sync=True).encode(2))
    transport.write(Request(Write(Space.MAP, 0, words(range(1, 100)))).encode(3)[:100])
    transport.step(500)
    with Accelerator(transport, TINY) as board:
        board.load(image)
        assert is_right(board.infer(inputs), expected)


def test_interrupted_exchange_leaves_the_session_usable(transport, cases):
    _, image, inputs, expected = cases[3]
    with Accelerator(transport, TINY) as board:
        board.load(image)

        def interrupt(_):
            raise KeyboardInterrupt
        with pytest.raises(KeyboardInterrupt):
            board.infer(inputs, progress=interrupt)
        assert is_right(board.infer(inputs), expected)


def test_serial_port(served, cases):
    _, image, inputs, expected = cases[0]
    serial_port = SerialTransport(served.port)
    with Accelerator(serial_port, TINY) as board:
        board.load(image)
        assert is_right(board.infer(inputs), expected)
        assert serial_port.read(0.01) == b""


def test_port_that_is_not_there_or_vanishes():
    with pytest.raises(BoardSilent, match="/dev/nothing: cannot be opened"):
        SerialTransport("/dev/nothing")
    with pytest.raises(SpikeTicketError, match="needs its port"):
        open_transport("arty_a7")
    far, near = pty.openpty()
    port = SerialTransport(os.ttyname(near))
    os.close(far)
    os.close(near)
    with pytest.raises(SpikeTicketError, match="the board is gone"):
        for _ in range(3):
            port.write(b"x")
            port.read(0.01)
    port.close()


def test_paced_line(tiny_library, cases):
    """At a baud rate, line or core sets the pace: what comes before and after is overlapped."""
    _, image, inputs, expected = cases[0]
    baud = 12_000_000
    transport = SimTransport(TINY, library=tiny_library, baud=baud)
    with Accelerator(transport, TINY) as board:
        board.load(image)
        assert is_right(board.infer(inputs), expected)
        start = transport.cycles
        result = board.infer(inputs.repeat(10, axis=0))
        line = max(result.request_bytes, result.reply_bytes) * 10 * TINY.clock_hz / baud
        per_image = (transport.cycles - start) / (10 * len(inputs))
        slowest = max(line, result.cycles.mean())
        assert slowest <= per_image <= 1.1 * slowest + 100


def test_counters_of_a_program_longer_than_their_memory(transport):
    """The board keeps the counters of 32 layers; nothing is taken for those of the 33rd."""
    one = np.ones((1, 1, 1, 1), np.int8)
    none, four = np.zeros(1, np.int64), np.full(1, 4, np.int64)
    layers = [Layer(f"n{i}", (Synapses(one, ("input" if i == 0 else f"n{i - 1}",)),), none, four)
              for i in range(registers.COUNTER_LAYERS + 2)]
    readout = Layer("out", (Synapses(one, (layers[-1].name,)),), none, none, neuron=None)
    network = Network(InputSpec(1, 2, 2), 2, (*layers, readout), "long")
    image = compile_network(network, TINY)
    inputs = np.full((2, 1, 2, 2), 200, np.uint8)
    with Accelerator(transport, TINY) as board:
        board.load(image)
        result = board.infer(inputs, counters=True)
        found = board.counters()
    assert np.array_equal(result.logits, reference.run(network, inputs).logits)
    assert result.counters.shape[:2] == (2, registers.COUNTER_LAYERS)
    assert list(found) == [f"n{i}" for i in range(registers.COUNTER_LAYERS)]
    assert [each.cycles for each in found.values()] == result.counters[-1, :, 0].tolist()
    assert result.counters[-1, :, 0].sum() < result.cycles[-1]
