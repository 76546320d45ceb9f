"""Spikformer as its authors' repository writes it, and most forks after it.

`T, B, C, H, W = x.shape`, time and batch flattened into one axis for every torch layer and put
back with a new reshape before every neuron; multi-step neurons; a patch stem that returns its grid;
tokens as [T, B, N, C] with Linear and a transpose around BatchNorm1d; heads by reshape and permute;
`(q @ k.transpose(-2, -1)) * scale @ v`; blocks in a ModuleList held in a local name.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from ..entry import ALL, Entry


class TokenMLP(nn.Module):
    def __init__(self, node, width: int, hidden: int):
        super().__init__()
        self.fc1, self.bn1, self.lif1 = nn.Linear(width, hidden), nn.BatchNorm1d(hidden), node()
        self.fc2, self.bn2, self.lif2 = nn.Linear(hidden, width), nn.BatchNorm1d(width), node()
        self.hidden = hidden

    def forward(self, x):
        T, B, N, C = x.shape
        x = self.fc1(x.flatten(0, 1))
        x = self.bn1(x.transpose(-1, -2)).transpose(-1, -2)
        x = self.lif1(x.reshape(T, B, N, self.hidden).contiguous())
        x = self.fc2(x.flatten(0, 1))
        x = self.bn2(x.transpose(-1, -2)).transpose(-1, -2)
        return self.lif2(x.reshape(T, B, N, C).contiguous())


class TokenAttention(nn.Module):
    def __init__(self, node, width: int, heads: int):
        super().__init__()
        self.heads, self.scale = heads, 0.125
        for name in ("q", "k", "v"):
            setattr(self, f"{name}_linear", nn.Linear(width, width))
            setattr(self, f"{name}_bn", nn.BatchNorm1d(width))
            setattr(self, f"{name}_lif", node())
        self.attn_lif = node()
        self.proj_linear, self.proj_bn = nn.Linear(width, width), nn.BatchNorm1d(width)
        self.proj_lif = node()

    def _project(self, name: str, x, T: int, B: int):
        out = getattr(self, f"{name}_linear")(x)
        out = getattr(self, f"{name}_bn")(out.transpose(-1, -2)).transpose(-1, -2)
        out = getattr(self, f"{name}_lif")(out.reshape(T, B, *out.shape[1:]).contiguous())
        N, C = out.shape[2:]
        return out.reshape(T, B, N, self.heads, C // self.heads).permute(0, 1, 3, 2, 4)

    def forward(self, x):
        T, B, N, C = x.shape
        flat = x.flatten(0, 1)
        q, k, v = (self._project(name, flat, T, B) for name in "qkv")
        attn = (q @ k.transpose(-2, -1)) * self.scale
        x = (attn @ v).transpose(2, 3).reshape(T, B, N, C).contiguous()
        x = self.attn_lif(x).flatten(0, 1)
        x = self.proj_bn(self.proj_linear(x).transpose(-1, -2)).transpose(-1, -2)
        return self.proj_lif(x.reshape(T, B, N, C))


class TokenBlock(nn.Module):
    def __init__(self, node, width: int, heads: int):
        super().__init__()
        self.attn, self.mlp = TokenAttention(node, width, heads), TokenMLP(node, width, 2 * width)

    def forward(self, x):
        x = x + self.attn(x)
        return x + self.mlp(x)


class PatchStem(nn.Module):
    """Four convolutions, the last two with an overlapping max pool before the neuron."""

    def __init__(self, node, channels: int, width: int):
        super().__init__()
        widths = (channels, width // 4, width // 2, width)
        for i, (a, b) in enumerate(pairwise(widths)):
            setattr(self, f"proj_conv{i}", nn.Conv2d(a, b, 3, 1, 1, bias=False))
            setattr(self, f"proj_bn{i}", nn.BatchNorm2d(b))
            setattr(self, f"proj_lif{i}", node())
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.rpe_conv = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.rpe_bn, self.rpe_lif = nn.BatchNorm2d(width), node()

    def forward(self, x):
        T, B, _, H, W = x.shape
        x = x.flatten(0, 1)
        for i in range(3):
            x = getattr(self, f"proj_bn{i}")(getattr(self, f"proj_conv{i}")(x))
            if i > 0:
                x = self.maxpool(x)
                H, W = H // 2, W // 2
            x = getattr(self, f"proj_lif{i}")(x.reshape(T, B, -1, H, W).contiguous())
            x = x.flatten(0, 1).contiguous()
        feat = x.reshape(T, B, -1, H, W).contiguous()
        x = self.rpe_bn(self.rpe_conv(x)).reshape(T, B, -1, H, W).contiguous()
        x = self.rpe_lif(x) + feat
        return x.flatten(-2).transpose(-1, -2), (H, W)      # T, B, N, C


class WrittenSpikformer(nn.Module):
    def __init__(self, node, steps: int = 4, width: int = 16, heads: int = 2, depth: int = 1):
        super().__init__()
        self.T = steps
        self.add_module("patch_embed", PatchStem(node, 3, width))
        self.add_module("block", nn.ModuleList(
            TokenBlock(node, width, heads) for _ in range(depth)))
        self.head = nn.Linear(width, 10)

    def forward_features(self, x):
        block, patch_embed = self.block, self.patch_embed
        x, (H, W) = patch_embed(x)
        assert x.shape[2] == H * W
        for blk in block:
            x = blk(x)
        return x.mean(2)

    def forward(self, x):
        x = (x.unsqueeze(0)).repeat(self.T, 1, 1, 1, 1)
        x = self.forward_features(x)
        return self.head(x.mean(0))


class EinsumAttention(TokenAttention):
    """The same sums by einsum, keys and values first (linear in the tokens)."""

    def forward(self, x):
        T, B, N, C = x.shape
        flat = x.flatten(0, 1)
        q, k, v = (self._project(name, flat, T, B) for name in "qkv")
        kv = torch.einsum("tbhnd,tbhne->tbhde", k, v)
        x = torch.einsum("tbhnd,tbhde->tbhne", q, kv) * self.scale
        x = self.attn_lif(x.transpose(2, 3).reshape(T, B, N, C)).flatten(0, 1)
        x = self.proj_bn(self.proj_linear(x).transpose(-1, -2)).transpose(-1, -2)
        return self.proj_lif(x.reshape(T, B, N, C))


class EinsumSpikformer(WrittenSpikformer):
    def __init__(self, node):
        super().__init__(node)
        for blk in self.block:
            blk.attn = EinsumAttention(node, 16, 2)


def _multi(make):
    return lambda node: make(lambda **given: node(step_mode="m", **given))


ENTRIES = (
    Entry("spikformer", "Spikformer: T, B, C, H, W = x.shape; flatten(0, 1); tokens by Linear",
          _multi(WrittenSpikformer), (3, 16, 16), feed="image", neurons=ALL),
    Entry("spikformer-einsum", "Spikformer forks: attention by einsum, keys and values first",
          _multi(EinsumSpikformer), (3, 16, 16), feed="image", neurons=("LIF",)),
)
