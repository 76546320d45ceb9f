"""Dense binary weights: +-alpha forward, gradients to the weights that they are the signs of."""

import pytest
import torch
from torch import nn

from sw.errors import SpikeTicketError
from sw.tickets.scores import connections
from sw.tickets.signs import SignWeight, add_signs, settle_signs


def test_weights_are_signs_times_their_mean_magnitude():
    w = torch.tensor([[0.5, -0.25], [0.0, -0.75]])
    assert torch.equal(SignWeight()(w), torch.tensor([[0.375, -0.375], [0.375, -0.375]]))


def test_gradient_is_that_of_binary_weight_networks():
    """Through alpha to every weight, through the sign only to those within 1."""
    w = torch.tensor([0.5, -2.0, 1.5, -0.5], requires_grad=True)
    gradient = torch.tensor([1.0, 2.0, 3.0, 4.0])
    SignWeight()(w).backward(gradient)
    sign = torch.tensor([1.0, -1.0, 1.0, -1.0])
    alpha = 1.125
    through_alpha = (gradient * sign).sum() * sign / 4
    through_sign = gradient * alpha * torch.tensor([1.0, 0.0, 0.0, 1.0])
    torch.testing.assert_close(w.grad, through_alpha + through_sign)


def test_settled_weights_are_what_was_trained():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(16, 3))
    layers = connections(net)
    add_signs(layers)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    x = torch.rand(8, 1, 4, 4)
    before = [layer.parametrizations.weight.original.clone() for layer in layers.values()]
    nn.functional.cross_entropy(net(x), torch.arange(8) % 3).backward()
    optimizer.step()
    assert all(not torch.equal(old, layer.parametrizations.weight.original)
               for old, layer in zip(before, layers.values(), strict=True))
    trained = net(x)
    settle_signs(layers)
    assert torch.equal(net(x), trained)
    assert all(layer.weight.abs().unique().numel() == 1 and not layer.weight.requires_grad
               for layer in layers.values())


def test_signs_of_scored_weights_are_refused():
    net = nn.Sequential(nn.Linear(2, 2))
    add_signs(connections(net))
    with pytest.raises(SpikeTicketError, match=r"0\.weight is parametrized already"):
        add_signs(connections(net))
