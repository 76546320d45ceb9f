"""How the libraries that write NIR graphs read their own numbers.

NIR gives differential equations (LIF: tau dv/dt = (v_leak - v) + R I; IF: dv/dt = R I), a
comparison (v > v_threshold) and a reset (v becomes v_reset). Its files hold no timestep, and the
libraries discretise, compare and reset in their own ways, so the same file is another network in
each of them. A `Dialect` is one such reading; "nir" is the text, with forward Euler steps.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from ..errors import SpikeTicketError, did_you_mean

SNAP = 1e-6
"""Decays that near to k/256, and gains that near to 1, are that: files hold float32 numbers."""


@dataclass(frozen=True)
class Dialect:
    """One reading of NIR neurons.

    dt: timestep in the unit of tau. decay: "euler", lambda = 1 - dt / tau, or "exponential",
    lambda = exp(-dt / tau). if_gain: what multiplies an IF neuron's input: "r dt" or "r". lif_gain:
    what multiplies an LIF neuron's: "r (1 - lambda)" or "r". fires: ">" or ">=". reset: "value"
    (v becomes v_reset) or "subtract" (v_threshold is subtracted). start: where an LIF neuron's v
    begins, "v_reset" or "v_leak". open: what its files leave open (keys of `UNSAID`).
    """

    name: str
    dt: float
    decay: str = "euler"
    if_gain: str = "r dt"
    lif_gain: str = "r (1 - lambda)"
    fires: str = ">"
    reset: str = "value"
    start: str = "v_reset"
    open: tuple[str, ...] = ()

    def __post_init__(self):
        if not (isinstance(self.dt, int | float) and 0 < self.dt < math.inf):
            raise SpikeTicketError(f"dt {self.dt} is not a time above 0")
        for field, choices in (("decay", ("euler", "exponential")), ("if_gain", ("r dt", "r")),
                               ("lif_gain", ("r (1 - lambda)", "r")), ("fires", (">", ">=")),
                               ("reset", ("value", "subtract")), ("start", ("v_reset", "v_leak"))):
            if getattr(self, field) not in choices:
                raise SpikeTicketError(f"{field} {getattr(self, field)!r} is not one of "
                                       f"{', '.join(map(repr, choices))}")
        if (self.name, self.reset) == ("snntorch", "subtract"):
            raise SpikeTicketError(
                "snnTorch subtracts the threshold one timestep late, after the decay, the core at "
                "once; train with reset_mechanism='zero' (the nearest form of the same graph is "
                "dialect nir with reset subtract and fires >=)")

    def keep(self, tau: np.ndarray, where: str) -> float:
        """lambda, the fraction of the membrane that stays after a timestep."""
        tau = uniform(tau, where, "tau", infinite=True)
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
        r = np.asarray(r, np.float64)
        if kept is None:
            gain = r * (self.dt if self.if_gain == "r dt" else 1.0)
        elif kept == 1 and self.name == "snntorch":
            gain = np.ones_like(r)              # beta = 1 is written as tau = inf, r = tau / dt
        else:
            gain = r * (1 - kept if self.lif_gain != "r" else 1.0)
        return np.where(np.abs(gain - 1) <= SNAP, 1.0, gain)

    @property
    def says(self) -> dict[str, object]:
        """The reading itself, for a ticket's metadata."""
        return {k: v for k, v in vars(self).items() if k != "open"}


DIALECTS = {d.name: d for d in (
    Dialect("nir", 1e-4, open=("dt", "start")),
    Dialect("spikingjelly", 1e-4, fires=">=", open=("dt",)),
    Dialect("snntorch", 1e-4, open=("reset",)),
    # Norse 1.1.0 writes tau = dt / tau_mem_inv, its time constant times dt = 0.001: dt is 1e-6 in
    # that unit. Its IF neuron adds its input.
    Dialect("norse", 1e-6, if_gain="r", start="v_leak", open=("dt", "reset")),
    Dialect("sinabs", 1.0, decay="exponential", if_gain="r", lif_gain="r", fires=">=",
            reset="subtract", open=("reset", "spikes", "floor", "norm")),
)}
"""By the name of the library that wrote the graph; docs/imports.md has the table."""

