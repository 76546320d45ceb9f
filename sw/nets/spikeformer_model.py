"""Float Spikeformers on SpikingJelly neurons (Spikformer, arXiv 2209.15425), with a patch gate.

    stem     3x3 Conv -> BN -> LIF, with pools, down to a grid of N tokens of `width` channels,
             plus the position embedding (RPE), one more Conv -> BN -> LIF, added to its input
    gate     keeps some of the tokens (`sw.integer.gate`)
    blocks   x = x + SSA(x); x = x + MLP(x): q, k, v, projection and both layers of the MLP are
             Linear -> BN -> LIF over the channels; attention is scale * (q k^T) v -> LIF
    head     mean over tokens and timesteps, then Linear

Every residual sum is a sum of spike maps, small integers. Inside, tokens are [T, B, N, D]:
linear layers and batch norms then work on contiguous rows, and time is merged into the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

from ..errors import SpikeTicketError
from ..integer import tokens as token_ops
from ..integer.network import Pool
from .neurons import fire, lif
from .spikeformer_config import SpikeformerConfig
from .token_gate import TokenGate

__all__ = ["Spikeformer", "SpikeformerConfig"]

ATTENTION_SCALE = 0.125
ATTENTION_THETA = 0.5
"""Scale and threshold (relative to the other neurons') of the attention's neurons, as in
Spikformer."""

Node = Callable[[float], neuron.BaseNode]
"""Makes a neuron with a given threshold, in multi-step mode."""


class ConvBlock(nn.Module):
    """3x3 Conv (no bias) -> BN -> LIF with a pool before ("max") or after ("or") the neuron."""

    def __init__(self, channels_in: int, channels: int, pool: Pool | None, node: neuron.BaseNode,
                 affine: bool):
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels, affine=affine)
        self.node, self.pool = node, pool

    def forward(self, x: Tensor, steps: int) -> Tensor:
        """[T or 1, B, C, H, W] -> spikes [T, B, C', H', W']."""
        lead = x.shape[:2]
        x = self.norm(self.conv(x.flatten(0, 1)))
        if self.pool is not None and self.pool.mode == "max":
            x = self._pooled(x)
        x = fire(self.node, x.unflatten(0, lead), steps)
        if self.pool is not None and self.pool.mode == "or":
            x = self._pooled(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return x

    def _pooled(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, self.pool.size, self.pool.stride, self.pool.padding)


class Stem(nn.Module):
    """The patch embedding: convolutions, then the position embedding added to their spikes."""

    def __init__(self, config: SpikeformerConfig, node: Node):
        super().__init__()
        self.steps = config.timesteps
        self.convs = nn.ModuleList()
        channels = config.input[0]
        for out, pool in config.stages():
            self.convs.append(ConvBlock(channels, out, pool, node(config.theta), config.affine))
            channels = out
        self.rpe = ConvBlock(channels, channels, None, node(config.theta), config.affine)

    def forward(self, x: Tensor) -> Tensor:
        """[T or 1, B, C, H, W] -> token values 0, 1, 2 [T, B, D, N]."""
        for conv in self.convs:
            x = conv(x, self.steps)
        return (x + self.rpe(x, self.steps)).flatten(3)


class TokenLayer(nn.Module):
    """Linear (no bias) -> BN -> LIF on [T, B, N, D]."""

    def __init__(self, features_in: int, features: int, node: neuron.BaseNode, affine: bool):
        super().__init__()
        self.fc = nn.Linear(features_in, features, bias=False)
        self.norm = nn.BatchNorm1d(features, affine=affine)
        self.node = node

    def forward(self, x: Tensor) -> Tensor:
        currents = self.norm(self.fc(x.flatten(0, 2)))
        return fire(self.node, currents.unflatten(0, x.shape[:3]), x.shape[0])


class EncoderBlock(nn.Module):
    """x + SSA(x), then x + MLP(x), on [T, B, N, D]."""

    def __init__(self, config: SpikeformerConfig, node: Node):
        super().__init__()
        width, hidden = config.width, config.width * config.mlp_ratio
        self.heads = config.heads

        def layer(features_in: int, features: int) -> TokenLayer:
            return TokenLayer(features_in, features, node(config.theta), config.affine)
        self.q, self.k, self.v = (layer(width, width) for _ in range(3))
        self.attention_node = node(config.theta * ATTENTION_THETA)
        self.proj = layer(width, width)
        self.fc1, self.fc2 = layer(width, hidden), layer(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.q(x), self.k(x), self.v(x)
        with torch.autocast(x.device.type, enabled=False):  # counts exceed a bfloat16's integers
            currents = ATTENTION_SCALE * _attend(q.float(), k.float(), v.float(), self.heads)
        x = x + self.proj(fire(self.attention_node, currents, x.shape[0]))
        return x + self.fc2(self.fc1(x))


def _attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """(q k^T) v of spikes [T, B, N, D]; the cheaper of both orders, the integers are the same."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(2, 3) for x in (q, k, v))  # [T, B, h, N, d]
    x = q @ (k.mT @ v) if q.shape[-1] <= q.shape[-2] else (q @ k.mT) @ v
    return x.transpose(2, 3).flatten(-2)


class Spikeformer(nn.Module):
    """The float network of a `SpikeformerConfig`.

    forward: prepared images [B, C, H, W] or event frames [B, T, C, H, W] -> logits [B, classes].
    `kept`, int64 [B, keep], replaces the gate's choice of tokens (mode "host" needs it).
    node: makes the neurons; None: `sw.nets.neurons.lif`.
    """

    def __init__(self, config: SpikeformerConfig, node: Node | None = None):
        super().__init__()
        self.config = config
        node = node or (lambda theta: lif(config.tau, theta))
        self.stem = Stem(config, node)
        self.blocks = nn.ModuleList(EncoderBlock(config, node) for _ in range(config.blocks))
        self.head = nn.Linear(config.width, config.classes)
        self.gate: TokenGate | None = None
        if config.gate is not None:
            self.set_gate(config.gate, config.keep)
        self.to(memory_format=torch.channels_last)

    @staticmethod
    def prepare(images: Tensor) -> Tensor:
        """uint8 images to 0..1, uint8 event counts to floats."""
        return images.float() / 255 if images.dim() == 4 else images.float()

    @property
    def input_scale(self) -> float:
        """Float value of one integer unit of the input, as `prepare` makes it."""
        return 1 / 255 if self.config.static else 1.0

    def over_time(self, x: Tensor) -> Tensor:
        """Prepared input as [T, B, C, H, W], or [1, B, C, H, W] of images."""
        c = self.config
        shape = c.input if c.static else (c.timesteps, *c.input)
        if tuple(x.shape[1:]) != shape:
            raise SpikeTicketError(f"input of shape {list(x.shape)} is not "
                                   f"[B, {', '.join(map(str, shape))}]")
        return x.unsqueeze(0) if c.static else x.transpose(0, 1)

    def embed(self, x: Tensor) -> Tensor:
        """Token values 0, 1, 2 of prepared input, before any gate: [T, B, D, N]."""
        return self.stem(self.over_time(x))

    @torch.no_grad()
    def choose(self, x: Tensor, embedded: Tensor | None = None) -> Tensor:
        """Tokens that the gate keeps, ascending int64 [B, keep]; `embedded` as of `embed`."""
        if self.gate is None:
            raise SpikeTicketError("this Spikeformer has no gate; give one")
        if self.gate.mode == "input":
            self.gate.zero(self.over_time(x))
        return self.gate.choose(self.embed(x) if embedded is None else embedded)

    def encode(self, tokens: Tensor) -> Tensor:
        """Logits [B, classes] of tokens [T, B, D, N], however many there are."""
        x = tokens.transpose(2, 3).contiguous()
        for block in self.blocks:
            x = block(x)
        with torch.autocast(x.device.type, enabled=False):
            return self.head(x.float().mean((0, 2)))

    def forward(self, x: Tensor, kept: Tensor | None = None) -> Tensor:
        flat = self.over_time(x)
        if self.gate is not None and self.gate.mode == "input":
            flat = (self.gate.zero(flat) if kept is None
                    else token_ops.zero_patches(flat, kept, self.config.grid))
        tokens = self.stem(flat)
        if kept is not None:
            tokens = token_ops.take(tokens, kept)
        elif self.gate is not None:
            tokens = self.gate(tokens)
        return self.encode(tokens)

    def set_gate(self, mode: str, keep: int) -> None:
        """Give this network a gate, see `TokenGate`."""
        self.config = replace(self.config, gate=mode, keep=keep)
        self.gate = TokenGate(mode, keep, self.config.grid, units=self.input_scale)

    def set_mask(self, mask: Tensor) -> None:
        """Tokens that a "static" gate keeps: bool [N] with `keep` set."""
        if self.gate is None:
            raise SpikeTicketError("this Spikeformer has no gate; give one")
        self.gate.set_mask(mask)

    def layers(self) -> dict[str, nn.Module]:
        """Every layer with weights, by the name of its layer in the integer network."""
        named = {f"stem{i}": block.conv for i, block in enumerate(self.stem.convs, 1)}
        named["rpe"] = self.stem.rpe.conv
        for i, block in enumerate(self.blocks, 1):
            for name in ("q", "k", "v", "proj", "fc1", "fc2"):
                named[f"block{i}.{name}"] = getattr(block, name).fc
        return {**named, "head": self.head}

    def weights(self) -> dict[str, Tensor]:
        """Every weight tensor by layer name: what is pruned, and what sparsity counts."""
        return {name: layer.weight for name, layer in self.layers().items()}

    def stem_weights(self) -> dict[str, Tensor]:
        """Those of the patch embedding alone (the convolution projection module)."""
        return {name: w for name, w in self.weights().items() if name.startswith(("stem", "rpe"))}
