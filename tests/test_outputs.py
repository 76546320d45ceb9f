"""What a command meets outside itself: files that are none, places it cannot write, terminals."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hw.config import PRESETS
from hw.registers import manifest
from sw import bounded, bundled, outputs, starting, ticket
from sw.board import identities
from sw.cli.app import main
from sw.errors import SpikeTicketError, command, shown
from sw.sweeps import pools

ROOT = Path(__file__).parents[1]
ESCAPES = "\x1b]0;owned\x07\x1b[31mred\x9b2J\u202e\n"


def test_a_file_is_read_to_its_limit_and_no_further(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(100))
    assert bounded.read(path, 100, "a test") == bytes(100)
    with pytest.raises(SpikeTicketError, match="more than the 99 bytes that a test may have"):
        bounded.read(path, 99, "a test")
    with path.open("wb") as file:
        file.truncate(3 << 30)  # sparse: claims 3 GB
    with pytest.raises(SpikeTicketError, match="more than the"):
        bounded.read(path, 1 << 20, "a test")
    for name in ("/dev/zero", tmp_path):
        with pytest.raises(SpikeTicketError, match="is no file, so not a test"):
            bounded.read(name, 100, "a test")
    with pytest.raises(SpikeTicketError, match=r"cannot be read \(No such file"):
        bounded.read(tmp_path / "none", 100, "a test")
    with pytest.raises(SpikeTicketError, match="cannot be read"):
        bounded.read("null\0byte", 100, "a test")


@pytest.mark.parametrize("size", [80, 100, 4000])
def test_a_pipe_is_read_to_its_limit(tmp_path, size):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def write():
        with open(pipe, "wb") as file:
            try:
                file.write(bytes(size))
            except BrokenPipeError:
                pass

    writer = threading.Thread(target=write)
    writer.start()
    try:
        if size <= 100:
            assert bounded.read(pipe, 100, "a test") == bytes(size)
        else:
            with pytest.raises(SpikeTicketError, match="more than the 100 bytes"):
                bounded.read(pipe, 100, "a test")
    finally:
        writer.join(10)


def test_tickets_and_manifests_are_bounded(tmp_path):
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(3 << 30)
    for name in (large, "/dev/zero"):
        with pytest.raises(SpikeTicketError, match="a ticket"):
            ticket.load(name)
        with pytest.raises(SpikeTicketError, match="a manifest"):
            identities.read_manifest(name)
    good = tmp_path / "manifest.json"
    good.write_text(json.dumps(manifest(PRESETS["tiny"])))
    assert identities.read_manifest(good).preset == "tiny"


def test_texts_of_a_ticket_come_out_as_they_may_be_shown(tmp_path):
    found = ticket.load(bundled.find("fmnist-scnn"))
    names = {layer.name: f"{layer.name}{ESCAPES}" for layer in found.network.layers}
    data = ticket.to_bytes(found.network, {"method": ESCAPES, "deep": [{ESCAPES: ESCAPES}]})
    length = int.from_bytes(data[:8], "little")
    head = json.loads(data[8:8 + length])
    described = json.loads(head["__metadata__"]["network"])
    described["name"] = ESCAPES
    described["labels"] = [f"{label}{ESCAPES}" for label in described["labels"]]
    for layer in described["layers"]:
        layer["name"] = names[layer["name"]]
        for synapses in layer.get("synapses", ()):
            synapses["sources"] = [names.get(source, source) for source in synapses["sources"]]
    meta = head["__metadata__"] | {"network": json.dumps(described)}
    tensors = ticket._decode(data)
    meta["sha256"] = ticket._digest(meta, tensors)
    path = tmp_path / "ticket.safetensors"
    path.write_bytes(ticket._encode(tensors, meta))
    got = ticket.load(path)
    texts = [got.network.name, *got.network.labels, *(x.name for x in got.network.layers),
             json.dumps(got.metadata, ensure_ascii=False)]
    assert all(text.isprintable() for text in texts) and "\\x1b" in got.network.name
    assert [layer.synapses[0].weight.sum() for layer in got.network.layers] == [
        layer.synapses[0].weight.sum() for layer in found.network.layers]


def test_shown():
    assert shown("plain, ä, λ") == "plain, ä, λ"
    assert shown("a\nb\tc") == "a b c" and shown("\x1b[2J") == "\\x1b[2J"
    assert shown("\u202e") == "\\u202e" and shown("\x9b") == "\\x9b"
    assert shown("\ud800") == "\\ud800"     # half a pair, which no codec takes


def test_a_hostile_text_makes_python_load_nothing():
    code = ("import sys; from sw.errors import shown; before = {*sys.modules}; shown('\\x1b'); "
            "sys.exit(', '.join({*sys.modules} - before) or 0)")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr


def test_where_a_command_writes_is_checked_first(tmp_path):
    (tmp_path / "file").write_text("x")
    assert outputs.folder(tmp_path / "new" / "deep") == tmp_path / "new" / "deep"
    assert not (tmp_path / "new").exists()
    assert outputs.file(tmp_path / "new" / "a.npz") == tmp_path / "new" / "a.npz"
    with pytest.raises(SpikeTicketError, match="file is a file, not a folder"):
        outputs.folder(tmp_path / "file" / "below")
    with pytest.raises(SpikeTicketError, match="is a folder; name a file in it"):
        outputs.file(tmp_path)
    for place in ("/proc", "/proc/none/deep"):
        with pytest.raises(SpikeTicketError, match="nothing can be written to /proc"):
            outputs.folder(place)


COMMANDS = (
    "export fmnist-scnn --out", "export flat fmnist-scnn --out", "look analysis x --out",
    "find --out", "find sweep --config x --out", "import drawn --sparsity 0.9 --out",
    "import x.nir --out", "bench study --plot", "build --board arty_a7 --output",
    "check files --out")


@pytest.mark.parametrize("arguments", COMMANDS)
def test_every_command_says_so(arguments, tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file" / "below", "/proc/none"):
        assert main([*arguments.split(), str(place)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1 and str(place) in error


def test_command_turns_what_can_happen_into_a_line(capsys, tmp_path):
    @command
    def missing(path):
        Path(path).read_text()
        return 0

    assert missing(tmp_path / "none") == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'none'}: No such file or directory\n"

    @command
    def bug():
        raise OSError("no file was named")

    with pytest.raises(OSError, match="no file was named"):
        bug()


def test_a_terminal_that_cannot_say_a_character():
    code = ("from sw.errors import command\n"
            "@command\ndef main():\n    print('sparsity \u2265 90 %, \u03bb', flush=True)\n"
            "    return 0\nraise SystemExit(main())")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT,
                          env=os.environ | {"PYTHONIOENCODING": "ascii"}, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (
        0, "sparsity \\u2265 90 %, \\u03bb\n", "")


def test_who_reads_the_output_may_go():
    code = ("from sw.errors import command\n"
            "@command\ndef main():\n    for n in range(100000):\n        print(n)\n    return 0\n"
            "raise SystemExit(main())")
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, cwd=ROOT) as running:
        running.stdout.readline()
        running.stdout.close()
        assert running.stderr.read() == b"" and running.wait(60) == 141


def heeding():
    """Interrupts are not ignored, as they are in what a shell runs in its background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


