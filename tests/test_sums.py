"""Residual sums as bit-planes: the adder, the compiler's choice, whole networks, their readback."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from hw.config import PRESETS, CoreConfig
from hw.registers import identity
from hw.sums import SumWriter
from sim.runner import run_bench
from sim.samples.networks import random_input
from sim.samples.residuals import random_residual
from sim.samples.spikeformers import random_masks, random_spikeformer
from sim.units.sums.model import add_word
from sw.board.driver import Accelerator
from sw.compile import image_file, passes
from sw.compile.coding import decode_logits
from sw.compile.compiler import DoesNotFit, compile_network, run_passes
from sw.compile.image import Image
from sw.compile.sums import Sum, find, grows, planes_of
from sw.compile.tokens import lower
from sw.core import cycles, machine
from sw.errors import SpikeTicketError
from sw.integer import reference
from sw.integer.attention import Attention
from sw.integer.network import INPUT, InputSpec, Layer, Network, Neuron, Synapses

from .test_core import check_cases
from .tiny_board import TINY

CONFIG = replace(PRESETS["tiny"], map_words=2048, weight_words=2048, planes=64)
CORES = {"tiny": CONFIG,
         # Three engines, so that the last copy's port B is nobody's.
         "odd": replace(CONFIG, engines=3, drain_engines=2, lanes=2)}


def summed(image: Image) -> int:
    """Layers of an image that add their spikes to a sum."""
    return sum(bool(layout.onto) for layout in image.maps.values())


def draw_spikeformer(rng: np.random.Generator, name: str) -> Network:
    return random_spikeformer(rng, column=False, name=name, max_side=int(rng.choice([4, 8, 12])),
                              max_blocks=3, max_timesteps=int(rng.choice([4, 16])))


def draw_cases(config: CoreConfig, count: int, seed: int,
               draw: Callable[..., Network]) -> list[tuple[Network, Image]]:
    """Random networks that the compiler gives sums as bit-planes."""
    rng, cases = np.random.default_rng(seed), []
    while len(cases) < count:
        network = draw(rng, name=f"random{len(cases)}")
        try:
            image = compile_network(network, config)
        except DoesNotFit:
            continue
        if summed(image):
            cases.append((network, image))
    return cases


def layer(name: str, sources: tuple[str, ...], channels: int = 2, *, inputs: int = 2,
          neuron: Neuron | None = Neuron()) -> Layer:  # noqa: B008
    weight = np.ones((channels, inputs, 1, 1), np.int8)
    zeros = np.zeros(channels, np.int64)
    return Layer(name, (Synapses(weight, sources),), zeros, zeros + bool(neuron), neuron)


def network_of(*layers: Layer, last: tuple[str, ...]) -> Network:
    """On maps of 2 x 4 x 4."""
    return Network(InputSpec(2, 4, 4), 4, (*layers, layer("logits", last, neuron=None)), "sums",
                   ("a", "b"))


def chain(summands: int) -> Network:
    """A stream of so many maps, and a layer of enough rows to make their sum worth a number."""
    names = tuple(f"m{n}" for n in range(summands))
    zeros = np.zeros(2, np.int64)
    last = Layer("logits", (Synapses(np.ones((2, 64, 1, 1), np.int8), ("reader",)),), zeros, zeros,
                 None)
    return Network(InputSpec(2, 4, 4), 4, (
        *(layer(name, (INPUT,)) for name in names), layer("reader", names, 64), last), "sums",
        ("a", "b"))


@pytest.mark.parametrize("name", CORES)
def test_adder(name):
    config = CORES[name]
    run_bench(SumWriter(config), "sim.units.sums.bench", config=config.as_dict(), seed=1)


def test_model_of_the_adder():
    assert add_word([0b0101, 0b0011], 0b0110, new=False) == [0b0011, 0b0111]
    assert add_word([0b0101, 0b1111], 0b0110, new=True) == [0b0011, 0b0100]
    rng = np.random.default_rng(0)
    for summands in range(1, 20):
        words = rng.integers(0, 1 << 16, summands)
        held = [int(words[0])]
        for n, word in enumerate(words[1:], 2):
            held = add_word(held + [12345] * grows(n), int(word), grows(n))
        assert len(held) == planes_of(summands)
        for bit in range(16):
            assert sum((plane >> bit & 1) << p for p, plane in enumerate(held)) == sum(
                int(word) >> bit & 1 for word in words)


def test_software():
    """Every spike of every layer, sums taken apart, and the logits, of networks of both kinds."""
    for draw, seed in ((draw_spikeformer, 5), (random_residual, 6)):
        cases = draw_cases(CONFIG, 25, seed, draw)
        rng = np.random.default_rng(seed)
        for network, image in cases:
            array, masks = random_input(rng, network), random_masks(rng, network, 1)
            run = reference.run(network, array[None], masks=masks)
            ran = machine.run(image, array, mask=None if masks is None else masks[0])
            assert (machine.logits(image, ran) == run.logits[0]).all(), network.name
            for name in set(image.maps) - {INPUT}:
                height, width = ran.maps[name].shape[2:]
                want = run.spikes[name][:, 0, :, :height, :width]
                assert (ran.maps[name] == want).all(), (network.name, name)
            assert {layout.planes for layout in image.maps.values() if layout.onto} >= {2}


@pytest.mark.parametrize("name", CORES)
@pytest.mark.parametrize("draw", [draw_spikeformer, random_residual])
def test_gateware(name, draw, tmp_path):
    """Spikes, counters and the cycles of every layer, and what the sums are in memory."""
    config = CORES[name]
    cases = draw_cases(config, 10, 7, draw)
    given = check_cases(config, cases, 5, tmp_path)
    for (_, image), (arrays, masks, folder) in zip(cases, given, strict=True):
        check_memory(image, arrays, masks, np.load(folder / "maps.npy"))


def check_memory(image: Image, arrays: np.ndarray, masks: np.ndarray | None,
                 dumps: np.ndarray) -> None:
    """Every word of a sum that the software core leaves is in the core's memory, too."""
    compared = 0
    for index, array in enumerate(arrays):
        memory = machine.run(image, array, mask=None if masks is None else masks[index]).memory
        assert (decode_logits(image, memory) == decode_logits(image, dumps[index])).all()
        for layout in image.maps.values():
            if layout.onto and not layout.spare and layout.dies == len(image.layers) - 1:
                words = slice(layout.base, layout.base + layout.words)
                assert (dumps[index][words] == memory[words]).all(), (index, layout.name)
                compared += layout.words
    assert compared


