"""The IMP search: masks, rewinding, exact resumption, the command."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from sw import find_ticket, ticket
from sw.data.datasets import Images
from sw.errors import SpikeTicketError
from sw.tickets import checkpoint, imp, training
from sw.tickets.imp import Search, SearchOptions, global_masks

from . import interrupt

TINY = SearchOptions(network="4p-6", rounds=2, sparsity=0.75, rewind_epoch=1, epochs_dense=2,
                     epochs_round=1, epochs_final=2, epochs_rounded=1, epochs_integer=2,
                     epochs_unshifted=1,
                     distil=0.5, distil_integer=0.25, batch_size=16, lr=0.02)


pytestmark = pytest.mark.usefixtures("one_thread")


def stripes(count: int, seed: int) -> Images:
    """Two classes that a small network can tell: horizontal and vertical stripes, with noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    images = rng.integers(0, 120, (count, 1, 8, 8))
    images[labels == 0, :, ::2] += 120
    images[labels == 1, :, :, ::2] += 120
    return Images(images.astype(np.uint8), labels, ("rows", "columns"), "stripes")


TRAIN, TEST = stripes(96, 0), stripes(40, 1)


# -- masks and schedules ------------------------------------------------------------------------


def test_global_masks_keep_the_largest_over_all_tensors():
    weights = {"a": torch.tensor([[5.0, -1.0], [0.1, 0.0]]), "b": torch.tensor([-3.0, 2.0])}
    masks = global_masks(weights, 0.5)
    assert masks["a"].tolist() == [[True, False], [False, False]]
    assert masks["b"].tolist() == [True, True]
    assert sum(int(m.sum()) for m in global_masks(weights, 1e-9).values()) == 1
    assert all(m.all() for m in global_masks(weights, 1.0).values())


def test_ties_go_to_the_earlier_weight():
    masks = global_masks({"a": torch.ones(4), "b": torch.ones(4)}, 0.5)
    assert masks["a"].all() and not masks["b"].any()


def test_density_by_round():
    assert SearchOptions(rounds=4, sparsity=0.9).density(4) == pytest.approx(0.1)
    assert SearchOptions(rounds=4, sparsity=0.9).density(1) == pytest.approx(0.1 ** 0.25)
    rated = SearchOptions(rounds=15, prune_rate=0.25, sparsity=0.95)
    assert rated.density(2) == pytest.approx(0.5625)
    assert rated.density(15) == pytest.approx(0.05)  # never beyond the asked sparsity


@pytest.mark.parametrize("options, message", [
    ({"rounds": 0}, "--rounds 0"),
    ({"sparsity": 1.0}, "--sparsity 1.0"),
    ({"prune_rate": 0.0}, "--prune-rate 0.0"),
    ({"rounds": 3, "prune_rate": 0.25, "sparsity": 0.9}, "more --rounds"),
    ({"epochs_final": 0}, "--epochs-final 0"),
    ({"rewind_epoch": 99}, "--rewind-epoch 99"),
    ({"bits": 1}, "--bits 1"),
    ({"epochs_integer": 2, "epochs_unshifted": 3}, "--epochs-unshifted 3 is outside 0..2"),
    ({"lr": 0.0}, "learning rates"),
    ({"distil": 1.5}, "--distil 1.5"),
    ({"distil_integer": -1.0}, "--distil-integer -1.0"),
    ({"batch_size": 0}, "--batch-size 0"),
])
def test_options_name_the_bad_value(options, message):
    with pytest.raises(SpikeTicketError, match=message):
        SearchOptions(**options)


def test_learning_rate_warms_up_and_ends_at_zero():
    rates = [training.learning_rate(1.0, step, 100, 10) for step in range(101)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.0, abs=1e-9)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_batches_depend_on_seed_stage_and_epoch_only():
    def epoch(*key):
        return torch.cat([x for x, _ in training.batches(
            TRAIN, 16, training.batch_generator(*key), flip=True, shift=True)])
    assert torch.equal(epoch(0, 1, 2), epoch(0, 1, 2))
    assert not torch.equal(epoch(0, 1, 2), epoch(0, 1, 3))
    assert not torch.equal(epoch(0, 1, 2), epoch(0, 2, 2))
    assert not torch.equal(epoch(0, 1, 2), epoch(1, 1, 2))


