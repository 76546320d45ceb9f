"""The trade study: every dataflow does the same useful work, and its tables hold together."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from hw.build.request import BITSTREAMS
from hw.config import PRESETS, CoreConfig
from sw import area
from sw.cli.app import main
from sw.compile.compiler import DoesNotFit
from sw.core.cycles import CAUSES
from sw.errors import SpikeTicketError
from sw.integer.network import INPUT, InputSpec, Network
from sw.study import areas, gather, plots, report, run, storage, workloads
from sw.study.column import Column
from sw.study.dataflow import deal, loads
from sw.study.events import Events
from sw.study.position import Position
from sw.study.workloads import Workload, layer, random_spikes, random_weights

SMALL = replace(PRESETS["tiny"], engines=3, units=8, window=32)


def small(activity=0.3, density=0.2, images=2) -> Workload:
    rng = np.random.default_rng(0)
    layers = (layer("a", random_weights(rng, (16, 8, 3, 3), density, 4), INPUT),
              layer("b", random_weights(rng, (12, 16, 3, 3), density, 4), ("a", "a")),
              layer("out", random_weights(rng, (4, 12, 1, 1), density, 4), "b", neuron=False))
    network = Network(InputSpec(8, 9, 11, 2, static=False), 4, layers, "small")
    runs = [random_spikes(network, activity, seed) for seed in range(images)]
    spikes = {name: np.concatenate([run[name] for run in runs], axis=1) for name in runs[0]}
    spikes[INPUT] = spikes[INPUT] * 3
    return Workload("small", "small", network, spikes)


@pytest.mark.parametrize("flow", [Column(), Position(32), Position(8), Events()],
                         ids=lambda flow: flow.key)
@pytest.mark.parametrize("engines", [1, 3])
def test_every_dataflow_does_the_same_updates(flow, engines):
    workload = small()
    outcomes = [flow.run(load, engines) for image in range(workload.images)
                for load in loads(workload, image)]
    assert sum(outcome.updates for outcome in outcomes) == workload.useful
    slots = engines * (flow.positions if isinstance(flow, Position) else 8)
    assert sum(outcome.cycles for outcome in outcomes) * slots >= workload.useful


@pytest.mark.parametrize("skip", [False, True])
def test_ours_does_the_same_updates(skip):
    workload = small()
    run = gather.run(workload, SMALL, skip)
    assert run.cycles.counters["updates"] == workload.useful == run.useful
    assert 0 < run.fraction <= 1


def test_more_engines_are_not_slower():
    work = loads(small())[1]
    for flow in (Column(), Position(32), Events()):
        assert flow.run(work, 4).cycles <= flow.run(work, 1).cycles


def test_skipping_silence_never_slows():
    for activity in (0.02, 0.3):
        workload = small(activity)
        plain, skipping = (gather.run(workload, SMALL, skip) for skip in (False, True))
        assert skipping.cycles.total <= plain.cycles.total * 1.01
        assert skipping.cycles.counters["words"] <= plain.cycles.counters["words"]


def test_a_network_too_large_is_run_in_pieces():
    workload = small()
    chain = replace(workload.network, layers=tuple(
        replace(item, synapses=tuple(replace(syn, sources=syn.sources[:1])
                                     for syn in item.synapses))
        for item in workload.network.layers))
    workload = Workload("chain", "chain", chain, workload.spikes)
    config = gather.roomy(SMALL)
    assert len(gather._compiled(workload, config)) == 1
    pieces = gather._compiled(workload, replace(config, weight_words=64))
    assert len(pieces) > 1
    names = [info.name for image, _ in pieces for info in image.layers if info.name != gather.CUT]
    assert names == [item.name for item in chain.layers]


def test_a_network_that_is_no_chain_is_not_cut():
    workload = small()
    with pytest.raises(DoesNotFit):
        gather._compiled(workload, replace(gather.roomy(SMALL), weight_words=64))


def test_deal_balances():
    rows = deal([5, 1, 1, 1, 1, 1], 2)
    assert sorted(np.concatenate(rows)) == list(range(6))
    assert [0] in rows


def test_formats_reach_the_entropy_bound():
    for row in storage.sweep(4, shape=(64, 576)):
        if 0.01 <= row["density"] <= 0.5:
            assert 1 <= row["ours / bound"] <= 1.25
        assert row["ours (Rice)"] <= 1.01 * min(row["bitmap"], row["CSR"], row["banked columns"])


def test_workload_statistics():
    spikformer = workloads.spikformer(0.95)
    assert 1 - spikformer.network.sparsity == pytest.approx(0.05, abs=0.002)
    assert spikformer.activity == pytest.approx(0.3, abs=0.02)
    assert workloads.vgg9().network.weights_total == 2_261_184
    events = workloads.nmnist().spikes[INPUT]
    planes = [(events >> bit & 1).any(0).mean() for bit in range(3)]
    assert planes == pytest.approx(workloads.NMNIST_PLANES, abs=0.05)


def test_recorded_events_are_binned(tmp_path):
    path = tmp_path / "events.npz"
    np.savez(path, x=np.array([1, 1, 33], np.uint8), y=np.array([2, 2, 0], np.uint8),
             p=np.array([1, 1, 0], np.uint8), dt=np.array([0, 1, 99], np.uint16),
             off=np.array([0, 3], np.uint32))
    counts = workloads.nmnist(path).spikes[INPUT]
    assert counts.shape == (4, 1, 2, 34, 34)
    assert counts[0, 0, 1, 2, 1] == 2 and counts[3, 0, 0, 0, 33] == 1 and counts.sum() == 3
    assert workloads.event_statistics(path)["events"] == 3


def test_bad_recordings_are_named(tmp_path):
    path = tmp_path / "broken.npz"
    path.write_bytes(b"no archive")
    with pytest.raises(SpikeTicketError, match=r"broken\.npz: not an \.npz"):
        workloads.nmnist(path)


def test_areas_scale():
    config = PRESETS["a100t"]
    one = area.counted(area.engine(config))
    assert area.counted(area.engine(replace(config, units=16))).lut > one.lut
    assert area.counted(area.engine(replace(config, lanes=1))).lut < one.lut
    assert area.estimate(config).dsp == config.engines * one.dsp
    shared = replace(config, drain_engines=2)
    assert area.counted(area.cluster(shared)).lut < 2 * one.lut
    assert area.estimate(shared).dsp == config.engines // 2 * area.counted(
        area.cluster(shared)).dsp
    fits = area.most_engines(config, area.DEVICES["XC7A35T"])
    for key in ("gather", "scan", "column", "events", "position32"):
        assert areas.engines(key, config, "XC7A35T") >= 1
    assert areas.engines("gather", config, "XC7A35T") == fits
    assert areas.engine_luts("gather", config) == pytest.approx(one.lut)
    assert areas.engine_luts("scan", config) < one.lut
    assert area.fetch(replace(config, map_words=4096)).lut > area.fetch(config).lut
    # Slices take the place of adders: one a unit, two where a sum takes more than 12 bits.
    for bits, slices in ((12, 1), (16, 2)):
        tables, dsp = (area.unit(replace(config, acc_bits=bits, dsp_adders=on))
                       for on in (False, True))
        assert (dsp.dsp - tables.dsp, tables.lut - dsp.lut) == (slices, 8 * bits)


@pytest.mark.parametrize("board", ["arty_a7", "arty_a7_100"])
def test_areas_add_up_to_what_builds_report(board):
    """In sum within 3 %; by unit, too, or within 0.2 % of the whole."""
    built = json.loads((BITSTREAMS / board / "report.json").read_text())
    config = CoreConfig(**built["config"])
    found, units = area.estimate(config), area.units(config)
    assert found.lut == pytest.approx(built["lut"], rel=0.03)
    assert found.ff == pytest.approx(built["ff"], rel=0.03)
    assert (found.bram, found.dsp) == (built["bram36"], built["dsp"])
    elsewhere = {"map", "weights", "pairs in one LUT6 (estimate)"}      # see `area.memories`
    assert set(units) == set(built["units"]) - elsewhere
    for name, cells in units.items():
        wanted = built["units"][name]
        assert cells.lut == pytest.approx(wanted["lut"], rel=0.03, abs=0.002 * built["lut"]), name
        assert cells.dsp == wanted["dsp"], name
    pairs = -built["units"]["pairs in one LUT6 (estimate)"]["lut"]
    saved = sum(cells.lut for cells in units.values()) - found.lut
    assert saved == pytest.approx(pairs, abs=0.03 * built["lut"])


@pytest.mark.parametrize(("preset", "lut"), [("a35tf", 16_439), ("micro", 4_262)])
def test_areas_of_cores_with_attention(preset, lut):
    """Whole builds of these cores; their reports are not kept."""
    assert area.estimate(PRESETS[preset]).lut == pytest.approx(lut, rel=0.03)


@pytest.mark.parametrize(("width", "depth", "blocks"), [
    (36, 1024, 1), (128, 1024, 4), (128, 2048, 7.5), (32, 8192, 8), (18, 1024, 0.5), (9, 4096, 1)])
def test_block_rams(width, depth, blocks):
    assert area.ram36(width, depth) == blocks


def test_no_curve_leaves_its_plot(monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(plots, "_save", lambda figure, *_: drawn.append(figure))
    plots._events([{"varied": kind, "value": 1, "cycles": cycles,
                    "cycles if silent words are read": cycles}
                   for kind, cycles in (("activity", 1000), ("density", 9000))], tmp_path)
    assert [axis.get_ylim()[1] >= 9 for axis in drawn[0].axes] == [True, True]


def test_area_command(capsys):
    assert main(["bench", "area", "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert set(table) == set(PRESETS)
    assert all(entry["lut"] > 0 for entry in table.values())


def test_study_command(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "workloads", lambda *_: {"small": small})
    assert main(["bench", "study", "--tables", "comparison", "causes", "--json", "--plot",
                         str(tmp_path)]) == 0
    result = json.loads(capsys.readouterr().out)
    flows = {row["dataflow"] for row in result["comparison"]}
    assert len(flows) == len(report.RIVALS) + 2
    shares = [float(result["causes"][0][cause].rstrip("%"))
              for cause in (*CAUSES, "sequencer")]
    assert sum(shares) == pytest.approx(100, abs=1)
    assert {path.name for path in tmp_path.iterdir()} == {"study-dataflows.svg",
                                                          "study-causes.svg"}


def test_update_replaces_tables_only(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- study ladder -->\nold\n<!-- end -->\nafter\n")
    run.update(page, {"ladder": [{"a": 1, "b": "x"}], "other": []})
    assert page.read_text() == ("before\n<!-- study ladder -->\n| a | b |\n|---|---|\n| 1 | x |\n"
                                "<!-- end -->\nafter\n")
    page.write_text("<!-- study ladder -->")
    with pytest.raises(SpikeTicketError, match="no <!-- end -->"):
        run.update(page, {"ladder": []})


def test_unknown_workload_is_refused(capsys):
    assert main(["bench", "study", "--only", "nothing"]) == 2
    assert "--only 'nothing' is unknown; choose from ticket, vgg9" in capsys.readouterr().err