def test_readback(transport):
    """The host takes the sums apart, all maps or one of them."""
    network, image = draw_cases(TINY, 1, 8, draw_spikeformer)[0]
    array = random_input(np.random.default_rng(2), network)
    masks = random_masks(np.random.default_rng(3), network, 1)
    mask = None if masks is None else masks[0]
    run = reference.run(network, array[None], masks=masks)
    with Accelerator(transport, TINY) as board:
        board.load(image)
        for name, found in board.trace(array, mask):
            if name != INPUT:
                height, width = found.shape[2:]
                assert (found == run.spikes[name][:, 0, :, :height, :width]).all(), name
        name = [name for name, layout in image.maps.items() if layout.onto][-1]
        [(told, found)] = board.trace(array, mask, layer=name)
        height, width = found.shape[2:]
        assert told == name and (found == run.spikes[name][:, 0, :, :height, :width]).all()


@pytest.mark.parametrize(("summands", "planes"), [(2, 0), (3, 2), (4, 3), (7, 3), (8, 4)])
def test_planes(summands, planes):
    network = chain(summands)
    image = compile_network(network, CONFIG)
    assert summed(image) == (summands - 1 if planes else 0)
    made = [layout for name, layout in image.maps.items() if name.startswith("m")]
    assert max(layout.planes for layout in made) == max(1, planes)
    if planes:
        assert len({layout.base for layout in made}) == 1
        assert [layout.planes + layout.spare for layout in made] == [planes] * summands
        assert image.layers[-2].planes == planes


def test_without_sums_or_with_all_maps_kept_it_is_a_list():
    network = chain(5)
    for image in (compile_network(network, CONFIG, keep_all=True),
                  compile_network(network, replace(CONFIG, sums=False))):
        assert summed(image) == 0 and image.layers[-2].planes == 5


def attend(query: str, key: str, value: str) -> Layer:
    zeros = np.zeros(8, np.int64)
    return Layer("attention", (), zeros, zeros + 1, Neuron(), None, Attention(query, key, value, 1))


A, B, C = (layer(name, (INPUT,)) for name in "abc")
WIDE = [layer(name, (INPUT,), 8) for name in "abc"]
REFUSALS = {
    "the input is one of its maps": network_of(A, B, last=(INPUT, "a", "b")),
    "'d' reads a part of what is summed up by then":
        network_of(A, B, C, layer("d", ("a",)), last=("a", "b", "c")),
    "'c' reads the sum that it is added to":
        network_of(A, B, layer("c", ("a", "b")), last=("a", "b", "c")),
    "attention makes 'attention'":
        Network(InputSpec(2, 4, 4), 4, (
            *WIDE, *(layer(n, (INPUT,), 8) for n in "qkv"), attend("q", "k", "v"),
            layer("logits", ("a", "b", "attention"), inputs=8, neuron=None)), "sums", ("x", "y")),
    "attention 'attention' reads one of its maps as k or v":
        Network(InputSpec(2, 4, 4), 4, (
            *WIDE, attend("a", "b", "c"), layer("d", ("attention",), inputs=8),
            layer("logits", ("a", "b", "c"), inputs=8, neuron=None)), "sums", ("x", "y")),
}