def test_unaugmented_batches_are_the_images():
    x, y = zip(*training.batches(TRAIN, 16, training.batch_generator(0, 0, 0), flip=False,
                                 shift=False), strict=True)
    x, y = torch.cat(x).numpy(), torch.cat(y).numpy()
    assert sorted(map(bytes, x)) == sorted(map(bytes, TRAIN.images))
    assert np.bincount(y).tolist() == np.bincount(TRAIN.labels).tolist()


def test_augmented_batches_are_shifted_or_flipped_images():
    image = np.arange(64, dtype=np.uint8).reshape(1, 1, 8, 8) + 1
    data = Images(np.repeat(image, 200, 0), np.zeros(200, np.int64))
    (x, _), = training.batches(data, 200, training.batch_generator(0, 0, 0), flip=True, shift=True)
    padded = np.pad(image[0, 0], 2)
    variants = set()
    for dy in range(5):
        for dx in range(5):
            crop = padded[dy:dy + 8, dx:dx + 8]
            variants |= {crop.tobytes(), np.ascontiguousarray(crop[:, ::-1]).tobytes()}
    seen = {bytes(frame) for frame in x.numpy().reshape(200, 64)}
    assert seen <= variants and len(seen) > 40


# -- the search ---------------------------------------------------------------------------------


def strip(history):
    return [{k: v for k, v in r.items() if k != "train_seconds"} for r in history]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One uninterrupted search."""
    torch.set_num_threads(1)
    search = Search(TINY, TRAIN, TEST, tmp_path_factory.mktemp("whole"))
    search.run()
    return search


def test_history_stages_and_sparsity(whole):
    stages = [(r["stage"], r["epoch"]) for r in whole.history]
    assert stages == [("dense", 1), ("dense", 2), ("round 1", 1), ("round 2", 1), ("round 2", 2),
                      ("rounded", 1), ("integer", 1), ("integer", 2)]
    total = 4 * 9 + 6 * 4 * 9 + 2 * 6
    assert whole.history[0]["sparsity"] == 0
    assert whole.history[2]["sparsity"] == pytest.approx(1 - round(total * 0.5) / total, abs=1e-5)
    assert whole.history[4]["sparsity"] == pytest.approx(1 - round(total * 0.25) / total, abs=1e-5)
    network = whole.trainee.to_network()
    assert network.sparsity >= 0.75
    assert whole.history[-1]["test_accuracy"] > 0.8
    log = [json.loads(line) for line in (whole.folder / "log.jsonl").read_text().splitlines()]
    assert log == whole.history


def test_rounds_rewind_the_survivors(whole, tmp_path, monkeypatch):
    seen = {}

    def look(self):
        finish(self)
        if self.stages[self.stage][0].startswith("round"):
            seen[self.stage] = ({k: v.clone() for k, v in self.model.state_dict().items()},
                                dict(self.masks), self.rewind)
    finish = Search._finish_stage
    monkeypatch.setattr(Search, "_finish_stage", lambda self: look(self)
                        if self.stage < 2 else finish(self))
    Search(TINY, TRAIN, TEST, tmp_path).run()
    assert sorted(seen) == [1, 2]
    for state, masks, rewind in seen.values():
        for key, value in state.items():
            name = {"convs.0.weight": "conv1", "convs.1.weight": "conv2",
                    "readout.weight": "readout"}.get(key)
            expected = rewind[key] * masks[name] if name else rewind[key]
            assert torch.equal(value, expected), key
    kept = [sum(int(m.sum()) for m in masks.values()) for _, masks, _ in seen.values()]
    assert kept[0] > kept[1]
    for name, mask in seen[2][1].items():  # a removed weight never comes back
        assert not (mask & ~seen[1][1][name]).any()


def test_rounded_weights_are_the_integers_of_the_network(tmp_path, monkeypatch):
    """What trains behind batch norms is what the integer network starts from."""
    kept = {}

    def look(self):
        if self.stages[self.stage][0] == "rounded":
            kept["float"] = {n: w.detach().clone() for n, w in self.model.weights().items()}
            kept["scale"] = [norm.weight.detach().clone() for norm in self.model.norms]
        finish(self)
        if self.trainee is not None and "integers" not in kept:
            kept["integers"] = [self.trainee.integer_weight(i).detach().clone()
                                for i in range(len(self.trainee.weights))]
            kept["steps"] = [getattr(self.trainee, f"step{i}") for i in range(3)]
    finish = Search._finish_stage
    monkeypatch.setattr(Search, "_finish_stage", look)
    search = Search(TINY, TRAIN, TEST, tmp_path)
    search.run()
    for i, (name, weight) in enumerate(kept["float"].items()):
        assert not weight[~search.masks[name]].any()
        if name != "readout":
            weight = weight * torch.where(kept["scale"][i] < 0, -1.0, 1.0).view(-1, 1, 1, 1)
        assert kept["integers"][i].abs().max() <= 7
        torch.testing.assert_close(kept["integers"][i] * kept["steps"][i], weight)


def test_distillation_is_least_at_the_teachers_logits():
    teacher = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]])
    labels = torch.tensor([0, 1])

    def soft(logits):
        hard = torch.nn.functional.cross_entropy(logits, labels)
        return training.distillation(logits, labels, teacher, 0.75) - 0.25 * hard
    assert soft(teacher) == pytest.approx(0.0, abs=1e-6)
    assert soft(teacher + 5) == pytest.approx(0.0, abs=1e-6)
    assert soft(teacher + torch.tensor([1.0, 0, 0])) > 0.01


@pytest.mark.parametrize("stop_at", range(8))
def test_an_interrupted_search_ends_with_the_same_numbers(whole, tmp_path, stop_at):
    """Stopped in the middle of the given epoch, and continued by a new process' objects."""
    interrupt.in_epoch(stop_at, lambda: Search(TINY, TRAIN, TEST, tmp_path).run())
    torch.manual_seed(12345)  # the state of the global generator must not matter
    again = Search(TINY, TRAIN, TEST, tmp_path)
    again.run()
    assert len(again.history) == 8
    assert strip(again.history) == strip(whole.history)
    for key, value in whole.trainee.state_dict().items():
        assert torch.equal(again.trainee.state_dict()[key], value), key
    assert (ticket.to_bytes(again.trainee.to_network())
            == ticket.to_bytes(whole.trainee.to_network()))


