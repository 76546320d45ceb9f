"""`spiketicket plan`: fit, forecast and refusals."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from hw.boards import BOARDS
from hw.config import PRESETS
from sim.samples.spikeformers import random_spikeformer
from sw import bundled, plan, ticket, typical
from sw.cli.app import main
from sw.compile.compiler import compile_network
from sw.compile.least import least
from sw.core import cores, cycles
from sw.data import datasets
from sw.integer import reference
from sw.integer.attention import Attention, ColumnAttention
from sw.integer.gate import MODES
from sw.integer.network import InputSpec, Layer, Network, Neuron, Pool, Synapses


def network(channels: int) -> Network:
    rng = np.random.default_rng(0)
    zero = np.zeros(channels, np.int64)

    def weights(*shape):
        return (rng.integers(-8, 8, shape) * (rng.random(shape) < 0.3)).astype(np.int8)

    return Network(InputSpec(1, 16, 16, bits=4), 4, (
        Layer("a", (Synapses(weights(channels, 1, 3, 3), padding=1),), zero, zero + 9, Neuron(128)),
        Layer("b", (Synapses(weights(channels, channels, 3, 3), ("a",), padding=1),), zero,
              zero + 9, Neuron(128)),
        Layer("out", (Synapses(weights(10, channels, 1, 1), ("b",)),),
              np.zeros(10, np.int64), np.zeros(10, np.int64), None)), name=f"net{channels}")


@pytest.fixture
def tickets(tmp_path):
    paths = {}
    for channels in (4, 400):
        paths[channels] = tmp_path / f"net{channels}.safetensors"
        ticket.save(paths[channels], network(channels), {
            "activity_by_layer": {"a": {"active": 0.1, "spike_rate": 0.1},
                                  "b": {"active": 0.2, "spike_rate": 0.1}}})
    return paths


def run(capsys, *arguments) -> tuple[int, str, str]:
    code = main(["plan", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_both_tiers_are_shown(tmp_path, capsys):
    """What streams from DRAM, how much an image, and what takes each layer's cycles."""
    path = tmp_path / "net48.safetensors"
    ticket.save(path, network(48), {})
    code, out, _ = run(capsys, path, "--board", "sim", "--preset", "tinyd")
    assert code == 0
    assert re.search(r"DRAM: 6,144 bytes an image, the weights of 1 of 3 layers", out)
    assert re.search(r"^  b .* synapses +DRAM$", out, re.M)
    assert re.search(r"^  a .* synapses +block RAM$", out, re.M)
    code, out, _ = run(capsys, path, "--board", "sim", "--preset", "tinyd", "--json")
    told = json.loads(out)
    assert told["dram_bytes_per_image"] == 6144
    assert set(told["bound_by_layer"]) == {"a", "b", "out"}
    assert [layer["streamed"] for layer in told["layers"]] == [False, True, False]
    code, out, _ = run(capsys, path, "--board", "sim", "--preset", "large")
    assert code == 0 and "DRAM" not in out


def test_fits(tickets, capsys):
    code, out, _ = run(capsys, tickets[4], "--board", "arty_a7", "--json")
    result = json.loads(out)
    assert code == 0 and result["fits"] is True
    assert result["activity"].startswith("drawn at the rates that the ticket records")
    assert result["samples"] == 0
    assert result["cycles_per_image"] == sum(result["cycles_by_layer"].values()) + round(
        result["cycles_by_cause"]["sequencer"])
    assert result["frames_per_s"] == pytest.approx(1e8 / result["cycles_per_image"])
    pairs = [f"weight memory {pair}" for pair in range(BOARDS["arty_a7"].config.pairs)]
    assert [memory["name"] for memory in result["memories"]] == [
        "map memory", *pairs, "program memory", "tap table", "plane table"]
    code, out, _ = run(capsys, tickets[4])
    assert code == 0 and "net4 on sim" in out and "forecast" in out


def test_does_not_fit_names_memory_and_shortage(tickets, capsys):
    code, out, _ = run(capsys, tickets[400], "--json")
    result = json.loads(out)
    assert code == 1 and result["fits"] is False and result["frames_per_s"] is None
    short = {memory["name"]: memory["short"] for memory in result["memories"] if memory["short"]}
    assert short["map memory"] > 0
    code, out, _ = run(capsys, tickets[400])
    assert code == 1 and "does NOT fit" in out
    assert f"SHORT BY {short['map memory']:,}" in out


MEASURED = {"fmnist-scnn": 17_363, "fmnist-scnn-wide": 26_159, "fmnist-spikeformer": 78_200,
            "nmnist-spikeformer": 63_225}
