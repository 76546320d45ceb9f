"""Any spiking module as a classifier of samples, unchanged: what it takes (`sw.imports.inputs`) and
what it gives, [B, K], [T, B, K] or [B, T, K].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import SpikeTicketError
from ..imports.inputs import STATED, Feed, copied, find, prepared, rest
from ..imports.recorder import one_tensor
from ..imports.recording import batch_size
from ..nets.neurons import fused
from ..nets.parts import SpikingNet

STEPS_NAMES = (*STATED, "t", "time_step", "n_steps", "steps", "time_window", "nb_steps")
"""Attributes that a module may keep its number of timesteps in."""


class Classifier(nn.Module):
    """A module, and how it is called.

    forward: prepared samples, images [B, C, H, W] or event frames [B, F, C, H, W] of which the
    first `timesteps` are used -> logits [B, K], the mean over timesteps; with per_timestep, in
    training, [T, B, K]. The neurons begin each
    batch at rest, and are run fused where they can be (`sw.nets.neurons`), with blocks together
    with what is around them (`sw.nets.fused_block`). feed: how it takes them;
    time: axis of the timesteps in its output (None: it has none). Without a feed both are found by
    running copies of the module on random samples of `shape`, (C, H, W) or (F, C, H, W).
    """

    def __init__(self, module: nn.Module, timesteps: int, shape: tuple[int, ...],
                 classes: int, feed: Feed | None = None, time: int | None = None,
                 per_timestep: bool = False, blocks: bool = False):
        super().__init__()
        self.module, self.timesteps = module, timesteps
        self.shape, self.classes = tuple(shape), classes
        self.feed = feed or find(prepared(module), self.shape[-3:], timesteps, self.static)
        self.time = time if feed else self._time()
        self.per_timestep, self.blocks = per_timestep, blocks
        if per_timestep and isinstance(module, SpikingNet):
            module.per_timestep = True
        elif per_timestep and self.time is None:
            raise SpikeTicketError(f"{type(module).__name__} gives one output for all timesteps, "
                                   "so its loss cannot be taken per timestep; let it return "
                                   "[T, B, classes], or leave loss_per_timestep out")

    @property
    def static(self) -> bool:
        """Samples are images, the same at every timestep."""
        return len(self.shape) == 3

    @staticmethod
    def prepare(samples: Tensor) -> Tensor:
        """uint8 images to 0..1, uint8 event counts to floats."""
        return samples.float() / 255 if samples.dim() == 4 else samples.float()

    def forward(self, x: Tensor) -> Tensor:
        rest(self.module)
        with fused(self.module, self.blocks):
            out = self._outputs(self.module, x)
        if self.per_timestep and self.training:
            return out.movedim(self.time or 0, 0).flatten(2)
        if self.time is None:
            return out.flatten(1)
        return out.mean(self.time).flatten(1)

    def at(self, timesteps: int) -> Classifier:
        """A copy that runs another number of timesteps. Raises SpikeTicketError where the module
        keeps its own in no attribute that is known."""
        if timesteps == self.timesteps:
            return self
        module = copied(self.module)
        for part in module.modules():
            for name in STEPS_NAMES:
                if type(vars(part).get(name)) is int and getattr(part, name) == self.timesteps:
                    setattr(part, name, timesteps)
        try:
            return Classifier(module, timesteps, self.shape, self.classes,
                              per_timestep=self.per_timestep, blocks=self.blocks)
        except SpikeTicketError as error:
            raise SpikeTicketError(
                f"{type(self.module).__name__} does not run at {timesteps} timesteps ({error}); "
                "it must keep T in an attribute such as self.T, or take its input over "
                "time") from error

    def _outputs(self, module: nn.Module, x: Tensor) -> Tensor:
        """What the module gives for prepared samples; of one timestep per call, stacked."""
        x = x[None] if x.dim() == 4 else x[:, :self.timesteps].transpose(0, 1)
        made = [one_tensor(module(raw), module) for raw in self.feed(x)]
        return torch.stack(made) if self.feed.form == "step" else made[0]

    @torch.no_grad()
    def _time(self) -> int | None:
        """Axis of the timesteps in the output. Raises SpikeTicketError where it is no classes'."""
        steps, batch = self.timesteps, batch_size(self.timesteps)
        module = copied(self.module).eval()
        parameter = next(module.parameters(), torch.zeros(()))
        out = self._outputs(module, torch.rand((batch, *self.shape), device=parameter.device))
        lead = tuple(out.shape[:2])
        time = 0 if lead == (steps, batch) else 1 if lead == (batch, steps) and out.dim() > 2 else (
            None)
        given = out if time is None else out.mean(time)
        if given.dim() < 2 or given.shape[0] != batch or given.flatten(1).shape[1] < self.classes:
            raise SpikeTicketError(
                f"{type(module).__name__}: gives {list(out.shape)} for {batch} samples over "
                f"{steps} timesteps; the data has {self.classes} classes, so [B, {self.classes}], "
                f"[T, B, {self.classes}] or [B, T, {self.classes}] is expected")
        return time
