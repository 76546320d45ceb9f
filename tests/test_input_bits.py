"""Input bits: one rule for pictures, chosen by a search, changed by tuning a ticket."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

from sw import ticket
from sw.cli.app import main
from sw.data import datasets, depth
from sw.errors import BadInput, SpikeTicketError
from sw.imports import from_spikingjelly
from sw.integer import reference
from sw.integer.network import InputSpec, Layer, Network, Neuron, Synapses
from sw.integer.spikingjelly import IntegerNetwork
from sw.tickets import export, run
from sw.tickets.config import from_dict
from sw.tickets.methods import Found
from sw.tickets.tune import at_bits, trainee

from . import small_runs
from .test_tickets_run import TEST, TINY, TRAIN, stripes, trainer_of

pytestmark = pytest.mark.usefixtures("one_thread")


# -- the rule -------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 255), min_size=1), st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_the_upper_bits_are_the_same_of_arrays_and_tensors_of_any_type(values, bits):
    x = np.array(values, np.uint8)
    wanted = [int(f"{v:08b}"[:bits], 2) for v in values]
    for form in (x, torch.from_numpy(x), torch.from_numpy(x).float(), x.astype(np.int64)):
        found = depth.upper_bits(form, bits)
        assert found.dtype == form.dtype and found.tolist() == wanted
    off = x / 255 - np.array(wanted) * depth.scale(bits)
    assert (off >= -1e-12).all() and (off < depth.scale(bits)).all()


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_pictures_of_a_data_set_come_at_the_network_s_bits(tmp_path, bits):
    network = small_runs.small_network()
    network = dataclasses.replace(network, input=InputSpec(1, 8, 8, bits))
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8)).astype(np.uint8)
    np.savez(tmp_path / "a.npz", x_test=images, y_test=np.arange(5) % 4)
    found = datasets.for_network(network, str(tmp_path / "a.npz"))
    assert np.array_equal(found.images[:, 0], images >> (8 - bits))


def test_pictures_without_the_highest_bit_are_taken_with_a_note(tmp_path, caplog):
    """Such as digits of 0..16: black but for the brightest."""
    network = dataclasses.replace(small_runs.small_network(), input=InputSpec(1, 8, 8, 4))
    images = np.random.default_rng(0).integers(0, 17, (5, 8, 8)).astype(np.uint8)
    images[0, 0, 0] = 16
    for factor, notes in ((1, 1), (8, 0)):
        np.savez(tmp_path / "a.npz", x_test=images * factor, y_test=np.zeros(5, np.uint8))
        caplog.clear()
        found = datasets.for_network(network, str(tmp_path / "a.npz"))
        assert np.array_equal(found.images[:, 0], images * factor >> 4)
        assert len(caplog.records) == notes
    np.savez(tmp_path / "a.npz", x_test=images, y_test=np.zeros(5, np.uint8))
    datasets.for_network(network, str(tmp_path / "a.npz"))
    assert "no pixel is above 16 of 255" in caplog.text and "are 1 of 15 at most" in caplog.text


def test_pictures_that_were_rounded_before_are_refused(tmp_path):
    network = dataclasses.replace(small_runs.small_network(), input=InputSpec(1, 8, 8, 4))
    images = np.random.default_rng(0).integers(0, 16, (5, 8, 8)).astype(np.uint8)
    np.savez(tmp_path / "a.npz", x_test=images, y_test=np.arange(5) % 4)
    with pytest.raises(BadInput, match="no pixel is above 15 of 255, and the upper 4 of 8 bits"):
        datasets.for_network(network, str(tmp_path / "a.npz"))
    assert (depth.fitted(images * 0, 4, "black") == 0).all()


@pytest.mark.parametrize("bits", [3, 8])
def test_an_import_reads_them_on_the_scale_of_its_pixels(bits):
    """White is nearly 1, whatever the bits: a neuron that fires at 0.8 of white does."""
    net = nn.Sequential(layer.Conv2d(1, 1, 1, bias=False), neuron.IFNode(v_threshold=0.8),
                        layer.Flatten(), layer.Linear(1, 1, bias=False))
    for part in (net[0], net[3]):
        nn.init.constant_(part.weight, 1.0)
    functional.set_step_mode(net, "m")
    imported = from_spikingjelly(net, (1, 1, 1), 1, input_bits=bits, check=False)
    for value, fires in ((0.75, 0), (1.0, 1)):
        x = depth.upper_bits(np.full((1, 1, 1, 1), round(255 * value), np.uint8), bits)
        assert bool(reference.run(imported.network, x).logits[0, 0]) == fires


# -- the search -----------------------------------------------------------------------------------


def with_validation_of(tmp_path, accuracies, **settings):
    """(bits that a search chooses, its trainer), its network right on these shares by input bits.

    The trainer measures it on pictures that have been rounded, and nothing else."""
    trainer = trainer_of(dataclasses.replace(TINY, **settings), tmp_path)

    def measure(model, data, forward):
        bits = next(b for b in range(1, 9) if not (data.images & (255 >> b)).any())
        assert np.array_equal(data.images, TEST.images & (0xff00 >> bits & 255))
        return accuracies[bits], {}
    trainer.measure = measure
    return export.input_spec(trainer, Found(trainer.build())).bits, trainer


@pytest.mark.parametrize(("accuracies", "bits"), [
    ({8: 0.9, 4: 0.9}, 4), ({8: 0.9, 4: 0.86}, 4), ({8: 0.9, 4: 0.95}, 4),  # an error of 0.047
    ({8: 0.9, 4: 0.85, 5: 0.86}, 5), ({8: 1.0, 4: 0.994, 5: 0.995}, 5),     # no error, 0.5 points
    ({8: 0.9, 4: 0.5, 5: 0.5, 6: 0.5, 7: 0.5}, 8)])
def test_a_search_takes_the_fewest_bits_that_the_validation_part_agrees_with(tmp_path, accuracies,
                                                                             bits):
    chosen, trainer = with_validation_of(tmp_path, accuracies)
    assert chosen == bits == trainer.notes["input_bits"]
    assert trainer.notes["validation_by_input_bits"] == {str(k): v for k, v in accuracies.items()}


def test_it_takes_what_it_is_told_to_and_8_without_a_validation_part(tmp_path):
    chosen, trainer = with_validation_of(tmp_path, {}, input_bits=3)
    assert chosen == 3 and "validation_by_input_bits" not in trainer.notes
    trainer = trainer_of(TINY, tmp_path / "b")
    trainer.held = None
    assert export.input_spec(trainer, Found(trainer.build())).bits == 8


def test_counts_have_the_bits_that_they_need_or_are_clipped(tmp_path):
    train, test = stripes(48, 0, frames=2), stripes(16, 1, frames=2)    # counts up to 3
    assert train.images.max() == test.images.max() == 3
    config = dataclasses.replace(TINY, method="scores", binary=True)
    for bits, more in ((None, {}), (1, {"input_bits": 1})):
        result = run.search(dataclasses.replace(config, **more), train, test,
                            tmp_path / str(bits))
        assert ticket.load(result["ticket"]).network.input.bits == (bits or 2)
        assert ("test_counts_clipped" in result) == (bits == 1)


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("searched")
    return folder, run.search(dataclasses.replace(TINY, input_bits=4), TRAIN, TEST, folder)


def test_a_ticket_of_4_bits_is_what_its_result_says(searched):
    folder, result = searched
    network = ticket.load(result["ticket"]).network
    assert network.input.bits == result["input_bits"] == 4
    logits = IntegerNetwork(network)(torch.from_numpy(TEST.images >> 4))
    right = (logits.argmax(1).numpy() == TEST.labels).mean()
    assert right == result["accuracy_integer"] > 0.8
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert log[-1]["stage"] == "integer" and log[-1]["validation_accuracy"] > 0.6


def test_other_bits_train_the_integer_stage_alone(searched, tmp_path, monkeypatch):
    folder, before = searched
    copy = tmp_path / "again"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    result = run.search(dataclasses.replace(TINY, input_bits=6), TRAIN, TEST, copy)
    assert ticket.load(result["ticket"]).network.input.bits == 6
    floats = {k: v for k, v in before.items() if k in ("accuracy_dense", "accuracy_ticket")}
    assert floats == {k: result[k] for k in floats} and result["epochs"] == before["epochs"]


def test_bad_bits_are_refused():
    for bits in (0, 9):
        with pytest.raises(SpikeTicketError, match=f"input_bits {bits} is outside 1..8"):
            from_dict({"input_bits": bits})


# -- tuning ---------------------------------------------------------------------------------------


def drawn(seed, multiple=1):
    """Two layers on 8-bit pictures; numbers of the first are multiples."""
    rng = np.random.default_rng(seed)

    def weight(*shape):
        return (rng.integers(-7, 8, shape) * (rng.random(shape) < 0.7)).astype(np.int8)
    first = Layer("a", (Synapses(weight(4, 1, 3, 3), padding=1),),
                  rng.integers(-9, 20, 4) * multiple, rng.integers(20, 90, 4) * multiple,
                  Neuron(int(rng.choice([128, 256])), str(rng.choice(["hard", "soft"]))))
    second = Layer("b", (Synapses(weight(5, 4, 3, 3), ("a",)),), rng.integers(-3, 4, 5),
                   rng.integers(3, 30, 5), Neuron(128))
    out = Layer("out", (Synapses(weight(3, 5, 1, 1), ("b",)),), rng.integers(-9, 9, 3),
                np.zeros(3, np.int64), None)
    return Network(InputSpec(1, 6, 6), 4, (first, second, out), "drawn", ("x", "y", "z"))


@given(st.integers(0, 1 << 20), st.integers(1, 8), st.booleans())
@settings(max_examples=20, deadline=None)
def test_nothing_changes_where_all_numbers_are_multiples(seed, bits, matched):
    """Pictures, thresholds and biases of 2^n: the same network, in other units."""
    network, factor = drawn(seed, 1 << 8 - bits), 1 << 8 - bits
    x = np.random.default_rng(seed).integers(0, 1 << bits, (3, 1, 6, 6)).astype(np.uint8)
    pictures = (x * factor).astype(np.uint8)
    tuned = at_bits(network, bits, pictures if matched else None)
    ours, theirs = reference.run(tuned, x), reference.run(network, pictures)
    if network.layers[0].neuron.leak == 256:        # else a membrane's floor is of the unit's size
        assert np.array_equal(ours.spikes["a"], theirs.spikes["a"])
        assert np.array_equal(ours.logits, theirs.logits)
    assert tuned.input == InputSpec(1, 6, 6, bits)


@given(st.integers(0, 1 << 20))
@settings(max_examples=10, deadline=None)
def test_matched_neurons_spike_more_like_before(seed):
    network = drawn(seed, 16)
    rng = np.random.default_rng(seed)
    x = (rng.integers(0, 256, (6, 1, 6, 6)) * (rng.random((6, 1, 6, 6)) < 0.5)).astype(np.uint8)
    wanted = reference.run(network, x).spikes["a"]
    wrong = [(reference.run(at_bits(network, 4, pictures), x >> 4).spikes["a"] != wanted).sum()
             for pictures in (x, None)]
    assert wrong[0] <= wrong[1]


def test_a_background_just_below_its_threshold_stays_silent():
    """A bias of 441 at a threshold of 828 ends at 826; 28 at 52 would end at 52."""
    layer_a = Layer("a", (Synapses(np.ones((1, 1, 1, 1), np.int8)),), np.array([441]),
                    np.array([828]), Neuron(128))
    out = Layer("out", (Synapses(np.ones((1, 1, 1, 1), np.int8), ("a",)),), np.zeros(1, np.int64),
                np.zeros(1, np.int64), None)
    network = Network(InputSpec(1, 4, 4), 4, (layer_a, out))
    x = np.zeros((2, 1, 4, 4), np.uint8)
    x[0, 0, 0, :] = (40, 90, 150, 250)
    spikes = [reference.run(n, depth.taken(x, n.input)).spikes["a"].sum()
              for n in (network, at_bits(network, 4), at_bits(network, 4, x))]
    assert spikes[1] > spikes[0] + 20 and spikes[2] == spikes[0]


@given(st.integers(0, 1 << 20), st.integers(1, 8))
@settings(max_examples=15, deadline=None)
def test_what_is_trained_begins_as_the_very_integers(seed, bits):
    network = at_bits(drawn(seed), bits)
    x = np.random.default_rng(seed).integers(0, 256, (4, 1, 6, 6)).astype(np.uint8)
    made = trainee(network, x, np.arange(4) % 3)    # raises where one integer differs
    logits = made.logits(depth.taken(torch.from_numpy(x).float(), made.spec))
    assert np.array_equal(logits.detach().numpy(),
                          reference.run(network, depth.taken(x, network.input)).logits)


def test_the_command_tunes_a_ticket(tmp_path, searched, capsys):
    whole = run.search(dataclasses.replace(TINY, input_bits=8), TRAIN, TEST, tmp_path / "whole")
    data = tmp_path / "data.npz"
    np.savez(data, x_train=TRAIN.images, y_train=TRAIN.labels, x_test=TEST.images,
             y_test=TEST.labels)
    arguments = ["find", "tune", whole["ticket"], "--input-bits", "4", "--data", str(data),
                 "--out", str(tmp_path / "tuned"), "--json"]
    assert main(arguments) == 0
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    found = ticket.load(tmp_path / "tuned" / "ticket.safetensors")
    assert found.network.input.bits == 4 == found.metadata["input_bits"]
    assert found.metadata["accuracy_dense"] == whole["accuracy_dense"]
    logits = IntegerNetwork(found.network)(torch.from_numpy(TEST.images >> 4))
    right = (logits.argmax(1).numpy() == TEST.labels).mean()
    assert right == facts["accuracy_integer"] == found.metadata["accuracy_integer"] > 0.8
    assert found.network.weights_surviving <= ticket.load(whole["ticket"]).network.weights_surviving
    assert main(arguments) == 0                     # finished: nothing is trained again
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == facts


@pytest.mark.parametrize(("change", "message"), [
    (lambda n: dataclasses.replace(n, input=InputSpec(1, 6, 6, 3, static=False)), "event counts"),
    (lambda n: dataclasses.replace(n, layers=(dataclasses.replace(
        n.layers[0], neuron=Neuron(128, v_reset=-2)), *n.layers[1:])), "layer 'a': reads the")])
def test_tickets_that_cannot_be_tuned_are_refused_by_reason(change, message):
    with pytest.raises(BadInput, match=message):
        at_bits(change(drawn(0)), 4)
