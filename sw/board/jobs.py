"""What a board is asked to do: requests that load a network, write an input, run and read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from hw import registers
from hw.registers import Space

from ..compile.coding import encode_input, gate_input
from ..compile.image import Image
from ..compile.listing import read_program
from .packing import FORMS, writes_of_each
from .protocol import FrameSizes, Read, Request, Run, Write

MOST_CYCLES = (1 << 32) - 1
"""That a request's limit can say."""

PORTION = 32
"""Inputs that are encoded together: in far less time than one by one, and soon enough that the
first need not wait for all."""

FRAMES = FrameSizes()
"""Of a transport that carries any frame."""


def memories(image: Image) -> list[tuple[Space, int, np.ndarray]]:
    """(space, address, words) of everything that is loaded once, in parts that one digest can
    check."""
    parts = [(Space.PROGRAM, 0, image.program)]
    for pair, words in enumerate(image.weights):
        parts.append((Space.WEIGHT, pair * image.config.weight_stride, words))
    for engine, words in enumerate(image.streams):
        parts.append((Space.DRAM, engine * image.config.stream_stride, words))
    if image.gate is not None:
        parts.append((Space.GATE, 0, np.array(image.gate.mask, np.uint32)))
    return [(space, address + start, words[start:start + count])
            for space, address, words in parts
            for start, count in chunks(0, len(words), registers.MAX_DIGEST)]


def load_words(image: Image) -> int:
    """Words that `Accelerator.load` sends."""
    return sum(len(words) for *_, words in memories(image))


def load_job(image: Image, frames: FrameSizes = FRAMES) -> list[Request]:
    """Requests that write everything that is loaded once."""
    return [Request(Write(space, address + start, words[start:start + count]))
            for space, address, words in memories(image)
            for start, count in chunks(0, len(words), frames.load)]


def input_jobs(image: Image, arrays: np.ndarray, masks: np.ndarray | None,
               forms: tuple[str, ...] = FORMS,
               frames: FrameSizes = FRAMES) -> Iterator[list[Request]]:
    """For each input the requests that write it, and first the mask of a gate that has one for
    each; made PORTION by PORTION.

    arrays: uint8 [B, C, H, W] for a static input, else [B, T, C, H, W]. masks: tokens to keep, bool
    [B, N]. forms: that an input may take, see `sw.board.packing`; the shortest is sent. frames: of
    the transport.
    """
    lanes = registers.map_lanes(image.config)
    for start in range(0, len(arrays), PORTION):
        part = arrays[start:start + PORTION]
        jobs: list[list[Request]] = [[] for _ in part]
        if image.gate is not None:
            chosen = [gate_input(image, array, None if masks is None else masks[start + i])
                      for i, array in enumerate(part)]
            part = np.stack([array for array, _ in chosen])
            for job, (_, words) in zip(jobs, chosen, strict=True):
                if words is not None and not image.gate.mask:
                    job.append(Request(Write(Space.GATE, 0, words)))
        for address, data in encode_input(image, part):
            words = np.ascontiguousarray(data).reshape(len(part), -1).view("<u4")
            for job, found in zip(jobs, writes_of_each(
                    Space.MAP, address * lanes, words, size=frames.input, forms=forms),
                    strict=True):
                job += map(Request, found)
        yield from jobs


def inference_jobs(image: Image, arrays: np.ndarray, masks: np.ndarray | None, limit: int,
                   counters: bool, forms: tuple[str, ...] = FORMS,
                   frames: FrameSizes = FRAMES) -> Iterator[list[Request]]:
    """For each input the requests that write it, run it (for `limit` cycles at most) and read the
    logits, at the end the counters; otherwise as `input_jobs`."""
    lanes = registers.map_lanes(image.config)
    run, read = Run(max_cycles=limit), Read(Space.MAP, image.results * lanes, image.classes,
                                            stride=lanes)
    log = Read(Space.COUNTER, 0, registers.COUNTER_WORDS * len(image.logged))
    for job in input_jobs(image, arrays, masks, forms, frames):
        job[-1] = Request(job[-1].write, run, read)
        yield [*job, Request(read=log)] if counters else job


def cycle_limit(image: Image) -> int:
    """Cycles that no inference of this network can exceed: every weight one by one, all active; or
    the most that a request can ask for, 43 s at 100 MHz. A run that is longer than that is stopped
    and told of (TIMEOUT)."""
    config = image.config
    words = max(layout.channel_words for layout in [*image.maps.values(), *image.inputs])
    work = 0
    for layer, code in zip(image.layers, read_program(image.program, config), strict=True):
        rows = sum(map(len, layer.rows_of_engine))
        # In attention every timestep has a weight of its own for each channel of the head.
        weights = layer.stored + rows * 4 * code.header["head_width"] * code.header["attention"]
        work += weights * max(1, layer.planes) * layer.groups * layer.strips
    return min(1_000_000 + 20 * work * words * config.subs, MOST_CYCLES)


def chunks(start: int, total: int, size: int) -> Iterator[tuple[int, int]]:
    """(start, count) of parts of at most `size`."""
    for offset in range(0, total, size):
        yield start + offset, min(size, total - offset)


def line_bytes(job: Sequence[Request]) -> tuple[int, int]:
    """Bytes of a job on the line, each way (its stuffing counted, the reply's at its longest)."""
    sent = sum(len(request.encode(1)) for request in job)
    words = sum(len(registers.REPLY) + request.reply_words + 1 for request in job)
    return sent, 4 * words + words * 4 // 254 + 2 * len(job)
