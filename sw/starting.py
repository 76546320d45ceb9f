"""What a command needs before its `main` runs: an interrupt while it imports is no traceback."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from types import FrameType


def _end(*_) -> None:
    os.write(2, b"error: interrupted\n")
    os._exit(130)


def _heedless(frame: FrameType | None) -> bool:
    """Whether an exception raised here would be lost, or worse: Python drops what a finaliser
    raises, and torch's C++, half imported, aborts the program."""
    while frame is not None:
        module, function = frame.f_globals.get("__name__", ""), frame.f_code.co_name
        if (module == "weakref" or function == "__del__"
                or (function == "<module>" and module.split(".")[0] == "torch")):
            return True
        frame = frame.f_back
    return False


def _interrupt(number: int, frame: FrameType | None) -> None:
    """KeyboardInterrupt, as soon as there is somebody to take it."""
    if not _heedless(frame):
        raise KeyboardInterrupt
    again = threading.Timer(0.02, signal.pthread_kill, (threading.main_thread().ident, number))
    again.daemon = True
    again.start()


def quiet_interrupt() -> None:
    """From here to `ready` an interrupt ends the program in one line, exit code 130.

    Only for our commands, whose packages are imported before they have a `main`; nothing where
    interrupts are ignored or somebody else takes them.
    """
    ours = [os.path.basename(name) in ("-m", "spiketicket") for name in sys.argv[:1]]
    if any(ours) and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def over() -> None:
    """What was asked for is done: an interrupt while Python ends changes nothing any more. Without
    this it would end the program by the signal, although all has been written."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def ready() -> None:
    """Interrupts are KeyboardInterrupt again, no character is one that a stream cannot say, and
    libraries say nothing that no user can help."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, _interrupt)
    # Where Triton is not installed torch says so at the first step of a SpikingJelly neuron: no
    # user's matter.
    logging.getLogger("torch._library.triton").setLevel(logging.ERROR)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
