"""Analysis of tickets: counts against naive ones, overlap, patches, pictures, the command."""

import json

import numpy as np
import pytest
import torch

from sim.samples import event_files as write
from sw import analysis, ticket
from sw.cli.app import main
from sw.data import datasets
from sw.data.datasets import Images
from sw.errors import SpikeTicketError
from sw.integer import reference
from sw.integer.gate import Gate, Select
from sw.integer.network import INPUT, InputSpec, Layer, Network, Neuron, Pool, Synapses
from sw.plots import analysis as plots

pytestmark = pytest.mark.usefixtures("one_thread")


def synapses(rng, c_out, c_in, k, source, density, padding=0) -> tuple[Synapses]:
    weight = rng.integers(1, 4, (c_out, c_in, k, k)) * rng.choice([-1, 1], (c_out, c_in, k, k))
    weight[rng.random(weight.shape) >= density] = 0
    return (Synapses(weight.astype(np.int8), (source,), padding=padding),)


def layer(name, syn, theta=4, **more) -> Layer:
    count = syn[0].weight.shape[0]
    return Layer(name, syn, np.zeros(count, np.int64), np.full(count, theta, np.int64), **more)


def network(seed=0, density=1.0, gate=False) -> Network:
    """conv, conv with an OR-pool, readout; with a gate of the 4 x 4 tokens in between."""
    rng = np.random.default_rng(seed)
    layers = [layer("conv1", synapses(rng, 4, 1, 3, INPUT, density, 1), 12, neuron=Neuron(128)),
              layer("conv2", synapses(rng, 6, 4, 3, "conv1", density, 1), neuron=Neuron(128),
                    pool=Pool("or", 2))]
    last = "conv2"
    if gate:
        layers += [Gate("gate", "count", 5, (4, 4), ("conv2",)), Select("kept", "conv2", "gate")]
        last = "kept"
    layers.append(layer("readout", synapses(rng, 3, 6, 1, last, density), neuron=None))
    return Network(InputSpec(1, 8, 8, bits=4), 4, tuple(layers), labels=("a", "b", "c"))


@pytest.fixture
def data() -> Images:
    rng = np.random.default_rng(5)
    return Images(rng.integers(0, 16, (30, 1, 8, 8), np.uint8), np.arange(30) % 3, ("a", "b", "c"))


def test_executed_operations_equal_op_counter_where_nothing_is_removed(data):
    found = analysis.activity(network(), data)
    for name in ("conv2", "readout"):
        row = found["layers"][name]
        assert row["sop_executed"] == row["sop_all_weights"] > 0
        assert row["sparsity"] == 0
    assert found["layers"]["conv1"]["sop_all_weights"] == 0  # pixels are no spikes
    sparse = analysis.activity(network(density=0.3), data)["layers"]["conv2"]
    assert 0 < sparse["sop_executed"] < sparse["sop_all_weights"] < sparse["sop_dense"]


def test_figures_by_layer_are_those_of_the_reference(data):
    net = network(density=0.4)
    found, run = analysis.activity(net, data), reference.run(net, data.images)
    work = reference.sop(net, run.spikes)
    for name, row in found["layers"].items():
        assert row["sop_executed"] == pytest.approx(work[name].executed / 30)
        assert row["sop_dense"] == pytest.approx(work[name].dense / 30)
    row = found["layers"]["conv2"]
    assert row["spike_rate"] == pytest.approx(run.spikes["conv2"].mean())
    assert row["active"] == pytest.approx(run.spikes["conv2"].any(0).mean())
    assert found["accuracy"] == pytest.approx((run.labels == data.labels).mean())
    # 6 neurons at each of the 8 x 8 positions before the pool, four timesteps
    assert row["energy_uj"] == pytest.approx(
        (row["sop_executed"] * 0.9 + 6 * 64 * 4 * 4.6) / 1e6)
    assert found["energy_uj"] == pytest.approx(sum(r["energy_uj"]
                                                   for r in found["layers"].values()))


