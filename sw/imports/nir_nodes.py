"""What NIR's linear nodes and pools compute, as modules in float64 on values [T, B, ...].

`read_node` gives a node's module and the shape behind it; wrong numbers are refused with the place.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import SpikeTicketError
from .dialects import Dialect, by_channel
from .nir_neurons import NEAREST_SYNAPSE, Shape, array

MAX_NUMBERS = 1 << 24
"""Weights of a graph, groups filled with zeros: a ResNet-19 has 1.3e7, no core holds a tenth."""

Pair = tuple[int, int]
"""(rows, columns)."""

NEAREST = {
    "Conv1d": "Conv2d on maps of height 1",
    "CubaLI": "no neuron before the output: the readout sums its currents over the timesteps",
    "CubaLIF": NEAREST_SYNAPSE,
    "Delay": "no delay; timesteps are the same everywhere",
    "I": "I before the output (it is the readout's sum), or IF",
    "LI": "no neuron before the output: the readout sums its currents over the timesteps",
}
"""Nearest supported form of nodes that are not."""


class ConvNode(nn.Module):
    """edges: zeros (before, behind) the map along each axis."""

    def __init__(self, weight: Tensor, bias: Tensor, stride: Pair, edges: tuple[Pair, Pair],
                 dilation: Pair, groups: int):
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.edges = edges
        self.options = (stride, 0, dilation, groups)
        self.numbers = weight.numel() * groups

    def forward(self, x: Tensor) -> Tensor:
        lead, (rows, columns) = x.shape[:2], self.edges
        x = F.pad(x.flatten(0, 1), (*columns, *rows))
        return F.conv2d(x, self.weight, self.bias, *self.options).unflatten(0, lead)


class LinearNode(nn.Module):
    def __init__(self, weight: Tensor, bias: Tensor):
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.numbers = weight.numel()

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class ScaleNode(nn.Module):
    """Channel c times scale[c]."""

    numbers = 0

    def __init__(self, scale: Tensor):
        super().__init__()
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale.view(-1, *(1,) * (x.dim() - 3))


class PoolNode(nn.Module):
    """Average over windows (the padding's zeros count), or the sum."""

    numbers = 0

    def __init__(self, size: Pair, stride: Pair, padding: Pair, total: bool):
        super().__init__()
        self.size, self.stride, self.padding, self.total = size, stride, padding, total

    def forward(self, x: Tensor) -> Tensor:
        made = F.avg_pool2d(x.flatten(0, 1), self.size, self.stride, self.padding,
                            divisor_override=1 if self.total else None)
        return made.unflatten(0, x.shape[:2])


class OrNode(nn.Module):
    """A pool of spikes behind which one spike fires a neuron that keeps nothing: their OR."""

    numbers = 0

    def __init__(self, pool: PoolNode):
        super().__init__()
        self.window = (pool.size, pool.stride, pool.padding)

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x.flatten(0, 1), *self.window).unflatten(0, x.shape[:2])


def read_node(nir, node, where: str, shape: Shape, flat: bool, how: Dialect,
              ) -> tuple[nn.Module | None, Shape, bool]:
    """(module, shape behind it, whether that is flat) of a node that is no neuron.

    shape: of the operand, flat: its features lie in one axis though it was a map; a Linear takes
    them so.
    """
    kind = type(node)
    if kind is nir.Conv2d:
        return _conv(node, where, shape, flat)
    if kind in (nir.Affine, nir.Linear):
        return _linear(node, where, shape, flat)
    if kind in (nir.Scale, nir.I):
        values = by_channel(array(node.scale if kind is nir.Scale else node.r), shape, where,
                            "scale" if kind is nir.Scale else "r")
        values = values if kind is nir.Scale else how.gain(values, None)
        return ScaleNode(torch.from_numpy(values)), shape, flat
    if kind in (nir.AvgPool2d, nir.SumPool2d):
        return _pool(node, where, shape, flat, kind is nir.SumPool2d)
    if kind is nir.Flatten:
        _flatten(node, where, shape, flat)
        return None, shape, True
    hint = NEAREST.get(kind.__name__, "one of the nodes in the table of docs/imports.md")
    raise SpikeTicketError(f"{where}: {kind.__name__} is not supported; the nearest is {hint}")


def _conv(node, where: str, shape: Shape, flat: bool) -> tuple[nn.Module, Shape, bool]:
    if len(shape) == 1 or (flat and shape[1:] != (1, 1)):
        raise SpikeTicketError(f"{where}: a convolution of features without positions; remove the "
                               "flatten before it")
    weight, bias = _weights(node, where, 4)
    stride, dilation = pair(node.stride, where, "stride"), pair(node.dilation, where, "dilation")
    groups = int(array(node.groups))
    if groups < 1 or len(weight) % groups or min(*stride, *dilation) < 1:
        raise SpikeTicketError(f"{where}: stride {stride}, dilation {dilation}, groups {groups} "
                               f"are no convolution's with {len(weight)} output channels")
    if weight.shape[1] * groups != shape[0]:
        raise SpikeTicketError(f"{where}: weight expects {weight.shape[1] * groups} channels, its "
                               f"input has {shape[0]}")
    size = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilation, strict=True)]
    edges = _edges(node.padding, size, stride, where)
    maps = [(n + sum(e) - k) // s + 1
            for n, e, k, s in zip(shape[1:], edges, size, stride, strict=True)]
    if min(*maps, *size) < 1:
        raise SpikeTicketError(f"{where}: a kernel {size[0]}x{size[1]} does not fit its map "
                               f"{text(shape)}")
    return ConvNode(weight, bias, stride, edges, dilation, groups), (len(weight), *maps), False


