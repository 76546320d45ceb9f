"""A bit-exact software model of the core: executes a program as docs/core.md says.

It knows formats, not networks: program words, weight streams, map words and the patch gate's mask
go in, map words come out, in the order in which each engine writes them. Compiler tests compare it
with the reference; RTL tests compare the core with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from hw.config import CoreConfig

from ..compile.coding import (
    decode_logits,
    decode_map,
    encode_input,
    gate_input,
    lanes_to_words,
    own_spikes,
    words_to_lanes,
)
from ..compile.image import Image
from ..compile.listing import LayerCode, read_program
from .machine_kernel import COUNTERS, HEADER, PROBLEMS, TAP, run_engine
from .weights import Places, Weights


@dataclass
class LayerTrace:
    """What one layer did.

    writes: per engine (addresses int64 [n], lanes uint8 [n, window]) in order.
    counters: per engine, by the names in COUNTERS. unit_updates: int64 [engines, units]. ends: of
    its rows, for `Weights.used`.
    """

    writes: list[tuple[np.ndarray, np.ndarray]]
    counters: list[dict[str, int]]
    unit_updates: np.ndarray
    ends: list[int] = field(default_factory=list)


@dataclass
class GateState:
    """What the patch gate holds from layer to layer, by flat position below `config.gate_tokens`.

    scores: int64. mask: bool, kept positions. tokens: int64, the list; its first `kept` count.
    """

    scores: np.ndarray
    mask: np.ndarray
    tokens: np.ndarray
    kept: int = 0

    @classmethod
    def begin(cls, config: CoreConfig, words: np.ndarray | None = None) -> GateState:
        """Before the first layer; words: of the mask, uint32, as the host writes them."""
        size = config.gate_tokens
        mask = np.zeros(size, bool)
        if words is not None:
            bits = np.unpackbits(np.asarray(words, "<u4").view(np.uint8), bitorder="little")
            mask[:bits.size] = bits
        return cls(np.zeros(size, np.int64), mask, np.zeros(size, np.int64))

    def enter(self, header: dict[str, int]) -> None:
        """What a layer does to it before anything else: clear the scores, choose the tokens."""
        if header["score_clear"]:
            self.scores[:] = 0
        if header["gate"]:
            self._choose(header)

    def _choose(self, header: dict[str, int]) -> None:
        """Fill the list from the mask, or list and mask from the scores."""
        places = np.arange(len(self.mask))
        inside = ((places & header["pitch_mask"]) < header["row_valid"]) & (
            places < header["positions"])
        if header["gate_host"]:
            self.mask &= inside
        else:
            scores = np.where(inside, self.scores & ((1 << header["strip_words"]) - 1), -1)
            order = np.argsort(-scores, kind="stable")[:header["out_pitch"]]
            self.mask[:] = False
            self.mask[order[inside[order]]] = True
        listed = np.flatnonzero(self.mask)
        self.kept = len(listed)
        self.tokens[:self.kept] = listed


@dataclass
class Result:
    """Result of a run.

    memory: map memory after the run, bytes uint8 [map_words, window / 2].
    maps: map name -> spikes uint8 [T, C, H, W], read as soon as its layer was done (`run` only).
    gate: the patch gate after the run.
    """

    memory: np.ndarray
    layers: list[LayerTrace] = field(default_factory=list)
    maps: dict[str, np.ndarray] = field(default_factory=dict)
    gate: GateState | None = None

    def total(self, counter: str) -> int:
        return sum(engine[counter] for layer in self.layers for engine in layer.counters)


def run(image: Image, array: np.ndarray, memory: np.ndarray | None = None,
        mask: np.ndarray | None = None) -> Result:
    """Load one input (see `sw.compile.coding.encode_input`) and run the image's program.

    memory: initial map memory, bytes uint8 [map_words, window / 2]; None: random words, so that
    anything read without having been written shows. mask: tokens to keep, bool [N], for a gate
    that takes them from the host.
    """
    config = image.config
    shape = (config.map_words, config.window // 2)
    if memory is None:
        memory = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    memory = memory.copy()
    array, mask_words = gate_input(image, array, mask)
    for address, words in encode_input(image, array):
        memory[address:address + len(words)] = words

    result = Result(memory)

    def read_maps(layer: int, lanes: np.ndarray) -> None:
        born = [name for name, layout in image.maps.items() if layout.born == layer]
        for name in born:
            values = decode_map(image, lanes_to_words(lanes), name)
            result.maps[name] = own_spikes(image.maps[name], values, result.maps)

    read_maps(-1, words_to_lanes(memory))
    gate = GateState.begin(config, mask_words)
    done = execute(image.program, Weights.of(image), memory, config, read_maps, gate)
    result.memory, result.layers, result.gate = done.memory, done.layers, done.gate
    return result


def logits(image: Image, result: Result) -> np.ndarray:
    """Logits int64 [classes] after a run."""
    return decode_logits(image, result.memory)


def execute(program_words: np.ndarray, weights: Weights, memory: np.ndarray,
            config: CoreConfig,
            after: Callable[[int, np.ndarray], None] | None = None,
            gate: GateState | None = None) -> Result:
    """Run a program on the map memory (bytes uint8 [map_words, window / 2]).

    after: called with the layer's index and the lanes after every layer. gate: changed in place.
    """
    lanes = words_to_lanes(memory)
    gate = gate or GateState.begin(config)
    result = Result(memory, gate=gate)
    for index, code in enumerate(read_program(program_words, config)):
        result.layers.append(run_layer(code, weights.of_layer(code), lanes, config, gate))
        weights.used(code, result.layers[-1].ends)
        if after is not None:
            after(index, lanes)
    result.memory = lanes_to_words(lanes)
    return result


def run_layer(code: LayerCode, places: Places, lanes: np.ndarray,
              config: CoreConfig, gate: GateState | None = None) -> LayerTrace:
    """Run one layer on lanes uint8 [map_words, window] and the patch gate, in place.

    places: of its weights, see `Weights.of_layer`.
    """
    gate = gate or GateState.begin(config)
    gate.enter(code.header)
    header = np.array([code.header[name] for name in HEADER], np.int64)
    # a mask of 64 lanes is meant as bits, not as a number
    taps = np.array([[tap[name] - (1 << 64 if tap[name] >> 63 == 1 else 0) for name in TAP]
                     for tap in code.taps], np.int64)
    planes = np.array([[p["offset"], p["shift"]] for p in code.planes], np.int64).reshape(-1, 2)
    trace = LayerTrace([], [], np.zeros((config.engines, config.units), np.int64))
    for engine, place in enumerate(code.engines):
        capacity = max(1, place["rows"] * _words_per_row(code, config))
        addresses = np.zeros(capacity, np.int64)
        written = np.zeros((capacity, config.window), np.uint8)
        counters = np.zeros(len(COUNTERS), np.int64)
        problem, end = run_engine(
            lanes, *places[engine], place["rows"], header, taps, planes, config.units,
            config.window, config.tile_words, addresses, written, counters,
            trace.unit_updates[engine], gate.scores, gate.tokens)
        trace.ends.append(end)
        if problem:
            raise RuntimeError(f"engine {engine}: {PROBLEMS[problem]}")
        count = counters[COUNTERS.index("writes")]
        trace.writes.append((addresses[:count], written[:count]))
        trace.counters.append(dict(zip(COUNTERS, counters.tolist(), strict=True)))
    planes = summed_planes(code.header)
    for (addresses, written), counted in zip(trace.writes, trace.counters, strict=True):
        # Outputs never overlap a layer's sources.
        if addresses.max(initial=0) + (max(1, planes) - 1) * code.header["key"] >= len(lanes):
            raise RuntimeError("a word is written outside the map memory")
        if planes:
            _add_up(code.header, planes, addresses, written, lanes)
            counted["writes"] *= planes
        else:
            lanes[addresses] = written
    return trace


def summed_planes(header: Mapping[str, int]) -> int:
    """Bit-planes of the residual sum that a layer adds its spikes to, 0 if it does not."""
    return 0 if header["attention"] else header["head_width"]


def _add_up(header: Mapping[str, int], planes: int, addresses: np.ndarray, carry: np.ndarray,
            lanes: np.ndarray) -> None:
    """Add the words uint8 [n, window] of a layer to the sum whose plane 0 is at `addresses`."""
    for plane in range(planes):
        at = addresses + plane * header["key"]
        new = header["key_words"] and plane == planes - 1
        held = np.zeros_like(carry) if new else lanes[at]
        lanes[at], carry = held ^ carry, held & carry


def _words_per_row(code: LayerCode, config: CoreConfig) -> int:
    h = code.header
    rows = max(h["count_oy"], h["count_oy_last"]) * h["count_px"] * h["count_py"]
    return 1 + h["n_strips"] * h["n_groups"] * (
        rows * (max(h["out_pitch"], 2 * h["count_ox"]) // config.window + 2))
