"""Whatever a user has as inputs, as the arrays a board takes; whatever a ticket is, compiled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hw.config import CoreConfig

from .. import bundled, ticket
from ..compile.compiler import compile_network
from ..compile.image import Image
from ..data.data_options import split_name
from ..data.event_arrays import from_array
from ..data.event_sets import SETS
from ..data.events import Events, frames
from ..errors import BadInput, SpikeTicketError, note
from ..integer.network import Network
from ..plan import recorded_activity
from ..ticket import Ticket

Loadable = str | Path | Ticket | Network | Image
"""A ticket's file or bundled name, a ticket, a network, or one compiled already."""


@dataclass(frozen=True)
class Framing:
    """How event streams become frames; as `sw.data.events.frames`. sensor: (width, height) of
    streams that do not say, None: the size of the network's input."""

    by: str = "number"
    fit: str = "pad-crop"
    sensor: tuple[int, int] | None = None

    @classmethod
    def of(cls, metadata: dict) -> Framing:
        """As the data that a ticket was trained on was framed; its metadata says."""
        try:
            name, options = split_name(str(metadata.get("data", "")).split("+")[0])
        except SpikeTicketError:
            return cls()
        sensor = options.get("sensor") or (SETS[name].sensor if name in SETS else None)
        by, fit = options.get("frames_by", cls.by), options.get("fit", cls.fit)
        return cls(by, fit, (sensor, sensor) if isinstance(sensor, int) else sensor)


def compiled(what: Loadable, config: CoreConfig) -> tuple[Image, Framing]:
    """`what`, compiled for a core unless it is, and how its events are framed.

    Raises SpikeTicketError if it is no ticket, does not fit, or was compiled for another core.
    """
    what = opened(what)
    if isinstance(what, Image):
        if what.config != config:
            raise BadInput(f"network {what.name!r} was compiled for another core; compile "
                           "it for the board's configuration")
        return what, Framing()
    if isinstance(what, Ticket):
        image = compile_network(what.network, config, recorded_activity(what))
        return image, Framing.of(what.metadata)
    return compile_network(what, config), Framing()


def opened(what: Loadable) -> Ticket | Network | Image:
    """`what`, read if it is a file or a name. Raises SpikeTicketError if it is nothing to load."""
    if isinstance(what, str | Path):
        return ticket.load(bundled.find(str(what)))
    if not isinstance(what, Ticket | Network | Image):
        raise BadInput(f"cannot load a {type(what).__name__}; give a ticket's file or "
                       "name, a Ticket, a Network or an Image")
    return what


@dataclass(frozen=True)
class Wanted:
    """What inputs a network takes; an `Image` says the same under the same names."""

    name: str
    timesteps: int
    input_shape: tuple[int, int, int]
    input_bits: int
    static: bool

    @classmethod
    def of(cls, network: Network) -> Wanted:
        spec = network.input
        return cls(network.name, network.timesteps, (spec.channels, spec.height, spec.width),
                   spec.bits, spec.static)


def as_batch(image: Image | Wanted, batch: object, framing: Framing) -> np.ndarray:
    """Inputs as uint8 [B, C, H, W], or [B, T, C, H, W] if the network's input is not static.

    batch: such an array (NumPy or torch), a list of its parts, or event streams: `Events`, a
    structured array with fields x, y, t, p, or a list of these. Raises SpikeTicketError.
    """
    if _is_events(batch):
        batch = [batch]
    if isinstance(batch, Sequence) and len(batch) and all(map(_is_events, batch)):
        return np.stack([_framed(image, stream, framing) for stream in batch])
    if isinstance(batch, Sequence):
        parts = [_array(part) for part in batch]
        shapes = {part.shape for part in parts}
        if len(shapes) > 1:
            raise BadInput(f"inputs of shapes {' and '.join(map(str, sorted(shapes)))} "
                           "are in one batch; give one shape")
        array = np.stack(parts) if parts else np.zeros((0, *_shape(image)), np.uint8)
    else:
        array = _array(batch)
    return _checked(image, array)


def as_input(image: Image | Wanted, one: object, framing: Framing) -> np.ndarray:
    """One input, as `as_batch` takes many."""
    return as_batch(image, [one], framing)[0]


def _shape(image: Image | Wanted) -> tuple[int, ...]:
    return image.input_shape if image.static else (image.timesteps, *image.input_shape)


def _array(values: object) -> np.ndarray:
    if hasattr(values, "detach"):  # torch, without importing it
        values = values.detach().cpu().numpy()
    array = np.asarray(values)
    return array.view(np.uint8) if array.dtype == bool else array


def _checked(image: Image | Wanted, array: np.ndarray) -> np.ndarray:
    shape = _shape(image)
    if array.dtype != np.uint8 or array.shape[1:] != shape:
        hint = ""
        if array.dtype.kind == "f":
            hint = f"; whole numbers from 0 to {(1 << image.input_bits) - 1}, not fractions"
        elif array.shape == shape:
            hint = "; add an axis for the batch: batch[None]"
        raise BadInput(f"input is {array.dtype} {list(array.shape[1:])}; network "
                       f"{image.name!r} takes uint8 {list(shape)}{hint}")
    if array.size and int(array.max()) >> image.input_bits:
        hint = (f"; of pictures 0..255 network {image.name!r} takes the upper bits: "
                f"sw.data.depth.upper_bits(pictures, {image.input_bits})" if image.static else "")
        raise BadInput(f"input value {array.max()} needs more than {image.input_bits} bits{hint}")
    return array


def _is_events(value: object) -> bool:
    return isinstance(value, Events) or (
        isinstance(value, np.ndarray) and value.dtype.names is not None)


def _framed(image: Image | Wanted, stream: Events | np.ndarray, framing: Framing) -> np.ndarray:
    channels, height, width = image.input_shape
    if image.static or channels != 2:
        raise BadInput(f"network {image.name!r} takes "
                       f"{'images' if image.static else f'{channels} channels'}, not "
                       "event streams (OFF and ON)")
    if not isinstance(stream, Events):
        stream = from_array(stream, "events", framing.sensor or (width, height))
        for line in stream.notes:
            note(line)
    return frames(stream, image.timesteps, framing.by, (width, height), framing.fit,
                  (1 << image.input_bits) - 1)
