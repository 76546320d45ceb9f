"""The search takes a user's module: how it is called, its weights, what is refused."""

import copy
import json

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn
from torch.nn.utils import prune

from sw import ticket
from sw.cli.app import main
from sw.data import depth
from sw.errors import SpikeTicketError
from sw.imports import from_spikingjelly
from sw.imports.load_module import maker
from sw.integer.spikingjelly import IntegerNetwork
from sw.tickets import checkpoint, run, training
from sw.tickets.classifier import Classifier
from sw.tickets.config import RunConfig
from sw.tickets.networks import Networks
from sw.tickets.zeros import check_zeros_stay

from .test_tickets_run import TEST, TRAIN, stripes

pytestmark = pytest.mark.usefixtures("one_thread")

FILE = """
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn
from torch.nn.utils import prune


def node():
    return neuron.LIFNode(tau=2.0, decay_input=False, surrogate_function=surrogate.ATan(),
                          detach_reset=True)


class Net(nn.Module):
    def __init__(self, T=2, width=4, classes=2):
        super().__init__()
        self.T = T
        self.conv = layer.Conv2d(1, width, 3, padding=1, bias=False)
        self.norm = layer.BatchNorm2d(width)
        self.lif = node()
        self.pool = layer.MaxPool2d(2)
        self.conv2 = layer.Conv2d(width, 6, 3, padding=1, bias=False)
        self.norm2 = layer.BatchNorm2d(6)
        self.lif2 = node()
        self.flatten = layer.Flatten()
        self.fc = layer.Linear(96, classes)
        functional.set_step_mode(self, "m")

    def forward(self, x):
        x = x.unsqueeze(0).repeat(self.T, 1, 1, 1, 1)
        x = self.pool(self.lif(self.norm(self.conv(x))))
        return self.fc(self.flatten(self.lif2(self.norm2(self.conv2(x))))).mean(0)


made = Net()
number = 3
relu = nn.ReLU
def wrong(): return 3
def breaks(): raise KeyError("no")
"""

SETTINGS = {"timesteps": 2, "sparsity": 0.6, "prune_rate": 0.4, "epochs": 3, "rewind_epoch": 1,
            "epochs_round": 1, "epochs_final": 2, "epochs_integer": 1, "lr": 0.02,
            "batch_size": 16, "device": "cpu"}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("user") / "net.py"
    path.write_text(FILE)
    return path


@pytest.fixture(scope="module")
def net(file):
    return maker(f"{file}:Net")[0]


class Over(nn.Module):
    """One layer of neurons; `call` says how it treats time."""

    def __init__(self, call, step_mode="m"):
        super().__init__()
        self.call = call
        self.flat = layer.Flatten(step_mode=step_mode)
        self.fc = layer.Linear(12, 5, step_mode=step_mode)
        self.lif = neuron.LIFNode(step_mode=step_mode)
        self.out = layer.Linear(5, 3, step_mode=step_mode)

    def body(self, x):
        return self.out(self.lif(self.fc(self.flat(x))))

    def forward(self, x):
        return self.call(self, x)


def time_first(m, x):
    assert x.dim() == 5
    return m.body(x)


def batch_first(m, x):
    return m.body(x.transpose(0, 1)).transpose(0, 1).contiguous()


def repeats(m, x):
    assert x.dim() == 4
    return m.body(x.expand(4, *x.shape)).mean(0)


def loops(m, x):
    """A loop over time in the module, neurons step by step."""
    return sum(m.body(x) for _ in range(4)) / 4


WAYS = [("time", time_first, "m", 0, (1, 3, 4)), ("batch", batch_first, "m", 1,
                                                        (1, 3, 4)),
        ("image", repeats, "m", None, (1, 3, 4)), ("image", loops, "s", None, (1, 3, 4)),
        ("step", lambda m, x: m.body(x), "s", 0, (1, 3, 4)),
        ("time", time_first, "m", 0, (6, 1, 3, 4)),
        ("batch", batch_first, "m", 1, (4, 1, 3, 4)),
        ("step", lambda m, x: m.body(x), "s", 0, (4, 1, 3, 4))]


@pytest.mark.parametrize("given, call, mode, time, shape", WAYS)
def test_the_way_is_the_one_in_which_neurons_run_t_steps(given, call, mode, time, shape):
    torch.manual_seed(0)
    module = Over(call, mode)
    classifier = Classifier(module, 4, shape, 3)
    assert (classifier.feed.form, classifier.feed.dims, classifier.time) == (
        given, shape[-3:], time)
    x = torch.rand(6, *shape)
    found = classifier(x)
    frames = x[:, :4].transpose(0, 1) if len(shape) == 4 else x.expand(4, *x.shape)
    functional.reset_net(module)
    if mode == "s":
        expected = torch.stack([module.body(f) for f in frames]).mean(0)
    else:
        expected = module.body(frames).mean(0)
    torch.testing.assert_close(found, expected)


