"""Tickets by cycles: what a word costs, what is pruned for it, what the search makes of it."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spikingjelly.activation_based import layer, neuron, surrogate
from torch import nn

from hw.config import PRESETS
from sim.samples.networks import random_input, random_network
from sim.samples.spikeformers import random_masks, random_spikeformer
from sw import ticket
from sw.errors import SpikeTicketError
from sw.integer import reference
from sw.integer.network import InputSpec, Layer, Network, Neuron, Synapses
from sw.tickets import checkpoint, export, pruning, run
from sw.tickets.config import from_dict
from sw.tickets.cost import CycleCost
from sw.tickets.found import Found
from sw.tickets.places import ConnectionPlace as Place
from sw.tickets.places import marked, places
from sw.tickets.scores import connections
from sw.tickets.trim import trimmed
from sw.tickets.words import Words

from . import interrupt
from .test_tickets_run import TEST, TINY, TRAIN, numbers, trainer_of

pytestmark = pytest.mark.usefixtures("one_thread")

CYCLES = dataclasses.replace(TINY, cost="cycles", cost_weight=0.5, board="arty_a7", validation=0.2,
                             prune_rate=0.3, epochs_integer=0)


# -- channels that nobody needs -------------------------------------------------------------------


def test_silent_and_unread_channels_are_left_out():
    """Of four channels: one reads and is read, one fires by its bias alone, one has no weight and
    stays silent, one is read by nobody."""
    first = np.ones((4, 1, 1, 1), np.int8)
    first[1:3] = 0
    last = np.ones((2, 4, 1, 1), np.int8)
    last[:, 3] = 0
    network = Network(InputSpec(1, 2, 2, 1), 2, (
        Layer("a", (Synapses(first),), np.array([0, 1, 1, 0]), np.array([1, 2, 3, 1]), Neuron()),
        Layer("out", (Synapses(last, ("a",)),), np.zeros(2, np.int64), np.ones(2, np.int64), None)))
    assert trimmed(network).layers[0].threshold.tolist() == [1, 2]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2 ** 32 - 1))
def test_trimmed_networks_spike_alike(seed):
    rng = np.random.default_rng(seed)
    formed = bool(rng.random() < 0.3)
    network = random_spikeformer(rng) if formed else random_network(rng)
    network = dataclasses.replace(network, layers=tuple(
        _thinned(rng, one) if isinstance(one, Layer) else one for one in network.layers))
    small = trimmed(network)
    x = random_input(rng, network)[None]
    masks = random_masks(rng, network, 1)
    before, after = (reference.run(n, x, masks=masks) for n in (network, small))
    assert np.array_equal(before.logits, after.logits)
    for one in small.layers[:-1]:
        if one.name in after.spikes:
            rows = [s.tobytes() for s in np.moveaxis(before.spikes[one.name], 2, 0)]
            assert all(s.tobytes() in rows for s in np.moveaxis(after.spikes[one.name], 2, 0))
    assert trimmed(small) is small


def _thinned(rng: np.random.Generator, one: Layer) -> Layer:
    """A layer whose rows and columns are often empty."""
    def thin(syn: Synapses) -> Synapses:
        keep = rng.random((*syn.weight.shape[:1], 1, 1, 1)) < 0.6
        read = rng.random((1, syn.weight.shape[1], 1, 1)) < 0.6
        return dataclasses.replace(syn, weight=(syn.weight * (keep & read)).astype(np.int8))
    return dataclasses.replace(one, synapses=tuple(map(thin, one.synapses)))


# -- what a word costs ----------------------------------------------------------------------------


CORE = PRESETS["a35t"]


class Relay(nn.Module):
    """A module whose connections read a given map."""

    def __init__(self, connection: nn.Module, arrange=lambda x: x):
        super().__init__()
        self.connection, self.arrange = connection, arrange

    def forward(self, x):
        return self.connection(self.arrange(x))


def brute(x: np.ndarray, window: int, units: int) -> np.ndarray:
    """Word cycles of every channel of spikes [T, B, C, H, W], one word after the other."""
    pitch = 1 << (x.shape[4] - 1).bit_length()
    cost = np.zeros(x.shape[2])
    for b, c in np.ndindex(*x.shape[1:3]):
        flat = np.zeros(-(-x.shape[3] * pitch // window) * window)
        for y, column in np.argwhere(x[:, b, c].any(0)):
            flat[y * pitch + column] = 1
        for word in flat.reshape(-1, window):
            cost[c] += max(word.any(), word.sum() / units)
    return cost / x.shape[1]


@pytest.mark.parametrize(("connection", "arrange"), [
    (layer.Conv2d(5, 2, 3, step_mode="m"), lambda x: x),
    (nn.Conv2d(5, 2, 1), lambda x: x.flatten(0, 1)),
    (nn.Linear(5, 2), lambda x: x.flatten(3).transpose(2, 3)),
    (nn.Linear(5, 2), lambda x: x.flatten(3).transpose(2, 3).flatten(0, 2)),
    (nn.Conv1d(5, 2, 1), lambda x: x.flatten(3).flatten(0, 1))])
def test_words_are_those_of_the_map(connection, arrange):
    rng = np.random.default_rng(3)
    x = (rng.random((4, 3, 5, 6, 7)) < 0.05).astype(np.float32)
    if isinstance(connection, nn.Conv1d):       # tokens in one row
        x = x.reshape(4, 3, 5, 1, 42)
    seen = Words(model := Batches(Relay(connection, arrange)),
                 {"connection.weight": Place((5, *x.shape[3:]), 0, False, "")}, CORE)
    with seen.watched():
        model(torch.from_numpy(x).transpose(0, 1))
    assert seen.words["connection.weight"].tolist() == [
        pytest.approx(brute(x, CORE.window, CORE.units).tolist())]


class Batches(nn.Module):
    """Samples first, as a classifier is called."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, x):
        return self.module(x.transpose(0, 1))


