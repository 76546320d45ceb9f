"""NIR's neurons as small modules that state their rule, in timesteps and in float64.

    u_t = decay u_{t-1} + gain x_t + offset          u = v - v_leak, measured from rest
    s_t = u_t > theta, or >= theta
    u_t <- reset where s_t, or u_t - theta where s_t

`gain` and `offset` are applied before the module (`NIRNeuron.drive`), so that the module itself is
the neuron of `sw.integer.floats`, which it gives by `float_neuron`.
"""

from __future__ import annotations

from collections.abc import Set

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import SpikeTicketError
from ..integer.floats import FloatNeuron
from .dialects import SNAP, Dialect, by_channel, uniform

NEAREST_SYNAPSE = "CubaLIF with tau_syn = dt, or LIF, whose input is not filtered"

Shape = tuple[int, ...]
"""(channels, height, width), or (features,)."""


class NIRNeuron(nn.Module):
    """forward: currents [T, B, C, ...] to spikes 0 and 1 of that shape; it starts from rest.

    kinds: what of `sw.imports.dialects.UNSAID` changes this neuron. dt_fits: True where the file's
    own numbers say that dt is the writer's.
    """

    step_mode = "m"
    channels_first = True

    def __init__(self, rule: FloatNeuron, gain: Tensor, offset: Tensor,
                 kinds: Set[str] = frozenset(), dt_fits: bool = False):
        super().__init__()
        self.rule, self.kinds, self.dt_fits = rule, kinds, dt_fits
        self.register_buffer("gain", gain)
        self.register_buffer("offset", offset)

    def float_neuron(self) -> FloatNeuron:
        """The rule; its numbers, like gain and offset, are float64 [C, 1, 1] or [features]."""
        return self.rule

    def drive(self, x: Tensor) -> Tensor:
        """Currents from the node's input [T, B, C, ...]."""
        if bool((self.gain != 1).any()):
            x = x * self.gain
        return x + self.offset if bool(self.offset.any()) else x

    def forward(self, currents: Tensor) -> Tensor:
        rule = self.rule
        rest = torch.zeros_like(rule.theta) if rule.reset is None else rule.reset
        v, spikes = rest, []
        for current in currents:
            v = rule.decay * v + current
            fired = v > rule.theta if rule.strict else v >= rule.theta
            v = v - rule.theta * fired if rule.reset is None else torch.where(fired, rest, v)
            spikes.append(fired.to(currents.dtype))
        return torch.stack(spikes)

    def fires_at_one_spike(self, weight: float) -> bool:
        """One spike of that weight fires it, whatever was before, and leaves nothing behind: a
        pool of spikes before it is then an OR."""
        rule = self.rule
        if rule.reset is None or bool(rule.reset.any()) or bool(self.offset.any()):
            return False
        least = self.gain * weight
        return bool((least > rule.theta if rule.strict else least >= rule.theta).all())


def read_neuron(nir, node, where: str, shape: Shape, how: Dialect) -> NIRNeuron:
    """The module of an IF, LIF, CubaLIF or Threshold node over a map of `shape`."""
    def channels(what: str) -> np.ndarray:
        return by_channel(array(getattr(node, what)), shape, where, what)

    zero = np.zeros(shape[0])
    if isinstance(node, nir.Threshold):             # a neuron without memory
        return _made(where, how, shape, 0.0, zero + 1, channels("threshold"), zero, zero)
    theta, reset = channels("v_threshold"), channels("v_reset")
    soft = how.reset == "subtract"
    if isinstance(node, nir.IF):
        gain = how.gain(channels("r"), None)
        timed = how.if_gain == "r dt"
        kinds = {"reset", "spikes", "floor", *["dt"] * timed, *["start"] * bool(reset.any())}
        fits = timed and bool((gain == 1).all())
        if soft:
            return _made(where, how, shape, 1.0, gain, theta, None, zero, kinds, fits)
        # Nothing leaks, so v_reset itself is where the membrane rests (and starts).
        return _made(where, how, shape, 1.0, gain, theta - reset, zero, zero, kinds, fits)
    kept = how.keep(array(node.tau_mem if isinstance(node, nir.CubaLIF) else node.tau), where)
    with np.errstate(invalid="ignore"):
        gain = how.gain(_resistance(node, how, kept, shape, where), kept)
    kinds = {"reset", "spikes", "floor", "dt", "norm"}
    fits = how.lif_gain == "r (1 - lambda)" and bool((gain == 1).all())
    leak = channels("v_leak")
    if isinstance(node, nir.CubaLIF):
        gain = gain * _synapse(node, where, shape, how)
    if soft:
        # The membrane starts at 0 and decays to v_leak, which the bias keeps pulling to.
        return _made(where, how, shape, kept, gain, theta, None, leak * (1 - kept), kinds, fits)
    if (leak != reset).any():
        if how.start == "v_leak":
            raise SpikeTicketError(f"{where}: {how.name} starts at v_leak and resets to v_reset, "
                                   f"here {leak[0]:g} and {reset[0]:g}; the core starts where it "
                                   "resets to, so let them be equal")
        kinds = kinds | {"start"}
    return _made(where, how, shape, kept, gain, theta - leak, reset - leak, zero, kinds, fits)