UNSAID = {
    "dt": "the timestep; {steps} was taken (dt, --dt)",
    "start": "where v starts; v_reset was taken",
    "reset": "the reset; {took} was taken (reset, --reset)",
    "spikes": "the spike function; one spike a timestep was taken, sinabs' default MultiSpike "
              "gives more",
    "floor": "the membrane's lower bound (min_v_mem); none was taken",
    "norm": "norm_input; {norm} was taken, sinabs' default is True (norm_input, --norm-input)",
}
"""What a file does not hold, and what stands in for it."""

RESETS = {"snntorch": "'zero' (its default is 'subtract', which the core cannot)",
          "norse": "reset_value with v_reset 0 (its defaults)",
          "sinabs": "MembraneSubtract (its default)"}


def unsaid(how: Dialect, kinds: Collection[str]) -> list[str]:
    """A note for everything in `kinds` (keys of `UNSAID`) that is open in this reading."""
    steps = f"{how.dt:g}, in forward Euler steps," if how.name == "nir" else (
        f"{how.dt:g}, {how.name}'s default,")
    said = {"steps": steps, "took": RESETS.get(how.name, how.reset),
            "norm": how.lif_gain == "r (1 - lambda)"}
    return [f"the file does not hold {UNSAID[key].format(**said)}; give confirm (--confirm) if "
            f"it is right" for key in how.open if key in kinds]


def dialect(name: str, *, norm_input: bool | None = None, confirm: bool = False,
            **changes: object) -> Dialect:
    """A dialect by name, with the fields that are not None in `changes` replaced.

    norm_input: that of sinabs' LIF neurons. What is said is not open any more; confirm: nothing is.
    """
    if name not in DIALECTS:
        raise SpikeTicketError(f"dialect {name!r}: {did_you_mean(str(name), DIALECTS)}")
    given = {k: v for k, v in changes.items() if v is not None}
    said = set(given)
    if norm_input is not None:
        if name != "sinabs":
            raise SpikeTicketError(f"norm_input is a setting of sinabs' neurons, not of {name}'s")
        given["lif_gain"] = "r (1 - lambda)" if norm_input else "r"
        said.add("norm")
    left = () if confirm else tuple(k for k in DIALECTS[name].open if k not in said)
    return Dialect(**{**vars(DIALECTS[name]), **given, "open": left})


def uniform(values: np.ndarray, where: str, what: str, infinite: bool = False) -> float:
    """The one number of an array; infinite: it may be infinity everywhere."""
    values = np.asarray(values, np.float64).ravel()
    if infinite and values.size and (values == np.inf).all():
        return math.inf
    if not values.size or not np.isfinite(values).all():
        raise SpikeTicketError(f"{where}: {what} is empty or not a finite number")
    low, high = values.min(), values.max()
    if high - low > SNAP * max(abs(low), abs(high)):
        raise SpikeTicketError(f"{where}: {what} spans {low:.6g} .. {high:.6g}; a layer has one, "
                               "so split the neurons into layers by their value")
    return float(values[0])


def by_channel(values: np.ndarray, shape: tuple[int, ...], where: str,
               what: str) -> np.ndarray:
    """float64 [C] of an array with one value, one per channel or one per neuron, shape [C, ...]."""
    values = np.asarray(values, np.float64)
    if not values.size or not np.isfinite(values).all():
        raise SpikeTicketError(f"{where}: {what} is empty or not a finite number")
    if values.size == 1:
        return np.full(shape[0], float(values.reshape(-1)[0]))
    if values.size == shape[0]:
        return values.reshape(-1)
    if values.size != math.prod(shape):
        raise SpikeTicketError(f"{where}: {what} has {values.size} values for "
                               f"{'x'.join(map(str, shape))} neurons")
    rows = values.reshape(shape[0], -1)
    spread = rows.max(1) - rows.min(1)
    if (spread > SNAP * np.abs(rows).max(1)).any():
        c = int(spread.argmax())
        raise SpikeTicketError(f"{where}: {what} differs between the positions of channel {c}; the "
                               "core has one per channel")
    return rows[:, 0].copy()
