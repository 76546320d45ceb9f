"""A module that was read: its float layers, and its own runs on integers in their terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import SpikeTicketError
from ..integer.floats import FloatOperation
from ..integer.gate import Gate
from ..integer.network import InputSpec
from .inline import written
from .inputs import Feed, find, prepared, rest
from .probing import Map
from .reader import Bits, LayerReader, classes
from .recorder import record
from .recording import Cut, Recording, batch_size


@dataclass(frozen=True, eq=False)
class OwnRun:
    """A module's run. logits: [B, classes], summed over timesteps. spikes, doubtful: [T, B, C, H,
    W] by layer; doubtful: the membrane met its threshold but for rounding, or did so earlier."""

    logits: Tensor
    spikes: dict[str, Tensor]
    doubtful: dict[str, Tensor]
    recording: Recording


@dataclass(frozen=True, eq=False)
class Reading:
    """model: a float64 copy, at rest. feed: how it takes inputs. recording: of an example. layers:
    what it computes. maps: of what is recorded, by name; parts: channels of a recorded neuron
    layer by the layers it was split into. notes: what the layers do not say exactly."""

    model: nn.Module
    spec: InputSpec
    unit: float
    feed: Feed
    recording: Recording
    layers: list[FloatOperation]
    maps: Mapping[str, Map]
    parts: Mapping[str, tuple[str, Tensor]]
    notes: tuple[str, ...]

    def values(self, x: Tensor) -> Tensor:
        """Integers [T or 1, B, C, H, W] as the floats [T or 1, B, *dims] that the module takes."""
        return (x.double() * self.unit).reshape(*x.shape[:2], *self.feed.dims)

    def run(self, x: Tensor, seed: int = 0) -> OwnRun:
        """The module's own run on integers [T or 1, B, C, H, W]."""
        made = run_once(self.model, self.feed, self.values(x), seed)
        out = classes(made, made.result)
        logits = out.sum(0) if out.dim() == 3 else out
        spikes = {cut.name: self._map(cut, made.spikes[cut.name]) for cut in neurons(made)}
        doubtful = {cut.name: self._map(cut, cut.doubtful(made.operands[cut.name]))
                    for cut in neurons(self.recording)}
        return OwnRun(logits, self._split(spikes), self._split(doubtful), made)

    def alone(self, cut: Cut, given: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """(spikes, doubtful) [T, B, C, H, W] of a neuron layer, run alone on what earlier neurons'
        values [T, B, *dims] make it see."""
        seen = self.recording.operand(cut, given, through=True)
        seen = seen.expand(self.recording.steps, *seen.shape[1:])
        spikes, doubtful = cut.rule.run(seen)
        if cut.written is not None:
            spikes = cut.written.fires(self.recording, cut, {**given, cut.name: spikes})
        else:
            spikes = cut.events[0].seen.alone(cut.module, seen)
        return self._map(cut, spikes), self._map(cut, doubtful)

    def gated(self, cut: Cut, given: Mapping[str, Tensor]) -> Tensor:
        """A gate's output [T, B, *dims]."""
        seen = self.recording.operand(cut, given, through=True)
        return cut.module.zero(seen) if cut.out == cut.dims else cut.module(seen)

    def masks(self, batch: int) -> np.ndarray | None:
        """Tokens of a gate that takes them from the host, as `record` gives them."""
        for layer in self.layers:
            if isinstance(layer, Gate) and layer.mode == "host":
                return np.tile(np.arange(layer.tokens) < layer.keep, (batch, 1))
        return None

    def _map(self, cut: Cut, values: Tensor) -> Tensor:
        return self.maps[cut.name].layout.to_map(values)

    def _split(self, made: dict[str, Tensor]) -> dict[str, Tensor]:
        parts = {part: made[whole][:, :, channels]
                 for part, (whole, channels) in self.parts.items()}
        return {**made, **parts}


def neurons(recording: Recording) -> list[Cut]:
    return [cut for cut in recording.cuts if cut.kind == "neuron"]


@torch.no_grad()
def run_once(model: nn.Module, feed: Feed, values: Tensor, seed: int = 0) -> Recording:
    """Record the module from rest on values [T or 1, B, *dims]."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return record(model, feed, values, feed.steps, feed.order)
        finally:
            rest(model)


def example(spec: InputSpec, steps: int, batch: int, seed: int = 0) -> Tensor:
    """Random integers [T or 1, B, C, H, W]."""
    generator = torch.Generator().manual_seed(seed)
    shape = (1 if spec.static else steps, batch, spec.channels, spec.height, spec.width)
    return torch.randint(0, 1 << spec.bits, shape, generator=generator)


def _refuse_random(recording: Recording, again: Recording, name: str) -> None:
    """Raise where two runs on one input differ, or would on other inputs."""
    drawn = [op for cut in (*recording.cuts, None) for op in recording.operations(cut)
             if op in recording.tape.random]
    if drawn or not torch.equal(recording.result, again.result):
        what = f" ({drawn[0].name} in module {drawn[0].module!r})" if drawn else ""
        raise SpikeTicketError(f"{name}: forward is random in evaluation{what}, two runs on one "
                               "input differ; remove what draws, such as dropout left on")


def read_module(model: nn.Module, spec: InputSpec, timesteps: int | None, bits: Bits,
                unit: float) -> Reading:
    """Read a module; see `sw.imports.spikingjelly.from_spikingjelly`. unit: float value of one
    integer input unit. Raises SpikeTicketError."""
    copy = prepared(model)
    shape = spec.channels, spec.height, spec.width
    feed = find(copy, shape, timesteps, spec.static)
    x = example(spec, feed.steps, batch_size(feed.steps))
    values = (x.double() * unit).reshape(*x.shape[:2], *feed.dims)
    recording = run_once(copy, feed, values)
    _refuse_random(recording, run_once(copy, feed, values, seed=1), type(model).__name__)
    try:
        recording = written(recording)
        reader = LayerReader(recording, bits, unit, (1 << spec.bits) - 1, shape)
        layers = reader.read()
    except SpikeTicketError as error:
        if not recording.unkept:
            raise
        raise SpikeTicketError(f"{error}; {', '.join(recording.unkept)} fires or resets in another "
                               "way than its numbers say") from error
    return Reading(copy, spec, unit, feed, recording, layers, reader.maps, reader.parts,
                   tuple(reader.notes))

