"""Record what a board is sent and says, and play it back without a board.

    with Accelerator(RecordingTransport(SimTransport(config), "run.jsonl", config)) as board: ...
    with Accelerator(ReplayTransport("run.jsonl")) as board: ...      # the same calls again

A recording is a file of JSON lines. The first says what it is:

    {"format": "spiketicket-recording", "version": 1, "name": ..., "baud": ..., "seed": ...,
     "frames": [load, input], "config": {...}}

and every other line is one call in order: {"write": BYTES}, {"read": BYTES}, {"baud": N} or
{"reset": true}, bytes in base64. A session's random numbers come from `seed`, so that the same
calls send the same bytes. On playback each byte sent must be the recorded one.
"""

from __future__ import annotations

import base64
import json
import os
import random
from dataclasses import astuple
from pathlib import Path

from hw.config import CoreConfig
from hw.registers import identity

from . import bounded
from .board.protocol import MAX_PAYLOAD, FrameSizes
from .board.transport import Transport
from .errors import BadInput, SpikeTicketError, shown

FORMAT, VERSION = "spiketicket-recording", 1
MAX_BYTES = 100 << 20
"""Largest recording that is read."""


class RecordingTransport(Transport):
    """Passes everything on to `inner` and writes it down; the file appears whole, on `close`.

    config: of the board, for who plays it back. seed: of the session's random numbers.
    """

    def __init__(self, inner: Transport, path: str | Path, config: CoreConfig, *, seed: int = 1):
        self.inner, self.path, self.config = inner, Path(path), config
        self.name, self.first_baud, self.frames = inner.name, inner.first_baud, inner.frames
        self.network = inner.network
        self.random_below = random.Random(seed).randrange
        self._lines = [json.dumps({
            "format": FORMAT, "version": VERSION, "name": inner.name, "baud": inner.baud,
            "seed": seed, "frames": astuple(inner.frames),
            "identity": f"{identity(config):016x}", "config": config.as_dict()})]
        self._closed = False

    @property
    def simulated(self) -> bool:
        return self.inner.simulated

    @property
    def timed(self) -> bool:
        return self.inner.timed

    @property
    def baud(self) -> int | None:
        return self.inner.baud

    def now(self) -> float:
        return self.inner.now()

    def write(self, data: bytes) -> None:
        self._note("write", base64.b64encode(data).decode())
        self.inner.write(data)

    def read(self, timeout: float) -> bytes:
        data = self.inner.read(timeout)
        self._note("read", base64.b64encode(data).decode())
        return data

    def reset(self) -> None:
        self._note("reset", True)
        self.inner.reset()

    def set_baud(self, baud: int) -> None:
        self._note("baud", baud)
        self.inner.set_baud(baud)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            part = self.path.with_name(f"{self.path.name}.part")
            try:
                part.write_text("\n".join(self._lines) + "\n")
                os.replace(part, self.path)
            except OSError as error:
                raise BadInput(f"{self.path}: recording cannot be written "
                               f"({error})") from None
            finally:
                self.inner.close()

    def _note(self, kind: str, value: object) -> None:
        self._lines.append(json.dumps({kind: value}))


