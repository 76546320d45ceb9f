"""The core `tiny`, and random networks that fit it; `conftest` has the simulated board of it."""

import numpy as np

from hw.config import PRESETS
from sim.samples.networks import random_input, random_network
from sw.compile.compiler import DoesNotFit, compile_network
from sw.integer import reference

TINY = PRESETS["tiny"]


def random_cases(seed, networks, count, *, config=TINY, **limits):
    """Networks that fit: a list of (network, image, `count` inputs, run of the reference).

    limits: what `random_network` takes.
    """
    rng = np.random.default_rng(seed)
    found = []
    while len(found) < networks:
        network = random_network(rng, **limits)
        try:
            image = compile_network(network, config)
        except DoesNotFit:
            continue
        inputs = np.stack([random_input(rng, network) for _ in range(count)])
        found.append((network, image, inputs, reference.run(network, inputs)))
    return found


def random_case(seed, count):
    """The first of them: (image, inputs, logits)."""
    [(_, image, inputs, expected)] = random_cases(seed, 1, count)
    return image, inputs, expected.logits
