"""The one exception that commands turn into a one-line message and exit code 2."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable


class SpikeTicketError(Exception):
    """Bad input, a network that does not fit, or a board that did not answer.

    The message names the bad value, where it was found, and the remedy. It is one line of text,
    whatever a file or a board put into it: other characters are shown as escapes, and what is
    beyond `LONGEST` characters is left out.
    """

    LONGEST = 1500

    def __str__(self) -> str:
        text = super().__str__()
        if len(text) > self.LONGEST:
            text = f"{text[:self.LONGEST]} ..."
        return text if text.isprintable() else "".join(map(_printable, text))


def _printable(character: str) -> str:
    if character in "\t\r\n":
        return " "
    return (character if character.isprintable()
            else character.encode("unicode_escape").decode("ascii"))


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
