"""Tickets of every method on the core: integers, reference, machine model, simulated board."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

from hw.config import PRESETS
from sw import export, ticket
from sw.board.driver import Accelerator
from sw.cli.app import main
from sw.compile import image_file
from sw.errors import SpikeTicketError
from sw.integer import reference
from sw.tickets import run
from sw.tickets.export import logits_of, to_integers
from sw.tickets.methods import Found

from .test_tickets_patches import PATCHES
from .test_tickets_run import TEST, TINY, TRAIN, stripes, trainer_of

pytestmark = pytest.mark.usefixtures("one_thread")

BASE = {"validation": 0.0, "epochs": 1, "rewind_epoch": 0, "epochs_final": 1, "epochs_integer": 0}
CNN = dataclasses.replace(TINY, **BASE)
SPIKEFORMER = dataclasses.replace(PATCHES, **BASE)
METHODS = {
    "dense": dataclasses.replace(CNN, method="dense"),
    "dense, binary": dataclasses.replace(CNN, method="dense", binary=True),
    "imp": CNN,
    "imp by layer": dataclasses.replace(CNN, scope="layer", model="4p-6p-f8"),
    "imp early": dataclasses.replace(CNN, early_time=True, early_bird=True, timesteps=3),
    "imp on a residual network": dataclasses.replace(CNN, model="resnet-tiny", scope="lamp"),
    "obs": dataclasses.replace(CNN, method="obs"),
    "obs on a Spikeformer": dataclasses.replace(SPIKEFORMER, method="obs", scope="lamp"),
    "scores": dataclasses.replace(CNN, method="scores", bits=8),
    "scores, binary": dataclasses.replace(CNN, method="scores", binary=True),
    "random": dataclasses.replace(CNN, method="random"),
    "dense Spikeformer": dataclasses.replace(SPIKEFORMER, method="dense", patch_sparsity=0.0),
    "imp on a Spikeformer": dataclasses.replace(SPIKEFORMER, method="imp", scope="lamp"),
    "imp of the stem": dataclasses.replace(SPIKEFORMER, method="imp", layers="stem"),
    "scores, binary, on a Spikeformer": dataclasses.replace(SPIKEFORMER, method="scores",
                                                            binary=True),
    "patches by spikes": SPIKEFORMER,
    "patches by input": dataclasses.replace(SPIKEFORMER, ranking="input", place="pixels"),
    "patches by a selector": dataclasses.replace(SPIKEFORMER, ranking="selector"),
    "patches at random": dataclasses.replace(SPIKEFORMER, ranking="random"),
    "ecpt": dataclasses.replace(SPIKEFORMER, method="ecpt", layers="stem"),
    "ecpt, binary, all layers": dataclasses.replace(SPIKEFORMER, method="ecpt", binary=True),
}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_s_ticket_is_exact_on_the_core(tmp_path, tiny_resnet, name):
    config = METHODS[name]
    result = run.search(config, TRAIN, TEST, tmp_path)
    done = export.export(tmp_path, preset="a35tf", data="noise", samples=2)
    network = ticket.load(result["ticket"]).network
    assert done["method"] == config.method and done["samples"] == 2
    assert done["maps"] >= len(network.layers) - 1 - len(network.gates)
    assert done["compared"] > done["spikes"] and (done["spikes"] > 0 or name == "random")
    image = image_file.load(tmp_path / "image.npz")
    hosted = [gate for gate in network.gates.values() if gate.mode == "host"]
    assert (tmp_path / "tokens.npy").exists() == bool(hosted)
    if hosted:  # what the search chose, and what the driver takes
        masks = np.load(tmp_path / "tokens.npy")
        assert masks.shape == (len(TEST), 64) and (masks.sum(1) == 45).all()
    assert image.config == dataclasses.replace(PRESETS["a35tf"], clock_hz=image.config.clock_hz)


class Mean(nn.Module):
    """The mean over time of what another module gives."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        return self.module(x).mean(0)


@pytest.mark.parametrize("wrap", [Mean, lambda module: module, None])
def test_integers_train_on_logits_of_the_float_network_s_scale(tmp_path, wrap):
    """The loss, and a teacher's soft labels, mean what they meant in floats: for a mean over time,
    an output for every timestep, and a network of ours."""
    torch.manual_seed(0)
    module = None
    if wrap is not None:
        module = nn.Sequential(layer.Flatten(), layer.Linear(64, 12), neuron.IFNode(v_threshold=.3),
                               layer.Linear(12, 2))
        functional.set_step_mode(module, "m")
        module = wrap(module)
    config = dataclasses.replace(CNN, bits=8, timesteps=3, theta=0.2)
    trainer = trainer_of(config, tmp_path, TRAIN, module)
    found = Found(trainer.build().eval())
    x = torch.from_numpy(TEST.images.copy())
    with torch.no_grad():
        trainee = to_integers(trainer, found)
        ours, theirs = logits_of(trainee, found)(x), found.forward(found.model.prepare(x))
    assert float((ours * theirs).sum() / ours.square().sum()) == pytest.approx(1, abs=0.2)


