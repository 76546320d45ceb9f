"""A network, a ticket and a data set that the small simulated board runs in a moment."""

import numpy as np

from hw.config import PRESETS
from sim.samples.spikeformers import random_masks, random_spikeformer
from sw import ticket
from sw.compile.compiler import DoesNotFit, compile_network
from sw.integer.network import InputSpec, Layer, Network, Pool, Synapses

TITLES = ("a", "b", "c", "d")


def small_network():
    """Two convolutions and a readout on images of 8 x 8, T = 4."""
    rng = np.random.default_rng(3)

    def weights(*shape):
        kept = rng.random(shape) < 0.4
        return (rng.integers(-8, 8, shape) * kept).astype(np.int8)

    def layer(name, weight, threshold, source, pool=None, readout=False):
        count = len(weight)
        return Layer(name, (Synapses(weight, (source,), padding=weight.shape[2] // 2 if not readout
                                     else 0),),
                     np.zeros(count, np.int64), np.full(count, threshold, np.int64),
                     **({"neuron": None} if readout else {}), pool=pool)

    return Network(InputSpec(1, 8, 8), 4, (
        layer("first", weights(6, 1, 3, 3), 900, "input", Pool("or")),
        layer("second", weights(8, 6, 3, 3), 9, "first"),
        layer("out", weights(4, 8, 4, 4), 0, "second", readout=True)),
        "small", TITLES)


def save(folder):
    """(ticket, data, network, images, labels): both files written to the folder."""
    network = small_network()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 8, 8)).astype(np.uint8)
    labels = rng.integers(0, 4, 12)
    ticket.save(folder / "t.safetensors", network)
    np.savez(folder / "d.npz", x_test=images, y_test=labels)
    return folder / "t.safetensors", folder / "d.npz", network, images[:, None], labels


def gated_network(mode, static):
    """A Spikeformer of one block that the small board holds, with a patch gate."""
    for seed in range(200):
        rng = np.random.default_rng(seed)
        network = random_spikeformer(rng, modes=(mode,), max_side=6, max_head_width=9, max_blocks=1,
                                     max_timesteps=4, column=False)
        (gate,) = network.gates.values()
        if gate.mode == mode and gate.keep < gate.tokens and (
                network.input.static if static else not network.input.static
                and network.input.channels == 2):
            try:
                compile_network(network, PRESETS["tiny"])
            except DoesNotFit:
                continue
            return network, random_masks(rng, network, 3)
    raise AssertionError("no such network")
