"""Whether a network image of a file can be what the compiler makes: nothing points beyond a memory.

What a layer's weights and program say is the board's affair; it cannot leave its memories. Checked
here is all that the host computes addresses and sizes from.
"""

from __future__ import annotations

from hw.config import STREAM_BLOCK, TIMESTEPS_PER_GROUP

from ..integer.network import INPUT
from .image import Image, MapLayout
from .listing import read_program
from .sums import planes_of

MAX_INPUT = 1 << 24
"""Bytes of an input, all timesteps."""


def _need(ok: bool, what: str) -> None:
    if not ok:
        raise ValueError(what)


def check_image(image: Image) -> None:
    """Raises ValueError or SpikeTicketError naming what cannot be."""
    config = image.config
    _need(1 <= image.timesteps <= 16, f"timesteps {image.timesteps}")
    channels, height, width = image.input_shape
    _need(min(image.input_shape) >= 1 and 1 <= image.input_bits <= 8
          and channels * height * width * image.timesteps <= MAX_INPUT,
          f"input {list(image.input_shape)} of {image.input_bits} bits")
    _need(0 <= image.results and 1 <= image.classes
          and image.results + image.classes <= config.map_words,
          f"results {image.results}, classes {image.classes} beyond the map memory")
    _need(len(image.program) <= config.program_words, f"program of {len(image.program)} words")
    _need(len(image.weights) == config.pairs
          and all(len(words) <= depth for words, depth in zip(
              image.weights, config.weight_depths, strict=True)), "weights beyond their memory")
    _need(len(image.streams) in (0, config.engines)
          and all(len(words) <= config.stream_stride and len(words) % STREAM_BLOCK == 0
                  for words in image.streams), "streams beyond the DRAM")
    for layout in [*image.inputs, *image.maps.values()]:
        _check_layout(layout, image)
    _need(len(image.inputs) >= 1, "no input")
    for layout in image.inputs:
        _need(layout.channels == channels and layout.height <= height and layout.width <= width
              and layout.planes == -(-image.input_bits // layout.bits_a_mask)
              and layout.bits_a_mask == image.inputs[0].bits_a_mask
              and (layout.copies, layout.copy_of_group) == (image.inputs[0].copies,
                                                            image.inputs[0].copy_of_group),
              f"input layout {layout.name!r} is not the input's")
    for layout in image.maps.values():
        _check_sum(layout, image)
    for layer in image.layers:
        _need(min(layer.weights, layer.surviving, layer.stored, layer.planes) >= 0
              and min(layer.groups, layer.strips) >= 1, f"layer {layer.name!r}")
    try:
        found = len(read_program(image.program, config))
    except (IndexError, ValueError, TypeError) as error:
        raise ValueError("the program breaks off") from error
    _need(found == len(image.layers), f"program of {found} layers for {len(image.layers)}")
    if image.gate is not None:
        gate = image.gate
        _need(min(gate.grid) >= 1 and gate.pitch >= gate.grid[1]
              and (gate.grid[0] - 1) * gate.pitch + gate.grid[1] <= config.gate_tokens,
              f"gate of {gate.grid[0]} x {gate.grid[1]} tokens")
        _need(gate.mode in ("static", "host", "count", "input") and 1 <= gate.keep <= gate.tokens
              and 0 <= gate.step < len(image.layers), f"gate of mode {gate.mode!r}")
        _need(len(gate.mask) == (gate.mask_words if gate.mode == "static" else 0)
              and all(0 <= word < 1 << 32 for word in gate.mask), "mask of the gate")
        if gate.mode == "input":
            _need(height % gate.grid[0] == 0 and width % gate.grid[1] == 0,
                  "the gate's grid does not divide the input")


def _check_sum(layout: MapLayout, image: Image) -> None:
    """A summand has the planes that the sum up to it takes, where the second one lies."""
    if not layout.onto:
        return
    where = f"map {layout.name!r}"
    _need(all(name in image.maps for name in layout.onto), f"{where}: unknown summands")
    # The first may be elsewhere, where the sum began with a copy of it.
    second = next((m for m in image.maps.values() if m.onto == layout.onto[:1]), None)
    _need(second is not None and layout.planes == planes_of(len(layout.onto) + 1)
          and (layout.base, layout.words) == (second.base, second.words), f"{where}: not its sum's")


def _check_layout(layout: MapLayout, image: Image) -> None:
    config, where = image.config, f"map {layout.name!r}"
    _need(min(layout.channels, layout.height, layout.width, layout.factor, layout.channel_words,
              layout.planes, layout.copies) >= 1 and layout.spare >= 0,
          f"{where} has a zero axis")
    _need(layout.window == config.window, f"{where}: window {layout.window}")
    _need(max(layout.height, layout.width) <= MAX_INPUT
          and layout.planes + layout.spare <= 8,
          f"{where} is too large")
    _need(layout.bits_a_mask == 1 or (layout.bits_a_mask == TIMESTEPS_PER_GROUP and image.static
                                      and layout.name == INPUT),
          f"{where}: {layout.bits_a_mask} bits a mask")
    _need(0 <= layout.base and layout.base + layout.words <= config.map_words,
          f"{where} lies beyond the map memory")
    _need(layout.pitch >= layout.phase_width
          and (layout.phase_height - 1) * layout.pitch + layout.phase_width
          <= layout.channel_words * layout.window, f"{where}: rows beyond its words")
    groups = -(-image.timesteps // TIMESTEPS_PER_GROUP)
    _need(len(layout.copy_of_group) == groups
          and all(0 <= copy < layout.copies for copy in layout.copy_of_group),
          f"{where}: copies of its groups")