def connections_of(net: nn.Module) -> dict[str, nn.Module]:
    return {name.removeprefix("module."): m for name, m in connections(net).items()}


@pytest.fixture(autouse=True)
def named_as_in_the_module(monkeypatch):
    monkeypatch.setattr("sw.tickets.words.connections", connections_of)


def test_a_step_per_call_is_one_run():
    x = torch.zeros(4, 2, 1, 2, 2)
    x[0, :, 0, 0, 0], x[3, :, 0, 1, 1] = 1, 1
    model = Batches(Relay(nn.Conv2d(1, 1, 1)))
    model.module.forward = lambda x: [model.module.connection(step) for step in x]
    seen = Words(model, {"connection.weight": Place((1, 2, 2), 0, False, "")}, CORE)
    with seen.watched():
        model(x.transpose(0, 1))
        model(x.transpose(0, 1))        # another batch is counted anew
    assert seen.words["connection.weight"].item() == 1


def test_gradients_reach_what_keeps_a_word_alive():
    """All events of a word share the pressure: where there is one, it bears all of it."""
    x = torch.zeros(1, 1, 1, 2, CORE.window)
    x[..., 0, 3], x[..., 1, :2] = 1, 1
    x.requires_grad_()
    model = Batches(Relay(nn.Conv2d(1, 1, 1), lambda x: x[0]))
    seen = Words(model, {"connection.weight": Place((1, 2, CORE.window), 0, False, "")}, CORE)
    with seen.watched():
        model(x.transpose(0, 1))
        seen.words["connection.weight"].sum().backward()
    assert x.grad[0, 0, 0, 0, 3] == 1 and x.grad[0, 0, 0, 1, :2].tolist() == [0.5, 0.5]
    assert x.grad.sum() == 2


# -- what is pruned -------------------------------------------------------------------------------


def pruned(weight: np.ndarray, cost: float, neurons: float, removable: bool = True):
    return pruning.PrunedLayer("layer", weight, np.ones(weight.shape, bool),
                               np.full((1, weight.shape[1]), cost), neurons, removable)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2 ** 32 - 1), share=st.floats(0.05, 0.95))
def test_pruning_reaches_its_target_and_empties_nothing(seed, share):
    rng = np.random.default_rng(seed)
    layers = [pruned(rng.normal(size=(rng.integers(2, 9), rng.integers(1, 9), 3, 3)) * scale,
                     rng.random() + 0.1, rng.random() * 20, rng.random() < 0.7)
              for scale in (1, 100)]
    before = sum(one.cycles for one in layers)
    pruning.remove(layers, share * before)
    stuck = all(one.best is None for one in layers)
    assert stuck or sum(one.cycles for one in layers) <= share * before
    assert all(one.mask.any() for one in layers)
    for one in layers:
        rows = one.mask.reshape(len(one.mask), -1).any(1)
        assert one.synapses == pytest.approx((one.cost * one.mask).sum())
        assert one.drain == pytest.approx(
            one.neurons * (rows.sum() if one.removable else len(rows)))


def test_where_neurons_are_waited_for_channels_go():
    weight = np.random.default_rng(0).normal(size=(8, 4, 3, 3))
    bound = pruned(weight, 0.1, 100.0)
    pruning.remove([bound], 0.5 * bound.cycles)
    assert bound.mask.reshape(8, -1).any(1).sum() == 4
    walked = pruned(weight, 10.0, 1.0)
    pruning.remove([walked], 0.9 * walked.cycles)
    assert walked.mask.reshape(8, -1).any(1).all()      # single weights, the smallest ones
    assert np.abs(weight[walked.mask]).min() > np.abs(weight[~walked.mask]).max()


