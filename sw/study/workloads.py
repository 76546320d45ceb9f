"""Networks and spikes that the dataflows are compared on.

A workload is an integer network and the spikes of every map for one or more images, as
`sw.integer.reference.Run.spikes` has them. Where no trained network is at hand the weights are
random at the stated density, and the spikes random at the stated activity (fraction of (channel,
position) with a spike in T = 4). Channels differ in their rates: a beta distribution with the
stated mean, as trained networks have silent and busy channels alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .. import ticket
from ..data import depth
from ..data.array_sets import load_npz
from ..errors import SpikeTicketError
from ..integer import reference
from ..integer.network import INPUT, InputSpec, Layer, Network, Neuron, Pool, Synapses

TIMESTEPS = 4
BUNDLED = Path(__file__).parents[2] / "bundled"
CHANNEL_SPREAD = 2.0
"""Second parameter of the beta distribution of the channels' rates (larger: more alike)."""


@dataclass(frozen=True, eq=False)
class Workload:
    """key: short name. spikes: map name -> uint8 [T, B, C, H, W] (the input: its values)."""

    key: str
    title: str
    network: Network
    spikes: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def images(self) -> int:
        return self.spikes[INPUT].shape[1]

    @property
    def useful(self) -> int:
        """Useful updates: surviving weight x active neuron, over all layers and images."""
        return sum(work.useful for work in reference.sop(self.network, self.spikes).values())

    @property
    def activity(self) -> float:
        """Active fraction of all maps but the input, by size."""
        masks = [spikes.any(0) for name, spikes in self.spikes.items() if name != INPUT]
        return float(sum(m.sum() for m in masks) / max(1, sum(m.size for m in masks)))


def random_weights(rng: np.random.Generator, shape: tuple[int, ...], density: float,
                   bits: int) -> np.ndarray:
    """Random int8 weights of this density; 1 bit: signs, else all but zero."""
    top = 1 if bits == 1 else (1 << bits - 1) - 1
    magnitude = rng.integers(1, top + 1, shape)
    weight = magnitude * rng.choice((-1, 1), shape) * (rng.random(shape) < density)
    return weight.astype(np.int8)


def layer(name: str, weight: np.ndarray, sources: str | tuple[str, ...], *, pool: int = 0,
          neuron: bool = True, bits: int = 4) -> Layer:
    """A layer with a "same" convolution (kernel 3) or none (kernel 1, or all of the map)."""
    sources = (sources,) if isinstance(sources, str) else sources
    padding = 1 if weight.shape[2] == 3 else 0
    channels = weight.shape[0]
    return Layer(name, (Synapses(weight, sources, padding=padding, bits=bits),),
                 np.zeros(channels, np.int64), np.ones(channels, np.int64),
                 Neuron() if neuron else None, Pool("or", pool) if pool else None)


