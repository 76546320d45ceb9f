"""The main command: its figures, its formats, its errors. On a small core, so that it is quick."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hw.config import PRESETS
from sim import board as sim_board
from sim.samples import event_files
from sim.samples.networks import random_input
from sw import bundled, ticket
from sw.board.driver import Accelerator
from sw.cli.app import main
from sw.core import energy
from sw.integer import reference
from tests.small_runs import gated_network

ROOT = Path(__file__).parents[1]
KEYS = {
    "ticket", "network", "board", "preset", "slots", "patches", "transport", "simulated",
    "identity", "build", "data", "images", "accuracy", "accuracy_interval", "logits_equal",
    "logits_compared", "spikes_compared", "spike_mismatches", "cycles_per_image",
    "cycles_by_layer", "counters_per_image", "clock_hz", "baud", "bytes_per_image", "load_bytes",
    "load_s_link", "frames_per_s_core", "frames_per_s_link", "link", "sop_per_s_executed",
    "sop_per_s_dense_equivalent", "useful_updates_per_cycle", "useful_fraction",
    "bits_per_weight", "entropy_bits_per_weight", "sparsity", "weights_surviving",
    "energy_analytic_uj", "energy_analytic_parts"}
"""Programs read them: a key that goes is a break."""


pytestmark = pytest.mark.usefixtures("small_board")


@pytest.fixture
def files(small_files):
    return small_files


def call(capsys, *arguments):
    code = main(["run", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_json(files, capsys):
    path, data, network, images, labels = files
    code, out, _ = call(capsys, "--ticket", path, "--data", data, "--json", "--traced", 3)
    values = json.loads(out)
    assert code == 0 and set(values) == KEYS
    expected = reference.run(network, images)
    assert values["images"] == 12 and values["logits_equal"] and values["logits_compared"] == 48
    assert values["accuracy"] == pytest.approx((expected.labels == labels).mean())
    assert values["spikes_compared"] == 3 * 4 * (6 * 16 + 8 * 16)
    assert values["spike_mismatches"] == 0
    assert list(values["cycles_by_layer"]) == ["first", "second", "out"]
    cycles = values["cycles_per_image"]
    assert sum(values["cycles_by_layer"].values()) <= cycles
    assert values["frames_per_s_core"] == pytest.approx(values["clock_hz"] / cycles)
    assert values["frames_per_s_link"] <= values["frames_per_s_core"]
    assert values["sparsity"] == pytest.approx(network.sparsity)
    work = reference.sop(network, expected.spikes).values()
    assert values["useful_updates_per_cycle"] == pytest.approx(
        sum(w.useful for w in work) / 12 / cycles)
    assert values["useful_fraction"] == pytest.approx(
        values["useful_updates_per_cycle"] / PRESETS["tiny"].slots)
    assert values["bits_per_weight"] >= values["entropy_bits_per_weight"] * 0.8
    parts = values["energy_analytic_parts"]
    assert parts["synapses_uj"] == pytest.approx(sum(w.executed for w in work) / 12 * 0.9e-6)
    assert values["energy_analytic_uj"] == pytest.approx(sum(parts.values()))


def test_table_says_the_verdict(files, capsys):
    path, data, *_ = files
    code, out, err = call(capsys, "--ticket", path, "--data", data, "--images", 2)
    assert code == 0
    for text in ("accuracy", "equal to the integer reference", "compared, all equal",
                 "cycles per image", "frames/s with the link", "bits per surviving weight",
                 "analytic"):
        assert text in out
    assert "error" not in err


def test_a_wrong_spike_or_logit_is_reported(files, capsys, monkeypatch):
    path, data, *_ = files
    arguments = ("--ticket", path, "--data", data, "--images", 2, "--json")
    trace, infer = Accelerator.trace, Accelerator.infer

    def wrong_trace(self, array):
        for name, spikes in trace(self, array):
            spikes[0, 0, 0, 0] ^= 1
            yield name, spikes
    monkeypatch.setattr(Accelerator, "trace", wrong_trace)
    code, out, _ = call(capsys, *arguments)
    assert code == 1 and json.loads(out)["spike_mismatches"] == 2 * 2
    monkeypatch.setattr(Accelerator, "trace", trace)

    def wrong_infer(self, *args, **kwargs):
        result = infer(self, *args, **kwargs)
        result.logits[1, 2] += 1
        return result
    monkeypatch.setattr(Accelerator, "infer", wrong_infer)
    code, out, _ = call(capsys, *arguments)
    values = json.loads(out)
    assert code == 1 and not values["logits_equal"]
    code, out, _ = call(capsys, *arguments[:-1])
    assert code == 1 and "DIFFERENT" in out


def test_plot(files, capsys, tmp_path):
    path, data, *_ = files
    for name in ("run.png", "run.svg"):
        code, _, _ = call(capsys, "--ticket", path, "--data", data, "--images", 3,
                          "--plot", tmp_path / name)
        assert code == 0 and (tmp_path / name).stat().st_size > 5000
    assert not list(tmp_path.glob("*.part"))
    code, _, err = call(capsys, "--plot", tmp_path / "run.doc")
    assert code == 2 and "must end in one of" in err
    code, _, err = call(capsys, "--ticket", path, "--data", data, "--images", 1, "--traced", 0,
                        "--plot", tmp_path / "no" / "run.png")
    assert code == 2 and "cannot be written" in err


def test_list(capsys):
    code, out, _ = call(capsys, "--list", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert code == 0 and rows["fmnist-scnn"]["input"] == [1, 28, 28]
    code, out, _ = call(capsys, "--list")
    assert code == 0 and all(name in out for name in rows)
    assert "1 x 28 x 28" in out and f"{100 * rows['fmnist-scnn']['sparsity']:.2f} %" in out


@pytest.mark.parametrize(("mode", "static"), [("count", True), ("static", True), ("host", True),
                                              ("input", False)])
def test_spikeformers_with_a_patch_gate(tmp_path, capsys, mode, static):
    """Images and event frames, every spike compared; the core is the board's first that suits."""
    network, masks = gated_network(mode, static)
    (gate,) = network.gates.values()
    rng = np.random.default_rng(0)
    ticket.save(tmp_path / "t.safetensors", network)
    data = tmp_path / "test.npz"
    if static:
        samples = np.stack([random_input(rng, network) for _ in range(3)])
        samples = samples << (8 - network.input.bits)       # pictures of 8 bits
        np.savez(data, x_test=samples, y_test=np.zeros(3, np.int64))
    else:
        sensor = network.input.width, network.input.height
        event_files.pack(data, [event_files.sample(60, sensor, n) for n in range(3)], [0] * 3,
                           sensor=np.array([*sensor, 2]))
    more = []
    if masks is not None:
        np.save(tmp_path / "masks.npy", masks)
        code, _, err = call(capsys, "--ticket", tmp_path / "t.safetensors", "--data", data)
        assert code == 2 and "takes a mask with every image" in err
        more = ["--masks", tmp_path / "masks.npy"]
    code, out, err = call(capsys, "--ticket", tmp_path / "t.safetensors", "--data", data, "--json",
                          *more, "--plot", tmp_path / "run.png")
    values = json.loads(out)
    assert code == 0 and values["preset"] == "tiny"
    assert values["spike_mismatches"] == 0 < values["spikes_compared"]
    assert values["patches"] == {"mode": mode, "kept": gate.keep, "tokens": gate.tokens}
    code, out, err = call(capsys, "--ticket", tmp_path / "t.safetensors", "--data", data, *more)
    assert code == 0 and f"{gate.keep} of {gate.tokens} ({mode})" in out and "core tiny" in out