def test_the_costlier_of_equal_weights_go():
    weight = np.ones((4, 4, 3, 3))
    cheap, dear = pruned(weight, 1.0, 0.0, False), pruned(weight, 5.0, 0.0, False)
    pruning.remove([cheap, dear], 0.5 * (cheap.cycles + dear.cycles))
    assert dear.mask.sum() < cheap.mask.sum()


# -- where connections are ------------------------------------------------------------------------


def placed(tmp_path, train=TRAIN, module=None, **changes) -> dict[str, Place]:
    trainer = trainer_of(dataclasses.replace(CYCLES, **changes), tmp_path, train, module)
    return CycleCost(trainer, None).places


def test_places_of_a_chain(tmp_path):
    assert placed(tmp_path, model="4p-6-f5") == {
        "convs.0.conv.weight": Place((1, 8, 8), 64, True, "module.convs.0.norm"),
        "convs.1.conv.weight": Place((4, 4, 4), 16, True, "module.convs.1.norm"),
        "dense.0.fc.weight": Place((6, 4, 4), 1, True, "module.dense.0.norm"),
        "readout.weight": Place((5, 1, 1), 0, False, "")}


def test_places_of_a_spikeformer(tmp_path):
    """Channels of attention and of residual sums belong together; those of the first convolution
    and inside the MLP do not."""
    found = placed(tmp_path, model="spikeformer-1-16-2-2@4p-16")
    assert {name for name, place in found.items() if place.removable} == {
        "stem.convs.0.conv.weight", "blocks.0.fc1.fc.weight"}
    assert found["blocks.0.q.fc.weight"].inputs == (16, 4, 4)
    assert found["blocks.0.fc2.fc.weight"] == Place((32, 4, 4), 16, False,
                                                    "module.blocks.0.fc2.norm")


class Mine(nn.Sequential):
    """A user's: biases instead of batch norms, timesteps one after the other."""

    def __init__(self):
        node = {"tau": 2.0, "surrogate_function": surrogate.ATan(), "step_mode": "s"}
        super().__init__(nn.Conv2d(1, 4, 3, padding=1), neuron.LIFNode(**node), nn.MaxPool2d(2),
                         nn.Conv2d(4, 6, 3, padding=1, groups=2), neuron.LIFNode(**node),
                         nn.Flatten(), nn.Linear(96, 2))


def test_places_of_a_module_of_ones_own(tmp_path):
    assert placed(tmp_path, module=Mine(), model="Mine") == {
        "0.weight": Place((1, 8, 8), 64, True, ""), "3.weight": Place((4, 4, 4), 16, True, ""),
        "6.weight": Place((6, 4, 4), 0, False, "")}


def test_too_many_connections_for_their_channels(tmp_path):
    trainer = trainer_of(CYCLES, tmp_path)
    model = trainer.build()
    model.module.convs[1].conv = nn.Conv2d(4, 1, 3)
    with pytest.raises(SpikeTicketError, match=r"convs\.1\.conv\.weight has 1 output channels"):
        marked(Found(model))
    model = marked(Found(trainer.build()))
    spec = export.planned_spec(trainer)
    layers, network = export.imported(trainer, model, spec)[:2]
    with pytest.raises(SpikeTicketError, match=r"convs\.0\.conv\.weight is no layer of its own"):
        places(model, layers[1:], network, torch.zeros(1, 1, 8, 8))


# -- the search -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("cycles")
    config = dataclasses.replace(CYCLES, model="16p-6", sparsity=0.75, floor=0.6,
                                 epochs_integer=1)
    return folder / "whole", config, run.search(config, TRAIN, TEST, folder / "whole")


def test_cycles_fall_and_the_ticket_has_its_own(whole):
    folder, _, result = whole
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    rounds = [r for r in log if r["stage"].startswith("round")]
    assert rounds[0]["cycles"] > rounds[-1]["cycles"] > 0
    assert result["cycles_by_stage"] == {r["stage"]: r["cycles"] for r in log if "cycles" in r}
    found = ticket.load(result["ticket"])
    alive = checkpoint.load(folder / "masks.safetensors")[0]["mask"]["convs.0.conv.weight"]
    channels = int(alive.flatten(1).any(1).sum())
    assert found.network.layers[0].channels <= channels < 16
    assert trimmed(found.network) is found.network
    assert found.metadata["cycles"] == result["cycles"] < rounds[0]["cycles"]
    assert result["sparsity"] >= result["sparsity_mask"] > 0.1


