"""How the libraries that write NIR graphs read their own numbers.

NIR gives differential equations (LIF: tau dv/dt = (v_leak - v) + R I; IF: dv/dt = R I), a
comparison (v > v_threshold) and a reset (v becomes v_reset). Its files hold no timestep, and the
libraries discretise, compare and reset in their own ways, so the same file is another network in
each of them. A `Dialect` is one such reading; "nir" is the text, with forward Euler steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..errors import SpikeTicketError

SNAP = 1e-6
"""Decays that near to k/256, and gains that near to 1, are that: files hold float32 numbers."""


@dataclass(frozen=True)
class Dialect:
    """One reading of NIR neurons.

    dt: timestep in the unit of tau. decay: "euler", lambda = 1 - dt / tau, or "exponential",
    lambda = exp(-dt / tau). if_gain: what multiplies an IF neuron's input: "r dt" or "r". lif_gain:
    what multiplies an LIF neuron's: "r (1 - lambda)" or "r". fires: ">" or ">=". reset: "value"
    (v becomes v_reset) or "subtract" (v_threshold is subtracted).
    """

    name: str
    dt: float
    decay: str = "euler"
    if_gain: str = "r dt"
    lif_gain: str = "r (1 - lambda)"
    fires: str = ">"
    reset: str = "value"

    def __post_init__(self):
        if not (isinstance(self.dt, int | float) and 0 < self.dt < math.inf):
            raise SpikeTicketError(f"dt {self.dt} is not a time above 0")
        for field, choices in (("decay", ("euler", "exponential")), ("if_gain", ("r dt", "r")),
                               ("lif_gain", ("r (1 - lambda)", "r")), ("fires", (">", ">=")),
                               ("reset", ("value", "subtract"))):
            if getattr(self, field) not in choices:
                raise SpikeTicketError(f"{field} {getattr(self, field)!r} is not one of "
                                       f"{', '.join(map(repr, choices))}")

    def keep(self, tau: np.ndarray, where: str) -> float:
        """lambda, the fraction of the membrane that stays after a timestep."""
        tau = uniform(tau, where, "tau")
        if not tau > 0:
            raise SpikeTicketError(f"{where}: tau {tau:g} is not above 0")
        kept = math.exp(-self.dt / tau) if self.decay == "exponential" else 1 - self.dt / tau
        if kept < -SNAP:
            raise SpikeTicketError(f"{where}: tau {tau:g} is shorter than the timestep {self.dt:g}"
                                   "; give the dt that the graph was written with")
        nearest = round(kept * 256) / 256
        return nearest if abs(kept - nearest) <= SNAP else max(kept, 0.0)

    def gain(self, r: np.ndarray, kept: float | None) -> np.ndarray:
        """What multiplies the input of a neuron with decay `kept`; None: an IF neuron."""
        if kept is None:
            gain = np.asarray(r, np.float64) * (self.dt if self.if_gain == "r dt" else 1.0)
        else:
            gain = np.asarray(r, np.float64) * (1 - kept if self.lif_gain != "r" else 1.0)
        return np.where(np.abs(gain - 1) <= SNAP, 1.0, gain)


DIALECTS = {d.name: d for d in (
    Dialect("nir", 1e-4),
    Dialect("spikingjelly", 1e-4, fires=">="),
    Dialect("snntorch", 1e-4),
    # Norse 1.1.0 writes tau = dt / tau_mem_inv, its time constant times dt = 0.001: dt is 1e-6 in
    # that unit. Its IF neuron adds its input.
    Dialect("norse", 1e-6, if_gain="r"),
    Dialect("sinabs", 1.0, decay="exponential", if_gain="r", lif_gain="r", fires=">=",
            reset="subtract"),
)}
"""By the name of the library that wrote the graph; docs/imports.md has the table."""


def dialect(name: str, **changes: object) -> Dialect:
    """A dialect by name, with the fields that are not None in `changes` replaced."""
    if name not in DIALECTS:
        raise SpikeTicketError(f"dialect {name!r} is not one of {', '.join(DIALECTS)}")
    given = {k: v for k, v in changes.items() if v is not None}
    return Dialect(**{**vars(DIALECTS[name]), **given})


def uniform(values: np.ndarray, where: str, what: str) -> float:
    """The one number of an array."""
    values = np.asarray(values, np.float64).ravel()
    if not values.size or not np.isfinite(values).all():
        raise SpikeTicketError(f"{where}: {what} is empty or not a finite number")
    low, high = values.min(), values.max()
    if high - low > SNAP * max(abs(low), abs(high)):
        raise SpikeTicketError(f"{where}: {what} spans {low:.6g} .. {high:.6g}; a layer has one, "
                               "so split the neurons into layers by their value")
    return float(values[0])


def by_channel(values: np.ndarray, shape: tuple[int, int, int], where: str,
               what: str) -> np.ndarray:
    """float64 [C] of an array with one value, one per channel or one per neuron [C, H, W]."""
    values = np.asarray(values, np.float64)
    if not values.size or not np.isfinite(values).all():
        raise SpikeTicketError(f"{where}: {what} is empty or not a finite number")
    if values.size == 1:
        return np.full(shape[0], float(values.reshape(-1)[0]))
    if values.size == shape[0]:
        return values.reshape(-1)
    if values.size != shape[0] * shape[1] * shape[2]:
        raise SpikeTicketError(f"{where}: {what} has {values.size} values for "
                               f"{'x'.join(map(str, shape))} neurons")
    rows = values.reshape(shape[0], -1)
    spread = rows.max(1) - rows.min(1)
    if (spread > SNAP * np.abs(rows).max(1)).any():
        c = int(spread.argmax())
        raise SpikeTicketError(f"{where}: {what} differs between the positions of channel {c}; the "
                               "core has one per channel")
    return rows[:, 0].copy()
