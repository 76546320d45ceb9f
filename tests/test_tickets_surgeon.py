"""Optimal brain surgeon: the survivors against plain least squares, layers of every kind."""

import itertools

import pytest
import torch
from torch import nn

from sw.errors import BadInput
from sw.tickets import surgeon
from sw.tickets.masks import by_score, sparsity_of


def network(*layers: nn.Module) -> tuple[nn.Module, dict[str, nn.Module]]:
    model = nn.Sequential(*layers)
    return model, {n: m for n, m in model.named_modules()
                   if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d)}


def spikes(*shape: int, seed: int = 3, rate: float = 0.3) -> torch.Tensor:
    """Channels and neighbours often spike together, as in pictures."""
    drawn = torch.rand(*shape, generator=torch.Generator().manual_seed(seed))
    for axis in (1, -1):
        drawn = sum(drawn.roll(by, axis) for by in range(3))
    return (drawn < drawn.quantile(rate)).float()


@pytest.mark.parametrize("keep", [1, 3, 7])
def test_survivors_are_the_least_squares_solution(keep, monkeypatch):
    monkeypatch.setattr(surgeon, "DAMPING", 1e-9)
    torch.manual_seed(keep)
    model, layers = network(nn.Linear(12, 5, bias=False))
    x, before = spikes(400, 12), model[0].weight.detach().clone()
    masks = surgeon.operate(model, layers, lambda: model(x), 1 - keep / 12, "layer")
    after, mask = model[0].weight.detach(), masks["0"]
    assert int(mask.sum()) == round(5 * keep) and (after[~mask] == 0).all()
    for row, chosen, found in zip(before, mask, after, strict=True):
        wanted = torch.linalg.lstsq(x[:, chosen].double(), (x @ row)[:, None].double()).solution
        assert torch.allclose(found[chosen].double(), wanted[:, 0], atol=1e-4)


def test_one_weight_less_is_the_best_one():
    """Removing one of all costs w^2 / inverse(H)_qq: no other choice is better."""
    torch.manual_seed(1)
    model, layers = network(nn.Linear(9, 1, bias=False))
    x, before = spikes(500, 9), model[0].weight.detach().clone()
    mask = surgeon.operate(model, layers, lambda: model(x), 1 / 9, "layer")["0"]
    errors = []
    for q in range(9):
        rest = [i for i in range(9) if i != q]
        best = torch.linalg.lstsq(x[:, rest].double(), (x @ before[0])[:, None].double()).solution
        errors.append(float((x[:, rest].double() @ best - (x @ before[0])[:, None]).square().sum()))
    assert int((~mask[0]).nonzero()) == min(range(9), key=errors.__getitem__)


@pytest.mark.parametrize("make, shape", [
    (lambda: nn.Conv2d(4, 6, 3, padding=1, bias=False), (40, 4, 7, 7)),
    (lambda: nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(0, 1), groups=2,
                       bias=False), (40, 4, 9, 7)),
    (lambda: nn.Conv2d(4, 4, 3, dilation=2, groups=4), (60, 4, 9, 9)),
    (lambda: nn.Conv1d(5, 6, 3, stride=2, padding=1), (60, 5, 11)),
    (lambda: nn.Linear(10, 6), (4, 50, 10)),
])
def test_it_beats_magnitudes_on_layers_of_every_kind(make, shape):
    torch.manual_seed(0)
    model, layers = network(make())
    x = spikes(*shape)
    dense = model(x).detach()
    magnitude, _ = network(make())
    magnitude.load_state_dict(model.state_dict())
    with torch.no_grad():
        weight = magnitude[0].weight
        weight.mul_(by_score({"0": weight}, 0.6)["0"])
    masks = surgeon.operate(model, layers, lambda: model(x), 0.6, "global")
    assert sparsity_of(masks) == pytest.approx(0.6, abs=0.5 / masks["0"].numel())
    ours, theirs = (_lost(net(x), dense, isinstance(net[0], nn.Linear))
                    for net in (model, magnitude))
    assert ours < 0.85 * theirs


def _lost(currents: torch.Tensor, dense: torch.Tensor, last: bool) -> torch.Tensor:
    """The part of its current's power that a neuron loses, the mean over neurons."""
    change, dense = (t.movedim(-1 if last else 1, 0).flatten(1) for t in (currents - dense, dense))
    return (change.square().mean(1) / dense.square().mean(1)).mean()


def test_layers_see_what_the_ones_before_leave():
    """The second layer makes up for what the first one lost."""
    torch.manual_seed(2)
    model, layers = network(nn.Linear(16, 12, bias=False), nn.ReLU(), nn.Linear(12, 3, bias=False))
    x, done = spikes(600, 16), itertools.count()
    masks = surgeon.operate(model, layers, lambda: model(x), 0.5, "layer", lambda: next(done))
    assert list(masks) == list(layers) and next(done) == 2
    hidden = model[1](model[0](x)).detach()
    again, last = network(nn.Linear(12, 3, bias=False))
    again[0].weight.data.copy_(model[2].weight)
    kept = surgeon.operate(again, last, lambda: again(hidden), 0.5, "layer")
    assert (kept["0"] == masks["2"]).float().mean() > 0.9


def test_norms_have_the_statistics_of_the_ticket():
    torch.manual_seed(4)
    model, layers = network(nn.Linear(8, 6), nn.BatchNorm1d(6, momentum=0.2))
    x = spikes(300, 8)
    model.train()(torch.randn(50, 8))
    surgeon.operate(model, layers, lambda: model(x), 0.7, "layer")
    currents = model[0](x).detach()
    assert torch.allclose(model[1].running_mean, currents.mean(0), atol=1e-5)
    assert torch.allclose(model[1].running_var, currents.var(0), rtol=1e-3)
    assert model[1].momentum == 0.2 and not model[1].training


def test_inputs_that_never_spike_lose_their_weights_first():
    torch.manual_seed(5)
    model, layers = network(nn.Linear(10, 4, bias=False))
    x = spikes(200, 10)
    x[:, ::2] = 0
    model[0].weight.data.sign_()
    mask = surgeon.operate(model, layers, lambda: model(x), 0.5, "layer")["0"]
    assert not mask[:, ::2].any() and mask[:, 1::2].all()


def test_layers_that_it_cannot_see_are_refused():
    model, layers = network(nn.Linear(4, 3))
    with pytest.raises(BadInput, match="layer '0' is not called"):
        surgeon.operate(model, layers, lambda: torch.ones(2, 4) @ model[0].weight.T, 0.5, "layer")
    for layer in (nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"),
                  nn.Conv2d(2, 2, 3, padding="same")):
        model, layers = network(layer)
        with pytest.raises(BadInput, match="use method imp"):
            surgeon.operate(model, layers, lambda m=model: m(torch.ones(1, 2, 5, 5)), 0.5, "layer")
