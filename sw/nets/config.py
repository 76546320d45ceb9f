"""What every network of `sw.nets` is configured by, and the neuron they share."""

from __future__ import annotations

from dataclasses import dataclass

from spikingjelly.activation_based import neuron, surrogate

from ..errors import SpikeTicketError
from ..integer.network import MAX_TIMESTEPS
from .neurons import lif

SURROGATES = {"triangle": lambda: surrogate.PiecewiseQuadratic(alpha=1.0),
              "atan": lambda: surrogate.ATan(alpha=2.0),
              "sigmoid": lambda: surrogate.Sigmoid(alpha=4.0)}


@dataclass(frozen=True)
class NetConfig:
    """Shape and neurons of a network.

    model: a name ("vgg9", "resnet19", ...) or blocks such as "32p-64p-f128" (`sw.nets.build`).
    input: (channels, height, width); classes: of the readout. timesteps: T. decay: the paper's
    lambda, the share of the membrane that stays per timestep; tau = 1 / (1 - decay).
    theta: threshold. surrogate: of the spike's gradient: "triangle", "atan", "sigmoid".
    """

    model: str
    input: tuple[int, int, int] = (3, 32, 32)
    classes: int = 10
    timesteps: int = 4
    decay: float = 0.99
    theta: float = 1.0
    surrogate: str = "triangle"

    def __post_init__(self):
        if len(self.input) != 3 or min(self.input) < 1:
            raise SpikeTicketError(f"input {self.input} is not (channels, height, width)")
        if self.classes < 2:
            raise SpikeTicketError(f"classes {self.classes} are below 2")
        if not 1 <= self.timesteps <= MAX_TIMESTEPS:
            raise SpikeTicketError(f"timesteps {self.timesteps} are outside 1..{MAX_TIMESTEPS}")
        if not 0 < self.decay <= 1:
            raise SpikeTicketError(f"decay {self.decay} is outside 0..1 (0.5 keeps half the "
                                   "membrane per timestep, 1 is an IF neuron)")
        if self.theta <= 0:
            raise SpikeTicketError(f"theta {self.theta} must be above 0")
        if self.surrogate not in SURROGATES:
            raise SpikeTicketError(f"surrogate {self.surrogate!r} is not one of "
                                   f"{', '.join(SURROGATES)}")

    @property
    def tau(self) -> float:
        """SpikingJelly's membrane time constant; infinite for an IF neuron."""
        return float("inf") if self.decay == 1 else 1 / (1 - self.decay)

    def node(self, theta: float | None = None) -> neuron.LIFNode:
        """A LIF neuron: v <- decay * v + x, fires at v >= theta, hard reset to 0, detached."""
        return lif(self.tau, self.theta if theta is None else theta, SURROGATES[self.surrogate]())
