"""A ticket brought to other input bits, and fine-tuned there in its own arithmetic.

The integers of its file are its only source: no search needs to be run again. Layers that read
pixels see numbers 2^n times smaller, so their biases and thresholds are divided by that, and
rounded to where their neurons spike most like before; all else stays, until training moves
survivors and biases (`spiketicket find tune`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F

from .. import ticket, typical
from ..data import depth
from ..errors import BadInput
from ..integer import reference
from ..integer.floats import (
    FloatAttention,
    FloatLayer,
    FloatNeuron,
    FloatOperation,
    FloatSynapses,
)
from ..integer.network import INPUT, Layer, Network
from ..integer.spikingjelly import IntegerNetwork, evaluate
from ..integer.trainee import NetworkTrainee
from . import checkpoint
from .config import RunConfig
from .export import is_identity
from .run import load_data, split
from .trainer import Trainer

STAGE = "tuned"
SEEN = 256
"""Training samples that the size of the logits is chosen on."""

MATCHED = 64
"""Training samples that biases and thresholds are matched on."""

STALE = ("accuracy_ticket_integer", "entropy_bits_per_weight", "weights_surviving")
"""What metadata of tickets found by the program before this one say of their integers."""

NEAR = 6
"""Units that a bias or a threshold may move from the nearest to what it was."""


def at_bits(network: Network, bits: int, pictures: np.ndarray | None = None) -> Network:
    """The network for pictures of so many input bits; raises BadInput for event counts.

    pictures: uint8 of 8 bits, on which biases and thresholds are matched (`_matched`); None: they
    are the nearest.
    """
    if not network.input.static or network.input.bits != depth.FULL:
        raise BadInput(f"ticket {network.name!r} takes "
                       + (f"pictures of {network.input.bits} bits already" if network.input.static
                          else "event counts") + "; tickets for pictures of 8 bits are tuned")
    factor = 2.0 ** (network.input.bits - bits)
    layers = []
    for layer in network.layers:
        if isinstance(layer, Layer) and INPUT in layer.sources:
            if set(layer.sources) != {INPUT} or layer.neuron is None or layer.neuron.v_reset:
                raise BadInput(f"ticket {network.name!r}, layer {layer.name!r}: reads the input "
                               "and spikes, is the readout, or resets above rest; search it again "
                               f"with --input-bits {bits}")
            bias, theta = (np.rint(v / factor).astype(np.int64)
                           for v in (layer.bias, layer.threshold))
            near = replace(layer, bias=bias, threshold=np.maximum(theta, 1))
            layer = near if pictures is None else _matched(network, layer, near, bits, pictures)
        layers.append(layer)
    return replace(network, input=replace(network.input, bits=bits), layers=tuple(layers))


def _matched(network: Network, layer: Layer, near: Layer, bits: int,
             pictures: np.ndarray) -> Layer:
    """`near` with the bias and threshold of each channel, up to NEAR from what they are, whose
    spikes on the pictures differ at the fewest timesteps from those of `layer` on all 8 bits; of
    equal ones the nearest. Rounding alone would let neurons fire on an empty background that
    stayed just below their threshold, or the other way round."""
    whole, upper = (reference.layer_current(network, replace(layer, bias=layer.bias * 0), {
        INPUT: x[None].astype(np.int64)})[0] for x in (pictures, depth.upper_bits(pictures, bits)))
    moves = sorted(((db, dt) for db in range(-NEAR, NEAR + 1) for dt in range(-NEAR, NEAR + 1)),
                   key=lambda move: sum(map(abs, move)))
    bias, theta = near.bias.copy(), near.threshold.copy()
    for c in range(layer.channels):
        pairs, count = np.unique(np.stack([whole[:, c].ravel(), upper[:, c].ravel()]), axis=1,
                                 return_counts=True)
        wanted = _spikes(layer, network.timesteps, layer.threshold[c:c + 1],
                         pairs[:1] + layer.bias[c])
        tried = [(bias[c] + db, theta[c] + dt) for db, dt in moves if theta[c] + dt >= 1]
        biases, thetas = (np.array(column) for column in zip(*tried, strict=True))
        spikes = _spikes(layer, network.timesteps, thetas, pairs[1:] + biases[:, None])
        wrong = ((spikes != wanted) * count).sum((0, 2))
        bias[c], theta[c] = tried[int(wrong.argmin())]
    return replace(near, bias=bias, threshold=theta)


def _spikes(layer: Layer, timesteps: int, thetas: np.ndarray, currents: np.ndarray) -> np.ndarray:
    """bool [T, K, n] of neurons with thresholds [K] at constant currents [K, n]."""
    made = reference.fire(layer.neuron, thetas, currents[None, None, :, :, None], timesteps)
    return made[:, 0, :, :, 0].astype(bool)


def float_layers(network: Network, readout: float) -> list[FloatOperation]:
    """Float layers whose integers are the network's: thresholds are 1, and a unit of the readout is
    `readout`."""
    made: list[FloatOperation] = []
    for layer in network.layers:
        if not isinstance(layer, Layer):
            made.append(layer)
            continue
        theta = torch.from_numpy(layer.threshold).double()
        unit = 1 / theta if layer.neuron is not None else torch.full_like(theta, readout)
        if layer.attention is not None:
            unit = torch.full_like(theta, 1 / float(theta.median()))
        neuron = None
        if layer.neuron is not None:
            soft = layer.neuron.reset == "soft"
            neuron = FloatNeuron(layer.neuron.leak / 256, theta * unit, None if soft else
                                 layer.neuron.v_reset * unit, unit=unit)
        if layer.attention is not None:
            made.append(FloatAttention(layer.name, layer.attention, neuron, float(unit[0])))
            continue
        synapses = tuple(FloatSynapses(
            torch.from_numpy(s.weight).double() * unit.view(-1, 1, 1, 1), s.sources, s.stride,
            s.padding, s.sum_pool, s.bits) for s in layer.synapses)
        made.append(FloatLayer(layer.name, synapses, torch.from_numpy(layer.bias) * unit, neuron,
                               layer.pool))
    return made


def trainee(network: Network, pictures: np.ndarray, labels: np.ndarray) -> NetworkTrainee:
    """The network as something to train, its logits of the size (a power of 2) that gives the
    least cross-entropy on the given pictures. Raises BadInput for one that changes by it."""
    with torch.no_grad():
        logits = IntegerNetwork(network)(torch.from_numpy(
            depth.upper_bits(pictures, network.input.bits)))
    target = torch.from_numpy(labels)
    size = min((2.0 ** -k for k in range(13)),
               key=lambda s: float(F.cross_entropy(logits.double() * s, target)))
    made = NetworkTrainee(float_layers(network, size), network.input, network.timesteps)
    for layer in made.layers:
        for syn, weight in zip(layer.scaled.synapses, layer.weights, strict=True):
            weight.requires_grad_(not is_identity(syn.weight))
    again = made.to_network(network.name, network.labels)
    if ticket.to_bytes(again) != ticket.to_bytes(network):
        raise BadInput(f"ticket {network.name!r}: its integers are none that a float network "
                       "gives; search it again")
    return made


def tune(path: Path, config: RunConfig, out: Path) -> dict:
    """Fine-tune the ticket in `path` at `config.input_bits`, `config.epochs_integer` epochs long;
    goes on after an interrupt. Writes OUT/ticket.safetensors, log.jsonl and checkpoints.

    Returns what the ticket's metadata say of it, beside what they said before. Raises
    SpikeTicketError.
    """
    found = ticket.load(path)
    if any(gate.mode == "host" for gate in found.network.gates.values()):
        raise BadInput(f"{path}: its gate takes tokens from the host; search it again")
    train, test = load_data(config)
    train, held = split(train, config.validation, config.seed)
    start = at_bits(found.network, config.input_bits, train.images[:MATCHED])
    tuned = trainee(start, train.images[:SEEN], train.labels[:SEEN])
    out.mkdir(parents=True, exist_ok=True)
    with checkpoint.locked(out):
        trainer = Trainer(config, train, held, SimpleNamespace(classes=start.layers[-1].channels),
                          out, config.epochs_integer * len(train))
        try:
            trainer.train(STAGE, tuned, config.epochs_integer, lr=config.lr_integer, exact=True,
                          unshifted=config.epochs_unshifted,
                          forward=lambda x: tuned(depth.taken(x, start.input)))
        finally:
            trainer.close()
        network = tuned.to_network(found.network.name, found.network.labels)
        seen = depth.taken(train.images[:typical.SEEN], network.input)
        accuracy, activity = evaluate(network, depth.taken(test.images, network.input), test.labels)
        known = {key: value for key, value in found.metadata.items() if key not in STALE}
        seconds = sum(epoch["train_seconds"] for epoch in trainer.history)
        facts = {
            "accuracy_integer": accuracy, "activity_by_layer": activity,
            "epochs": known.get("epochs", 0) + len(trainer.history),
            "train_seconds": round(known.get("train_seconds", 0) + seconds, 1),
            "input_bits": network.input.bits, "sparsity": network.sparsity,
            "sparsity_by_layer": {layer.name: round(1 - syn.density, 5)
                                  for layer, syn in network.synapses()},
            "tuned": {"config": config.to_yaml(), "images_validation": len(held) if held else 0,
                      "epochs": trainer.history}}
        shown = {typical.KEY: typical.pack(seen[typical.choose(network, seen)])}
        ticket.save(out / "ticket.safetensors", network, {**known, **facts, **shown})
    return facts
