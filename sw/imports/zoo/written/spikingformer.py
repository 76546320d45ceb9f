"""Spikingformer: neurons in front of the convolutions, residuals between membranes.

Every unit is neuron, Conv2d 1x1, BatchNorm on [T * B, C, H, W]; sums are taken of currents, so a
neuron sees everything that came before it. Heads are cut from channel-first maps by view; q, k and
v share one input neuron.
"""

from __future__ import annotations

from torch import nn

from ..entry import Entry


class PreUnit(nn.Module):
    """Neuron, then convolution and norm, over merged time and batch."""

    def __init__(self, node, a: int, b: int, kernel: int = 1):
        super().__init__()
        self.proj_lif = node(step_mode="m")
        self.proj_conv = nn.Conv2d(a, b, kernel, padding=kernel // 2, bias=False)
        self.proj_bn = nn.BatchNorm2d(b)

    def forward(self, x):
        T, B, _, H, W = x.size()
        x = self.proj_lif(x)
        x = self.proj_bn(self.proj_conv(x.flatten(0, 1)))
        return x.view(T, B, -1, H, W)


class PreAttention(nn.Module):
    def __init__(self, node, width: int, heads: int):
        super().__init__()
        self.num_heads = heads
        self.proj_lif = node(step_mode="m")
        self.convs = nn.ModuleDict({name: nn.Sequential(
            nn.Conv1d(width, width, 1, bias=False), nn.BatchNorm1d(width)) for name in "qkv"})
        self.lifs = nn.ModuleDict({name: node(step_mode="m") for name in "qkv"})
        self.attn_lif = node(step_mode="m")
        self.proj = nn.Sequential(nn.Conv1d(width, width, 1), nn.BatchNorm1d(width))

    def forward(self, x):
        T, B, C, H, W = x.shape
        N, h = H * W, self.num_heads
        x = self.proj_lif(x).flatten(3)
        parts = []
        for name, conv in self.convs.items():
            part = self.lifs[name](conv(x.flatten(0, 1)).view(T, B, C, N))
            parts.append(part.transpose(-1, -2).view(T, B, N, h, C // h).transpose(2, 3))
        q, k, v = parts
        x = q @ (k.mT @ v) * 0.125
        x = self.attn_lif(x.transpose(3, 4).reshape(T, B, C, N)).flatten(0, 1)
        return self.proj(x).view(T, B, C, H, W)


class PreBlock(nn.Module):
    def __init__(self, node, width: int, heads: int):
        super().__init__()
        self.attn = PreAttention(node, width, heads)
        self.mlp = nn.Sequential(PreUnit(node, width, 2 * width), PreUnit(node, 2 * width, width))

    def forward(self, x):
        x = x + self.attn(x)
        return x + self.mlp(x)


class Spikingformer(nn.Module):
    def __init__(self, node, steps: int = 4, width: int = 16):
        super().__init__()
        self.T = steps
        self.stem = nn.Sequential(nn.Conv2d(3, width // 2, 3, 2, 1, bias=False),
                                  nn.BatchNorm2d(width // 2))
        self.stem_lif = node(step_mode="m")
        self.down = nn.Sequential(nn.Conv2d(width // 2, width, 3, 2, 1, bias=False),
                                  nn.BatchNorm2d(width))
        self.rpe = PreUnit(node, width, width, 3)
        self.blocks = nn.ModuleList([PreBlock(node, width, 2)])
        self.last_lif = node(step_mode="m")
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        if len(x.shape) < 5:
            x = (x.unsqueeze(0)).repeat(self.T, 1, 1, 1, 1)
        T, B = x.shape[:2]
        x = self.stem(x.flatten(0, 1))
        x = self.stem_lif(x.unflatten(0, (T, B))).flatten(0, 1)
        x = self.down(x).unflatten(0, (T, B))
        x = self.rpe(x) + x
        for block in self.blocks:
            x = block(x)
        x = self.last_lif(x)
        return self.head(x.flatten(3).mean(3)).mean(0)


ENTRIES = (Entry("spikingformer", "Spikingformer: neuron before convolution, membrane residuals",
                 Spikingformer, (3, 16, 16), feed="image", neurons=("IF", "LIF")),)