def test_weights_too_wide_for_the_accumulator_are_narrowed(tmp_path):
    """9 taps of 8-bit weights on 8-bit pixels do not fit in 16 bits; the other layers do."""
    result = run.search(METHODS["scores"], TRAIN, TEST, tmp_path)
    network = ticket.load(result["ticket"]).network
    first, *others = [syn.bits for _, syn in network.synapses()]
    assert len(others) > 1 and set(others) == {8} and first < 8
    assert result["bits_integer"] == {network.layers[0].name: first}
    low, high = network.current_bounds(network.layers[0])
    assert -(1 << 15) <= low.min() and (1 << 13) < max(-low.min(), high.max()) < 1 << 15


def test_events_are_exact_on_the_core(tmp_path):
    config = dataclasses.replace(CNN, method="scores", binary=True, timesteps=3)
    run.search(config, stripes(48, 0, frames=3), stripes(16, 1, frames=3), tmp_path)
    assert export.export(tmp_path, data="noise")["maps"] >= 2


@pytest.mark.parametrize("name", ["imp", "scores, binary", "ecpt, binary, all layers"])
def test_on_the_simulated_board(tmp_path, transport, name):
    """The same through the link and the gateware itself."""
    result = run.search(METHODS[name], TRAIN, TEST, tmp_path)
    network = ticket.load(result["ticket"]).network
    core = PRESETS["tiny"]
    export.export(tmp_path, preset="tiny", data="noise", samples=1)
    from sw.compile.compiler import compile_network
    image = compile_network(network, core)
    inputs = TEST.images[:2]
    expected = reference.run(network, inputs)
    with Accelerator(transport, core) as board:
        board.load(image)
        assert np.array_equal(board.infer(inputs).logits, expected.logits)
        for layer, spikes in board.trace(inputs[0]):
            want = expected.spikes[layer][:, 0, :, :spikes.shape[2], :spikes.shape[3]]
            assert np.array_equal(spikes, want), layer


def test_a_difference_is_named(tmp_path, monkeypatch):
    run.search(CNN, TRAIN, TEST, tmp_path)
    real = reference.run

    def off_by_one(*args, **kwargs):
        ran = real(*args, **kwargs)
        first = next(name for name in ran.spikes if name != "input")
        ran.spikes[first][0, 0, 0, 0, 0] ^= 1
        return ran
    monkeypatch.setattr(reference, "run", off_by_one)
    with pytest.raises(SpikeTicketError, match=r"1 of .* on the SpikingJelly network"):
        export.export(tmp_path, data="noise")
    assert not (tmp_path / "image.npz").exists()


@pytest.mark.parametrize("arguments, message", [
    ({"path": "none"}, "neither a file nor bundled"),
    ({"board": "x"}, "board 'x' is unknown; choose from"),
    ({"preset": "x"}, "preset 'x' is unknown; choose from"),
    ({"samples": 0}, "samples 0 are below 1"),
])
def test_bad_values_are_named(arguments, message):
    with pytest.raises(SpikeTicketError, match=message):
        export.export(**{"path": "fmnist-scnn", **arguments})


def test_a_folder_without_a_ticket_says_why(tmp_path):
    with pytest.raises(SpikeTicketError, match="not finished"):
        export.export(tmp_path)
    (tmp_path / "result.json").write_text(json.dumps({"not_exported": "layer x has a bias"}))
    with pytest.raises(SpikeTicketError, match="layer x has a bias"):
        export.export(tmp_path)


def test_masks_that_are_none(tmp_path):
    run.search(METHODS["patches at random"], TRAIN, TEST, tmp_path)
    (tmp_path / "tokens.npy").write_text("x")
    with pytest.raises(SpikeTicketError, match=r"tokens\.npy: not the masks of a search"):
        export.export(tmp_path, preset="a35tf", data="noise")


def test_command(tmp_path, capsys):
    run.search(CNN, TRAIN, TEST, tmp_path)
    assert main(["export", str(tmp_path), "--data", "noise", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["image"] == str(tmp_path / "image.npz") and shown["memories"]
    assert main(["export", str(tmp_path), "--data", "noise", "--out", str(tmp_path / "b.npz")]) == 0
    assert "compared" in capsys.readouterr().out and (tmp_path / "b.npz").exists()
    assert main(["export", str(tmp_path / "none")]) == 2
    assert "neither a file nor bundled" in capsys.readouterr().err
