"""Random and mutated frames for the board's parser, guided by the gateware's lines they reach.

    spiketicket check frames                      # a minute
    spiketicket check frames --replay 0512ab00    # bytes, in hexadecimal, that it complained about

Every input is a few frames, whole, damaged or none at all. The board must answer each as
`sim.parser_model` says, within the cycles it says, and be in step after one zero. Inputs that reach
a line of the link for the first time are kept and mutated further. The gateware runs in Verilator.
"""

from __future__ import annotations

import ctypes
import hashlib
import random
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
from tqdm import tqdm

from hw import program, registers
from hw.config import PRESETS, CoreConfig
from hw.registers import REQUEST, Space, Status
from sw.board.protocol import FrameError, Read, Reply, Request, Splitter, decode_frame

from . import board
from .board import SimTransport, cache_directory, compile_verilog, keep_newest
from .parser_inputs import mutate, random_input
from .parser_model import FIXED_CYCLES, Expected, ParserModel

CONFIG = PRESETS["tiny"]
COVERAGE = Path(__file__).with_name("coverage_harness.cpp")
MOST_KEPT = 400


class ParserFault(Exception):
    """The board did not do what the model says."""


@dataclass
class Findings:
    """What the fuzzing found.

    inputs, frames, bytes: sent. statuses: replies by status. kept: inputs that reached something
    new. coverage: lines of each unit of the link that ran, and how many it has.
    slowest: largest share of the cycles allowed that an answer took.
    fault: what went wrong, or "". shown_by: bytes in hexadecimal that show it, the last input alone
    if it does, else everything since power-up.
    """

    seed: int
    inputs: int = 0
    frames: int = 0
    bytes: int = 0
    seconds: float = 0.0
    statuses: Counter[str] = field(default_factory=Counter)
    kept: int = 0
    slowest: float = 0.0
    coverage: dict[str, tuple[int, int]] = field(default_factory=dict)
    fault: str = ""
    shown_by: str = ""

    def as_dict(self) -> dict:
        return {field.name: getattr(self, field.name) for field in fields(self)}


def build(config: CoreConfig = CONFIG, *, progress: bool = True) -> Path:
    """The simulated board with counters of lines; raises as `sim.board.build`."""
    harness = board.HARNESS.read_text() + COVERAGE.read_text()
    name = hashlib.sha256(harness.encode()).hexdigest()[:8]
    library = cache_directory() / f"covered-{board.build_key(config)}-{name}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(prefix="spiketicket-") as folder:
            both = Path(folder) / "harness.cpp"
            both.write_text(harness)
            compile_verilog(lambda: {"top.v": board.gateware(config)}, library, harness=both,
                            options=("--coverage-line",), progress=progress,
                            runtime=("", "_threads", "_cov"))
        keep_newest(library.parent, "covered-*.so")
    return library


class FuzzedBoard(SimTransport):
    """A simulated board that may count which lines ran."""

    def __init__(self, config: CoreConfig, library: Path):
        super().__init__(config, library=library)
        self.counts = hasattr(self._library, "board_coverage")
        if self.counts:
            self._library.board_coverage.restype = ctypes.c_uint32
            self._library.board_coverage.argtypes = (
                ctypes.c_void_p, ctypes.POINTER(ctypes.POINTER(ctypes.c_uint32)))
            self._library.board_coverage_write.argtypes = (ctypes.c_void_p, ctypes.c_char_p)
            self._library.board_coverage_write.restype = None

    def reached(self) -> np.ndarray:
        """Which lines ran since power-up: bool [lines]."""
        if not self.counts:
            return np.zeros(0, bool)
        counters = ctypes.POINTER(ctypes.c_uint32)()
        size = self._library.board_coverage(self._board, ctypes.byref(counters))
        return np.ctypeslib.as_array(counters, (size,)) != 0

    def covered(self) -> dict[str, tuple[int, int]]:
        """Lines that ran and lines there are, of each unit of the link."""
        if not self.counts:
            return {}
        found: dict[str, list[int]] = {}
        with tempfile.TemporaryDirectory(prefix="spiketicket-") as folder:
            path = Path(folder) / "coverage"
            self._library.board_coverage_write(self._board, str(path).encode())
            for line in path.read_bytes().decode(errors="replace").splitlines():
                if line.startswith("C ") and ".link." in line:
                    unit = line.split(".link.", 1)[1].split("'")[0].split("\x01")[0].split(".")[0]
                    lines = found.setdefault(unit, [0, 0])
                    lines[0] += int(line.rsplit(" ", 1)[1]) > 0
                    lines[1] += 1
        return {unit: (hit, all_) for unit, (hit, all_) in sorted(found.items())}


