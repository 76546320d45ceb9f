"""The network image: everything a driver sends to a board, and how to read its answers.

An image is made by `sw.compile.compiler.compile_network` for one `CoreConfig`. Map words travel as
bytes, least significant first: lane i of a word (the spike mask of one position) is the low or high
half of byte i // 2. See `docs/core.md` for the formats.
"""

from __future__ import annotations

import io
import json
import os
import typing
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from hw import program, registers
from hw.config import TIMESTEPS_PER_GROUP, CoreConfig

from ..data.arrays import read_npz
from ..errors import SpikeTicketError
from ..integer.gate import check_masks
from ..typed import typed
from .fit import Memory
from .image_check import check_image
from .image_gate import GateInfo
from .listing import read_program

FORMAT = "spiketicket-image-2"


@dataclass
class MapLayout:
    """Where and how one map lies in the map memory.

    name: map of the network ("input" or a layer); a map needed in two arrangements has two
        layouts, the second one filled by a copy layer (or by the host, for the input).
    channels, height, width: what is stored; rows and columns that no consumer reads may be left
        out of height and width.
    factor: the map is stored as factor x factor phases (strided consumers).
    pitch: positions from one row of a phase to the next, a power of two.
    channel_words: words of a channel of a phase. base: first word.
    planes: bit planes (1 for spikes). copies: groups of timesteps stored; group g is stored in
        copy copy_of_group[g].
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
        return self.planes * self.plane_words

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
        """Spike masks uint8 [copies, planes, C, H, W] as lanes uint8 [words, window]."""
        out = np.zeros((self.copies, self.planes, self.factor ** 2, self.channels,
                        self.channel_words, self.window), np.uint8)
        phase, word, lane = self._positions()
        # the advanced indices lead: [H, W, copies, planes, C]
        out[:, :, phase, :, word, lane] = masks.transpose(3, 4, 0, 1, 2)
        return out.reshape(self.words, self.window)

    def masks(self, lanes: np.ndarray) -> np.ndarray:
        """Inverse of `lanes`; lanes is uint8 [words, window]."""
        stored = lanes.reshape(self.copies, self.planes, self.factor ** 2, self.channels,
                               self.channel_words, self.window)
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

    @property
    def copy(self) -> bool:
        """Not a layer of the network."""
        return self.kind == "copy"


@dataclass
class Image:
    """A compiled network.

    program: uint32 [n]. weights: one uint32 array per pair of engines.
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

    def save(self, path: str | os.PathLike) -> None:
        """Write one .npz file (JSON and integer arrays, no pickle), atomically."""
        meta = asdict(self)
        for name in ("program", "weights"):
            del meta[name]
        arrays = {f"weights{n}": words for n, words in enumerate(self.weights)}
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer, format=np.array(FORMAT), program=self.program,
            meta=np.frombuffer(json.dumps(meta).encode(), np.uint8), **arrays)
        path = Path(path)
        part = path.with_name(path.name + f".{os.getpid()}.tmp")
        part.write_bytes(buffer.getvalue())
        os.replace(part, path)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Image:
        """Read an image. Raises SpikeTicketError naming the file and the reason."""
        path = Path(path)
        arrays = read_npz(path)
        try:
            if (form := str(arrays.pop("format"))) != FORMAT:
                raise ValueError(f"format {form!r} is unknown")
            meta = json.loads(arrays.pop("meta").tobytes())
            hints = typing.get_type_hints(cls)
            if set(meta) != set(hints) - {"program", "weights"}:
                raise ValueError(f"it holds {', '.join(sorted(meta))}")
            image = cls(program=_words(arrays, "program"),
                        weights=[_words(arrays, f"weights{n}") for n in range(len(arrays))],
                        **{key: typed(value, hints[key], key) for key, value in meta.items()})
            check_image(image)
            return image
        except (ValueError, KeyError, TypeError, RecursionError, SpikeTicketError) as error:
            raise SpikeTicketError(f"{path}: not a network image ({error}); compile the ticket "
                                   "again") from error


def _words(arrays: dict[str, np.ndarray], name: str) -> np.ndarray:
    array = arrays.pop(name)
    if array.dtype != np.uint32 or array.ndim != 1:
        raise ValueError(f"{name} is {array.dtype} {list(array.shape)}, not uint32 [n]")
    return array


def lanes_to_words(lanes: np.ndarray) -> np.ndarray:
    """Lanes uint8 [n, window] (4-bit masks) as map words, bytes uint8 [n, window / 2]."""
    return lanes[:, 0::2] | lanes[:, 1::2] << 4


