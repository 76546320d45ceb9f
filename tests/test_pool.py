"""Several boards as one: order, sharing, boards that die, other hosts through Ray."""

import json
import sys
import warnings

import numpy as np
import pytest

from sim.board import SimTransport
from sim.samples.networks import random_input, random_network
from sim.samples.spikeformers import random_masks, random_spikeformer
from sw import ticket
from sw.board.driver import Accelerator
from sw.cli.app import main
from sw.compile.compiler import DoesNotFit, compile_network
from sw.errors import SpikeTicketError
from sw.integer import reference
from sw.integer.gate import MODES
from sw.pool import BoardLost, Pool

from .faulty import FaultyTransport
from .tiny_board import TINY


@pytest.fixture
def lines(tiny_library):
    """Three simulated boards behind lines that can fail."""
    return [FaultyTransport(SimTransport(TINY, library=tiny_library)) for _ in range(3)]


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(8)
    while True:
        network = random_network(rng, max_size=6)
        inputs = np.stack([random_input(rng, network) for _ in range(23)])
        logits = reference.run(network, inputs).logits
        try:
            compile_network(network, TINY)
        except DoesNotFit:
            continue
        if network.input.static and len(np.unique(logits, axis=0)) > 15:  # a mixed order shows
            return network, inputs, logits


def boards(lines):
    made = [Accelerator(line, TINY).connect() for line in lines]
    for board in made:
        board._session._slack = 0.01  # a dead board is dropped sooner
    return made


def test_results_in_order_and_everyone_works(lines, case):
    network, inputs, logits = case
    with Pool(boards(lines)) as pool:
        with pytest.raises(SpikeTicketError, match="no network is loaded"):
            pool.infer(inputs)
        pool.load(network)
        counted = []
        result = pool.infer(inputs, counters=True, progress=counted.append)
        assert (result.logits == logits).all() and sum(counted) == len(inputs)
        assert result.counters.shape[0] == len(result.cycles) == len(inputs)
        assert sum(pool.boards.values()) == len(inputs) and len(pool.boards) == 3
        again = pool.infer(list(inputs))
        assert (again.logits == result.logits).all() and (again.cycles == result.cycles).all()
        assert pool.infer(inputs[:0]).logits.shape == (0, logits.shape[1])
        assert (pool.infer(inputs[:1]).logits == logits[:1]).all()


@pytest.mark.parametrize("dead", [[1], [0, 2]])
def test_images_of_a_dead_board_go_to_the_others(lines, case, dead):
    network, inputs, logits = case
    with Pool(boards(lines)) as pool:
        pool.load(compile_network(network, TINY))
        for number in dead:
            line = lines[number]
            line.events[line.writes + 4] = lambda line=line: setattr(line, "mute", True)
        with pytest.warns(BoardLost, match="is dropped: .*no answer") as warned:
            assert (pool.infer(inputs).logits == logits).all()
        assert len(warned) == len(dead) and len(pool.boards) == 3 - len(dead)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert (pool.infer(inputs).logits == logits).all()


def test_no_board_is_left(lines, case):
    network, inputs, _ = case
    with Pool(boards(lines[:2])) as pool:
        pool.load(network)
        for line in lines[:2]:
            line.mute = True
        with pytest.warns(BoardLost), pytest.raises(SpikeTicketError, match="no board of the pool"):
            pool.infer(inputs)
        with pytest.raises(SpikeTicketError, match="no board of the pool is left; see"):
            pool.infer(inputs)


def test_bad_input_costs_no_board(lines, case):
    network, inputs, logits = case
    with Pool(boards(lines[:1])) as pool:
        pool.load(network)
        for bad, message in ((inputs.astype(float), "input is float64"),
                             (inputs[0], "input is uint8"), ([inputs[0], inputs[0][:, :1]], "one")):
            with pytest.raises(SpikeTicketError, match=message):
                pool.infer(bad)
        with pytest.raises(SpikeTicketError, match="no gate of this network"):
            pool.infer(inputs, np.ones((len(inputs), 4), bool))
        with pytest.raises(SpikeTicketError, match="neither a file nor bundled"):
            pool.load("nothing")
        assert (pool.infer(inputs).logits == logits).all()
    for members, message in (([], "at least one"), (["sim:nothing"], "'nothing' is unknown")):
        with pytest.raises(SpikeTicketError, match=message):
            Pool(members)
    with pytest.raises(SpikeTicketError, match="ahead 0"):
        Pool([lines[0]], ahead=0)


