"""Neurons by behaviour: what a neuron module's numbers predict, and whether it does that.

A module that is a neuron says so by numbers, SpikingJelly's (`v_threshold`, `v_reset`, `tau` or
`w`, `decay_input`), or by a method `float_neuron()` that returns its `FloatNeuron`. Either is a
prediction; `stated_rule` runs the module alone, on currents around its threshold and exactly on
it, and returns the rule only if every spike is as predicted. So a subclass that fires or resets in
another way is not taken for its parent.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..errors import SpikeTicketError
from ..integer.floats import FloatNeuron

STEPS = 12
"""Timesteps of the run that a prediction must stand."""

NEAR = 1e-9
"""Membranes this near their threshold, relatively, are left out: rounding decides there."""


@dataclass(frozen=True, eq=False)
class Rule:
    """v_t = decay v_{t-1} + gain I_t from rest; fires at v >= theta (strict: >); hard: to rest,
    soft: theta is subtracted. gain, theta, start (rest, None: 0): float64, they broadcast to one
    timestep's values. unit: as in `FloatNeuron`."""

    decay: float
    gain: Tensor
    theta: Tensor
    hard: bool
    strict: bool = False
    start: Tensor | None = None
    unit: Tensor | None = None

    def run(self, currents: Tensor) -> tuple[Tensor, Tensor]:
        """(spikes, doubtful) of currents [T, ...]; doubtful: at or behind a membrane within `NEAR`
        of its threshold."""
        rest = torch.zeros(()).double() if self.start is None else self.start
        v = rest.expand(currents.shape[1:]).clone()
        doubt = torch.zeros_like(v, dtype=torch.bool)
        spikes, doubts = [], []
        for current in currents:
            v = self.decay * v + self.gain * current
            fired = v > self.theta if self.strict else v >= self.theta
            doubt = doubt | ((v - self.theta).abs() <= NEAR * self.theta.abs().clamp_min(1e-30))
            v = torch.where(fired, rest, v) if self.hard else v - self.theta * fired
            spikes.append(fired)
            doubts.append(doubt)
        return torch.stack(spikes).double(), torch.stack(doubts)


def is_neuron(module: nn.Module) -> bool:
    """It states a rule."""
    return hasattr(module, "float_neuron") or (
        hasattr(module, "v_threshold") and hasattr(module, "v_reset"))


@torch.no_grad()
def stated_rule(module: nn.Module, shape: tuple[int, ...], where: str) -> Rule | None:
    """The rule that `module` states and keeps, for values [B, ...] of one timestep; else None.

    Raises SpikeTicketError for numbers that no neuron can have: a threshold that is not finite or
    not above rest.
    """
    rule = _predicted(module, where)
    if rule is None:
        return None
    try:
        rule.theta.expand(shape), rule.gain.expand(shape)
        return _kept(module, rule, shape)
    except RuntimeError:            # numbers of another shape, or a module that wants another input
        return None


def _predicted(module: nn.Module, where: str) -> Rule | None:
    if hasattr(module, "float_neuron"):
        stated: FloatNeuron = module.float_neuron()
        one = torch.ones((), dtype=torch.float64)
        return Rule(stated.decay, one, stated.theta.double(), stated.reset is not None,
                    stated.strict, stated.reset, stated.unit)
    theta, rest = _number(module.v_threshold), module.v_reset
    soft = rest is None
    rest = _number(0.0 if soft else rest)
    if theta is None or rest is None:
        return None
    check_numbers(theta, rest, where)
    kept = _decay(module)
    if kept is None or not 0 <= kept <= 1:
        return None
    gain = 1 - kept if getattr(module, "decay_input", False) else 1.0
    gain = torch.tensor(gain, dtype=torch.float64)
    return Rule(kept, gain, theta - rest, not soft)


def check_numbers(theta: Tensor, rest: Tensor, where: str) -> None:
    """Raise SpikeTicketError unless thresholds are finite and above finite rests."""
    if not bool(theta.isfinite().all()):
        bad = float(theta.flatten()[~theta.isfinite().flatten()][0])
        if bad == math.inf:
            raise SpikeTicketError(f"{where}: v_threshold inf never fires; leave the neuron out: "
                                   "the readout sums its currents over the timesteps")
        raise SpikeTicketError(f"{where}: v_threshold {bad} is no number; give a finite one")
    if not bool(rest.isfinite().all()):
        bad = float(rest.flatten()[~rest.isfinite().flatten()][0])
        raise SpikeTicketError(f"{where}: v_reset {bad} is not finite; give 0, or None to subtract "
                               "the threshold")
    if bool((theta <= rest).any()):
        raise SpikeTicketError(f"{where}: v_threshold {float(theta.min()):g} is not above v_reset "
                               f"{float(rest.max()):g}, so it fires without input; raise it")


def _number(value: object) -> Tensor | None:
    if isinstance(value, Tensor) and not value.is_complex():
        return value.detach().double()
    if isinstance(value, int | float):
        return torch.tensor(float(value), dtype=torch.float64)
    return None


def _decay(module: nn.Module) -> float | None:
    """What the membrane keeps per timestep: 1 without a time constant."""
    w = getattr(module, "w", None)
    if isinstance(w, Tensor) and w.numel() == 1:            # ParametricLIFNode
        return 1 - float(w.detach().double().sigmoid())
    tau = _number(getattr(module, "tau", math.inf))
    if tau is None or tau.numel() != 1 or float(tau) == 0:
        return None
    return 1 - 1 / float(tau)


def _kept(module: nn.Module, rule: Rule, shape: tuple[int, ...]) -> Rule | None:
    """The rule, with its comparison, if the module's spikes are the predicted ones."""
    generator = torch.Generator().manual_seed(0)
    rest = 0.0 if rule.start is None else rule.decay * rule.start
    level = ((rule.theta - rest) / rule.gain).expand(shape)
    # Some neurons just reach, some just miss their threshold at once; the others see noise.
    first = level * torch.tensor([1.0, 1 - 1e-6, 1 + 1e-6, -1.0], dtype=torch.float64)[
        torch.randint(4, shape, generator=generator)]
    noise = torch.randn((STEPS - 1, *shape), generator=generator, dtype=torch.float64)
    currents = torch.cat([first[None], level * (0.4 + 1.2 * noise)])
    made = alone(module, currents)
    if not bool(((made == 0) | (made == 1)).all()):
        return None
    exact = (first == level) & (rest + rule.gain * first == rule.theta)
    if bool(exact.any()):
        met = made[0][exact]
        if bool((met != met[0]).any()):
            return None
        rule = replace(rule, strict=not bool(met[0]))
    expected, doubtful = rule.run(currents)
    return rule if bool(((made == expected) | doubtful).all()) else None


def alone(module: nn.Module, currents: Tensor) -> Tensor:
    """Spikes of a copy of the module, from rest, on currents [T, ...]."""
    module = copy.deepcopy(module)
    if hasattr(module, "reset"):
        module.reset()
    if getattr(module, "step_mode", "m") == "m":
        return module(currents).double()
    return torch.stack([module(current) for current in currents]).double()
