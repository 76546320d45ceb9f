"""What the zoo says about one network: how it is made, fed, and what is expected of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from spikingjelly.activation_based import neuron
from torch import nn

from ..integers import Imported
from ..spikingjelly import from_spikingjelly

Make = Callable[..., nn.Module]
"""Takes a neuron factory, or nothing where the network has neurons of its own."""


def _if(**given: object) -> neuron.BaseNode:
    return neuron.IFNode(**given)


def _lif(**given: object) -> neuron.BaseNode:
    return neuron.LIFNode(**{"tau": 2.0, **given})


def _plif(**given: object) -> neuron.BaseNode:
    return neuron.ParametricLIFNode(**{"init_tau": 2.0, "decay_input": False, **given})


NEURONS: dict[str, Callable[..., neuron.BaseNode]] = {"IF": _if, "LIF": _lif, "PLIF": _plif}
"""Factories by name. Their decays are 1 and 1/2: those that integers follow exactly."""

ALL = tuple(NEURONS)

FEEDS = ("image", "sequence", "batch first", "steps")


@dataclass(frozen=True)
class Entry:
    """A network of the zoo.

    way: the public way of writing it, or SpikingJelly's class. shape: (C, H, W) of the input.
    feed: what forward takes: "image" [B, C, H, W], repeated T times by the module itself;
        "sequence" [T, B, C, H, W]; "batch first" [B, T, C, H, W]; "steps": [B, C, H, W], called T
        times (single-step mode). A vector network, with shape (features, 1, 1), takes [..., C].
    static: the same image at every timestep.
    neurons: names in `NEURONS` that it is tried with; empty: it has its own.
    noisy: its arithmetic is whole only up to float64 rounding (a division by 9, weight norm), so
        the thresholds of its whole variant lie one float32 step below a whole number.
    light: its convolutions follow each other without a neuron between, so 1x1 kernels of the whole
        variant hold a few 1 and -1 only, and the products of weights stay within 8 bits.
    steps: a step mode of SpikingJelly's to set, or None.
    refusal: for what the core cannot compute, a part of the line that must refuse it.
    importer: takes the module and the arguments of `from_spikingjelly`.
    """

    name: str
    way: str
    make: Make
    shape: tuple[int, int, int]
    timesteps: int = 4
    feed: str = "sequence"
    static: bool = True
    neurons: tuple[str, ...] = ()
    noisy: bool = False
    light: bool = False
    steps: str | None = None
    refusal: str | None = None
    importer: Callable[..., Imported] = from_spikingjelly

    @property
    def kinds(self) -> tuple[str | None, ...]:
        """The neurons to try; (None,) for a network with its own."""
        return self.neurons or (None,)
