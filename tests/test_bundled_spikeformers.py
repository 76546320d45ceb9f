"""The bundled Spikeformer tickets are what their metadata and docs/training.md say."""

import json
import os

import numpy as np
import pytest
import torch

from sw import bundled, ticket
from sw.data import datasets
from sw.errors import SpikeTicketError
from sw.integer import reference
from sw.integer.spikingjelly import IntegerNetwork, evaluate
from sw.nets.spikeformer import parse
from sw.tickets.config import from_yaml

NAMES = ("fmnist-spikeformer", "nmnist-spikeformer")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", params=NAMES)
def found(request):
    return ticket.load(bundled.find(request.param))


def test_its_metadata_are_those_of_its_network(found):
    network, info = found.network, found.metadata
    config, name = from_yaml(info["config"]), parse(info["model"])
    assert network.sparsity == info["sparsity"] >= 0.9
    assert {syn.bits for _, syn in network.synapses()} == {config.bits} == {4}
    assert network.timesteps == config.timesteps
    (gate,) = network.gates.values()
    assert (gate.mode, gate.keep, gate.tokens) == (
        info["gate"], info["tokens_kept"], info["tokens"])
    assert gate.keep <= 0.7 * gate.tokens and gate.tokens == 64
    layers = {layer.name: layer for layer, _ in network.synapses()}
    assert {f"block{i}.fc1" for i in range(1, name.blocks + 1)} <= set(layers)
    assert len(layers["block1.q"].bias) == name.width
    accuracies = [info[f"accuracy_{kind}"] for kind in ("dense", "dense_integer", "ticket",
                                                        "integer")]
    assert all(0.5 < a <= 1 for a in accuracies) and info["integer_images"] == info["images_test"]


def test_the_fashion_mnist_ticket_meets_the_goals():
    info = ticket.load(bundled.find("fmnist-spikeformer")).metadata
    name = parse(info["model"])
    assert name.blocks >= 2 and name.width >= 96 and info["gate"] == "count"
    assert info["images_train"] == 60_000 and info["images_test"] == 10_000
    assert info["accuracy_integer"] >= 0.89


def test_the_event_ticket_meets_the_goals():
    found = ticket.load(bundled.find("nmnist-spikeformer"))
    assert found.network.timesteps >= 8 and not found.network.input.static
    assert found.metadata["gate"] == "input" and found.metadata["images_test"] == 100


def test_its_log_is_its_search_s(found):
    name = found.network.name
    lines = [json.loads(line)
             for line in (bundled.FOLDER / f"{name}.log.jsonl").read_text().splitlines()]
    info = found.metadata
    assert len(lines) == info["epochs"]
    last = {line["stage"]: line for line in lines}
    ticket_stage = max(stage for stage in last if stage.startswith("round"))
    assert last["dense"]["test_accuracy"] == pytest.approx(info["accuracy_dense"], abs=1e-5)
    assert last[ticket_stage]["test_accuracy"] == pytest.approx(info["accuracy_ticket"], abs=1e-5)
    # Training measures the very integers that are exported.
    assert last["integer"]["test_accuracy"] == pytest.approx(info["accuracy_integer"], abs=1e-5)
    assert last["dense integer"]["test_accuracy"] == pytest.approx(
        info["accuracy_dense_integer"], abs=1e-5)


def test_its_integers_are_the_reference_s(found):
    network = found.network
    rng = np.random.default_rng(0)
    spec = network.input
    shape = (spec.channels, spec.height, spec.width)
    lead = (2,) if spec.static else (2, network.timesteps)
    samples = rng.integers(0, 1 << spec.bits, (*lead, *shape)) * (rng.random((*lead, *shape)) < 0.2)
    x = torch.from_numpy(samples.astype(np.uint8))
    logits = IntegerNetwork(network)(x if spec.static else x.transpose(0, 1))
    ran = reference.run(network, samples.astype(np.uint8))
    assert np.array_equal(ran.logits, logits.numpy())


def test_accuracy_on_bundled_images():
    found = ticket.load(bundled.find("fmnist-spikeformer"))
    data = datasets.for_network(found.network, bundled.data_for(found), limit=200)
    accuracy, _ = evaluate(found.network, data.images, data.labels)
    # 200 of the 10,000: three standard deviations around the stated accuracy
    assert accuracy == pytest.approx(found.metadata["accuracy_integer"], abs=0.07)


def test_accuracy_on_the_test_recordings():
    if not os.environ.get("SPIKETICKET_DATA"):
        pytest.skip("SPIKETICKET_DATA names no folder of data sets")
    found = ticket.load(bundled.find("nmnist-spikeformer"))
    try:
        data = datasets.for_network(found.network, found.metadata["data"])
    except SpikeTicketError as error:
        pytest.skip(str(error))
    accuracy, activity = evaluate(found.network, data.images[:100], data.labels[:100])
    if len(data) != found.metadata["images_test"]:
        pytest.skip(f"{len(data)} test recordings here, {found.metadata['images_test']} there")
    assert accuracy == found.metadata["accuracy_integer"]
    for name, values in found.metadata["activity_by_layer"].items():
        assert activity[name] == pytest.approx(values, rel=1e-5)