"""Cycles per image on the board (README, docs/training.md): means of 20 to 500 test samples."""


@pytest.mark.parametrize("name", bundled.names())
def test_bundled_tickets_are_forecast_as_they_are_measured(name, capsys):
    code, out, _ = run(capsys, name, "--board", "arty_a7", "--json")
    result = json.loads(out)
    assert code == 0 and result["samples"] == typical.COUNT
    assert result["cycles_per_image"] == pytest.approx(MEASURED[name], rel=0.03)
    least, most = result["cycles_spread"]
    assert least < result["cycles_per_image"] < most
    assert result["bits_per_weight"] <= 1.25 * result["entropy_bits_per_weight"]


def test_data_is_forecast_sample_by_sample_as_the_board_runs_it(capsys):
    found = ticket.load(bundled.find("fmnist-scnn"))
    data = bundled.data_for(found)
    code, out, _ = run(capsys, "fmnist-scnn", "--board", "arty_a7", "--data", data, "--json")
    result = json.loads(out)
    image = compile_network(found.network, PRESETS["a35t"], plan.recorded_activity(found))
    inputs = datasets.for_network(found.network, data, limit=plan.SAMPLE).images
    totals = [cycles.simulate(image, x).total for x in inputs]
    assert code == 0 and result["cycles_per_image"] == round(np.mean(totals))
    assert result["cycles_spread"] == [min(totals), max(totals)]
    assert result["activity"] == f"that of {plan.SAMPLE} samples of {data}"


def test_bad_tickets_end_with_one_line_and_code_2(tmp_path, capsys):
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"not a ticket")
    for path in (bad, tmp_path / "missing.safetensors"):
        code, out, err = run(capsys, path)
        assert code == 2 and not out
        assert err.startswith("error: ") and err.count("\n") == 1 and path.name in err


def beyond(timesteps: int = 4, size: int = 16, heads: int = 0, column: bool = False,
           pool: Pool | None = None, stride=1, sum_pool=1) -> Network:
    """A small network with one thing that a core may lack."""
    rng, zero = np.random.default_rng(1), np.zeros(16, np.int64)
    first = Synapses(rng.integers(-7, 8, (16, 1, 3, 3)).astype(np.int8), stride=stride, padding=1)
    layers = [Layer("a", (first,), zero, zero + 9, Neuron(128), pool)]
    if heads or column:
        kind = ColumnAttention("a", "a", "a") if column else Attention("a", "a", "a", heads)
        layers.append(Layer("s", (), zero, zero + 2, Neuron(128), None, kind))
    read = rng.integers(-7, 8, (10, 16, 1, 1)).astype(np.int8)
    layers.append(Layer("out", (Synapses(read, (layers[-1].name,), sum_pool=sum_pool),),
                        zero[:10], zero[:10], None))
    return Network(InputSpec(1, size, size, bits=4), timesteps, tuple(layers), name="beyond")


@pytest.mark.parametrize("changes, reason", [
    ({"timesteps": 20}, "runs 20 timesteps, the core at most 16; merge neighbouring frames"),
    ({"stride": (2, 1)}, "'a' of 'beyond': stride of 2 rows and 1 columns; the core has one"),
    ({"pool": Pool("or", (2, 4))}, r"pool 'or' of size \(2, 4\).* so make them equal"),
    ({"pool": Pool("max", 3, 1, 1)}, "pool 'max' of size 3, stride 1, padding 1; the core has"),
    ({"size": 64, "pool": Pool("or", 32)}, "pool 'or' of size 32, stride 32; the core has up to"),
    ({"size": 64, "sum_pool": 32}, "average pool of 32x32, the core has up to 16x16; pool in two"),
    ({"heads": 4}, "'s' of 'beyond': heads of 4 channels, the core has 8 to 64; change the number"),
    ({"heads": 1, "size": 20}, "attention over 400 tokens, the core has at most 256; pool the"),
    ({"column": True}, "the core has no column attention; use self-attention"),
    ({"size": 128}, "a channel of 512 words exceeds the 255 of a map; use smaller maps"),
])
def test_what_no_core_has_is_said_in_one_line(tmp_path, capsys, changes, reason):
    """The integer network runs it; the plan says what would fit, and the reason once."""
    network = beyond(**changes)
    assert reference.run(network, np.zeros((1, 1, *[network.input.height] * 2), np.uint8))
    ticket.save(tmp_path / "t.safetensors", network)
    for board in ("arty_a7", "ulx3s_85f"):
        code, out, err = run(capsys, tmp_path / "t.safetensors", "--board", board)
        assert code == 1 and not err and "does NOT fit" in out
        assert sum(bool(re.search(reason, line)) for line in out.splitlines()) == 1, out
        code, out, _ = run(capsys, tmp_path / "t.safetensors", "--board", board, "--json")
        assert code == 1 and re.search(reason, json.loads(out)["reason"])


