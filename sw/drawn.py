"""SpikingJelly's Spikformer, or a network of `sw.nets`, with drawn weights as a ticket: what would
such a network need?

    spiketicket import drawn --sparsity 0.95 --out spikformer-4-384.safetensors
    spiketicket plan spikformer-4-384.safetensors --board arty_a7_100
    spiketicket import drawn --model vgg9 --bits 1 --sparsity 0.5 --out vgg9.safetensors

Nothing is trained: the weights are SpikingJelly's initial ones, the smallest magnitudes of every
layer removed; the batch norms have seen some images (noise, or --data), so that the neurons fire.
For sizes, cycles and exactness, never for accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from spikingjelly.activation_based import functional, neuron
from spikingjelly.activation_based.model import spikformer
from torch import Tensor, nn

from . import nets, ticket
from .data import datasets
from .errors import BadInput
from .imports import from_spikingjelly
from .integer import reference
from .integer.network import Network
from .nets.config import NetConfig
from .nets.token_gate import TokenGate
from .tickets.masks import by_score
from .tickets.scores import connections

CALIBRATION = 16
"""Images that the batch norms see."""


SPIKFORMER = {"depth": 4, "width": 384, "heads": 12, "patch": 4, "keep": None,
              "embedding": None}
"""What only a Spikformer has: encoder blocks, channels of a token, heads of the attention, pixels
of a token's side (4 or 16), tokens behind a gate of mode "count" (None for no gate), fraction of
the patch embedding's weights removed (None: as of all layers)."""


def drawn_network(model: str | None = None, *, side: int = 32, channels: int = 3,
                  classes: int = 10, timesteps: int = 4, sparsity: float = 0.95, bits: int = 4,
                  images: Tensor | None = None, seed: int = 0, theta: float | None = None,
                  **shape: float | None) -> Network:
    """A network with drawn weights as an integer network.

    model: of `sw.nets`; None for SpikingJelly's Spikformer, whose `shape` is that of SPIKFORMER
    where it is not given. theta: threshold of a network of `sw.nets` (1 by default), where currents
    have variance 1. sparsity: fraction removed in every layer. bits: of the weights; with 1 those
    of a layer are plus or minus one number before the batch norms see them. images: uint8
    [B, channels, side, side] for the batch norms, None for noise; or event frames
    [B, T, channels, side, side], whose counts are the input then. Raises SpikeTicketError for
    networks that do not exist, and for a setting that the network does not have.
    """
    torch.manual_seed(seed)
    size, given = (channels, side, side), {n: v for n, v in shape.items() if v is not None}
    if model is not None:
        if given:
            name, value = next(iter(given.items()))
            raise BadInput(f"--{name} {value} is of SpikingJelly's Spikformer; leave it out with "
                           f"--model {model}")
        made = nets.build(NetConfig(model, size, classes, timesteps, 0.5, theta or 1.0))
        name, keep, patch, embedding = model, None, 0, None
    else:
        if theta is not None:
            raise BadInput(f"--theta {theta:g} is of our own networks; name one with --model")
        depth, width, heads, patch, keep, embedding = (SPIKFORMER | given).values()
        name = f"spikformer-{depth}-{width}"
        try:
            made = spikformer.Spikformer(
                T=timesteps, in_channels=channels, img_size_h=side, img_size_w=side,
                patch_size=patch, num_classes=classes, embed_dims=width, num_heads=heads,
                depths=depth, spiking_neuron=lambda **more: neuron.LIFNode(tau=2.0, **more))
        except (ValueError, AssertionError) as error:
            raise BadInput(f"SpikingJelly has no such Spikformer ({error})") from error
    if images is None:
        images = torch.randint(0, 256, (CALIBRATION, *size))
    _prepare(made, {"": sparsity, "patch_embed.": sparsity if embedding is None else embedding},
             bits, images)
    if keep is not None:
        made.token_gate = TokenGate("count", keep, (side // patch, side // patch), (-2, -1))
        made.patch_embed.register_forward_hook(made.token_gate.behind)
    events = {} if images.dim() == 4 else {
        "static": False, "input_bits": max(1, int(images.max()).bit_length())}
    return from_spikingjelly(made, size, timesteps, bits=bits, check=False, name=name,
                             **events).network


def _prepare(model: nn.Module, sparsity: Mapping[str, float], bits: int, images: Tensor) -> None:
    """Prune it, and show its batch norms the images. sparsity: by the beginning of a layer's name;
    the longest counts."""
    weights = {name: m.weight for name, m in connections(model).items()}
    fraction = {name: sparsity[max(filter(name.startswith, sparsity), key=len)] for name in weights}
    with torch.no_grad():
        masks = {name: mask for removed in {*fraction.values()} for name, mask in by_score(
            {n: w for n, w in weights.items() if fraction[n] == removed}, removed, "layer").items()}
        for name, mask in masks.items():
            weight = weights[name].mul_(mask)
            if bits == 1:
                weight.copy_(weight.sign() * weight.abs().sum() / mask.sum().clamp(min=1))
        for m in model.modules():
            if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d):
                m.momentum = None                           # the mean of what they see
        model.train()(images.float() / (255 if images.dim() == 4 else 1))
        functional.reset_net(model)
    model.eval()


def write(out: Path, data: str | None = None, *, side: int = 32, channels: int = 3,
          timesteps: int = 4, seed: int = 0, **settings) -> str:
    """Write such a ticket; returns what it is, in words.

    data: images or event recordings for the batch norms and the activity (None: noise images).
    settings: of `drawn_network`. Raises SpikeTicketError.
    """
    images = torch.randint(0, 256, (CALIBRATION, channels, side, side), dtype=torch.uint8,
                           generator=torch.Generator().manual_seed(seed))
    if data:
        # Recordings have two channels, one a polarity; only pictures can be given other ones.
        found = datasets.load(data, "train", limit=CALIBRATION, size=side, timesteps=timesteps,
                              channels=None if channels == 2 else channels)
        if found.images.shape[-3] != channels:
            raise BadInput(f"{found.source}: samples have {found.images.shape[-3]} channels, "
                           f"--channels says {channels}")
        images = torch.from_numpy(found.images.copy())
    network = drawn_network(side=side, channels=channels, timesteps=timesteps, seed=seed,
                            images=images, **settings)
    run = reference.run(network, images[:4].numpy())
    rates = {name: {"active": float(value.mean())}
             for name, value in reference.activity(network, run.spikes).items()}
    ticket.save(out, network, {"data": data or "noise", "seed": seed, "trained": False,
                               "activity_by_layer": rates, "sparsity": network.sparsity})
    return (f"{out}: {network.weights_total:,} weights, {network.weights_surviving:,} survive "
            f"({100 * network.sparsity:.1f} % removed); drawn, not trained")
