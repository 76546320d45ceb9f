"""Operations on spikes that are given as floats 0..1 where the module had booleans.

A comparison gives booleans; replays put floats in their place, so that they can be differentiated
in them. AND is a product, NOT is 1 - x, a choice is c a + (1 - c) b: equal on 0 and 1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

WHOLE = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def _where(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return condition * a + (1 - condition) * b


def _fill(x: Tensor, mask: Tensor, value: Tensor | float) -> Tensor:
    return _where(mask, torch.as_tensor(value, dtype=x.dtype), x)


def _put_(x: Tensor, indices: list, values: Tensor, accumulate: bool = False) -> Tensor:
    mask = indices[0].reshape(*indices[0].shape, *(1,) * (x.dim() - indices[0].dim()))
    return x.copy_(_fill(x, mask, values))


SOFT: dict[str, Callable] = {
    "logical_not": lambda x: 1 - x, "bitwise_not": lambda x: 1 - x,
    "logical_and": torch.mul, "bitwise_and": torch.mul, "__and__": torch.mul,
    "logical_or": lambda a, b: a + b - a * b, "bitwise_or": lambda a, b: a + b - a * b,
    "__or__": lambda a, b: a + b - a * b,
    "logical_xor": lambda a, b: a + b - 2 * a * b, "bitwise_xor": lambda a, b: a + b - 2 * a * b,
    "where": _where, "masked_fill": _fill,
    "masked_fill_": lambda x, mask, value: x.copy_(_fill(x, mask, value)),
}
ALIASES = ("detach", "lift_fresh", "alias")


def run(function: Callable, args: tuple, kwargs: dict, whole: bool) -> object:
    """What the operation gives; `detach` lets gradients through. whole: an argument was boolean or
    integer when it was recorded."""
    name = function._schema.name.split("::")[1]
    if name in ALIASES:
        return args[0]
    if name == "view" and not isinstance(args[1], torch.dtype):
        return args[0].reshape(args[1])         # values given may lie otherwise in memory
    if not whole:
        return function(*args, **kwargs)
    if kwargs.get("dtype") in WHOLE and args[0].dtype == torch.float64:
        kwargs = {**kwargs, "dtype": torch.float64}
    if name in SOFT and any(a.dtype == torch.float64 for a in _conditions(name, args)):
        return SOFT[name](*args)
    if name == "index_put_" and len(args[1]) == 1 and args[1][0] is not None and (
            args[1][0].dtype == torch.float64):
        return _put_(*args)
    return function(*args, **kwargs)


def _conditions(name: str, args: tuple) -> list[Tensor]:
    place = {"where": (0,), "masked_fill": (1,), "masked_fill_": (1,)}.get(name, (0, 1))
    return [args[i] for i in place if i < len(args) and isinstance(args[i], Tensor)]