def test_a_finished_search_does_not_train_again(whole, monkeypatch):
    monkeypatch.setattr(training, "train_epoch", None)
    again = Search(TINY, TRAIN, TEST, whole.folder)
    again.run()
    assert ticket.to_bytes(again.trainee.to_network()) == ticket.to_bytes(
        whole.trainee.to_network())


def test_another_seed_finds_another_ticket(whole, tmp_path):
    other = Search(dataclasses.replace(TINY, seed=1), TRAIN, TEST, tmp_path)
    other.run()
    assert strip(other.history) != strip(whole.history)


def test_a_checkpoint_of_other_options_is_refused(whole):
    other = Search(dataclasses.replace(TINY, seed=1), TRAIN, TEST, whole.folder)
    with pytest.raises(SpikeTicketError, match="other options"):
        other.run()


@pytest.mark.parametrize("content", [b"", b"garbage" * 9, None])
def test_a_damaged_checkpoint_is_refused(whole, tmp_path, content):
    data = (whole.folder / "state.safetensors").read_bytes()
    (tmp_path / "state.safetensors").write_bytes(data[:900] if content is None else content)
    with pytest.raises(SpikeTicketError, match=r"state\.safetensors"):
        Search(TINY, TRAIN, TEST, tmp_path).run()


def test_a_foreign_checkpoint_is_refused(whole, tmp_path):
    (tmp_path / "state.safetensors").write_bytes(save({"a": np.zeros(3)}))
    with pytest.raises(SpikeTicketError, match="not a checkpoint of a ticket search"):
        Search(TINY, TRAIN, TEST, tmp_path).run()
    weights = (whole.folder / "dense.safetensors").read_bytes()  # of a stage, not of a search
    (tmp_path / "state.safetensors").write_bytes(weights)
    with pytest.raises(SpikeTicketError, match="other options"):
        Search(TINY, TRAIN, TEST, tmp_path).run()


def test_a_checkpoint_without_its_tensors_is_refused(whole, tmp_path):
    groups, meta = checkpoint.load(whole.folder / "state.safetensors")
    del groups["model"]["convs.0.weight"]
    checkpoint.save(tmp_path / "state.safetensors", groups, meta)
    with pytest.raises(SpikeTicketError, match="does not hold this search's state"):
        Search(TINY, TRAIN, TEST, tmp_path).run()


