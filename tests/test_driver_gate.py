"""Networks with a patch gate and attention on the simulated board: masks, tracing, errors."""

import numpy as np
import pytest

from sim.samples.networks import random_input, random_network
from sim.samples.spikeformers import random_masks, random_spikeformer
from sw.board.driver import Accelerator
from sw.compile.compiler import DoesNotFit, compile_network
from sw.errors import SpikeTicketError
from sw.integer import reference
from sw.integer.gate import MODES

from .faulty import FaultyTransport
from .tiny_board import TINY


@pytest.fixture(scope="module")
def gated():
    """A Spikeformer for every mode: (image, three inputs, masks or None, run of the reference)."""
    found = {}
    for mode in MODES:
        for seed in range(100):
            rng = np.random.default_rng(seed)
            network = random_spikeformer(rng, modes=(mode,), max_side=6, max_head_width=9,
                                         max_blocks=1, max_timesteps=5, column=False)
            (gate,) = network.gates.values()
            if gate.mode != mode or not 1 < gate.keep < gate.tokens:
                continue
            try:
                image = compile_network(network, TINY)
            except DoesNotFit:
                continue
            inputs = np.stack([random_input(rng, network) for _ in range(3)])
            masks = random_masks(rng, network, 3)
            found[mode] = image, inputs, masks, reference.run(network, inputs, masks=masks)
            break
    assert list(found) == list(MODES)
    return found


def is_right(result, expected):
    return (result.logits == expected.logits).all()


@pytest.mark.parametrize("mode", MODES)
def test_gated_networks_through_the_link(transport, gated, mode):
    image, inputs, masks, expected = gated[mode]
    (kept,) = expected.kept.values()
    with Accelerator(transport, TINY) as board:
        board.load(image)
        assert is_right(board.infer(inputs, masks), expected)
        assert np.array_equal(np.flatnonzero(board.kept()), kept[-1])
        for index, array in enumerate(inputs):
            seen = set()
            for name, spikes in board.trace(array, None if masks is None else masks[index]):
                want = expected.spikes[name][:, index, :, :spikes.shape[2], :spikes.shape[3]]
                assert (spikes == want).all(), name
                seen.add(name)
            assert seen == set(image.maps)
            assert board.kept().shape == (image.gate.tokens,)
            assert np.array_equal(np.flatnonzero(board.kept()), kept[index])
        assert board.verify()
        assert is_right(board.infer(inputs, masks), expected)


@pytest.mark.parametrize("mode", ["static", "host"])
def test_a_power_cut_costs_no_mask(transport, gated, mode):
    image, inputs, masks, expected = gated[mode]
    line = FaultyTransport(transport)
    with Accelerator(line, TINY) as board:
        board.load(image)
        line.events[line.writes + 2] = transport.power_cycle
        assert is_right(board.infer(inputs, masks), expected)
        assert board.statistics.recoveries >= 1 and board.verify()


def test_masks_are_checked_and_the_board_stays_usable(transport, gated):
    image, inputs, masks, expected = gated["host"]
    with Accelerator(transport, TINY) as board:
        board.load(image)
        for bad, message in ((None, "takes a mask with every image"), (masks[:, 1:], "of shape"),
                             (masks[:2], "of shape"), (np.ones_like(masks), "mask of image 0"),
                             (np.zeros_like(masks), "keeps 0 tokens")):
            with pytest.raises(SpikeTicketError, match=message):
                board.infer(inputs, bad)
        with pytest.raises(SpikeTicketError, match="takes a mask"):
            next(board.trace(inputs[0]))
        assert is_right(board.infer(inputs, masks), expected)


def test_without_a_gate_masks_are_refused(transport):
    rng = np.random.default_rng(1)
    network = random_network(rng, max_size=4, max_channels=3, max_layers=1)
    inputs = random_input(rng, network)[None]
    with Accelerator(transport, TINY) as board:
        board.load(compile_network(network, TINY))
        with pytest.raises(SpikeTicketError, match="no gate of this network"):
            board.infer(inputs, np.ones((1, 4), bool))
        with pytest.raises(SpikeTicketError, match="has no patch gate"):
            board.kept()
        assert is_right(board.infer(inputs), reference.run(network, inputs))
