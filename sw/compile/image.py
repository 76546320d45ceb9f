"""The network image: everything a driver sends to a board, and where to read its answers.

An image is made by `sw.compile.compiler.compile_network` for one `CoreConfig`, kept in files by
`sw.compile.image_file`; `sw.compile.coding` has the inputs' and the answers' words.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hw import registers
from hw.config import TIMESTEPS_PER_GROUP, CoreConfig

from .fit import Memory
from .image_gate import GateInfo


@dataclass(frozen=True)
class MapLayout:
    """Where and how one map lies in the map memory.

    name: map of the network ("input" or a layer); a map needed in two arrangements has two
        layouts, the second one filled by a copy layer (or by the host, for the input).
    channels, height, width: what is stored; rows and columns that no consumer reads may be left
        out of height and width.
    factor: the map is stored as factor x factor phases (strided consumers).
    pitch: positions from one row of a phase to the next, a power of two.
    channel_words: words of a channel of a phase. base: first word.
    planes: words of a position (1 for spikes). copies: groups of timesteps stored; group g is
        stored in copy copy_of_group[g]. bits_a_mask: 1: plane p holds bit p of the values, a mask
        its timesteps; 4: of a static input, plane p holds bits 4p to 4p + 3 in the places of a
        mask, whatever the timestep.
    onto: of a residual sum that is kept as bit-planes, the maps that come before this one: the
        words hold the sum of all these and this one, in `planes` planes of shifts 0, 1, 2 ...
    spare: planes behind these into which the sum will grow.
    born, dies: first and last step of the program (layer index, -1 is before the first) during
        which the words hold the map.
    """

    name: str
    channels: int
    height: int
    width: int
    factor: int
    pitch: int
    channel_words: int
    window: int
    planes: int = 1
    copies: int = 1
    copy_of_group: tuple[int, ...] = (0,)
    base: int = 0
    born: int = -1
    dies: int = -1
    bits_a_mask: int = 1
    onto: tuple[str, ...] = ()
    spare: int = 0

    @property
    def phase_height(self) -> int:
        return -(-self.height // self.factor)

    @property
    def phase_width(self) -> int:
        return -(-self.width // self.factor)

    @property
    def phase_words(self) -> int:
        """Words from one phase to the next."""
        return self.channels * self.channel_words

    @property
    def plane_words(self) -> int:
        return self.factor ** 2 * self.phase_words

    @property
    def copy_words(self) -> int:
        """Words from one copy (group of timesteps) to the next."""
        return (self.planes + self.spare) * self.plane_words

    @property
    def words(self) -> int:
        return self.copies * self.copy_words

    def _positions(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Phase, word in the channel and lane of every (y, x): int arrays [H, W]."""
        y, x = np.mgrid[:self.height, :self.width]
        phase = (y % self.factor) * self.factor + x % self.factor
        flat = (y // self.factor) * self.pitch + x // self.factor
        return phase, flat // self.window, flat % self.window

    def lanes(self, masks: np.ndarray) -> np.ndarray:
        """Spike masks uint8 [..., copies, planes, C, H, W] as lanes uint8 [..., words, window]."""
        phase, word, lane = self._positions()
        size = self.height * self.width
        source = np.full((self.factor ** 2, self.channel_words, self.window), size)
        source[phase, word, lane] = np.arange(size).reshape(phase.shape)
        masks = masks.reshape(*masks.shape[:-2], size)
        padded = np.zeros((*masks.shape[:-1], size + 1), np.uint8)
        padded[..., :-1] = masks
        # [..., copies, planes, C, phase, word, lane]
        out = padded.take(source, axis=-1).swapaxes(-4, -3)
        if self.spare:
            places = [(0, 0)] * (out.ndim - 5) + [(0, self.spare)] + [(0, 0)] * 4
            out = np.pad(out, places)
        return out.reshape(*masks.shape[:-4], self.words, self.window)

    def masks(self, lanes: np.ndarray) -> np.ndarray:
        """Inverse of `lanes`; lanes is uint8 [words, window]."""
        stored = lanes.reshape(self.copies, self.planes + self.spare, self.factor ** 2,
                               self.channels, self.channel_words, self.window)[:, :self.planes]
        phase, word, lane = self._positions()
        return stored[:, :, phase, :, word, lane].transpose(2, 3, 4, 0, 1)


@dataclass
class LayerInfo:
    """What the compiler did with one layer of the program.

    name: layer of the network. kind: "synapses", "attention", "gate", "select" (the tokens that a
        gate keeps), or "copy", an extra layer that only rearranges a map.
    weights, surviving: of the network's tensors. stored: weights in the streams (a sum pool that
        could not use phases repeats some; a weight that no output reaches is left out).
    *_bits: the streams' bits by use: `value_bits` of each value, `index_bits` (gaps),
        `header_bits` (channel, bias and threshold of the rows), `padding_bits`.
    entropy_bits: entropy bound in bits per surviving weight of this layer, value included.
    acc_bits: bits that its accumulators need, whatever the input. streamed: its weights come from
        DRAM.
    """

    name: str
    kind: str
    weights: int
    surviving: int
    stored: int
    value_width: int
    rice_k: int
    value_bits: int
    index_bits: int
    header_bits: int
    padding_bits: int
    entropy_bits: float
    taps: int
    planes: int
    strips: int
    groups: int
    pitch: int
    rows_of_engine: list[list[int]]
    acc_bits: int
    streamed: bool = False

    @property
    def copy(self) -> bool:
        """Not a layer of the network."""
        return self.kind == "copy"


@dataclass
class Image:
    """A compiled network.

    program: uint32 [n]. weights: one uint32 array per pair of engines. streams: one per engine, as
        they lie in DRAM (`sw.compile.dram`); none where all weights fit on chip.
    input_shape: (C, H, W) of the input at one timestep.
    inputs: layouts the host fills. maps: layout of every map that can be read back, the input
        included. results: first word of the logits, one word per class.
    memories: use of every memory. layers: one entry per layer of the program, in order.
    keep_all: no layer's map is overwritten, so that all can be read after an inference.
    gate: the patch gate, if there is one.
    """

    name: str
    config: CoreConfig
    timesteps: int
    input_shape: tuple[int, int, int]
    input_bits: int
    static: bool
    classes: int
    program: np.ndarray
    weights: list[np.ndarray]
    inputs: list[MapLayout]
    maps: dict[str, MapLayout]
    results: int
    memories: list[Memory]
    layers: list[LayerInfo]
    keep_all: bool = False
    labels: tuple[str, ...] = ()
    gate: GateInfo | None = None
    streams: list[np.ndarray] = field(default_factory=list)

    @property
    def groups(self) -> int:
        """Groups of 4 timesteps."""
        return -(-self.timesteps // TIMESTEPS_PER_GROUP)

    @property
    def weights_total(self) -> int:
        """Weights of the network, removed ones included (copy layers not counted)."""
        return sum(layer.weights for layer in self.layers if not layer.copy)

    @property
    def surviving(self) -> int:
        """Surviving weights of the network (copy layers not counted)."""
        return sum(layer.surviving for layer in self.layers if not layer.copy)

    @property
    def bits_per_weight(self) -> float:
        """Weight storage (values, indices and padding, all layers) per surviving weight."""
        bits = sum(layer.value_bits + layer.index_bits + layer.padding_bits
                   for layer in self.layers)
        return bits / max(1, self.surviving)

    @property
    def logged(self) -> tuple[LayerInfo, ...]:
        """The layers whose counters a core keeps: the first ones of a long program."""
        return tuple(self.layers[:registers.COUNTER_LAYERS])

    @property
    def entropy_bits_per_weight(self) -> float:
        """Entropy bound H(d)/d + b per surviving weight, over all layers."""
        bits = sum(layer.entropy_bits * layer.surviving for layer in self.layers
                   if not layer.copy)
        return bits / max(1, self.surviving)
