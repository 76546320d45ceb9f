"""The command `spiketicket`: what it offers, that each thing is explained, how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclopts import App
from cyclopts.command_spec import CommandSpec

from sw.cli.app import TREE, application, main
from sw.compile.fit import DoesNotFit
from sw.errors import (
    BadInput,
    BoardError,
    BoardSilent,
    Difference,
    LineDamaged,
    ProgramFailed,
    ProgramMissing,
    SpikeTicketError,
    WrongBoard,
    command,
)

ROOT = Path(__file__).parents[1]
VERBS = [name for verbs in TREE.values() for name in verbs]


def commands() -> Iterator[tuple[str, App]]:
    """Every verb and sub-command that does something."""
    def below(app: App, words: str) -> Iterator[tuple[str, App]]:
        if app.default_command is not None:
            yield words, app
        for name in app:
            if not name.startswith("-"):
                yield from below(app[name], f"{words} {name}".strip())

    yield from below(application(), "")


def spiketicket(*arguments: str, **more) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "sw.cli", *arguments], cwd=ROOT, text=True,
                          capture_output=True, timeout=120, **more)


def test_every_command_and_every_option_is_explained():
    found = dict(commands())
    assert len(found) > 30 and {words.split()[0] for words in found} == set(VERBS)
    for words, app in found.items():
        assert app.help, words
        for argument in app.assemble_argument_collection(parse_docstring=False):
            assert argument.parameter.help, f"{words} {argument.name}"
            assert argument.get_choices() or "choose" not in argument.parameter.help


def test_what_many_commands_take_is_one_thing_everywhere():
    """--ticket, --board, --data and their like mean the same, and are said in the same words."""
    shared = {"--json": set(), "--board": set(), "--port": set(), "--baud": set(),
              "--masks": set(), "--data-root": set()}
    for words, app in commands():
        for argument in app.assemble_argument_collection(parse_docstring=False):
            if argument.name in shared and words not in ("build", "boards", "look monitor",
                                                         "bench link", "check uart", "find"):
                shared[argument.name].add((argument.parameter.help, argument.get_choices()))
    assert {name: len(kinds) for name, kinds in shared.items()} == dict.fromkeys(shared, 1)


def test_defaults_that_help_tells_are_those_of_the_work():
    from sw import run_inference
    from sw.cli import run
    assert (run.IMAGES, run.TRACED) == (run_inference.DEFAULT_IMAGES, run_inference.DEFAULT_TRACED)


def test_alone_it_shows_what_there_is(capsys):
    assert main([]) == 0
    alone = capsys.readouterr().out
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == alone
    for title, verbs in TREE.items():
        assert title in alone
        for name, line in verbs.items():
            assert f" {name} " in alone and line.split(",")[0][:40] in alone


@pytest.mark.parametrize("arguments", [[], ["--help"], ["run", "--help"], ["plan", "--help"],
                                       ["build", "--help"], ["rnu"], ["run", "--board", "artya7"]])
def test_help_imports_no_library_that_is_slow_to_load(arguments):
    code = ("import sys; from sw.cli.app import main; main(sys.argv[1:]); "
            "slow = {'torch', 'amaranth', 'numba', 'scipy', 'matplotlib', 'numpy'}; "
            "sys.exit(', '.join(slow & set(sys.modules)) or 0)")
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, text=True,
                          capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_verbs_are_not_imported_before_they_are_asked_for():
    app = application("plan")
    lazy = {name for name in VERBS if isinstance(app._get_item(name), CommandSpec)}
    assert lazy == set(VERBS) - {"plan"}


@pytest.mark.parametrize(("arguments", "message"), [
    ("rnu", "spiketicket has no 'rnu'; did you mean run?"),
    ("nothing", "spiketicket has no 'nothing'; choose from run, classify"),
    ("--verison", "spiketicket has no '--verison'; did you mean --version?"),
    ("find swep", "spiketicket find has no 'swep'; did you mean sweep?"),
    ("check fault", "spiketicket check has no 'fault'; did you mean faults?"),
    ("import zoo --onyl x", "Unknown option: --onyl. Did you mean --only?"),
    ("run --bord sim", "Unknown option: --bord. Did you mean --board?"),
    ("run --board artya7", "--board 'artya7' is unknown; did you mean arty_a7"),
    ("run --preset a35", "--preset 'a35' is unknown; did you mean a35t"),
    ("run --preset zzz", "--preset 'zzz' is unknown; choose from a100t, "),
    ("run fmnist-scn", "ticket 'fmnist-scn' is neither a file nor bundled; did you mean fmnist-sc"),
    ("run --data fashon-mnist", "did you mean fashion-mnist?"),
    ("find --method imb", "--method 'imb' is unknown; did you mean imp?"),
    ("bench study --tables comparsion", "--tables 'comparsion' is unknown; did you mean compar"),
    ("build --board arty_a8", "--board 'arty_a8' is unknown; did you mean arty_a7"),
    ("run --images -3", "--images -3 is below 1"),
    ("run --images many", '--images: unable to convert "many" into int'),
    ("run --images", "spiketicket run: --images needs a value"),
    ("plan", "spiketicket plan: --ticket is missing"),
    ("run a b", "'b' is one argument too many"),
    ("build --board arty_a7 --seed 1 --seeds 2", "--seed and --seeds exclude each other"),
])
def test_bad_arguments_are_one_line_that_helps(arguments, message, capsys):
    assert main(arguments.split()) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("error: ") and shown.err.count("\n") == 1
    assert message in shown.err


def test_a_ticket_may_stand_alone_or_behind_its_option(capsys):
    outputs = []
    for ticket in (["fmnist-scnn"], ["--ticket", "fmnist-scnn"], ["--ticket=fmnist-scnn"]):
        assert main(["plan", *ticket, "--json", "--board", "arty_a7"]) == 0
        outputs.append(json.loads(capsys.readouterr().out))
    assert outputs[0] == outputs[1] == outputs[2] and outputs[0]["fits"]


def test_the_last_of_a_repeated_option_wins_and_lists_grow(capsys):
    assert main(["find", "--seed", "1", "--seed", "2", "--show"]) == 0
    assert "\nseed: 2\n" in capsys.readouterr().out
    assert main(["check", "proofs", "--list", "--json", "--only", "JobQueue", "--only",
                 "drain"]) == 0
    names = [proof["name"] for proof in json.loads(capsys.readouterr().out)]
    assert any("JobQueue" in name for name in names) and any("drain" in name for name in names)


@pytest.mark.parametrize(("module", "words"), [
    ("sw.run_inference", ["run"]), ("hw.build", ["build"]), ("sw.plan", ["plan"]),
    ("sw.tickets", ["find"]), ("sim.serve", ["sim", "serve"]),
    ("sw.imports.zoo", ["import", "zoo"])])
def test_old_doors_lead_to_the_same_room(module, words, capsys):
    assert main([*words, "--help"]) == 0
    done = subprocess.run([sys.executable, "-m", module, "--help"], cwd=ROOT, text=True,
                          capture_output=True, timeout=120)
    assert done.returncode == 0 and done.stdout == capsys.readouterr().out


def test_errors_are_one_tree():
    for kind in (BadInput, Difference, ProgramMissing, ProgramFailed, BoardError, DoesNotFit):
        assert issubclass(kind, SpikeTicketError)
    assert all(issubclass(kind, BoardError) for kind in (BoardSilent, WrongBoard, LineDamaged))


@pytest.mark.parametrize(("error", "code"), [
    (SpikeTicketError("x"), 2), (BadInput("x"), 2), (BoardSilent("x"), 2), (Difference("x"), 1)])
def test_an_errors_class_says_the_exit_code(error, code, capsys):
    @command
    def fails() -> int:
        raise error

    assert fails() == code and capsys.readouterr().err == "error: x\n"


def test_an_interrupt_while_a_verb_is_imported_or_works_is_one_line(tmp_path):
    for place in ("numpy.py", "sw_slow.py"):
        (tmp_path / place).write_text(
            "import time; print('importing', flush=True); time.sleep(60)")
    with subprocess.Popen(
            [sys.executable, "-m", "sw.cli", "plan", "fmnist-scnn"], cwd=ROOT, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            env=os.environ | {"PYTHONPATH": str(tmp_path)}) as running:
        assert running.stdout.readline() == "importing\n"
        running.send_signal(signal.SIGINT)
        assert running.stderr.read() == "error: interrupted\n" and running.wait(60) == 130


def test_an_interrupt_in_code_that_an_import_executes_is_one_line(tmp_path):
    """As named tuples and dataclasses do; Python itself would end by the signal."""
    (tmp_path / "interrupted.py").write_text(
        "import sys\nfrom sw.errors import command\n\n\n@command\ndef main():\n"
        "    exec('raise KeyboardInterrupt')\n\n\nif __name__ == '__main__':\n"
        "    sys.exit(main())\n")
    done = subprocess.run([sys.executable, "-m", "interrupted"], cwd=tmp_path, text=True,
                          env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True)
    assert (done.returncode, done.stderr) == (130, "error: interrupted\n")


@pytest.mark.parametrize("module, text", [
    ("torch", "os.kill(os.getpid(), signal.SIGINT); print('whole')"),
    ("finaliser", """class Ending:
    def __del__(self): os.kill(os.getpid(), signal.SIGINT); print('whole')
