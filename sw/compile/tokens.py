"""Steps that work on tokens: attention, the patch gate and its selections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from hw.boards import BOARDS
from hw.config import KEY_WORDS, PRESETS, CoreConfig

from ..errors import SpikeTicketError
from ..integer.attention import HEAD_WIDTHS, MAX_TOKENS, Attention, ColumnAttention
from ..integer.gate import Gate, Select
from ..integer.network import Layer, Network, Neuron, Pool, Shape
from .counts import count_shapes, count_steps
from .even import even_synapses
from .fit import LayoutError
from .steps import (
    COUNT,
    PHASES,
    Lowered,
    Step,
    Use,
    add_versions,
    identity,
    make_step,
    plain_version,
)
from .taps import channel_words

SCORE_BITS = 16
"""Width of a token's score on the core."""

MAX_TIMESTEPS = 16
"""Timesteps of a program: four groups of four."""

MAX_WINDOW = 16
"""Rows and columns of a pool's window, and its stride."""

OVERLAPPING = Pool("max", 3, 2, 1)
"""The pool whose windows may overlap."""


def check_operators(network: Network, config: CoreConfig) -> None:
    """Raise SpikeTicketError, with the remedy, for what the core cannot do whatever its size."""
    def refuse(layer: Layer | Gate | Select, what: str) -> None:
        raise SpikeTicketError(f"layer {layer.name!r} of {network.name!r}: {what}")

    if network.timesteps > MAX_TIMESTEPS:
        raise SpikeTicketError(f"{network.name!r} runs {network.timesteps} timesteps, the core at "
                               f"most {MAX_TIMESTEPS}; merge neighbouring frames, or train with "
                               "fewer")
    gates = list(network.gates.values())
    for layer in network.layers:
        if isinstance(layer, Gate | Select):
            if not config.gate:
                refuse(layer, f"this core has no patch gate; choose {_presets('gate')}")
            if isinstance(layer, Gate) and layer is not gates[0]:
                refuse(layer, f"a second patch gate after {gates[0].name!r}; the core has one")
        elif isinstance(layer.attention, ColumnAttention):
            refuse(layer, "the core has no column attention; use self-attention, or run the "
                          "network with sw.integer.spikingjelly or sw.integer.reference")
        elif layer.attention is not None and not config.attention:
            refuse(layer, f"this core has no attention; choose {_presets('attention')}")
        elif layer.attention is not None:
            if what := _attention_limit(network, layer):
                refuse(layer, what)
        elif what := _window_limit(layer, network.shapes()):
            refuse(layer, what)
    for gate in gates:
        bound = gate.score_bound(network.input, network.shapes(), network.timesteps)
        if gate.mode == "count" and bound >> SCORE_BITS:
            refuse(gate, f"scores up to {bound} exceed {SCORE_BITS} bits; count the spikes of "
                         "fewer maps")


def _attention_limit(network: Network, layer: Layer) -> str:
    """What the core cannot do about attention, with the remedy; "" where it can."""
    shape = network.shapes()[layer.attention.query]
    width = shape.channels // layer.attention.heads
    if shape.tokens > MAX_TOKENS:
        return (f"attention over {shape.tokens} tokens, the core has at most {MAX_TOKENS}; pool "
                "the patch embedding further, or keep fewer tokens with a patch gate")
    if width not in HEAD_WIDTHS:
        return (f"heads of {width} channels, the core has {HEAD_WIDTHS[0]} to {HEAD_WIDTHS[-1]}; "
                "change the number of heads")
    return ""


def _window_limit(layer: Layer, shapes: Mapping[str, Shape]) -> str:
    """The same about strides, paddings and pools."""
    for syn, made in zip(layer.synapses, even_synapses(layer, shapes), strict=True):
        if any(a != b for a, b in (made.stride, made.padding, made.sum_pool)):
            parts = (("average pool", syn.sum_pool), ("stride", syn.stride),
                     ("padding", syn.padding))
            what, (rows, columns) = next(part for part in parts if part[1][0] != part[1][1])
            return (f"{what} of {rows} rows and {columns} columns; the core has one number for "
                    "both, so make them equal")
        if made.sum_pool[0] > MAX_WINDOW:
            return (f"average pool of {syn.sum_pool[0]}x{syn.sum_pool[1]}, the core has up to "
                    f"{MAX_WINDOW}x{MAX_WINDOW}; pool in two steps with a neuron between")
    pool = layer.pool
    if pool is None:
        return ""
    if len({*pool.size}) > 1 or len({*pool.stride}) > 1 or len({*pool.padding}) > 1:
        return (f"pool {pool.mode!r} of size {pool.size}, stride {pool.stride}, padding "
                f"{pool.padding}; the core has one number for rows and columns, so make them equal")
    if max(pool.size[0], pool.stride[0]) > MAX_WINDOW:
        return (f"pool {pool.mode!r} of size {pool.size[0]}, stride {pool.stride[0]}; the core has "
                f"up to {MAX_WINDOW}, so pool in two steps")
    if not pool.tiles and pool != OVERLAPPING:
        return (f"pool {pool.mode!r} of size {pool.size[0]}, stride {pool.stride[0]}, padding "
                f"{pool.padding[0]}; the core has pools with stride = size and no padding, and "
                "'max' of size 3, stride 2, padding 1")
    return ""