def test_the_masks_are_those_of_the_last_round_above_the_floor(whole):
    folder, config, _ = whole
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    rounds = [r for r in log if r["stage"].startswith("round")]
    above = [r for r in rounds if r["validation_accuracy"] >= config.floor]
    assert rounds[:len(above)] == above and len(rounds) - len(above) <= 1
    final = [r for r in log if r["stage"] == "final"]
    assert [r["epoch"] for r in final] == list(range(1, config.epochs_final + 1))
    assert final[-1]["sparsity"] == above[-1]["sparsity"]
    alive = checkpoint.load(folder / "masks.safetensors")[0]["mask"]
    total = sum(m.numel() for m in alive.values())
    assert 1 - sum(int(m.sum()) for m in alive.values()) / total == pytest.approx(
        above[-1]["sparsity"], abs=1e-4)


@pytest.mark.parametrize("stop_at", [1, 3, 5])
def test_an_interrupted_search_ends_with_the_same_numbers(whole, tmp_path, stop_at):
    _, config, result = whole
    interrupt.in_epoch(stop_at, lambda: run.search(config, TRAIN, TEST, tmp_path / "whole"))
    torch.manual_seed(999)
    assert numbers(run.search(config, TRAIN, TEST, tmp_path / "whole")) == numbers(result)


def test_magnitudes_have_a_floor_and_cycles_too(tmp_path):
    config = dataclasses.replace(CYCLES, cost="weights", cost_weight=0.0, sparsity=0.5, floor=0.55)
    result = run.search(config, TRAIN, TEST, tmp_path)
    assert result["cycles"] > 0 and "final" in result["cycles_by_stage"]


def test_a_floor_above_what_is_reached_is_refused(tmp_path):
    config = dataclasses.replace(CYCLES, epochs=1, rewind_epoch=0, floor=0.999)
    with pytest.raises(SpikeTicketError, match=r"floor 0\.999: of the dense network 0\.\d+ of"):
        run.search(dataclasses.replace(config, lr=1e-6), TRAIN, TEST, tmp_path / "a")
    config = dataclasses.replace(CYCLES, floor=0.8, prune_rate=0.9, sparsity=0.97, lr=0.02)
    with pytest.raises(SpikeTicketError, match=r"floor 0\.8: after round 1 0\.\d+ of the"):
        run.search(config, TRAIN, TEST, tmp_path / "b")


def test_pressure_empties_words(tmp_path):
    """The same masks, trained with and without: words that hold an event become fewer."""
    words = []
    for weight in (0.0, 20.0):
        config = dataclasses.replace(CYCLES, cost_weight=weight, sparsity=0.1, prune_rate=0.5,
                                     epochs_final=4)
        trainer = trainer_of(config, tmp_path / str(weight))
        (tmp_path / str(weight)).mkdir()
        found = run.SEARCHES["imp"](trainer)
        seen = CycleCost(trainer, None).words(found)
        words.append(float(seen["convs.1.conv.weight"].sum()))
    assert words[1] < 0.9 * words[0]


def test_removed_channels_are_kept_silent(tmp_path):
    trainer = trainer_of(CYCLES, tmp_path)
    cost, model = CycleCost(trainer, None), trainer.build()
    norms = [block.norm for block in model.module.convs]
    for norm in norms:
        nn.init.constant_(norm.weight, 5.0)
        nn.init.constant_(norm.bias, 5.0)
    masks = {n: torch.ones_like(m.weight, dtype=torch.bool) for n, m in connections(model).items()}
    masks["convs.0.conv.weight"][2] = False
    cost.silent(model, masks)()
    assert norms[0].weight.tolist() == norms[0].bias.tolist() == [5.0, 5.0, 0.0, 5.0]
    assert norms[1].weight.tolist() == [5.0] * 6


@pytest.mark.parametrize(("values", "said"), [
    ({"cost": "time"}, "cost 'time' is unknown"),
    ({"cost_weight": 1.0}, "cost_weight weighs cycles; give cost 'cycles', too"),
    ({"cost": "cycles", "cost_weight": -1}, r"cost_weight -1\.0 is below 0"),
    ({"cost": "cycles", "method": "scores"}, "cost 'cycles' is of method 'imp', not 'scores'"),
    ({"cost": "cycles", "scope": "lamp"}, "scope 'lamp' does not go with cost 'cycles'"),
    ({"cost": "cycles", "early_bird": True}, "early_bird True does not go with"),
    ({"floor": 90}, r"floor 90\.0 is outside 0\.\.1"),
    ({"floor": 0.9, "validation": 0.0}, "floor is about the rounds of method 'imp' on validation"),
    ({"board": "arty"}, "board 'arty' is unknown; did you mean"),
    ({"preset": "a35t"}, "preset 'a35t' is a core to count cycles of; give board")])
def test_what_does_not_go_together(values, said):
    with pytest.raises(SpikeTicketError, match=said):
        from_dict(values)
