"""Any spiking module as a classifier of samples, unchanged: how it wants time, and what it gives.

A module may repeat an image T times itself, take [T, B, ...] or [B, T, ...], or one timestep after
the other; it may give [B, K], [T, B, K] or [B, T, K]. Which of these is found by running it on two
batches: the right way is the one in which its neurons run T timesteps, whatever the batch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from spikingjelly.activation_based import base, functional, neuron
from torch import Tensor, nn

from ..errors import SpikeTicketError
from ..nets.neurons import fused

WAYS = ("image", "time first", "batch first", "step")
"""What a module is given: [B, ...] (it makes T timesteps itself), [T, B, ...], [B, T, ...], or
[B, ...] T times, one timestep each."""

STEPS_NAMES = ("T", "t", "timesteps", "time_steps", "time_step", "num_steps", "n_steps", "steps",
               "time_window", "nb_steps")
"""Attributes that a module may keep its number of timesteps in."""


@dataclass(frozen=True)
class Way:
    """given: one of WAYS; flat: pixels as one vector; time: axis of the timesteps in the module's
    output (None: it has none)."""

    given: str
    flat: bool = False
    time: int | None = None


class Classifier(nn.Module):
    """A module, and how it is called.

    forward: prepared samples, images [B, C, H, W] or event frames [B, F, C, H, W] of which the
    first `timesteps` are used -> logits [B, K], the mean over timesteps. The neurons begin each
    batch at rest, and are run fused where they can be (`sw.nets.neurons`). way: None: found by
    running the module on random samples of `shape`, (C, H, W) or (F, C, H, W).
    """

    def __init__(self, module: nn.Module, timesteps: int, shape: tuple[int, ...],
                 classes: int, way: Way | None = None):
        super().__init__()
        self.module, self.timesteps = module, timesteps
        self.shape, self.classes = tuple(shape), classes
        self.way = way or find_way(module, timesteps, self.shape, classes)

    @property
    def static(self) -> bool:
        """Samples are images, the same at every timestep."""
        return len(self.shape) == 3

    @staticmethod
    def prepare(samples: Tensor) -> Tensor:
        """uint8 images to 0..1, uint8 event counts to floats."""
        return samples.float() / 255 if samples.dim() == 4 else samples.float()

    def forward(self, x: Tensor) -> Tensor:
        functional.reset_net(self.module)
        with fused(self.module):
            return logits(run(self.module, x, self.timesteps, self.way), self.way)

    def at(self, timesteps: int) -> Classifier:
        """A copy that runs another number of timesteps. Raises SpikeTicketError where the module
        keeps its own in no attribute that is known."""
        if timesteps == self.timesteps:
            return self
        module = rested_copy(self.module)
        if self.way.given == "image":
            for part in module.modules():
                for name in STEPS_NAMES:
                    if type(vars(part).get(name)) is int and getattr(part, name) == self.timesteps:
                        setattr(part, name, timesteps)
        try:
            return Classifier(module, timesteps, self.shape, self.classes)
        except SpikeTicketError as error:
            raise SpikeTicketError(
                f"{type(self.module).__name__} does not run at {timesteps} timesteps ({error}); "
                "it must keep T in an attribute such as self.T, or take its input over "
                "time") from error


def rested_copy(module: nn.Module) -> nn.Module:
    """A copy whose neurons are at rest; membranes with a gradient could not be copied."""
    memories = base.extract_memories(module)
    functional.reset_net(module)
    try:
        return copy.deepcopy(module)
    finally:
        base.load_memories(module, memories)


def run(module: nn.Module, x: Tensor, timesteps: int, way: Way) -> Tensor:
    """The module's output for prepared samples [B, C, H, W] or [B, F, C, H, W]."""
    if x.dim() == 5:
        x = x[:, :timesteps]
    x = x.flatten(-3) if way.flat else x
    over_time = x.dim() == (3 if way.flat else 5)
    if way.given == "image":
        return module(x)
    if way.given == "batch first":
        return module(x if over_time else
                      x.unsqueeze(1).expand(-1, timesteps, *x.shape[1:]))
    x = x.transpose(0, 1) if over_time else x.expand(timesteps, *x.shape)
    if way.given == "time first":
        return module(x)
    return torch.stack([module(step) for step in x])


