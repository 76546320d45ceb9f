"""What all stages train with: the rate, the batches, the losses, rounded weights."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from sw.data.datasets import Images
from sw.errors import SpikeTicketError
from sw.tickets import methods, rounding, run, training
from sw.tickets.scores import connections

from .test_tickets_run import TEST, TINY, TRAIN

pytestmark = pytest.mark.usefixtures("one_thread")


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


def test_distillation_is_least_at_the_teachers_logits():
    teacher = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]])
    labels = torch.tensor([0, 1])

    def soft(logits):
        hard = torch.nn.functional.cross_entropy(logits, labels)
        return training.distillation(logits, labels, teacher, 0.75) - 0.25 * hard
    assert soft(teacher) == pytest.approx(0.0, abs=1e-6)
    assert soft(teacher + 5) == pytest.approx(0.0, abs=1e-6)
    assert soft(teacher + torch.tensor([1.0, 0, 0])) > 0.01


def test_rounded_weights_are_the_integers_of_the_network(tmp_path, monkeypatch):
    """What trains behind batch norms is what the integer network starts from."""
    kept = {}

    def look(layers):
        settle(layers)
        kept.update({n: m.weight.detach().clone() for n, m in layers.items()})
        kept["steps"] = steps
    settle, steps = rounding.settle_rounding, {}
    original = rounding.RoundedWeight.__init__

    def made(self, weight, *arguments):
        original(self, weight, *arguments)
        steps[tuple(weight.shape)] = self.step
    monkeypatch.setattr(rounding.RoundedWeight, "__init__", made)
    monkeypatch.setattr(methods, "settle_rounding", look)
    config = dataclasses.replace(TINY, epochs_rounded=1, epochs_integer=0, validation=0.0)
    result = run.search(config, TRAIN, TEST, tmp_path)
    from sw import ticket
    network = ticket.load(result["ticket"]).network
    names = ["convs.0.conv.weight", "convs.1.conv.weight", "readout.weight"]
    assert [n for n in kept if n != "steps"] == names
    for (_, synapses), name in zip(network.synapses(), names, strict=True):
        step = kept["steps"][tuple(kept[name].shape)]
        integers = (kept[name] / step).round().to(torch.int64)
        assert torch.allclose(integers * step, kept[name]) and integers.abs().max() <= 7
        found = torch.from_numpy(synapses.weight.astype(np.int64)).reshape(integers.shape)
        sign = torch.where((found * integers).flatten(1).sum(1) < 0, -1, 1)
        assert torch.equal(found, integers * sign.view(-1, *[1] * (found.dim() - 1)))
    assert kept["steps"][tuple(kept["readout.weight"].shape)].unique().numel() == 1
    assert result["epochs"] == 6


def test_rounding_wants_plain_weights():
    net = nn.Sequential(nn.Linear(2, 2))
    masks = {"0.weight": torch.ones(2, 2, dtype=torch.bool)}
    rounding.add_rounding(connections(net), masks, 4, "0.weight")
    with pytest.raises(SpikeTicketError, match=r"0\.weight is parametrized already"):
        rounding.add_rounding(connections(net), masks, 4, "0.weight")
    rounding.settle_rounding(connections(net))
    weight = net[0].weight / net[0].weight.abs().max()
    assert len(weight.unique()) <= 4


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_weight_steps_minimise_the_error(bits):
    torch.manual_seed(0)
    w = torch.randn(5, 3, 3, 3) * torch.tensor([1, 10, 0.1, 3, 1.0]).view(-1, 1, 1, 1)
    w[4] = 0
    steps = rounding.weight_steps(w, bits, True)
    assert steps.shape == (5, 1, 1, 1)
    top = (1 << bits - 1) - 1

    def error(s):
        return ((w / s).round().clamp(-top, top) * s - w).square().sum((1, 2, 3))
    full = w.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-9) / top
    assert (error(steps) <= error(full) + 1e-9).all()
    assert len(rounding.weight_steps(w, bits, False).unique()) == 1
