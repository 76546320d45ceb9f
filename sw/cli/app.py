"""The tree of `spiketicket`, and how it is run: `main` within a program, `door` as
the whole of one."""

from __future__ import annotations

import importlib.metadata
import shlex
import sys
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import NoReturn

from cyclopts import App, Group, Parameter
from cyclopts.exceptions import (
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    UnknownCommandError,
    UnusedCliTokensError,
    ValidationError,
)

from .. import starting
from ..errors import BadInput, command, did_you_mean, near

NAME = "spiketicket"

TREE = {
    "Run a ticket": {
        "run": "a ticket on a board: every logit and spike is checked",
        "classify": "labels of pictures, recordings or a stream, as they come",
        "boards": "boards at this computer's ports and networks, and what each says it is",
        "sim": "the simulated board: build it, or serve it at a serial port and on UDP",
        "look": "what a board does, what a ticket is made of, what a session said",
    },
    "Make a ticket": {
        "find": "the ticket of a network, of yours or a named one; sweeps of such searches",
        "import": "a network or NIR graph becomes a ticket, a ticket a NIR graph",
        "plan": "does a ticket fit a board, and how fast will it be?",
        "export": "a ticket becomes a board's image, proven exact",
    },
    "Make a board": {
        "build": "a bitstream with its report",
        "bench": "cycles, area and speed: of the link, of sparsity, of rival dataflows",
        "check": "is everything as promised? faults, fuzzing, proofs, netlist",
    },
}
"""Verbs, each with a line of help, in groups. `VERB` is `sw.cli.VERB:app`; import is `imports`."""

_MODULES = {"import": "imports"}
_GROUPS = {title: Group(title, sort_key=order) for order, title in enumerate(TREE)}

_typed: ContextVar[tuple[str, ...]] = ContextVar("typed", default=())


def written() -> str:
    """The command that is running, as a user would type it."""
    return shlex.join((NAME, *_typed.get()))


def verb(name: str, default: Callable[..., int | None] | None = None) -> App:
    """An App as all of the tree are; default: what it does without a sub-command."""
    app = App(name, help_format="plaintext", verbose=False, suppress_keyboard_interrupt=False,
              default_parameter=Parameter(negative=(), allow_repeating=True),
              result_action="return_value")
    if default:
        app.default(default)
    return app


def application(wanted: str = "") -> App:
    """The whole command; of its verbs only the one that is wanted has been imported."""
    app = verb(NAME)
    app.help = "Spiking lottery tickets on a small FPGA, bit for bit as the PyTorch model says."
    app.version = lambda: importlib.metadata.version(NAME)
    app.help_epilogue = f"'{NAME} VERB --help' has options and examples."
    for title, verbs in TREE.items():
        for at, (name, line) in enumerate(verbs.items()):
            place = f"{__package__}.{_MODULES.get(name, name)}"
            if name == wanted:          # whose page has more than the line
                found = importlib.import_module(place).app
                found.help = None if found.default_command else line
                found.help_epilogue, found.group = "", _GROUPS[title]
                app.command(found)
            else:
                app.command(f"{place}:app", name=name, help=line, group=_GROUPS[title],
                            sort_key=at)
    app.register_install_completion_command(
        help="Completion of verbs, options and names by the shell.")
    return app


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code. arguments: without the program's name (None: this
    program's own)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    token = _typed.set(tuple(arguments))
    try:
        app = application(*arguments[:1])
        return app(list(arguments), exit_on_error=False, print_error=False) or 0
    except CycloptsError as error:
        raise BadInput(_said(error)) from None
    finally:
        _typed.reset(token)


def door(*verbs: str) -> NoReturn:
    """End the program with what `spiketicket VERB ...` does with its arguments."""
    code = main([*verbs, *sys.argv[1:]])
    starting.over()
    sys.exit(code)


def _said(error: CycloptsError) -> str:
    """A line about arguments that cannot be taken."""
    option = error.argument.name if error.argument is not None else ""
    match error:
        case ValidationError() if option:
            return f"{option} {error.exception_message}"
        case CoercionError() if option and error.token and error.argument.get_choices():
            return (f"{option} {error.token.value!r} is unknown; "
                    f"{did_you_mean(error.token.value, error.argument.get_choices())}")
        case MissingArgumentError():
            what = "is missing" if error.keyword is None and error.argument.required else (
                "needs a value")
            return f"{_chain(error)}: {option} {what}; --help says what it takes"
        case UnknownCommandError() | UnusedCliTokensError():
            name = error.unused_tokens[0]
            close = near(name, [one for one in error.app
                                if one.startswith("-") == name.startswith("-")])
            if close or isinstance(error, UnknownCommandError):
                verbs = [one for one in error.app if not one.startswith("-")]
                return f"{_chain(error)} has no {name!r}; {did_you_mean(name, close or verbs)}"
            return f"{name!r} is one argument too many; {_chain(error)} --help says what it takes"
    return str(error)


def _chain(error: CycloptsError) -> str:
    return " ".join((NAME, *(error.command_chain or ())))
