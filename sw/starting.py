"""What a command needs before its `main` runs: an interrupt while it imports is no traceback."""

from __future__ import annotations

import logging
import os
import signal
import sys


def _end(*_) -> None:
    os.write(2, b"error: interrupted\n")
    os._exit(130)


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
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Where Triton is not installed torch says so at the first step of a SpikingJelly neuron: no
    # user's matter.
    logging.getLogger("torch._library.triton").setLevel(logging.ERROR)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
