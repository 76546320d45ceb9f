"""Spike-driven Transformer as written: no matrix product, `kv.sum(dim=-2, keepdim=True)`.

Membrane shortcuts; tuples passed between blocks (`x, hook`); multi-step neurons switched by
configuration; the talking-heads neuron on the summed k * v, then q times its spikes.
"""

from __future__ import annotations

from torch import nn

from ..entry import Entry


class DrivenAttention(nn.Module):
    def __init__(self, node, width: int, heads: int):
        super().__init__()
        self.num_heads, self.dim = heads, width
        for name in ("q", "k", "v"):
            setattr(self, f"{name}_conv", nn.Conv2d(width, width, 1, bias=False))
            setattr(self, f"{name}_bn", nn.BatchNorm2d(width))
            setattr(self, f"{name}_lif", node(step_mode="m"))
        self.shortcut_lif, self.talking_heads_lif = node(step_mode="m"), node(step_mode="m")
        self.proj_conv, self.proj_bn = nn.Conv2d(width, width, 1), nn.BatchNorm2d(width)

    def _spikes(self, name: str, x, hook: dict | None):
        T, B, C, H, W = x.shape
        out = getattr(self, f"{name}_bn")(getattr(self, f"{name}_conv")(x.flatten(0, 1)))
        out = getattr(self, f"{name}_lif")(out.reshape(T, B, C, H, W).contiguous())
        if hook is not None:
            hook[name] = out.detach()
        return (out.flatten(3).transpose(-1, -2)
                .reshape(T, B, H * W, self.num_heads, C // self.num_heads)
                .permute(0, 1, 3, 2, 4).contiguous())

    def forward(self, x, hook=None):
        T, B, C, H, W = x.shape
        identity = x
        x = self.shortcut_lif(x)
        q, k, v = (self._spikes(name, x, hook) for name in ("q", "k", "v"))
        kv = k.mul(v)
        kv = kv.sum(dim=-2, keepdim=True)
        kv = self.talking_heads_lif(kv)
        x = q.mul(kv)
        x = x.transpose(3, 4).reshape(T, B, C, H, W).contiguous()
        x = self.proj_bn(self.proj_conv(x.flatten(0, 1))).reshape(T, B, C, H, W)
        return x + identity, v, hook


class DrivenMLP(nn.Module):
    def __init__(self, node, width: int, hidden: int):
        super().__init__()
        self.fc1_conv, self.fc1_bn = nn.Conv2d(width, hidden, 1), nn.BatchNorm2d(hidden)
        self.fc2_conv, self.fc2_bn = nn.Conv2d(hidden, width, 1), nn.BatchNorm2d(width)
        self.fc1_lif, self.fc2_lif = node(step_mode="m"), node(step_mode="m")

    def forward(self, x, hook=None):
        T, B, C, H, W = x.shape
        identity = x
        x = self.fc1_lif(x)
        x = self.fc1_bn(self.fc1_conv(x.flatten(0, 1))).reshape(T, B, -1, H, W).contiguous()
        x = self.fc2_lif(x)
        x = self.fc2_bn(self.fc2_conv(x.flatten(0, 1))).reshape(T, B, C, H, W).contiguous()
        return x + identity, hook


class WrittenSpikeDriven(nn.Module):
    def __init__(self, node, steps: int = 4, width: int = 16):
        super().__init__()
        self.T = steps
        self.conv1, self.bn1 = nn.Conv2d(2, width // 2, 3, 1, 1), nn.BatchNorm2d(width // 2)
        self.lif1, self.pool1 = node(step_mode="m"), nn.MaxPool2d(3, 2, 1)
        self.conv2, self.bn2 = nn.Conv2d(width // 2, width, 3, 2, 1), nn.BatchNorm2d(width)
        self.lif2 = node(step_mode="m")
        self.rpe, self.rpe_bn = nn.Conv2d(width, width, 3, 1, 1), nn.BatchNorm2d(width)
        self.attn, self.mlp = DrivenAttention(node, width, 2), DrivenMLP(node, width, 2 * width)
        self.head_lif, self.head = node(step_mode="m"), nn.Linear(width, 11)

    def forward(self, x, hook=None):
        if len(x.shape) < 5:
            x = (x.unsqueeze(0)).repeat(self.T, 1, 1, 1, 1)
        else:
            x = x.transpose(0, 1).contiguous()      # event frames come batch first
        T, B = x.shape[:2]
        x = self.bn1(self.conv1(x.flatten(0, 1)))
        x = self.lif1(x.reshape(T, B, *x.shape[1:])).flatten(0, 1)
        x = self.bn2(self.conv2(self.pool1(x)))
        shape = (T, B, *x.shape[1:])
        identity = x
        x = self.lif2(x.reshape(shape)).flatten(0, 1)
        x = (self.rpe_bn(self.rpe(x)) + identity).reshape(shape)
        x, _, hook = self.attn(x, hook)
        x, hook = self.mlp(x, hook)
        x = self.head_lif(x.flatten(3).mean(3))
        return self.head(x).mean(0)


ENTRIES = (Entry("spike-driven", "Spike-driven Transformer: k * v summed over tokens; batch first",
                 WrittenSpikeDriven, (2, 16, 16), feed="batch first", static=False,
                 neurons=("IF", "LIF")),)