def test_patches_kept_by_class(data):
    net = network(gate=True)
    found = analysis.activity(net, data)["patches"]["gate"]
    kept = reference.run(net, data.images).kept["gate"]
    assert found["grid"] == [4, 4] and found["keep"] == 5
    mean = data.images[data.labels == 1, 0].mean(0)
    assert np.allclose(found["mean_image"]["b"], mean / mean.max(), atol=6e-4)
    for label, name in enumerate("abc"):
        share = np.array(found["by_class"][name])
        assert share.shape == (4, 4) and share.sum() == pytest.approx(5)
        assert share[0, 0] == pytest.approx((kept[data.labels == label] == 0).any(1).mean())


def test_overlap_of_masks():
    a = {"x": np.array([1, 1, 0, 0], bool), "y": np.array([[1, 0], [0, 0]], bool)}
    assert analysis.overlap(a, a)["jaccard"] == 1.0
    b = {"z": np.array([1, 0, 1, 0], bool), "y": np.array([1, 0, 0, 0], bool)}
    found = analysis.overlap(a, b)  # by place and flat, whatever the names
    assert found["jaccard"] == 2 / 4 and found["by_layer"]["x"]["jaccard"] == 1 / 3
    assert analysis.overlap(a, {"x": a["x"]}) is None
    assert analysis.overlap(a, {"x": a["x"], "y": np.ones(5, bool)}) is None
    empty = {"x": np.zeros(4, bool)}
    assert analysis.overlap(empty, empty) == {
        "jaccard": 1.0, "chance": 1.0, "by_layer": {"x": {"jaccard": 1.0, "chance": 1.0}}}


def test_chance_is_what_random_masks_share():
    rng = np.random.default_rng(0)
    a, b = ({"x": rng.random(200_000) < p, "y": rng.random(100_000) < q}
            for p, q in ((0.1, 0.5), (0.3, 0.2)))
    found = analysis.overlap(a, b)
    assert found["jaccard"] == pytest.approx(found["chance"], abs=0.01)
    for pair in found["by_layer"].values():
        assert pair["jaccard"] == pytest.approx(pair["chance"], abs=0.01)


def save(path, net, **info) -> None:
    ticket.save(path, net, info)


def test_folders_of_searches(tmp_path):
    from sw.tickets import checkpoint
    net = network(density=0.5)
    folder = tmp_path / "seed0"
    folder.mkdir()
    with pytest.raises(SpikeTicketError, match="holds neither"):
        analysis.open_subject(folder)
    save(folder / "ticket.safetensors", net)
    subject = analysis.open_subject(folder)
    assert subject.name == "seed0" and list(subject.masks) == ["conv1", "conv2", "readout"]
    masks = {"a": torch.ones(3, dtype=torch.bool), "b": torch.zeros(2, 2, dtype=torch.bool)}
    checkpoint.save(folder / "masks.safetensors", {"mask": masks}, {})
    subject = analysis.open_subject(folder)
    assert subject.network is not None and [m.sum() for m in subject.masks.values()] == [3, 0]
    assert analysis.open_subject(folder / "ticket.safetensors").name == "seed0"


