"""A wide network class, made narrow: its own forward function, fewer channels.

SpikingJelly's VGGs and ResNets fix their widths (512 channels, a classifier of 25088 x 4096). A
test of their *structure* needs none of that: built on torch's meta device they cost nothing, and
every layer is then replaced by one with `factor` times fewer channels.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn

WEIGHTED = nn.Conv1d | nn.Conv2d | nn.Linear
NORMS = nn.BatchNorm1d | nn.BatchNorm2d
WIDTHS = ("in_channels", "out_channels", "in_features", "out_features", "num_features")


def thin(make: Callable[[], nn.Module], factor: int) -> nn.Module:
    """The module of `make()` with channels divided by `factor`, on the CPU.

    Widths that do not divide stay as they are: those of the input and of the classes. Modules that
    own parameters beside convolutions, linear layers and norms must make them on the CPU.
    """
    with torch.device("meta"):
        net = make()
    for module in list(net.modules()):
        for name, part in module.named_children():
            if isinstance(part, WEIGHTED | NORMS):
                setattr(module, name, _narrow(part, factor))
        for name, value in [*vars(module).items(), *module._parameters.items()]:
            if isinstance(value, nn.Parameter) and value.is_meta:
                setattr(module, name, nn.Parameter(torch.zeros(value.shape)))
            elif isinstance(value, torch.Tensor) and value.is_meta:     # no parameter, no buffer
                setattr(module, name, torch.zeros(value.shape))
    return net


def _narrow(part: nn.Module, factor: int) -> nn.Module:
    """A copy of a layer on the CPU with fewer channels and fresh parameters of its own init."""
    made = copy.copy(part)
    made._parameters, made._buffers = {}, {}
    for name in WIDTHS:
        width = getattr(part, name, None)
        if width is not None and width % factor == 0:
            setattr(made, name, width // factor)
    shapes = _shapes(made)
    for name, value in part._parameters.items():
        made._parameters[name] = None if value is None else nn.Parameter(torch.ones(shapes[name]))
    for name, value in part._buffers.items():
        made._buffers[name] = torch.zeros(shapes.get(name, value.shape), dtype=value.dtype)
    made.reset_parameters()
    return made


def _shapes(part: nn.Module) -> dict[str, tuple[int, ...]]:
    if isinstance(part, NORMS):
        return dict.fromkeys(("weight", "bias", "running_mean", "running_var"),
                             (part.num_features,))
    if isinstance(part, nn.Linear):
        return {"weight": (part.out_features, part.in_features), "bias": (part.out_features,),
                "gain": (part.out_features, 1)}
    return {"weight": (part.out_channels, part.in_channels // part.groups, *part.kernel_size),
            "bias": (part.out_channels,), "gain": (part.out_channels, 1, 1, 1)}