SLOW_IMPORT = "import time; print('importing', flush=True); time.sleep(60)"


@pytest.mark.parametrize("module", ["sw.plan", "sim.serve", "hw.build"])
def test_an_interrupt_while_importing_is_one_line(module, tmp_path):
    for name in ("numpy", "cyclopts"):                  # found before the real ones
        (tmp_path / f"{name}.py").write_text(SLOW_IMPORT)
    (tmp_path / "rich").mkdir()
    (tmp_path / "rich" / "__init__.py").write_text(SLOW_IMPORT)
    with subprocess.Popen([sys.executable, "-m", module], cwd=ROOT, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, preexec_fn=heeding,
                          env=os.environ | {"PYTHONPATH": str(tmp_path)}) as running:
        try:
            assert running.stdout.readline() == "importing\n"
            running.send_signal(signal.SIGINT)
            assert running.stderr.read() == "error: interrupted\n" and running.wait(60) == 130
        finally:
            running.kill()


def test_interrupts_are_exceptions_again_in_a_command(monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    try:
        monkeypatch.setattr(sys, "argv", ["program"])
        starting.quiet_interrupt()
        assert signal.getsignal(signal.SIGINT) is before
        monkeypatch.setattr(sys, "argv", ["-m"])
        signal.signal(signal.SIGINT, signal.default_int_handler)
        starting.quiet_interrupt()
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        starting.ready()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_ray_that_is_not_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert not pools.has_ray()


TOOL = """#!/bin/sh
sleep 600 &
echo $! $$ > running
wait
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("seeds", [False, True])
def test_a_build_that_is_ended_ends_what_it_runs(tmp_path, number, seeds):
    """The program, and what the program started; in threads as in the main one."""
    tool = tmp_path / "tool"
    tool.write_text(TOOL)
    tool.chmod(0o755)
    call = f"tools.run(tools.Tool('tool', {str(tool)!r}, ''), [], Path({str(tmp_path)!r}), 'log')"
    if seeds:
        body = f"""
    from concurrent.futures import ThreadPoolExecutor
    from types import SimpleNamespace
    from hw.build import ecp5
    ecp5.tools.need = lambda name: tools.Tool(name, {str(tool)!r}, '')
    ecp5.constraints = lambda design: ''
    ecp5.arguments = lambda design, seed: []
    ecp5.route(None, Path({str(tmp_path)!r}), (1, 2, 3), None)"""
    else:
        body = f"\n    {call}"
    code = ("from pathlib import Path\nfrom hw.build import tools\nfrom sw.errors import command\n"
            f"@command\ndef main():\n  with tools.ended_in_order():{body}\n  return 0\n"
            "raise SystemExit(main())")
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE,
                          text=True, preexec_fn=heeding) as running:
        end = time.monotonic() + 60
        while not ((tmp_path / "running").exists() and (tmp_path / "running").read_text()):
            assert running.poll() is None and time.monotonic() < end
            time.sleep(0.05)
        children = [int(word) for word in (tmp_path / "running").read_text().split()]
        running.send_signal(number)
        assert running.wait(30) == (143 if number == signal.SIGTERM else 130)
        assert "Traceback" not in running.stderr.read()
    end = time.monotonic() + 10
    while any(map(alive, children)):
        assert time.monotonic() < end, "a program of the build goes on"
        time.sleep(0.05)


def test_a_build_that_is_killed_takes_its_program_along(tmp_path):
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\necho $$ > running\nexec sleep 600\n")
    tool.chmod(0o755)
    code = ("from pathlib import Path; from hw.build import tools; "
            f"tools.run(tools.Tool('tool', {str(tool)!r}, ''), [], Path({str(tmp_path)!r}), 'log')")
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) as running:
        end = time.monotonic() + 60
        while not ((tmp_path / "running").exists() and (tmp_path / "running").read_text()):
            assert running.poll() is None and time.monotonic() < end
            time.sleep(0.05)
        running.kill()
    program = int((tmp_path / "running").read_text())
    while alive(program):
        assert time.monotonic() < end, "the program goes on"
        time.sleep(0.05)


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
