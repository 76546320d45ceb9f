"""Networks with drawn weights: sparsity, exactness, errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hw.config import PRESETS
from sw import drawn, ticket
from sw.cli.app import main
from sw.compile.coding import decode_logits
from sw.compile.compiler import compile_network
from sw.core import machine
from sw.errors import SpikeTicketError
from sw.integer import reference
from sw.integer.network import Layer

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = {"depth": 1, "width": 16, "heads": 2, "side": 16, "channels": 1, "classes": 3}
CORE = replace(PRESETS["tiny"], map_words=4096, weight_words=8192)


@pytest.mark.parametrize("keep, patch", [(None, 4), (5, 4)])
def test_it_is_as_sparse_as_asked_and_runs_exactly(keep, patch):
    network = drawn.drawn_network(**SMALL, patch=patch, sparsity=0.7, keep=keep)
    # Rounded in each layer (q, k and v are one); a weight may round to 0 as an integer.
    assert network.weights_surviving <= 0.3 * network.weights_total + len(network.layers)
    assert any(isinstance(layer, Layer) and layer.attention is not None
               for layer in network.layers)
    image = compile_network(network, CORE)
    array = np.random.default_rng(0).integers(0, 256, (1, 16, 16)).astype(np.uint8)
    run = reference.run(network, array[None])
    assert (decode_logits(image, machine.run(image, array).memory) == run.logits[0]).all()
    assert (run.kept["token_gate"].shape == (1, keep)) if keep else not run.kept


def test_the_command_writes_a_ticket(tmp_path, capsys):
    path = tmp_path / "drawn.safetensors"
    options = [part for name, value in SMALL.items() for part in (f"--{name}", str(value))]
    assert main(["import", "drawn", *options, "--sparsity", "0.9", "--out", str(path)]) == 0
    found = ticket.load(path)
    assert found.network.sparsity >= 0.89 and found.metadata["trained"] is False
    assert "drawn, not trained" in capsys.readouterr().out


def test_shapes_that_do_not_exist_are_refused():
    with pytest.raises(SpikeTicketError, match="no such Spikformer"):
        drawn.drawn_network(**SMALL | {"heads": 3})
    with pytest.raises(SpikeTicketError):
        drawn.drawn_network(**SMALL, keep=99)


def test_own_networks_run_exactly():
    network = drawn.drawn_network("8p-12p", side=16, channels=1, classes=3, sparsity=0.5, bits=1,
                                  theta=1.5)
    assert 0.45 < network.sparsity < 0.55
    assert all(set(np.unique(syn.weight)) <= {-1, 0, 1} for _, syn in network.synapses())
    image = compile_network(network, CORE)
    array = np.random.default_rng(0).integers(0, 256, (1, 16, 16)).astype(np.uint8)
    assert (decode_logits(image, machine.run(image, array).memory)
            == reference.run(network, array[None]).logits[0]).all()


@pytest.mark.parametrize(("options", "message"), [
    (["--model", "8p-12p", "--keep", "3"], "--keep 3 is of SpikingJelly's Spikformer"),
    (["--theta", "2"], "--theta 2 is of our own networks"),
    (["--model", "nosuch"], "'nosuch' is unknown"),
])
def test_settings_that_a_network_does_not_have_are_refused(options, message, tmp_path, capsys):
    out = tmp_path / "drawn.safetensors"
    assert main(["import", "drawn", *options, "--out", str(out)]) == 2
    assert message in capsys.readouterr().err and not out.exists()
