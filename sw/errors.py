"""What may go wrong, as a small tree of exceptions; how a command ends with them; and notes."""

from __future__ import annotations

import contextlib
import difflib
import functools
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator

from . import starting

_log = logging.getLogger("sw")


class SpikeTicketError(Exception):
    """Whatever SpikeTicket refuses or fails at; the classes below say which kind it is.

    The message names the bad value, where it was found, and the remedy. It is one line of text,
    whatever a file or a board put into it: other characters are shown as escapes, and what is
    beyond `LONGEST` characters is left out. exit_code: of a command that ends with it.
    """

    LONGEST = 1500
    exit_code = 2

    def __str__(self) -> str:
        return _one_line(super().__str__())


class BadInput(SpikeTicketError):
    """An argument, file, network or data set that cannot be taken as it is. (A network that is too
    large for a core is `sw.compile.fit.DoesNotFit`.)"""


class Difference(SpikeTicketError):
    """Two implementations, or what was computed and what is written down, are not equal."""

    exit_code = 1


class ProgramMissing(SpikeTicketError):
    """A program or package that the work needs is not installed."""


class ProgramFailed(SpikeTicketError):
    """A program that the work runs ended with an error. said: its own message, "" for none."""

    said = ""


class BoardError(SpikeTicketError):
    """A board, or the line to it, does not do what it should."""


class BoardSilent(BoardError):
    """No answer: no board, no power, another rate, or a port that is gone."""


class BoardHeld(BoardError):
    """A board on the network serves another host, or its serial line, and not this session."""


class WrongBoard(BoardError):
    """A board answers, but it is another one, or holds another core, build or network."""


class LineDamaged(BoardError):
    """Answers come, but not whole, however often they are asked for."""


def near(name: str, known: Iterable[str]) -> list[str]:
    """Names that a mistyped one may mean, the likeliest first; case is no difference."""
    by_lower: dict[str, list[str]] = {}
    for one in known:
        by_lower.setdefault(one.lower(), []).append(one)
    return [difflib.get_close_matches(name, by_lower[one], 1, 0)[0]     # of Net and net, one
            for one in difflib.get_close_matches(name.lower(), by_lower)]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: "did you mean mnist?", or what there is."""
    known = list(known)
    if found := near(name, known):
        return f"did you mean {' or '.join(found)}?"
    return f"choose from {', '.join(known)}" if known else "there is none"


def note(text: str) -> None:
    """Tell the user what was repaired or decided: one line on standard error.

    Goes through the logger "sw", so that programs can send it elsewhere.
    """
    _log.warning("note: %s", _one_line(text))


def _one_line(text: str) -> str:
    if len(text) > SpikeTicketError.LONGEST:
        text = f"{text[:SpikeTicketError.LONGEST]} ..."
    return shown(text)


def shown(text: str) -> str:
    """A text as it may go to a terminal or a page, whoever it is from: one line, every character
    that is not printable as an escape."""
    return text if text.isprintable() else "".join(map(_printable, text))


def _printable(character: str) -> str:
    if character in "\t\r\n":
        return " "
    return character if character.isprintable() else ascii(character)[1:-1]


def command(main: Callable[..., int]) -> Callable[..., int]:
    """Decorate a command's `main`: a SpikeTicketError, or a file that cannot be read or written,
    becomes one line on standard error and an exit code, an interrupt exit code 130."""
    @functools.wraps(main)
    def run(*arguments, **options) -> int:
        starting.ready()
        try:
            with _notes_shown():
                return main(*arguments, **options)
        except SpikeTicketError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
        except BrokenPipeError:
            # Who read the output has gone (`| head`). Python must not try again at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        except OSError as error:
            if error.filename is None:
                raise
            print(f"error: {shown(str(error.filename))}: {error.strerror}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("error: interrupted", file=sys.stderr)
            # `python -m` ends by the signal instead of with its exit code if the last text that was
            # executed was interrupted, and imports execute some (named tuples, dataclasses).
            exec("")
            return 130
    return run


@contextlib.contextmanager
def _notes_shown() -> Iterator[None]:
    """Notes go to standard error, whatever a library does to the root logger meanwhile."""
    if _log.handlers:
        yield
        return
    handler = logging.StreamHandler()
    before, _log.propagate = (_log.propagate, _log.level), False
    _log.setLevel(logging.WARNING)
    _log.addHandler(handler)
    try:
        yield
    finally:
        _log.removeHandler(handler)
        _log.propagate = before[0]
        _log.setLevel(before[1])