def random_spikes(network: Network, activity: float | Mapping[str, float], seed: int,
                  inputs: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Spikes of every map; activity: of all layers, or by name of the map."""
    rng = np.random.default_rng(seed)
    spikes = {}
    for name, shape in network.shapes().items():
        if name == INPUT and inputs is not None:
            spikes[name] = inputs
            continue
        mean = activity if isinstance(activity, float) else activity[name]
        size = (1, 1, shape.channels, shape.height, shape.width)
        rates = np.full(shape.channels, mean)
        if 0 < mean < 1 and shape.channels > 4:
            rates = rng.beta(CHANNEL_SPREAD * mean / (1 - mean), CHANNEL_SPREAD, shape.channels)
            rates = np.minimum(1, rates * mean / rates.mean())
        active = rng.random(size) < rates[:, None, None]
        spikes[name] = np.repeat(active, TIMESTEPS, axis=0).astype(np.uint8)
    return spikes


def trained(path: Path | None = None, first: int = 0, count: int = 4) -> Workload:
    """(a) A trained ticket on test images first .. first + count - 1."""
    path = path or BUNDLED / "fmnist-scnn.safetensors"
    network = ticket.load(path).network
    data = load_npz(BUNDLED / "fashion-mnist-test500.npz")
    if not 0 <= first <= first + count <= len(data):
        raise SpikeTicketError(f"images {first}..{first + count - 1} asked for, there are "
                               f"{len(data)}; choose a smaller --image")
    shape = (count, network.input.channels, network.input.height, network.input.width)
    images = depth.taken(data.images[first:first + count].reshape(shape), network.input)
    run = reference.run(network, images)
    return Workload("ticket", f"{path.name}, test images {first} to {first + count - 1}", network,
                    run.spikes)


def vgg9(activity: float = 0.25, density: float = 0.5, seed: int = 1) -> Workload:
    """(b) VGG-9 for 32 x 32 RGB, 2,261,184 weights, 1 bit."""
    rng = np.random.default_rng(seed)
    plan = [(64, 3, 0), (64, 64, 2), (128, 64, 0), (128, 128, 2), (256, 128, 0), (256, 256, 2)]
    layers, source = [], INPUT
    for n, (c_out, c_in, pool) in enumerate(plan):
        weight = random_weights(rng, (c_out, c_in, 3, 3), density, 1)
        layers.append(layer(f"conv{n + 1}", weight, source, pool=pool, bits=1))
        source = f"conv{n + 1}"
    for name, c_out, c_in, k in (("fc1", 256, 256, 4), ("fc2", 256, 256, 1), ("fc3", 10, 256, 1)):
        weight = random_weights(rng, (c_out, c_in, k, k), density, 1)
        layers.append(layer(name, weight, source, neuron=name != "fc3", bits=1))
        source = name
    network = Network(InputSpec(3, 32, 32), TIMESTEPS, tuple(layers), "vgg9")
    return Workload("vgg9", f"VGG-9 shape, {density:.0%} dense, activity {activity:g}", network,
                    random_spikes(network, activity, seed, _photo(rng, 3, 32, 32)))


def spikformer(sparsity: float, activity: float = 0.3, blocks: int = 1, seed: int = 2) -> Workload:
    """(c) Layers of Spikformer 4-384 (CIFAR): patch embedding and the linear layers of blocks.

    1-bit weights, all layers equally sparse. Attention itself (q k v) is not a weighted layer;
    its output stands in as a map of the same size and activity. Every block has the same layers.
    """
    rng, density = np.random.default_rng(seed), 1 - sparsity
    layers = []

    def add(name, c_out, c_in, k, sources, **options):
        weight = random_weights(rng, (c_out, c_in, k, k), density, 1)
        layers.append(layer(name, weight, sources, bits=1, **options))

    add("sps1", 48, 3, 3, INPUT)
    add("sps2", 96, 48, 3, "sps1")
    add("sps3", 192, 96, 3, "sps2", pool=2)
    add("sps4", 384, 192, 3, "sps3", pool=2)
    add("rpe", 384, 384, 3, "sps4")
    residual: tuple[str, ...] = ("sps4", "rpe")
    for b in range(blocks):
        for name in "qkv":
            add(f"{name}{b}", 384, 384, 1, residual)
        add(f"proj{b}", 384, 384, 1, f"v{b}")
        residual = (*residual, f"proj{b}")
        add(f"mlp{b}a", 1536, 384, 1, residual)
        add(f"mlp{b}b", 384, 1536, 1, f"mlp{b}a")
        residual = (*residual, f"mlp{b}b")
    add("head", 10, 384, 1, residual, neuron=False)
    network = Network(InputSpec(3, 32, 32), TIMESTEPS, tuple(layers), f"spikformer-{sparsity:g}")
    return Workload(f"spikformer-{100 * sparsity:g}",
                    f"Spikformer 4-384 layers, {sparsity:.1%} sparse, activity {activity:g}",
                    network, random_spikes(network, activity, seed, _photo(rng, 3, 32, 32)))


def _photo(rng: np.random.Generator, channels: int, height: int, width: int) -> np.ndarray:
    """A static 8-bit input, uint8 [T, 1, C, H, W]: a smooth field with noise."""
    coarse = rng.integers(20, 236, (1, channels, height // 4 + 1, width // 4 + 1))
    field_ = coarse.repeat(4, 2).repeat(4, 3)[:, :, :height, :width]
    image = np.clip(field_ + rng.integers(-16, 17, field_.shape), 0, 255).astype(np.uint8)
    return np.repeat(image[None], TIMESTEPS, axis=0)


NMNIST_PLANES = (0.250, 0.178, 0.178)
"""Fraction of active (polarity, y, x) of the three bit planes of N-MNIST event counts, T = 4 bins
of a recording: measured by `spiketicket bench study --nmnist nmnist_test100.npz --only nmnist`."""


def nmnist(path: Path | None = None, activity: float = 0.1, density: float = 0.05,
           seed: int = 3, index: int = 0) -> Workload:
    """(d) Events of a 34 x 34 x 2 sensor, counted in T = 4 bins (at most 7), into a small net.

    path: an .npz of recordings (x, y, p, dt, off); None: counts whose bit planes have the
    measured activity, clustered around a blob as a moving digit's are.
    """
    rng = np.random.default_rng(seed)
    shapes = (("conv1", 32, 2, 3, 2), ("conv2", 64, 32, 3, 2), ("conv3", 128, 64, 3, 0))
    layers, source = [], INPUT
    for name, c_out, c_in, k, pool in shapes:
        weight = random_weights(rng, (c_out, c_in, k, k), max(density, 1 / c_in), 4)
        layers.append(layer(name, weight, source, pool=pool))
        source = name
    layers.append(layer("readout", random_weights(rng, (10, 128, 1, 1), 0.5, 4), source,
                        neuron=False))
    network = Network(InputSpec(2, 34, 34, 3, static=False), TIMESTEPS, tuple(layers), "nmnist")
    counts = _synthetic_events(rng) if path is None else _recorded_events(path, index)
    where = "synthetic events" if path is None else f"{path.name}, recording {index}"
    return Workload("nmnist", f"N-MNIST input ({where}), activity {activity:g}", network,
                    random_spikes(network, activity, seed, counts))


def _recorded_events(path: Path, index: int) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as data:
            x, y, p, dt, off = (data[key] for key in ("x", "y", "p", "dt", "off"))
    except (OSError, ValueError, KeyError) as error:
        raise SpikeTicketError(f"{path}: not an .npz of event recordings ({error}); it needs "
                               "x, y, p, dt and off") from error
    if not 0 <= index < len(off) - 1:
        raise SpikeTicketError(f"{path}: no recording {index}, it has {len(off) - 1}")
    part = slice(int(off[index]), int(off[index + 1]))
    time = np.cumsum(dt[part].astype(np.int64))
    bins = np.minimum(time * TIMESTEPS // (time[-1] + 1), TIMESTEPS - 1)
    counts = np.zeros((TIMESTEPS, 1, 2, 34, 34), np.int64)
    np.add.at(counts, (bins, 0, p[part].astype(int), y[part].astype(int), x[part].astype(int)), 1)
    return np.minimum(counts, 7).astype(np.uint8)


def _synthetic_events(rng: np.random.Generator) -> np.ndarray:
    """Counts whose bit planes are active in NMNIST_PLANES of the sensor, nearest to its middle."""
    y, x = np.mgrid[:34, :34]
    distance = np.hypot(y - 16.5, x - 16.5) + rng.normal(0, 4, (2, 34, 34))
    order = distance.reshape(2, -1).argsort(axis=1).argsort(axis=1).reshape(2, 34, 34)
    counts = np.zeros((TIMESTEPS, 1, 2, 34, 34), np.uint8)
    for bit, fraction in enumerate(NMNIST_PLANES):
        chosen = (order < 1.4 * fraction * 34 * 34) & (rng.random((2, 34, 34)) < 1 / 1.4)
        counts += (chosen[None, None] * (rng.random(counts.shape) < 0.5) << bit).astype(np.uint8)
    return counts


def event_statistics(path: Path) -> dict[str, object]:
    """Mean events, largest count and activity of the bit planes over all recordings of a file."""
    with np.load(path, allow_pickle=False) as data:
        off = data["off"]
    planes = []
    for index in range(len(off) - 1):
        counts = _recorded_events(path, index)
        planes.append([(counts >> bit & 1).any(0).mean() for bit in range(3)])
    return {"recordings": len(off) - 1, "events": float(np.diff(off.astype(np.int64)).mean()),
            "planes": [round(float(value), 3) for value in np.mean(planes, axis=0)]}
