"""The ladder: networks without one kind of sparsity, thinned spikes, slopes, the command."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from hw.config import PRESETS
from sim.samples.networks import random_input, random_network
from sim.samples.spikeformers import random_masks, random_spikeformer
from sw import ticket
from sw.cli.app import main
from sw.integer import reference
from sw.integer.gate import Gate, Select
from sw.integer.network import INPUT
from sw.ladder import measure, result, variants
from sw.plots import ladder as plots

SMALL = replace(PRESETS["tiny"], map_words=2048, weight_words=8192)


def a_spikeformer(seed: int, mode: str | None):
    rng = np.random.default_rng(seed)
    while True:
        network = random_spikeformer(rng, modes=(mode,), max_side=8, max_heads=1, max_blocks=1,
                                     max_timesteps=4, overlapping=False, column=False)
        if network.timesteps >= 2 and (mode is None or network.gates["gate"].tokens >= 8):
            return rng, network


def test_dense_has_every_weight_and_thinning_removes_the_asked_share():
    network = random_network(np.random.default_rng(0), max_channels=6)
    assert variants.dense_weights(network).sparsity == 0
    dense = variants.dense_weights(network)
    left = variants.thinned_weights(dense, 0.5).weights_surviving / dense.weights_surviving
    assert 0.4 < left < 0.6
    assert variants.thinned_weights(network, 1.0).weights_surviving == network.weights_surviving


@pytest.mark.parametrize("mode", ["static", "host", "count"])
def test_without_its_gate_a_network_is_the_one_that_keeps_all(mode):
    rng, network = a_spikeformer(1, mode)
    gate = next(iter(network.gates.values()))
    values = np.stack([random_input(rng, network) for _ in range(2)])
    plain = variants.ungated(network)
    assert not any(isinstance(layer, Gate | Select) for layer in plain.layers)
    everything = variants.with_keep(network, gate.tokens)
    masks = np.ones((2, gate.tokens), bool) if gate.mode == "host" else None
    assert (reference.run(plain, values).logits
            == reference.run(everything, values, masks=masks).logits).all()


def test_fewer_kept_tokens_are_some_of_those_kept_before():
    _, network = a_spikeformer(2, "static")
    gate = network.gates["gate"]
    keep = max(1, gate.keep - 1)
    fewer = variants.with_keep(network, keep).gates["gate"]
    assert fewer.keep == int(fewer.mask.sum()) == keep
    assert not (fewer.mask & ~gate.mask).any()


def test_thinned_spikes_keep_whole_groups_of_timesteps():
    rng = np.random.default_rng(3)
    spikes = {"a": rng.integers(0, 2, (6, 3, 5, 5)).astype(np.uint8),
              INPUT: np.repeat(rng.integers(0, 256, (1, 1, 9, 9)), 6, 0).astype(np.uint8)}
    thin = variants.thinned_spikes(spikes, 0.5, bits=8, static=True)
    assert variants.thinned_spikes(spikes, 1.0, bits=8, static=True)["a"].sum() == spikes["a"].sum()
    assert ((thin["a"] & ~spikes["a"]) == 0).all() and (thin[INPUT] & ~spikes[INPUT] == 0).all()
    assert (thin[INPUT] == thin[INPUT][0]).all()
    for group in (slice(0, 4), slice(4, 6)):
        kept, old = thin["a"][group].any(0), spikes["a"][group].any(0)
        assert ((thin["a"][group] == spikes["a"][group]) | ~kept).all()
        assert 0 < kept.sum() < old.sum()


def test_a_slope_is_that_of_a_power_law():
    points = [result.Point(x, 0.0, dict.fromkeys(result.PHASES, 0.0) | {"synapses": 3 * x ** 0.7})
              for x in (1.0, 0.5, 0.25)]
    sweep = result.Sweep("x", points)
    assert sweep.slope == pytest.approx(0.7)
    assert sweep.halvings == pytest.approx([2 ** 0.7, 2 ** 0.7])


@pytest.mark.parametrize("mode", [None, "count", "host"])
def test_phases_add_up_and_every_rung_saves(mode):
    rng, network = a_spikeformer(4, mode)
    values = np.stack([random_input(rng, network) for _ in range(2)])
    found = measure.climb(network, SMALL, values, random_masks(rng, network, 2))
    for point in found.rungs.values():
        assert sum(point.phases.values()) == pytest.approx(point.total)
    cycles = {name: point.total for name, point in found.rungs.items()}
    assert cycles["dense"] >= cycles["spike skip"] >= cycles["both"]
    assert cycles["dense"] >= cycles["weight skip"] >= cycles["both"]
    assert ("+ patch gate" in cycles) == (mode is not None)
    assert found.rungs["both"].phases["attention"] > 0
    json.dumps(found.as_dict())


def test_the_command_prints_draws_and_refuses(tmp_path, capsys):
    seed = 5
    _, network = a_spikeformer(seed, "count")
    while not network.input.static or network.input.channels != 1:
        seed += 1
        _, network = a_spikeformer(seed, "count")
    spec = network.input
    path, data = tmp_path / "t.safetensors", tmp_path / "data_test.npz"
    ticket.save(path, network)
    images = np.random.default_rng(0).integers(0, 1 << spec.bits, (2, spec.height, spec.width))
    images = (images << (8 - spec.bits)).astype(np.uint8)       # pictures of 8 bits
    np.savez(data, x_test=images, y_test=np.zeros(2, np.uint8))
    drawing, patches = tmp_path / "l.svg", tmp_path / "p.png"
    common = ["bench", "ladder", "--ticket", str(path), "--data", str(data)]
    assert main([*common, "--images", "2", "--preset", "tiny", "--json", "--plot", str(drawing),
                 "--patches", str(patches)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert set(printed["sweeps"]) == {"kept patches", "density", "activity", "spike rate"}
    assert drawing.stat().st_size > 1000 and patches.stat().st_size > 1000
    assert main(["bench", "ladder", "--ticket", "no such ticket"]) == 2
    assert "fmnist-scnn" in capsys.readouterr().err
    assert main([*common, "--plot", "x.gif"]) == 2
    assert not list(tmp_path.glob("*.part"))


def test_ticks_of_a_sweep_do_not_overlap():
    """Ends always; between them those that are a quarter of the axis apart."""
    values = [0.01, 0.02, 0.04, 0.05, 0.1, 0.2, 0.5, 0.9, 1.0]
    kept = plots.ticks(values)
    assert kept[0] == 0.01 and kept[-1] == 1.0 and 3 <= len(kept) <= 5
    assert np.diff(np.log(kept)).min() >= np.log(100) / 4
    assert plots.ticks([0.3]) == [0.3] and plots.ticks([0.5, 1.0]) == [0.5, 1.0]
