"""Sweeps: cells, pools, resume, tables and plots, with a stand-in for the search."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from sw import sweep
from sw.cli.app import main
from sw.errors import SpikeTicketError
from sw.sweeps import plots as sweep_plots
from sw.sweeps import progress
from sw.sweeps.plan import DEFAULT_RUN, Cell, read_plan
from sw.sweeps.plan import plan as plan_of
from sw.sweeps.pools import run_cell
from sw.sweeps.table import write_table

ROOT = Path(__file__).resolve().parents[1]
RUN = "tests.sweep_cells:run"
GRID = {"run": RUN, "base": {"model": "tiny"}, "seed": [0, 1, 2],
        "sweep": [{"sparsity": [0.2, 0.5]}, {"sparsity": 0.5, "timesteps": [1, 2]}]}


def calls(out) -> int:
    return sum(len(p.read_text().splitlines()) for p in out.glob("cells/*/runs"))


def test_cells_are_the_union_of_grids():
    plan = plan_of(GRID)
    assert len(plan.cells) == 12 and set(plan.axes) == {"sparsity", "seed", "timesteps"}
    assert len({cell.id for cell in plan.cells}) == 12
    again = plan_of({**GRID, "sweep": GRID["sweep"] * 2})
    assert again.cells == plan.cells  # none twice
    reordered = Cell(dict(reversed(plan.cells[0].settings.items())))
    assert reordered.id == plan.cells[0].id
    assert len(plan_of({"run": RUN, "base": {"a": 1}}).cells) == 1


def test_cells_that_say_the_same_are_one():
    plan = plan_of({"base": {"model": "8p-8"}, "seed": [0, 1], "sweep": [
        {"sparsity": [0.2, 0.5]}, {"timesteps": [1, 4]}, {"decay": 0.99, "sparsity": 0.5}]})
    assert len(plan.cells) == 6  # T = 4, lambda = 0.99 and sparsity 0.5 are the defaults
    assert plan.axes == ("seed", "timesteps", "sparsity")
    cell = plan.cells[0]
    assert cell.key == {"model": "8p-8", "sparsity": 0.2} and cell.settings["timesteps"] == 4


@pytest.mark.parametrize("change, message", [
    ({"grid": {}}, "'grid'; there are base, sweep"), ({"base": [1]}, "base must"),
    ({"sweep": [1]}, "sweep must be"), ({"sweep": {"a": []}}, "'a' has no value"),
    ({"sweep": {"a": [[1]]}}, "must be numbers"), ({"metric": 3}, "metric 3"),
    ({"run": "nothing"}, "not module:function"),
    ({"sweep": {"a": list(range(400)), "b": list(range(400))}}, "more than 100000"),
    ({"run": DEFAULT_RUN, "base": {}, "sweep": {"sparsity": [0.5, 1.5]}},
     "cell sparsity=1.5.*1.5 is outside")])
def test_bad_plans_are_named(change, message):
    with pytest.raises(SpikeTicketError, match=message):
        plan_of({**GRID, **change})


def test_a_sweep_is_resumed_and_extended(tmp_path):
    plan = plan_of(GRID)
    rows = sweep.run_plan(plan, tmp_path, pool="processes", jobs=2)
    assert calls(tmp_path) == 12 and {r["status"] for r in rows} == {"done"}
    assert "some progress" in next(tmp_path.glob("cells/*.log")).read_text()
    next(tmp_path.glob("cells/*.json")).unlink()  # as if it had been interrupted there
    again = sweep.run_plan(plan, tmp_path, pool="processes", jobs=1)
    assert calls(tmp_path) == 13
    for a, b in zip(rows, again, strict=True):
        assert {**a, "cell_seconds": 0} == {**b, "cell_seconds": 0}
    more = plan_of({**GRID, "seed": [0, 1, 2, 3]})
    assert len(sweep.run_plan(more, tmp_path, pool="processes", jobs=1)) == 16
    assert calls(tmp_path) == 17
    with open(tmp_path / "results.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 16 and table[0]["model"] == "tiny" and "nested" not in table[0]
    assert float(table[0]["accuracy_ticket"]) == rows[0]["accuracy_ticket"]


def test_the_bar_knows_what_running_cells_are_at(tmp_path):
    plan = plan_of(GRID)
    jobs = [(cell, str(tmp_path / cell.id)) for cell in plan.cells[:3]]
    for place, (_, folder) in enumerate(jobs):
        Path(folder).mkdir()
        (Path(folder) / "log.jsonl").write_text("".join(
            json.dumps({"stage": f"round {n}", "epoch": n + place, "loss": 0.5}) + "\n"
            for n in (1, 2)))
    (Path(jobs[1][1]) / "result.json").write_text("{}")             # done
    os.utime(Path(jobs[2][1]) / "log.jsonl", (10, 10))              # of an earlier sweep
    assert progress.running(jobs, plan.axes, 100) == [
        f"{jobs[0][0].text(plan.axes)}: round 2, epoch 2, loss 0.5"]
    assert progress.inside(tmp_path) == ""
    (tmp_path / "log.jsonl").write_text('{"stage": ')
    assert progress.inside(tmp_path) == ""


def test_a_killed_sweep_goes_on(tmp_path):
    config, out = tmp_path / "sweep.yaml", tmp_path / "out"
    config.write_text(yaml.safe_dump({**GRID, "base": {"sleep": 0.3}}))
    command = [sys.executable, "-m", "sw.cli", "find", "sweep", "--config",
               str(config), "--out", str(out),
               "--pool", "processes", "--jobs", "1", "--run", RUN]
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(out.glob("cells/*.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = {p.name: p.stat().st_mtime_ns for p in out.glob("cells/*.json")}
    assert 2 <= len(done) < 12
    rows = sweep.run_plan(read_plan(config), out, pool="processes", jobs=2)
    assert {r["status"] for r in rows} == {"done"}
    assert {n: (out / "cells" / n).stat().st_mtime_ns for n in done} == done  # not run again


def test_workers_end_with_their_sweep(tmp_path):
    """Only the sweep itself is killed, as by `kill PID`: no worker trains on for nobody."""
    config, out = tmp_path / "sweep.yaml", tmp_path / "out"
    config.write_text(yaml.safe_dump({**GRID, "base": {"sleep": 60}}))
    process = subprocess.Popen([sys.executable, "-m", "sw.cli", "find", "sweep", "--config",
                                str(config), "--out",
                                str(out), "--pool", "processes", "--jobs", "2", "--run", RUN],
                               cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while calls(out) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert calls(out) == 2
    process.kill()
    process.wait()
    with pytest.raises(ProcessLookupError):  # its group is empty
        while time.monotonic() < deadline:
            os.killpg(process.pid, 0)
            time.sleep(0.02)
    assert calls(out) == 2


def test_failures_are_lines_and_are_tried_again(tmp_path):
    plan = plan_of({**GRID, "base": {"fails_at": 0.2}})
    rows = sweep.run_plan(plan, tmp_path, pool="processes", jobs=1)
    failed = [r for r in rows if r["status"] == "failed"]
    assert len(failed) == 3 and failed[0]["error"] == "ValueError: too sparse by far"
    assert sum(r["status"] == "done" for r in rows) == 9
    sweep.run_plan(plan, tmp_path, pool="processes", jobs=1)
    assert calls(tmp_path) == 12 + 3


def test_a_killed_worker_is_a_failure(tmp_path):
    plan = plan_of({"run": RUN, "base": {"dies_at": 0.5, "seed": 0},
                       "sweep": {"sparsity": [0.5]}})
    row, = sweep.run_plan(plan, tmp_path, pool="processes", jobs=1)
    assert row["status"] == "failed" and "was killed" in row["error"]


def test_results_that_cannot_be_stored(tmp_path):
    outcome = run_cell("tests.sweep_cells:bad", {}, str(tmp_path / "a"))
    assert "not JSON serializable" in outcome["error"]
    outcome = run_cell("tests.sweep_cells:nothing", {}, str(tmp_path / "a"))
    assert "cannot be imported" in outcome["error"]


def test_ray_gives_the_same_table(tmp_path):
    pytest.importorskip("ray")
    plan = plan_of(GRID)
    one = sweep.run_plan(plan, tmp_path / "a", pool="processes", jobs=1)
    two = sweep.run_plan(plan, tmp_path / "b", pool="ray", jobs=1)
    next(tmp_path.glob("b/cells/*.json")).unlink()  # as if it had been interrupted there
    three = sweep.run_plan(plan, tmp_path / "b", pool="ray", jobs=1)
    assert calls(tmp_path / "a") == 12 and calls(tmp_path / "b") == 13
    for a, b, c in zip(one, two, three, strict=True):
        assert {**a, "cell_seconds": 0} == {**b, "cell_seconds": 0} == {**c, "cell_seconds": 0}


def test_parquet_holds_the_same_table(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{"cell": "a", "status": "done", "mixed": 1}, {"cell": "b", "mixed": "x", "more": 0.5}]
    write_table(tmp_path, rows)
    table = parquet.read_table(tmp_path / "results.parquet").to_pylist()
    assert table[0] == {"cell": "a", "status": "done", "mixed": "1", "more": None}


@pytest.mark.parametrize("how, message", [
    ({"pool": "threads"}, "'threads'"), ({"jobs": 0}, "jobs 0"),
    ({"pool": "processes", "address": "auto"}, "is Ray's")])
def test_bad_pools_are_named(tmp_path, how, message):
    with pytest.raises(SpikeTicketError, match=message):
        sweep.run_plan(plan_of(GRID), tmp_path, **how)


def test_ray_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "has_ray", lambda: False)
    with pytest.raises(SpikeTicketError, match="pip install"):
        sweep.run_plan(plan_of(GRID), tmp_path, pool="ray")


def test_series_average_seeds_and_split_by_the_other_axes():
    rows = [{"sparsity": s, "timesteps": t, "seed": seed, "acc": 1 - s + 0.1 * seed + t,
             "status": "done"} for s in (0.2, 0.5) for t in (1, 2) for seed in (0, 1)]
    lines = sweep_plots.series(rows, "sparsity", ("sparsity", "timesteps", "seed"), "acc")
    assert set(lines) == {"T = 1", "T = 2"}
    x, mean, spread, seeds = lines["T = 1"][0]
    assert (x, seeds) == (0.2, 2) and mean == pytest.approx(1.85)
    assert spread == pytest.approx(0.1 / 2 ** 0.5)
    one_axis = rows[:2] + [{**r, "sparsity": 0.9} for r in rows[:2]]
    assert set(sweep_plots.series(one_axis, "sparsity", ("sparsity", "seed"), "acc")) == {""}
    assert sweep_plots.series(rows[:2], "sparsity", ("seed",), "acc") == {}  # one point: no line


def test_labels_do_not_repeat_themselves():
    """imp's own settings differ wherever the method does, and go unsaid."""
    rows = [{"sparsity": s, "method": m, "rounds": r, "acc": 0.5}
            for s in (0.2, 0.5) for m, r in (("scores", 1), ("imp", 4))]
    lines = sweep_plots.series(rows, "sparsity", ("method", "rounds", "sparsity"), "acc")
    assert set(lines) == {"trained scores", "IMP"}
    rows += [{**row, "rounds": 8} for row in rows[1::2]]
    lines = sweep_plots.series(rows, "sparsity", ("method", "rounds", "sparsity"), "acc")
    assert set(lines) == {"rounds 1", "rounds 4", "rounds 8"}
    rows = [{"patch_sparsity": s, "place": p, "ranking": r, "acc": 0.5} for s in (0.2, 0.5)
            for p, r in (("pixels", "random"), ("tokens", "random"), ("tokens", "spikes"))]
    lines = sweep_plots.series(rows, "patch_sparsity", ("place", "ranking"), "acc")
    assert set(lines) == {"pixels removed, at random", "only tokens removed, at random",
                          "only tokens removed, by spikes"}


