"""From a trained network of SpikingJelly, or any module whose neurons are the core's, to integers.

The module is run and recorded (`sw.imports.recorder`), read (`sw.imports.reader`), quantised, and
compared with its own runs layer by layer (`sw.imports.selfcheck`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from ..data import depth
from ..errors import SpikeTicketError
from ..integer.network import InputSpec
from .inputs import find, note_training, prepared
from .integers import Imported, build
from .reader import Bits, classes
from .reading import read_module, run_once
from .selfcheck import check as compare_with_module

Size = tuple[int, int, int]


def from_spikingjelly(model: nn.Module, input_shape: Size, timesteps: int | None = None, *,
                      bits: Bits = 4, input_bits: int = 8, static: bool = True,
                      input_scale: float | None = None, name: str = "network",
                      labels: tuple[str, ...] = (), check: bool = True,
                      samples: np.ndarray | None = None) -> Imported:
    """Import a trained network.

    model: any module, step mode "s" or "m"; it is not changed. Networks of this project and of
        SpikingJelly are read like any other.
    input_shape: (channels, height, width) of the input, (features, 1, 1) for vectors,
        (channels, 1, length) for what a Conv1d takes.
    timesteps: may be left out where the forward function repeats its input T times.
    bits: of the weights, 1 to 8, or one width by layer name. Layers are named as their neuron's
        module, the last one "readout".
    input_bits, static: see `sw.integer.network.InputSpec`; static means the same image at every
        timestep. input_scale: float value of one integer input unit; for static inputs that of the
        upper `input_bits` of a pixel whose 255 is 1 (`sw.data.depth`: 1/255 for 8), 1 for others.
    check: compare with the module's own runs. samples: integers [N, C, H, W] (static) or
        [N, T, C, H, W] of its data for that.

    Raises SpikeTicketError, naming the module, for what is not supported (docs/imports.md).
    """
    spec = InputSpec(*_shape(input_shape), bits=input_bits, static=static)
    _whole(timesteps, "timesteps", 1, 32)
    for width in _widths(bits):
        _whole(width, "bits", 1, 8)
    if input_scale is None:
        input_scale = depth.scale(input_bits) if static else 1.0
    if not 0 < input_scale < math.inf:
        raise SpikeTicketError(f"input_scale {input_scale!r} is not a finite number above 0")
    reading = read_module(model, spec, timesteps, bits, input_scale)
    note_training(model)
    imported = build(reading.layers, spec, reading.feed.steps, input_scale=input_scale, name=name,
                     labels=labels)
    notes = compare_with_module(reading, imported, samples) if check else ()
    facts = {"source": "spikingjelly", "module": type(model).__name__}
    return replace(imported, facts=facts, notes=imported.notes + reading.notes + notes)


@torch.no_grad()
def run_module(model: nn.Module, x: Tensor, imported: Imported,
               spikes: dict[str, Tensor] | None = None) -> Tensor:
    """Run a network in float64 on integers, as the integer network takes them.

    Returns its output summed over timesteps, [B, classes]; `spikes` receives every neuron's
    spikes, [T, B, ...], by module name. The module is not changed.
    """
    spec, steps = imported.network.input, imported.network.timesteps
    copy = prepared(model)
    feed = find(copy, (spec.channels, spec.height, spec.width), steps, spec.static)
    x = x.unsqueeze(0) if spec.static else x
    values = (x.double() * imported.input_scale).reshape(*x.shape[:2], *feed.dims)
    made = run_once(copy, feed, values)
    if spikes is not None:
        spikes.update(made.spikes)
    out = classes(made, made.result)
    return out.sum(0) if out.dim() == 3 else out


def _shape(shape: object) -> Size:
    try:
        found = tuple(shape)
    except TypeError:
        found = ()
    if len(found) != 3 or not all(type(n) is int and n >= 1 for n in found):
        raise SpikeTicketError(f"input_shape {shape!r} is not (channels, height, width) in whole "
                               "numbers; (features, 1, 1) for vectors, (channels, 1, length) for "
                               "Conv1d")
    return found


def _whole(value: object, what: str, low: int, high: int) -> None:
    if value is not None and (type(value) is not int or not low <= value <= high):
        raise SpikeTicketError(f"{what} {value!r} is not a whole number {low}..{high}")


def _widths(bits: Bits) -> list[object]:
    """All widths given."""
    if not isinstance(bits, Mapping):
        return [bits]
    return [width for given in bits.values()
            for width in (given if isinstance(given, list | tuple) else [given])]
