"""The module's own spikes beside the integer network's, layer by layer.

This is not the importer's self-check: the module is run here by its own forward function, as the
entry says it is fed, and its neurons are overheard by hooks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...integer.attention import ColumnAttention
from ...integer.network import Layer, Network
from ...integer.spikingjelly import IntegerNetwork
from .entry import Entry
from .settle import feed, first, is_neuron, rest


@dataclass(frozen=True)
class Comparison:
    """shares: fraction of equal spikes by layer. rates: the module's own firing rates. missing:
    neurons of the module without a layer of that name. logits: largest difference of the summed
    outputs over the largest, after one common factor. labels: fraction of equal labels."""

    shares: Mapping[str, float]
    rates: Mapping[str, float]
    missing: tuple[str, ...]
    logits: float
    labels: float

    @property
    def equal(self) -> bool:
        """Every spike of every neuron is the same, and so are the logits."""
        return not self.missing and self.logits < 1e-9 and all(
            share == 1 for share in self.shares.values())

    @property
    def mean(self) -> float:
        """Fraction of equal spikes, mean over the layers (of equal labels without any)."""
        shares = list(self.shares.values())
        return sum(shares) / len(shares) if shares else self.labels


@torch.no_grad()
def compare(entry: Entry, net: nn.Module, network: Network, x: Tensor,
            input_scale: float) -> Comparison:
    """Run both on integers x, as `settle.inputs` lays them out."""
    out, theirs = overheard(entry, net, x.double() * input_scale)
    ours: dict[str, Tensor] = {}
    logits = IntegerNetwork(network)(x, ours).double()
    out = _summed(out, entry, len(logits))
    factor = (logits * out).sum() / logits.square().sum().clamp_min(1e-300)
    layers = {layer.name: layer for layer in network.layers if isinstance(layer, Layer)}
    shares, missing = {}, []
    for name, spikes in theirs.items():
        share = _share(spikes, *_found(name, layers, ours), ours)
        if share is None:
            missing.append(name)
        else:
            shares[name] = share
    return Comparison(
        shares, {name: float(s.double().mean()) for name, s in theirs.items()}, tuple(missing),
        float((logits * factor - out).abs().max() / out.abs().max().clamp_min(1e-300))
        if factor > 0 or not bool(out.any()) else float("inf"),
        float((logits.argmax(1) == out.argmax(1)).double().mean()))


def overheard(entry: Entry, net: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """(output, spikes [T, B, ...] by module) of the module's own run on floats."""
    made: dict[str, list[Tensor]] = {}
    hooks = [module.register_forward_hook(
        lambda _m, _i, out, name=name: made.setdefault(name, []).append(
            first(out).detach().clone()))
        for name, module in net.named_modules() if is_neuron(module)]
    rest(net)
    out = feed(entry, net, x)
    rest(net)
    for hook in hooks:
        hook.remove()
    batch = x.shape[0] if entry.static else x.shape[1]
    return first(out), {
        name: _timed(calls, entry.timesteps, batch) for name, calls in made.items()}


def _timed(calls: list[Tensor], steps: int, batch: int) -> Tensor:
    """[T, B, ...], whether a neuron was called T times, or once with time first or second."""
    if len(calls) == steps:
        return torch.stack(calls)
    spikes, = calls
    return spikes if spikes.shape[:2] == (steps, batch) else spikes.transpose(0, 1)


def _summed(out: Tensor, entry: Entry, batch: int) -> Tensor:
    """[B, classes] of an output [B, classes], [T, B, classes] or [B, T, classes]."""
    while out.dim() > 2 and out.shape[-1] == 1:
        out = out.squeeze(-1)
    if out.dim() == 3:
        out = out.sum(0 if out.shape[:2] == (entry.timesteps, batch) else 1)
    return out.flatten(1)


def _found(name: str, layers: Mapping[str, Layer],
           ours: Mapping[str, Tensor]) -> tuple[Layer | None, Tensor | None]:
    """The layer of a neuron and its map: of its name, or of a graph's node, or of its parts where
    query, key and value are one neuron of the module, or of the attention that it belongs to."""
    parts = [ours[f"{name}.{i}"] for i in range(3) if f"{name}.{i}" in ours]
    if name not in layers and len(parts) == 3:
        return layers[f"{name}.0"], torch.cat(parts, 2)
    if name not in layers:
        parent, _, last = name.rpartition(".")
        name = next((layer.name for layer in layers.values()
                     if isinstance(layer.attention, ColumnAttention)
                     and layer.attention.query.rpartition(".")[0] == parent), last)
    return layers.get(name), ours.get(name)


def _share(theirs: Tensor, layer: Layer | None, found: Tensor | None,
           ours: Mapping[str, Tensor]) -> float | None:
    """Fraction of equal spikes, None where there is nothing to compare with.

    The module may hold a map with other axes first (tokens, heads): the order that fits is taken.
    """
    if layer is None or found is None:
        return None
    best, axes = None, theirs.dim() - 2
    for order in permutations(range(axes)):
        spikes = theirs.permute(0, 1, *(a + 2 for a in order)).double()
        if layer.pool is not None and layer.pool.mode == "or":
            if axes != 3:
                continue
            pool = layer.pool
            spikes = F.max_pool2d(spikes.flatten(0, 1), pool.size, pool.stride,
                                  pool.padding).unflatten(0, spikes.shape[:2])
        spikes = spikes.flatten(2)
        if isinstance(layer.attention, ColumnAttention):        # its map is the masked query
            query = ours[layer.attention.query].flatten(3).double()
            spikes = (spikes.unsqueeze(3) * query).flatten(2)
        if spikes.shape == found.flatten(2).shape:
            share = float((spikes == found.flatten(2)).double().mean())
            best = share if best is None else max(best, share)
        if best == 1:
            return best
    alone = layer.pool is None and layer.attention is None
    if alone and found[0, 0].numel() == theirs[0, 0].numel():
        share = _trains(theirs, found)
        best = share if best is None else max(best, share)
    return best


def _trains(theirs: Tensor, ours: Tensor) -> float:
    """Fraction of the neurons whose spike train, over all samples, is one of the other's: where the
    importer laid the map out anew, neither knows the order."""
    counts = [Counter(map(bytes, made.to(torch.uint8).flatten(2).flatten(0, 1).T.contiguous()
                          .numpy())) for made in (theirs, ours)]
    return (counts[0] & counts[1]).total() / max(1, counts[0].total())