def test_plots_of_patches_are_kept_apart(tmp_path):
    rows = [{"sparsity": s, "patch_sparsity": p, "decay": 0.9, "accuracy": 0.5, "status": "done"}
            for s in (0.2, 0.5) for p in (0.0, 0.3)]
    names = [p.name for p in sweep_plots.write_plots(rows, ("sparsity", "patch_sparsity"),
                                                     tmp_path)]
    assert names == ["accuracy-sparsity.svg", "accuracy-sparsity-at-patches.svg",
                     "accuracy-patches.svg"]
    assert "30 % of the patches dropped" in (tmp_path / names[1]).read_text()
    with pytest.raises(SpikeTicketError, match="metric 'loss' is no column"):
        sweep_plots.write_plots(rows, (), tmp_path, "loss")


def test_a_plot_says_what_it_is_of(tmp_path):
    """Data, network, chance and the dense network; words, not keys, in the legend."""
    rows = [{"sparsity": s, "method": "scores", "binary": b, "model": "16p-32p-64",
             "data": "runs/nmnist-all.npz:size=16,fit=resize", "accuracy_ticket": 0.9 - s / 2,
             "status": "done"} for s in (0.5, 0.95) for b in (True, False)]
    rows += [{**rows[0], "method": "dense", "binary": False, "accuracy_ticket": a, "epochs": e}
             for a, e in ((0.923, 9), (0.5, 3))]    # the longest counts
    axes = ("method", "binary", "sparsity")
    [path] = sweep_plots.write_plots(rows, axes, tmp_path)
    text = path.read_text()
    for words in ("N-MNIST at 16x16, 16p-32p-64", "real weights", "chance, 10 %",
                  "dense network, 92.3 %", "connections removed (%)"):
        assert words in text
    assert "binary True" not in text and "accuracy_ticket" not in text
    for row in rows:
        row["accuracy_ticket"] = 0.9
    assert "chance, 10 %, is below the axis" in sweep_plots.write_plots(
        rows, axes, tmp_path)[0].read_text()
    other = [{**row, "data": "my.npz"} for row in rows]
    assert "chance" not in sweep_plots.write_plots(other, axes, tmp_path)[0].read_text()


def test_command(tmp_path, capsys):
    config = tmp_path / "sweep.yaml"
    config.write_text(yaml.safe_dump({**GRID, "seed": [0]}))
    common = ["--config", str(config), "--out", str(tmp_path / "out")]
    assert main(["find", "sweep", *common, "--list"]) == 0
    assert main(["find", "sweep", *common]) == 2  # the file names code to run
    common += ["--run", RUN]
    assert "0 done, 0 failed, 4 to do" in capsys.readouterr().out
    assert main(["find", "sweep", *common, "--json", "--pool", "processes", "--jobs", "1"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert len(printed["rows"]) == 4 and len(printed["plots"]) == 2
    assert main(["find", "sweep", *common, "--plot-only"]) == 0
    assert "4 done" in capsys.readouterr().out
    assert main(["find", "sweep", *common, "--plot-only", "--metric", "loss"]) == 2
    assert "metric 'loss'" in capsys.readouterr().err
    assert main(["find", "sweep", "--config", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml: cannot be read" in capsys.readouterr().err
