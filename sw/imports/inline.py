"""Neurons that are written out in a forward function, found in its comparisons.

A comparison at timestep t sees z_t, the membrane up to a constant. Replays give it for any earlier
spikes of its own, s, and any spikes of other layers, so reset, decay and current can be told::

    hard reset   z_t(s = 0) - z_t(s = 1) = decay (z_{t-1}(s = 0) - c)      z at rest is c
                 current_t = z_t(s = 1) - c
    soft reset   z_t(s = 0) - z_t(s = 1) = theta (decay + ... + decay^t)
                 current_t = z_t(s = 0) - c - decay (z_{t-1}(s = 0) - c)

with threshold theta = rhs - c. What is found must then fire as the comparisons do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import SpikeTicketError
from ..integer.network import INPUT
from .grouping import owner, threshold
from .neurons import Rule
from .recording import Cut, Recording
from .refusals import NEAREST, unsupported

CLOSE = 1e-7
"""Relative difference of replays that counts as none."""


@dataclass(frozen=True, eq=False)
class Written:
    """How a comparison's operand becomes a current. rest: c, [*dims]; sign: -1 where it fires
    below; level: the comparison's right-hand side."""

    decay: float
    rest: Tensor
    hard: bool
    sign: float
    level: Tensor

    def current(self, recording: Recording, cut: Cut, given: Mapping[str, Tensor],
                through: bool) -> Tensor:
        """[T, B, *dims] for outputs of the other cuts."""
        z = self.sign * recording.seen(cut, {**given, cut.name: own(recording, cut, self.hard)},
                                       through)
        above = z - self.rest
        if self.hard:
            return above
        before = torch.cat([torch.zeros_like(above[:1]), above[:-1]])
        return above - self.decay * before

    def fires(self, recording: Recording, cut: Cut, given: Mapping[str, Tensor]) -> Tensor:
        """What the comparisons give for these outputs, the cut's own among them."""
        z = self.sign * recording.seen(cut, given, through=True)
        level = self.sign * self.level
        return (z > level if cut.rule.strict else z >= level).double()


def own(recording: Recording, cut: Cut, spikes: bool) -> Tensor:
    """Its own spikes, all or none."""
    return torch.full((cut.steps, recording.batch, *cut.out), float(spikes), dtype=torch.float64)


@torch.no_grad()
def written(recording: Recording) -> Recording:
    """The recording with a rule for every comparison that is a neuron.

    Raises SpikeTicketError, naming the place, for one that is none.
    """
    for cut in recording.cuts:
        if cut.kind == "neuron" and cut.rule is None:
            found = _identified(recording, cut)
            cuts = tuple(found if c is cut else c for c in recording.cuts)
            recording = replace(recording, cuts=cuts)
    return recording


def _identified(recording: Recording, cut: Cut) -> Cut:
    level, sign, strict = threshold(cut.node, recording.tape)
    if level is None:
        raise _refused(recording, cut, "compares two values that both depend on the input")
    if cut.steps != recording.steps:
        raise _refused(recording, cut, f"compares at {cut.steps} of {recording.steps} timesteps")
    draws = [_given(recording, cut, seed) for seed in (1, 2, 3)]
    silent, firing = ([sign * recording.seen(cut, {**given, cut.name: own(recording, cut, s)})
                       for given in draws] for s in (False, True))
    hard, decay, rest, reach = _reset(recording, cut, silent, firing, sign * level)
    theta = sign * level - rest
    if not bool((theta > 0).all()):
        raise _refused(recording, cut, "fires at or below its resting potential")
    if reach is not None and bool(((reach - theta).abs() > CLOSE * theta.abs()).any()):
        raise _refused(recording, cut, f"subtracts {float(reach.flatten()[0]):.4g} and fires at "
                                       f"{float(theta.flatten()[0]):.4g} above rest")
    one = torch.ones((), dtype=torch.float64)
    found = replace(cut, rule=Rule(decay, one, theta, hard, strict),
                    written=Written(decay, rest, hard, sign, level))
    still = {n: x[:1].expand_as(x) for n, x in _given(recording, cut, 4).items()}
    current = found.written.current(recording, found, still, False)
    if float((current - current[:1]).abs().max()) > CLOSE * (float(current.abs().max()) or 1.0):
        raise _refused(recording, cut, "is charged with what changes over time when its input does "
                                       "not, such as a synaptic current that decays")
    for given in draws:
        current = found.written.current(recording, found, given, False)
        spikes, doubtful = found.rule.run(current)
        real = found.written.fires(recording, found, {**given, cut.name: spikes})
        if bool(((real != spikes) & ~doubtful).any()):
            raise _refused(recording, cut, "does not leak, fire and reset as IF or LIF neurons do")
    return found


