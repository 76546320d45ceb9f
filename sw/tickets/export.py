"""From a ticket in floats to the integer network that the core runs, fine-tuned in integers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hw.config import CoreConfig

from .. import typical
from ..compile.bounds import signed
from ..data import depth
from ..data.datasets import Images
from ..imports import from_spikingjelly
from ..imports.inputs import copied
from ..integer.floats import FloatLayer, FloatOperation, FloatSynapses
from ..integer.network import InputSpec, Layer, Network
from ..integer.quantize import convert
from ..integer.spikingjelly import evaluate
from ..integer.trainee import NetworkTrainee
from ..nets.token_gate import TokenGate
from . import checkpoint, parallel
from .found import Found
from .patches import PatchGate, zero_pixels
from .trainer import Trainer

CHECKED = 16
"""Training samples on which the import is compared with the module itself."""

LEAST = 4
"""Input bits of pictures that a search tries first: their planes fill one mask of the core."""

AGREES = 0.005
"""Accuracy that fewer input bits may cost on the validation samples before training with them."""

SAME = 1e-6
"""Relative difference of float32 numbers that are one."""

GATE_MODES = {("spikes", "tokens"): "count", ("input", "pixels"): "input"}
"""Modes of the core's gate by (ranking, place); all others get their tokens from the host."""


def to_integers(run: Trainer, found: Found, stage: str = "integer") -> NetworkTrainee:
    """The integer network of a ticket, its survivors and biases fine-tuned in its own arithmetic
    as `stage`.

    The module is imported (`sw.imports`), behind its gate; what the import notes is in `run.notes`.
    Layers whose survivors all have one magnitude become 1 bit wide; what `found.frozen` names and
    identity shortcuts stay as they are. Event counts get as many input bits as the largest of the
    data needs. Layers that could overflow the core's accumulator get fewer bits (`narrowed`, noted,
    too). Raises SpikeTicketError for what the integer network cannot express.
    """
    c = run.config
    spec = input_spec(run, found)
    layers, _, notes, bits = imported(run, found, spec)
    key = stage.replace(" ", "_")
    if notes:
        run.notes[f"notes_{key}"] = list(notes)
    if bits:
        run.notes[f"bits_{key}"] = bits
    scale = depth.scale(spec.bits) if spec.static else 1.0
    trainee = NetworkTrainee(layers, spec, c.timesteps, input_scale=scale).to(run.device)
    for layer in trainee.layers:
        fixed = found.frozen is not None and f"{layer.scaled.name}.".startswith(found.frozen)
        for syn, weight in zip(layer.scaled.synapses, layer.weights, strict=True):
            weight.requires_grad_(not (fixed or is_identity(syn.weight)))
            layer.bias.requires_grad_(layer.bias.requires_grad and not fixed)
    if c.epochs_integer and found.frozen != "":
        share = c.distil if c.distil_integer is None else c.distil_integer
        run.train(stage, trainee, c.epochs_integer, lr=c.lr_integer, exact=True, distil=share,
                  unshifted=c.epochs_unshifted, forward=logits_of(trainee, found))
    return trainee.cpu()


def imported(run: Trainer, found: Found, spec: InputSpec) -> tuple[
        list[FloatOperation], Network, tuple[str, ...], dict[str, int]]:
    """A ticket's module, behind its gate, as float layers no wider than the accumulator has room
    for, and as integers; what the import notes, and the bits of layers that were narrowed."""
    c = run.config
    scale = depth.scale(spec.bits) if spec.static else 1.0
    samples = depth.taken(run.data.images[:CHECKED], spec)
    found.model.cpu().eval()
    read = from_spikingjelly(
        behind_gate(found, scale), (spec.channels, spec.height, spec.width), c.timesteps,
        bits=c.bits, input_bits=spec.bits, static=spec.static, input_scale=scale,
        samples=samples if spec.static else samples[:, :c.timesteps])

    def integers(layers: list[FloatOperation]) -> Network:
        return convert(layers, spec, c.timesteps, input_scale=scale)
    layers, bits = narrowed([_one_bit(layer) for layer in read.layers], integers)
    return layers, integers(layers), read.notes, bits