def _linear(node, where: str, shape: Shape, flat: bool) -> tuple[nn.Module, Shape, bool]:
    weight, bias = _weights(node, where, 2)
    if not flat and max(shape[1:], default=1) > 1:
        raise SpikeTicketError(f"{where}: a linear layer over the columns of a map {text(shape)}; "
                               "flatten the map before it")
    if weight.shape[1] != math.prod(shape):
        raise SpikeTicketError(f"{where}: weight of shape {list(weight.shape)} does not fit "
                               f"{math.prod(shape)} features")
    return LinearNode(weight, bias), (len(weight),), False


def _weights(node, where: str, axes: int) -> tuple[Tensor, Tensor]:
    given = array(node.weight)
    if given.ndim != axes:
        kind = "[C_out, C_in, kh, kw]" if axes == 4 else "[C_out, features]"
        raise SpikeTicketError(f"{where}: weight of shape {list(given.shape)} is not {kind}")
    if given.size > MAX_NUMBERS:
        raise SpikeTicketError(f"{where}: {given.size} weights are more than {MAX_NUMBERS}")
    weight = torch.from_numpy(np.array(given, np.float64))
    bias = getattr(node, "bias", None)
    bias = (torch.zeros(len(weight), dtype=torch.float64) if bias is None
            else torch.from_numpy(np.array(array(bias), np.float64)).flatten())
    if len(bias) != len(weight):
        raise SpikeTicketError(f"{where}: {len(bias)} biases for {len(weight)} channels")
    if not (bool(torch.isfinite(weight).all()) and bool(torch.isfinite(bias).all())):
        raise SpikeTicketError(f"{where}: a weight or bias is not a finite number")
    return weight, bias


def _pool(node, where: str, shape: Shape, flat: bool, total: bool,
          ) -> tuple[nn.Module, Shape, bool]:
    if len(shape) == 1 or (flat and shape[1:] != (1, 1)):
        raise SpikeTicketError(f"{where}: a pool of features without positions")
    size, stride, padding = (pair(getattr(node, k), where, k)
                             for k in ("kernel_size", "stride", "padding"))
    maps = [(n + 2 * p - k) // max(s, 1) + 1
            for n, k, s, p in zip(shape[1:], size, stride, padding, strict=True)]
    if min(*size, *stride, *maps) < 1 or any(not 0 <= p <= k // 2
                                             for p, k in zip(padding, size, strict=True)):
        raise SpikeTicketError(f"{where}: pool {size}, stride {stride}, padding {padding} leaves "
                               f"nothing of {text(shape)}")
    return PoolNode(size, stride, padding, total), (shape[0], *maps), False


def _flatten(node, where: str, shape: Shape, flat: bool) -> None:
    start, end = int(array(node.start_dim)), int(array(node.end_dim))
    end = end + 3 if end < 0 else end
    # Some writers count a batch axis that NIR does not have.
    if not flat and max(shape[1:], default=1) > 1 and (start, end) not in ((0, 2), (1, 3)):
        raise SpikeTicketError(f"{where}: flattens axes {start} to {end}; only all of them, 0 to "
                               "2, can be")


def pair(value: object, where: str, what: str) -> Pair:
    """(rows, columns) of a number, a sequence or an array of one or two numbers."""
    numbers = np.ravel(array(value)).tolist()
    numbers = numbers * 2 if len(numbers) == 1 else numbers
    if len(numbers) != 2 or any(n != int(n) for n in numbers):
        raise SpikeTicketError(f"{where}: {what} {value} is not one or two whole numbers")
    return int(numbers[0]), int(numbers[1])


def _edges(padding: object, size: list[int], stride: Pair, where: str) -> tuple[Pair, Pair]:
    """Zeros (before, behind) the map along each axis."""
    if isinstance(padding, np.ndarray) and padding.dtype.kind in "SU" and padding.size == 1:
        padding = padding.item()
    if isinstance(padding, bytes):
        padding = padding.decode("utf8", "replace")
    if isinstance(padding, str) and padding == "valid":
        return (0, 0), (0, 0)
    if isinstance(padding, str) and padding == "same":
        if stride != (1, 1):
            raise SpikeTicketError(f"{where}: padding 'same' needs stride 1, not {stride}")
        rows, columns = (((n - 1) // 2, n - 1 - (n - 1) // 2) for n in size)
        return rows, columns
    if isinstance(padding, str):
        raise SpikeTicketError(f"{where}: padding {padding!r} is not a number, 'same' or 'valid'")
    rows, columns = pair(padding, where, "padding")
    if min(rows, columns) < 0:
        raise SpikeTicketError(f"{where}: padding {(rows, columns)} is below 0")
    return (rows, rows), (columns, columns)


def text(shape: Shape) -> str:
    return "x".join(map(str, shape))