def test_pixels_go_to_a_linear_layer_as_a_vector():
    """In the search as in the import, which knows them as the picture's."""
    torch.manual_seed(0)
    module = nn.Sequential(layer.Linear(24, 5), neuron.IFNode(), layer.Linear(5, 3))
    for p in module.parameters():
        p.data = torch.randint(-4, 5, p.shape) / 4      # integers hold it exactly
    functional.set_step_mode(module, "m")
    assert Classifier(module, 4, (2, 3, 4), 3).feed.dims == (24,)
    network = from_spikingjelly(module, (2, 3, 4), 4, input_bits=2, input_scale=1.0).network
    assert network.layers[0].synapses[0].weight.shape == (5, 2, 3, 4)
    x = torch.randint(0, 4, (40, 2, 3, 4))
    with torch.no_grad():
        expected = module(x.float().flatten(1).expand(4, -1, -1)).sum(0)
    assert torch.equal(IntegerNetwork(network)(x), (4 * expected).long()) and expected.any()


@pytest.mark.parametrize("module, shape, message", [
    (nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), (1, 3, 4), "has no SpikingJelly neuron"),
    (Over(repeats), (1, 3, 4), "repeats its input 4 times; give 4"),
    (Over(time_first), (1, 4, 4), "does not run on random inputs of 1x4x4"),
    (Over(lambda m, x: (m.body(x), x)), (1, 3, 4), "returns a tuple of 2 tensors"),
    (Over(lambda m, x: m.body(x)[..., :2]), (1, 3, 4), "the data has 3 classes")])
def test_what_is_no_classifier_is_refused(module, shape, message):
    with pytest.raises(SpikeTicketError, match=message):
        Classifier(module, 3, shape, 3)


def test_neurons_are_at_rest_at_every_batch_and_the_module_stays():
    module = Over(time_first)
    x = torch.rand(3, 1, 3, 4) * 3
    with torch.no_grad():
        module(x.expand(4, *x.shape))
    before = module.lif.v.clone()
    found = Classifier(copy.deepcopy(module).requires_grad_(False), 4, (1, 3, 4), 3)
    assert torch.equal(found(x), found(x))
    assert Classifier(module, 4, (1, 3, 4), 3).feed.form == "time"
    assert torch.equal(module.lif.v, before)


# -- FILE.py:NAME and weights ---------------------------------------------------------------------


def test_arguments_reach_the_class_and_a_module_is_copied(file):
    make, fixed = maker(f"{file}:Net", {"width": 7})
    assert not fixed and make().conv.weight.shape[0] == 7 and make() is not make()
    make, fixed = maker(f"{file}:made")
    assert fixed and make() is make()
    config = RunConfig(model=f"{file}:made", timesteps=2)
    networks = Networks(config, (1, 8, 8), 2)
    first = networks.fresh().module
    assert networks.fresh().module is not first
    assert torch.equal(networks.fresh().module.conv.weight, first.conv.weight)
    assert not torch.equal(networks.fresh(again=True).module.conv.weight, first.conv.weight)
    again = Networks(config, (1, 8, 8), 2).fresh().module   # as the next process has it
    assert torch.equal(again.conv.weight, first.conv.weight)
    for name, arguments, message in (("Net", {"nothing": 1}, "TypeError"),
                                     ("made", {"T": 2}, r"is a module already; arguments \(T\)")):
        with pytest.raises(SpikeTicketError, match=message):
            maker(f"{file}:{name}", arguments)[0]()


# -- the search -----------------------------------------------------------------------------------


