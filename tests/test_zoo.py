"""The zoo, a part of it: every way of writing networks imports with every spike equal."""

import importlib
import json
from dataclasses import replace

import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import nn

from sw.cli.app import main
from sw.imports.zoo import check, page, run
from sw.imports.zoo.all import entries
from sw.imports.zoo.compare import compare, overheard
from sw.imports.zoo.entry import Entry
from sw.imports.zoo.jelly import models
from sw.imports.zoo.settle import inputs, scale, settled
from sw.imports.zoo.thin import thin

pytestmark = pytest.mark.usefixtures("one_thread")

ENTRIES = {entry.name: entry for entry in entries()}

SOME = (
    "sj/sew-resnet-iand", "sj/ms-resnet", "sj/max-resnet", "sj/spikformer", "sj/spike-driven",
    "sj/maxformer", "sj/masnn", "sj/plif-mnist", "sj/ottt-vgg-ws-light", "spikformer-einsum",
    "qkformer", "spike-driven", "sew-gesture-and", "tet-vgg-static", "csnn-voting", "nmnist",
    "ten-lines", "ten-lines-function", "ann2snn", "separable", "dense", "normalised", "centred",
    "weight-norm", "prune-masks", "shared", "data-parallel", "nir/snntorch", "nir/norse")
"""A way of writing each; `spiketicket import zoo` runs all and writes docs/zoo.md."""


@pytest.mark.parametrize("name", SOME)
def test_spikes_are_the_module_s_own_or_the_refusal_says_why(name):
    if name.startswith("nir/") and name not in ENTRIES:
        pytest.skip("its library is not installed")
    entry = ENTRIES[name]
    row = check.check(entry, entry.kinds[0], near=False, plan=False)
    assert row.right, (row.line, row.difference, row.quiet)


def test_every_class_of_spikingjelly_s_models_is_in_it():
    """Classes that are networks: those that `activation_based.model` exports, and every module of
    the package that takes an input picture."""
    ways = {entry.way.strip("`").removeprefix("model.") for entry in ENTRIES.values()}
    networks = {
        "sew_resnet.SEWResNet", "spiking_resnet.SpikingResNet", "spiking_vgg.SpikingVGG",
        "spiking_vggws_ottt.OTTTSpikingVGG", "ms_resnet.MSResNet", "ms_resnet.MaxResNet",
        "masnn.MASNN", "masnn.AttMSResNet", "spikformer.Spikformer", "maxformer.MaxFormer",
        "spike_driven_transformer.SpikeDrivenTransformer", "qkformer.QKFormer",
        "snas_net.SNASNet", "spike_dhs.SpikeDHS",
        *(f"parametric_lif_net.{name}" for name in models("parametric_lif_net").__all__)}
    assert networks <= ways
    package = importlib.import_module("spikingjelly.activation_based.model")
    exported = {f"{found.__module__.rpartition('.')[2]}.{name}"
                for name, found in vars(package).items()
                if isinstance(found, type) and issubclass(found, nn.Module)}
    assert exported and exported <= networks


def test_a_wrong_network_is_noticed():
    """The comparison can fail: one weight changed by one unit, one threshold by one."""
    entry = ENTRIES["csnn"]
    net = settled(entry, "LIF", whole=True)
    imported, right = check.imported_and_compared(entry, "LIF", whole=True)
    assert right.equal
    x, unit = inputs(entry, True, 1), scale(entry, True)
    for change in ("weight", "threshold"):
        layer = imported.network.layers[1]
        values = layer.synapses[0].weight if change == "weight" else layer.threshold
        values = values.copy()
        values[0] += 1
        other = (replace(layer, synapses=(replace(layer.synapses[0], weight=values),))
                 if change == "weight" else replace(layer, threshold=values))
        layers = (imported.network.layers[0], other, *imported.network.layers[2:])
        wrong = compare(entry, net, replace(imported.network, layers=layers), x, unit)
        assert not wrong.equal and min(wrong.shares.values()) < 1


def test_every_layer_fires_and_rests_in_random_networks():
    for name in ("spikformer", "sj/sew-resnet-add", "tet-vgg-static"):
        entry = ENTRIES[name]
        for whole in (True, False):
            net = settled(entry, entry.kinds[0], whole=whole)
            x = inputs(entry, whole, 5)
            with torch.no_grad():
                _, spikes = overheard(entry, net, x.double() * scale(entry, whole))
            rates = {name: float(made.double().mean()) for name, made in spikes.items()}
            assert all(0.02 < rate < 0.9 for rate in rates.values()), rates


def test_thin_keeps_the_class_and_divides_its_channels():
    made = thin(lambda: nn.Sequential(nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.ReLU(),
                                      nn.Flatten(), nn.Linear(64, 10)), 16)
    assert [tuple(p.shape) for p in made.parameters()] == [
        (4, 3, 3, 3), (4,), (4,), (4,), (10, 4), (10,)]
    assert made.eval()(torch.rand(1, 3, 3, 3)).shape == (1, 10)


def test_the_command_and_its_page(tmp_path, capsys):
    target = tmp_path / "zoo.md"
    assert main(["import", "zoo", "--only", "ten-lines", "--only", "sj/masnn", "--quick", "--json",
                         "--page", str(target)]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in rows} == {"ten-lines", "ten-lines-function", "sj/masnn"}
    assert all(row["right"] for row in rows)
    text = target.read_text()
    assert text.startswith("# The zoo") and "refused: " in text
    assert main(["import", "zoo", "--list", "--only", "csnn"]) == 0
    assert "csnn-voting" in capsys.readouterr().out
    assert main(["import", "zoo", "--only", "spikfromer"]) == 2
    assert "did you mean spikformer" in capsys.readouterr().err


def test_rows_are_kept_and_left_out_of_the_next_run(tmp_path, capsys, monkeypatch):
    kept = tmp_path / "rows"
    arguments = ["--only", "ten-lines", "--quick", "--rows", str(kept), "--json"]
    assert main(["import", "zoo", *arguments]) == 0
    first = capsys.readouterr().out
    monkeypatch.setattr(check, "check", None)           # nothing is run again
    assert main(["import", "zoo", *arguments]) == 0 and capsys.readouterr().out == first
    kept.write_text("{}")
    assert main(["import", "zoo", *arguments]) == 2
    assert "not a file of finished rows" in capsys.readouterr().err


def test_a_row_that_is_wrong_fails_the_command(monkeypatch, capsys):
    """A network that must be refused but imports, and one that is refused but must import."""
    def make():
        return nn.Sequential(nn.Flatten(), nn.Linear(8, 6), neuron.IFNode(), nn.Linear(6, 3))
    good = Entry("good", "", make, (2, 2, 2), feed="steps", refusal="the moon")
    bad = Entry("bad", "", lambda: nn.Sequential(make(), nn.Softmax(1)), (2, 2, 2), feed="steps")
    monkeypatch.setattr(run, "entries", lambda: [good, bad])
    assert main(["import", "zoo"]) == 1
    out = capsys.readouterr().out
    assert "not as they should be: good (its own), bad (its own)" in out


def test_a_table_s_cells_cannot_break_it():
    row = check.Verdict("a", "b", "IF", line="x | y")
    assert page.table([row]).splitlines()[2].count(" | ") == 6