ending = Ending(); del ending""")])
def test_an_interrupt_waits_for_what_would_lose_it(module, text, tmp_path):
    """Half imported torch aborts the program; a finaliser's exception is ignored."""
    (tmp_path / f"{module}.py").write_text(f"import os, signal\n{text}\n")
    (tmp_path / "interrupted.py").write_text(
        "import sys, time\nsys.argv[0] = 'spiketicket'\nfrom sw import starting\n"
        "starting.quiet_interrupt()\nfrom sw.errors import command\n\n\n@command\ndef main():\n"
        f"    import {module}\n    time.sleep(60)\n\n\nsys.exit(main())\n")
    done = subprocess.run([sys.executable, "-m", "interrupted"], cwd=tmp_path, text=True,
                          env=os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"},
                          capture_output=True,
                          preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    assert (done.returncode, done.stdout, done.stderr) == (130, "whole\n", "error: interrupted\n")


def test_an_interrupt_when_all_is_done_changes_nothing():
    code = ("import atexit, os, signal, sys; "
            "atexit.register(os.kill, os.getpid(), signal.SIGINT); "
            "from sw.cli.app import door; sys.argv = ['spiketicket', '--version']; door()")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout


def test_help_goes_to_a_terminal_that_cannot_say_its_frames():
    done = spiketicket("run", "--help", env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0 and "--board" in done.stdout and done.stderr == ""


def test_who_reads_the_help_may_go():
    with subprocess.Popen([sys.executable, "-m", "sw.cli", "find", "--help"], cwd=ROOT,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        running.stdout.close()
        assert running.stderr.read() == b"" and running.wait(60) in (0, 1, 141)


def test_completion_knows_verbs_options_and_names():
    app = application()
    script = app.generate_completion(shell="bash")
    for word in (*VERBS, "sweep", "--board", "arty_a7", "--preset", "a35tf", "ecpt"):
        assert word in script
