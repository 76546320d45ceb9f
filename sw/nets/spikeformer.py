"""Spikeformers (Spikformer, arXiv 2209.15425).

    stem     a chain of blocks (`sw.nets.blocks`) down to a grid of N tokens of `width` channels,
             plus the position embedding (RPE), one more Conv -> BN -> LIF, added to its input
    blocks   x = x + SSA(x); x = x + MLP(x): q, k, v, projection and both layers of the MLP are
             Linear -> BN -> LIF over the channels; attention is scale * (q k^T) v -> LIF
    readout  Linear of the mean over tokens and timesteps

Every residual sum is a sum of spike maps, small integers. Inside, tokens are [T, B, N, D]:
linear layers and batch norms then work on contiguous rows, and time is merged into the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import SpikeTicketError
from ..integer.attention import HEAD_WIDTHS, MAX_TOKENS
from ..integer.shapes import require
from .blocks import Chain
from .config import NetConfig
from .neurons import fire
from .parts import ConvBlock, DenseBlock, SpikingNet
from .spikeformer_name import Name, parse, stem_of

ATTENTION_SCALE = 0.125
ATTENTION_THETA = 0.5
"""Scale and threshold (relative to the other neurons') of the attention's neurons, as in
Spikformer."""


class Stem(nn.Module):
    """The patch embedding: convolutions, then the position embedding added to their spikes."""

    def __init__(self, config: NetConfig, chain: Chain):
        super().__init__()
        self.convs = nn.ModuleList()
        channels = config.input[0]
        for out, pool, stride in chain.convolutions:
            self.convs.append(ConvBlock(config, channels, out, pool=pool, stride=stride))
            channels = out
        self.rpe = ConvBlock(config, channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """[T or 1, B, C, H, W] -> token values 0, 1, 2 [T, B, D, N]."""
        for conv in self.convs:
            x = conv(x)
        return (x + self.rpe(x)).flatten(3)


class EncoderBlock(nn.Module):
    """x + SSA(x), then x + MLP(x), on [T, B, N, D]."""

    def __init__(self, config: NetConfig, name: Name):
        super().__init__()
        width, hidden = name.width, name.width * name.mlp_ratio
        self.heads, self.steps = name.heads, config.timesteps
        self.q, self.k, self.v = (DenseBlock(config, width, width) for _ in range(3))
        self.attention_node = config.node(config.theta * ATTENTION_THETA)
        self.proj = DenseBlock(config, width, width)
        self.fc1, self.fc2 = DenseBlock(config, width, hidden), DenseBlock(config, hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.q(x), self.k(x), self.v(x)
        with torch.autocast(x.device.type, enabled=False):  # counts exceed a bfloat16's integers
            currents = ATTENTION_SCALE * _attend(q.float(), k.float(), v.float(), self.heads)
        x = x + self.proj(fire(self.attention_node, currents, self.steps))
        return x + self.fc2(self.fc1(x))


def _attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """(q k^T) v of spikes [T, B, N, D]; the cheaper of both orders, the integers are the same."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(2, 3) for x in (q, k, v))  # [T, B, h, N, d]
    x = q @ (k.mT @ v) if q.shape[-1] <= q.shape[-2] else (q @ k.mT) @ v
    return x.transpose(2, 3).flatten(-2)


class Spikeformer(SpikingNet):
    """The Spikeformer that `config.model` names."""

    def __init__(self, config: NetConfig):
        super().__init__(config)
        name = parse(config.model)
        try:
            chain = _stem(name, config)
        except SpikeTicketError as error:
            raise SpikeTicketError(f"model {config.model!r}: {error}") from error
        self.stem = Stem(config, chain)
        self.blocks = nn.ModuleList(EncoderBlock(config, name) for _ in range(name.blocks))
        self.readout = nn.Linear(name.width, config.classes)
        self.to(memory_format=torch.channels_last)

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x).transpose(2, 3).contiguous()
        for block in self.blocks:
            x = block(x)
        return self.mean(x, 2)


def _stem(name: Name, config: NetConfig) -> Chain:
    """The stem's chain, checked together with the heads. Raises SpikeTicketError."""
    stem = name.stem or stem_of(name.width, max(config.input[1:]))
    chain = Chain.of(stem)
    require(not chain.features, f"stem {stem!r} ends with f; its last are convolutions")
    last = chain.convolutions[-1].channels
    require(last == name.width, f"the stem ends with {last} channels, the tokens have "
                                f"{name.width}; make them the same")
    require(name.width % name.heads == 0,
            f"{name.width} channels do not divide into {name.heads} heads")
    require(name.width // name.heads in HEAD_WIDTHS,
            f"heads of {name.width // name.heads} channels are outside {HEAD_WIDTHS[0]}.."
            f"{HEAD_WIDTHS[-1]}; change heads or the stem's last channels")
    height, width = chain.grid(config.input[1:])
    require(height * width <= MAX_TOKENS, f"stem {stem} leaves {height * width} tokens; "
                                          f"{MAX_TOKENS} are the most, add a pool")
    return chain
