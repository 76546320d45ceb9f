"""The integer SpikingJelly network: `sw.integer.network.Network` on SpikingJelly neurons.

Weights, currents, membranes, thresholds and logits are integers. Convolutions run in the smallest
float type that holds every possible sum exactly (float32 below 2^24, float64 below 2^53, checked
against worst-case bounds when the network is built); membranes are int64.
"""

from __future__ import annotations

import numpy as np
import torch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

from ..errors import SpikeTicketError
from .attention import ColumnAttention
from .maps import attend, convolve, max_pool, walk
from .network import LEAK_ONE, Layer, Network, Neuron


class IntegerLIFNode(neuron.BaseNode):
    """LIF/IF neuron on integers, a SpikingJelly neuron.

    v_t = floor(leak * v_{t-1} / 256) + x_t (floor towards minus infinity); fires at
    v_t >= threshold; then v_t = v_reset (hard) or v_t - threshold (soft, v_reset None).
    leak = 256 is an IF neuron; leak = 256 (1 - 1/tau) is LIFNode(tau, decay_input=False).

    threshold: int or int64 tensor [C], along the channel axis of [B, C, ...] inputs.
    Inputs must be of an integer type, else SpikeTicketError; spikes have the type of the input.
    """

    def __init__(self, leak: int = LEAK_ONE, threshold: int | Tensor = 1,
                 v_reset: int | None = 0, step_mode: str = "m", store_v_seq: bool = False):
        super().__init__(v_reset=None if v_reset is None else float(v_reset),
                         step_mode=step_mode, store_v_seq=store_v_seq)
        if not 0 <= leak <= LEAK_ONE:
            raise SpikeTicketError(f"leak {leak} is outside 0..{LEAK_ONE}")
        self.leak = leak
        self.register_buffer("threshold", torch.as_tensor(threshold, dtype=torch.int64))
        if self.threshold.dim() > 1:
            raise SpikeTicketError(f"threshold of shape {list(self.threshold.shape)} is not [C]")

    @classmethod
    def of(cls, spec: Neuron, threshold: np.ndarray) -> IntegerLIFNode:
        """The node of a layer's `Neuron` and thresholds."""
        v_reset = spec.v_reset if spec.reset == "hard" else None
        return cls(spec.leak, torch.from_numpy(threshold.copy()), v_reset)

    def extra_repr(self) -> str:
        reset = "soft" if self.v_reset is None else f"hard to {int(self.v_reset)}"
        return f"leak={self.leak}/256, reset={reset}, step_mode={self.step_mode}"

    def materialize_states(self, inputs: tuple[Tensor, ...], states: tuple[object, ...],
                           step_mode: str) -> tuple[object, ...]:
        if inputs[0].is_floating_point() or inputs[0].is_complex():
            raise SpikeTicketError(f"an integer neuron got {inputs[0].dtype} currents; round them")
        (v, *rest) = super().materialize_states(inputs, states, step_mode)
        return (v.to(torch.int64), *rest)

    def single_step_functional_forward(
            self, inputs: tuple[Tensor, ...], states: tuple[object, ...], **kwargs: object,
    ) -> tuple[tuple[Tensor, ...], tuple[object, ...]]:
        x, v = inputs[0], states[0]
        theta = self.threshold
        if theta.dim():
            theta = theta.view(-1, *(1,) * (x.dim() - 2))
        v = (v * self.leak >> 8) + x  # an arithmetic shift is the floor
        spike = v >= theta
        if self.v_reset is None:
            v = torch.where(spike, v - theta, v)
        else:
            v = v.masked_fill(spike, int(self.v_reset))
        return (spike.to(x.dtype),), (v, *states[1:])


class IntegerLayer(nn.Module):
    """One layer: integer convolutions or attention, bias, neuron (or the readout's sum), pools."""

    def __init__(self, network: Network, layer: Layer):
        super().__init__()
        self.layer, self.timesteps = layer, network.timesteps
        low, high = network.current_bounds(layer)
        bound = int(np.maximum(np.abs(low), np.abs(high)).max() + np.abs(layer.bias).max())
        if bound >= 1 << 53:
            raise SpikeTicketError(f"layer {layer.name!r}: currents up to {bound} are not exact")
        self.dtype = torch.float32 if bound < 1 << 24 else torch.float64
        for j, syn in enumerate(layer.synapses):
            weight = torch.from_numpy(syn.weight.copy())
            self.register_buffer(f"weight{j}", weight.to(torch.int8))
        self.register_buffer("bias", torch.from_numpy(layer.bias.copy()).view(-1, 1, 1))
        self.neuron = (None if layer.neuron is None
                       else IntegerLIFNode.of(layer.neuron, layer.threshold))

    def forward(self, maps: dict[str, Tensor]) -> Tensor:
        """maps: spike maps [T, B, C, H, W], or [1, B, C, H, W] where the same at every timestep.

        Returns the pooled spikes uint8 [T, B, C, H, W], or the logits int64 [B, C].
        """
        currents = self.currents(maps)
        if self.neuron is None:
            repeat = self.timesteps // currents.shape[0]  # a static current counts T times
            return currents.sum((0, 3, 4)) * repeat
        pool = self.layer.pool
        if pool is not None and pool.mode == "max":
            currents = max_pool(currents, pool)
        self.neuron.reset()
        currents = currents.expand(self.timesteps, *currents.shape[1:])
        spikes = self.neuron(currents).to(torch.uint8)
        if pool is not None and pool.mode == "or":
            spikes = max_pool(spikes, pool)
        if isinstance(self.layer.attention, ColumnAttention):
            spikes = spikes * maps[self.layer.attention.query]
        return spikes

    def currents(self, maps: dict[str, Tensor]) -> Tensor:
        """int64 [T or 1, B, C, H, W]: synapses' or attention's sums plus bias, before any pool."""
        total = self.bias.to(self.dtype)
        if self.layer.attention is not None:
            total = total + attend(self.layer.attention, maps, self.dtype)
        for j, syn in enumerate(self.layer.synapses):
            operand = sum(maps[name].to(self.dtype) for name in syn.sources)
            total = total + convolve(operand, getattr(self, f"weight{j}").to(self.dtype), syn)
        return total.to(torch.int64)


