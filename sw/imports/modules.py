"""What each module of a SpikingJelly or PyTorch network does to a value on its way.

`HANDLERS` is the table of what is supported; `NEAREST` names the nearest supported form of what
is not. Values and operations are those of `sw.imports.lowering`.
"""

from __future__ import annotations

from collections.abc import Callable

from spikingjelly.activation_based import layer, neuron
from torch import nn

from ..errors import SpikeTicketError
from ..integer.folding import node_rule, norm_scale
from ..models import FusedLIFNode
from .lowering import Currents, Lowering, Value
from .weights import normal_conv, one

CONTAINERS = (nn.Sequential, layer.MultiStepContainer, layer.SeqToANNContainer,
              layer.StepModeContainer)
NEURONS = (neuron.IFNode, neuron.LIFNode, neuron.ParametricLIFNode, FusedLIFNode)
IGNORED = (nn.Identity, nn.Dropout, nn.Dropout2d, layer.Dropout, layer.Dropout2d)

NEAREST = {
    "Conv1d": "Conv2d on maps of height 1", "Conv3d": "Conv2d",
    "ConvTranspose2d": "Conv2d", "Upsample": "a Conv2d of stride 1 on the smaller map",
    "GroupNorm": "BatchNorm2d, which folds into thresholds", "LayerNorm": "BatchNorm2d",
    "ThresholdDependentBatchNorm2d": "BatchNorm2d", "TemporalEffectiveBatchNorm2d": "BatchNorm2d",
    "BatchNormThroughTime2d": "BatchNorm2d", "WSConv2d": "Conv2d with the standardised weights",
    "WSLinear": "Linear with the standardised weights", "ReLU": "IFNode or LIFNode",
    "CUBALIFNode": "LIFNode", "KLIFNode": "LIFNode", "GatedLIFNode": "LIFNode", "PSN": "LIFNode",
    "QIFNode": "IFNode", "EIFNode": "LIFNode", "IzhikevichNode": "LIFNode", "TernaryIFNode":
    "IFNode", "ILIFNode": "LIFNode with more timesteps", "NonSpikingLIFNode":
    "no neuron: the readout sums its currents over time", "NonSpikingIFNode":
    "no neuron: the readout sums its currents over time", "SynapseFilter": "LIFNode",
    "LinearRecurrentContainer": "LIFNode, without recurrence", "ElementWiseRecurrentContainer":
    "LIFNode, without recurrence", "SpikingSelfAttention": "SpikingJelly's Spikformer as a whole",
}


def apply_module(low: Lowering, module: nn.Module, where: str, name: str, value: Value,
                 sole: bool = True, plain: bool = True) -> Value:
    """The value behind a module. sole: nothing else reads `value`. plain: the values have a batch
    axis only, or the module merges time into it; else nn.Flatten counts a time axis."""
    if isinstance(module, CONTAINERS):
        for key, child in module.named_children():
            value = apply_module(low, child, f"{where}.{key}", f"{name}.{key}", value, sole, plain)
            sole = True
        return value
    if type(module) in NEURONS:
        return fire(low, name, module, where, value)
    if type(module) in IGNORED:
        return value
    handler = HANDLERS.get(type(module))
    if handler is None:
        kind = type(module).__name__
        hint = NEAREST.get(kind, "one of the modules in the table of docs/imports.md")
        raise SpikeTicketError(f"{where}: {kind} is not supported; the nearest is {hint}")
    if type(module) is nn.MaxPool2d or type(module) is layer.MaxPool2d:
        return _max_pool(low, module, where, value, sole)
    if type(module) is nn.Flatten or type(module) is layer.Flatten:
        merged = plain or type(module) is layer.Flatten
        return flatten(low, where, value, module.start_dim, module.end_dim, 1 if merged else 2)
    return handler(low, module, where, value)


def flatten(low: Lowering, where: str, value: Value, start: int, end: int, lead: int) -> Value:
    """Flatten axes start..end, of which `lead` are time and batch."""
    rank = lead + (1 if value.flat else 3)
    start, end = (n + rank if n < 0 else n for n in (start, end))
    if (start, end) != (lead, rank - 1):
        raise SpikeTicketError(f"{where}: flattens axes {start} to {end}; only all axes behind "
                               f"time and batch, {lead} to {rank - 1}, can be")
    return low.flatten(value)


