"""Parts of the networks, on SpikingJelly's layers in multi-step mode: maps are [T, B, C, H, W].

A map that is the same at every timestep (an image) has T = 1 until the first neuron repeats it.
"""

from __future__ import annotations

import abc

import torch
from spikingjelly.activation_based import layer, neuron
from torch import Tensor, nn

from ..errors import SpikeTicketError
from ..integer.folding import Connection, ModuleLayer
from ..integer.network import INPUT, Pool
from .config import NetConfig
from .neurons import fire


class SpikingNet(nn.Module, abc.ABC):
    """Base of the networks: input, readout over time, weights, conversion.

    forward: prepared images [B, C, H, W] (the same at every timestep) or event frames
    [B, T, C, H, W] of at least `timesteps` frames, of which the first are used -> logits
    [B, classes], the mean over timesteps. `spikes` receives every neuron's spikes if it is a list.
    """

    def __init__(self, config: NetConfig):
        super().__init__()
        self.config = config

    @staticmethod
    def prepare(images: Tensor) -> Tensor:
        """uint8 images to 0..1, uint8 event counts to floats."""
        return images.float() / 255 if images.dim() == 4 else images.float()

    def forward(self, x: Tensor, spikes: list[Tensor] | None = None) -> Tensor:
        hooks = []
        if spikes is not None:
            hooks = [m.register_forward_hook(lambda _m, _i, out: spikes.append(out.detach()))
                     for m in self.modules() if isinstance(m, neuron.BaseNode)]
        try:
            rates = self.features(self.over_time(x))
        finally:
            for hook in hooks:
                hook.remove()
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
        """Maps [T or 1, B, C, H, W] -> what the readout sees, the mean over time [B, features]."""

    def weights(self) -> dict[str, Tensor]:
        """Every weight tensor by layer name: what is pruned, and what sparsity counts."""
        return {name: m.weight for name, m in self.named_modules()
                if isinstance(m, nn.Conv2d | nn.Linear)}

    @abc.abstractmethod
    def float_layers(self, bits: int) -> list[ModuleLayer]:
        """The layers in order of execution, for `sw.integer.folding.fold`."""


class ConvBlock(nn.Module):
    """Conv (no bias) -> BN -> LIF, then a 2x2 max-pool of spikes (an OR) if `pool`."""

    def __init__(self, config: NetConfig, channels_in: int, channels: int, *, kernel: int = 3,
                 stride: int = 1, pool: bool = False):
        super().__init__()
        self.steps, self.pooled = config.timesteps, pool
        self.conv = layer.Conv2d(channels_in, channels, kernel, stride, kernel // 2, bias=False,
                                 step_mode="m")
        self.norm = layer.BatchNorm2d(channels, step_mode="m")
        self.node = config.node()
        self.pool = layer.MaxPool2d(2, step_mode="m") if pool else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(fire(self.node, self.norm(self.conv(x)), self.steps))

    def float_layer(self, name: str, source: str, bits: int) -> ModuleLayer:
        return ModuleLayer(name, (Connection(self.conv, self.norm, (source,),
                                             bits=width(self.conv, bits)),),
                          self.node, Pool("or", 2) if self.pooled else None)


class DenseBlock(nn.Module):
    """Linear -> BN -> LIF on [T, B, features]."""

    def __init__(self, config: NetConfig, features_in: int, features: int, *, bias: bool = False,
                 affine: bool = True):
        super().__init__()
        self.steps = config.timesteps
        self.fc = layer.Linear(features_in, features, bias=bias, step_mode="m")
        self.norm = layer.BatchNorm1d(features, affine=affine, step_mode="m")
        self.node = config.node()

    def forward(self, x: Tensor) -> Tensor:
        # BatchNorm1d in multi-step mode takes [T, B, C]; with one position it is the same thing.
        return fire(self.node, self.norm(self.fc(x)), self.steps)

    def float_layer(self, name: str, source: str, bits: int, avg_pool: int = 1) -> ModuleLayer:
        return ModuleLayer(name, (Connection(self.fc, self.norm, (source,), avg_pool,
                                             width(self.fc, bits)),),
                          self.node)


def width(module: nn.Module, bits: int) -> int:
    """Bits per weight: 1 where all survivors have one magnitude (binary tickets), else `bits`."""
    alive = module.weight.detach().abs().flatten()
    alive = alive[alive > 0]
    return 1 if len(alive) and bool((alive == alive[0]).all()) else bits


def source_of(layers: list[ModuleLayer]) -> str:
    """Name of the map that the next layer reads."""
    return layers[-1].name if layers else INPUT
