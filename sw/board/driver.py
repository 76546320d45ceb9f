"""Driver of a board: load a ticket, run inputs, read spikes and counters back.

    from sw import Accelerator

    with Accelerator.open("sim") as board:               # or "auto", or "/dev/ttyUSB1"
        board.load("fmnist-scnn")
        result = board.infer(images)                     # uint8 [B, C, H, W]
        print(result.labels, result.cycles, board.counters()["conv2"].starved)
        for one in board.stream(camera):                 # the next is sent while this one runs
            print(one.labels[0])
"""

from __future__ import annotations

import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from hw import registers
from hw.config import CoreConfig

from ..compile.coding import own_spikes
from ..compile.image import Image
from ..compile.listing import read_program
from ..errors import BadInput
from ..integer.gate import check_masks
from . import ddr3, identities, memory_test, rates, readback
from .background import Background
from .batches import Framing, Loadable, as_batch, as_input, compiled
from .inference import Identity, Inference, LayerCounters, inference
from .jobs import cycle_limit, inference_jobs, input_jobs, line_bytes
from .opening import transport_for
from .protocol import Reply, Request, Run
from .session import Job, Session, Statistics
from .transport import Transport

__all__ = ["Accelerator", "Identity", "Inference", "LayerCounters", "Statistics"]

Progress = Callable[[int], object]


@dataclass(frozen=True, eq=False)
class _Held:
    """A network on the board. framing: of its events. limit: cycles of a run at most."""

    image: Image
    framing: Framing

    @cached_property
    def limit(self) -> int:
        return cycle_limit(self.image)