def _reset(recording: Recording, cut: Cut, silent: list[Tensor], firing: list[Tensor],
           level: Tensor | float) -> tuple[bool, float, Tensor, Tensor | None]:
    """(hard, decay, rest, what is subtracted) of operands without and with own spikes."""
    scale = max(float(z.abs().max()) for z in silent) or 1.0
    gaps = [z - f for z, f in zip(silent, firing, strict=True)]
    zero = torch.zeros(cut.dims, dtype=torch.float64)
    if max(float(g.abs().max()) for g in gaps) <= CLOSE * scale:
        still = {n: x[:1].expand_as(x) for n, x in _given(recording, cut, 4).items()}
        z = recording.seen(cut, still)
        if float((z - z[:1]).abs().max()) > CLOSE * scale:
            raise _refused(recording, cut, "does not reset when it fires")
        one = (level if isinstance(level, Tensor) else zero + level) - 1
        return True, 0.0, one.expand(cut.dims), None    # nothing remembered; checked by the caller
    apart = silent[0][:-1] - silent[1][:-1]
    change = gaps[0][1:] - gaps[1][1:]
    if float(change.abs().max()) > CLOSE * scale:
        sure = apart.abs() > 0.1 * apart.abs().max()
        slopes = (change[sure] / apart[sure])
        decay = float(slopes.median())
        if not 0 < decay <= 1 + CLOSE or float((slopes - decay).abs().max()) > 1e-6:
            raise _refused(recording, cut, "does not reset to one value when it fires")
        rests = silent[0][:-1] - gaps[0][1:] / decay
        return True, _neat(decay), _even(rests.mean((0, 1)), scale), None
    if len(gaps[0]) < 3:
        raise _refused(recording, cut, "cannot be told from fewer than 3 timesteps; give "
                                       "timesteps=3 or more, or use LIFNode")
    first, second = gaps[0][1].mean(0), (gaps[0][2] - gaps[0][1]).mean(0)
    decay = _neat(float((second / first).median()))
    reach = _even(first / decay, scale)
    return False, decay, level - reach, reach


def _even(values: Tensor, scale: float) -> Tensor:
    """Without the rounding of the replays, which makes equal numbers differ."""
    return values.round(decimals=12 - int(math.log10(scale)))


def _neat(decay: float) -> float:
    """Without the rounding of the replays."""
    near = round(decay * (1 << 20)) / (1 << 20)
    return near if abs(near - decay) < 1e-12 else decay


def _given(recording: Recording, cut: Cut, seed: int) -> dict[str, Tensor]:
    """Random values of what the comparison reads."""
    generator = torch.Generator().manual_seed(seed)
    given = {}
    for name in recording.sources(cut):
        if name == INPUT:
            shape = (recording.input_steps, recording.batch, *recording.dims)
            given[name] = torch.rand(shape, generator=generator, dtype=torch.float64)
        elif name != cut.name:
            source = recording.cut(name)
            if source.kind == "product":
                continue
            shape = (source.steps, recording.batch, *source.out)
            given[name] = (torch.rand(shape, generator=generator) < 0.5).double()
    return given


def _refused(recording: Recording, cut: Cut, reason: str) -> SpikeTicketError:
    path, kind = owner(recording.modules, cut.node.module)
    if kind in NEAREST:
        return unsupported(path, kind)
    return SpikeTicketError(f"{cut.where}: {reason}; the nearest is a module of its own that "
                            "charges, fires and resets as LIFNode does")

