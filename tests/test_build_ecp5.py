"""A small core all the way to an ECP5 bitstream, with the real programs (about 100 s of CPU)."""

import json
from pathlib import Path

import numpy as np
import pytest

from hw.build import build, tools, usage
from hw.config import PRESETS
from hw.core import Core
from sim.runner import run_bench
from sim.samples.networks import random_input, random_network
from sw.cli.app import main
from sw.compile.compiler import DoesNotFit, compile_network
from tests.test_core import check_case, write_cases

ARGUMENTS = ["--board", "versa_ecp5", "--preset", "micro", "--clock", "50", "--seed", "1"]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ecp5")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "WORK", folder / "work")
        code = main(["build", *ARGUMENTS, "--output", str(folder / "out")])
    return code, json.loads((folder / "out" / "report.json").read_text()), folder


def test_bitstream_is_made_and_meets_its_clock(built):
    code, values, folder = built
    assert code == 0 and values["routed"] and values["timing_met"]
    bits = (folder / "out" / values["bitstream"]).read_bytes()
    assert bytes.fromhex("ffffbdb3") in bits[:1000]        # the preamble of an ECP5 bitstream
    assert len(bits) < 1_500_000
    assert values["clock_mhz"] >= values["clock_mhz_target"] == 50
    assert values["pll"]["input_mhz"] == 100


def test_counts_add_up(built):
    _, values, _ = built
    assert values["counts"] == "placed"
    for resource in ("lut", "ff", "dp16kd", "dsp"):
        assert sum(unit[resource] for unit in values["units"].values()) == values[resource] > 0
    for unit in ("engine.unit", "engine.fetch", "engine.decoder", "link", "map", "weights"):
        assert any(values["units"][unit].values())


def test_memories_are_memories(built):
    _, values, _ = built
    assert {row["mapped"] for row in values["memories"]} == {usage.BLOCK, usage.DISTRIBUTED}
    found = {row["name"].split("core.")[-1]: row["mapped"] for row in values["memories"]}
    assert found["map0.ram"] == found["weights0.ram"] == usage.BLOCK
    # the promise about collisions saves a second copy
    assert values["units"]["map"]["dp16kd"] == values["units"]["weights"]["dp16kd"] == 1


def test_critical_path_is_in_our_units(built):
    _, values, _ = built
    path = values["critical_path"]
    total = sum(step["logic_ns"] + step["routing_ns"] for step in path)
    assert total == pytest.approx(1e3 / values["clock_mhz"], rel=.02)
    assert {step["unit"] for step in path} <= set(values["units"])


def test_second_build_is_found(built, monkeypatch, capsys):
    _, values, folder = built
    monkeypatch.setattr(build, "WORK", folder / "work")

    def never(*_, **__):
        raise AssertionError("a program was run")

    monkeypatch.setattr(tools, "run", never)
    assert main(["build", *ARGUMENTS, "--json", "--output", str(folder / "out")]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["found"] and again["build_id"] == values["build_id"]


def test_the_small_core_computes(tmp_path):
    """Preset `micro` is no mere filling: random networks on it equal the reference."""
    config = PRESETS["micro"]
    rng = np.random.default_rng(5)
    cases = []
    while len(cases) < 6:
        network = random_network(rng, max_size=4, max_channels=3, max_layers=2, name="small")
        try:
            cases.append((network, compile_network(network, config, keep_all=True)))
        except DoesNotFit:
            continue
    inputs = [np.stack([random_input(rng, network) for _ in range(2)]) for network, _ in cases]
    folders = write_cases(tmp_path, cases, inputs)
    run_bench(Core(config), "sim.units.core.bench", cases=folders)
    for (network, image), arrays, folder in zip(cases, inputs, folders, strict=True):
        check_case(network, image, arrays, Path(folder))
