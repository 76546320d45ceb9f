"""Event recordings of 128 x 128 pixels: the core with a large map memory, chosen and exact."""

import numpy as np
import pytest
import torch

from hw.boards import BOARDS
from hw.config import PRESETS
from sw import Accelerator, drawn, ticket
from sw.compile.compiler import DoesNotFit, compile_network
from sw.core import cores, cycles, machine
from sw.data import datasets
from sw.errors import BadInput
from sw.integer import reference

SIDE, STEPS = 128, 16


def recordings(count: int, seed: int = 0) -> np.ndarray:
    """A bar that turns, seen by an event camera: uint8 [count, T, 2, SIDE, SIDE], 0 or 1."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2 + 0.5
    frames = np.zeros((count, STEPS, 2, SIDE, SIDE), np.uint8)
    for i, (start, turn) in enumerate(zip(rng.random(count) * np.pi, rng.choice((-1, 1), count),
                                          strict=True)):
        for t in range(STEPS):
            angle = start + turn * t * np.pi / STEPS
            across = x * np.sin(angle) - y * np.cos(angle)
            near = (np.hypot(x, y) < 50) & (rng.random(x.shape) < 0.5)
            frames[i, t, 0] = near & (np.abs(across - 3) < 2)
            frames[i, t, 1] = near & (np.abs(across + 3) < 2)
    return frames


@pytest.fixture(scope="module")
def gestures():
    frames = recordings(4)
    return drawn.drawn_network("16sp-32p-64p-64p", side=SIDE, channels=2, classes=11,
                               timesteps=STEPS, sparsity=0.9, images=torch.from_numpy(frames)
                               ), frames


def test_the_core_is_chosen_by_what_the_maps_need(gestures):
    network, _ = gestures
    assert network.sparsity == pytest.approx(0.9, abs=0.001) and not network.input.static
    assert cores.choose(BOARDS["arty_a7"], network)[0] == "a35te"
    assert cores.choose(BOARDS["arty_a7"], network, "a35t")[0] == "a35t"
    with pytest.raises(DoesNotFit, match="map memory"):
        compile_network(network, PRESETS["a35t"])
    # Where no core of the board holds the network, the first one says what is missing.
    assert cores.choose(BOARDS["arty_a7_100"], network)[0] == "a100t"


def test_every_spike_and_cycle_is_the_reference_s_on_the_board(gestures):
    network, frames = gestures
    ran = reference.run(network, frames[:1])
    rates = [float(ran.spikes[layer.name].mean()) for layer in network.layers[:-1]]
    assert min(rates) > 0.005                               # every layer has something to do
    image = compile_network(network, PRESETS["a35te"], reference.activity(network, ran.spikes))
    on_core = machine.run(image, frames[0])
    for layer in network.layers[:-1]:
        assert np.array_equal(on_core.maps[layer.name], ran.spikes[layer.name][:, 0])
    forecast = cycles.simulate(image, frames[0])
    with Accelerator.open("sim:a35te") as board:
        board.load(image)
        result = board.infer(frames[:1])
    assert np.array_equal(result.logits, ran.logits)
    assert int(result.cycles[0]) == pytest.approx(forecast.total, abs=1)
    assert 100e6 / forecast.total > 30                      # recordings a second: real time


def test_drawn_networks_take_recordings(tmp_path):
    pack = tmp_path / "bars.npz"
    frames = recordings(8)
    np.savez(pack, x_train=frames[:4], y_train=np.arange(4), x_test=frames[4:], y_test=np.arange(4))
    out = tmp_path / "bars.safetensors"
    with pytest.raises(BadInput, match="2 channels, --channels says 3"):
        drawn.write(out, str(pack), model="4sp-4p", side=SIDE, timesteps=STEPS)
    drawn.write(out, str(pack), model="4sp-4p", side=SIDE, channels=2, timesteps=STEPS, classes=4)
    network = ticket.load(out).network
    assert not network.input.static and network.input.bits == 1 and network.timesteps == STEPS
    # A finished ticket may run on its training samples, a search never asks for them so.
    train, test = (datasets.for_network(network, f"{pack}:split={split}").images
                   for split in ("train", "test"))
    assert np.array_equal(train, frames[:4]) and np.array_equal(test, frames[4:])
    with pytest.raises(BadInput, match="data option 'split' is unknown"):
        datasets.load(f"{pack}:split=train")