def test_from_given_weights_to_a_ticket(file, net, tmp_path, capsys):
    """The command: dense baseline and teacher are the given network, rounds begin at it."""
    data = tmp_path / "pack.npz"
    np.savez(data, x_train=TRAIN.images, y_train=TRAIN.labels, x_test=TEST.images,
             y_test=TEST.labels)
    trained = train(net)
    torch.save({"state_dict": trained.state_dict()}, tmp_path / "w.pth")
    options = [x for k, v in SETTINGS.items() for x in (f"--{k.replace('_', '-')}", str(v))]
    out = tmp_path / "out"
    arguments = ["--network", f"{file}:Net", "--network-args", "T=2", "--data", str(data),
                 "--weights", str(tmp_path / "w.pth"), "--distil", "0.5", "--threads", "1",
                 "--json", "--out", str(out), *options]
    assert main(["find", *arguments]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (result["epochs_dense"], result["epochs_ticket"]) == (0, 3)
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [r["stage"] for r in log] == ["round 1", "round 2", "round 2", "integer"]
    masks = checkpoint.load(out / "masks.safetensors")[0]["mask"]
    assert list(masks) == ["conv.weight", "conv2.weight", "fc.weight"]
    classifier = Classifier(trained, 2, (1, 8, 8), 2).eval()
    found = classifier(classifier.prepare(torch.from_numpy(TEST.images.copy()))).argmax(1)
    assert result["accuracy_dense"] == (found.numpy() == TEST.labels).mean() > 0.9
    network = ticket.load(out / "ticket.safetensors").network
    assert network.sparsity >= result["sparsity_mask"] > 0.59
    x = torch.from_numpy(depth.taken(TEST.images, network.input).astype(np.int64))
    labels = IntegerNetwork(network)(x).argmax(1)
    assert (labels.numpy() == TEST.labels).mean() == result["accuracy_integer"] > 0.7


def train(net):
    """A trained network of the user."""
    torch.manual_seed(0)
    module = net()
    classifier = Classifier(module, 2, (1, 8, 8), 2)
    optimizer = torch.optim.Adam(module.parameters(), 0.02)
    x = classifier.prepare(torch.from_numpy(TRAIN.images.copy()))
    for _ in range(30):
        loss = nn.functional.cross_entropy(classifier(x), torch.from_numpy(TRAIN.labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    functional.reset_net(module)
    return module


def test_a_module_object_is_searched_and_stays_as_it_is(net, tmp_path):
    torch.manual_seed(1)
    module = net()
    before = copy.deepcopy(module.state_dict())
    result = run.find(module, TRAIN, TEST, tmp_path, **SETTINGS)
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    start = checkpoint.load(tmp_path / "dense.start.safetensors")[0]["model"]
    assert start["module.conv.weight"].shape == module.conv.weight.shape
    assert result["ticket"] and result["epochs_dense"] == 3 == result["epochs_ticket"]


class Heaviside(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        x, = ctx.saved_tensors
        return grad * (1 - x.abs()).clamp_min(0)


class ByHand(nn.Module):
    """A LIF in a few lines of torch, as people write them."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(64, 16), nn.Linear(16, 2)

    def forward(self, x):
        v, out = 0.0, 0.0
        for _ in range(2):
            v = 0.5 * v + self.first(x.flatten(1))
            s = Heaviside.apply(v - 1.0)
            v = v * (1 - s)
            out = out + self.last(s)
        return out / 2


def test_neurons_written_by_hand_are_searched(tmp_path):
    torch.manual_seed(1)
    result = run.find(ByHand(), TRAIN, TEST, tmp_path, **SETTINGS | {"epochs": 6})
    network = ticket.load(result["ticket"]).network
    assert [a.neuron is None for a in network.layers] == [False, True]
    assert network.sparsity >= result["sparsity_mask"] > 0.59
    assert result["accuracy_integer"] > 0.7
    assert result["spike_rate"] is None and result["spike_rates"] == {}     # no module to ask
    assert "spike_rate" in json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])


@pytest.mark.parametrize("change", [
    lambda m: prune.l1_unstructured(m, "weight", 0.5),
    lambda m: nn.utils.parametrizations.weight_norm(m)])
def test_weights_that_are_computed_are_refused(net, tmp_path, change):
    """Zeros in them would be gone at the next forward pass."""
    module = net()
    change(module.conv2)
    with pytest.raises(SpikeTicketError, match=r"conv2\.weight is computed .* prune\.remove"):
        run.find(module, TRAIN, TEST, tmp_path, **SETTINGS)


class Changed(layer.Conv2d):
    """Takes the mean off its weights, and doubles them, whenever it runs."""

    centred = True

    def _conv_forward(self, x, weight, bias):
        mean = weight.mean((1, 2, 3), keepdim=True) if self.centred else 0
        return super()._conv_forward(x, 2 * (weight - mean), bias)


@pytest.mark.parametrize("kind", [Changed, layer.WSConv2d])
def test_layers_whose_zeros_do_not_stay_zero_are_refused(net, tmp_path, kind):
    """A weight that is pruned would be another number at every forward pass."""
    module = net()
    module.conv2 = kind(4, 6, 3, padding=1, bias=False, step_mode="m")
    with pytest.raises(SpikeTicketError,
                       match=rf"^conv2\.weight: {kind.__name__} computes .* stay 0"):
        run.find(module, TRAIN, TEST, tmp_path, **SETTINGS)


def test_layers_that_scale_their_weights_are_searched(net):
    module = net()
    module.conv2 = Changed(4, 6, 3, padding=1, bias=False, step_mode="m")
    module.conv2.centred = False
    check_zeros_stay(Classifier(module, 2, TRAIN.images.shape[1:], 2))


def test_a_loss_per_timestep_needs_an_output_per_timestep(net, tmp_path):
    with pytest.raises(SpikeTicketError, match=r"Net gives one output for all timesteps"):
        run.find(net(), TRAIN, TEST, tmp_path, loss_per_timestep=True, **SETTINGS)


def test_the_loss_per_timestep_is_the_mean_of_theirs():
    logits, labels = torch.randn(3, 5, 4), torch.arange(5) % 4
    teacher = torch.randn(5, 4)
    for kind in training.LOSSES:
        for given in ((), (teacher, 0.3)):
            each = [training.loss(kind, x, labels, *given) for x in logits]
            assert torch.allclose(training.loss(kind, logits, labels, *given), sum(each) / 3)


def test_trained_weights_of_an_object_are_the_dense_network(net, tmp_path):
    result = run.find(train(net), TRAIN, TEST, tmp_path / "a", trained=True, **SETTINGS)
    assert result["epochs_dense"] == 0 and result["accuracy_dense"] > 0.9
    fresh = run.find(train(net), TRAIN, TEST, tmp_path / "b", trained=True, rewind="epoch",
                     **SETTINGS)
    assert fresh["epochs_dense"] == 3 and fresh["accuracy_dense"] == result["accuracy_dense"]


def test_the_test_samples_are_looked_at_once_at_the_end(net, tmp_path, monkeypatch):
    """No epoch of any stage begins after they were, and no stage sees them."""
    class Watched(np.ndarray):
        looks = 0

        def __array_finalize__(self, obj):
            pass

        def __getitem__(self, key):
            Watched.looks += 1
            return super().__getitem__(key)
    test = stripes(40, 1)
    object.__setattr__(test, "images", test.images.view(Watched))
    seen = []
    original = training.train_epoch
    monkeypatch.setattr(training, "train_epoch", lambda *a, **k: (
        original(*a, **k), seen.append(Watched.looks))[0])
    run.find(net(), TRAIN, test, tmp_path, dense_integer=True, **SETTINGS)
    assert len(seen) == 8 and max(seen) == 0 < Watched.looks


def test_validation_is_a_fixed_part_of_every_class():
    data = stripes(200, 3, classes=3)
    rest, held = run.split(data, 0.1, 0)
    assert len(rest) + len(held) == 200
    for label in range(3):
        count = int((data.labels == label).sum())
        assert int((held.labels == label).sum()) == round(0.1 * count)
    again = run.split(data, 0.1, 0)[1]
    assert np.array_equal(held.images, again.images)
    assert not np.array_equal(held.images, run.split(data, 0.1, 1)[1].images)
    assert run.split(data, 0.0, 0) == (data, None)
    with pytest.raises(SpikeTicketError, match=r"validation 0\.001 of 200 training samples"):
        run.split(data, 0.001, 0)


def test_command_refuses_in_one_line(file, tmp_path, capsys):
    data = tmp_path / "pack.npz"
    np.savez(data, x_train=TRAIN.images, y_train=TRAIN.labels, x_test=TEST.images,
             y_test=TEST.labels)
    for arguments, message in (
            (["--network", f"{file}:relu"], "ReLU is not supported; the nearest is IFNode"),
            (["--network", f"{file}:Net", "--timesteps", "3"], "timesteps 3 are given, but"),
            (["--network", f"{file}:Net", "--network-args", "T"], "'T' is not KEY=VALUE"),
            (["--network", f"{file}:Net", "--weights", "none.pth"], "none.pth: cannot be read"),
            (["--network", f"{file}:Net", "--weights", "module"], "give a file of weights"),
            (["--network", "none.py:Net"], "none.py: there is no such file"),
            (["--rewind", "weights"], "needs trained weights"),
            (["--validation", "0.7"], "validation 0.7")):
        settings = ["--data", str(data), "--timesteps", "2"] if "3" not in arguments else [
            "--data", str(data)]
        assert main(["find", *settings, *arguments, "--out", str(tmp_path / "o")]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