@pytest.mark.parametrize("reason", REFUSALS)
def test_refusals(reason):
    """Such a sum stays a list of maps, the passes say why, and it is exact."""
    network = REFUSALS[reason]
    made = run_passes(network, CONFIG)
    assert [total.refused for total in made.sums] == [reason]
    assert made.chosen.sums == ()
    text = passes.report(passes.describe(network, CONFIG))
    assert f"a list of maps, {reason}" in text
    array = random_input(np.random.default_rng(1), network)
    image = compile_network(network, CONFIG)
    assert (machine.logits(image, machine.run(image, array))
            == reference.run(network, array[None]).logits[0]).all()


def test_different_arrangements_are_refused():
    rng = np.random.default_rng(0)
    strided = Layer("s", (Synapses(rng.integers(-3, 4, (2, 2, 2, 2)).astype(np.int8), ("a",),
                                   stride=2),), np.zeros(2, np.int64), np.ones(2, np.int64),
                    Neuron())
    network = Network(InputSpec(2, 4, 4), 4, (
        A, strided, B, C, layer("logits", ("a", "b", "c"), neuron=None)), "sums", ("x", "y"))
    [total] = find(lower(network, {}))
    assert total == Sum(("a", "b", "c"), "its maps are read in different arrangements")


def test_passes_tell():
    found = passes.describe(chain(6), CONFIG)
    assert found["passes"][0]["out"]["sums"] == [
        {"maps": [f"m{n}" for n in range(6)], "planes": 3, "kept": True, "refused": ""}]
    text = passes.report(found)
    assert "sum of m0 and 5 more: 3 bit-planes" in text
    assert "* sum of m0 as bit-planes: " in text and "  all phases: " in text


def test_the_cheaper_form_is_taken(monkeypatch):
    """By estimated cycles; and where only one fits, that one."""
    from sw.compile import compiler
    original = compiler.estimate_cycles

    def dear(plan, config):
        return original(plan, config) * (1 + 9 * any(step.onto for step in plan.steps))
    monkeypatch.setattr(compiler, "estimate_cycles", dear)
    assert summed(compile_network(chain(6), CONFIG)) == 0
    assert "a list of maps, which is cheaper here" in passes.report(
        passes.describe(chain(6), CONFIG))
    assert summed(compile_network(chain(40), replace(CONFIG, map_words=128))) == 39


def test_replay_and_forecast():
    """The cycle model of given spikes is that of the input that makes them."""
    network, image = draw_cases(CONFIG, 1, 9, draw_spikeformer)[0]
    array = random_input(np.random.default_rng(2), network)
    masks = random_masks(np.random.default_rng(3), network, 1)
    mask = None if masks is None else masks[0]
    run = reference.run(network, array[None], masks=masks)
    spikes = {name: values[:, 0] for name, values in run.spikes.items()}
    assert (cycles.replay(image, spikes, mask=mask).by_layer
            == cycles.simulate(image, array, mask).by_layer)
    assert cycles.forecast(image).total > 0
    del spikes[next(layout.onto[0] for layout in image.maps.values() if layout.onto)]
    with pytest.raises(SpikeTicketError, match="no spikes given for map"):
        cycles.replay(image, spikes, mask=mask)


def test_image_file(tmp_path):
    image = compile_network(chain(5), CONFIG)
    image_file.save(image, tmp_path / "image.npz")
    assert image_file.load(tmp_path / "image.npz").maps == image.maps
    wrong = replace(image, maps=image.maps | {"m3": replace(image.maps["m3"], planes=2, spare=1)})
    image_file.save(wrong, tmp_path / "wrong.npz")
    with pytest.raises(SpikeTicketError, match="map 'm3': not its sum's"):
        image_file.load(tmp_path / "wrong.npz")


def test_identity():
    """A core that adds is another one; those without are what they were."""
    assert identity(PRESETS["a35tf"]) != identity(replace(PRESETS["a35tf"], sums=False))
    assert f"{identity(PRESETS['a35t']):016x}" == BEFORE["a35t"]
    # "micro" has one copy of its maps, whose second port is worth a block RAM.
    assert {name for name, config in PRESETS.items() if config.sums != config.attention} == {
        "micro"}


BEFORE = {"a35t": "4abc57776fbfa373"}
"""Identities of cores without sums, from before there was a choice."""
