"""The tutorial's commands run as they stand; what troubleshooting quotes is in the source."""

import ast
import os
import re
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"(?:<!-- ([\w ]+) -->\n)?```(sh|python)\n(.*?)```", re.DOTALL)
MARKS = ("", "simulated board", "background", "by hand", "needs a board")
SHORTER = {"--threads 1": " --train-images 150 --test-images 50",
           "--epochs-final 6 --epochs-integer 6": "--epochs-final 1 --epochs-integer 1",
           "--images 20 --traced 2": "--images 2 --traced 1", "--images 5": "--images 2"}
"""What the test changes so that it is short; a value that begins with a blank is added."""


def blocks(name: str) -> list[tuple[str, str, str]]:
    """(mark, language, text) of the fenced blocks of a page."""
    return [(mark or "", language, text)
            for mark, language, text in BLOCK.findall((DOCS / name).read_text())]


@pytest.fixture
def folder(tmp_path):
    """A folder as the checkout's, with a small Fashion-MNIST."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    raw = tmp_path / "data" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    with np.load(ROOT / "bundled" / "fashion-mnist-test500.npz") as pack:
        images, labels = pack["x_test"].reshape(-1, 28, 28), pack["y_test"].astype(np.uint8)
    for stem, part in (("train", slice(0, 200)), ("t10k", slice(200, 400))):
        for kind, array in (("images-idx3", images[part]), ("labels-idx1", labels[part])):
            head = struct.pack(f">I{array.ndim}I", 0x800 | array.ndim, *array.shape)
            (raw / f"{stem}-{kind}-ubyte").write_bytes(head + array.tobytes())
    (tmp_path / "bin").mkdir()      # the command of this tree, wherever another one is installed
    command = tmp_path / "bin" / "spiketicket"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sw.cli "$@"\n')
    command.chmod(0o755)
    return tmp_path


def environment(folder: Path) -> dict[str, str]:
    return os.environ | {
        "SPIKETICKET_DATA": str(folder / "data"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
        "PATH": f"{folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"}


def shorter(text: str) -> str:
    for long, short in SHORTER.items():
        text = text.replace(long, long + short if short.startswith(" ") else short)
    return text


def test_the_tutorial_runs_as_written(folder):
    found = blocks("tutorial.md")
    assert {mark for mark, *_ in found} <= set(MARKS) and len(found) >= 9
    assert all(any(long in text for *_, text in found) for long in SHORTER)
    in_background = []
    try:
        for mark, language, text in found:
            text = shorter(text)
            command = [sys.executable, "-c", text] if language == "python" else [
                "bash", "-euo", "pipefail", "-c", text]
            if mark == "background":
                in_background.append(subprocess.Popen(
                    command, cwd=folder, env=environment(folder), start_new_session=True,
                    stdout=subprocess.DEVNULL))
                deadline = time.monotonic() + 300
                while not (folder / "board").exists() and time.monotonic() < deadline:
                    assert in_background[-1].poll() is None
                    time.sleep(0.05)
            elif mark in ("", "simulated board"):
                done = subprocess.run(command, cwd=folder, env=environment(folder), text=True,
                                      capture_output=True, timeout=600)
                assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    finally:
        for process in in_background:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(30)
    assert (folder / "runs" / "tutorial" / "ticket.safetensors").exists()
    assert not (folder / "board").is_symlink()


def texts_of_the_source() -> str:
    """Every string of the sources, values in f-strings as an ellipsis; and the Makefile."""
    found = [(ROOT / "Makefile").read_text().replace("$${tool%%:*}", "…")]
    for part in ("hw", "sw", "sim"):
        for path in (ROOT / part).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_bytes())):
                if isinstance(node, ast.JoinedStr):
                    found.append("".join(value.value if isinstance(value, ast.Constant) else "…"
                                         for value in node.values))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    return "\n".join(found)


def test_troubleshooting_quotes_real_messages():
    text = (DOCS / "troubleshooting.md").read_text()
    quoted = [message for line in text.splitlines() if line.startswith("**`")
              for message in re.findall(r"\*\*`([^`]+)`\*\*", line)]
    assert len(quoted) >= 25
    source = texts_of_the_source()
    for message in quoted:
        # Parts of a message may come from several places; each part must be there.
        parts = [part.strip(" ,") for part in re.split(r"…|[;:] | \(", message)]
        parts = [part for part in parts if len(part) > 4]
        assert parts, message
        for part in parts:
            assert part in source, f"{message!r}: no message of the source has {part!r}"


@pytest.mark.parametrize("name", ["tutorial.md", "troubleshooting.md",
                                  "../examples/c_host/README.md"])
def test_links_lead_somewhere(name):
    page = (DOCS / name).resolve()
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert target.startswith("http") or (page.parent / target).exists(), target
