"""Reading a program back: every field of every layer, as the sequencer sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hw import program
from hw.config import CoreConfig


@dataclass
class LayerCode:
    """One layer of a program. Fields by the names in `hw.program`.

    header: HEADER fields. engines: ENGINE fields per engine. planes: PLANE fields. taps: TAP
    fields. address: first program word; words: how many.
    """

    header: dict[str, int]
    engines: list[dict[str, int]]
    planes: list[dict[str, int]]
    taps: list[dict[str, int]]
    address: int
    words: int


def read_program(words: Sequence[int], config: CoreConfig) -> list[LayerCode]:
    """Layers of a program, up to and including the one marked `last_layer`."""
    layers = []
    at = 0
    while True:
        start = at

        def take(count: int) -> list[int]:
            nonlocal at
            at += count
            return [int(word) for word in words[at - count:at]]

        header = program.unpack_words(program.HEADER, take(len(program.HEADER)))
        header |= program.walk_increments(header)
        engines = [program.unpack(program.ENGINE, word) for word in take(config.engines)]
        planes = [program.unpack(program.PLANE, word) for word in take(header["n_planes"])]
        taps = [program.unpack_words(program.TAP, take(program.TAP_WORDS))
                for _ in range(header["n_taps"])]
        for tap in taps:
            tap["mask"] = tap["mask_low"] | tap["mask_high"] << 32
        layers.append(LayerCode(header, engines, planes, taps, start, at - start))
        if header["last_layer"]:
            return layers
