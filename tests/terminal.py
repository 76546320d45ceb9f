"""The simulated board behind a pseudo-terminal that is set as a new serial port is."""

import contextlib
import os
import pty
import termios

from sim.serve import Board

from .tiny_board import TINY


@contextlib.contextmanager
def fresh_board(library):
    """A `Board` with the core `tiny`, a build of which `library` is."""
    with Board(TINY, library=library) as board:
        # It makes its port raw. Most ports echo and edit lines: to change that is the host's work.
        new = pty.openpty()
        port = os.open(board.port, os.O_RDWR | os.O_NOCTTY)
        termios.tcsetattr(port, termios.TCSANOW, termios.tcgetattr(new[1]))
        for descriptor in (*new, port):
            os.close(descriptor)
        yield board
