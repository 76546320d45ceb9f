"""What a session asks a board for: who it is, whether it holds a network, maps, masks, counters."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

import numpy as np

from hw import registers
from hw.config import CoreConfig
from hw.registers import Register, Space

from ..compile.coding import decode_map
from ..compile.image import Image
from ..errors import BoardError, WrongBoard
from . import identities
from .inference import Identity, LayerCounters, counter_rows, named_counters
from .jobs import chunks, load_job, memories
from .protocol import Read, Request, digest
from .session import KEEPS_RESETTING, MAX_RESETS, Job, Session


def identify(session: Session, config: CoreConfig | None) -> tuple[Identity, CoreConfig]:
    """What the board says it is, and its configuration.

    config: what it should be; None: whatever this version knows under its identity. Raises
    SpikeTicketError if it is not that.
    """
    got = session.ask(Request(read=Read(Space.REGISTER, 0, Register.BUILD_HIGH + 1))).words
    name = session.transport.name
    if got[Register.MAGIC] != registers.MAGIC:
        raise WrongBoard(f"{name}: not a SpikeTicket board (it says "
                         f"{int(got[Register.MAGIC]):08x}); program its bitstream first")
    identity, build = (int(got[low]) | int(got[low + 1]) << 32
                       for low in (Register.ID_LOW, Register.BUILD_LOW))
    known = identities.find(identity, build)
    if config is None:
        if known is None:
            raise WrongBoard(
                f"{name}: the board's identity {identity:016x} is none that this version knows; "
                "give the manifest.json that was built with its bitstream")
        config = known.config
    expected = registers.identity(config)
    if identity != expected:
        raise WrongBoard(
            f"{name}: the board's identity is {identity:016x}, the manifest's {expected:016x}; "
            "program the bitstream that belongs to the manifest")
    return Identity(
        int(got[Register.PROTOCOL]), identity, int(got[Register.CLOCK_HZ]),
        *(int(got[r]) for r in (Register.FRAMES, Register.BAD_FRAMES, Register.OVERRUNS)),
        build, known.board if known else "", known.preset if known else "",
        session.transport.simulated, 4 * config.dram_words), config


def address(session: Session) -> str:
    """The board's IPv4 address, "" without Ethernet."""
    ip = int(session.ask(Request(read=Read(Space.REGISTER, Register.IP, 1))).words[0])
    return str(ipaddress.IPv4Address(ip)) if ip else ""


def write_image(session: Session, image: Image,
                progress: Callable[[int], object] | None = None) -> None:
    """Send a network and check that the board holds it; again if the board is reset meanwhile.

    progress: called with the words of each frame. Raises SpikeTicketError.
    """
    jobs: list[Job] = [
        [request] for request in load_job(image, session.transport.frames)]
    sizes = iter([len(job[0].write.words) for job in jobs])
    name = session.transport.name
    for _ in range(MAX_RESETS):
        resets = session.resets
        session.exchange(jobs, lambda _: progress and progress(next(sizes, 0)))
        wrong = wrong_memories(session, image)
        if not wrong:
            return
        if resets == session.resets:
            if wrong == {Space.DRAM}:
                raise BoardError(f"{name}: the board's DRAM does not hold what was sent; load "
                                 "again, and run spiketicket boards --test-memory if that fails "
                                 "too")
            raise BoardError(f"{name}: the board's memory does not hold what was sent; load "
                             "again, and suspect the board if that fails too")
    raise BoardError(f"{name}: {KEEPS_RESETTING}")


def wrong_memories(session: Session, image: Image) -> set[Space]:
    """Memories that do not hold what a network has there (the board computes their CRCs)."""
    parts = memories(image)
    jobs: list[Job] = [[Request(read=Read(space, address, len(words), digest=True))]
                       for space, address, words in parts]
    return {space for [reply], (space, _, words)
            in zip(session.exchange(jobs), parts, strict=True)
            if int(reply.words[0]) != digest(words)}


def read_map(session: Session, image: Image, name: str) -> np.ndarray:
    """A map as it is in the board's memory: uint8 [T, C, H, W]."""
    config, layout = image.config, image.maps[name]
    lanes = registers.map_lanes(config)
    jobs: list[Job] = [[Request(read=Read(Space.MAP, start, count))] for start, count in chunks(
        layout.base * lanes, layout.words * lanes, registers.MAX_READ)]
    words = np.concatenate([reply.words for [reply] in session.exchange(jobs)])
    memory = np.zeros((config.map_words, config.map_bits // 8), np.uint8)
    memory[layout.base:layout.base + layout.words] = (
        words.astype("<u4").view(np.uint8).reshape(layout.words, -1))
    return decode_map(image, memory, name)


def read_counters(session: Session, image: Image) -> dict[str, LayerCounters]:
    """What each layer did in the last run."""
    words = session.ask(Request(read=Read(
        Space.COUNTER, 0, registers.COUNTER_WORDS * len(image.logged)))).words
    return named_counters(image, counter_rows(words))


def read_mask(session: Session, image: Image) -> np.ndarray:
    """Tokens that the patch gate kept in the last run: bool [N]."""
    words = session.ask(Request(read=Read(Space.GATE, 0, image.gate.mask_words))).words
    return image.gate.kept(words)
