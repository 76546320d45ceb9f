"""The two networks of docs/tutorial.md, as SpikingJelly's users write them: no line of this file
knows of tickets, integers or FPGAs.

    CSNN        the convolutional network of SpikingJelly's Fashion-MNIST tutorial, with 16 instead
                of 128 channels
    spikformer  SpikingJelly's own `model.spikformer.Spikformer`, two blocks of 96 channels
"""

from __future__ import annotations

from spikingjelly.activation_based import functional, layer, neuron, surrogate
from spikingjelly.activation_based.model.spikformer import Spikformer
from torch import Tensor, nn

TIMESTEPS = 4


class CSNN(nn.Module):
    """Images [B, 1, 28, 28] in 0..1 -> firing rates of ten classes [B, 10]."""

    def __init__(self, channels: int = 16, timesteps: int = TIMESTEPS):
        super().__init__()
        self.T = timesteps

        def node() -> neuron.IFNode:
            return neuron.IFNode(surrogate_function=surrogate.ATan(), detach_reset=True)
        self.conv_fc = nn.Sequential(
            layer.Conv2d(1, channels, 3, padding=1, bias=False), layer.BatchNorm2d(channels),
            node(), layer.MaxPool2d(2, 2),
            layer.Conv2d(channels, channels, 3, padding=1, bias=False),
            layer.BatchNorm2d(channels), node(), layer.MaxPool2d(2, 2), layer.Flatten(),
            layer.Linear(channels * 7 * 7, channels * 4 * 4, bias=False), node(),
            layer.Linear(channels * 4 * 4, 10, bias=False), node())
        functional.set_step_mode(self, "m")

    def forward(self, x: Tensor) -> Tensor:
        x_seq = x.unsqueeze(0).repeat(self.T, 1, 1, 1, 1)
        return self.conv_fc(x_seq).mean(0)


def spikformer() -> Spikformer:
    """Images [B, 1, 28, 28] in 0..1 -> logits [T, B, 10] of two timesteps; 49 tokens."""
    return Spikformer(T=2, img_size_h=28, img_size_w=28, patch_size=4, in_channels=1,
                      num_classes=10, embed_dims=96, num_heads=6, depths=2)