def words_to_lanes(words: np.ndarray) -> np.ndarray:
    """Inverse of `lanes_to_words`."""
    lanes = np.empty((words.shape[0], 2 * words.shape[1]), np.uint8)
    lanes[:, 0::2] = words & 15
    lanes[:, 1::2] = words >> 4
    return lanes


def gate_input(image: Image, array: np.ndarray,
               mask: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray | None]:
    """One image as `encode_input` takes it, and what `hw.registers.Space.GATE` must hold then.

    array: uint8 [C, H, W] for a static input, else [T, C, H, W]; a gate of mode "input" zeroes the
    patches that it leaves out. mask: tokens to keep, bool [N], for a gate of mode "host". The
    words, uint32 [n], are None where the core needs none. Raises SpikeTicketError.
    """
    _check_input(image, array)
    if image.gate is None:
        check_masks({}, mask, 1)
        return array, None
    masks = image.gate.check_masks(None if mask is None else np.asarray(mask)[None], 1)
    return image.gate.apply(array, None if masks is None else masks[0], image.static)


def encode_input(image: Image, array: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """One image as map words to write: [(first address, bytes uint8 [n, window / 2])].

    array: uint8 [C, H, W] for a static input, else [T, C, H, W]; with a patch gate, as `gate_input`
    gives it.
    """
    _check_input(image, array)
    bits = (array >> np.arange(image.input_bits, dtype=np.uint8).reshape(-1, *[1] * array.ndim)) & 1
    full = image.inputs[0]
    masks = np.zeros((full.copies, full.planes, *image.input_shape), np.uint8)
    for group, copy in enumerate(full.copy_of_group):
        steps = range(group * TIMESTEPS_PER_GROUP,
                      min((group + 1) * TIMESTEPS_PER_GROUP, image.timesteps))
        masks[copy] = 0
        for t in steps:
            masks[copy] |= (bits if image.static else bits[:, t]) << (t % TIMESTEPS_PER_GROUP)
    return [(layout.base, lanes_to_words(
        layout.lanes(masks[..., :layout.height, :layout.width]))) for layout in image.inputs]


def _check_input(image: Image, array: np.ndarray) -> None:
    shape = image.input_shape if image.static else (image.timesteps, *image.input_shape)
    if array.dtype != np.uint8 or array.shape != shape:
        raise SpikeTicketError(f"input is {array.dtype} {list(array.shape)}; network "
                               f"{image.name!r} takes uint8 {list(shape)}")
    if array.size and int(array.max()) >> image.input_bits:
        raise SpikeTicketError(f"input value {array.max()} needs more than {image.input_bits} bits")


def decode_map(image: Image, words: np.ndarray, name: str) -> np.ndarray:
    """Read a map back: uint8 [T, C, H, W] (values for the input, spikes for the rest).

    words: the whole map memory, bytes uint8 [map_words, window / 2]. H and W are those stored
    (`image.maps[name]`); rows and columns that no consumer reads may be absent.
    """
    layout = image.maps[name]
    masks = layout.masks(words_to_lanes(words[layout.base:layout.base + layout.words]))
    result = np.zeros((image.timesteps, *masks.shape[2:]), np.uint8)
    for t in range(image.timesteps):
        group, step = divmod(t, TIMESTEPS_PER_GROUP)
        planes = masks[layout.copy_of_group[group]] >> step & 1
        for bit in range(layout.planes):
            result[t] |= planes[bit] << bit
    return result


def program_through(image: Image, layer: int) -> np.ndarray:
    """The program, stopping after this layer (index in `image.layers`); uint32 [n].

    For reading a map that later layers overwrite: run this instead, then `decode_map`.
    """
    words = image.program.copy()
    code = read_program(words, image.config)[layer]
    fields = program.HEADER[0]
    words[code.address] = program.pack(
        fields, program.unpack(fields, int(words[code.address])) | {"last_layer": 1})
    return words


def decode_logits(image: Image, words: np.ndarray) -> np.ndarray:
    """Logits int64 [classes] from the map memory, bytes uint8 [map_words, window / 2]."""
    rows = words[image.results:image.results + image.classes]
    return read_logits(rows)


def read_logits(rows: Sequence | np.ndarray) -> np.ndarray:
    """Logits int64 [classes] from the result words alone, bytes uint8 [classes, window / 2]."""
    rows = np.ascontiguousarray(np.asarray(rows, np.uint8)[:, :4])
    return rows.view("<i4")[:, 0].astype(np.int64)
