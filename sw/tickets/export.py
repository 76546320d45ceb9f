"""From a ticket in floats to the integer network that the core runs, fine-tuned in integers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hw.config import CoreConfig

from .. import typical
from ..compile.bounds import signed
from ..data.datasets import Images
from ..imports import from_spikingjelly
from ..integer.floats import FloatLayer, FloatOperation
from ..integer.folding import ModuleLayer, ModuleOperation, fold
from ..integer.network import InputSpec, Layer, Network
from ..integer.quantize import convert
from ..integer.spikingjelly import evaluate
from ..integer.trainee import NetworkTrainee
from ..nets.parts import SpikingNet, width
from ..nets.spikeformer_layers import float_layers as spikeformer_layers
from ..nets.spikeformer_model import Spikeformer
from . import checkpoint, parallel
from .methods import Found
from .patches import PatchGate, kept_count, square, zero_pixels
from .scores import connections
from .trainer import Trainer

GATE_MODES = {("spikes", "tokens"): "count", ("input", "pixels"): "input"}
"""Modes of the core's gate by (ranking, place); all others get their tokens from the host."""


def to_integers(run: Trainer, found: Found, stage: str = "integer") -> NetworkTrainee:
    """The integer network of a ticket, its survivors and biases fine-tuned in its own arithmetic
    as `stage`.

    Layers whose survivors all have one magnitude become 1 bit wide; layers in `found.frozen` and
    identity shortcuts stay as they are. Event counts get as many input bits as the largest of the
    data needs. Layers that could overflow the core's accumulator get fewer bits (`narrowed`, noted
    in `run.notes`). Raises SpikeTicketError for what the integer network cannot express.
    """
    c = run.config
    model = found.model.cpu().eval()
    spec = input_spec([run.data, *([run.held] if run.held else [])])
    scale = input_scale(run.data)
    layers, modules = float_layers(found, c.bits, spec, scale)
    layers, bits = narrowed(layers, lambda layers: convert(layers, spec, c.timesteps,
                                                           input_scale=scale))
    if bits:
        run.notes[f"bits_{stage}".replace(" ", "_")] = bits
    trainee = NetworkTrainee(layers, spec, c.timesteps, input_scale=scale).to(run.device)
    still = {id(connections(model)[name]) for name in found.frozen}
    frozen = {layer.name: [id(c.conv) in still for c in layer.connections] for layer in modules
              if isinstance(layer, ModuleLayer)}
    for layer in trainee.layers:
        stays = frozen.get(layer.scaled.name, [False] * len(layer.weights))
        for syn, weight, fixed in zip(layer.scaled.synapses, layer.weights, stays, strict=True):
            weight.requires_grad_(not (fixed or _is_identity(syn.weight)))
            layer.bias.requires_grad_(layer.bias.requires_grad and not fixed)
    if c.epochs_integer and len(still) < len(connections(model)):
        share = c.distil if c.distil_integer is None else c.distil_integer
        run.train(stage, trainee, c.epochs_integer, lr=c.lr_integer, exact=True, distil=share,
                  unshifted=c.epochs_unshifted,
                  forward=lambda x: trainee(*host_side(found, x, c.timesteps)))
    return trainee.cpu()


def float_layers(found: Found, bits: int, spec: InputSpec,
                 scale: float) -> tuple[list[FloatOperation], list[ModuleOperation]]:
    """The layers of the ticket's network, gate included, and the modules that they are of (none of
    a network that is not ours)."""
    model = found.model.module
    if isinstance(model, SpikingNet):
        modules = model.float_layers(bits)
        return fold(modules, spec), modules
    if not isinstance(model, Spikeformer):
        shape = spec.channels, spec.height, spec.width
        return list(from_spikingjelly(model, shape, found.model.timesteps, bits=bits,
                                      input_bits=spec.bits, static=spec.static,
                                      input_scale=scale).layers), []
    if found.gate is not None:
        keep = kept_count(model.config.tokens, found.gate.patch_sparsity)
        model.set_gate(gate_mode(found.gate), keep)
    modules = spikeformer_layers(model, {n: width(m, bits) for n, m in model.layers().items()})
    return fold(modules, spec), modules


def narrowed(layers: list[FloatOperation], build: Callable[[list[FloatOperation]], Network]) -> \
        tuple[list[FloatOperation], dict[str, int]]:
    """The layers with as many bits per weight as the core's accumulator has room for.

    A current is a sum of weights times inputs, and the compiler refuses a network whose worst case
    overflows; 8-bit weights on 8-bit pixels do. build: layers -> the integer network. Returns the
    layers and the bits of those that were narrowed, by name; no weight gets fewer than 2.
    """
    found: dict[str, int] = {}
    while True:
        wide = {layer.name for layer in too_wide(build(layers))}
        wide &= {layer.name for layer in layers if isinstance(layer, FloatLayer)
                 and any(syn.bits > 2 for syn in layer.synapses)}
        if not wide:
            return layers, found
        for i, layer in enumerate(layers):
            if layer.name in wide:
                found[layer.name] = max(syn.bits for syn in layer.synapses) - 1
                layers = [*layers[:i], dataclasses.replace(layer, synapses=tuple(
                    dataclasses.replace(syn, bits=min(syn.bits, found[layer.name]))
                    for syn in layer.synapses)), *layers[i + 1:]]


