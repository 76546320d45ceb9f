"""QKFormer as its repository writes it: a token mask from summed queries, then full attention.

`if len(x.shape) < 5`, batch norms on [T * B, C, N], `q.sum(dim=3, keepdim=True)` through a neuron,
times k; patch embeddings with a convolutional shortcut of their own neurons.
"""

from __future__ import annotations

import torch
from torch import nn

from ..entry import Entry
from .spikformer import TokenAttention


class TokenMask(nn.Module):
    def __init__(self, node, width: int, heads: int):
        super().__init__()
        self.num_heads = heads
        self.q_conv, self.q_bn = nn.Conv1d(width, width, 1, bias=False), nn.BatchNorm1d(width)
        self.k_conv, self.k_bn = nn.Conv1d(width, width, 1, bias=False), nn.BatchNorm1d(width)
        self.proj_conv, self.proj_bn = nn.Conv1d(width, width, 1), nn.BatchNorm1d(width)
        self.q_lif, self.k_lif = node(step_mode="m"), node(step_mode="m")
        self.attn_lif, self.proj_lif = node(step_mode="m"), node(step_mode="m")

    def forward(self, x):
        T, B, C, H, W = x.shape
        x = x.flatten(3)
        T, B, C, N = x.shape
        flat = x.flatten(0, 1)
        q = self.q_lif(self.q_bn(self.q_conv(flat)).reshape(T, B, C, N))
        q = q.unsqueeze(2).reshape(T, B, self.num_heads, C // self.num_heads, N)
        k = self.k_lif(self.k_bn(self.k_conv(flat)).reshape(T, B, C, N))
        k = k.unsqueeze(2).reshape(T, B, self.num_heads, C // self.num_heads, N)
        q = torch.sum(q, dim=3, keepdim=True)
        attn = self.attn_lif(q)
        x = torch.mul(attn, k).flatten(2, 3)
        x = self.proj_bn(self.proj_conv(x.flatten(0, 1))).reshape(T, B, C, H, W)
        return self.proj_lif(x)


class MapMLP(nn.Module):
    def __init__(self, node, width: int):
        super().__init__()
        self.mlp1 = nn.Sequential(nn.Conv2d(width, 2 * width, 1), nn.BatchNorm2d(2 * width))
        self.mlp2 = nn.Sequential(nn.Conv2d(2 * width, width, 1), nn.BatchNorm2d(width))
        self.lif1, self.lif2 = node(step_mode="m"), node(step_mode="m")

    def forward(self, x):
        T, B, C, H, W = x.shape
        x = self.lif1(self.mlp1(x.flatten(0, 1)).reshape(T, B, -1, H, W))
        return self.lif2(self.mlp2(x.flatten(0, 1)).reshape(T, B, C, H, W))


class Embedding(nn.Module):
    """Halves the map, with a shortcut through a strided 1x1 convolution and its own neuron."""

    def __init__(self, node, a: int, b: int):
        super().__init__()
        self.main = nn.Sequential(nn.Conv2d(a, b, 3, 1, 1, bias=False), nn.BatchNorm2d(b),
                                  nn.MaxPool2d(3, 2, 1))
        self.res = nn.Sequential(nn.Conv2d(a, b, 1, 2, 0, bias=False), nn.BatchNorm2d(b))
        self.main_lif, self.res_lif = node(step_mode="m"), node(step_mode="m")

    def forward(self, x):
        T, B = x.shape[0], x.shape[1]
        flat = x.flatten(0, 1)
        main, res = self.main(flat), self.res(flat)
        shape = (T, B, *main.shape[1:])
        return self.main_lif(main.reshape(shape)) + self.res_lif(res.reshape(shape))


class WrittenQKFormer(nn.Module):
    def __init__(self, node, steps: int = 4, width: int = 16):
        super().__init__()
        self.T = steps
        self.embed1, self.embed2 = Embedding(node, 3, width // 2), Embedding(node, width // 2,
                                                                              width)
        self.mask, self.mlp1 = TokenMask(node, width // 2, 2), MapMLP(node, width // 2)
        self.attn = TokenAttention(lambda: node(step_mode="m"), width, 2)
        self.mlp2 = MapMLP(node, width)
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        if len(x.shape) < 5:
            x = (x.unsqueeze(0)).repeat(self.T, 1, 1, 1, 1)
        x = self.embed1(x)
        x = x + self.mask(x)
        x = x + self.mlp1(x)
        x = self.embed2(x)
        tokens = x.flatten(3).transpose(-1, -2)
        tokens = tokens + self.attn(tokens)
        x = tokens.transpose(-1, -2).reshape(x.shape)
        x = x + self.mlp2(x)
        return self.head(x.flatten(3).mean(3).mean(0))


ENTRIES = (Entry("qkformer", "QKFormer: summed queries mask the keys; len(x.shape) < 5",
                 WrittenQKFormer, (3, 16, 16), feed="image", neurons=("IF", "LIF")),)
