"""Weighted connections of any shape as the one shape that the integer network has.

`Synapses` know one stride, one padding and dense kernels. Everything here is exact, because a zero
weight is a removed weight and costs nothing: groups become zero blocks, dilation zeros between the
taps, unequal paddings zero rows or columns around the kernel.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import SpikeTicketError
from ..ticket import MAX_WEIGHTS


def pair(value: object, where: str, what: str) -> tuple[int, int]:
    """(rows, columns) of a number, a sequence or an array of one or two numbers."""
    numbers = torch.as_tensor(value).flatten().tolist()
    numbers = numbers * 2 if len(numbers) == 1 else numbers
    if len(numbers) != 2 or any(n != int(n) for n in numbers):
        raise SpikeTicketError(f"{where}: {what} {value} is not one or two whole numbers")
    return int(numbers[0]), int(numbers[1])


def one(value: object, where: str, what: str) -> int:
    """The number that both axes share."""
    rows, columns = pair(value, where, what)
    if rows != columns:
        raise SpikeTicketError(f"{where}: {what} {rows}x{columns} differs between the axes; the "
                               "core has one for both")
    return rows


def normal_conv(weight: Tensor, where: str, *, stride: object = 1, padding: object = 0,
                dilation: object = 1, groups: int = 1) -> tuple[Tensor, int, int]:
    """(weight [C_out, C_in, kh, kw] of a dense convolution, stride, padding) with the same output.

    weight: [C_out, C_in / groups, kh, kw]; padding: numbers, "same" or "valid".
    """
    if weight.dim() != 4:
        raise SpikeTicketError(f"{where}: weight of shape {list(weight.shape)} is not "
                               "[C_out, C_in, kh, kw]")
    groups, step = int(groups), one(stride, where, "stride")
    gaps = pair(dilation, where, "dilation")
    if groups < 1 or len(weight) % groups or step < 1 or min(gaps) < 1:
        raise SpikeTicketError(f"{where}: stride {step}, dilation {gaps}, groups {groups} are no "
                               f"convolution's with {len(weight)} output channels")
    size = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], gaps, strict=True)]
    edges = _edges(padding, size, step, where)
    border = max(max(edge) for edge in edges)
    full = [n + 2 * border - sum(edge) for n, edge in zip(size, edges, strict=True)]
    count = len(weight) * weight.shape[1] * groups * full[0] * full[1]
    if count > MAX_WEIGHTS:
        raise SpikeTicketError(f"{where}: {count} weights are more than {MAX_WEIGHTS}")
    dense = torch.zeros(len(weight), weight.shape[1] * groups, *full, dtype=torch.float64)
    rows, columns = (slice(border - edge[0], border - edge[0] + n, gap)
                     for edge, n, gap in zip(edges, size, gaps, strict=True))
    block_out, block_in = len(weight) // groups, weight.shape[1]
    for g in range(groups):
        outs = slice(g * block_out, (g + 1) * block_out)
        dense[outs, g * block_in:(g + 1) * block_in, rows, columns] = weight[outs].double()
    return dense, step, border


def _edges(padding: object, size: list[int], stride: int, where: str) -> list[tuple[int, int]]:
    """Zeros (before, behind) the map along each axis."""
    if isinstance(padding, bytes):
        padding = padding.decode("utf8", "replace")
    if isinstance(padding, str) and padding == "valid":
        return [(0, 0), (0, 0)]
    if isinstance(padding, str) and padding == "same":
        if stride != 1:
            raise SpikeTicketError(f"{where}: padding 'same' needs stride 1, not {stride}")
        return [((n - 1) // 2, n - 1 - (n - 1) // 2) for n in size]
    if isinstance(padding, str):
        raise SpikeTicketError(f"{where}: padding {padding!r} is not a number, 'same' or 'valid'")
    edges = pair(padding, where, "padding")
    if min(edges) < 0:
        raise SpikeTicketError(f"{where}: padding {edges} is below 0")
    return [(n, n) for n in edges]


def channel_weight(factors: Tensor, size: int = 1) -> Tensor:
    """[C, C, size, size]: channel c times factors[c], averaged over size x size windows."""
    weight = torch.diag(factors.double())[:, :, None, None]
    return weight.expand(-1, -1, size, size).clone() / size ** 2