def too_wide(network: Network) -> list[Layer]:
    """Layers whose worst-case current overflows the core's accumulator."""
    low, high = signed(CoreConfig.acc_bits)
    return [layer for layer in network.layers if isinstance(layer, Layer)
            and not all(low <= int(b.min()) and int(b.max()) <= high
                        for b in network.current_bounds(layer))]


def gate_mode(gate: PatchGate) -> str:
    """The mode of the core's gate."""
    return GATE_MODES.get((gate.ranking, gate.place), "host")


def input_scale(data: Images) -> float:
    """Float value of one integer input unit, as the networks' `prepare` makes it."""
    return 1 / 255 if data.images.ndim == 4 else 1.0


def input_spec(sets: Sequence[Images]) -> InputSpec:
    """The integer network's input for samples like those of `sets`."""
    shape = sets[0].images.shape
    static = len(shape) == 4
    top = 255 if static else max(1, *(int(np.max(s.images)) for s in sets))
    return InputSpec(*shape[-3:], bits=top.bit_length(), static=static)


def host_side(found: Found, x: Tensor, timesteps: int) -> tuple[Tensor, None, Tensor | None]:
    """What the host gives the integer network for integer samples x [B, ..., C, H, W]: the samples
    (first T frames, pixels of dropped patches at 0), and masks bool [B, N] for a gate that has none
    of its own; the arguments of `NetworkTrainee.forward`."""
    if x.dim() == 5:
        x = x[:, :timesteps]
    gate = found.gate
    if gate is None or gate_mode(gate) != "host":
        return x, None, None
    found.model.to(x.device)
    prepared = found.model.prepare(x)
    with torch.no_grad():
        spikes = found.model.module.embed(prepared)
        kept = gate.choose(prepared, spikes)
    if gate.place == "pixels":
        x = zero_pixels(x, kept, square(spikes.shape[3]))
    masks = torch.zeros(len(x), spikes.shape[3], dtype=torch.bool, device=x.device)
    return x, None, masks.scatter_(1, kept, True)


def measure(run: Trainer, found: Found, network: Network, test: Images) -> tuple[float, dict]:
    """Accuracy of the integer SpikingJelly network on test samples, and its activity.

    Event counts beyond the network's input are taken as its largest, and noted. Masks of kept
    tokens, bool [count, N], that the host has to send are kept in FOLDER/tokens.npy: what
    `sw.run_inference --masks` takes.
    """
    top = (1 << network.input.bits) - 1
    over = int((test.images > top).sum())
    if over:
        run.notes["test_counts_clipped"] = f"{over} event counts of the test samples above {top}"
    samples = torch.from_numpy(np.minimum(test.images, top))
    run.generator.manual_seed(0)
    x, _, masks = host_side(found, samples, network.timesteps)
    if masks is not None and parallel.RANK == 0:
        checkpoint.replace(run.folder / "tokens.npy",
                           lambda part: _save_array(part, masks.cpu().numpy()))
    return evaluate(network, x.numpy(), test.labels,
                    masks=None if masks is None else masks.numpy())


def typical_inputs(run: Trainer, found: Found, network: Network) -> dict[str, str]:
    """What a ticket says of them (`sw.typical`), from its first training samples."""
    top = (1 << network.input.bits) - 1
    samples = torch.from_numpy(np.minimum(run.data.images[:typical.SEEN], top))
    if len(samples) < typical.COUNT:
        return {}
    run.generator.manual_seed(0)
    x, _, masks = host_side(found, samples, network.timesteps)
    masks = None if masks is None else masks.cpu().numpy()
    return {typical.KEY: typical.pack(x.numpy()[typical.choose(network, x.numpy(), masks)])}


def _save_array(path: Path, array: np.ndarray) -> None:
    with open(path, "wb") as file:
        np.save(file, array, allow_pickle=False)


def _is_identity(weight: Tensor) -> bool:
    """A shortcut, scaled or not: it passes every channel on, alike."""
    w = weight.detach().flatten(1)
    return weight.shape[2:] == (1, 1) and 1 < w.shape[0] == w.shape[1] and bool(
        w[0, 0] != 0 and (w == w[0, 0] * torch.eye(len(w), dtype=w.dtype)).all())