def spoil(path, how):
    content = bytearray(path.read_bytes())
    if how == "truncated":
        content = content[:len(content) // 2]
    elif how == "flipped":
        content[len(content) * 3 // 4] ^= 0x10
    elif how == "foreign":
        content = bytearray(b"GIF89a" + bytes(200))
    elif how == "empty":
        content = bytearray()
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["truncated", "flipped", "foreign", "empty", "missing"])
@pytest.mark.parametrize("which", [0, 1])
def test_bad_files(files, capsys, how, which):
    bad = files[which]
    if how == "missing":
        bad.unlink()
    else:
        spoil(bad, how)
    code, out, err = call(capsys, "--ticket", files[0], "--data", files[1], "--images", 2)
    assert code == 2 and out == ""
    assert err.startswith("error: ") and err.count("\n") == 1 and bad.name in err


@pytest.mark.parametrize(("arguments", "message"), [
    (["--images", "13"], "13 images asked for"), (["--images", "0"], "--images 0 is below 1"),
    (["--traced", "-1"], "--traced -1"), (["--baud", "0"], "--baud 0"),
    (["--board", "arty_a7"], "no board arty_a7 answers"),
    (["--board", "arty_a7", "--port", "/dev/nothing"], "/dev/nothing: cannot be opened"),
    (["--report", "run.txt"], "--report run.txt: the name must end in .html"),
    (["--report", "nowhere/run.html"], "there is no folder nowhere"),
    (["--input", "-"], "--data does not go with --input"),
    (["--data", "unknown"], "data set 'unknown'"),
])
def test_bad_arguments(files, capsys, arguments, message):
    code, _, err = call(capsys, "--ticket", files[0], "--data", files[1], *arguments)
    assert code == 2 and message in err and err.count("\n") == 1


def test_images_that_do_not_go_with_the_ticket(files, capsys):
    data = bundled.FOLDER / bundled.SAMPLES["fashion-mnist"]
    code, _, err = call(capsys, "--ticket", files[0], "--data", data)
    assert code == 2 and "[1, 28, 28]" in err and "[1, 8, 8]" in err


def test_without_a_compiler(files, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("SPIKETICKET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    code, _, err = call(capsys, "--ticket", files[0], "--data", files[1])
    assert code == 2 and "apt-get install g++" in err and err.count("\n") == 1


def test_a_failing_compiler_is_an_error(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("SPIKETICKET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CXX", "/bin/false")
    monkeypatch.setattr(sim_board, "gateware", lambda _: "module top(input clk); endmodule")
    assert main(["sim", "build", "--preset", "tiny"]) == 2
    assert "failed in false" in capsys.readouterr().err
    assert not list((tmp_path / "cache").glob("*"))


def test_energy_costs_are_those_of_spikingjelly():
    from spikingjelly.activation_based.op_counter.simple_energy import SimpleEnergyCostConfig
    costs = SimpleEnergyCostConfig()
    assert costs.e_ac_pj == energy.ACCUMULATE_PJ
    assert costs.e_mac_pj == energy.MULTIPLY_ACCUMULATE_PJ
    assert costs.e_memory_pj_per_byte == pytest.approx(8 * energy.MEMORY_PJ_PER_BIT)


def test_the_main_job():
    """The command as users run it, on the bundled ticket and the real board's core."""
    done = subprocess.run(
        [sys.executable, "-m", "sw.run_inference", "--json", "--images", "12", "--traced", "4"],
        cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)
    assert values["logits_equal"] and values["spike_mismatches"] == 0
    assert values["spikes_compared"] > 100_000
    assert values["accuracy"] > 0.7
