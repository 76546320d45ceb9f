"""Synthetic spikes of given statistics, for forecasts of the cycle model."""

from __future__ import annotations

import numpy as np

from hw.config import TIMESTEPS_PER_GROUP

MASKS = 1 << TIMESTEPS_PER_GROUP
"""Spike masks of a group of timesteps; bit t is timestep t of the group."""


def independent(active: np.ndarray, timesteps: int) -> np.ndarray:
    """Probability [groups, C, MASKS] of every mask if timesteps are independent and alike.

    active: probability [C] of a spike within a group.
    """
    bits = np.arange(MASKS)[:, None] >> np.arange(TIMESTEPS_PER_GROUP) & 1
    patterns = []
    for start in range(0, timesteps, TIMESTEPS_PER_GROUP):
        count = min(TIMESTEPS_PER_GROUP, timesteps - start)
        spike = (1 - (1 - active) ** (1 / count))[:, None, None]
        chance = np.where(bits, spike, 1 - spike)
        chance[:, :, count:] = 1 - bits[:, count:]
        patterns.append(chance.prod(2))
    return np.stack(patterns)


def draw(rng: np.random.Generator, patterns: np.ndarray, timesteps: int,
         size: tuple[int, int]) -> np.ndarray:
    """Random spikes uint8 [T, C, H, W]: of the H x W positions of a group and channel as many have
    each mask as `patterns` [groups, C, MASKS] says (rounded at random), in random order."""
    groups, channels, _ = patterns.shape
    positions = size[0] * size[1]
    up_to = np.cumsum(patterns, axis=2)
    up_to /= up_to[..., -1:]
    place = rng.random((groups, channels, positions)).argsort(axis=2)
    place = (place + rng.random((groups, channels, 1))) / positions
    masks = (place[:, :, None] >= up_to[:, :, :-1, None]).sum(2).astype(np.uint8)
    steps = np.arange(TIMESTEPS_PER_GROUP, dtype=np.uint8).reshape(-1, 1, 1)
    spikes = masks[:, None] >> steps & 1
    return spikes.reshape(-1, channels, *size)[:timesteps]
