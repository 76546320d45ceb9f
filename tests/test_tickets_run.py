"""The searches as a whole: resuming, rewinding, what a ticket is worth, the command."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import save

from sw import ticket
from sw.cli.app import main
from sw.data import depth
from sw.data.datasets import Images
from sw.errors import SpikeTicketError
from sw.integer import reference
from sw.integer.spikingjelly import IntegerNetwork
from sw.tickets import checkpoint, masks, methods, run, training
from sw.tickets.config import RunConfig, from_dict, from_yaml
from sw.tickets.networks import Networks
from sw.tickets.trainer import Trainer

from . import interrupt

TINY = RunConfig(model="4p-6", data="stripes", timesteps=2, sparsity=0.6, prune_rate=0.4, epochs=2,
                 rewind_epoch=1, epochs_round=1, epochs_final=2, epochs_integer=1, lr=0.02,
                 batch_size=16, flip=True, shift=True, device="cpu")


pytestmark = pytest.mark.usefixtures("one_thread")


def stripes(count: int, seed: int, classes: int = 2, frames: int = 0) -> Images:
    """Classes: stripes along rows, along columns, a checkerboard, in noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    y, x = np.mgrid[:8, :8]
    patterns = np.stack([y % 2, x % 2, (x + y) % 2, y // 2 % 2, x // 2 % 2])
    images = rng.integers(0, 120, (count, 1, 8, 8)) + 120 * patterns[labels][:, None]
    if frames:
        images = rng.binomial(3, images[:, None] / 256, (count, frames, 1, 8, 8))
    return Images(images.astype(np.uint8), labels, tuple("abcde"[:classes]), "stripes")


TRAIN, TEST = stripes(96, 0), stripes(40, 1)


def trainer_of(config: RunConfig, folder: Path, train: Images = TRAIN,
               module: torch.nn.Module | None = None) -> Trainer:
    """The trainer of a search, with the test samples for validation."""
    return Trainer(config, train, TEST, Networks(config, train.images.shape[1:],
                                                 len(train.names), module), folder)


def numbers(result: dict) -> dict:
    """What two runs of the same search have in common."""
    return {k: v for k, v in result.items() if "seconds" not in k and k != "ticket"}


# -- one search -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One uninterrupted search with everything that has state."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("whole")
    config = dataclasses.replace(TINY, early_time=True, early_bird=True, distil=0.5,
                                 distil_integer=0.25, epochs_rounded=1, epochs_integer=2,
                                 epochs_unshifted=1, lr_integer=0.01)
    return folder, config, run.search(config, TRAIN, TEST, folder)


def test_stages_and_sparsities(whole):
    folder, config, result = whole
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [(r["stage"], r["epoch"]) for r in log] == [
        ("dense", 1), ("dense", 2), ("round 1", 1), ("round 2", 1), ("round 2", 2),
        ("rounded", 1), ("integer", 1), ("integer", 2)]
    total = 4 * 9 + 6 * 4 * 9 + 2 * 6
    assert [r["sparsity"] for r in log[:5]] == pytest.approx(
        [0, 0] + [1 - round(total * d) / total for d in (0.6, 0.4, 0.4)], abs=1e-5)
    assert result["sparsity_mask"] == pytest.approx(1 - round(total * 0.4) / total)
    assert 1 <= result["timesteps_search"] <= 2
    assert config.rounds() == pytest.approx([0.4, 0.6])


def test_ticket_holds_the_exact_configuration(whole):
    folder, config, result = whole
    found = ticket.load(folder / "ticket.safetensors")
    assert found.metadata["config"] == (folder / "config.yaml").read_text() == config.to_yaml()
    assert from_yaml(found.metadata["config"]) == config
    assert found.metadata["accuracy_integer"] == result["accuracy_integer"] > 0.8
    assert found.network.sparsity >= result["sparsity_mask"]
    alive = checkpoint.load(folder / "masks.safetensors")[0]["mask"]
    assert masks.sparsity_of(alive) == pytest.approx(result["sparsity_mask"])


@pytest.mark.parametrize("stop_at", range(8))
def test_an_interrupted_search_ends_with_the_same_numbers(whole, tmp_path, stop_at):
    """Stopped in the middle of every epoch in turn, and continued by a new process' objects."""
    _, config, result = whole
    interrupt.in_epoch(stop_at, lambda: run.search(config, TRAIN, TEST, tmp_path / "whole"))
    torch.manual_seed(999)  # the state of the global generator must not matter
    again = run.search(config, TRAIN, TEST, tmp_path / "whole")
    assert numbers(again) == numbers(result)


@pytest.mark.parametrize("changes", [
    {"optimizer": "sgd", "weight_decay": 1e-3, "lr": 0.1}, {"fused": False},
    {"method": "scores", "binary": True, "loss_per_timestep": True, "epochs": 8, "lr_scores": 0.02},
    {"method": "scores", "learn_norms": False, "logit_spread": 3.0, "lr_scores": 0.1, "epochs": 8}])
def test_other_ways_of_training_learn_and_can_be_interrupted(tmp_path, changes):
    config = dataclasses.replace(TINY, **changes)
    result = run.search(config, TRAIN, TEST, tmp_path / "a")
    assert result["accuracy_ticket"] > 0.7 and result["sparsity_mask"] > 0.59
    interrupt.in_epoch(1, lambda: run.search(config, TRAIN, TEST, tmp_path / "b"))
    assert numbers(run.search(config, TRAIN, TEST, tmp_path / "b")) == numbers(result)


@pytest.mark.parametrize("learn", [True, False])
def test_scores_learn_the_norms_they_are_told_to(tmp_path, learn):
    config = dataclasses.replace(TINY, method="scores", learn_norms=learn, epochs_integer=0)
    trainer = trainer_of(config, tmp_path)
    found = methods.scores(trainer)
    moved = [bool((p != (1 if p is m.weight else 0)).any())
             for m in found.model.modules() if isinstance(m, torch.nn.BatchNorm2d)
             for p in m.parameters()]
    assert moved and all(m is learn for m in moved)
    assert not hasattr(found.model, "log_scale")


def test_a_finished_search_does_not_train_again(whole, monkeypatch):
    folder, config, result = whole
    monkeypatch.setattr(training, "train_epoch", None)
    assert numbers(run.search(config, TRAIN, TEST, folder)) == numbers(result)


def test_a_given_t_is_that_of_the_rounds(tmp_path, monkeypatch):
    """Every round but the last, whatever the rule would say."""
    seen = []
    train = Trainer.train

    def look(self, stage, module, epochs, **options):
        seen.append((stage, getattr(module, "timesteps", None)))
        train(self, stage, module, epochs, **options)
    monkeypatch.setattr(Trainer, "train", look)
    config = dataclasses.replace(TINY, early_time=True, search_timesteps=1, epochs_integer=0)
    result = run.search(config, TRAIN, TEST, tmp_path)
    assert seen == [("dense", 2), ("round 1", 1), ("round 2", 2)]
    assert "timesteps_search" not in result


def test_a_folder_of_before_a_setting_existed_goes_on(tmp_path):
    config = dataclasses.replace(TINY, method="dense", epochs=1, rewind_epoch=0)
    run.search(config, TRAIN, TEST, tmp_path)
    path = tmp_path / "config.yaml"
    path.write_text("".join(line for line in path.read_text().splitlines(True)
                            if not line.startswith("search_timesteps")))
    assert run.search(config, TRAIN, TEST, tmp_path)["epochs"] == 2


def test_another_configuration_is_refused(whole):
    folder, config, _ = whole
    with pytest.raises(SpikeTicketError, match="another configuration"):
        run.search(dataclasses.replace(config, seed=1), TRAIN, TEST, folder)
    assert (folder / "config.yaml").read_text() == config.to_yaml()
    with pytest.raises(SpikeTicketError, match="another configuration"):  # other data
        run.search(config, TRAIN.first(90), TEST, folder)


def test_other_integer_settings_train_the_integer_stage_alone(tmp_path, monkeypatch):
    config = dataclasses.replace(TINY, dense_integer=True, epochs_integer=2)
    interrupt.in_epoch(6, lambda: run.search(config, TRAIN, TEST, tmp_path / "a"))
    stages = []
    train = training.train_epoch
    monkeypatch.setattr(training, "train_epoch", lambda *a, **k: stages.append(1) or train(*a, **k))
    for changes, epochs in (({"bits": 8}, 4), ({"epochs_integer": 1}, 2),
                            ({"dense_integer": False, "integer_images": 30}, 0),
                            ({"lr_integer": 0.01}, 1), ({"dense_integer": True}, 1)):
        config, before = dataclasses.replace(config, **changes), len(stages)
        result = run.search(config, TRAIN, TEST, tmp_path / "a")
        assert len(stages) - before == epochs
        fresh = run.search(config, TRAIN, TEST, tmp_path / f"b{len(stages)}" / "a")
        assert numbers(fresh) == numbers(result)
        assert (tmp_path / "a" / "config.yaml").read_text() == config.to_yaml()


@pytest.mark.parametrize("search", ["", "[]", "{}", "null", '{"config": 3, "train": 96}',
                                    '{"config": "a: [", "train": 96, "test": 40}'])
def test_a_checkpoint_of_no_search_is_refused(whole, search):
    folder, config, _ = whole
    path = folder / "state.safetensors"
    kept = path.read_bytes()
    groups, meta = checkpoint.load(path)
    checkpoint.save(path, groups, {**meta, "search": search})
    trainer = trainer_of(config, folder)
    try:
        with pytest.raises(SpikeTicketError, match=r"state\.safetensors: "):
            trainer.train("new", trainer.build(), 1)
    finally:
        path.write_bytes(kept)


@pytest.mark.parametrize("content", [b"", b"garbage" * 9, None])
def test_a_damaged_checkpoint_is_refused(whole, tmp_path, content):
    folder, config, _ = whole
    data = (folder / "state.safetensors").read_bytes()
    (tmp_path / "state.safetensors").write_bytes(data[:900] if content is None else content)
    with pytest.raises(SpikeTicketError, match=r"state\.safetensors"):
        run.search(config, TRAIN, TEST, tmp_path)


def test_a_foreign_checkpoint_is_refused(whole, tmp_path):
    folder, config, _ = whole
    (tmp_path / "state.safetensors").write_bytes(save({"a": np.zeros(3)}))
    with pytest.raises(SpikeTicketError, match="not a checkpoint of a ticket search"):
        run.search(config, TRAIN, TEST, tmp_path)
    groups, meta = checkpoint.load(folder / "dense.safetensors")
    del groups["model"]["module.convs.0.conv.weight"]
    (tmp_path / "state.safetensors").unlink()
    checkpoint.save(tmp_path / "dense.safetensors", groups, meta)
    with pytest.raises(SpikeTicketError, match="does not hold this search's state"):
        run.search(config, TRAIN, TEST, tmp_path)


def test_two_searches_do_not_share_a_folder(tmp_path):
    refused = pytest.raises(SpikeTicketError, match="another search is running")
    with checkpoint.locked(tmp_path), refused:
        run.search(TINY, TRAIN, TEST, tmp_path)


def test_rewind_epoch_zero_is_the_initialisation(tmp_path):
    config = dataclasses.replace(TINY, rewind_epoch=0, epochs=1, epochs_integer=0)
    start = trainer_of(config, tmp_path / "other").build().state_dict()
    run.search(config, TRAIN, TEST, tmp_path)
    kept = checkpoint.load(tmp_path / "dense.start.safetensors")[0]["model"]
    assert all(torch.equal(kept[k], v) for k, v in start.items())


def test_another_seed_finds_another_ticket(whole, tmp_path):
    _, config, result = whole
    other = run.search(dataclasses.replace(config, seed=1), TRAIN, TEST, tmp_path / "whole")
    assert numbers(other) != numbers(result)


def test_draws_by_number_are_those_of_older_searches(tmp_path):
    """The weights of the seed itself; the order of (seed, number of the stage, epochs done)."""
    config = dataclasses.replace(TINY, draws="numbers", seed=5)
    trainer = trainer_of(config, tmp_path)
    torch.manual_seed(5)
    conv = torch.nn.Conv2d(1, 4, 3, bias=False)
    assert torch.equal(trainer.build().module.convs[0].conv.weight, conv.weight)
    trainer.history = [{"stage": "dense"}, {"stage": "dense"}, {"stage": "round 1"}]
    expected = training.batch_generator(5, 1, 1).initial_seed()
    assert trainer._order("round 1", 1).initial_seed() == expected
    assert trainer._order("integer", 0).initial_seed() == training.batch_generator(
        5, 2, 0).initial_seed()


def test_an_interrupt_is_reported(tmp_path, capsys, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt
    monkeypatch.setattr(run, "load_data", stop)
    assert main(["find", "--out", str(tmp_path)]) == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_a_killed_process_goes_on(tmp_path):
    """SIGKILL in the middle of the search; the same command ends as if nothing had happened."""
    pack = tmp_path / "pack.npz"
    np.savez(pack, x_train=TRAIN.images, y_train=TRAIN.labels, x_test=TEST.images,
             y_test=TEST.labels)
    config = dataclasses.replace(TINY, data=str(pack), epochs_final=4, epochs_integer=0)
    (tmp_path / "run.yaml").write_text(config.to_yaml())
    command = [sys.executable, "-m", "sw.tickets", "--config", str(tmp_path / "run.yaml"),
               "--threads", "1", "--json", "--out"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = subprocess.Popen([*command, str(tmp_path / "a")], env=environment,
                              stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    log, deadline = tmp_path / "a" / "log.jsonl", time.monotonic() + 300
    while not log.exists() or len(log.read_text().splitlines()) < 3:  # in the second stage
        assert killed.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "a" / "result.json").exists()
    again = run.run(config, tmp_path / "a")
    assert numbers(again) | {"ticket": 0} == numbers(
        run.run(config, tmp_path / "b" / "a")) | {"ticket": 0}


def test_two_processes_train_one_network(tmp_path):
    """As torchrun starts them, on two CPUs; the batch norms see half batches, so only nearly."""
    pack = tmp_path / "pack.npz"
    np.savez(pack, x_train=TRAIN.images, y_train=TRAIN.labels, x_test=TEST.images,
             y_test=TEST.labels)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
               "--master-port", str(20000 + os.getpid() % 20000), "-m", "sw.tickets",
               "--data", str(pack), "--model", "4p-6", "--method", "dense", "--timesteps", "2",
               "--epochs", "4", "--batch-size", "16", "--lr", "0.02", "--device", "cpu",
               "--threads", "1", "--json", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300,
                          capture_output=True, text=True, check=True)
    result = json.loads(done.stdout.splitlines()[-1])
    assert len(done.stdout.splitlines()) == 1  # the first process alone reports
    log = [json.loads(x) for x in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert len(log) == 6 and result["accuracy_ticket"] > 0.8 and 0.3 < log[0]["loss"] < 1.0


def test_compile_is_used_for_training_alone(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(torch, "compile", lambda f, **_: calls.append(f) or f)
    trainer = trainer_of(dataclasses.replace(TINY, compile=True), tmp_path)
    model = trainer.build()
    trainer.train("a", model, 1)
    trainer.train("b", model, 1, exact=True)
    assert calls == [model]


def test_rounds_rewind_bit_for_bit(tmp_path, monkeypatch):
    seen = {}
    train = Trainer.train

    def look(self, stage, module, epochs, **options):
        if stage.startswith("round"):
            seen[stage] = ({k: v.clone() for k, v in module.state_dict().items()},
                           options["masks"], self.remembered("dense"))
        train(self, stage, module, epochs, **options)
    monkeypatch.setattr(Trainer, "train", look)
    run.search(TINY, TRAIN, TEST, tmp_path)
    assert list(seen) == ["round 1", "round 2"]
    for state, mask, start in seen.values():
        assert all(torch.equal(state[k], start[k]) for k in start)
        assert not any(m.all() for m in mask.values())
    first, second = (m for _, m, _ in seen.values())
    assert all(not (second[n] & ~first[n]).any() for n in first)  # nothing comes back


def test_masked_weights_stay_zero_while_training(tmp_path):
    trainer = trainer_of(TINY, tmp_path)
    model = trainer.build()
    mask = masks.random_masks(methods.prunable(model, TINY), 0.5, 0)
    trainer.train("x", model, 1, masks=mask)
    weights = methods.prunable(model, TINY)
    assert all(torch.equal(weights[n] != 0, mask[n]) for n in mask)


# -- every method exports, exactly ----------------------------------------------------------------


@pytest.mark.parametrize("changes", [
    {"method": "dense"}, {"method": "dense", "binary": True}, {"method": "random"},
    {"method": "scores"},
    {"method": "scores", "binary": True}, {"method": "scores", "binary": True, "model": "4p-f6"},
    {"method": "imp", "scope": "layer", "model": "4p-6p-f8"}])
def test_every_method_exports_a_ticket_that_runs_exactly(tmp_path, changes):
    config = dataclasses.replace(TINY, **changes)
    result = run.search(config, TRAIN, TEST, tmp_path)
    network = ticket.load(result["ticket"]).network
    if config.method != "dense":
        total = network.weights_total
        assert result["sparsity_mask"] == pytest.approx(0.6, abs=3 / total + 0.01)
    if config.binary:
        assert all(syn.bits == 1 for _, syn in network.synapses())
    taken = depth.taken(TEST.images, network.input)
    logits = IntegerNetwork(network)(torch.from_numpy(taken)).numpy()
    assert np.array_equal(reference.run(network, taken[:4]).logits, logits[:4])
    labels = logits.argmax(1)
    assert (labels == TEST.labels).mean() == result["accuracy_integer"]


def test_event_frames_train_and_export(tmp_path):
    train, test = stripes(64, 0, frames=4), stripes(24, 1, frames=4)
    result = run.search(dataclasses.replace(TINY, timesteps=3), train, test, tmp_path)
    network = ticket.load(result["ticket"]).network
    assert not network.input.static and network.input.bits == 2 and network.timesteps == 3
    assert network.input.channels == 1


# -- what a ticket is worth -----------------------------------------------------------------------


def test_a_ticket_beats_a_random_mask_and_other_weights(tmp_path):
    """Five patterns, three seeds: the means differ in the order that the hypothesis predicts."""
    train, test = stripes(300, 0, classes=5), stripes(200, 1, classes=5)
    scores = {"imp": [], "random": [], "reinitialised": []}
    for seed in range(3):
        base = dataclasses.replace(TINY, model="6p-8p-10", sparsity=0.9, prune_rate=0.55, epochs=5,
                                   epochs_round=2, epochs_final=3, rewind_epoch=2, seed=seed,
                                   epochs_integer=0, integer_images=1, flip=False, shift=False)
        ticket_folder = tmp_path / f"imp{seed}"
        control = dataclasses.replace(base, method="random")
        reinit = dataclasses.replace(control, masks=str(ticket_folder / "masks.safetensors"))
        for name, config in (("imp", base), ("random", control), ("reinitialised", reinit)):
            result = run.search(config, train, test, tmp_path / f"{name}{seed}")
            assert result["sparsity_mask"] == pytest.approx(0.9, abs=0.001)
            scores[name].append(result["accuracy_ticket"])
    print(f"seeds 0..2: {scores}")
    mean = {name: sum(s) / 3 for name, s in scores.items()}
    assert mean["imp"] > mean["random"] and mean["imp"] > mean["reinitialised"]


def test_a_score_search_beats_a_frozen_random_choice(tmp_path, monkeypatch):
    """Five patterns, three seeds, half of the weights as drawn: which ones is what is learnt. The
    control learns the norms and the temperature under the mask that its scores began with."""
    train, test = stripes(300, 0, classes=5), stripes(200, 1, classes=5)
    found = {"searched": [], "as drawn": []}
    original = methods.add_scores
    for name, accuracies in found.items():
        if name == "as drawn":
            monkeypatch.setattr(methods, "add_scores", lambda *a: original(*a) and [])
        for seed in range(3):
            config = dataclasses.replace(
                TINY, method="scores", binary=True, model="6p-8p-10", sparsity=0.5, epochs=6,
                seed=seed, epochs_integer=0, integer_images=1, flip=False, shift=False)
            result = run.search(config, train, test, tmp_path / f"{name}{seed}")
            assert result["sparsity_mask"] == pytest.approx(0.5, abs=0.005)
            accuracies.append(result["accuracy_ticket"])
    print(f"seeds 0..2: {found}")
    assert sum(found["searched"]) > sum(found["as drawn"]) + 0.1


# -- configuration and command --------------------------------------------------------------------


def test_yaml_gives_the_configuration_back():
    config = dataclasses.replace(TINY, seed=3, sparsity=0.97)
    assert from_yaml(config.to_yaml()) == config
    assert from_dict({"lr": "1e-3", "sparsity": 0}).lr == 1e-3  # YAML reads 1e-3 as a text


@pytest.mark.parametrize("changes, message", [
    ({"method": "magic"}, "method 'magic'"), ({"sparsity": 1.0}, r"sparsity 1\.0"),
    ({"sparsity": -0.1}, "sparsity -0.1"), ({"sparsity": "most"}, "sparsity 'most'"),
    ({"sparsity": float("nan")}, "sparsity nan"), ({"patch_sparsity": 1.0}, "patch_sparsity"),
    ({"epochs": 0}, "epochs 0"), ({"epochs": 2.5}, r"epochs 2\.5"),
    ({"epochs": True}, "epochs True"),
    ({"rewind_epoch": 99}, "rewind_epoch 99"), ({"bits": 1}, "binary: true"),
    ({"binary": True}, "method 'imp' does neither"), ({"sparcity": 0.5}, "'sparcity'"),
    ({"scope": "row"}, "scope 'row'"), ({"lr": 0}, r"lr 0\.0"), ({"device": "tpu"}, "device 'tpu'"),
    ({"method": "dense", "dense_integer": True}, "about imp's dense network"),
    ({"masks": "x"}, "for method 'random'"), ({"method": "scores", "layers": "stem"}, "'ecpt'"),
    ({"train_images": 0}, "train_images 0"), ({"optimizer": "adamw"}, "did you mean adam"),
    ({"weight_decay": -1}, r"weight_decay -1\.0"), ({"logit_spread": 0}, r"logit_spread 0\.0"),
    ({"method": "scores", "scope": "lamp"}, "'lamp' is for magnitudes"),
    ({"early_time": True, "search_timesteps": 3}, r"search_timesteps 3 \(T'\) is outside 1\.\.2"),
    ({"early_time": True, "search_timesteps": 0}, r"search_timesteps 0 \(T'\)"),
    ({"search_timesteps": 1}, "with early_time; give both")])
def test_bad_settings_are_named(changes, message):
    with pytest.raises(SpikeTicketError, match=message):
        from_dict({**dataclasses.asdict(TINY), **changes})


def test_a_search_without_rewinding_may_be_shorter_than_the_rewind_epoch():
    assert from_dict({"method": "dense", "epochs": 1}).rewind_epoch > 1


def test_data_must_fit(tmp_path):
    with pytest.raises(SpikeTicketError, match="2 frames per sample"):
        run.search(dataclasses.replace(TINY, timesteps=4), stripes(9, 0, frames=2),
                   stripes(9, 0, frames=2), tmp_path)
    with pytest.raises(SpikeTicketError, match="label 4 of a test sample is not among"):
        run.search(TINY, TRAIN, stripes(40, 0, classes=5), tmp_path)
    with pytest.raises(SpikeTicketError, match=r"test samples are \[4, 1, 8, 8\]"):
        run.search(TINY, TRAIN, stripes(9, 0, frames=4), tmp_path)


@pytest.mark.parametrize("content, message", [
    ("[1, 2]", "holds no settings"), ("a: [", "not YAML"), ("method: magic", "method 'magic'"),
    ("!!python/object/apply:os.system ['true']", "not YAML"), ("x: " + "y" * 70000, "bytes")])
def test_bad_yaml_is_one_line(tmp_path, capsys, content, message):
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    assert main(["find", "--config", str(path)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and "bad.yaml" in error


def test_command_line_wins_over_yaml(tmp_path, capsys):
    path = tmp_path / "run.yaml"
    path.write_text("method: scores\nbinary: true\nseed: 4\n")
    assert main(["find", "--config", str(path), "--seed", "5", "--no-binary", "--show"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert (shown["method"], shown["seed"], shown["binary"]) == ("scores", 5, False)


def test_command_names_what_is_missing(tmp_path, capsys):
    for arguments, message in ((["--config", "none.yaml"], "none.yaml"),
                               (["--data", "none.npz"], "none.npz: no such file"),
                               (["--sparsity", "1"], "sparsity 1.0")):
        assert main(["find", *arguments, "--out", str(tmp_path)]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def test_help_has_examples(capsys):
    assert main(["find", "--help"]) == 0
    assert "examples:" in capsys.readouterr().out


def test_tensorboard_log_appears_where_it_is_installed(tmp_path):
    """The search over all its epochs, each stage by its own, every layer, the settings."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    run.search(dataclasses.replace(TINY, method="dense", tensorboard=True, epochs_integer=0),
               TRAIN, TEST, tmp_path)
    held = EventAccumulator(str(tmp_path / "tensorboard"))
    held.Reload()
    tags = held.Tags()
    assert {"search/loss", "dense/loss"} <= set(tags["scalars"])
    assert any(tag.startswith("spike rate by layer/") for tag in tags["scalars"])
    assert {"settings/text_summary", "stages/text_summary"} <= set(tags["tensors"])
    [stage] = held.Tensors("stages/text_summary")
    assert stage.tensor_proto.string_val[0] == b"dense begins with epoch 1 of the search"


def test_the_loss_of_rates_draws_them_to_one_and_zero():
    rates, labels = torch.tensor([[0.75, 0.25], [0.0, 1.0]]), torch.tensor([0, 0])
    assert float(training.loss("mse", rates, labels)) == pytest.approx((2 * 0.0625 + 2) / 4)
    taught = training.loss("mse", rates, labels, teacher=rates, share=0.25)
    assert float(taught) == pytest.approx(0.75 * (2 * 0.0625 + 2) / 4)
    with pytest.raises(SpikeTicketError, match="loss 'l1'"):
        RunConfig(loss="l1")


@pytest.mark.parametrize("changes", [{"method": "ecpt"}, {"patch_sparsity": 0.3}])
def test_patches_of_a_network_without_a_patch_embedding_are_refused(tmp_path, changes):
    config = from_dict({**dataclasses.asdict(TINY), **changes})
    with pytest.raises(SpikeTicketError, match="has no module called stem"):
        run.search(config, stripes(48, 0), stripes(16, 1), tmp_path)