def test_boards_have_presets():
    assert BOARDS["sim"].config == BOARDS["arty_a7"].config == PRESETS["a35t"]
    assert BOARDS["arty_a7_100"].config == PRESETS["a100t"]


@pytest.mark.parametrize("mode", MODES)
def test_a_gated_ticket_is_planned_for_the_core_that_has_a_gate(tmp_path, capsys, mode):
    rng = np.random.default_rng(2)
    network = random_spikeformer(rng, modes=(mode,), max_blocks=1, column=False)
    ticket.save(tmp_path / "t.safetensors", network)
    for board, preset in (("arty_a7", "a35tf"), ("ulx3s_85f", "e45f"), ("arty_a7_100", "a100tf")):
        code, out, _ = run(capsys, tmp_path / "t.safetensors", "--board", board, "--json")
        result = json.loads(out)
        assert code == 0 and result["preset"] == preset
        kinds = [layer["kind"] for layer in result["layers"]]
        assert kinds.count("gate") == 1 and {"select", "attention"} <= set(kinds)
    code, out, _ = run(capsys, tmp_path / "t.safetensors", "--preset", "a35tf")
    assert code == 0 and "core a35tf" in out and "attention" in out
    code, out, _ = run(capsys, tmp_path / "t.safetensors", "--preset", "a35t")
    assert code == 1 and "no patch gate; choose a preset with one" in out


def test_a_network_without_attention_takes_the_smaller_core():
    board = BOARDS["arty_a7"]
    assert cores.choose(board, network(4)) == ("a35t", board.config)
    assert board.presets == ("a35t", "a35tw", "a35te", "a35tf", "a35td")
    first, *others = network(4).layers
    heavy = Synapses(np.full((4, 1, 5, 5), 127, np.int8), padding=2, bits=8)     # 25 x 127
    wide = replace(network(4), layers=(replace(first, synapses=(heavy,)), *others))
    assert cores.choose(board, wide)[0] == "a35tw"
    assert cores.choose(BOARDS["ulx3s_85f"], network(4), "a35tf")[1].clock_hz == 80_000_000


# -- what no core could do without ----------------------------------------------------------------


def test_least_memory_by_hand():
    """Weights at their entropy bound; maps of the layer that reads and writes most."""
    zero = np.zeros(2, np.int64)
    half = np.array([1, 0, -1, 0], np.int8)
    ternary = Network(InputSpec(1, 4, 4, bits=8), 3, (
        Layer("a", (Synapses(np.tile(half[:1], (2, 1, 1, 1)).reshape(2, 1, 1, 1), bits=2),), zero,
              zero + 1),
        Layer("b", (Synapses(half.reshape(2, 2, 1, 1), ("a",), bits=2),), zero, zero + 1),
        Layer("c", (Synapses(half.reshape(2, 2, 1, 1), ("a", "b"), bits=2),), zero, zero + 1),
        Layer("out", (Synapses(half.reshape(2, 2, 1, 1), ("a", "b", "c"), bits=2),), zero, zero,
              None)))
    found = least(ternary)
    # a: both weights stay, 2 bits each; the others: 2 of 4 stay, a bit a place and 2 bits each
    assert found.weights == 2 * 2 + 3 * (4 + 2 * 2)
    # c reads a + b, numbers in 0..2, and writes a map: 2 channels, 16 positions, 3 timesteps;
    # a reads an image once, out a sum of three maps
    map_bits = 2 * 16 * 3
    assert (found.maps, found.layer) == (2 * map_bits + map_bits, "c")


def test_plan_says_what_no_core_could_hold(tmp_path, capsys):
    weight = np.ones((512, 512, 3, 3), np.int8)
    zero = np.zeros(512, np.int64)
    big = Network(InputSpec(512, 4, 4, bits=1), 4, (
        Layer("out", (Synapses(weight, padding=1, bits=2),), zero, zero, None),), name="big")
    ticket.save(tmp_path / "big.safetensors", big)
    code, out, _ = run(capsys, tmp_path / "big.safetensors", "--board", "arty_a7")
    assert code == 1 and out.rstrip().endswith("the device's block RAM has 1,843 kbit: too much "
                                               "for any")
    assert "4,719 kbit of weights" in out
