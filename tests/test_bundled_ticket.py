"""The bundled CNN tickets are what their metadata and docs/training.md say."""

import json
from pathlib import Path

import pytest

from sw import bundled as tickets
from sw import ticket, typical
from sw.data import datasets, depth
from sw.errors import SpikeTicketError
from sw.integer.spikingjelly import evaluate

BUNDLED = Path(__file__).resolve().parents[1] / "bundled"


BELOW_DENSE = {"fmnist-scnn": 0.0135, "fmnist-scnn-wide": 0.0099}
"""What docs/training.md says they lose; the aim is 0.01."""


@pytest.fixture(scope="module", params=BELOW_DENSE)
def bundled(request):
    return ticket.load(BUNDLED / f"{request.param}.safetensors")


def in_integers(info):
    return info.get("accuracy_integer", info.get("accuracy_ticket_integer"))


def test_it_meets_the_goals(bundled):
    network, info = bundled.network, bundled.metadata
    assert network.timesteps == 4 and network.sparsity >= 0.9
    assert {syn.bits for _, syn in network.synapses()} == {4}
    assert info["images_train"] == 60_000 and info["images_test"] == 10_000
    assert in_integers(info) >= 0.9
    assert info["sparsity"] == network.sparsity
    assert info["command"].startswith("python -m sw.find_ticket --data fashion-mnist")


def test_it_is_as_far_below_the_dense_network_as_stated(bundled):
    info = bundled.metadata
    lost = info["accuracy_dense_float"] - in_integers(info)
    assert round(lost, 4) == BELOW_DENSE[bundled.network.name]


def test_it_is_within_a_point_of_the_dense_network(bundled, request):
    if bundled.network.name == "fmnist-scnn":
        request.applymarker(pytest.mark.xfail(reason="1.35 points: docs/training.md", strict=True))
    info = bundled.metadata
    assert in_integers(info) >= info["accuracy_dense_float"] - 0.01


def test_its_log_ends_with_its_metadata(bundled):
    lines = [json.loads(line)
             for line in (BUNDLED / f"{bundled.network.name}.log.jsonl").read_text().splitlines()]
    found = {key: value for key, value in bundled.metadata.items() if key != typical.KEY}
    assert lines[-1]["result"] == found
    assert len(lines) - 1 == bundled.metadata["epochs"]


def test_its_bounds_fit_the_core(bundled):
    network = bundled.network
    for layer in network.layers:
        low, high = network.current_bounds(layer)
        assert low.min() >= -(1 << 15) and high.max() < 1 << 15
        assert abs(layer.bias).max() < 1 << 17 and abs(layer.threshold).max() < 1 << 23


def test_accuracy_on_the_bundled_images(bundled):
    data = datasets.for_network(bundled.network, tickets.data_for(bundled))
    accuracy, _ = evaluate(bundled.network, data.images, data.labels)
    # 500 of the 10,000: three standard deviations around the stated accuracy
    assert accuracy == pytest.approx(in_integers(bundled.metadata), abs=0.04)


def test_accuracy_on_all_test_images(bundled):
    try:
        data = datasets.load(bundled.metadata["data"], "test")
    except SpikeTicketError as error:
        pytest.skip(str(error))
    images = depth.taken(data.images, bundled.network.input)
    accuracy, activity = evaluate(bundled.network, images, data.labels)
    assert accuracy == in_integers(bundled.metadata)
    for name, values in bundled.metadata["activity_by_layer"].items():
        assert activity[name] == pytest.approx(values, rel=1e-5)