def logits_of(trainee: NetworkTrainee, found: Found) -> Callable[[Tensor], Tensor]:
    """Integer samples -> the integer network's logits, on the scale of the ticket's in floats,
    which are a mean where the module gives an output for every timestep."""
    net = found.model
    share = 1.0 if net.time is None else 1 / net.timesteps
    return lambda x: trainee(*host_side(found, x, net.timesteps, trainee.spec)) * share


def _zeroed(gate: TokenGate, form: str, module: nn.Module, inputs: tuple) -> Tensor:
    """Pre-hook of a network that is given samples in this form: the patches that a gate of mode
    "input" drops are 0."""
    x, = inputs
    if form == "batch":
        return gate.zero(x.transpose(0, 1)).transpose(0, 1)
    return gate.zero(x) if form == "time" else gate.zero(x[None])[0]


def behind_gate(found: Found, scale: float) -> nn.Module:
    """The ticket's module, as it is or, with a patch gate, a copy that has it."""
    gate, net = found.gate, found.model
    if gate is None:
        return net.module
    module, mode = copied(net.module), gate_mode(gate)
    module.token_gate = TokenGate(mode, gate.keep, gate.stem.grid, gate.stem.axes, scale)
    if mode == "host":      # any tokens will do where it is read
        module.token_gate.host = torch.arange(gate.keep)[None]
    module.get_submodule(gate.stem.path).register_forward_hook(module.token_gate.behind)
    if mode == "input":     # copied with the network, as a function of its own would not be
        module.register_forward_pre_hook(functools.partial(_zeroed, module.token_gate,
                                                           net.feed.form))
    return module