class Parser:
    """A board and its model, given the same bytes."""

    def __init__(self, transport: FuzzedBoard, findings: Findings, random: random.Random):
        self.transport, self.findings, self.random = transport, findings, random
        self.model = ParserModel(transport.config)
        self._splitter = Splitter()
        self._rest = b""   # of a frame that has not ended

    def feed(self, data: bytes) -> None:
        """Send bytes, frame by frame, and compare what is answered; raises ParserFault.

        A request and a bare `sync` behind it, with nothing but zeros between, go out at once: the
        one may end the other.
        """
        *frames, rest = data.split(b"\0")
        while frames:
            frame, more = frames.pop(0), _overtaking(frames)
            if more and len(REQUEST) <= _words(self._rest + frame) < registers.FRAME_WORDS:
                late = frames[:more]
                self._race(self._rest + frame, b"\0".join([frame, *late, b""]), late[-1])
                del frames[:more]
            else:
                self._exchange(self._rest + frame, frame + b"\0")
            self._rest = b""
        self._rest += rest
        self.transport.write(rest)
        self.findings.bytes += len(rest)

    def in_step(self) -> None:
        """After one zero the next frame is taken, whatever was sent; raises ParserFault."""
        self.feed(b"\0")
        sync = Request(read=Read(Space.REGISTER, 0, 1), sync=True)
        reply = self._exchange_whole(sync.encode(self.random.randrange(1 << 16)))
        if int(reply.words[0]) != registers.MAGIC:
            raise ParserFault(f"register 0 is {int(reply.words[0]):08x}")

    def _exchange_whole(self, frame: bytes) -> Reply:
        replies = self._exchange(frame[:-1], frame)
        if not replies or replies[0].status != Status.OK:
            raise ParserFault("no answer to a whole frame")
        return replies[0]

    def _exchange(self, frame: bytes, data: bytes) -> list[Reply]:
        expected = self.model.frame(frame)
        line = len(frame) + 1 + 100   # what was sent before the zero may still be on the line
        allowed = line + (expected.cycles if expected else 0)
        replies, spent = self._answers(data, 1, allowed, expected)
        if None in replies:
            raise ParserFault("a damaged reply")
        self._compare(expected, replies)
        if replies:
            self.findings.slowest = max(self.findings.slowest, (spent - line) / expected.cycles)
        return replies

    def _race(self, frame: bytes, data: bytes, sync: bytes) -> None:
        """A request and a `sync`, sent at once: the first is done, ended or not begun."""
        before = self.model.state
        expected = self.model.frame(frame)
        allowed = 2 * len(data) + 200 + expected.cycles + FIXED_CYCLES
        replies, _ = self._answers(data, 2, allowed, expected)
        if len(replies) != 2 or replies[1] is None:
            raise ParserFault(f"{replies} to a request and a sync")
        first, second = replies
        if first is not None and first.status == Status.STOPPED:
            self.findings.statuses[Status.STOPPED.name] += 1
            known = (expected.next, expected.epoch)
            if not (_flags(frame)["run"] and (first.expected, first.epoch) == known):
                self.model.state = before
            known = (self.model.expected, self.model.epoch)
            if (first.expected, first.epoch) != known or len(first.words):
                raise ParserFault(f"{first}, expected it at {known} and without words")
            self.model.answered(Status.STOPPED)
        elif first is not None:
            self._compare(expected, [first])
        elif not expected.words:
            raise ParserFault("a damaged reply")    # and no read that the sync broke off
        if second.status == Status.OVERRUN:
            self.findings.statuses[Status.OVERRUN.name] += 1
            self._exchange(sync, sync + b"\0")
        else:
            self._compare(self.model.frame(sync), [second])

    def _answers(self, data: bytes, frames: int, allowed: int,
                 expected: Expected | None) -> tuple[list[Reply | None], int]:
        """Send; (replies, None for one whose length is wrong; cycles they took)."""
        self.findings.frames += frames
        self.findings.bytes += len(data)
        before, replies = self.transport.cycles, []
        self.transport.write(data)
        while self.transport.cycles - before <= allowed:
            left = allowed - (self.transport.cycles - before)
            got = self.transport.read((left + 1.5) / self.transport.config.clock_hz)
            if not got:
                break
            for part in self._splitter.feed(got):
                try:
                    replies.append(Reply.decode(part))
                except FrameError:
                    replies.append(None)
        spent = self.transport.cycles - before
        if spent > allowed:
            raise ParserFault(f"still at work after {allowed} cycles, expected {expected}")
        return replies, spent

    def _compare(self, expected: Expected | None, replies: list[Reply]) -> None:
        if len(replies) != (expected is not None):
            raise ParserFault(f"{len(replies)} replies, expected {expected}")
        for reply in replies:
            self.findings.statuses[reply.status.name] += 1
            words = 0 if reply.status == Status.TIMEOUT else expected.words
            if (reply.status not in expected.status or len(reply.words) != words
                    or (reply.seq, reply.expected, reply.epoch)
                    != (expected.seq, expected.next, expected.epoch)):
                raise ParserFault(f"{reply}, expected {expected}")
            if len(expected.status) > 1:
                self.model.answered(reply.status)


