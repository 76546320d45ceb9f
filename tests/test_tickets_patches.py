"""Patch tickets and ECPT: which tokens stay, what a dropped patch does, Algorithm 1."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sw import nets, ticket
from sw.errors import SpikeTicketError
from sw.integer import reference
from sw.integer.spikingjelly import IntegerNetwork
from sw.tickets import checkpoint, export, masks, methods, run, training
from sw.tickets.ecpt import ecpt
from sw.tickets.patches import PatchGate, kept_count, kept_lists, zero_pixels
from sw.tickets.trainer import Trainer

from .test_tickets_run import TEST, TINY, TRAIN, numbers, trainer_of

PATCHES = dataclasses.replace(TINY, method="patches", model="spikeformer-1-16", patch_sparsity=0.3,
                              epochs_connections=1, flip=False, shift=False, validation=0.0)
CONFIG = nets.NetConfig("spikeformer-1-16", (1, 8, 8), 2, timesteps=2)


pytestmark = pytest.mark.usefixtures("one_thread")


# -- choosing -------------------------------------------------------------------------------------


@given(st.integers(1, 200), st.floats(0, 0.999))
def test_kept_count_is_the_nearest_and_at_least_one(tokens, sparsity):
    assert kept_count(tokens, sparsity) == max(1, round((1 - sparsity) * tokens))


@given(st.integers(0, 2 ** 31), st.floats(0, 0.95))
def test_spike_counts_rank_tokens_and_ties_go_to_the_lower(seed, sparsity):
    rng = np.random.default_rng(seed)
    spikes = (rng.random((2, 3, 4, 9)) < rng.random()).astype(np.float32)
    kept = PatchGate(sparsity).choose(None, torch.from_numpy(spikes)).numpy()
    keep = kept_count(9, sparsity)
    for b, row in enumerate(kept):
        counts = spikes[:, b].sum((0, 1))
        best = sorted(range(9), key=lambda n: (-counts[n], n))[:keep]
        assert row.tolist() == sorted(best)


def test_input_ranking_sums_pixels_or_events_over_a_patch():
    image = torch.zeros(1, 1, 4, 4)
    image[0, 0, 2:, :2], image[0, 0, 0, 3] = 0.5, 1.0
    gate = PatchGate(0.5, "input")
    assert gate.choose(image, torch.zeros(1, 1, 2, 4)).tolist() == [[1, 2]]
    events = torch.zeros(1, 3, 2, 4, 4)
    events[0, 2, 1, 3, 3] = 5
    assert PatchGate(0.75, "input").choose(events, torch.zeros(3, 1, 2, 4)).tolist() == [[3]]


def test_a_selector_and_chance_rank_otherwise():
    spikes = torch.zeros(1, 2, 1, 4)
    spikes[..., 3] = 1
    other = torch.zeros_like(spikes)
    other[..., 1] = 1
    gate = PatchGate(0.75, "selector", selector=lambda x: other)
    assert gate.choose(None, spikes).tolist() == [[1], [1]]
    gate = PatchGate(0.5, "random", generator=torch.Generator().manual_seed(0))
    drawn = {tuple(gate.choose(None, spikes)[0].tolist()) for _ in range(60)}
    assert drawn == {(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)}


def test_zeroed_pixels_are_those_of_dropped_patches():
    x = torch.ones(2, 3, 2, 4, 4)
    out = zero_pixels(x, torch.tensor([[0], [3]]), (2, 2))
    assert out[0].sum() == 3 * 2 * 4 and (out[0, :, :, :2, :2] == 1).all()
    assert out[1].sum() == 3 * 2 * 4 and (out[1, :, :, 2:, 2:] == 1).all()


def test_dropped_tokens_cannot_matter():
    torch.manual_seed(0)
    model = nets.build(CONFIG).eval()
    x = torch.rand(4, 1, 8, 8)
    gate = PatchGate(0.5)
    kept = gate.choose(x, model.embed(x))
    out = gate(model, x)
    embed = model.embed

    def noisy(x):
        spikes = embed(x)
        dropped = torch.ones(4, 64, dtype=torch.bool).scatter_(1, kept, False)
        return torch.where(dropped[None, :, None, :], torch.rand_like(spikes) * 1e-3, spikes)
    model.embed = noisy
    assert torch.equal(gate(model, x), out)


def test_kept_lists_are_what_the_gate_chooses():
    torch.manual_seed(0)
    model = nets.build(CONFIG).eval()
    images = torch.from_numpy(TEST.images.copy())
    lists = kept_lists(model, images, PatchGate(0.3), batch=7)
    assert lists.shape == (40, 45) and lists.dtype == torch.int16
    x = model.prepare(images)
    assert torch.equal(lists.long(), PatchGate(0.3).choose(x, model.embed(x)))


@pytest.mark.parametrize("arguments, message", [
    ((1.0,), r"patch sparsity 1\.0"), ((0.5, "luck"), "ranking 'luck'"),
    ((0.5, "spikes", "sky"), "place 'sky'"), ((0.5, "selector"), "needs a selector")])
def test_bad_values_are_named(arguments, message):
    with pytest.raises(SpikeTicketError, match=message):
        PatchGate(*arguments)


def test_pixels_must_divide_into_patches():
    with pytest.raises(SpikeTicketError, match="9x8 pixels do not divide into 2x2"):
        zero_pixels(torch.ones(1, 1, 9, 8), torch.tensor([[0]]), (2, 2))
    with pytest.raises(SpikeTicketError, match="no square grid"):
        PatchGate(0.5, "input").choose(torch.ones(1, 1, 8, 8), torch.zeros(1, 1, 2, 6))


# -- training -------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [
    {}, {"ranking": "random"}, {"ranking": "selector"}, {"ranking": "selector", "place": "pixels"},
    {"ranking": "input", "place": "pixels"}, {"ranking": "input"}, {"method": "imp"},
    {"method": "imp", "layers": "stem"},
    {"method": "scores", "binary": True}, {"method": "ecpt", "binary": True},
    {"method": "ecpt", "layers": "stem", "patch_sparsity": 0.0}])
def test_patch_tickets_train_and_export_exactly(tmp_path, changes):
    config = dataclasses.replace(PATCHES, epochs=8, epochs_connections=4, **changes)
    result = run.search(config, TRAIN, TEST, tmp_path)
    assert result["accuracy_ticket"] > 0.6 and len(result["spike_rates"]) >= 3
    network = ticket.load(result["ticket"]).network
    gates = list(network.gates.values())
    assert [g.keep for g in gates] == ([45] if config.patch_sparsity else [])
    masks_of_host = None
    if gates and gates[0].mode == "host":
        masks_of_host = np.arange(64)[None] % 64 < np.full((3, 1), 45)
    spikes: dict[str, torch.Tensor] = {}
    logits = IntegerNetwork(network)(
        torch.from_numpy(TEST.images[:3].copy()), spikes,
        None if masks_of_host is None else torch.from_numpy(masks_of_host))
    ran = reference.run(network, TEST.images[:3], masks=masks_of_host)
    assert np.array_equal(ran.logits, logits.numpy())
    if config.binary:
        bits = {layer.name: syn.bits for layer, syn in network.synapses()}
        assert bits["stem2"] == bits["rpe"] == 1
        assert bits["block1.fc1"] == (1 if config.method == "scores" else 4)


@pytest.mark.parametrize("gated", [False, True])
def test_the_dense_network_beside_the_ticket(tmp_path, monkeypatch, gated):
    """Converted as the ticket is, behind the gate or before there was one."""
    seen = {}
    to_integers = export.to_integers

    def look(run, found, stage="integer"):
        trainee = to_integers(run, found, stage)
        seen[stage] = trainee.to_network("x")
        return trainee
    monkeypatch.setattr(export, "to_integers", look)
    config = dataclasses.replace(PATCHES, method="imp", scope="lamp", sparsity=0.8, epochs=4,
                                 dense_gate=gated, dense_integer=True)
    result = run.search(config, TRAIN, TEST, tmp_path)
    assert list(seen) == ["integer", "dense integer"]
    dense, found = seen["dense integer"], seen["integer"]
    assert len(dense.gates) == gated and len(found.gates) == 1
    assert dense.sparsity < 0.3 and found.sparsity >= result["sparsity_mask"] > 0.79
    assert (result["gate"], result["tokens"], result["tokens_kept"]) == ("count", 64, 45)
    right = IntegerNetwork(dense)(torch.from_numpy(TEST.images.copy())).argmax(1).numpy()
    assert (right == TEST.labels).mean() == result["accuracy_dense_integer"] > 0.6
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    stages = [json.loads(line)["stage"] for line in lines]
    assert stages.count("dense integer") == 1 and result["epochs"] == len(stages)
    again = run.search(config, TRAIN, TEST, tmp_path)
    assert numbers(again) == numbers(result)


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("layers", ["stem", "all"])
def test_ecpt(tmp_path, layers, binary):
    config = dataclasses.replace(PATCHES, method="ecpt", layers=layers, binary=binary, sparsity=0.6,
                                 epochs=4, epochs_connections=4)
    trainer = trainer_of(config, tmp_path, TRAIN)
    found = ecpt(trainer)
    with trainer.seeded("weights"):
        fresh = nets.build(CONFIG)
    stem = methods.stem_connections(found.model)
    start = {n: m for n, m in methods.connections(fresh).items() if n.startswith("stem")}
    assert set(found.frozen) == set(stem) == set(start) and len(stem) == 5
    for name, layer in stem.items():  # frozen weights with a mask of the asked sparsity
        mask = found.masks[name]
        assert int(mask.sum()) == round(0.4 * mask.numel())
        assert torch.equal(layer.weight != 0, mask)
        if binary:
            assert len(layer.weight[mask].abs().unique()) == 1
    connections = methods.connections(found.model)
    if layers == "all":
        rest = {n: m for n, m in found.masks.items() if n not in stem}
        assert masks.sparsity_of(rest) == pytest.approx(0.6, abs=0.01)
        assert set(found.masks) == set(connections)
        assert all(torch.equal(connections[n].weight != 0, m) for n, m in found.masks.items())
    else:
        assert set(found.masks) == set(stem)
    stages = [r["stage"] for r in trainer.history]
    assert stages[:8] == ["connections"] * 4 + ["encoder"] * 4
    assert trainer.history[-1]["validation_accuracy"] > 0.6


def test_the_stem_stays_while_the_encoder_trains(tmp_path, monkeypatch):
    states = []
    train = Trainer.train

    def look(self, stage, module, epochs, **options):
        train(self, stage, module, epochs, **options)
        if stage != "connections":
            states.append({k: v.clone() for k, v in module.state_dict().items()
                           if k.startswith("module.stem")})
    monkeypatch.setattr(Trainer, "train", look)
    ecpt(trainer_of(dataclasses.replace(PATCHES, method="ecpt"), tmp_path, TRAIN))
    assert len(states) == 3  # encoder, round 1, round 2
    for state in states[1:]:
        assert all(torch.equal(state[k], states[0][k]) for k in state
                   if "num_batches" not in k)


@pytest.mark.parametrize("stop_at", [0, 2, 4])
def test_an_interrupted_ecpt_ends_with_the_same_numbers(tmp_path, monkeypatch, stop_at):
    config = dataclasses.replace(PATCHES, method="ecpt", ranking="random", shift=True)
    result = run.search(config, TRAIN, TEST, tmp_path / "a")
    original, calls = training.train_epoch, 0

    def interrupted(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == stop_at + 1:
            raise KeyboardInterrupt
        return original(*args, **kwargs)
    monkeypatch.setattr(training, "train_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.search(config, TRAIN, TEST, tmp_path / "b")
    again = run.search(config, TRAIN, TEST, tmp_path / "b")
    assert numbers(again) == numbers(result)
    for name in ("masks", "integer"):
        a, b = (checkpoint.load(tmp_path / f / f"{name}.safetensors")[0] for f in "ab")
        assert all(torch.equal(a[g][k], b[g][k]) for g in a for k in a[g])
