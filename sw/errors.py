"""The one exception that commands turn into a one-line message and exit code 2."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable


class SpikeTicketError(Exception):
    """Bad input, a network that does not fit, or a board that did not answer.

    The message names the bad value, where it was found, and the remedy.
    """


def command(main: Callable[..., int]) -> Callable[..., int]:
    """Decorate a command's `main`: a SpikeTicketError becomes one line on standard error and exit
    code 2, an interrupt exit code 130."""
    @functools.wraps(main)
    def run(*arguments, **options) -> int:
        try:
            return main(*arguments, **options)
        except SpikeTicketError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("error: interrupted", file=sys.stderr)
            return 130
    return run
