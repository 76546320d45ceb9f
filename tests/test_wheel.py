"""A wheel, installed into a bare environment, does the main job outside the checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def python(program: Path, *arguments: str, folder: Path) -> str:
    """Standard output of a Python that sees neither the checkout nor PYTHONPATH."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run([program, *arguments], cwd=folder, env=environment, text=True,
                          capture_output=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def tracked(*folders: str) -> list[str]:
    listed = subprocess.run(["git", "ls-files", *folders], cwd=ROOT, text=True,
                            capture_output=True, check=True).stdout.split()
    return [name for name in listed if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"      # a copy: setuptools leaves a build folder in its source
    for name in tracked("."):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    python(Path(sys.executable), "-m", "pip", "wheel", "--quiet", "--no-deps",
           "--no-build-isolation", "--disable-pip-version-check", "-w", str(folder), str(source),
           folder=folder)
    return next(folder.glob("spiketicket-*.whl"))


@pytest.fixture(scope="module")
def bare(wheel, tmp_path_factory) -> Path:
    """The Python of an environment with the wheel; what it depends on is this environment's."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False, symlinks=True)
    program = folder / "bin" / "python"
    python(Path(sys.executable), "-m", "pip", "--python", str(program), "install", "--quiet",
           "--no-deps", "--disable-pip-version-check", str(wheel), folder=folder)
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "zz_dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return program


def test_every_tracked_module_and_data_file_is_in_the_wheel(wheel):
    packed = set(zipfile.ZipFile(wheel).namelist())
    wanted = tracked("hw", "sw", "sim", "bundled")
    assert len(wanted) > 300 and not set(wanted) - packed


def test_the_main_job_runs_from_the_wheel(bare, tmp_path):
    where = python(bare, "-c", "import sw; print(sw.__file__)", folder=tmp_path)
    assert Path(where.strip()).is_relative_to(bare.parents[1])
    said = json.loads(python(bare, "-m", "sw.run_inference", "--images", "2", "--traced", "1",
                             "--json", folder=tmp_path))
    assert said["images"] == 2 and said["logits_equal"]
    assert said["spikes_compared"] > 0 and said["spike_mismatches"] == 0


def test_the_command_is_installed(bare, tmp_path):
    spiketicket = bare.parent / "spiketicket"
    assert "Run a ticket" in python(spiketicket, folder=tmp_path)
    assert python(spiketicket, "--version", folder=tmp_path).strip()
    planned = json.loads(python(spiketicket, "plan", "fmnist-scnn", "--json", folder=tmp_path))
    assert planned["fits"]


@pytest.mark.parametrize("command", [
    ("hw.build", "--list"), ("sw.cli", "build", "--board", "ulx3s_85f", "--plan-only"),
    ("sw.plan", "fmnist-scnn", "--board", "arty_a7"), ("sw.run_inference", "--list")])
def test_commands_run_from_the_wheel_and_write_nothing_beside_it(bare, tmp_path, command):
    site = next(bare.parents[1].glob("lib/python*/site-packages"))
    before = {p.name for p in site.iterdir()}
    python(bare, "-m", *command, folder=tmp_path)
    assert {p.name for p in site.iterdir()} == before
