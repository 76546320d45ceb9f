"""Cycles that the words of a map cost whoever reads them, seen while a network runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from hw.config import CoreConfig

from .classifier import Classifier
from .places import ConnectionPlace
from .scores import connections


class Words:
    """Word cycles of the inputs of every connection, of the batch that was run last.

    words[name]: what a weight costs an engine that reads this input, float [1 or outputs, inputs]
    (a weight's first two axes), mean over the batch; differentiable, see `sw.tickets.cost`.
    """

    def __init__(self, model: Classifier, places: Mapping[str, ConnectionPlace], core: CoreConfig):
        self.model, self.places, self.core = model, places, core
        self._batch, self._seen = 0, {}

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Within it, the network's runs are seen."""
        layers = connections(self.model)
        hooks = [self.model.register_forward_pre_hook(self._begin)]
        hooks += [layers[name].register_forward_pre_hook(
            lambda module, inputs, name=name: self._see(name, module, inputs[0]))
            for name in self.places]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @property
    def words(self) -> dict[str, Tensor]:
        return {name: self._cycles(name, *seen) for name, seen in self._seen.items()}

    def _begin(self, _: nn.Module, inputs: tuple) -> None:
        self._batch = len(inputs[0])
        self._seen.clear()

    def _see(self, name: str, module: nn.Module, x: Tensor) -> None:
        """Keep the largest activity over timesteps, [B, C, H, W]; a module that runs a timestep
        per call is seen once for each."""
        channels, height, width = self.places[name].inputs
        flat = not isinstance(module, nn.Linear)
        if flat:
            height, width = (1, x.shape[-1]) if isinstance(module, nn.Conv1d) else x.shape[-2:]
            most = x.reshape(-1, self._batch, x.shape[-3 + isinstance(module, nn.Conv1d)], height,
                             width).amax(0)
        elif module.in_features != channels:                # a flattened map
            most = x.reshape(-1, self._batch, channels, height, width).amax(0)
        elif x.numel() % (self._batch * channels * height * width):     # a mean over positions
            any_ = (x.reshape(-1, self._batch, channels).amax(0) > 0).float()
            most = any_[:, :, None, None].expand(-1, -1, height, width)
        else:
            most = x.reshape(-1, self._batch, height, width, channels).amax(0).movedim(-1, 1)
        if not most.requires_grad:
            most = (most > 0).float()
        before = self._seen.get(name)
        self._seen[name] = module, most if before is None else torch.maximum(before[1], most)

    def _cycles(self, name: str, module: nn.Module, most: Tensor) -> Tensor:
        window, units = self.core.window, self.core.units
        height, width = most.shape[2:]
        pitch = 1 << (width - 1).bit_length()
        rows = pad(most, (0, pitch - width)).flatten(2)
        words = pad(rows, (0, -rows.shape[2] % window)).unflatten(2, (-1, window))
        live = words.amax(3)
        if isinstance(module, nn.Linear) and module.in_features != most.shape[1]:
            lanes = live.repeat_interleave(window, 2)[:, :, :height * pitch]
            lanes = lanes.unflatten(2, (height, pitch))[..., :width]
            return lanes.flatten(1).mean(0)[None]
        cost = torch.maximum(live, words.sum(3) / units).sum(2).mean(0)
        groups = getattr(module, "groups", 1)
        return cost.view(groups, -1).repeat_interleave(len(module.weight) // groups if groups > 1
                                                       else 1, 0)