def test_masks_go_with_their_images(lines):
    rng = np.random.default_rng(3)
    assert "host" in MODES
    while True:
        network = random_spikeformer(rng, modes=("host",), max_side=6, max_head_width=9,
                                     max_blocks=1, max_timesteps=5, column=False)
        (gate,) = network.gates.values()
        try:
            compile_network(network, TINY)
        except DoesNotFit:
            continue
        if 1 < gate.keep < gate.tokens:
            break
    inputs = np.stack([random_input(rng, network) for _ in range(7)])
    masks = random_masks(rng, network, 7)
    with Pool(boards(lines[:2])) as pool:
        pool.load(network)
        got = pool.infer(inputs, masks)
        assert (got.logits == reference.run(network, inputs, masks=masks).logits).all()
        with pytest.raises(SpikeTicketError, match="takes a mask with every image"):
            pool.infer(inputs)


def test_an_interrupt_leaves_the_pool_usable(lines, case):
    network, inputs, logits = case

    def interrupt(_):
        raise KeyboardInterrupt

    with Pool(boards(lines[:2])) as pool:
        pool.load(network)
        with pytest.raises(KeyboardInterrupt):
            pool.infer(inputs, progress=interrupt)
        assert (pool.infer(inputs).logits == logits).all()


def test_a_network_that_fits_one_board_only(lines, case, monkeypatch):
    """The first board's core is too small (by its word); the pool goes on with the other."""
    network, inputs, logits = case
    small, large = boards(lines[:2])

    def too_small(_):
        raise DoesNotFit("case", [])

    monkeypatch.setattr(small, "load", too_small)
    with Pool([small, large]) as pool:
        with pytest.warns(BoardLost, match="0: simulated board is dropped: network 'case'"):
            pool.load(network)
        assert (pool.infer(inputs).logits == logits).all()


def test_command(capsys, case, tmp_path):
    network, inputs, logits = case
    ticket.save(tmp_path / "small.safetensors", network)
    pictures = inputs << (8 - network.input.bits)       # of 8 bits
    np.savez(tmp_path / "data.npz", x_test=pictures, y_test=logits.argmax(1).astype(np.uint8))
    arguments = ["sim:tiny", "sim:tiny", "--ticket", str(tmp_path / "small.safetensors"), "--data",
                 str(tmp_path / "data.npz"), "--images", "9"]
    assert main(["bench", "pool", *arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["images"] == found["right"] == sum(found["boards"].values()) == 9
    assert "scaling" not in found
    assert main(["bench", "pool", *arguments]) == 0
    assert "9 labels right" in capsys.readouterr().out
    assert main(["bench", "pool", *arguments, "--rounds", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    scaling = found["scaling"]
    assert sum(found["boards"].values()) == 9
    assert scaling["rounds"] == 2 and min(scaling.values()) > 0
    assert scaling["speedup_processor"] == pytest.approx(
        2 * scaling["ms_alone"] / scaling["ms_together"], abs=0.02)
    assert main(["bench", "pool", *arguments, "--rounds", "1"]) == 0
    assert "times as fast as the first board alone" in capsys.readouterr().out
    assert main(["bench", "pool", "sim", "--images", "0"]) == 2


def test_boards_at_other_hosts(case):
    """Two workers of a local Ray cluster, each with a simulated board of its own."""
    pytest.importorskip("ray")
    network, inputs, logits = case
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own
        with Pool(["sim:tiny@", "sim:tiny@"]) as pool:
            pool.load(network)
            assert (pool.infer(inputs).logits == logits).all()
            assert sum(pool.boards.values()) == len(inputs)
            with pytest.raises(SpikeTicketError, match="no Ray node at 'nowhere'"):
                pool._remote.open("sim:tiny", "nowhere")
            with pytest.raises(SpikeTicketError, match="'nothing' is unknown"):
                pool._remote.open("sim:nothing", "")
            pool._remote._ray.kill(pool._members[0].board._actor)
            assert (pool.infer(inputs).logits == logits).all()
            assert list(pool.boards) == ["1: sim:tiny@"]


def test_without_ray(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SpikeTicketError, match="need Ray; install it"):
        Pool(["sim:tiny@10.0.0.5"])