def _presets(feature: str) -> str:
    """The boards' own cores that have it: others have it too, but are for no board."""
    boards: dict[str, list[str]] = {}
    for board in BOARDS.values():
        for name in board.presets:
            if getattr(PRESETS[name], feature):
                boards.setdefault(name, []).append(board.name)
    return "a preset with one: " + ", ".join(
        f"{name} ({', '.join(held)})" for name, held in boards.items())


def lower(network: Network, ways: Mapping[str, int]) -> Lowered:
    """The network as steps; ways: layer name -> PHASES, WALK, EXPAND, COUNT."""
    shapes = network.shapes()
    steps = []
    for layer in network.layers:
        if isinstance(layer, Gate):
            steps.append(_gate_step(network, layer, shapes))
        elif isinstance(layer, Select):
            steps.append(_select_step(network, layer, shapes))
        elif layer.attention is not None:
            steps.append(_attention_step(layer, layer.attention, shapes))
        elif ways.get(layer.name) == COUNT:
            steps += count_steps(layer, shapes)
            shapes |= count_shapes(layer, shapes)
        else:
            steps.append(make_step(network, layer, shapes, ways.get(layer.name, PHASES)))
    for gate in network.gates.values():
        scored = [n for n, step in enumerate(steps)
                  if step.layer.name in gate.scores and step.kind != "copy"]
        for n in scored:
            steps[n] = replace(steps[n], score=True, score_clear=n == scored[0])
    return add_versions(steps, shapes)


def _attention_step(layer: Layer, attention: Attention, shapes: Mapping) -> Step:
    """Its weights stand for the sums of spikes: a row has those of its head's channels."""
    shape = shapes[attention.query]
    size, width = (shape.height, shape.width), shape.channels // attention.heads
    head = np.arange(shape.channels) // width
    weight = (head[:, None] == head).astype(np.int8)[:, :, None, None]
    use = Use(weight, (attention.query,), 1, 0, 1, 1, *size, size)
    keys = tuple(plain_version(name, shapes) for name in (attention.key, attention.value))
    return Step(layer, (use,), None, *size, 1, False, "attention", size, keys=keys)


def _gate_step(network: Network, gate: Gate, shapes: Mapping) -> Step:
    nothing = np.zeros(0, np.int64)
    aligned = dict.fromkeys([*gate.scores, *(
        select.source for select in network.layers
        if isinstance(select, Select) and select.gate == gate.name)])
    return Step(Layer(gate.name, (), nothing, nothing, Neuron()), (), None, *gate.grid, 1, False,
                "gate", gate.grid, gate, aligned=tuple(plain_version(n, shapes) for n in aligned))


def _select_step(network: Network, select: Select, shapes: Mapping) -> Step:
    shape, gate = shapes[select.source], network.gates[select.gate]
    size = shape.height, shape.width
    layer, eye = identity(select.name, select.source, shape.channels)
    use = Use(eye, (select.source,), 1, 0, 1, 1, *size, size)
    return Step(layer, (use,), None, 1, gate.keep, 1, False, "select", size, gate)


def check_tokens(step: Step, config: CoreConfig) -> None:
    """Raise LayoutError unless the core can list, or collect, all tokens of a gate, or read those
    of attention."""
    for key in step.keys:
        words = channel_words(key.height, 1, key.pitch, config.window)
        if words > KEY_WORDS:
            raise LayoutError(step.layer.name, f"attention over {key.height} x {key.width} tokens, "
                              f"{words} map words with a pitch of {key.pitch}; a core reads "
                              f"{KEY_WORDS}, this one of {config.window} tokens each")
    if step.kind not in ("gate", "select"):
        return
    rows, columns = step.conv
    positions = (rows - 1) * step.pitch + columns
    limit = config.gate_tokens if step.kind == "gate" else config.tile_positions
    if positions > limit:
        raise LayoutError(step.layer.name, f"patch gate {step.gate.name!r} chooses from "
                          f"{rows} x {columns} tokens, {positions} positions with a pitch of "
                          f"{step.pitch}, and this core from {limit}; pool the patch embedding "
                          "further")
