"""One accelerator, several threads: what a call returns is right, or the call says why not."""

import gc
import random
import threading
import time
import warnings
import weakref

import numpy as np
import pytest

from sim.serve import Board
from sw.board.driver import Accelerator
from sw.board.transport import SerialTransport
from sw.compile.compiler import compile_network
from sw.errors import SpikeTicketError
from sw.integer import reference
from sw.integer.network import InputSpec, Layer, Network, Neuron, Synapses

from .faulty import FaultyTransport
from .tiny_board import TINY

SECONDS = 6


@pytest.fixture(scope="module")
def cases():
    """Two networks that take each other's inputs: (image, inputs, logits, maps of each input)."""
    found = []
    for seed in (1, 2):
        draw = np.random.default_rng(seed)
        layers = (
            Layer("hidden", (Synapses(draw.integers(-7, 8, (3, 1, 3, 3)).astype(np.int8),
                                      padding=1),),
                  np.zeros(3, np.int64), np.full(3, 20), Neuron(128)),
            Layer("logits", (Synapses(draw.integers(-7, 8, (4, 3, 5, 5)).astype(np.int8),
                                      ("hidden",)),),
                  np.zeros(4, np.int64), np.zeros(4, np.int64), None))
        network = Network(InputSpec(1, 5, 5, 4), 4, layers, f"number {seed}")
        inputs = np.random.default_rng(3).integers(0, 16, (6, 1, 5, 5)).astype(np.uint8)
        expected = reference.run(network, inputs)
        image = compile_network(network, TINY)
        maps = [{name: expected.spikes[name][:, i] for name in image.maps}
                for i in range(len(inputs))]
        found.append((image, inputs, expected.logits, maps))
    return found


def stress(board, cases, seconds, threads=4):
    """What calls of several threads came to: {(call, outcome): times}."""
    count: dict[tuple[str, str], int] = {}
    lock, stop = threading.Lock(), threading.Event()

    def same_maps(traced, maps):
        return traced.keys() == maps.keys() and all(
            np.array_equal(spikes, maps[name][:, :, :spikes.shape[2], :spikes.shape[3]])
            for name, spikes in traced.items())

    def once(draw, call, image, inputs, logits, maps):
        i = draw.randrange(len(inputs))
        part, want = inputs[i:i + 2], logits[i:i + 2]
        match call:
            case "load":
                board.load(image)
                return True
            case "infer":
                return np.array_equal(board.infer(part).logits, want)
            case "submit":
                return np.array_equal(board.submit(part).result(60).logits, want)
            case "stream":
                got = [result.logits for result in board.stream(part)]
                return np.array_equal(np.concatenate(got), want)
            case "trace":
                return same_maps(dict(board.trace(inputs[i])), maps[i])

    def work(number):
        draw = random.Random(number)
        while not stop.is_set():
            call = draw.choice(("infer", "submit", "stream", "trace", "trace", "load"))
            held = board.image
            mine = next((case for case in cases if case[0] is held), None)
            if call == "load":
                mine = draw.choice(cases)
            if mine is None:
                continue
            try:
                outcome = "right" if once(draw, call, *mine) else "WRONG"
            except SpikeTicketError as error:
                outcome = str(error)
            except BaseException as error:
                outcome = f"CRASH {error!r}"
            with lock:
                count[call, outcome] = count.get((call, outcome), 0) + 1

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    time.sleep(seconds)
    stop.set()
    for worker in workers:
        worker.join(120)
        assert not worker.is_alive(), "a call does not end"
    return count


def test_every_call_from_every_thread(transport, cases):
    with Accelerator(transport, TINY) as board:
        board.load(cases[0][0])
        count = stress(board, cases, SECONDS)
    print(count)
    outcomes = {outcome for _, outcome in count}
    assert not any("WRONG" in outcome or "CRASH" in outcome for outcome in outcomes), count
    assert all("was replaced before" in outcome or "no network is loaded" in outcome
               for outcome in outcomes - {"right"}), count
    for call in ("infer", "submit", "stream", "trace", "load"):
        assert count.get((call, "right"), 0) > 0, count


def test_the_stress_finds_a_driver_that_does_not_look(transport, cases, monkeypatch):
    """One that runs a batch on whatever is loaded by then."""
    monkeypatch.setattr(Accelerator, "_still", lambda self, held: None)
    with Accelerator(transport, TINY) as board:
        board.load(cases[0][0])
        for _ in range(5):
            count = stress(board, cases, 2)
            if any(outcome == "WRONG" for _, outcome in count):
                return
    pytest.fail(f"not found: {count}")


def test_a_trace_is_of_one_run(transport, cases):
    """What comes between its maps being taken does not change them."""
    image, inputs, _, maps = cases[0]
    with Accelerator(transport, TINY) as board:
        board.load(image)
        traced = {}
        for name, spikes in board.trace(inputs[0]):
            traced[name] = spikes
            board.infer(inputs[1:])
        for name, spikes in traced.items():
            assert (spikes == maps[0][name][:, :, :spikes.shape[2], :spikes.shape[3]]).all()


def test_a_batch_waits_for_its_turn_and_no_longer(transport, cases):
    """Who asks for the board gets it although others go on submitting."""
    image, inputs, _, _ = cases[0]
    other = cases[1][0]
    with Accelerator(transport, TINY) as board:
        board.load(image)
        stop = threading.Event()

        def submit():
            while not stop.is_set():
                try:
                    board.submit(np.concatenate([inputs] * 4))
                except SpikeTicketError:
                    return

        worker = threading.Thread(target=submit)
        worker.start()
        begun = time.monotonic()
        try:
            board.load(other)
        finally:
            stop.set()
            worker.join(60)
        assert time.monotonic() - begun < 60


def test_closing_waits_for_who_has_the_board(transport, cases):
    image, inputs, logits, _ = cases[0]
    board = Accelerator(transport, TINY).connect()
    board.load(image)
    right = []
    worker = threading.Thread(target=lambda: right.extend(
        (board.infer(np.concatenate([inputs] * 20)).logits == np.concatenate([logits] * 20)).all(1)
    ))
    worker.start()
    while not board._background._owner:
        time.sleep(0.001)
    board.close()
    worker.join(60)
    assert len(right) == 120 and all(right)
    for call in (board.verify, lambda: board.infer(inputs), lambda: board.load(image)):
        with pytest.raises(SpikeTicketError, match="was closed; open it again"):
            call()


@pytest.mark.parametrize("submitted", [False, True])
def test_an_accelerator_that_nobody_has_gives_its_port_back(tiny_library, cases, submitted):
    image, inputs, logits, _ = cases[0]
    with Board(TINY, library=tiny_library) as served:
        board = Accelerator(SerialTransport(served.port), TINY).connect()
        board.load(image)
        if submitted:
            assert (board.submit(inputs).result(60).logits == logits).all()
        gone = weakref.ref(board)
        with pytest.warns(ResourceWarning, match=r"dropped without close\(\)"):
            del board
            gc.collect()
        assert gone() is None
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Accelerator(SerialTransport(served.port), TINY) as board:  # the port is free
                board.load(image)
                assert (board.infer(inputs).logits == logits).all()


def test_a_closed_accelerator_goes_without_a_word(transport):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        board = Accelerator(FaultyTransport(transport), TINY).connect()
        board.close()
        board.close()
        del board
        gc.collect()
