"""Cycles of a ticket on the exact cycle model, with and without each kind of sparsity."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from hw.config import CoreConfig

from ..compile.compiler import compile_network
from ..core import cycles
from ..core.cycles import Cycles
from ..integer import reference
from ..integer.gate import Gate, Select
from ..integer.network import Layer, Network
from .result import PHASES, Ladder, Point, Sweep
from .variants import (
    Spikes,
    dense_weights,
    full_spikes,
    thinned_spikes,
    thinned_weights,
    ungated,
    with_keep,
)

FRACTIONS = (1.0, 0.5, 0.25, 0.125)
BUSY = ("synapses", "event_scan", "queue_stall", "port_stall")


def measure(network: Network, config: CoreConfig, samples: Iterable[Spikes], x: float = 1.0,
            after: str | None = None) -> Point:
    """Mean cycles of a network for given spikes; after: only of the layers behind this one."""
    samples = list(samples)
    stacked = {name: np.stack([s[name] for s in samples], 1) for name in samples[0]}
    image = compile_network(network, config, reference.activity(network, stacked))
    total, phases = 0.0, dict.fromkeys(PHASES, 0.0)
    for spikes in samples:
        found = cycles.replay(image, spikes)
        total += found.total / len(samples)
        for name, value in split(network, found, after).items():
            phases[name] += value / len(samples)
    return Point(x, total, phases)


def split(network: Network, found: Cycles, after: str | None = None) -> dict[str, float]:
    """Cycles by PHASES, of the layers behind `after` (None: of all)."""
    phases = dict.fromkeys(PHASES, 0.0)
    kinds = {layer.name: layer for layer in network.layers}
    names = list(kinds)
    counted = names if after is None else names[names.index(after) + 1:]
    for layer in found.layers:
        if layer.name not in counted:
            continue
        cause, operator = layer.by_cause, kinds[layer.name]
        phases["program"] += cause["program"] + cycles.STEP_OVERHEAD
        if isinstance(operator, Gate):
            phases["gate"] += layer.cycles - cause["program"]
            continue
        phases["gate"] += cause["gate"]
        busy = sum(cause[name] for name in BUSY)
        if isinstance(operator, Layer) and operator.attention is not None:
            phases["attention"] += busy + cause["weight_decode"]
        else:
            phases["synapses"] += busy
            phases["weight decode"] += cause["weight_decode"]
        phases["neurons"] += cause["neuron_update"]
        phases["imbalance"] += cause["imbalance"]
    return phases


def roomy(config: CoreConfig) -> CoreConfig:
    """The same engines, with memories and accumulators for the dense network."""
    return replace(config, map_words=1 << 14, weight_words=1 << 16, program_words=1 << 14,
                   taps=128, planes=64, acc_bits=24, attention=True, gate=True)


def spikes_of(network: Network, values: np.ndarray,
              masks: np.ndarray | None = None) -> list[Spikes]:
    """What the reference makes of samples uint8 [B, ...], one by one."""
    run = reference.run(network, values, masks=masks)
    return [{n: s[:, i] for n, s in run.spikes.items()} for i in range(len(values))]


def rungs(network: Network, config: CoreConfig, values: np.ndarray,
          masks: np.ndarray | None = None,
          progress: Callable[[], object] = lambda: None) -> dict[str, Point]:
    """The ladder alone, for samples uint8 [B, ...]; masks: for a gate of mode "host"."""
    config = roomy(config)
    plain, dense = ungated(network), dense_weights(ungated(network))
    real, full = spikes_of(plain, values), [full_spikes(plain)]
    kinds = {"dense": (dense, full), "spike skip": (dense, real), "weight skip": (plain, full),
             "both": (plain, real)}
    if network.gates:
        kinds["+ patch gate"] = network, spikes_of(network, values, masks)
    result = {}
    for name, (net, samples) in kinds.items():
        result[name] = measure(net, config, samples)
        progress()
    return result


def climb(network: Network, config: CoreConfig, values: np.ndarray,
          masks: np.ndarray | None = None, name: str = "",
          progress: Callable[[], object] = lambda: None) -> Ladder:
    """The whole measurement for samples uint8 [B, ...]; masks: for a gate of mode "host"."""
    found = rungs(network, config, values, masks, progress)
    config = roomy(config)

    def step(*arguments, **options) -> Point:
        point = measure(*arguments, **options)
        progress()
        return point

    gated, sweeps, kept = spikes_of(network, values, masks), [], []
    if network.gates:
        kept = list(reference.run(network, values, masks=masks, maps=()).kept.values())
        sweeps.append(_patches(network, config, values, step))
    sweeps.append(Sweep("density", [
        step(thinned_weights(network, share), config, gated, x=share * (1 - network.sparsity))
        for share in FRACTIONS]))
    spec = network.input
    for title, samples in (("activity", [full_spikes(network)] * len(gated)),
                           ("spike rate", gated)):
        sweeps.append(Sweep(title, [
            step(network, config,
                 [thinned_spikes(s, share, spec.bits, spec.static) for s in samples],
                 x=share * _rate(network, samples)) for share in FRACTIONS]))
    return Ladder(name or network.name, config, len(values), found, sweeps, kept)


def steps(network: Network) -> int:
    """Measurements of `climb`."""
    return 4 + 3 * len(FRACTIONS) + (1 + len(FRACTIONS) if network.gates else 0)


def _patches(network: Network, config: CoreConfig, values: np.ndarray, step: Callable) -> Sweep:
    gate = next(iter(network.gates.values()))
    points, rng = [], np.random.default_rng(0)
    for share in FRACTIONS:
        keep = max(1, round(share * gate.tokens))
        net = with_keep(network, keep)
        masks = None
        if gate.mode == "host":
            masks = rng.random((len(values), gate.tokens)).argsort(1) < keep
        points.append(step(net, config, spikes_of(net, values, masks), x=keep,
                           after=_last_select(net)))
    return Sweep("kept patches", points, "layers behind the gate")


def _last_select(network: Network) -> str:
    return [layer.name for layer in network.layers if isinstance(layer, Select)][-1]


def _rate(network: Network, samples: Sequence[Spikes]) -> float:
    """Spikes per neuron and timestep over all maps but the input."""
    maps = [s[layer.name] for s in samples for layer in network.layers
            if isinstance(layer, Layer) and layer.neuron is not None]
    return sum(int(m.sum()) for m in maps) / sum(m.size for m in maps)