def logits(out: Tensor, way: Way) -> Tensor:
    """[B, K] of a module's output."""
    return (out if way.time is None else out.mean(way.time)).flatten(1)


def find_way(module: nn.Module, timesteps: int, shape: tuple[int, ...], classes: int) -> Way:
    """How the module is to be called; it is left as it was. Raises SpikeTicketError."""
    name, tried = type(module).__name__, []
    probe = rested_copy(module).eval()
    neurons = [m for m in probe.modules() if isinstance(m, neuron.BaseNode)]
    if not neurons:
        raise SpikeTicketError(f"{name}: holds no spiking neuron of SpikingJelly; a ticket is "
                               "searched in a spiking network")
    ways = [w for w in WAYS if not (w == "image" and len(shape) == 4)]
    alone = {}
    for flat in (False, True):
        for given in ways:
            try:
                steps, out, batch = _probe(probe, neurons, timesteps, shape, Way(given, flat))
            except Exception as error:      # whatever a foreign forward function raises
                tried.append((given, flat, " ".join(str(error).split())[:150]
                              or type(error).__name__))
                continue
            if steps != timesteps:
                alone[given] = steps
                tried.append((given, flat, f"its neurons run {steps or 'other'} timesteps"))
                continue
            return _finish(name, Way(given, flat), out, timesteps, batch, classes)
    its = alone.get("image")
    if its is not None and its > 1:
        raise SpikeTicketError(f"{name}: runs {its} timesteps, not {timesteps}; give timesteps "
                               f"{its}")
    given, flat, why = tried[0]
    raise SpikeTicketError(
        f"{name}: does not take samples of {'x'.join(map(str, shape))} over {timesteps} timesteps, "
        f"neither as [T, B, ...] nor [B, T, ...] nor step by step (given {given!r}: {why}); are "
        "the data's shape and timesteps those of the network?")


@torch.no_grad()
def _probe(module: nn.Module, neurons: list[nn.Module], timesteps: int, shape: tuple[int, ...],
           way: Way) -> tuple[int | None, Tensor, int]:
    """(timesteps that the first neuron ran, None where they follow the batch; output; batch)."""
    counts, sizes = [], [b for b in (2, 3, 5, 7) if b != timesteps][:2]
    for batch in sizes:
        count = [0]
        functional.reset_net(module)
        handle = neurons[0].register_forward_pre_hook(_counter(count))
        device = next(module.parameters()).device
        try:
            out = run(module, torch.rand((batch, *shape), device=device), timesteps, way)
        finally:
            handle.remove()
            functional.reset_net(module)
        counts.append(count[0])
    return counts[0] if counts[0] == counts[1] else None, out, sizes[1]


def _counter(count: list[int]) -> Callable:
    def hook(node: neuron.BaseNode, inputs: tuple) -> None:
        count[0] += len(inputs[0]) if node.step_mode == "m" else 1
    return hook


def _finish(name: str, way: Way, out: object, timesteps: int, batch: int, classes: int) -> Way:
    """The way with the output's time axis."""
    if not isinstance(out, Tensor):
        raise SpikeTicketError(f"{name}: gives {type(out).__name__}, not one tensor of class "
                               "outputs; return the logits alone")
    lead = tuple(out.shape[:2])
    time = (0 if lead == (timesteps, batch) else 1 if lead == (batch, timesteps)
            and out.dim() > 2 else None)
    given = out.mean(time) if time is not None else out
    if given.shape[0] != batch or given.flatten(1).shape[1] < classes:
        raise SpikeTicketError(
            f"{name}: gives {list(out.shape)} for {batch} samples over {timesteps} timesteps; the "
            f"data has {classes} classes, so [B, {classes}], [T, B, {classes}] or "
            f"[B, T, {classes}] is expected")
    return Way(way.given, way.flat, time)