def test_command(tmp_path, data, capsys):
    np.savez(tmp_path / "data.npz", x_test=data.images << 4, y_test=data.labels)    # of 8 bits
    for seed in (0, 1):
        save(tmp_path / f"t{seed}.safetensors", network(seed, 0.5, gate=seed == 1),
             data=str(tmp_path / "data.npz"))
    paths = [str(tmp_path / f"t{seed}.safetensors") for seed in (0, 1)]
    out = tmp_path / "out"
    assert main(["look", "analysis", *paths, "--json", "--images", "20", "--out", str(out)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert set(printed["tickets"]) == {"t0", "t1"} and printed["tickets"]["t0"]["images"] == 20
    pair, = printed["overlap"]
    assert 0 < pair["chance"] < 1 and set(pair["by_layer"]) == {"conv1", "conv2", "readout"}
    assert sorted(p.name for p in out.iterdir()) == [
        "analysis.json", "layers.svg", "overlap.svg", "patches-t1-gate.svg"]
    assert json.loads((out / "analysis.json").read_text()) == printed
    assert main(["look", "analysis", *paths, "--images", "5"]) == 0
    text = capsys.readouterr().out
    assert "by chance" in text and "5 of 16 patches kept" in text
    assert main(["look", "analysis", paths[0], "--images", "0"]) == 0  # needs no data
    assert "% removed" in capsys.readouterr().out


def test_data_for_a_network(tmp_path):
    images = np.arange(2 * 12 * 12, dtype=np.uint8).reshape(2, 12, 12)
    np.savez(tmp_path / "a.npz", x_test=images, y_test=np.zeros(2, np.uint8))
    with pytest.raises(SpikeTicketError, match=r"images of shape \[1, 12, 12\], but ticket "
                                               r"'network' takes \[1, 8, 8\].*a.npz:size=8x8,fit"):
        datasets.for_network(network(), str(tmp_path / "a.npz"))
    found = datasets.for_network(network(), str(tmp_path / "a.npz:size=8"))
    assert np.array_equal(found.images[:, 0], images[:, 2:10, 2:10] >> 4)   # a ticket of 4 bits
    moving = Network(InputSpec(2, 8, 8, bits=2, static=False), 3, (
        layer("readout", synapses(np.random.default_rng(0), 3, 2, 8, INPUT, 1.0), neuron=None),))
    with pytest.raises(SpikeTicketError, match=r"images of .* takes \[3, 2, 8, 8\]"):
        datasets.for_network(moving, str(tmp_path / "a.npz:size=8"))
    write.pack(tmp_path / "b.npz", [write.sample(400, (34, 34), i) for i in range(4)], [0] * 4)
    found = datasets.for_network(moving, str(tmp_path / "b.npz:fit=resize,size=8"), "train")
    assert found.images.shape == (3, 3, 2, 8, 8) and found.images.max() == 3
    with pytest.raises(SpikeTicketError, match=r"event frames of shape .* takes \[1, 8, 8\]"):
        datasets.for_network(network(), str(tmp_path / "b.npz"), "train")


def test_command_names_what_is_missing(tmp_path, capsys):
    save(tmp_path / "t.safetensors", network())
    assert main(["look", "analysis", str(tmp_path / "t.safetensors")]) == 2
    assert "does not say its data set; give --data" in capsys.readouterr().err
    assert main(["look", "analysis", str(tmp_path / "no.safetensors")]) == 2
    assert "is neither a file nor bundled" in capsys.readouterr().err
    assert main(["look", "analysis", str(tmp_path / "t.safetensors"), "--images", "-1"]) == 2
    assert "--images -1" in capsys.readouterr().err


def test_networks_of_other_layers_are_not_joined_by_a_line():
    """Each network has a row of its own; its tickets share one."""
    def entry(*layers):
        return {"sparsity_by_layer": dict.fromkeys(layers, 0.9),
                "layers": {name: {"spike_rate": 0.1} for name in layers[:-1]}}
    figure = plots._layers({"a": entry("conv1", "readout"), "b": entry("stem", "block", "readout"),
                            "c": entry("conv1", "readout")})
    lefts = figure.axes[::2]
    assert len(lefts) == 2
    assert [[len(line.get_xdata()) for line in axis.lines] for axis in lefts] == [[2, 2], [3]]
    assert [axis.get_title(loc="left") for axis in lefts] == ["a, c", "b"]


def test_the_colour_of_an_overlap_is_what_chance_does_not_explain():
    pairs = [{"a": "a", "b": "b", "jaccard": 0.33, "chance": 0.33},
             {"a": "a", "b": "c", "jaccard": 0.5, "chance": 0.33}, {"a": "b", "b": "c"}]
    figure = plots._overlap({"tickets": {"a": 0, "b": 0, "c": 0}, "overlap": pairs})
    shown = figure.axes[0].images[0].get_array()
    assert shown[0, 0] == 0 and shown[1, 0] == pytest.approx(17)
    assert [text.get_text() for text in figure.axes[0].texts] == ["33.0\n(33.0)", "50.0\n(33.0)"]
