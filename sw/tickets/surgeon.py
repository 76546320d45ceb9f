"""One-shot tickets: weights chosen by second-order information, survivors changed to make up for
the removed ones, nothing trained after the dense network.

Optimal brain surgeon in each layer (Hassibi and Stork 1992; layer by layer Dong et al. 1705.07565;
in one shot Frantar and Alistarh 2208.11580; for spiking networks 2506.03996). With the inputs X of
a layer, [d, n] (spikes; every timestep and position is a sample), H = X X' / n and a row w of its
weights, the mean square of a change dw of the row's current is dw H dw'. Without the weights
outside a set S of survivors it is least with

    w_S = inverse(H_SS) (H w)_S

and removing the one weight q of S then costs w_q^2 / inverse(H_SS)_qq. Rows compare by that cost
over w H w', the part of its current's power that a neuron loses.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import BadInput
from .masks import Masks, by_score, largest, survivors

SAMPLES = 256
"""Training samples that the inputs of layers are taken of."""

STEPS = 4
"""Removals of a layer, each of the same share of its survivors: costs change as weights go."""

DAMPING = 0.01
"""Of the mean of H's diagonal, added to it: inputs that (almost) always agree have no inverse."""


def operate(model: nn.Module, layers: dict[str, nn.Module], forward: Callable[[], object],
            sparsity: float, scope: str, progress: Callable[[], object] = lambda: None) -> Masks:
    """Remove weights of a trained model, in place; returns what survives.

    layers: by name, of Conv1d, Conv2d and Linear. forward: runs the calibration samples through
    the model. sparsity, scope: as `masks.by_score` has them, of the costs. progress: called after
    each layer. Layers are done in the order in which they run, each with the inputs that the ones
    before it leave; then the statistics of batch norms are taken anew.

    Raises BadInput for a layer that does not run, or pads with anything but zeros.
    """
    model.eval()
    order, matrices = _inputs(layers, forward)
    costs = {name: _costs(_rows(layers[name]), matrices[name], None)[0] for name in layers}
    kept = {name: int(mask.sum()) for name, mask in by_score(costs, sparsity, scope).items()}
    masks: Masks = {}
    for name in order:
        layer = layers[name]
        matrix = matrices[name] if not masks else _inputs({name: layer}, forward)[1][name]
        rows, alive = _pruned(_rows(layer), matrix, kept[name])
        with torch.no_grad():
            layer.weight.copy_(rows.view_as(layer.weight))
        masks[name] = alive.view(layer.weight.shape)
        progress()
    _fresh_statistics(model, forward)
    return {name: masks[name] for name in layers}


def _rows(layer: nn.Module) -> Tensor:
    """Weights as [groups, rows of a group, d], float64."""
    weight = layer.weight.detach().double().flatten(1)
    groups = getattr(layer, "groups", 1)
    return weight.view(groups, -1, weight.shape[1])


def _inputs(layers: dict[str, nn.Module],
            forward: Callable[[], object]) -> tuple[list[str], dict[str, Tensor]]:
    """The layers' names as they run, and H of each, [groups, d, d] float64, damped."""
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}

    def look(name: str) -> Callable:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            columns = _columns(name, layer, inputs[0])      # [groups, d, n]
            sums[name] = sums.get(name, 0) + (columns @ columns.mT).double()
            counts[name] = counts.get(name, 0) + columns.shape[2]
        return hook
    hooks = [layer.register_forward_pre_hook(look(name)) for name, layer in layers.items()]
    try:
        with torch.no_grad():
            forward()
    finally:
        for hook in hooks:
            hook.remove()
    for name in layers:
        if name not in sums:
            raise BadInput(f"layer {name!r} is not called by the network (its weight may be used "
                           "in another way), so its inputs cannot be seen; use method imp")
    matrices = {}
    for name, total in sums.items():
        matrix = total / counts[name]
        mean = matrix.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-12)
        matrices[name] = matrix + torch.diag_embed(
            (DAMPING * mean)[:, None].expand(-1, matrix.shape[1]))
    return list(sums), matrices


def _columns(name: str, layer: nn.Module, x: Tensor) -> Tensor:
    """What each row of weights is multiplied with: [groups, d, samples]."""
    if isinstance(layer, nn.Linear):
        return x.reshape(-1, x.shape[-1]).T.float()[None]
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise BadInput(f"layer {name!r} pads by {layer.padding_mode!r}, {layer.padding!r}; method "
                       "obs knows zeros by number; use method imp")
    spatial = 1 if isinstance(layer, nn.Conv1d) else 2
    x = x.reshape(-1, *x.shape[-1 - spatial:]).float()
    kernel, stride, padding, dilation = (
        layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    if spatial == 1:
        x = x[:, :, None]
        kernel, stride = (1, *kernel), (1, *stride)
        padding, dilation = (0, *padding), (1, *dilation)
    columns = F.unfold(x, kernel, dilation, padding, stride)        # [samples, C k k, positions]
    d = columns.shape[1] // layer.groups
    return columns.transpose(0, 1).reshape(layer.groups, d, -1)


def _costs(rows: Tensor, matrix: Tensor, alive: Tensor | None) -> tuple[Tensor, Tensor]:
    """Square roots of the relative costs of the surviving weights, 0 for the others, and the rows
    at their best: both like `rows`. alive: bool, None for all."""
    aims = rows @ matrix                                    # H w of each row
    power = (rows * aims).sum(-1, keepdim=True).clamp_min(1e-30)
    if alive is None:
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(matrix))
        diagonal = inverse.diagonal(dim1=1, dim2=2)[:, None]
        return rows.abs() / (diagonal * power).sqrt(), rows
    costs, best = torch.zeros_like(rows), torch.zeros_like(rows)
    for g in range(len(rows)):
        for r in range(rows.shape[1]):
            chosen = alive[g, r].nonzero()[:, 0]
            if not len(chosen):
                continue
            part = matrix[g][chosen][:, chosen]
            inverse = torch.cholesky_inverse(torch.linalg.cholesky(part))
            weights = inverse @ aims[g, r, chosen]
            best[g, r, chosen] = weights
            costs[g, r, chosen] = weights.abs() / (inverse.diagonal() * power[g, r]).sqrt()
    return costs, best


def _pruned(rows: Tensor, matrix: Tensor, keep: int) -> tuple[Tensor, Tensor]:
    """The rows with `keep` weights left, as good as these can be, and which they are."""
    total = rows.numel()
    alive, costs, best = None, _costs(rows, matrix, None)[0], rows
    for step in range(1, STEPS + 1):
        count = keep if step == STEPS else survivors(total, 1 - (keep / total) ** (step / STEPS))
        if alive is not None:
            costs = costs.masked_fill(~alive, -1.0)
        alive = largest(costs, count)
        costs, best = _costs(rows, matrix, alive)
    return best, alive


@torch.no_grad()
def _fresh_statistics(model: nn.Module, forward: Callable[[], object]) -> None:
    """Means and variances of batch norms, of the calibration samples."""
    found = [m for m in model.modules()
             if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    kept = [m.momentum for m in found]
    for norm in found:
        norm.reset_running_stats()
        norm.momentum = None                                # the mean over all batches
        norm.train()
    forward()
    for norm, momentum in zip(found, kept, strict=True):
        norm.momentum = momentum
    model.eval()
