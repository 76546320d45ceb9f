"""Where a layer's rows are: in the weight memories, or in the streams from DRAM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hw.config import CoreConfig

from ..compile.dram import stream_words
from ..compile.image import Image
from ..compile.listing import LayerCode
from ..errors import SpikeTicketError

Places = list[tuple[np.ndarray, int]]
"""Of every engine the words that hold a layer's rows, and the first one of them."""


@dataclass
class Weights:
    """Weight words of a network, and how far its streams have come.

    memories: uint32 [n] of each pair of engines. streams: of each engine, without checks; none if
    no weights stream. behind: words of each engine's stream that the layers so far have used.
    """

    config: CoreConfig
    memories: Sequence[np.ndarray]
    streams: Sequence[np.ndarray] = ()
    behind: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, image: Image) -> Weights:
        """Before the first layer."""
        return cls(image.config, image.weights, [stream_words(words) for words in image.streams])

    def of_layer(self, code: LayerCode) -> Places:
        """Where the layer's rows are.

        Raises SpikeTicketError for a layer that does not begin where the streams are.
        """
        if code.header["stream_begin"]:
            self.behind = [0] * self.config.engines
        if not code.header["streamed"]:
            return [(self.memories[engine // 2], place["start"])
                    for engine, place in enumerate(code.engines)]
        starts = [place["start"] for place in code.engines]
        if starts != [behind % self.config.weight_stride for behind in self.behind]:
            raise SpikeTicketError(f"a layer's weights begin at words {starts} of the streams, the "
                                   f"layers before have used {self.behind}; run from the first one")
        return list(zip(self.streams, self.behind, strict=True))

    def used(self, code: LayerCode, ends: Sequence[int]) -> None:
        """A layer is done; ends: bits of the words of `of_layer` up to the end of its rows."""
        if code.header["streamed"]:
            self.behind = [-(-end // 32) for end in ends]
