"""What sparse weights, sparse spikes and gated patches save, in cycles on the same core.

    python -m sw.ladder                                      # bundled CNN ticket
    python -m sw.ladder --ticket fmnist-spikeformer --plot ladder.svg --patches patches.png
    python -m sw.ladder --ticket my.safetensors --data n-mnist:size=32 --images 8 --json

The ladder: dense (every weight stored, every neuron active, every patch kept) -> spike skip ->
weight skip -> both -> + patch gate. Then kept patches, density and activity are swept, each alone,
with the slope of log(cycles) over log(x): 1 means that half of it takes half the cycles. Activity:
from every neuron active downwards, and spike rate: from the samples' own downwards.
Cycles are those of the exact cycle model for the ticket's spikes on real samples; the core's
memories are made large enough for the dense network.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from tqdm import tqdm

from hw.boards import BOARDS, DEFAULT_BOARD
from hw.config import PRESETS, CoreConfig

from . import bundled, ticket
from .compile.compiler import compile_network
from .core import cores, cycles
from .core.cycles import Cycles
from .data import datasets
from .errors import SpikeTicketError, command
from .integer import reference
from .integer.gate import Gate, Select
from .integer.network import INPUT, Layer, Network
from .plots.run import check_format

PHASES = ("synapses", "attention", "weight decode", "neurons", "imbalance", "gate", "program")
"""synapses: updates, event scan, stalls. attention: the same in attention layers, and reading k
and v. weight decode: no weight yet. neurons: drain and neuron lanes. imbalance: the engine was
done, others were not. gate: clearing scores and choosing. program: loading layers."""

SCALING = ("synapses", "attention")
"""Phases that are to follow density, spike rate and kept patches."""

FRACTIONS = (1.0, 0.5, 0.25, 0.125)
DEFAULT_IMAGES = 4
BUSY = ("synapses", "event_scan", "queue_stall", "port_stall")

Spikes = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Point:
    """Mean over the samples. x: what was varied; cycles: by PHASES, and of a whole inference."""

    x: float
    total: float
    phases: dict[str, float]

    @property
    def scaling(self) -> float:
        """Cycles of the phases that are to scale."""
        return sum(self.phases[name] for name in SCALING)


@dataclass(frozen=True)
class Sweep:
    """One quantity varied alone. name: of it. layers: whose cycles are counted."""

    name: str
    points: list[Point]
    layers: str = "all layers"

    @property
    def slope(self) -> float:
        """Of log(cycles of the scaling phases) over log(x)."""
        x, y = zip(*((p.x, p.scaling) for p in self.points), strict=True)
        return float(np.polyfit(np.log(x), np.log(y), 1)[0])

    @property
    def halvings(self) -> list[float]:
        """By what factor the scaling phases shrink per halving of x, from point to point."""
        ordered = sorted(self.points, key=lambda p: -p.x)
        return [float((a.scaling / b.scaling) ** (np.log(2) / np.log(a.x / b.x)))
                for a, b in itertools.pairwise(ordered)]


@dataclass
class Ladder:
    """Result: rungs by name, sweeps, and what was measured."""

    ticket: str
    config: CoreConfig
    images: int
    rungs: dict[str, Point]
    sweeps: list[Sweep]
    kept: list[np.ndarray] = field(default_factory=list)

    def as_dict(self) -> dict:
        """JSON-serialisable."""
        first = self.rungs["dense"].total
        return {
            "ticket": self.ticket, "images": self.images, "core": self.config.as_dict(),
            "ladder": {name: {"cycles": p.total, "times_fewer": first / p.total, **p.phases}
                       for name, p in self.rungs.items()},
            "sweeps": {s.name: {
                "layers": s.layers, "slope": s.slope, "halving": s.halvings,
                "points": [{"x": p.x, "cycles": p.total, "scaling": p.scaling, **p.phases}
                           for p in s.points]} for s in self.sweeps}}


# The network without one kind of sparsity


def dense_weights(network: Network) -> Network:
    """The same network with every removed weight put back (as 1)."""
    return _with_weights(network, lambda w: np.where(w == 0, np.int8(1), w))


def thinned_weights(network: Network, share: float, seed: int = 0) -> Network:
    """With a random `share` of the surviving weights in every layer."""
    rng = np.random.default_rng(seed)
    return _with_weights(network, lambda w: w * (rng.random(w.shape) < share).astype(np.int8))


def _with_weights(network: Network, change: Callable[[np.ndarray], np.ndarray]) -> Network:
    layers = tuple(
        replace(layer, synapses=tuple(replace(syn, weight=change(syn.weight))
                                      for syn in layer.synapses))
        if isinstance(layer, Layer) else layer for layer in network.layers)
    return replace(network, layers=layers)


def ungated(network: Network) -> Network:
    """The network without its gates: selections give way to their sources."""
    whole = {layer.name: layer.source for layer in network.layers if isinstance(layer, Select)}

    def rename(layer: Layer) -> Layer:
        synapses = tuple(replace(s, sources=tuple(whole.get(n, n) for n in s.sources))
                         for s in layer.synapses)
        return replace(layer, synapses=synapses)
    return replace(network, layers=tuple(
        rename(layer) for layer in network.layers if isinstance(layer, Layer)))


def with_keep(network: Network, keep: int) -> Network:
    """The network with `keep` tokens kept by its gate; a static mask keeps its first ones, then
    others in order."""
    def change(gate: Gate) -> Gate:
        if gate.mask is None:
            return replace(gate, keep=keep)
        order = np.argsort(~gate.mask, kind="stable")
        mask = np.zeros_like(gate.mask)
        mask[order[:keep]] = True
        return replace(gate, keep=keep, mask=mask)
    return replace(network, layers=tuple(
        change(layer) if isinstance(layer, Gate) else layer for layer in network.layers))


# The spikes


def full_spikes(network: Network) -> dict[str, np.ndarray]:
    """Every neuron and every input bit active at every timestep."""
    spikes = {name: np.ones((network.timesteps, s.channels, s.height, s.width), np.uint8)
              for name, s in network.shapes().items()}
    spikes[INPUT] *= (1 << network.input.bits) - 1
    return spikes


def thinned_spikes(spikes: Spikes, share: float, bits: int, static: bool,
                   seed: int = 0) -> dict[str, np.ndarray]:
    """A random `share` of all active (channel, position, group of timesteps), in every map."""
    rng = np.random.default_rng(seed)
    result = {}
    for name, values in spikes.items():
        timesteps = len(values)
        groups = 1 if name == INPUT and static else -(-timesteps // 4)
        planes = bits if name == INPUT else 1
        mask = np.zeros((groups, *values.shape[1:]), np.uint8)
        for plane in range(planes):
            mask |= (rng.random(mask.shape) < share).astype(np.uint8) << plane
        repeats = timesteps if groups == 1 and name == INPUT and static else 4
        result[name] = values & np.repeat(mask, repeats, axis=0)[:timesteps]
    return result


# Measuring


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
    todo = {"dense": (dense, full), "spike skip": (dense, real), "weight skip": (plain, full),
            "both": (plain, real)}
    if network.gates:
        todo["+ patch gate"] = network, spikes_of(network, values, masks)
    result = {}
    for name, (net, samples) in todo.items():
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


# The command


def show(ladder: Ladder) -> None:
    """Print tables of the ladder and the sweeps."""
    width = max(map(len, ladder.rungs))
    first = ladder.rungs["dense"].total
    core = f"{ladder.config.engines} engines x {ladder.config.units} units"
    print(f"{ladder.ticket}: {core}, mean of {ladder.images} samples")
    print(f"\n{'cycles':>{width + 10}} {'fewer':>7}  " + " ".join(f"{p:>13}" for p in PHASES))
    for name, point in ladder.rungs.items():
        print(f"{name:{width}} {point.total:9,.0f} {first / point.total:6.1f}x  "
              + " ".join(f"{point.phases[p]:13,.0f}" for p in PHASES))
    for sweep in ladder.sweeps:
        print(f"\n{sweep.name} ({sweep.layers}): slope {sweep.slope:.2f} of "
              f"{' + '.join(SCALING)}; halving it saves "
              + ", ".join(f"{h:.2f}x" for h in sweep.halvings))
        for p in sorted(sweep.points, key=lambda p: -p.x):
            print(f"{p.x:{width}.4g} {p.total:9,.0f} {p.scaling:9,.0f}  "
                  + " ".join(f"{p.phases[name]:13,.0f}" for name in PHASES))


@command
def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m sw.ladder", description=__doc__.split("\n")[0],
        formatter_class=argparse.RawDescriptionHelpFormatter, epilog=__doc__.split("\n", 1)[1])
    parser.add_argument("--ticket", default=bundled.DEFAULT, metavar="NAME",
                        help="a bundled ticket or a file (default: %(default)s)")
    parser.add_argument("--data", help="samples (default: bundled ones that suit the ticket)")
    parser.add_argument("--images", type=int, default=DEFAULT_IMAGES,
                        help="samples, the first ones (default: %(default)s)")
    parser.add_argument("--board", choices=sorted(BOARDS), default=DEFAULT_BOARD,
                        help="whose core (default: %(default)s)")
    parser.add_argument("--preset", choices=sorted(PRESETS), help="another core")
    parser.add_argument("--plot", metavar="FILE", help="ladder and sweeps: .svg, .png or .pdf")
    parser.add_argument("--patches", metavar="FILE",
                        help="samples with the patches that were kept: .svg, .png or .pdf")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    for path in (options.plot, options.patches):
        if path:
            check_format(path)
    found = ticket.load(bundled.find(options.ticket))
    if options.patches and not found.network.gates:
        raise SpikeTicketError(f"--patches {options.patches}: ticket {options.ticket!r} has no "
                               "patch gate")
    data = options.data or bundled.data_for(found)
    samples = datasets.for_network(found.network, data, limit=max(1, options.images))
    samples = samples.first(options.images)
    _, config = cores.choose(BOARDS[options.board], found.network, options.preset)
    masks = None
    if any(gate.mode == "host" for gate in found.network.gates.values()):
        gate = next(iter(found.network.gates.values()))
        order = np.random.default_rng(0).random((len(samples), gate.tokens)).argsort(1)
        masks = order < gate.keep
    with tqdm(total=steps(found.network), desc="networks on the cycle model", unit="network",
              disable=options.json) as bar:
        ladder = climb(found.network, config, samples.images, masks, options.ticket, bar.update)
    from .plots import ladder as ladder_plots
    if options.plot:
        ladder_plots.plot_ladder(options.plot, ladder)
    if options.patches:
        gate = next(iter(found.network.gates.values()))
        ladder_plots.plot_patches(options.patches, samples, gate, ladder.kept[0])
    if options.json:
        print(json.dumps(ladder.as_dict(), indent=1))
    else:
        show(ladder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
