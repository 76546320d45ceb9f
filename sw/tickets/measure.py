"""What is measured on a network in training: accuracy, spike rates, sparsity."""

from __future__ import annotations

from collections.abc import Callable

import torch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

from ..data.datasets import Images
from ..integer.trainee import NetworkTrainee, TraineeLayer
from .classifier import Classifier
from .scores import connections


@torch.no_grad()
def accuracy_and_rates(module: nn.Module, call: Callable[[Tensor], Tensor], data: Images,
                       batch: int = 250) -> tuple[float, dict[str, float]]:
    """Accuracy (fraction of the samples), and the mean spike rate of every neuron module by name.

    call: uint8 samples -> logits [B, classes]; runs `module`, which is put in evaluation.
    """
    was_training = module.training
    module.eval()
    rates: dict[str, float] = {}
    calls: dict[str, list[float]] = {}
    hooks = [m.register_forward_hook(_adder(calls, name)) for name, m in _spiking(module)]
    correct = 0
    for start in range(0, len(data), batch):
        logits = call(torch.from_numpy(data.images[start:start + batch].copy()))
        labels = torch.from_numpy(data.labels[start:start + batch].copy())
        correct += int((logits.argmax(1).cpu() == labels).sum())
        for name, means in calls.items():   # one call over all timesteps, or one for each
            rates[name] = rates.get(name, 0.0) + sum(means) / len(means) * len(labels)
        calls.clear()
    for hook in hooks:
        hook.remove()
    module.train(was_training)
    return correct / len(data), {n: r / len(data) for n, r in rates.items()}


def sparsity(module: nn.Module) -> float:
    """Fraction of all connection weights that are zero now."""
    if isinstance(module, NetworkTrainee):
        return module.sparsity()
    weights = [m.weight.detach() for m in connections(module).values()]
    return 1 - sum(int(w.count_nonzero()) for w in weights) / sum(w.numel() for w in weights)


def _spiking(module: nn.Module) -> list[tuple[str, nn.Module]]:
    if isinstance(module, Classifier):
        module = module.module
    return [(name, m) for name, m in module.named_modules()
            if isinstance(m, neuron.BaseNode)
            or (isinstance(m, TraineeLayer) and m.scaled.neuron is not None)]


def _adder(calls: dict[str, list[float]], name: str):
    def hook(_module, _inputs, spikes: Tensor) -> None:
        calls.setdefault(name, []).append(float(spikes.detach().float().mean()))
    return hook
