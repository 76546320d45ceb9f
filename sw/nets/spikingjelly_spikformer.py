"""SpikingJelly's Spikformer (`spikingjelly.activation_based.model.spikformer`) as float layers.

Both of its stems: four convolutions with max-pools behind the last two (patches of 4x4) or behind
all of them (16x16).
"""

from __future__ import annotations

import torch
from spikingjelly.activation_based.model import spikformer
from torch import Tensor, nn

from ..errors import SpikeTicketError
from ..integer.folding import ModuleOperation
from ..integer.gate import Gate
from ..integer.network import Pool
from .spikeformer_layers import Bits, LayerList


def spikingjelly_layers(model: spikformer.Spikformer, bits: Bits = 4,
                        gate: Gate | None = None) -> list[ModuleOperation]:
    """The layers of SpikingJelly's Spikformer, under the names that ours have.

    gate: behind the patch embedding (not of mode "input"); it counts the maps "stem4" and "rpe".

    Its logits are those of every timestep; the integer network's are their sum over timesteps (and
    tokens). Raises SpikeTicketError for another module.
    """
    if not isinstance(model, spikformer.Spikformer):
        raise SpikeTicketError(f"{type(model).__name__} is not SpikingJelly's Spikformer")
    b = LayerList(bits)
    stem = model.patch_embed
    for i, stage in enumerate(stem.stages, 1):
        b.stage(f"stem{i}", *_conv_parts(stage))
    conv, norm, node, _ = _conv_parts(stem.positional_encoding)
    b.stream += b.add("rpe", conv, norm, node)
    if gate is not None:
        b.gate(gate)
    for i, block in enumerate(model.blocks, 1):
        name, attn, mlp = f"block{i}", block.attn, block.mlp
        width = attn.qkv_conv_bn[0].in_channels
        for j, part in enumerate("qkv"):
            rows = slice(j * width, (j + 1) * width)
            b.add(f"{name}.{part}", *_rows(*attn.qkv_conv_bn, rows), attn.qkv_lif)
        b.attention(name, attn.num_heads, attn.attn_lif, attn.scale)
        b.stream += b.add(f"{name}.proj", *_token_parts(attn.proj_conv_bn), attn.proj_lif,
                          (f"{name}.attention",))
        hidden = b.add(f"{name}.fc1", *_token_parts(mlp.fc1), mlp.neuron1)
        b.stream += b.add(f"{name}.fc2", *_token_parts(mlp.fc2), mlp.neuron2, hidden)
    b.add("head", model.head, None, None)
    return b.layers


def _conv_parts(stage: nn.Module) -> tuple[nn.Conv2d, nn.Module, nn.Module, Pool | None]:
    """(conv, norm, neuron, pool) of a stage of the stem; its max-pool is before the neuron."""
    conv, norm, *pools = stage.conv_bn.block
    pool = Pool("max", pools[0].kernel_size, pools[0].stride, pools[0].padding) if pools else None
    return conv, norm, stage.neuron, pool


def _token_parts(conv_bn: nn.Module) -> tuple[nn.Linear, nn.Module]:
    conv, norm = conv_bn
    return _linear(conv.weight), norm


def _linear(weight: Tensor) -> nn.Linear:
    """The Linear over channels that a 1x1 Conv1d without bias is; weight [C_out, C_in, 1]."""
    out, channels = weight.shape[:2]
    linear = nn.Linear(channels, out, bias=False, device="meta")
    linear.weight = nn.Parameter(weight.detach().reshape(out, channels))
    return linear


@torch.no_grad()
def _rows(conv: nn.Conv1d, norm: nn.BatchNorm1d, rows: slice) -> tuple[nn.Linear, nn.Module]:
    """Some output channels of a 1x1 Conv1d and its batch norm."""
    cut = nn.BatchNorm1d(rows.stop - rows.start, norm.eps, affine=norm.affine)
    cut.running_mean, cut.running_var = norm.running_mean[rows], norm.running_var[rows]
    if norm.affine:
        cut.weight, cut.bias = nn.Parameter(norm.weight[rows]), nn.Parameter(norm.bias[rows])
    return _linear(conv.weight[rows]), cut.eval()
