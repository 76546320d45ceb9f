"""The float network beside its integers, attention, gates and calibration included."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from sw.errors import SpikeTicketError
from sw.imports import calibrate, compare
from sw.imports.floats import FloatNetwork
from sw.imports.integers import Imported, build
from sw.integer import reference
from sw.integer.attention import Attention, ColumnAttention
from sw.integer.floats import FloatAttention, FloatLayer, FloatNeuron, FloatSynapses
from sw.integer.gate import Gate, Select
from sw.integer.network import InputSpec

CHANNELS, SIDE = 16, 6
KINDS = ("self", "column")
GATES = ("", "static", "host", "count", "input")


def neuron(channels: int, theta: float, decay: float = 0.5) -> FloatNeuron:
    zeros = torch.zeros(channels, dtype=torch.float64)
    return FloatNeuron(decay, zeros + theta, zeros)


def layer(name: str, sources: tuple[str, ...], shape: tuple[int, ...], seed: int, theta: float,
          grid: bool) -> FloatLayer:
    g = torch.Generator().manual_seed(seed)
    weight = torch.randint(-7, 8, shape, generator=g).double()
    weight.flatten(1)[:, 0] = 7
    if not grid:
        weight = weight + torch.rand(shape, generator=g).double() - 0.5
    bias = torch.randint(-2, 6, shape[:1], generator=g).double()
    return FloatLayer(name, (FloatSynapses(weight, sources),), bias,
                      neuron(shape[0], theta) if name != "out" else None)


def network(kind: str, gate: str, grid: bool = True) -> Imported:
    """Tokens of a 6x6 map, half of them kept, attention over these, a readout."""
    ops: list = [layer("a", ("input",), (CHANNELS, 2, 1, 1), 1, 20, grid)]
    stream = "a"
    if gate:
        mask = np.arange(SIDE ** 2) % 2 == 0 if gate == "static" else None
        made = Gate("gate", gate, SIDE ** 2 // 2, (SIDE, SIDE), ("a",) if gate == "count" else (),
                    mask)
        ops.insert(0 if gate == "input" else 1, made)
        ops.append(Select("kept", "a", "gate"))
        stream = "kept"
    ops += [layer(n, (stream,), (CHANNELS, CHANNELS, 1, 1), i, 25, grid)
            for i, n in enumerate("qkv", 2)]
    attention = Attention("q", "k", "v", 2) if kind == "self" else ColumnAttention("q", "k", "v")
    ops.append(FloatAttention("s", attention, neuron(CHANNELS, 0.5, 0.5), 0.125))
    ops += [layer("b", (stream, "s"), (CHANNELS, CHANNELS, 1, 1), 6, 25, grid),
            layer("out", ("b",), (3, CHANNELS, 1, 1), 7, 1, grid)]
    return build(ops, InputSpec(2, SIDE, SIDE, 3), 4)


def inputs(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    masks = rng.random((count, SIDE ** 2)).argsort(1) < SIDE ** 2 // 2
    return rng.integers(0, 8, (count, 2, SIDE, SIDE)).astype(np.uint8), masks


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gate", GATES)
def test_attention_and_gates_run_in_floats(kind, gate):
    imported = network(kind, gate)
    assert imported.notes == ()
    x, masks = inputs(10)
    masks = masks if gate == "host" else None
    agreement = compare(imported, x, batch=4, masks=masks)
    assert agreement.identical and agreement.labels == 1.0
    spikes: dict[str, Tensor] = {}
    kept: dict[str, Tensor] = {}
    logits = FloatNetwork(imported)(torch.from_numpy(x), spikes, masks=None if masks is None
                                    else torch.from_numpy(masks), kept=kept)
    run = reference.run(imported.network, x, masks=masks)
    assert torch.equal(logits, torch.from_numpy(run.logits) * imported.units["out"])
    for name in ("a", "q", "s", "b"):
        assert np.array_equal(spikes[name].numpy(), run.spikes[name]), name
        assert 0.02 < run.spikes[name].mean() < 0.98, name
    for name, tokens in kept.items():
        assert np.array_equal(tokens.numpy(), run.kept[name])


def test_a_wrong_count_shows():
    """The comparison can fail: attention one count off in the integers."""
    imported = network("self", "")
    layers = list(imported.network.layers)
    at = next(i for i, a in enumerate(layers) if a.name == "s")
    layers[at].threshold[:] += 1
    assert not compare(imported, inputs(10)[0]).identical


@pytest.mark.parametrize("kind", KINDS)
def test_calibration_reaches_the_layers_behind_attention_and_gates(kind):
    imported = network(kind, "host", grid=False)
    x, masks = inputs(24)
    better = calibrate(imported, x, 10, masks)
    assert better.facts["biases_corrected"] > 0 and better.facts["calibrated_on"] == 24

    def apart(made: Imported) -> float:
        floats: dict[str, Tensor] = {}
        FloatNetwork(imported)(torch.from_numpy(x), currents=floats, masks=torch.from_numpy(masks))
        run = reference.run(made.network, x, masks=masks)
        last = made.network.layers[-2]
        found = reference.layer_current(made.network, last, run.spikes).mean((0, 1, 3, 4))
        return float(np.abs(found - floats["b"].mean(0).numpy()).mean())
    assert apart(better) < apart(imported)
    attention = next(a for a in better.network.layers if a.name == "s")
    assert not attention.bias.any()
    with pytest.raises(SpikeTicketError, match="takes a mask with every image"):
        calibrate(imported, x)
