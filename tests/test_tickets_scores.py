"""Connection tickets by scores: exact masks, gradients to scores only, binary weights."""

import pytest
import torch
from torch import nn

from sw import nets
from sw.errors import SpikeTicketError
from sw.tickets.masks import by_score
from sw.tickets.methods import spread
from sw.tickets.scores import (
    ScoredWeight,
    add_scores,
    connections,
    freeze_all_but,
    masks_of,
    norms,
    rate,
    settle,
)

pytestmark = pytest.mark.usefixtures("one_thread", "tiny_resnet")


def scored(model: nn.Module, sparsity: float = 0.5, binary: bool = False):
    torch.manual_seed(0)
    layers = connections(model)
    parameters = add_scores(layers, sparsity, binary)
    freeze_all_but(model, parameters)
    return layers, parameters


@pytest.mark.parametrize("model", ["4p-6p-f8", "resnet-tiny"])
@pytest.mark.parametrize("binary", [False, True])
def test_gradients_reach_scores_and_nothing_else(model, binary):
    net = nets.build(nets.NetConfig(model, (1, 8, 8), 3, timesteps=2))
    layers, parameters = scored(net, 0.7, binary)
    before = {n: p.clone() for n, p in net.named_parameters()}
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        logits = net(torch.rand(8, 1, 8, 8))
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits, torch.arange(8) % 3).backward()
        optimizer.step()
    assert all(p.grad is not None for p in parameters)
    moved = {n for n, p in net.named_parameters() if not torch.equal(p, before[n])}
    assert moved == {n for n in before if n.endswith(".scores")} and len(moved) == len(layers)
    for mask in masks_of(layers).values():
        assert int(mask.sum()) == max(1, round(0.3 * mask.numel()))


@pytest.mark.parametrize("binary", [False, True])
def test_straight_through_gradient_is_the_paper_s(binary):
    torch.manual_seed(1)
    w, ticket = torch.randn(4, 6), ScoredWeight(torch.Size([4, 6]), 0.5, binary)
    effective = ticket(w)
    gradient = torch.randn(4, 6)
    effective.backward(gradient)
    mask = ticket.mask()
    assert int(mask.sum()) == 12 and torch.equal(effective != 0, mask)
    if binary:
        alpha = (w.abs() * mask).sum() / mask.sum()
        value = alpha * w.sign()
    else:
        value = w
    assert torch.allclose(effective, value * mask)
    assert torch.allclose(ticket.scores.grad, gradient * value * ticket.scores.sign())


def test_spread_logits_keep_their_order():
    logits = torch.randn(5, 4) * 0.01
    wide = spread(logits, 3.0)
    assert float(wide.std()) == pytest.approx(3, rel=1e-4)
    assert torch.equal(wide.argsort(1), logits.argsort(1))
    assert torch.equal(spread(torch.zeros(2, 3), 3.0), torch.zeros(2, 3))


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_masks_follow_the_scores_in_either_scope(scope):
    """After every update, as the forward pass and as who asks sees them."""
    net = nets.build(nets.NetConfig("4p-6p-f8", (1, 8, 8), 3, timesteps=2))
    torch.manual_seed(0)
    layers = connections(net)
    scores = dict(zip(layers, add_scores(layers, 0.7, True, scope), strict=True))
    optimizer = torch.optim.AdamW(scores.values(), lr=0.1)
    seen = set()
    for _ in range(3):
        net(torch.rand(4, 1, 8, 8)).square().sum().backward()
        wanted = by_score({n: s.detach() for n, s in scores.items()}, 0.7, scope)
        assert all(torch.equal(masks_of(layers)[n], wanted[n]) for n in layers)
        assert all(torch.equal(layers[n].weight != 0, wanted[n]) for n in layers)
        seen.add(tuple(int(mask.sum()) for mask in wanted.values()))
        optimizer.step()
    total = sum(s.numel() for s in scores.values())
    assert all(sum(counts) == round(0.3 * total) for counts in seen) or scope == "layer"
    assert len(seen) > 1 if scope == "global" else len(seen) == 1


def test_the_rate_of_scores_follows_their_updates():
    assert rate(100) == rate(4000) == 0.005 and rate(400_000) == 0.1
    assert rate(40_000) == pytest.approx(0.1) and 0.005 < rate(10_000) < rate(20_000) < 0.1


def test_norms_are_those_of_batch_norms():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.LayerNorm(2),
                        nn.BatchNorm2d(2, affine=False))
    assert norms(net) == [net[1].weight, net[1].bias]


def test_settled_weights_are_the_effective_ones():
    net = nets.build(nets.NetConfig("4p-6", (1, 8, 8), 3))
    layers, _ = scored(net, 0.6, binary=True)
    net.eval()
    x = torch.rand(2, 1, 8, 8)
    before = net(x)
    masks = settle(layers)
    assert torch.equal(net(x), before)
    for name, layer in connections(net).items():
        assert torch.equal(layer.weight != 0, masks[name])
        assert len(layer.weight[masks[name]].abs().unique()) == 1  # one sign bit and a place
        assert not layer.weight.requires_grad


def test_bad_values_are_named():
    with pytest.raises(SpikeTicketError, match=r"sparsity 1\.0"):
        ScoredWeight(torch.Size([3]), 1.0)
    with pytest.raises(SpikeTicketError, match="no convolution"):
        add_scores({}, 0.5)
    layers = {"a": nn.Linear(2, 2)}
    add_scores(layers, 0.5)
    with pytest.raises(SpikeTicketError, match="parametrized"):
        add_scores(layers, 0.5)
