"""What is refused, in one line: the module, the operation, and the nearest form that imports."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import SpikeTicketError
from .grouping import owner
from .probing import NotAffine
from .recording import Cut, Recording
from .tape import Op

LINEAR = {
    "view", "_unsafe_view", "reshape", "_reshape_alias", "expand", "permute", "transpose", "t",
    "squeeze", "unsqueeze", "flatten", "unflatten", "select", "slice", "narrow", "split",
    "split_with_sizes", "chunk", "unbind", "cat", "stack", "clone", "copy_", "_to_copy", "alias",
    "detach", "lift_fresh", "contiguous", "add", "add_", "sub", "sub_", "rsub", "neg", "neg_",
    "mul", "mul_", "div", "div_", "sum", "mean", "mm", "bmm", "addmm", "baddbmm", "matmul",
    "linear", "mv", "dot", "addmv", "convolution", "native_batch_norm", "_native_batch_norm_legit",
    "_native_batch_norm_legit_no_training", "avg_pool2d", "avg_pool3d", "_adaptive_avg_pool2d",
    "_adaptive_avg_pool3d", "constant_pad_nd", "reflection_pad2d", "replication_pad2d",
    "upsample_nearest2d", "upsample_bilinear2d", "flip", "roll", "index", "index_select", "gather",
    "as_strided", "pixel_shuffle", "repeat", "zeros_like", "ones_like", "full_like", "empty_like",
    "new_zeros", "zeros", "empty", "fill_", "zero_", "scatter", "cumsum", "einsum", "im2col",
    "col2im", "select_backward", "lerp", "addcmul", "addcmul_", "where", "masked_fill",
    "masked_fill_", "logical_not", "logical_and", "bitwise_and", "bitwise_or", "bitwise_not",
    "index_put_", "movedim", "unfold", "diagonal", "linalg_vector_norm", "cumulative_trapezoid"}
"""Operations that are linear in the values of the network, where the rest is constant."""

NEAREST = {
    "GroupNorm": "BatchNorm2d, which folds into thresholds", "LayerNorm": "BatchNorm2d",
    "InstanceNorm2d": "BatchNorm2d", "ReLU": "IFNode or LIFNode", "GELU": "IFNode or LIFNode",
    "SiLU": "IFNode or LIFNode", "Sigmoid": "IFNode or LIFNode", "Tanh": "IFNode or LIFNode",
    "LeakyReLU": "IFNode or LIFNode", "Softmax": "no softmax: the label is that of the largest sum",
    "LogSoftmax": "no softmax: the label is that of the largest sum",
    "CUBALIFNode": "LIFNode", "KLIFNode": "LIFNode", "GatedLIFNode": "LIFNode", "PSN": "LIFNode",
    "MaskedPSN": "LIFNode", "SlidingPSN": "LIFNode", "QIFNode": "IFNode", "EIFNode": "LIFNode",
    "IzhikevichNode": "LIFNode", "TernaryIFNode": "IFNode", "TernaryLIFNode": "LIFNode",
    "ILIFNode": "LIFNode with more timesteps", "LIAFNode": "LIFNode",
    "ComplementaryLIFNode": "LIFNode", "MPBNLIFNode": "LIFNode", "DSRLIFNode": "LIFNode",
    "DSRIFNode": "IFNode", "RAFNode": "LIFNode", "STBIFNode": "IFNode",
    "HalfThresholdIFNode": "IFNode", "ActivationAwareIFNode": "IFNode",
    "NonSpikingLIFNode": "no neuron: the readout sums its currents over time",
    "NonSpikingIFNode": "no neuron: the readout sums its currents over time",
    "SynapseFilter": "LIFNode", "LinearRecurrentContainer": "LIFNode, without recurrence",
    "ElementWiseRecurrentContainer": "LIFNode, without recurrence",
    "TemporalWiseAttention": "attention of spikes", "MultiDimensionalAttention":
    "attention of spikes", "FewSpikeNode": "IFNode",
}
"""By module."""

AT_THE_END = {
    "_softmax": "no softmax at the end: the label is that of the largest sum",
    "sigmoid": "no sigmoid at the end: the label is that of the largest sum",
    "argmax": "no argmax at the end: the label is that of the largest sum",
    "max": "no maximum at the end: the label is that of the largest sum",
}
"""By operation, of one that makes the output."""

OPERATIONS = {
    "relu": "IFNode or LIFNode", "gelu": "IFNode or LIFNode", "silu": "IFNode or LIFNode",
    "sigmoid": "IFNode or LIFNode", "tanh": "IFNode or LIFNode", "clamp": "IFNode or LIFNode",
    "sign": "a comparison with a threshold, in an IFNode", "round": "IFNode or LIFNode",
    "native_layer_norm": "BatchNorm2d", "native_group_norm": "BatchNorm2d",
    "_softmax": "attention of spikes without a softmax, (q k^T) v",
    "_log_softmax": "no softmax: the label is that of the largest sum",
    "_scaled_dot_product_flash_attention_for_cpu":
    "attention of spikes without a softmax, (q k^T) v",
    "exp": "no exponential between neurons", "sqrt": "BatchNorm2d in evaluation",
    "rsqrt": "BatchNorm2d in evaluation", "pow": "a neuron behind each factor",
}
"""By operation."""

NORMS = ("native_batch_norm", "_native_batch_norm_legit")

LAST = "one of the forms in the table of docs/imports.md"


def refused(recording: Recording, cut: Cut | None, reason: NotAffine) -> SpikeTicketError:
    """Why a cut (None: the output) cannot be read: the first operation before it that is not
    linear, or else what identification found."""
    found = _culprit(recording.operations(cut))
    if found is not None:
        return SpikeTicketError(_named(recording, found, AT_THE_END if cut is None else {}))
    where = "the output" if cut is None else f"{cut.where}: its input"
    for op in recording.operations(cut):
        path, kind = owner(recording.modules, op.module)
        if kind in NEAREST:
            return unsupported(path, kind)
    return SpikeTicketError(f"{where} {reason}")


def unsupported(path: str, kind: str) -> SpikeTicketError:
    """The refusal of a module whose class has a nearest form."""
    return SpikeTicketError(f"module {path!r}: {kind} is not supported; the nearest is "
                            f"{NEAREST[kind]}")


def _culprit(operations: list[Op]) -> Op | None:
    return next((op for op in operations if op.dynamic and (
        op.name not in LINEAR or (op.name in NORMS and op.args[5]))), None)


def _named(recording: Recording, op: Op, first: Mapping[str, str]) -> str:
    kind, package = recording.modules.get(op.module, ("", ""))
    if op.name in NORMS:
        return (f"module {op.module!r}: a batch norm without running statistics; train it with "
                "track_running_stats=True")
    hint = first.get(op.name) or NEAREST.get(kind) or OPERATIONS.get(
        op.name, OPERATIONS.get(op.name.rstrip("_"), LAST))
    place = f"module {op.module!r}" if op.module else "forward"
    if kind in NEAREST or package.startswith(("torch.nn", "spikingjelly")):
        return f"{place}: {kind} is not supported; the nearest is {hint}"
    line = f" at {op.line}" if op.line else ""
    return f"{place}: {op.name}{line} is not supported; the nearest is {hint}"