class ReplayTransport(Transport):
    """A recording in place of a board. Time does not pass.

    The calls of the session must be those of the recording, in the same order. Raises
    SpikeTicketError where they are not, and for a file that is no recording.
    """

    timed = False

    def __init__(self, path: str | Path):
        self.path = Path(path)
        head, self._calls = read_recording(self.path)
        self.name, self.baud = f"recording of {head['name']}", head["baud"]
        self.config: CoreConfig = head["config"]
        self.frames: FrameSizes = head["frames"]
        self.random_below = random.Random(head["seed"]).randrange
        self._at = 0
        self._rest = b""  # of a recorded write, not sent yet

    @property
    def finished(self) -> bool:
        """Whether all that was recorded has been played."""
        return self._at == len(self._calls) and not self._rest

    def now(self) -> float:
        return 0.0

    def write(self, data: bytes) -> None:
        data = bytes(data)
        while data:
            if not self._rest:
                self._rest = self._next("write")
            part = data[:len(self._rest)]
            if not self._rest.startswith(part):
                raise self._departs("other bytes are sent")
            self._rest, data = self._rest[len(part):], data[len(part):]

    def read(self, timeout: float) -> bytes:
        return self._next("read")

    def reset(self) -> None:
        self._next("reset")

    def set_baud(self, baud: int) -> None:
        if self._next("baud") != baud:
            raise self._departs(f"the rate is set to {baud} baud")
        self.baud = baud

    def close(self) -> None:
        """Nothing to let go of."""

    def _next(self, kind: str):
        if self._rest:
            raise self._departs(f"{kind} comes before a write has ended")
        if self._at == len(self._calls):
            raise self._departs(f"{kind} comes after its end")
        found, value = self._calls[self._at]
        if found != kind:
            raise self._departs(f"{kind} comes where it has {found}")
        self._at += 1
        return value

    def _departs(self, how: str) -> SpikeTicketError:
        return BadInput(f"{self.path}: the session departs from the recording at line "
                        f"{self._at + 2}: {how}; record it again with this version")


def read_recording(path: Path) -> tuple[dict, list[tuple[str, object]]]:
    """(what the first line says, with "config" a CoreConfig; calls as (kind, value)).

    Raises SpikeTicketError naming file, line and reason.
    """
    try:
        lines = bounded.read(path, MAX_BYTES, "a recording").decode().splitlines()
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: recording cannot be read ({error})") from None
    calls: list[tuple[str, object]] = []
    head = None
    try:
        head = _head(json.loads(lines[0] if lines else ""))
        calls.extend(_call(json.loads(line)) for line in lines[1:])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        number = 1 if head is None else len(calls) + 2
        raise BadInput(f"{path}: line {number} is not of a recording "
                       f"({' '.join(str(error).split())})") from None
    return head, calls


def _head(values: dict) -> dict:
    if not isinstance(values, dict) or (values.get("format"), values.get("version")) != (
            FORMAT, VERSION):
        raise ValueError(f"its first line is not of format {FORMAT} {VERSION}")
    config = CoreConfig(**values["config"])
    if values["identity"] != f"{identity(config):016x}":
        raise ValueError("it is of another version of board and host")
    baud, seed = values["baud"], values["seed"]
    frames = FrameSizes(*values.get("frames", ()))
    if not all(type(words) is int and 16 <= words <= MAX_PAYLOAD for words in astuple(frames)):
        raise ValueError(f"frames {values['frames']!r} are not of 16 to {MAX_PAYLOAD} words")
    if type(seed) is not int or not (baud is None or (type(baud) is int and baud > 0)):
        raise ValueError(f"seed {seed!r} or baud {baud!r} is not a number")
    return {"name": shown(str(values["name"])), "baud": baud, "seed": seed, "frames": frames,
            "config": config}


def _call(values: dict) -> tuple[str, object]:
    if not isinstance(values, dict) or len(values) != 1:
        raise ValueError("not one call")
    [(kind, value)] = values.items()
    if kind in ("write", "read"):
        return kind, base64.b64decode(value, validate=True)
    if (kind == "baud" and type(value) is int) or (kind == "reset" and value is True):
        return kind, value
    raise ValueError(f"call {kind!r} is unknown")


def describe(path: Path) -> dict:
    """What a recording is and how much it holds, JSON-ready."""
    head, calls = read_recording(path)
    found = {"name": head["name"], "baud": head["baud"],
             "identity": f"{identity(head['config']):016x}",
             "clock_hz": head["config"].clock_hz, "calls": len(calls)}
    for kind in ("write", "read"):
        found[f"{kind}_bytes"] = sum(len(value) for name, value in calls if name == kind)
    return found
