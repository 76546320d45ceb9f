"""Patch tickets and ECPT: which tokens stay, what a dropped patch does, Algorithm 1."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

from sw import nets, ticket
from sw.data import depth
from sw.errors import SpikeTicketError
from sw.imports.inputs import Feed
from sw.integer import reference
from sw.integer.spikingjelly import IntegerNetwork
from sw.nets.token_gate import TokenGate
from sw.tickets import checkpoint, export, masks, methods, run, training
from sw.tickets.classifier import Classifier
from sw.tickets.ecpt import ecpt
from sw.tickets.patches import PatchGate, kept_count, zero_pixels
from sw.tickets.stem import TokenStem, find_stem
from sw.tickets.trainer import Trainer

from .test_tickets_run import TEST, TINY, TRAIN, numbers, trainer_of

PATCHES = dataclasses.replace(TINY, method="patches", model="spikeformer-1-16", patch_sparsity=0.3,
                              epochs_connections=1, flip=False, shift=False, validation=0.0)
STEM = TokenStem("stem", (-1,), (8, 8))
CONFIG = nets.NetConfig("spikeformer-1-16", (1, 8, 8), 2, timesteps=2)


pytestmark = pytest.mark.usefixtures("one_thread")


# -- choosing -------------------------------------------------------------------------------------


@given(st.integers(1, 200), st.floats(0, 0.999))
def test_kept_count_is_the_nearest_and_at_least_one(tokens, sparsity):
    assert kept_count(tokens, sparsity) == max(1, round((1 - sparsity) * tokens))


def tokens(count: int) -> TokenStem:
    """A stem of so many tokens."""
    side = round(count ** 0.5)
    return TokenStem("stem", (-1,), (side, side))


@given(st.integers(0, 2 ** 31), st.floats(0, 0.95))
def test_spike_counts_rank_tokens_and_ties_go_to_the_lower(seed, sparsity):
    rng = np.random.default_rng(seed)
    spikes = (rng.random((2, 3, 4, 9)) < rng.random()).astype(np.float32)
    kept = PatchGate(tokens(9), sparsity).choose(None, torch.from_numpy(spikes)).numpy()
    keep = kept_count(9, sparsity)
    for b, row in enumerate(kept):
        counts = spikes[:, b].sum((0, 1))
        best = sorted(range(9), key=lambda n: (-counts[n], n))[:keep]
        assert row.tolist() == sorted(best)


def test_input_ranking_sums_pixels_or_events_over_a_patch():
    image = torch.zeros(1, 1, 4, 4)
    image[0, 0, 2:, :2], image[0, 0, 0, 3] = 0.5, 1.0
    gate = PatchGate(tokens(4), 0.5, "input")
    assert gate.choose(image, torch.zeros(1, 1, 2, 4)).tolist() == [[1, 2]]
    events = torch.zeros(1, 3, 2, 4, 4)
    events[0, 2, 1, 3, 3] = 5
    assert PatchGate(tokens(4), 0.75, "input").choose(events, None).tolist() == [[3]]


def test_a_selector_and_chance_rank_otherwise():
    spikes = torch.zeros(1, 2, 1, 4)
    spikes[..., 3] = 1
    other = torch.zeros_like(spikes)
    other[..., 1] = 1
    gate = PatchGate(tokens(4), 0.75, "selector", selector=lambda x: other)
    assert gate.choose(None, spikes).tolist() == [[1], [1]]
    gate = PatchGate(tokens(4), 0.5, "random", generator=torch.Generator().manual_seed(0))
    drawn = {tuple(gate.choose(spikes[0], spikes)[0].tolist()) for _ in range(60)}
    assert drawn == {(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)}


def test_zeroed_pixels_are_those_of_dropped_patches():
    x = torch.ones(2, 3, 2, 4, 4)
    out = zero_pixels(x, torch.tensor([[0], [3]]), (2, 2))
    assert out[0].sum() == 3 * 2 * 4 and (out[0, :, :, :2, :2] == 1).all()
    assert out[1].sum() == 3 * 2 * 4 and (out[1, :, :, 2:, 2:] == 1).all()


def spikeformer() -> Classifier:
    torch.manual_seed(0)
    return Classifier(nets.build(CONFIG), 2, (1, 8, 8), 2, Feed("image", 2, (1, 8, 8))).eval()


def test_dropped_tokens_cannot_matter():
    net = spikeformer()
    x = torch.rand(4, 1, 8, 8)
    gate = PatchGate(STEM, 0.5)
    kept = gate.choose(x, STEM.embed(net, x))
    assert torch.equal(STEM.embed(net, x), net.module.stem(x[None]))
    out = gate(net, x)
    dropped = torch.ones(4, 64, dtype=torch.bool).scatter_(1, kept, False)
    net.module.stem.register_forward_hook(lambda _m, _i, spikes: torch.where(
        dropped[None, :, None, :], torch.rand_like(spikes) * 1e-3, spikes))
    assert torch.equal(gate(net, x), out)


def test_the_search_removes_the_tokens_that_the_core_s_gate_does():
    net = spikeformer()
    x = torch.rand(4, 1, 8, 8)
    out = PatchGate(STEM, 0.5)(net, x)
    assert not net.module.stem._forward_hooks
    net.module.token_gate = TokenGate("count", 32, STEM.grid)
    net.module.stem.register_forward_hook(net.module.token_gate.behind)
    torch.testing.assert_close(net(x), out)


@pytest.mark.parametrize("arguments, message", [
    ((1.0,), r"patch sparsity 1\.0"), ((0.5, "luck"), "ranking 'luck'"),
    ((0.5, "spikes", "sky"), "place 'sky'"), ((0.5, "selector"), "needs a selector")])
def test_bad_values_are_named(arguments, message):
    with pytest.raises(SpikeTicketError, match=message):
        PatchGate(STEM, *arguments)


def test_pixels_must_divide_into_patches():
    with pytest.raises(SpikeTicketError, match="9x8 pixels do not divide into 2x2"):
        zero_pixels(torch.ones(1, 1, 9, 8), torch.tensor([[0]]), (2, 2))


# -- the patch embedding of any network ---------------------------------------------------------


class Former(nn.Module):
    """A Spikeformer as people write them, tokens as maps; `insists`: on its grid."""

    def __init__(self, insists: bool = False, name: str = "patch_embed"):
        super().__init__()
        self.name, self.insists, self.T = name, insists, 2

        def lif():
            return neuron.LIFNode(detach_reset=True, surrogate_function=surrogate.ATan())
        self.add_module(name, nn.Sequential(layer.Conv2d(1, 8, 3, 1, 1, bias=False),
                                            layer.BatchNorm2d(8), lif(), layer.MaxPool2d(2)))
        self.mix = nn.Sequential(layer.Conv2d(8, 8, 1, bias=False), layer.BatchNorm2d(8), lif())
        self.head = layer.Linear(8, 2)
        functional.set_step_mode(self, "m")

    def forward(self, x):
        x = getattr(self, self.name)(x.unsqueeze(0).repeat(self.T, 1, 1, 1, 1))
        if self.insists:
            x = x.view(*x.shape[:3], 4, 4)
        x = x + self.mix(x)
        return self.head(x.flatten(3).mean(3))


def former(**options) -> Classifier:
    torch.manual_seed(0)
    return Classifier(Former(**options), 2, (1, 8, 8), 2)


def test_a_stem_is_found_by_its_name_or_named():
    expected = TokenStem("patch_embed", (-2, -1), (4, 4))
    assert find_stem(former()) == expected
    assert find_stem(former(name="first"), "first") == dataclasses.replace(expected, path="first")
    assert find_stem(spikeformer()) == STEM


@pytest.mark.parametrize("net, path, message", [
    (lambda: former(name="first"), None, "Former has no module called stem"),
    (former, "frist", "stem 'frist': Former has no module of that name"),
    (former, "head", r"stem 'head' gives \[2, 2, 2\]"),
    (lambda: former(insists=True), None, "does not run on fewer tokens than the 16 of its stem")])
def test_stems_that_are_none(net, path, message):
    with pytest.raises(SpikeTicketError, match=message):
        find_stem(net(), path)


@pytest.mark.parametrize("changes", [
    {"method": "patches"}, {"method": "patches", "ranking": "input", "place": "pixels"},
    {"method": "ecpt", "binary": True}, {"method": "scores", "binary": True, "ranking": "random"}])
def test_patch_tickets_of_a_user_s_module(tmp_path, changes):
    """Trained behind a hook, exported with the core's gate; the integers are the reference's."""
    settings = {"timesteps": 2, "sparsity": 0.5, "prune_rate": 0.4, "epochs": 2, "rewind_epoch": 1,
                "epochs_round": 1, "epochs_final": 1, "epochs_integer": 1, "lr": 0.02,
                "epochs_connections": 1, "batch_size": 16, "device": "cpu", "patch_sparsity": 0.25}
    result = run.find(former().module, TRAIN, TEST, tmp_path, **settings, **changes)
    network = ticket.load(result["ticket"]).network
    (gate,) = network.gates.values()
    assert (gate.keep, gate.grid) == (12, (4, 4)) and gate.mode == result["gate"]
    assert (result["tokens"], result["tokens_kept"]) == (16, 12)
    masks_of_host = np.arange(16)[None] < np.full((3, 1), 12) if gate.mode == "host" else None
    taken = depth.taken(TEST.images[:3], network.input)
    logits = IntegerNetwork(network)(
        torch.from_numpy(taken), {},
        None if masks_of_host is None else torch.from_numpy(masks_of_host))
    ran = reference.run(network, taken, masks=masks_of_host)
    assert np.array_equal(ran.logits, logits.numpy())
    if changes["method"] == "ecpt":
        bits = {made.name: syn.bits for made, syn in network.synapses()}
        assert bits["patch_embed.2"] == 1 and bits["mix.2"] == 4


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
        bits = {made.name: syn.bits for made, syn in network.synapses()}
        assert bits["stem.convs.1.node"] == bits["stem.rpe.node"] == 1
        assert bits["blocks.0.fc1.node"] == (1 if config.method == "scores" else 4)


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
    stem = methods.stem_connections(found.model, STEM)
    start = {n: m for n, m in methods.connections(fresh).items() if n.startswith("stem")}
    assert found.frozen == "stem." and set(stem) == set(start) and len(stem) == 5
    for name, part in stem.items():  # frozen weights with a mask of the asked sparsity
        mask = found.masks[name]
        assert int(mask.sum()) == round(0.4 * mask.numel())
        assert torch.equal(part.weight != 0, mask)
        if binary:
            assert len(part.weight[mask].abs().unique()) == 1
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