def test_two_searches_do_not_share_a_folder(tmp_path):
    refused = pytest.raises(SpikeTicketError, match="another search is running")
    with checkpoint.locked(tmp_path), refused:
        Search(TINY, TRAIN, TEST, tmp_path).run()


def test_test_images_must_fit(tmp_path):
    small = Images(np.zeros((1, 1, 7, 8), np.uint8), np.zeros(1, np.int64), (), "small")
    with pytest.raises(SpikeTicketError, match=r"small: test images are \[1, 7, 8\]"):
        Search(TINY, TRAIN, small, tmp_path)
    labels = Images(np.zeros((1, 1, 8, 8), np.uint8), np.full(1, 2), (), "labels")
    with pytest.raises(SpikeTicketError, match="label 2 is not among the 2 classes"):
        Search(TINY, TRAIN, labels, tmp_path)


def test_rewind_epoch_zero_is_the_initialisation(tmp_path):
    options = dataclasses.replace(TINY, rewind_epoch=0, epochs_dense=1, rounds=1, epochs_final=1,
                                  epochs_integer=1, epochs_unshifted=0)
    search = Search(options, TRAIN, TEST, tmp_path)
    start = {k: v.clone() for k, v in search.model.state_dict().items()}
    search.run()
    assert all(torch.equal(search.rewind[k], v) for k, v in start.items())


# -- the command --------------------------------------------------------------------------------


def pack(path: Path) -> Path:
    np.savez_compressed(path, x_train=TRAIN.images, y_train=TRAIN.labels, x_test=TEST.images,
                        y_test=TEST.labels, class_names=np.array(TRAIN.names))
    return path


ARGUMENTS = ["--network", "4p-6", "--rounds", "1", "--sparsity", "0.5", "--rewind-epoch", "1",
             "--epochs-dense", "1", "--epochs-final", "1", "--epochs-integer", "1",
             "--epochs-unshifted", "1", "--distil", "0.5",
             "--batch-size", "16", "--threads", "1"]


def test_command_writes_ticket_and_log(tmp_path, capsys):
    data = pack(tmp_path / "pack.npz")
    out = tmp_path / "out"
    arguments = ["--data", str(data), "--out", str(out), *ARGUMENTS, "--json"]
    assert find_ticket.main(arguments) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    found = ticket.load(out / "ticket.safetensors")
    assert found.network.sparsity == result["sparsity"] >= 0.5
    assert found.network.labels == ("rows", "columns")
    assert found.metadata["accuracy_ticket_integer"] == result["accuracy_ticket_integer"]
    assert found.metadata["command"].startswith("python -m sw.find_ticket --data")
    assert set(found.metadata["activity_by_layer"]) == {"conv1", "conv2"}
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [x.get("stage") for x in lines] == ["dense", "round 1", "integer", None]
    assert lines[-1]["result"]["seed"] == 0
    assert result["accuracy_ticket_integer"] == lines[2]["test_accuracy"]


def test_command_explains_bad_input_in_one_line(tmp_path, capsys):
    for arguments, message in (
            (["--data", "nothing.npz"], "nothing.npz: no such file"),
            (["--data", "fashion-mnist", "--data-root", str(tmp_path)], "t10k|train-images"),
            (["--sparsity", "2"], "--sparsity 2.0"),
            (["--network", "8q"], "'8q'")):
        data = [] if "--data" in arguments else ["--data", str(pack(tmp_path / "p.npz"))]
        assert find_ticket.main([*data, *arguments, "--out", str(tmp_path / "o")]) == 2
        error = capsys.readouterr().err
        assert error.startswith("find_ticket: ") and error.count("\n") == 1
        assert any(part in error for part in message.split("|"))


def test_interrupt_is_reported(tmp_path, capsys, monkeypatch):
    def stop(self):
        raise KeyboardInterrupt
    monkeypatch.setattr(imp.Search, "run", stop)
    assert find_ticket.main(["--data", str(pack(tmp_path / "p.npz")), *ARGUMENTS,
                             "--out", str(tmp_path / "o")]) == 130
    assert "same command continues" in capsys.readouterr().err


def test_help_has_examples_and_defaults(capsys):
    with pytest.raises(SystemExit) as stop:
        find_ticket.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert stop.value.code == 0
    assert "examples: python -m sw.find_ticket" in text and "(default: 0.9)" in text
