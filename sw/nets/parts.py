"""What the named networks are made of, on SpikingJelly's layers in multi-step mode: maps are
[T, B, C, H, W], tokens and features [T, B, ..., C].

A map that is the same at every timestep (an image) has T = 1 until the first neuron repeats it.
"""

from __future__ import annotations

import abc

import torch
from spikingjelly.activation_based import layer, neuron
from torch import Tensor, nn

from ..errors import SpikeTicketError
from ..integer.network import Pool
from .config import NetConfig
from .fused_block import FusedBlock
from .neurons import BLOCKS, fire


class SpikingNet(nn.Module, abc.ABC):
    """Base of the networks; a subclass has `features`, and a `readout` for what they give.

    forward: prepared images [B, C, H, W] (the same at every timestep) or event frames
    [B, T, C, H, W] of at least `timesteps` frames, of which the first are used -> logits
    [B, classes], the mean over timesteps; with per_timestep, in training, [T, B, classes].
    """

    per_timestep = False

    def __init__(self, config: NetConfig):
        super().__init__()
        self.config = config

    def forward(self, x: Tensor) -> Tensor:
        rates = self.features(self.over_time(x))
        with torch.autocast(rates.device.type, enabled=False):
            return self.readout(rates.float())

    def over_time(self, x: Tensor) -> Tensor:
        """[1, B, C, H, W] of images, [T, B, C, H, W] of event frames."""
        c, steps = self.config, self.config.timesteps
        if x.dim() not in (4, 5) or tuple(x.shape[-3:]) != c.input:
            raise SpikeTicketError(f"{c.model}: input of shape {list(x.shape)} is not "
                                   f"[B, {', '.join(map(str, c.input))}] or with T after B")
        if x.dim() == 4:
            return x.unsqueeze(0)
        if x.shape[1] < steps:
            raise SpikeTicketError(f"{c.model}: {x.shape[1]} frames are fewer than the "
                                   f"{steps} timesteps; make more frames or lower T")
        return x[:, :steps].transpose(0, 1)

    @abc.abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """Maps [T or 1, B, C, H, W] -> what the readout sees, their `mean`, [B, features]."""

    def mean(self, x: Tensor, *positions: int) -> Tensor:
        """Spikes [T, B, ...] averaged over time and these axes; or over these axes alone."""
        over = positions if self.per_timestep and self.training else (0, *positions)
        return x.float().mean(over) if over else x.float()


def normed_spikes(x: Tensor, norm: nn.Module, node: neuron.BaseNode, steps: int,
                  pool: nn.Module | None = None) -> Tensor:
    """Spikes [T, ...], behind the pool, of neurons behind a batch norm of x: maps
    [T or 1, B, C, H, W], or rows [T or 1, ..., C]. As one function where that can be."""
    block = FusedBlock.of(norm, node, pool) if node.__dict__.get(BLOCKS) else None
    if block is not None and block.takes(x):
        return block(x, steps)
    if isinstance(norm, nn.BatchNorm1d):
        currents = norm(x.flatten(0, -2)).unflatten(0, x.shape[:-1])
    else:
        currents = norm(x)
    spikes = fire(node, currents, steps)
    return spikes if pool is None else pool(spikes)


class ConvBlock(nn.Module):
    """Conv (no bias) -> BN -> LIF, with a pool of currents ("max") before the neuron or of spikes
    ("or") behind it."""

    def __init__(self, config: NetConfig, channels_in: int, channels: int, *, kernel: int = 3,
                 stride: int = 1, pool: Pool | None = None):
        super().__init__()
        self.steps = config.timesteps
        self.conv = layer.Conv2d(channels_in, channels, kernel, stride, kernel // 2, bias=False,
                                 step_mode="m")
        self.norm = layer.BatchNorm2d(channels, step_mode="m")
        self.node = config.node()
        window = nn.Identity() if pool is None else layer.MaxPool2d(
            pool.size, pool.stride, pool.padding, step_mode="m")
        before = pool is not None and pool.mode == "max"
        self.pool_currents, self.pool = (window, nn.Identity()) if before else (
            nn.Identity(), window)

    def forward(self, x: Tensor) -> Tensor:
        """[T or 1, B, C, H, W] -> spikes [T, B, C', H', W']."""
        currents = self.conv(x)
        if type(self.pool_currents) is not nn.Identity:
            return self.pool(fire(self.node, self.pool_currents(self.norm(currents)), self.steps))
        return normed_spikes(currents, self.norm, self.node, self.steps, self.pool)


class DenseBlock(nn.Module):
    """Linear -> BN -> LIF over the last axis of [T, B, ..., features]."""

    def __init__(self, config: NetConfig, features_in: int, features: int, *, bias: bool = False,
                 affine: bool = True):
        super().__init__()
        self.steps = config.timesteps
        self.fc = nn.Linear(features_in, features, bias=bias)
        self.norm = nn.BatchNorm1d(features, affine=affine)
        self.node = config.node()

    def forward(self, x: Tensor) -> Tensor:
        return normed_spikes(self.fc(x), self.norm, self.node, self.steps)