def _made(where: str, how: Dialect, shape: Shape, kept: float, gain: np.ndarray, theta: np.ndarray,
          reset: np.ndarray | None, offset: np.ndarray, kinds: Set[str] = frozenset(),
          dt_fits: bool = False) -> NIRNeuron:
    if not (theta > 0).all():
        c = int((theta <= 0).argmax())
        raise SpikeTicketError(f"{where}: channel {c} has v_threshold at or below rest "
                               f"({theta[c]:.4g}); the neuron would fire without input")
    def along(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).view(-1, *(1,) * (len(shape) - 1))

    rule = FloatNeuron(kept, along(theta), None if reset is None else along(reset),
                       how.fires == ">")
    return NIRNeuron(rule, along(gain), along(offset), kinds, dt_fits)


def _resistance(node, how: Dialect, kept: float, shape: Shape, where: str) -> np.ndarray:
    r = array(node.r)
    if how.name == "snntorch" and kept == 1 and np.isinf(r).all():
        return np.ones(shape[0])                    # it writes tau = r = inf for beta = 1
    return by_channel(r, shape, where, "r")


def _synapse(node, where: str, shape: Shape, how: Dialect) -> np.ndarray:
    """Gain [C] of a CubaLIF's synapse, which must forget everything within a timestep."""
    tau = uniform(array(node.tau_syn), where, "tau_syn")
    if how.decay != "euler" or abs(tau / how.dt - 1) > SNAP:
        raise SpikeTicketError(f"{where}: tau_syn {tau:g} with dt {how.dt:g} filters the "
                               f"current; the nearest is {NEAREST_SYNAPSE}")
    return by_channel(array(node.w_in), shape, where, "w_in")


def habit(nir, node, where: str, how: Dialect) -> str | None:
    """A note where the node's numbers are none that the dialect's library writes."""
    if not isinstance(node, nir.IF | nir.LIF):
        return None
    r = np.asarray(array(node.r), np.float64)
    if how.name in ("norse", "sinabs"):
        wanted, text = 1.0, "1"
    elif isinstance(node, nir.IF) and how.name == "spikingjelly":
        wanted, text = 1 / how.dt, f"1/dt = {1 / how.dt:g}"
    elif isinstance(node, nir.LIF) and how.name in ("snntorch", "spikingjelly"):
        wanted = np.asarray(array(node.tau), np.float64) / how.dt
        text = f"tau/dt = {wanted.flat[0]:g}"
        if how.name == "spikingjelly" and _near(r, 1.0):
            return None
    else:
        return (f"{where}: snntorch writes no IF; is the dialect (--dialect) right?"
                if how.name == "snntorch" else None)
    if _near(r, wanted):
        return None
    return (f"{where}: {how.name} writes r = {text}, the file holds {r.flat[0]:g}; are the dialect "
            f"(--dialect) and dt ({how.dt:g}, --dt) right?")


def _near(values: np.ndarray, wanted: np.ndarray | float) -> bool:
    with np.errstate(invalid="ignore"):
        return bool(((np.abs(values - wanted) <= SNAP * np.abs(wanted)) | (values == wanted)).all())


def array(value: object) -> np.ndarray:
    """Parameters may be arrays, tensors of a library, or numbers."""
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    return value if isinstance(value, str | bytes) else np.asarray(value)
