"""Typical inputs: a few training samples whose cycles on a core are those of all.

Cycles depend on which words of a map are silent, and so on how spikes lie together, which no
average rate says. A ticket therefore carries a few inputs of its training data, chosen so that
activity and silent words of every map are as near as can be to their means (herding, Welling 2009);
`sw.plan` runs the cycle model on them. A search adds them; for tickets from elsewhere::

    spiketicket import typical my.safetensors --data fashion-mnist
"""

from __future__ import annotations

import base64
import binascii
import zlib
from pathlib import Path

import numpy as np

from . import ticket
from .data import datasets
from .errors import BadInput
from .integer import reference
from .integer.network import INPUT, Network
from .ticket import Ticket

KEY = "typical_inputs"
"""Of a ticket's metadata: zlib-compressed values, uint8 [n, ...], in base64."""

COUNT = 8
SEEN = 256
"""Training samples that they are chosen from."""

WORD = 16
"""Neighbouring positions of a row that count as a word; cores have words of 16 or 32."""

BATCH = 16


def choose(network: Network, inputs: np.ndarray, masks: np.ndarray | None = None,
           count: int = COUNT) -> np.ndarray:
    """Indices of `count` inputs [N, ...] (as of `sw.integer.reference.run`) that together are like
    all of them; masks as the gate needs them."""
    if len(inputs) < count:
        raise BadInput(f"{len(inputs)} samples are fewer than the {count} typical ones "
                       "that a ticket carries")
    rows = []
    for start in range(0, len(inputs), BATCH):
        part = slice(start, start + BATCH)
        spikes = reference.run(network, inputs[part],
                               masks=None if masks is None else masks[part]).spikes
        rows.append(_features(network, spikes))
    features = np.concatenate(rows)
    features -= features.mean(0)
    features /= np.maximum(features.std(0), 1e-9)
    chosen: list[int] = []
    total = np.zeros(features.shape[1])
    for _ in range(count):
        distance = np.square(total + features).sum(1)
        distance[chosen] = np.inf
        chosen.append(int(distance.argmin()))
        total += features[chosen[-1]]
    return np.sort(np.array(chosen))


def pack(inputs: np.ndarray) -> str:
    """Inputs, uint8 [n, C, H, W] (static) or [n, T, C, H, W], for `KEY`."""
    return base64.b64encode(zlib.compress(np.ascontiguousarray(inputs, np.uint8).tobytes(),
                                          9)).decode("ascii")


def unpack(found: Ticket) -> np.ndarray | None:
    """The inputs that a ticket carries; None if it has none. Raises SpikeTicketError for others
    than its network takes."""
    text = found.metadata.get(KEY)
    if text is None:
        return None
    spec, network = found.network.input, found.network
    shape = (spec.channels, spec.height, spec.width)
    shape = shape if spec.static else (network.timesteps, *shape)
    size = int(np.prod(shape))
    try:
        data = zlib.decompressobj().decompress(base64.b64decode(text, validate=True),
                                               COUNT * size + 1)
    except (TypeError, ValueError, binascii.Error, zlib.error) as error:
        raise BadInput(f"ticket {network.name!r}: its {KEY} are damaged "
                       f"({' '.join(str(error).split())})") from error
    values = np.frombuffer(data, np.uint8)
    if not len(values) or len(values) % size or values.max() >> spec.bits:
        raise BadInput(f"ticket {network.name!r}: its {KEY} are no inputs of "
                       f"{'x'.join(map(str, shape))} with {spec.bits} bits")
    return values.reshape(-1, *shape)


def _features(network: Network, spikes: dict[str, np.ndarray]) -> np.ndarray:
    """float [B, features]: share of active positions and of active words of every map."""
    columns = []
    for name, values in spikes.items():
        planes = network.input.bits if name == INPUT else 1
        for plane in range(planes):
            active = (values >> plane & 1).any(0)            # [B, C, H, W]
            width = -(-active.shape[-1] // WORD) * WORD
            padded = np.zeros((*active.shape[:-1], width), bool)
            padded[..., :active.shape[-1]] = active
            words = padded.reshape(*padded.shape[:-1], -1, WORD).any(-1)
            columns += [active.mean((1, 2, 3)), words.mean((1, 2, 3))]
    return np.stack(columns, 1)


def add(path: Path, data: str, root: str | None = None) -> str:
    """Write a ticket anew with typical inputs of a data set's training part; returns which, in
    words. Raises SpikeTicketError."""
    found = ticket.load(path)
    network = found.network
    if any(gate.mode == "host" for gate in network.gates.values()):
        raise BadInput(f"{path}: its gate takes tokens from the host, which samples alone "
                       "do not say; a search adds typical inputs to such a ticket")
    inputs = datasets.for_network(network, data, "train", root, SEEN).images
    chosen = choose(network, inputs)
    ticket.save(path, network, {**found.metadata, KEY: pack(inputs[chosen])})
    return f"{path}: {len(chosen)} typical inputs of {len(inputs)}: {', '.join(map(str, chosen))}"