class IntegerNetwork(nn.Module):
    """The integer SpikingJelly network of a `Network`.

    forward(x): x is of an integer type, values 0..2^bits - 1; [B, C, H, W] for a static input,
    else [T, B, C, H, W]. Returns logits int64 [B, classes]. A dict given as `spikes`
    receives every pooled spike map, uint8 [T, B, C, H, W], by layer name. `masks`, bool [B, N],
    goes to a gate that takes masks from the host; a dict given as `kept` receives the tokens int64
    [B, keep] of every gate. Raises SpikeTicketError for inputs of another shape, type or range.
    """

    def __init__(self, network: Network):
        super().__init__()
        self.network = network
        self.layers = nn.ModuleList(IntegerLayer(network, layer) for layer in network.layers
                                    if isinstance(layer, Layer))

    @torch.no_grad()
    def forward(self, x: Tensor, spikes: dict[str, Tensor] | None = None,
                masks: Tensor | None = None, kept: dict[str, Tensor] | None = None) -> Tensor:
        spec = self.network.input
        steps = () if spec.static else (self.network.timesteps,)
        axes = ("B",) if spec.static else ("T", "B")
        ok = (x.dim() == 4 + len(steps) and x.shape[:len(steps)] == steps
              and x.shape[-3:] == (spec.channels, spec.height, spec.width))
        if not ok:
            raise SpikeTicketError(
                f"input of shape {list(x.shape)} is not [{', '.join(axes)}, {spec.channels}, "
                f"{spec.height}, {spec.width}]" + ("" if spec.static else f" with T = {steps[0]}"))
        if x.is_floating_point() or x.is_complex():
            raise SpikeTicketError(f"input is {x.dtype}; give integers, e.g. uint8 pixels")
        if x.numel() and (int(x.min()) < 0 or int(x.max()) >> spec.bits):
            raise SpikeTicketError(f"input spans {int(x.min())}..{int(x.max())}, outside the "
                                   f"0..{(1 << spec.bits) - 1} of its {spec.bits} bits")
        layers = {module.layer.name: module for module in self.layers}
        return walk(self.network.layers, x.unsqueeze(0) if spec.static else x,
                    lambda layer, maps: layers[layer.name](maps),
                    masks if masks is None else masks.cpu().numpy(), spikes, kept)


def evaluate(network: Network, images: np.ndarray, labels: np.ndarray, batch: int = 50,
             progress=None, masks: np.ndarray | None = None,
             ) -> tuple[float, dict[str, dict[str, float]]]:
    """Accuracy of the integer network and the activity of every map.

    images: integers [N, C, H, W] (static) or [N, T, C, H, W]; labels [N]; masks: bool [N, tokens]
    for a gate that takes them from the host. The activity of a map has `spike_rate`, the mean of
    its spikes, and `active`, the fraction of neurons (a channel at a position) with at least one
    spike in T. progress(n) is told after every batch.
    """
    model = IntegerNetwork(network)
    correct, sums = 0, {}
    for start in range(0, len(images), batch):
        x = torch.from_numpy(images[start:start + batch].copy())
        if not network.input.static:
            x = x.transpose(0, 1)
        spikes: dict[str, Tensor] = {}
        kept = None if masks is None else torch.from_numpy(masks[start:start + batch])
        logits = model(x, spikes, kept)
        correct += int((logits.argmax(1).numpy() == labels[start:start + batch]).sum())
        for name, s in spikes.items():
            total = sums.setdefault(name, [0.0, 0.0])
            total[0] += float(s.float().mean()) * s.shape[1]
            total[1] += float(s.amax(0).float().mean()) * s.shape[1]
        if progress is not None:
            progress(x.shape[0] if network.input.static else x.shape[1])
    activity = {name: {"spike_rate": a / len(images), "active": b / len(images)}
                for name, (a, b) in sums.items()}
    return correct / len(images), activity