def _words(frame: bytes) -> int:
    """Words of a frame (without its zero); 0 if it is damaged."""
    try:
        return len(decode_frame(frame))
    except FrameError:
        return 0


def _flags(frame: bytes) -> dict[str, int]:
    return program.unpack(REQUEST[0], int(decode_frame(frame)[0]))


def _overtaking(frames: list[bytes]) -> int:
    """How many of `frames`, the next ones, end with the first bare `sync` if only empty ones are
    before it; 0 otherwise."""
    for number, frame in enumerate(frames, 1):
        if frame:
            bare = _words(frame) == len(REQUEST) and {
                name for name, value in _flags(frame).items() if value and name != "seq"}
            return number if bare == {"version", "sync"} else 0
    return 0


def fuzz(*, seconds: float = 60, seed: int = 1, inputs: int | None = None,
         library: Path | None = None, progress: bool = True) -> Findings:
    """Fuzz until `seconds` or `inputs` are over or something is wrong.

    library: a build of the simulated board of `CONFIG`; one without counters fuzzes unguided.
    Raises SpikeTicketError where the board cannot be built.
    """
    findings = Findings(seed)
    draw = random.Random(f"parser {seed}")
    transport = FuzzedBoard(CONFIG, library or build(progress=progress))
    parser = Parser(transport, findings, draw)
    corpus: list[bytes] = []
    seen, sent, data = transport.reached().copy(), bytearray(), b""
    start = time.monotonic()
    try:
        with tqdm(total=inputs or round(seconds), unit="input" if inputs else "s",
                  disable=None if progress else True) as bar:
            while (findings.inputs < inputs) if inputs else (time.monotonic() - start < seconds):
                if corpus and draw.random() < 0.7:
                    data = mutate(draw, draw.choice(corpus), draw.choice(corpus))
                else:
                    data = random_input(draw, parser.model.expected)
                sent += data + b"\0"
                parser.feed(data)
                parser.in_step()
                findings.inputs += 1
                now = transport.reached()
                if (now & ~seen).any() or (not transport.counts and draw.random() < 0.05):
                    seen |= now
                    corpus.append(data)
                    findings.kept += 1
                    if len(corpus) > MOST_KEPT:
                        corpus.pop(draw.randrange(len(corpus)))
                bar.update(1 if inputs else round(time.monotonic() - start) - bar.n)
    except ParserFault as fault:
        alone = replay(data, library=library)   # on a fresh board
        findings.fault = alone.fault or str(fault)
        findings.shown_by = (data if alone.fault else bytes(sent)).hex()
    finally:
        findings.seconds = round(time.monotonic() - start, 1)
        findings.coverage = transport.covered()
        transport.close()
    return findings


def replay(data: bytes, *, library: Path | None = None) -> Findings:
    """Send these bytes to a fresh board."""
    findings = Findings(0, inputs=1)
    transport = FuzzedBoard(CONFIG, library or build())
    try:
        parser = Parser(transport, findings, random.Random(0))
        parser.feed(data)
        parser.in_step()
    except ParserFault as fault:
        findings.fault, findings.shown_by = str(fault), data.hex()
    finally:
        transport.close()
    return findings


def summary(found: Findings) -> str:
    lines = [
        f"inputs        {found.inputs:,} in {found.seconds:.0f} s, {found.kept} kept",
        f"sent          {found.frames:,} frames, {found.bytes:,} bytes",
        "answers       " + ", ".join(f"{name} {count:,}" for name, count
                                     in found.statuses.most_common()),
        f"slowest       {100 * found.slowest:.0f} % of the cycles allowed"]
    if found.coverage:
        lines.append("lines reached " + ", ".join(
            f"{unit} {hit} of {all_}" for unit, (hit, all_) in found.coverage.items()))
    if found.fault:
        lines += [f"wrong: {found.fault}", f"--replay {found.shown_by}"]
    return "\n".join(lines)