class Accelerator:
    """A board that runs compiled networks; `open` finds one, the constructor takes its line.

    transport: how to reach it; closed with the accelerator.
    manifest: what the board should be: a build's manifest (values or file) or its configuration.
        The board's identity must match it. None: whatever the board says it is, if this version
        knows it (`sw.board.identities`).

    Every method raises SpikeTicketError, in words for the user, when the board does not answer or
    is not what it should be; a result is only ever returned if it arrived whole and belongs to its
    request. Methods may be called from several threads; each has the board for itself until it
    returns, in the order in which they were called, and after what was submitted before. A batch
    is run on the network that was loaded when it was given, or refused.

    Where another program has sent requests to the board since, the method that notices raises
    SpikeTicketError; the next one first loads the network again.
    """

    def __init__(self, transport: Transport,
                 manifest: Mapping | CoreConfig | str | Path | None = None):
        try:
            if isinstance(manifest, str | Path):
                manifest = identities.read_manifest(manifest).config
            self._config = (manifest if manifest is None or isinstance(manifest, CoreConfig)
                            else registers.manifest_config(manifest))
        except ValueError as error:
            raise BadInput(str(error)) from None
        self.transport = transport
        self.trials: list[rates.Trial] = []
        self._held: _Held | None = None
        self._maps_since = -1  # session.resets when the board's maps were made
        self._connected = False
        self._dram_passed: bool | None = None
        self._session = Session(transport)
        if self._config is not None:
            self._session.clock_hz = self._config.clock_hz
        # Neither may keep this object alive: what nobody has any more gives its port back.
        restore = weakref.WeakMethod(self._restore)
        self._session.on_reset = lambda: (put_back := restore()) and put_back()
        self._background = Background(self._session)
        self._dropped = weakref.finalize(self, _give_back, self._background, transport)
        self._dropped.atexit = False

    @classmethod
    def open(cls, where: str = "auto", *, manifest: Mapping | CoreConfig | str | Path | None = None,
             max_baud: int | None = None, progress: bool = False,
             test_memory: bool = False) -> Accelerator:
        """Connect to a board and raise its line's rate as far as it goes.

        where: "sim" or "sim:PRESET", the simulated board; "auto", the one board that answers on
            this computer's serial ports; a board of `hw.boards`, on whichever port it answers; a
            port or pyserial URL; "udp://HOST[:PORT][?take]", a board on the network (`udp`);
            "replay:FILE", a recording (`sw.replay`).
        max_baud: highest rate to try; None: what the USB bridge takes. The board's first rate, or
            less, leaves it as it is.
        progress: show the simulated board's first build.
        test_memory: see first whether the board's DRAM is sound (`check_memory`).
        """
        transport, manifest, limit = transport_for(where, manifest, progress)
        board = cls(transport, manifest).connect()
        try:
            board.raise_rate(limit if max_baud is None else min(max_baud, limit))
            if test_memory:
                board.check_memory()
        except BaseException:
            board.close()
            raise
        return board

    def connect(self) -> Accelerator:
        """Reset the line, see that the board is what it should be, and initialise its DDR3 if it
        has that and nobody has done so. Closes it where one of these fails."""
        try:
            self.transport.reset()
            self.identify()
            if self.config.ddr3:
                with self._background.exclusive() as session:
                    ddr3.prepare(session)
        except BaseException:
            self.close()
            raise
        self._connected = True
        return self

    def __enter__(self) -> Accelerator:
        return self if self._connected else self.connect()

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the board, after what is on its way; what was submitted beyond that fails."""
        self._dropped.detach()
        self._background.close()
        self.transport.close()

    @property
    def image(self) -> Image | None:
        """The network that is loaded."""
        held = self._held
        return None if held is None else held.image

    @property
    def config(self) -> CoreConfig:
        """The board's configuration."""
        if self._config is None:
            raise BadInput("the board was not asked yet what it is; call connect() first")
        return self._config

    @property
    def statistics(self) -> Statistics:
        """Bytes, jobs and recoveries since the accelerator was made."""
        return self._session.statistics

    def identify(self) -> Identity:
        """Ask the board what it is. Raises SpikeTicketError if it is not what was expected."""
        with self._background.exclusive() as session:
            found, self._config = readback.identify(session, self._config)
            session.clock_hz = self._config.clock_hz
        return replace(found, dram_passed=self._dram_passed)

    def check_memory(self, progress: Progress | None = None) -> int:
        """Test the board's DRAM; returns the words that were compared. What was loaded is gone.
        DDR3 is initialised and levelled anew before.

        progress: called with the words of each step. Raises SpikeTicketError, which names the lines
        that are stuck or a word that is wrong.
        """
        with self._background.exclusive() as session:
            self._held, self._dram_passed = None, False
            if self.config.ddr3:
                ddr3.initialise(session)
            words = memory_test.check_dram(session, self.config, progress)
            self._dram_passed = True
        return words

    def raise_rate(self, limit: int) -> list[rates.Trial]:
        """Raise the serial line's rate to the highest, `limit` baud at most, that carries 61 KB of
        random words each way unharmed. A line that cannot stays at its first rate, and one that
        fails often later goes back to it. Overwrites the board's maps.
        """
        with self._background.exclusive() as session:
            self._maps_since = -1
            self.trials = rates.raise_rate(session, self.config, limit)
        return self.trials

    def load(self, what: Loadable, progress: Progress | None = None) -> int:
        """Send a network and check that the board holds it; returns the bytes it took.

        what: a ticket's file or bundled name, a Ticket or a Network (compiled for this board), or
            an Image that was compiled for it.
        progress: called with the number of words after each frame; `load_words` is the total.
        """
        held = _Held(*compiled(what, self.config))
        with self._background.exclusive() as session:
            self._held, self._maps_since = None, -1
            before = self.statistics.bytes_sent
            readback.write_image(session, held.image, progress)
            self._held = held
            return self.statistics.bytes_sent - before

    def verify(self) -> bool:
        """Whether the board holds what was loaded (it computes CRCs of its memories)."""
        with self._background.exclusive() as session:
            return not readback.wrong_memories(session, self._loaded().image)

    def infer(self, batch: object, masks: np.ndarray | None = None, *, counters: bool = False,
              progress: Progress | None = None) -> Inference:
        """Run a batch and wait for it.

        batch: uint8 [B, C, H, W], or [B, T, C, H, W] if the network's input is not static; a NumPy
            array, a torch tensor, or a list of either; or event streams, framed as the ticket's
            data was (`sw.board.batches.as_batch`).
        masks: tokens to keep, bool [B, N], for a patch gate of mode "host".
        counters: also read the core's counters after every image.
        progress: called with 1 after every image.
        """
        held = self._loaded()
        sizes: list[tuple[int, int]] = []
        jobs = self._jobs(held, batch, masks, counters, sizes)
        with self._background.exclusive() as session:
            self._still(held)
            replies = session.exchange(jobs, progress)
            self._maps_since = session.resets
        return inference(held.image, replies, counters, sizes)

    def submit(self, batch: object, masks: np.ndarray | None = None, *,
               counters: bool = False) -> Future[Inference]:
        """`infer` without waiting: a future of its result.

        Batches are done in order, without a gap between them. An error ends all that was submitted
        and not yet done; what is submitted after it is tried again. Callbacks of the future must
        not use the board.
        """
        held = self._loaded()
        sizes: list[tuple[int, int]] = []
        jobs = list(self._jobs(held, batch, masks, counters, sizes))

        def finish(replies: list[list[Reply]]) -> Inference:
            self._maps_since = self._session.resets
            return inference(held.image, replies, counters, sizes)

        return self._background.submit(jobs, lambda: self._still(held), finish)

    def stream(self, inputs: Iterable, masks: Iterable | None = None, *, ahead: int = 8,
               counters: bool = False) -> Iterator[Inference]:
        """Run inputs one by one as they come; yields the result of each (a batch of one), in order.

        inputs: each as one of `infer`'s batch. masks: of each, for a gate that takes them.
        ahead: inputs taken before the result of the first must be there. 0 gives each result
            before the next input is taken, so nothing overlaps; from 3 on the line is busy all the
            time where one input fits a third of the board's buffer.
        Results that are there are given before the next input is waited for.
        """
        if ahead < 0:
            raise BadInput(f"ahead {ahead} is negative")
        each = iter(masks) if masks is not None else None
        waiting: deque[Future[Inference]] = deque()
        try:
            for one in inputs:
                mask = None if each is None else np.asarray(next(each))[None]
                waiting.append(self.submit([one], mask, counters=counters))
                while waiting and (waiting[0].done() or len(waiting) > ahead):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def counters(self) -> dict[str, LayerCounters]:
        """What each layer did in the last run, by its name, in order; of the first 32 steps of the
        program. (`infer(..., counters=True)` reads them after every image.)"""
        with self._background.exclusive() as session:
            image = self._loaded().image
            self._check_maps()
            found = readback.read_counters(session, image)
            self._check_maps()
        return found

    def trace(self, one: object, mask: np.ndarray | None = None, *,
              layer: str | None = None) -> Iterator[tuple[str, np.ndarray]]:
        """Run one input, with the mask of its tokens if it needs one, layer by layer and read every
        map as it is made.

        one: as one of `infer`'s batch. layer: read this map only, and end there.
        Gives (map name, uint8 [T, C, H, W]) with the rows and columns that are stored (see
        `Image.maps`), the input first, which holds its values. All of it is read before the first
        is given, so that nothing comes in between.
        """
        held = self._loaded()
        image = held.image
        wanted = set(image.maps)
        if layer is not None:
            self._known_map(image, layer)
            wanted = {layer, *image.maps[layer].onto}
        array = as_input(image, one, held.framing)
        steps = read_program(image.program, self.config)
        found: dict[str, np.ndarray] = {}
        with self._background.exclusive() as session:
            self._still(held)
            session.exchange(input_jobs(image, array[None], None if mask is None else mask[None],
                                        frames=self.transport.frames))
            self._maps_since = session.resets
            for step in range(-1, len(steps)):
                if step >= 0:
                    session.ask(Request(run=Run(steps[step].address, stop_after=1,
                                                max_cycles=held.limit)))
                for name, layout in image.maps.items():
                    if layout.born == step and name in wanted:
                        values = self._read_map(session, image, name)
                        found[name] = own_spikes(layout, values, found)
                if layer in found:
                    break
        return iter(found.items() if layer is None else [(layer, found[layer])])

    def read_map(self, name: str) -> np.ndarray:
        """A map as it is in the board's memory now: uint8 [T, C, H, W].

        After `infer` a map is still there unless a later one uses its words (`Image.keep_all`). Of
        a summand that is added to others (`MapLayout.onto`) it is their sum; `trace` gives itself.
        """
        with self._background.exclusive() as session:
            image = self._loaded().image
            self._known_map(image, name)
            return self._read_map(session, image, name)

    def kept(self) -> np.ndarray:
        """Tokens that the patch gate kept in the last run: bool [N]."""
        with self._background.exclusive() as session:
            image = self._loaded().image
            if image.gate is None:
                raise BadInput(f"network {image.name!r} has no patch gate")
            kept = readback.read_mask(session, image)
            self._check_maps()
        return kept

    def _loaded(self) -> _Held:
        held = self._held
        if held is None:
            raise BadInput("no network is loaded; call load() first")
        return held

    def _still(self, held: _Held) -> None:
        """Raises SpikeTicketError if another network has been loaded. For the session's owner."""
        if self.image is not held.image:
            raise BadInput(f"network {held.image.name!r} was replaced before this batch "
                           "was sent; give it again")

    def _jobs(self, held: _Held, batch: object, masks: np.ndarray | None, counters: bool,
              sizes: list[tuple[int, int]]) -> Iterator[Job]:
        """A job for each input, made when it is asked for; its bytes are added to `sizes`. Inputs
        and masks are checked at once."""
        image = held.image
        arrays = as_batch(image, batch, held.framing)
        masks = (image.gate.check_masks(masks, len(arrays)) if image.gate is not None
                 else check_masks({}, masks, len(arrays)))

        def counted() -> Iterator[Job]:
            for job in inference_jobs(image, arrays, masks, held.limit, counters,
                                      frames=self.transport.frames):
                sizes.append(line_bytes(job[:-1] if counters else job))
                yield job

        return counted()

    def _known_map(self, image: Image, name: str) -> None:
        if name not in image.maps:
            raise BadInput(f"network {image.name!r} has no map {name!r}; it has "
                           f"{', '.join(image.maps)}")

    def _read_map(self, session: Session, image: Image, name: str) -> np.ndarray:
        found = readback.read_map(session, image, name)
        self._check_maps()
        return found

    def _check_maps(self) -> None:
        if self._session.resets != self._maps_since:
            raise BadInput(
                f"{self.transport.name}: the board lost its maps, or nothing was run yet (a reset "
                "or another network or program takes them); run the input again")

    def _restore(self) -> None:
        """The board was reset: load again."""
        if self._config is not None and self._config.ddr3:
            ddr3.prepare(self._session)
        if (image := self.image) is not None:
            readback.write_image(self._session, image)


def _give_back(background: Background, transport: Transport) -> None:
    """Close what an accelerator had that nobody closed."""
    warnings.warn(f"{transport.name}: an Accelerator was dropped without close(); use it with "
                  "'with'", ResourceWarning, stacklevel=2)
    background.close()
    transport.close()
