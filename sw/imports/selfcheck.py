"""An imported network against the module's own run, layer by layer.

Every layer is given what the module's earlier layers made, so that one wrong layer cannot hide
another, and must make the module's spikes, except where a membrane meets its threshold but for the
rounding of floats. That is done on the module's own runs, and with every layer driven by random
spikes, sparse to dense: there every layer fires and rests, or is named. The rounded network gets
the same spikes; where nothing is rounded its own must be equal, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..errors import SpikeTicketError
from ..integer.attention import ColumnAttention
from ..integer.maps import max_pool, steps
from ..integer.network import INPUT, Layer
from ..integer.quantize import ScaledLayer
from ..integer.spikingjelly import IntegerLayer
from .floats import FloatNetwork
from .identify import ONES
from .integers import Imported
from .reading import OwnRun, Reading, example, neurons

CHECKED = 1e-6
"""Largest difference of logits, relative to the largest."""

DENSITIES = (0.0, 0.05, 0.3, 0.9)
"""Of the spikes that drive every layer, and of the pixels of the inputs."""

BATCH = 4
"""Samples of a run."""


@dataclass
class _Seen:
    """Spikes of a layer in all runs: [float, integer] did fire, did rest."""

    fired: list[bool] = field(default_factory=lambda: [False, False])
    rested: list[bool] = field(default_factory=lambda: [False, False])

    def add(self, which: int, spikes: Tensor) -> None:
        self.fired[which] |= bool((spikes != 0).any())
        self.rested[which] |= bool((spikes == 0).any())


@torch.no_grad()
def check(reading: Reading, imported: Imported, samples: np.ndarray | None = None,
          ) -> tuple[str, ...]:
    """Notes on layers that cannot work; raises SpikeTicketError where a layer is not the module's.

    samples: integers [N, C, H, W] (static) or [N, T, C, H, W] of the data the network is for.
    """
    checker = _Checker(reading, imported)
    for x in _inputs(reading, samples):
        checker.own(x)
    looks = reading.recording.tape.reads_values
    said = [f"forward looks at values of its input ({op.line or op.name}); the import is what it "
            "did on the check's" for op in looks[:1]]
    for seed, density in enumerate(DENSITIES):
        checker.driven(seed, density)
    return (*said, *checker.notes())


def _inputs(reading: Reading, samples: np.ndarray | None) -> list[Tensor]:
    """Integers [T or 1, B, C, H, W]: nothing, everything, noise of all densities, the samples."""
    spec, time = reading.spec, reading.feed.steps
    noise = example(spec, time, len(DENSITIES) + 2, seed=1)
    chance = torch.rand(noise.shape, generator=torch.Generator().manual_seed(2))
    for i, density in enumerate(DENSITIES):
        noise[:, i] *= chance[:, i] < density
    noise[:, -1] = (1 << spec.bits) - 1
    dark, bright = torch.zeros_like(noise[:, :1]), noise[:, -1:]
    made = [_apart(x, time) for x in (noise, dark, bright)]
    if samples is None:
        return made
    real = torch.from_numpy(np.asarray(samples)[:16].astype(np.int64))
    shape = (spec.channels, spec.height, spec.width)
    shape = shape if spec.static else (time, *shape)
    if tuple(real.shape[1:]) != shape or not len(real):
        raise SpikeTicketError(f"samples of shape {list(real.shape)} are not "
                               f"[N, {', '.join(map(str, shape))}]")
    return [*made, _apart(real[None] if spec.static else real.transpose(0, 1), time)]


def _apart(x: Tensor, time: int) -> Tensor:
    """With the last sample repeated until timesteps are no multiple of the batch, so that a
    recording tells them apart."""
    more = next(n for n in range(len(x[0]) + 8) if len(x[0]) + n > 1 and (
        time == 1 or time % (len(x[0]) + n)))
    return torch.cat([x, x[:, -1:].expand(-1, more, *x.shape[2:])], 1)


class _Checker:
    def __init__(self, reading: Reading, imported: Imported):
        self.reading, self.imported = reading, imported
        self.floats = FloatNetwork(imported)
        self.integers = {layer.name: IntegerLayer(imported.network, layer)
                         for layer in imported.network.layers if isinstance(layer, Layer)}
        self.seen: dict[str, _Seen] = {}
        self.idle: dict[str, bool] = {}

    def own(self, x: Tensor) -> None:
        """A run of the module on integers."""
        run = self.reading.run(x)
        logits = self._walk(x, run.spikes, run.doubtful)
        apart = float((logits - run.logits).abs().max())
        if not apart <= CHECKED * float(run.logits.abs().max().clamp_min(1e-300)):
            raise SpikeTicketError(
                f"{type(self.reading.model).__name__}: the imported readout gives other outputs "
                f"than the module ({apart:.3g} apart); does forward look at values of its input?"
                f"{self._looks(run)}")

    def _looks(self, run: OwnRun) -> str:
        ops = run.recording.tape.reads_values
        return f" It does at {ops[0].line}" if ops and ops[0].line else ""

    def driven(self, seed: int, density: float) -> None:
        """Every layer on random spikes of this density."""
        reading, recording = self.reading, self.reading.recording
        generator = torch.Generator().manual_seed(seed)
        x = example(reading.spec, reading.feed.steps, recording.batch, seed)
        x = x * (torch.rand(x.shape, generator=generator) < density)
        given = {INPUT: reading.values(x)}
        mine = {*self.integers, *(whole for whole, _ in reading.parts.values())}
        made: dict[str, tuple[Tensor, Tensor]] = {}
        for cut in recording.cuts:
            if cut.kind == "gate":
                given[cut.name] = reading.gated(cut, given)
            if cut.kind != "neuron":
                continue
            made[cut.name] = reading.alone(cut, given)
            if cut.name not in mine:        # fused into an attention, which computes it
                layout = reading.maps[cut.name].layout
                given[cut.name] = layout.to_raw(made[cut.name][0])
                continue
            shape = (recording.steps, recording.batch, *cut.out)
            given[cut.name] = (torch.rand(shape, generator=generator) < density).double()
        drive = {cut.name: reading.maps[cut.name].layout.to_map(given[cut.name])
                 for cut in neurons(recording)}
        self._walk(x, reading._split({n: s for n, (s, _) in made.items()}),
                   reading._split({n: d for n, (_, d) in made.items()}), reading._split(drive),
                   density == 0)

    def _walk(self, x: Tensor, spikes: Mapping[str, Tensor], doubtful: Mapping[str, Tensor],
              drive: Mapping[str, Tensor] | None = None, silent: bool = False) -> Tensor:
        """The logits; layers read `drive`, or `spikes`, of the layers before them."""
        way, sent = steps(self.floats.operations, x.double(), self.reading.masks(x.shape[1])), None
        while True:
            try:
                layer, maps = way.send(sent)
            except StopIteration:
                return sent
            sent = self.floats.run(layer, maps, None)
            if layer.floats is None:
                continue
            made = self.integers[layer.name]({n: m.to(torch.int64) for n, m in maps.items()})
            self._compare(layer, sent, made, spikes, doubtful, maps)
            if silent:
                self.idle[layer.name] = bool((sent[0] != 0).double().mean() > 0.99)
            source = spikes if drive is None else drive
            if layer.name in source:
                sent = _output(layer, source[layer.name], maps)

    def _compare(self, layer: ScaledLayer, found: Tensor, made: Tensor,
                 spikes: Mapping[str, Tensor], doubtful: Mapping[str, Tensor],
                 maps: Mapping[str, Tensor]) -> None:
        seen = self.seen.setdefault(layer.name, _Seen())
        seen.add(0, found)
        seen.add(1, made)
        sure = torch.ones_like(found, dtype=torch.bool)
        if layer.name in spikes:
            real = _output(layer, spikes[layer.name], maps)
            sure = ~_output(layer, doubtful[layer.name].double(), maps).bool()
            wrong = ((real != found) & sure).double().mean()
            if wrong:
                raise SpikeTicketError(
                    f"layer {layer.name!r}: {float(wrong):.2%} of the spikes read from the module "
                    "are not its own; write the neuron as one of docs/imports.md")
        if bool(layer.exact.all()) and not layer.notes and bool(((made != found) & sure).any()):
            raise SpikeTicketError(f"layer {layer.name!r}: its integers, found to be exact, give "
                                   "other spikes; please report this network")

    def notes(self) -> tuple[str, ...]:
        """A line for every layer that cannot work."""
        said = []
        for name, seen in self.seen.items():
            if name == ONES:
                continue
            if not seen.fired[0]:
                said.append(f"layer {name!r} never fires, whatever spikes come in: its threshold "
                            "is out of its weights' reach")
            elif not seen.rested[0]:
                said.append(f"layer {name!r} always fires, whatever spikes come in: its bias is "
                            "above its threshold")
            elif not seen.fired[1] or not seen.rested[1]:
                said.append(f"layer {name!r} {'never' if seen.rested[1] else 'always'} fires once "
                            "it is rounded: give its weights more bits")
            elif self.idle.get(name):
                said.append(f"layer {name!r} fires without any input: its bias reaches its "
                            "threshold")
        return tuple(said)


def _output(layer: ScaledLayer, spikes: Tensor, maps: Mapping[str, Tensor]) -> Tensor:
    """The map that a layer's neurons' spikes [T, B, C, H, W] make."""
    if isinstance(layer.attention, ColumnAttention):
        return spikes * maps[layer.attention.query]
    if layer.pool is not None and layer.pool.mode == "or":
        return max_pool(spikes, layer.pool)
    return spikes