def _conv(low: Lowering, module: nn.Conv2d, where: str, value: Value) -> Value:
    if module.padding_mode != "zeros":
        raise SpikeTicketError(f"{where}: padding mode {module.padding_mode!r}; use 'zeros'")
    weight, stride, padding = normal_conv(
        module.weight.detach(), where, stride=module.stride, padding=module.padding,
        dilation=module.dilation, groups=module.groups)
    return low.weigh(where, value, weight, module.bias, stride, padding)


def _linear(low: Lowering, module: nn.Linear, where: str, value: Value) -> Value:
    return low.linear(where, value, module.weight.detach(), module.bias)


def _norm(low: Lowering, module: nn.BatchNorm2d, where: str, value: Value) -> Value:
    if module.running_var is None:
        raise SpikeTicketError(f"{where}: a batch norm without running statistics; train it with "
                               "track_running_stats=True")
    return low.affine(where, value, *norm_scale(module))


def _avg_pool(low: Lowering, module: nn.AvgPool2d, where: str, value: Value) -> Value:
    size, stride, padding = (one(n, where, what) for n, what in (
        (module.kernel_size, "kernel"), (module.stride, "stride"), (module.padding, "padding")))
    if module.ceil_mode or (padding and not module.count_include_pad):
        raise SpikeTicketError(f"{where}: average pool with ceil_mode or without counting its "
                               "padding; use ceil_mode=False, padding=0")
    value = low.average(where, value, size, stride, padding, total=module.divisor_override == 1)
    if module.divisor_override not in (None, 1):
        raise SpikeTicketError(f"{where}: divisor_override {module.divisor_override}; leave it "
                               "out, or 1 for the sum")
    return value


def _global_pool(low: Lowering, module: nn.AdaptiveAvgPool2d, where: str, value: Value) -> Value:
    size = module.output_size
    if size not in (1, (1, 1)):
        raise SpikeTicketError(f"{where}: adaptive average pool to {size}; use AvgPool2d, or 1x1")
    return global_average(low, where, value)


def global_average(low: Lowering, where: str, value: Value) -> Value:
    """The mean over all positions of a square map."""
    _, height, width = value.shape
    if (height, width) == (1, 1):
        return value
    if isinstance(value, Currents):
        return low.all_positions(where, value)
    if height != width:
        raise SpikeTicketError(f"{where}: average over a map of {height}x{width}; the core's "
                               "windows are square, so pool with AvgPool2d or use square inputs")
    return low.average(where, value, height)


def _max_pool(low: Lowering, module: nn.MaxPool2d, where: str, value: Value, sole: bool) -> Value:
    size, stride, padding, gap = (one(n, where, what) for n, what in (
        (module.kernel_size, "kernel"), (module.stride, "stride"), (module.padding, "padding"),
        (module.dilation, "dilation")))
    if module.ceil_mode or module.return_indices or gap != 1:
        raise SpikeTicketError(f"{where}: max pool with ceil_mode, indices or dilation; use the "
                               "plain one")
    return low.maximum(where, value, size, stride, padding, sole=sole)


def _vote(low: Lowering, module: layer.VotingLayer, where: str, value: Value) -> Value:
    return low.vote(where, value, module.voting_size)


def fire(low: Lowering, name: str, module: nn.Module, where: str, value: Value) -> Value:
    """A SpikingJelly neuron; a learned time constant becomes a number."""
    if type(module) is neuron.ParametricLIFNode:
        tau = 1.0 / float(module.w.detach().double().sigmoid())
        module = neuron.LIFNode(tau, module.decay_input, module.v_threshold, module.v_reset)
    gain, rule = node_rule(module, value.shape[0], where)
    return low.fire(where, name, value, rule, gain)


HANDLERS: dict[type, Callable[..., Value]] = {
    nn.Conv2d: _conv, layer.Conv2d: _conv, nn.Linear: _linear, layer.Linear: _linear,
    nn.BatchNorm1d: _norm, nn.BatchNorm2d: _norm, layer.BatchNorm1d: _norm,
    layer.BatchNorm2d: _norm, nn.AvgPool2d: _avg_pool, layer.AvgPool2d: _avg_pool,
    nn.AdaptiveAvgPool2d: _global_pool, layer.AdaptiveAvgPool2d: _global_pool,
    nn.MaxPool2d: _max_pool, layer.MaxPool2d: _max_pool, nn.Flatten: flatten,
    layer.Flatten: flatten, layer.VotingLayer: _vote,
}