def _one_bit(layer: FloatOperation) -> FloatOperation:
    """The layer with 1 bit for synapses whose survivors have one magnitude (of each channel; of the
    readout: one), so that nothing is lost: binary tickets."""
    if not isinstance(layer, FloatLayer):
        return layer

    def bits(syn: FloatSynapses) -> int:
        rows = syn.weight.abs().flatten(1)
        rows = rows if layer.neuron is not None else rows.reshape(1, -1)
        alive = rows > 0
        low = torch.where(alive, rows, torch.inf).amin(1)
        same = (rows.amax(1) <= low * (1 + SAME)).all()
        return 1 if bool(same) and int(alive.sum(1).max()) > 1 else syn.bits
    return replace(layer, synapses=tuple(
        replace(syn, bits=bits(syn)) for syn in layer.synapses))


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
                layers = [*layers[:i], replace(layer, synapses=tuple(
                    replace(syn, bits=min(syn.bits, found[layer.name]))
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


def input_spec(run: Trainer, found: Found) -> InputSpec:
    """The integer network's input. All integer networks of a search have that of its ticket."""
    shape, static = run.data.images.shape, run.data.static
    if "input_bits" not in run.notes:
        run.notes["input_bits"] = run.config.input_bits or (
            _picture_bits(run, found) if static else _count_bits(run))
    return InputSpec(*shape[-3:], bits=run.notes["input_bits"], static=static)


def planned_spec(run: Trainer) -> InputSpec:
    """The input that an integer network of the search will have, before its ticket is known: with
    LEAST bits for pictures where `input_bits` says nothing else."""
    shape, static = run.data.images.shape, run.data.static
    bits = run.config.input_bits or (LEAST if static else _count_bits(run))
    return InputSpec(*shape[-3:], bits=bits, static=static)


def _count_bits(run: Trainer) -> int:
    """As many as the largest event count needs."""
    sets = [run.data, *([run.held] if run.held else [])]
    return max(1, *(int(np.max(s.images)) for s in sets)).bit_length()


def _picture_bits(run: Trainer, found: Found) -> int:
    """The fewest from LEAST on with which the ticket in floats, which was trained on whole pixels,
    is right on as many validation samples as with all 8, but for one standard error or AGREES; 8
    where there are no validation samples. The integer stage then trains on what is left."""
    if run.held is None:
        return depth.FULL
    model, right = found.model.to(run.device), {}
    for bits in (depth.FULL, *range(LEAST, depth.FULL)):
        rounded = depth.upper_bits(run.held.images, bits) << depth.FULL - bits
        right[bits] = run.measure(model, replace(run.held, images=rounded), found.forward)[0]
        best = right[depth.FULL]
        error = (best * (1 - best) / len(run.held)) ** 0.5
        if bits < depth.FULL and right[bits] >= best - max(AGREES, error):
            break
    else:
        bits = depth.FULL
    run.notes["validation_by_input_bits"] = {str(n): round(part, 5) for n, part in right.items()}
    return bits


def host_side(found: Found, x: Tensor, timesteps: int,
              spec: InputSpec) -> tuple[Tensor, None, Tensor | None]:
    """What the host gives the integer network for samples x [B, ..., C, H, W] of the data: the
    samples at its input's bits (first T frames, pixels of dropped patches at 0), and masks bool
    [B, N] for a gate that has none of its own, chosen on the samples as they were; the arguments of
    `NetworkTrainee.forward`."""
    if x.dim() == 5:
        x = x[:, :timesteps]
    gate = found.gate
    if gate is None or gate_mode(gate) != "host":
        return depth.taken(x, spec), None, None
    found.model.to(x.device)
    prepared = found.model.prepare(x)
    with torch.no_grad():
        spikes = gate.stem.embed(found.model, prepared) if gate.ranking == "spikes" else None
        kept = gate.choose(prepared, spikes)
    if gate.place == "pixels":
        x = zero_pixels(x, kept, gate.stem.grid)
    masks = torch.zeros(len(x), gate.stem.tokens, dtype=torch.bool, device=x.device)
    return depth.taken(x, spec), None, masks.scatter_(1, kept, True)


def measure(run: Trainer, found: Found, network: Network, test: Images) -> tuple[float, dict]:
    """Accuracy of the integer SpikingJelly network on test samples, and its activity.

    Event counts beyond the network's input are taken as its largest, and noted. Masks of kept
    tokens, bool [count, N], that the host has to send are kept in FOLDER/tokens.npy: what
    `sw.run_inference --masks` takes.
    """
    top = (1 << network.input.bits) - 1
    over = 0 if test.static else int((test.images > top).sum())
    if over:
        run.notes["test_counts_clipped"] = f"{over} event counts of the test samples above {top}"
    run.generator.manual_seed(0)
    x, _, masks = host_side(found, torch.from_numpy(test.images.copy()), network.timesteps,
                            network.input)
    if masks is not None and parallel.RANK == 0:
        checkpoint.replace(run.folder / "tokens.npy",
                           lambda part: _save_array(part, masks.cpu().numpy()))
    return evaluate(network, x.numpy(), test.labels,
                    masks=None if masks is None else masks.numpy())


def typical_inputs(run: Trainer, found: Found, network: Network) -> dict[str, str]:
    """What a ticket says of them (`sw.typical`), from its first training samples."""
    samples = torch.from_numpy(run.data.images[:typical.SEEN].copy())
    if len(samples) < typical.COUNT:
        return {}
    run.generator.manual_seed(0)
    x, _, masks = host_side(found, samples, network.timesteps, network.input)
    masks = None if masks is None else masks.cpu().numpy()
    return {typical.KEY: typical.pack(x.numpy()[typical.choose(network, x.numpy(), masks)])}


def _save_array(path: Path, array: np.ndarray) -> None:
    with open(path, "wb") as file:
        np.save(file, array, allow_pickle=False)


def is_identity(weight: Tensor) -> bool:
    """A shortcut, scaled or not: it passes every channel on, alike."""
    w = weight.detach().flatten(1)
    return weight.shape[2:] == (1, 1) and 1 < w.shape[0] == w.shape[1] and bool(
        w[0, 0] != 0 and (w == w[0, 0] * torch.eye(len(w), dtype=w.dtype)).all())

