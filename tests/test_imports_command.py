"""spiketicket import: networks, graphs and tickets as the source, and every refusal in a line."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from sw import ticket
from sw.cli.app import main
from tests.nir_writers import chain, conv, dense, lif

nir = pytest.importorskip("nir")
pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(__file__).resolve().parent.parent
SCNN = ROOT / "bundled" / "fmnist-scnn.safetensors"

NET = """\
import torch
from torch import nn
from spikingjelly.activation_based import functional, layer, neuron

def net():
    torch.manual_seed(0)
    net = nn.Sequential(layer.Conv2d(2, 3, 3, padding=1, bias=False), neuron.LIFNode(),
                        layer.Flatten(), layer.Linear(48, 3, bias=False))
    for module in net:
        if hasattr(module, "weight"):
            module.weight.data = torch.randint(-3, 4, module.weight.shape).float()
    functional.set_step_mode(net, "m")
    return net
"""


@pytest.fixture
def graph(tmp_path):
    nir.write(tmp_path / "g.nir", chain(conv(), lif((3, 4, 4), 7.0),
                                        nir.Flatten(np.array([3, 4, 4]), 0, -1), dense()))
    return str(tmp_path / "g.nir")


def run(capsys, *arguments) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["import", *map(str, arguments)])
    return (code, *capsys.readouterr())


def refused(capsys, *arguments) -> str:
    code, _, error = run(capsys, *arguments)
    assert code == 2 and error.count("\n") == 1, error
    return error


def test_a_ticket_goes_both_ways(tmp_path, capsys):
    graph, back = tmp_path / "scnn.nir", tmp_path / "t.safetensors"
    assert run(capsys, SCNN, "--out", graph)[0] == 0
    code, shown, _ = run(capsys, graph, "--out", back, "--json")
    values = json.loads(shown)
    assert code == 0 and values["notes"] == [] and values["timesteps"] == 4
    again = ticket.load(back)
    assert ticket.to_bytes(again.network) == ticket.to_bytes(ticket.load(SCNN).network)
    assert again.metadata["source"] == "nir"


def test_a_network_of_a_file_becomes_a_ticket(tmp_path, capsys):
    (tmp_path / "nets.py").write_text(NET)
    torch.manual_seed(7)
    made = {}
    exec(NET, made)
    state = {k: torch.randint(-2, 3, v.shape).float()
             for k, v in made["net"]().state_dict().items()}
    torch.save({"model": state, "epoch": 3}, tmp_path / "w.pth")
    out, name = tmp_path / "t.safetensors", f"{tmp_path / 'nets.py'}:net"
    code, shown, _ = run(capsys, name, "--weights", tmp_path / "w.pth", "--shape", "2,4,4",
                         "--timesteps", 4, "--input-scale", 1, "--input-bits", 2, "--out", out)
    assert code == 0 and "wrote" in shown
    found = ticket.load(out)
    weight = found.network.layers[0].synapses[0].weight.astype(np.float64)
    given = state["0.weight"].numpy()
    ratio = given[given != 0] / weight[given != 0]
    assert np.allclose(ratio, ratio[0]) and found.network.input.static
    assert found.metadata["network"] == name


def test_it_compares_and_calibrates_on_a_data_set(tmp_path, capsys):
    rng = np.random.default_rng(0)
    images = {f"x_{split}": rng.integers(0, 256, (12, 4, 4), np.uint8)
              for split in ("train", "test")}
    labels = {f"y_{split}": np.arange(12, dtype=np.uint8) % 3 for split in ("train", "test")}
    np.savez(tmp_path / "data.npz", **images, **labels)
    first = conv(channels=1)
    first.weight = first.weight * np.pi / 10        # off every grid
    nir.write(tmp_path / "g.nir", chain(first, lif((3, 4, 4), 3.0),
                                        nir.Flatten(np.array([3, 4, 4]), 0, -1), dense(),
                                        channels=1))
    arguments = [tmp_path / "g.nir", "--out", tmp_path / "t.safetensors", "--timesteps", 4,
                 "--static", "--bits", 2, "--data", tmp_path / "data.npz", "--calibrate", 8,
                 "--images", 10]
    code, shown, _ = run(capsys, *arguments, "--json")
    values = json.loads(shown)
    assert code == 0 and values["agreement"]["inputs"] == 10 and values["calibrated_on"] == 8
    assert 0 <= values["agreement"]["equal_labels"] <= 1 and "n1" in values["notes"][0]
    found = ticket.load(tmp_path / "t.safetensors")
    assert found.metadata["agreement"] == values["agreement"] and found.network.input.static
    shown = run(capsys, *arguments)[1]
    assert "biases corrected on 8 inputs" in shown and "10 inputs:" in shown


def test_errors_are_one_line(graph, tmp_path, capsys):
    out = str(tmp_path / "t.safetensors")
    for arguments, message in (
            ([graph, "--out", out], "give timesteps (--timesteps), 1 to"),
            ([graph, "--out", out, "--timesteps", "99"], "timesteps 99 is outside 1.."),
            ([graph, "--out", out, "--timesteps", "4", "--bits", "9"], "--bits 9 is outside 1..8"),
            ([graph, "--out", out, "--timesteps", "4", "--calibrate", "3"], "needs --data"),
            ([graph, "--out", out, "--dialect", "sinabz"], "did you mean sinabs"),
            ([graph, "--out", out, "--weights", "w.pth"], "--weights is for a network as the"),
            ([graph, "--out", tmp_path / "h.nir"], "a graph becomes a ticket; let its name"),
            ([SCNN, "--out", out], "a ticket becomes a NIR graph; let its name end in .nir"),
            ([SCNN, "--out", tmp_path / "h.nir", "--reset", "value"], "--reset is for a graph"),
            ([tmp_path / "w.pth", "--out", out], "weights without their network; name its class"),
            ([f"{tmp_path}/nets.py:net", "--out", out], "does not say what it takes; give --shape"),
            ([f"{tmp_path}/nets.py:net", "--out", out, "--shape", "1,28"], "--shape 1,28: give"),
            ([f"{tmp_path}/nets.py:net", "--out", out, "--shape", "4"], "there is no such file"),
            ([tmp_path / "none.nir", "--out", out], "cannot be read (No such file"),
            ([tmp_path, "--out", out], "is a folder")):
        assert message in refused(capsys, *arguments)
    (tmp_path / "text.nir").write_text("hello")
    assert "not an HDF5 file, which nir.write makes" in refused(
        capsys, tmp_path / "text.nir", "--out", out, "--timesteps", 4)
    assert run(capsys, graph, "--out", out, "--timesteps", 4, "--input-bits", 2)[1].startswith("n1")


def test_places_that_cannot_be_written_are_refused_before_the_work(graph, tmp_path, capsys):
    (tmp_path / "folder.safetensors").mkdir()
    for place, message in ((tmp_path / "folder.safetensors", "is a folder; name a file in it"),
                           ("/proc/none/t.safetensors", "nothing can be written to /proc"),
                           (f"{graph}/t.safetensors", "is a file, not a folder")):
        assert message in refused(capsys, graph, "--timesteps", 4, "--out", place)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder.safetensors", "g.nir"]
    assert run(capsys, graph, "--timesteps", 4, "--out", tmp_path / "new" / "t.safetensors")[0] == 0
    assert (tmp_path / "new" / "t.safetensors").is_file()


@pytest.mark.parametrize("wait", [0.5, 1.0, 2.0])
def test_an_interrupt_leaves_no_traceback(graph, tmp_path, wait):
    """While Python loads libraries, while it works, or not any more."""
    running = subprocess.Popen(
        [sys.executable, "-m", "sw.cli", "import", graph, "--timesteps", "4", "--out",
         str(tmp_path / "t.safetensors")], cwd=ROOT, stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True)
    time.sleep(wait)
    running.send_signal(signal.SIGINT)
    error = running.communicate(timeout=60)[1]
    assert "Traceback" not in error
    assert running.returncode == (130 if "interrupted" in error else 0), error
