"""Random networks with residual sums after the neuron: several blocks whose outputs add up."""

from __future__ import annotations

import numpy as np

from sw.integer.network import INPUT, InputSpec, Network, Pool

from .spikeformers import Draw


def random_residual(rng: np.random.Generator, *, max_side: int = 12, max_channels: int = 8,
                    max_blocks: int = 6, max_timesteps: int = 16,
                    name: str = "residual") -> Network:
    """A random valid network whose stream is the sum of 2 to `max_blocks` + 1 maps of one shape.

    Summands come from the stream through a hidden layer or straight from the input; if the stream
    is smaller than the input, these have a pool. max_side: height and width of the input.
    """
    steps = min(max_timesteps, int(rng.choice([1, 3, 4, 4, 5, 8, 16])))
    spec = InputSpec(int(rng.integers(1, 3)), int(rng.integers(2, max_side + 1)),
                     int(rng.integers(2, max_side + 1)), int(rng.choice([1, 2, 8])),
                     bool(rng.random() < 0.5))
    draw, channels = Draw(rng, spec), int(rng.integers(1, max_channels + 1))
    pools = [None, Pool("or", 2), Pool("max", 2), Pool("max", 3, 2, 1)]
    pool = pools[int(rng.integers(len(pools)))]
    if pool is not None and not pool.tiles and (spec.height % 2 or spec.width % 2):
        pool = Pool("or", 2)
    first = draw.conv("block0", (INPUT,), channels, 3, pool)
    draw.stream = (first,)
    for i in range(1, int(rng.integers(1, max_blocks + 1)) + 1):
        if rng.random() < 0.3:
            made = draw.conv(f"block{i}", (INPUT,), channels, 3, pool)
        else:
            hidden = draw.conv(f"hidden{i}", draw.stream, int(rng.integers(1, 2 * channels + 1)),
                               int(rng.choice([1, 3])))
            made = draw.conv(f"block{i}", (hidden,), channels, int(rng.choice([1, 3])))
        draw.stream += (made,)
    draw.readout(int(rng.integers(1, 6)))
    return Network(spec, steps, tuple(draw.layers), name)
