"""Inputs that a ticket carries for forecasts: chosen like their data, packed, checked."""

from __future__ import annotations

import base64
import zlib

import numpy as np
import pytest

from sw import bundled, ticket, typical
from sw.cli.app import main
from sw.data import datasets
from sw.errors import SpikeTicketError
from sw.integer.network import InputSpec, Layer, Network, Neuron, Synapses
from sw.ticket import Ticket


def network(spec: InputSpec, timesteps: int = 4) -> Network:
    rng = np.random.default_rng(0)
    zero = np.zeros(3, np.int64)
    weight = rng.integers(-7, 8, (3, spec.channels, 3, 3)).astype(np.int8)
    readout = np.ones((3, 3, 1, 1), np.int8)
    return Network(spec, timesteps, (
        Layer("a", (Synapses(weight, padding=1),), zero, zero + 20, Neuron(128)),
        Layer("out", (Synapses(readout, ("a",)),), zero, zero, None)))


def inputs(spec: InputSpec, count: int, seed: int) -> np.ndarray:
    """Half of them nearly silent, half of them busy."""
    rng = np.random.default_rng(seed)
    shape = (count, spec.channels, spec.height, spec.width)
    values = rng.integers(0, 1 << spec.bits, shape)
    density = np.where(np.arange(count) % 2, 0.05, 0.8).reshape(-1, 1, 1, 1)
    return (values * (rng.random(shape) < density)).astype(np.uint8)


def test_the_chosen_are_nearer_to_the_mean_than_the_first():
    spec = InputSpec(1, 16, 16, bits=4)
    net, x = network(spec), inputs(spec, 64, 1)
    x[:8] = x[1]                                # the first are all alike
    chosen = typical.choose(net, x)
    assert len(set(chosen)) == typical.COUNT and sorted(chosen) == list(chosen)
    active = (x > 0).mean((1, 2, 3))
    assert abs(active[chosen].mean() - active.mean()) < 0.3 * abs(active[:8].mean() - active.mean())


def test_fewer_samples_than_typical_ones_are_refused():
    spec = InputSpec(1, 16, 16, bits=4)
    with pytest.raises(SpikeTicketError, match="7 samples are fewer than the 8 typical ones"):
        typical.choose(network(spec), inputs(spec, 7, 0))


@pytest.mark.parametrize("static", [True, False])
def test_inputs_come_back(static):
    spec = InputSpec(2, 5, 6, bits=3, static=static)
    shape = (2, 5, 6) if static else (4, 2, 5, 6)
    x = np.random.default_rng(0).integers(0, 8, (8, *shape)).astype(np.uint8)
    found = Ticket(network(spec), {typical.KEY: typical.pack(x)})
    assert (typical.unpack(found) == x).all()
    assert typical.unpack(Ticket(network(spec))) is None


@pytest.mark.parametrize(("text", "message"), [
    ("%", "damaged"), (5, "damaged"), (base64.b64encode(b"no").decode(), "damaged"),
    (typical.pack(np.zeros(7, np.uint8)), "no inputs of 1x5x6 with 3 bits"),
    (typical.pack(np.full(30, 8, np.uint8)), "no inputs of 1x5x6 with 3 bits"),
    (base64.b64encode(zlib.compress(bytes(1 << 24))).decode(), "no inputs of 1x5x6 with 3 bits")])
def test_damaged_ones_are_refused_by_name(text, message):
    found = Ticket(network(InputSpec(1, 5, 6, bits=3)), {typical.KEY: text})
    with pytest.raises(SpikeTicketError, match=f"typical_inputs are {message}"):
        typical.unpack(found)


def test_the_command_writes_them_into_a_ticket(tmp_path, capsys):
    source = ticket.load(bundled.find("fmnist-scnn"))
    facts = {k: v for k, v in source.metadata.items() if k != typical.KEY}
    ticket.save(tmp_path / "t.safetensors", source.network, facts)
    pack = tmp_path / "images.npz"
    x = datasets.load(bundled.data_for(source), "test", limit=12)
    np.savez(pack, x_train=x.images, y_train=x.labels, x_test=x.images, y_test=x.labels)
    assert main(["import", "typical", str(tmp_path / "t.safetensors"), "--data", str(pack)]) == 0
    written = ticket.load(tmp_path / "t.safetensors")
    assert len(typical.unpack(written)) == typical.COUNT and "8 typical" in capsys.readouterr().out
    assert {k: v for k, v in written.metadata.items() if k != typical.KEY} == facts
