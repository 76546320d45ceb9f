"""Driver of a board: load a compiled network, run inputs, read spikes and counters back.

    with Accelerator(SimTransport()) as board:
        board.load(compile_network(network, board.config))
        result = board.infer(images)          # uint8 [B, C, H, W]
        print(result.logits.argmax(1), result.cycles)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from hw import registers
from hw.config import CoreConfig
from hw.registers import Register, Space

from .compile.listing import read_program
from .errors import SpikeTicketError
from .gate import check_masks
from .image import Image, decode_map, read_logits
from .jobs import chunks, cycle_limit, inference_job, input_job, line_bytes, load_job, memories
from .protocol import Read, Request, Run, digest
from .session import Session, Statistics
from .transport import Transport

Progress = Callable[[int], object]


@dataclass
class Inference:
    """Results of `Accelerator.infer`.

    logits: int64 [B, classes]. cycles: int64 [B], of the run as the link counts them.
    counters: int64 [B, layers of the program, len(registers.COUNTERS)], or None.
    request_bytes, reply_bytes: on the line for the first image, without repetitions and counters.
    """

    logits: np.ndarray
    cycles: np.ndarray
    counters: np.ndarray | None
    request_bytes: int
    reply_bytes: int

    @property
    def labels(self) -> np.ndarray:
        """Predicted class of every image, ties to the lower index; int64 [B]."""
        return self.logits.argmax(1)


@dataclass
class Identity:
    """What a board says about itself."""

    protocol: int
    id: int
    clock_hz: int
    frames: int
    bad_frames: int
    overruns: int


class Accelerator:
    """A board that runs compiled networks.

    transport: how to reach it; closed with the accelerator.
    manifest: what the board should be (`hw.registers.manifest`) or its configuration. The board's
        identity must match it.

    Every method raises SpikeTicketError, in words for the user, when the board does not answer or
    is not what it should be; a result is only ever returned if it arrived whole and belongs to its
    request.
    """

    def __init__(self, transport: Transport, manifest: Mapping | CoreConfig):
        try:
            self.config = (manifest if isinstance(manifest, CoreConfig)
                           else registers.manifest_config(manifest))
        except ValueError as error:
            raise SpikeTicketError(str(error)) from None
        self.transport = transport
        self.image: Image | None = None
        self._limit = 0
        self._maps_since = -1
        self._session = Session(transport, self.config.clock_hz)
        self._session.on_reset = self._restore

    def __enter__(self) -> Accelerator:
        try:
            self.transport.reset()
            self.identify()
        except BaseException:
            self.transport.close()
            raise
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the board."""
        self.transport.close()

    @property
    def statistics(self) -> Statistics:
        """Bytes, jobs and recoveries since the accelerator was made."""
        return self._session.statistics

    def identify(self) -> Identity:
        """Ask the board what it is. Raises SpikeTicketError if it is not what was expected."""
        got = self._session.ask(Request(read=Read(Space.REGISTER, 0, len(Register)))).words
        name = self.transport.name
        if got[Register.MAGIC] != registers.MAGIC:
            raise SpikeTicketError(f"{name}: not a SpikeTicket board (it says "
                                   f"{int(got[Register.MAGIC]):08x}); program its bitstream first")
        identity = int(got[Register.ID_LOW]) | int(got[Register.ID_HIGH]) << 32
        expected = registers.identity(self.config)
        if identity != expected:
            raise SpikeTicketError(
                f"{name}: the board's identity is {identity:016x}, the manifest's {expected:016x}; "
                "program the bitstream that belongs to the manifest")
        return Identity(int(got[Register.PROTOCOL]), identity, int(got[Register.CLOCK_HZ]),
                        *(int(got[r]) for r in (Register.FRAMES, Register.BAD_FRAMES,
                                                Register.OVERRUNS)))

    def load(self, image: Image, progress: Progress | None = None) -> int:
        """Send a compiled network and check that the board holds it; returns the bytes it took.

        progress: called with the number of words after each frame; `load_words` is the total.
        """
        if image.config != self.config:
            raise SpikeTicketError(f"network {image.name!r} was compiled for another core; compile "
                                   "it for the board's configuration")
        self.image = None
        before = self.statistics.bytes_sent
        self._write_image(image, progress)
        self.image = image
        self._limit = cycle_limit(image)
        return self.statistics.bytes_sent - before

    def verify(self) -> bool:
        """Whether the board holds what was loaded (it computes CRCs of its memories)."""
        return self._holds(self._loaded())

    def infer(self, batch: np.ndarray, masks: np.ndarray | None = None, *, counters: bool = False,
              progress: Progress | None = None) -> Inference:
        """Run a batch: uint8 [B, C, H, W], or [B, T, C, H, W] if the network's input is not static.

        masks: tokens to keep, bool [B, N], for a patch gate of mode "host".
        counters: also read the core's counters after every image.
        progress: called with 1 after every image.
        """
        image = self._loaded()
        masks = (image.gate.check_masks(masks, len(batch)) if image.gate is not None
                 else check_masks({}, masks, len(batch)))
        each = [None] * len(batch) if masks is None else masks
        jobs = [inference_job(image, array, mask, self._limit, counters)
                for array, mask in zip(batch, each, strict=True)]
        replies = self._session.exchange(jobs, progress)
        self._maps_since = self._session.epoch
        logits = np.zeros((len(jobs), image.classes), np.int64)
        cycles = np.zeros(len(jobs), np.int64)
        log = np.zeros((len(jobs), len(image.layers), len(registers.COUNTERS)), np.int64)
        for i, answers in enumerate(replies):
            run = answers[-2 if counters else -1]
            logits[i] = read_logits(run.words.astype("<u4").view(np.uint8).reshape(-1, 4))
            cycles[i] = run.cycles
            if counters:
                log[i] = answers[-1].words.reshape(-1, registers.COUNTER_WORDS)[
                    :, :len(registers.COUNTERS)]
        sent, received = line_bytes(jobs[0][:-1] if counters else jobs[0]) if jobs else (0, 0)
        return Inference(logits, cycles, log if counters else None, sent, received)

    def trace(self, array: np.ndarray,
              mask: np.ndarray | None = None) -> Iterator[tuple[str, np.ndarray]]:
        """Run one input, with the mask of its tokens if it needs one, layer by layer and read every
        map as it is made.

        Yields (map name, uint8 [T, C, H, W]) with the rows and columns that are stored (see
        `Image.maps`), the input first, which holds its values.
        """
        image = self._loaded()
        self._session.exchange([input_job(image, array, mask)])
        self._maps_since = self._session.epoch
        layers = read_program(image.program, self.config)
        for step in range(-1, len(layers)):
            if step >= 0:
                run = Run(layers[step].address, stop_after=1, max_cycles=self._limit)
                self._session.ask(Request(run=run))
            for name, layout in image.maps.items():
                if layout.born == step:
                    yield name, self._read_map(name)

    def read_map(self, name: str) -> np.ndarray:
        """A map as it is in the board's memory now: uint8 [T, C, H, W].

        After `infer` a map is still there unless a later one uses its words (`Image.keep_all`).
        """
        image = self._loaded()
        if name not in image.maps:
            raise SpikeTicketError(f"network {image.name!r} has no map {name!r}; it has "
                                   f"{', '.join(image.maps)}")
        return self._read_map(name)

    def kept(self) -> np.ndarray:
        """Tokens that the patch gate kept in the last run: bool [N]."""
        image = self._loaded()
        if image.gate is None:
            raise SpikeTicketError(f"network {image.name!r} has no patch gate")
        words = self._session.ask(Request(read=Read(Space.GATE, 0, image.gate.mask_words))).words
        self._check_epoch()
        return image.gate.kept(words)

    def _loaded(self) -> Image:
        if self.image is None:
            raise SpikeTicketError("no network is loaded; call load() first")
        return self.image

    def _read_map(self, name: str) -> np.ndarray:
        image = self._loaded()
        layout, lanes = image.maps[name], registers.map_lanes(self.config)
        jobs = [[Request(read=Read(Space.MAP, start, count))] for start, count in chunks(
            layout.base * lanes, layout.words * lanes, registers.MAX_READ)]
        words = np.concatenate([reply.words for [reply] in self._session.exchange(jobs)])
        self._check_epoch()
        memory = np.zeros((self.config.map_words, self.config.map_bits // 8), np.uint8)
        memory[layout.base:layout.base + layout.words] = (
            words.astype("<u4").view(np.uint8).reshape(layout.words, -1))
        return decode_map(image, memory, name)

    def _check_epoch(self) -> None:
        if self._session.epoch != self._maps_since:
            raise SpikeTicketError(f"{self.transport.name}: the board was reset and lost its maps; "
                                   "run the input again")

    def _write_image(self, image: Image, progress: Progress | None) -> None:
        jobs = [[request] for request in load_job(image)]
        sizes = iter([len(job[0].write.words) for job in jobs])
        epoch = None
        while epoch != self._session.epoch:  # again if the board was reset meanwhile
            epoch = self._session.epoch
            self._session.exchange(jobs, lambda _: progress and progress(next(sizes, 0)))
            if self._holds(image):
                return
        raise SpikeTicketError(f"{self.transport.name}: the board's memory does not hold what was "
                               "sent; load again, and suspect the board if that fails too")

    def _holds(self, image: Image) -> bool:
        parts = memories(image)
        jobs = [[Request(read=Read(space, address, len(words), digest=True))]
                for space, address, words in parts]
        replies = self._session.exchange(jobs)
        return all(int(reply.words[0]) == digest(words)
                   for [reply], (*_, words) in zip(replies, parts, strict=True))

    def _restore(self) -> None:
        """The board was reset: load again."""
        if self.image is not None:
            self._write_image(self.image, None)
