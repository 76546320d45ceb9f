"""Where the connections of a network are on the core: found by marking their weights.

A copy of the network, its weights drawn anew, has in the i-th connection, those of few output
channels first, the channels at 0 whose bits are set in i; imported, every layer of the integer
network shows by its empty channels which connection it is. So nothing has to be known of how the
network is written.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from ..errors import SpikeTicketError
from ..integer.floats import FloatLayer, FloatOperation
from ..integer.network import Layer, Network
from .found import Found
from .scores import connections
from .trim import readers

SEED = 0x5EED


@dataclass(frozen=True)
class ConnectionPlace:
    """What a connection reads and feeds.

    inputs: channels, rows and columns of the map that it reads. neurons: of one of its output
    channels; 0 where another connection feeds them, too, and has them. removable: an output channel
    without a weight can be left out of the network (`sw.tickets.trim`). norm: path of the batch
    norm behind the connection in the module ("": there is none).
    """

    inputs: tuple[int, int, int]
    neurons: int
    removable: bool
    norm: str


def marked(found: Found) -> Found:
    """The ticket with weights that tell its connections apart. Raises SpikeTicketError where a
    connection has too few output channels for it."""
    generator, layers = torch.Generator().manual_seed(SEED), connections(found.model)
    for i, name in _numbered(layers).items():
        weight = layers[name].weight.data
        if i + 1 >> len(weight):        # all at 0 would cut the network
            raise SpikeTicketError(f"cost cycles: {name} has {len(weight)} output channels, too "
                                   f"few to tell it from {i - 1} others; give cost "
                                   "weights")
        weight.copy_(torch.randn(weight.shape, generator=generator))
        weight.mul_(weight[0].numel() ** -0.5)
        weight[[bit for bit in range(len(weight)) if i >> bit & 1]] = 0
    return replace(found, masks={})


def _numbered(layers: dict[str, nn.Module]) -> dict[int, str]:
    return dict(enumerate(sorted(layers, key=lambda name: len(layers[name].weight)), 1))


def places(found: Found, layers: list[FloatOperation], network: Network,
           sample: torch.Tensor) -> dict[str, ConnectionPlace]:
    """The places of all connections, by the names of their weights.

    found: as `marked`; layers, network: what it is imported to, in floats and in integers; sample:
    prepared, to run it on. Raises SpikeTicketError for a connection that is not found again.
    """
    names = _numbered(connections(found.model))
    norms = norms_behind(found, sample)
    shapes, integer = network.shapes(), {layer.name: layer for layer in network.layers}
    known: dict[str, ConnectionPlace] = {}
    for layer in layers:
        if not isinstance(layer, FloatLayer):
            continue
        own: Layer = integer[layer.name]
        alone, taken = readers(network, own) is not None and len(layer.synapses) == 1, False
        for syn, made in zip(layer.synapses, own.synapses, strict=True):
            empty = (syn.weight == 0).flatten(1).all(1).nonzero().flatten().tolist()
            name = names.get(sum(1 << row for row in empty))
            if name is None or name in known:
                continue                # a shortcut's identity weights
            source = shapes[syn.sources[0]]
            height, width = network.conv_size(layer.name, made, shapes)
            fires = layer.neuron is not None
            known[name] = ConnectionPlace((source.channels, source.height, source.width),
                                height * width * (fires and not taken), alone and fires,
                                norms.get(name, ""))
            taken = True
    missing = [name for name in names.values() if name not in known]
    if missing:
        raise SpikeTicketError(f"cost cycles: {missing[0]} is no layer of its own in the imported "
                               "network, so its cycles are unknown; give cost weights")
    return known


@torch.no_grad()
def norms_behind(found: Found, sample: torch.Tensor) -> dict[str, str]:
    """By connection: path of the batch norm of as many channels that is run next behind it."""
    behind: dict[str, str] = {}
    last: list[tuple[str, int]] = []

    def ran(name: str, module: nn.Module) -> None:
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            if last and module.num_features == last[0][1] and module.affine:
                behind[last[0][0]] = name
            last.clear()
        else:
            last[:] = [(name, len(module.weight))]
    layers = connections(found.model)
    norms = [(name, m) for name, m in found.model.named_modules()
             if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    hooks = [module.register_forward_hook(lambda module, *_, name=name: ran(name, module))
             for name, module in (*layers.items(), *norms)]
    found.model.eval()
    found.forward(sample)
    for hook in hooks:
        hook.remove()
    return behind
