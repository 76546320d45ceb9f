"""The ways people write networks: each imports, and its floats are the module's."""

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from sw.errors import SpikeTicketError
from sw.imports import from_spikingjelly
from sw.imports.floats import FloatNetwork
from sw.imports.spikingjelly import run_module

pytestmark = pytest.mark.usefixtures("one_thread")
STEPS = 4


def conv(inputs: int = 2, outputs: int = 4, **options) -> nn.Conv2d:
    return layer.Conv2d(inputs, outputs, 3, padding=1, **options)


def lif(**options) -> neuron.LIFNode:
    return neuron.LIFNode(v_threshold=0.2, **options)


def head(features: int = 64) -> list[nn.Module]:
    return [layer.Flatten(), layer.Linear(features, 3)]


def multi(*parts: nn.Module) -> nn.Sequential:
    net = nn.Sequential(*parts)
    functional.set_step_mode(net, "m")
    return net


class Shared(nn.Module):
    """One convolution for two layers."""

    def __init__(self):
        super().__init__()
        self.first, self.conv, self.head = conv(), conv(4, 4), nn.Sequential(*head())
        self.a, self.b, self.c = lif(), lif(), lif()
        functional.set_step_mode(self, "m")

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.c(self.conv(self.b(self.conv(self.a(self.first(x)))))))


class Joined(nn.Module):
    """A normalised input, a constant, two branches side by side."""

    def __init__(self):
        super().__init__()
        self.left, self.right, self.both = conv(), conv(), conv(8, 4)
        self.a, self.b, self.c, self.head = lif(), lif(), lif(), nn.Sequential(*head())
        self.register_buffer("mean", torch.tensor([0.4, 0.5]).view(2, 1, 1))
        functional.set_step_mode(self, "m")

    def forward(self, x: Tensor) -> Tensor:
        x = (x - self.mean) / 0.3 * 0.5
        x = torch.cat([self.a(self.left(x)), self.b(self.right(x))], 2)
        return self.head(self.c(self.both(x)))


class Parametrised(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = parametrizations.weight_norm(nn.Conv2d(2, 4, 3, padding=1))
        self.node, self.fc = lif(step_mode="m"), parametrizations.weight_norm(nn.Linear(64, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.node(functional.seq_to_ann_forward(x, self.conv)).flatten(2))


class Loop(nn.Module):
    """A loop over time on one image, rested by forward itself, averaged over time."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(2, 4, 3, padding=1), nn.Linear(64, 3)
        self.a, self.b = lif(), neuron.IFNode(v_threshold=0.3)

    def forward(self, x: Tensor) -> Tensor:
        functional.reset_net(self)
        out = [self.b(self.fc(self.a(self.conv(x)).flatten(1))) for _ in range(STEPS)]
        return torch.stack(out, 1).mean(1)


class BatchFirst(nn.Module):
    """[B, T, C, H, W], time and batch merged for the convolution and its pool."""

    def __init__(self):
        super().__init__()
        self.conv, self.node, self.fc = nn.Conv2d(2, 4, 3, padding=1), lif(step_mode="m"), \
            nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        batch, steps = x.shape[:2]
        y = torch.max_pool2d(self.conv(x.flatten(0, 1)), 2).view(batch, steps, 4, 2, 2)
        return self.fc(self.node(y.transpose(0, 1)).transpose(0, 1).flatten(2)).mean(1)


def hooked() -> nn.Module:
    net = multi(conv(), lif(), *head())
    net[0].register_forward_hook(lambda _module, _args, out: out * 0.5)
    return net


FORMS = {
    "DataParallel": lambda: nn.DataParallel(multi(conv(), lif(), *head())),
    "containers": lambda: nn.Sequential(
        layer.MultiStepContainer(nn.Conv2d(2, 4, 3, padding=1), lif()),
        layer.SeqToANNContainer(nn.Flatten(), nn.Linear(64, 3))),
    "shared weights": Shared, "constants and cat": Joined, "weight_norm": Parametrised,
    "hook": hooked, "loop over time": Loop, "batch first": BatchFirst,
    "stored membranes": lambda: multi(conv(), lif(store_v_seq=True), *head()),
    "voting": lambda: multi(conv(), lif(), layer.Flatten(), layer.Linear(64, 12),
                            neuron.IFNode(v_threshold=0.2), layer.VotingLayer(4)),
    "tdBN": lambda: multi(conv(), layer.ThresholdDependentBatchNorm2d(1.0, 1.0, 4), lif(), *head()),
    "standardised weights": lambda: multi(layer.WSConv2d(2, 4, 3, padding=1), lif(), *head()),
    "simple node": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), neuron.SimpleLIFNode(2.0, True, v_threshold=0.2),
        nn.Flatten(), nn.Linear(64, 3)),
    "depthwise": lambda: multi(conv(), lif(), conv(4, 4, groups=4), layer.Conv2d(4, 4, 1), lif(),
                               *head()),
    "strides by axis": lambda: multi(layer.Conv2d(2, 4, 3, (2, 1), 1), lif(), *head(32)),
    "overlapping average": lambda: multi(conv(), lif(), layer.AvgPool2d(3, 2, 1), conv(4, 4), lif(),
                                         *head(16)),
    "adaptive pool": lambda: multi(conv(), lif(), layer.AdaptiveAvgPool2d((2, 2)), *head(16)),
    "zero padding": lambda: multi(nn.ZeroPad2d(1), layer.Conv2d(2, 4, 3), lif(), *head()),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_import(form):
    torch.manual_seed(0)
    net, static = FORMS[form](), form != "batch first"
    imported = from_spikingjelly(net, (2, 4, 4), None if form == "loop over time" else STEPS,
                                 bits=8, static=static, input_bits=8, input_scale=1 / 255)
    shape = (5, 2, 4, 4) if static else (STEPS, 5, 2, 4, 4)
    x = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(1))
    spikes = {}
    logits = run_module(net, x, imported, spikes)
    assert torch.allclose(FloatNetwork(imported)(x), logits, atol=1e-9)
    assert 0 < float(next(iter(spikes.values())).mean()) < 1


def test_many_timesteps():
    imported = from_spikingjelly(multi(conv(), lif(), *head()), (2, 4, 4), 32)
    assert imported.network.timesteps == 32


@pytest.mark.parametrize(("parts", "message"), [
    ([neuron.PSN(STEPS)], "module '1': PSN is not supported; the nearest is LIFNode"),
    ([neuron.CUBALIFNode(2.0, 2.0)], "module '1': CUBALIFNode .* LIFNode"),
    ([neuron.GatedLIFNode(STEPS)], "module '1': GatedLIFNode"),
    ([neuron.ILIFNode()], "module '1': ILIFNode .* LIFNode with more timesteps"),
    ([neuron.IzhikevichNode(2.0, 1.0, 0.1)], "module '1': IzhikevichNode"),
    ([neuron.TernaryIFNode()], "module '1': TernaryIFNode .* IFNode"),
    ([lif(), *head(), nn.Softmax(-1)], "module '4': Softmax .* largest sum"),
    ([lif(), *head(), neuron.NonSpikingLIFNode(decode="last_mem")],
     "module '4': NonSpikingLIFNode .* no neuron: the readout sums its currents"),
])
def test_other_neurons_and_outputs_are_refused_by_name(parts, message):
    parts = parts if len(parts) > 1 else [*parts, *head()]
    with pytest.raises(SpikeTicketError, match=message):
        from_spikingjelly(multi(conv(), *parts), (2, 4, 4), STEPS)
