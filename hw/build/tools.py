"""Finding and running the programs a build needs.

A program is taken from its environment variable (YOSYS, NEXTPNR_ECP5, ..., as Amaranth names
them), else from PATH, else from the YoWASP package beside this Python.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sw.errors import ProgramFailed, ProgramMissing, SpikeTicketError

EXTRA = "pip install 'spiketicket[build]', or pip install -e '.[build]' in this folder"

INSTALL = {
    "yosys": EXTRA,
    "nextpnr-ecp5": EXTRA,
    "ecppack": EXTRA,
    "nextpnr-xilinx": "build it from github.com/openXC7/nextpnr-xilinx, or install openXC7's "
                      "toolchain",
    "fasm2frames": "from Project X-Ray, github.com/f4pga/prjxray, or openXC7's toolchain",
    "xc7frames2bit": "from Project X-Ray, github.com/f4pga/prjxray, or openXC7's toolchain",
    "vivado": "AMD Vivado ML Standard, free for Artix-7; put its bin folder on PATH",
    "openFPGALoader": "sudo apt-get install openfpgaloader",
}
"""How to get a program."""

OLDEST = {"yosys": (0, 40)}
"""Versions below these are passed over."""

_VERSION = {"yosys": "-V", "nextpnr-ecp5": "--version", "ecppack": "--version",
            "nextpnr-xilinx": "--version", "vivado": "-version", "openFPGALoader": "-V"}


_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1

_running: set[subprocess.Popen] = set()
_starting = False
_pending = 0
"""Whether the main thread starts a program, and the signal that came meanwhile (0: none)."""


@dataclass(frozen=True)
class Tool:
    """A program that was found. version: what it says of itself, one line, "" if nothing."""

    name: str
    path: str
    version: str


def find(name: str) -> Tool | None:
    """The program, None where there is none (or only one that is too old)."""
    chosen = os.environ.get(name.upper().replace("-", "_"))
    if chosen:
        path = shutil.which(chosen)
        if path is None:
            raise SpikeTicketError(f"{name.upper().replace('-', '_')}={chosen} is no program; "
                                   "correct or unset the variable")
        return Tool(name, path, _version(name, path))
    for path in (shutil.which(name), _beside(name), shutil.which(f"yowasp-{name}")):
        if path is None:
            continue
        version = _version(name, path)
        number = re.search(r"(\d+)\.(\d+)", version)
        if name in OLDEST and (number is None
                               or tuple(map(int, number.groups())) < OLDEST[name]):
            continue
        return Tool(name, path, version)
    return None


def _beside(name: str) -> str | None:
    """The YoWASP program of the environment this Python runs in."""
    path = Path(sys.executable).with_name(f"yowasp-{name}")
    return str(path) if os.access(path, os.X_OK) else None


def need(name: str) -> Tool:
    """The program; raises SpikeTicketError saying how to get it where it is missing."""
    found = find(name)
    if found is None:
        oldest = f" {'.'.join(map(str, OLDEST[name]))} or newer" if name in OLDEST else ""
        raise ProgramMissing(f"{name}{oldest} not found on PATH; get it: {INSTALL[name]}")
    return found


@cache
def _version(name: str, path: str) -> str:
    if name not in _VERSION:
        return ""
    try:
        done = subprocess.run([path, _VERSION[name]], capture_output=True, text=True, timeout=300,
                              check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines()]
    lines = [line for line in lines if re.search(r"\d\.\d", line)]
    if not lines:
        return ""
    # nextpnr names itself by its path first; Yosys ends with its compiler's path.
    line = re.sub(r'^.*\(Version (.*)\)$', r"\1", lines[0])
    return re.sub(r",[^,]*\)$", ")", line)


def run(tool: Tool, arguments: Sequence[str | Path | int], folder: Path, log: str, *,
        watch: Callable[[str], None] | None = None, errors: str | None = None) -> None:
    """Run a program in a folder, its output in `folder/log`.

    watch: called with every line of output as it comes. errors: file for standard error, which
    otherwise joins the output.
    Raises SpikeTicketError with the program's last error line if it fails.
    """
    message = ""
    with (folder / log).open("w", buffering=1) as output, \
            (folder / (errors or os.devnull)).open("w") as other, \
            _program([tool.path, *map(str, arguments)], cwd=folder, text=True, errors="replace",
                     stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                     stderr=other if errors else subprocess.STDOUT) as process:
        for line in process.stdout:
            output.write(line)
            if found := re.search(r"ERROR: .*|^\s*error: .*", line):
                message = found[0].strip()
            if watch:
                watch(line)
        code = process.wait()
    if code:
        error = ProgramFailed(f"{tool.name} failed with exit code {code}: "
                              f"{message or 'no message'} (log: {folder / (errors or log)})")
        error.said = message
        raise error


@contextlib.contextmanager
def _program(command: Sequence[str], **options) -> Iterator[subprocess.Popen]:
    """A program in a group of its own, which ends with the block, however that ends."""
    global _starting, _pending
    main = threading.current_thread() is threading.main_thread()
    if main:
        _starting, _pending = True, 0  # a signal that comes before it is known comes after
    process = None
    try:
        process = subprocess.Popen(command, process_group=0, preexec_fn=_with_parent, **options)
        _running.add(process)
        if main:
            _starting = False
            if _pending:
                _stop(_pending)
        with process:
            try:
                yield process
            finally:
                _end(process)
    finally:
        if main:
            _starting = False
        if process is not None:
            _end(process)
            _running.discard(process)


def _with_parent() -> None:
    """In a new program: it is killed with this one where nobody here can do that any more (SIGKILL,
    no memory left), or it would go on in a folder that the next build takes. What it has started
    itself goes on; Yosys and nextpnr start nothing."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _stop(number: int, *_) -> None:
    """Handler of SIGINT and SIGTERM."""
    global _pending
    if _starting:
        _pending = number
    elif number == signal.SIGINT:
        raise KeyboardInterrupt
    else:
        raise SystemExit(128 + number)


def _end(process: subprocess.Popen) -> None:
    """End a program that still runs, and what it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)


def end_all() -> None:
    """End every program that `run` runs now, in whichever thread."""
    for process in list(_running):
        _end(process)


@contextlib.contextmanager
def ended_in_order() -> Iterator[None]:
    """Within it an interrupt and SIGTERM end this program with the programs it runs."""
    before = {number: signal.signal(number, _stop) for number in (signal.SIGINT, signal.SIGTERM)
              if signal.getsignal(number) != signal.SIG_IGN}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def undivided() -> Iterator[None]:
    """Within it neither an interrupt nor SIGTERM comes in between; they come after it."""
    both = {signal.SIGINT, signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, both)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder, so that two builds never write the same files. Raises SpikeTicketError."""
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SpikeTicketError(f"{folder}: another build works in it; wait for that one, or "
                                   "end it") from None
        yield
