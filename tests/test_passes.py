"""The compiler's passes: frozen data in, frozen data out, and what `plan --passes` says of them."""

import dataclasses
import json
from types import MappingProxyType

import numpy as np
import pytest

from hw.config import PRESETS
from sim.samples.networks import random_network
from sim.samples.spikeformers import random_spikeformer
from sw import ticket
from sw.cli.app import main
from sw.compile import compiler, passes
from sw.compile.image_file import save
from sw.compile.layout import arrange, place
from sw.compile.tokens import lower
from sw.errors import SpikeTicketError
from sw.integer.network import InputSpec, Layer, Network, Neuron, Synapses

CONFIG = PRESETS["large"]


def strided() -> Network:
    """A convolution of stride 2 whose source may be split in phases or walked over."""
    rng = np.random.default_rng(0)

    def layer(name, shape, source, neuron, **how):
        weight = rng.integers(-3, 4, shape).astype(np.int8)
        return Layer(name, (Synapses(weight, (source,), **how),), np.zeros(shape[0], np.int64),
                     np.full(shape[0], 5, np.int64), neuron)
    return Network(InputSpec(1, 12, 12), 4, (
        layer("first", (4, 1, 3, 3), "input", Neuron(), padding=1),
        layer("second", (6, 4, 3, 3), "first", Neuron(), stride=2, padding=1),
        layer("out", (3, 6, 6, 6), "second", None)), "strided", ("a", "b", "c"))


def frozen(value: object) -> bool:
    """No field of it, or of what it holds, can be set."""
    if dataclasses.is_dataclass(value):
        return value.__dataclass_params__.frozen and all(
            frozen(getattr(value, field.name)) for field in dataclasses.fields(value)
            if not isinstance(getattr(value, field.name), Network | Layer))
    if isinstance(value, MappingProxyType):
        return all(map(frozen, value.values()))
    return not isinstance(value, list | dict) and (not isinstance(value, tuple)
                                            or all(map(frozen, value)))


@pytest.mark.parametrize("seed", range(6))
def test_passes_are_functions_of_frozen_data(seed, tmp_path):
    rng = np.random.default_rng(seed)
    network = random_spikeformer(rng, column=False) if seed % 2 else random_network(rng)
    lowered = lower(network, {})
    groups = -(-network.timesteps // 4)
    arranged = arrange(lowered, groups, CONFIG)
    plan = place(network, arranged, CONFIG, False)
    assert all(map(frozen, (lowered, arranged, plan)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        arranged.steps[0].pitch = 1
    assert {step.pitch for step in lowered.steps} == {1}        # as `lower` left it
    again = place(network, arrange(lowered, groups, CONFIG), CONFIG, False)
    assert again.layouts == plan.layouts and again.results == plan.results
    images = []
    for name in "ab":       # the same bytes, whatever was compiled in between
        save(compiler.compile_network(network, CONFIG), tmp_path / name)
        images.append((tmp_path / name).read_bytes())
    assert images[0] == images[1]


def test_every_variant_is_told():
    network = strided()
    found = passes.describe(network, CONFIG)
    assert [p["name"] for p in found["passes"]] == ["lower", "arrange", "place", "encode"]
    assert found["passes"][0]["in"] == {"layers": 3}
    assert [v["ways"] for v in found["variants"] if v["ways"]] == [{"second": "walk"}]
    assert [v["chosen"] for v in found["variants"]] == [True, False]
    cycles = [v["estimated_cycles"] for v in found["variants"]]
    assert cycles == sorted(cycles)
    image = compiler.compile_network(network, CONFIG)
    assert found["passes"][3]["out"]["program_words"] == len(image.program)
    assert found["passes"][3]["out"]["weight_words"] == [len(words) for words in image.weights]
    place = found["passes"][2]
    assert place["out"]["words"] <= place["in"]["words"] + len(network.labels)
    text = passes.report(found)
    assert "* all phases" in text or "* second walk" in text
    assert len(text.splitlines()) <= 24 and max(map(len, text.splitlines())) <= 110


def test_a_variant_that_cannot_be_says_why(monkeypatch):
    def refuse(arranged, *given):
        if any(step.walk > 1 for step in arranged.steps):
            raise compiler.LayoutError("second", "not today")
        return original(arranged, *given)
    original = compiler.arrange
    monkeypatch.setattr(compiler, "arrange", refuse)
    found = passes.describe(strided(), CONFIG)
    assert found["variants"][-1]["refused"] == "layer 'second' does not fit: not today"
    assert "second walk: layer 'second' does not fit: not today" in passes.report(found)


def test_the_command(tmp_path, capsys):
    path = tmp_path / "t.safetensors"
    ticket.save(path, strided())
    assert main(["plan", str(path), "--passes", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["fits"] and found["board"] == "sim" and len(found["variants"]) == 2
    assert main(["plan", str(path), "--passes"]) == 0
    assert "encode" in capsys.readouterr().out
    assert main(["plan", str(path), "--passes", "--data", "noise"]) == 2
    assert "exclude each other" in capsys.readouterr().err


def test_what_does_not_fit_is_one_line(tmp_path, capsys, monkeypatch):
    path = tmp_path / "t.safetensors"
    ticket.save(path, strided())

    def refuse(*_given, **_more):
        raise SpikeTicketError("too large")
    monkeypatch.setattr(passes, "run_passes", refuse)
    assert main(["plan", str(path), "--passes"]) == 1
    assert capsys.readouterr().out == "too large\n"
