"""The results page: stored tables, fields of its template, and that it is up to date."""

import json
import shutil
from pathlib import Path

import pytest

from sw import sweep
from sw.cli.app import main
from sw.errors import SpikeTicketError
from sw.plots.front import draw
from sw.results import compare, front, page, run, tables, tickets
from sw.sweeps.plan import read_plan
from sw.tickets.config import RunConfig

DOCS = Path(__file__).parents[1] / "docs"

pytestmark = pytest.mark.usefixtures("one_thread")

PLAN = """\
base: {model: 4p-6, data: PACK, timesteps: 2, epochs: 1, rewind_epoch: 0, epochs_round: 1,
       epochs_final: 1, epochs_integer: 0, batch_size: 16, prune_rate: 0.5}
sweep:
  - {method: scores, binary: true, sparsity: [0.5, 0.9]}
  - {method: imp, sparsity: 0.75, early_time: true}
seed: [0, 1]
"""
TEMPLATE = """\
{{setup tiny}}
{{mean tiny method=scores sparsity=0.5}} {{mean tiny method=none}}
{{gap tiny method=scores sparsity=0.5 : method=scores sparsity=0.5}}
{{value tiny sparsity_mask method=imp seed=1}} {{median_seconds tiny}}
{{sweep tiny sparsity}}
{{analysis tiny}}
"""


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    """A sweep of two small searches, run and stored."""
    import numpy as np

    from .test_tickets_run import TEST, TRAIN
    root = tmp_path_factory.mktemp("results")
    np.savez(root / "stripes.npz", x_train=TRAIN.images, y_train=TRAIN.labels, x_test=TEST.images,
             y_test=TEST.labels)
    docs = root / "docs"
    for folder in ("sweeps", "results", "img"):
        (docs / folder).mkdir(parents=True)
    (docs / "sweeps" / "tiny.yaml").write_text(PLAN.replace("PACK", str(root / "stripes.npz")))
    (docs / "results" / "template.md").write_text(TEMPLATE)
    (docs / "results" / "tickets.yaml").write_text(
        "tiny: {a: method=scores sparsity=0.5 seed=0, b: method=imp seed=0}\n")
    rows = sweep.run_plan(read_plan(docs / "sweeps" / "tiny.yaml"), root / "runs" / "tiny",
                          pool="processes", jobs=1)
    assert {row["status"] for row in rows} == {"done"}
    assert main(["look", "results", "--docs", str(docs), "--collect", str(root / "runs")]) == 0
    return docs, rows


def test_the_tables_are_the_sweep_s(collected):
    docs, rows = collected
    held = tables.read(docs / "results" / "tiny.csv")
    assert [row["cell"] for row in held] == [row["cell"] for row in rows]
    for row, original in zip(held, rows, strict=True):
        assert row["accuracy_ticket"] == pytest.approx(original["accuracy_ticket"], abs=1e-5)
        assert row["weights"] == 4 * 9 + 6 * 4 * 9 + 2 * 6 and row["seed"] == original["seed"]
        assert row["binary"] is (original["method"] == "scores")
    assert "device" not in held[0] and "lr" not in held[0]  # defaults in every cell
    rounds = tables.read(docs / "results" / "tiny-rounds.csv")
    assert [row["stage"] for row in rounds] == ["dense", "round 1", "round 2"] * 2
    assert [row["sparsity"] for row in rounds[:3]] == pytest.approx([0, 0.5, 0.75], abs=0.01)
    last = tables.matching(rows, {"method": "imp", "seed": "0"})
    accuracies = json.loads((docs.parent / "runs" / "tiny" / "cells" / last[0]["cell"] /
                             "result.json").read_text())
    assert rounds[2]["accuracy"] == accuracies["validation_accuracy"]["round 2"]
    assert rounds[1]["timesteps"] == last[0]["timesteps_search"] and rounds[2]["timesteps"] == 2


def test_the_page(collected, capsys):
    docs, rows = collected
    text = (docs / "results.md").read_text()
    lines = text.splitlines()
    assert lines[0] == "`4p-6`, 264 weights; stripes.npz, 86 training and 40 test samples"
    mean = sum(row["accuracy_ticket"] for row in rows[:2]) / 2
    assert lines[1].startswith(f"{100 * mean:.1f} ± ") and lines[1].endswith(" not run")
    assert lines[2] == "0.0" and lines[3].split()[0] == f"{100 * rows[-1]['sparsity_mask']:.2f}"
    assert lines[4] == "| connections removed | 50 % | 90 % |"
    assert "| a and b | " in text and "| convs.0.node | convs.1.node | readout |" in text
    assert (docs / "img" / "results-tiny-accuracy-sparsity.svg").exists()
    assert (docs / "img" / "results-tiny-overlap.svg").exists()
    capsys.readouterr()
    assert main(["look", "results", "--docs", str(docs), "--check"]) == 0
    (docs / "results.md").write_text(text.replace("0.0", "0.1"))
    assert main(["look", "results", "--docs", str(docs), "--check"]) == 1
    assert "is not what the tables give" in capsys.readouterr().out
    assert main(["look", "results", "--docs", str(docs)]) == 0
    assert (docs / "results.md").read_text() == text


@pytest.mark.parametrize("field, message", [
    ("nonsense", "'nonsense' is unknown"), ("mean none", r"none\.csv: cannot be read"),
    ("mean tiny x", "field 'mean tiny x'"), ("gap tiny a=b", "field 'gap tiny a=b'"),
    ("value tiny accuracy_ticket method=scores", "field 'value tiny"),
    ("value tiny x method=imp seed=0", "field 'value tiny x"), ("setup", "field 'setup'"),
    ("analysis none", r"none\.json: cannot be read")])
def test_bad_fields_are_named(collected, field, message):
    docs, _ = collected
    with pytest.raises(SpikeTicketError, match=message):
        page.Page(docs / "results", docs / "sweeps").render(f"{{{{{field}}}}}")


def test_a_cell_shows_the_longest_tickets_and_dense_networks_as_long(tmp_path):
    """Of runs that had a validation part."""
    shutil.copy(DOCS / "results" / "paper.csv", tmp_path)
    head = ("cell,method,model,data,seed,timesteps,decay,sparsity,binary,learn_norms,weights,"
            "accuracy_ticket,accuracy_validation,images_train,epochs_trained\n")
    row = "scores,8p-9,cifar10,0,4,0.99,0.5,True"
    (tmp_path / "cifar10-small.csv").write_text(
        f"{head}1,{row},True,99,0.5,0.5,10,5\n2,{row},True,99,0.75,0.5,10,15\n"
        f"3,{row},False,99,0.25,0.5,10,20\n4,{row},True,99,0.95,,10,90\n" + "".join(
            f"{n + 4},dense,8p-9,cifar10,0,4,0.99,0.5,False,True,99,{a},0.5,10,{n}\n"
            for n, a in ((5, 0.3), (16, 0.8), (40, 0.9))))
    for name in ("fmnist-cnn", "nmnist-cnn"):
        (tmp_path / f"{name}.csv").write_text(head)
    lines = page.Page(tmp_path, DOCS / "sweeps").render("{{table1}}").splitlines()
    cells = {row: dict(zip(lines[0].split(" | ")[1:], rest, strict=True))
             for row, *rest in (line.strip("| ").split(" | ") for line in lines[2:14])
             if row.startswith("**ours**")}
    assert cells["**ours**, CIFAR-10"]["BinWSNN-ConnS |"] == "**75.0**"
    assert cells["**ours**, CIFAR-10"]["SNN-ConnS"] == "not run"
    assert cells["**ours**, CIFAR-10"]["SNN dense"] == "**80.0**"
    assert lines[-1] == ("* `8p-9`, 99 weights, CIFAR-10 (JPEG q75), 10 samples, 1 seed; epochs: "
                         "SNN dense 16, BinWSNN-ConnS 15")
    assert all(len(cell) < 30 for line in lines if "|" in line for cell in line.split("|"))


def test_rounds_beside_the_paper_s_are_means_of_the_seeds(tmp_path):
    shutil.copy(DOCS / "results" / "paper.csv", tmp_path)
    (tmp_path / "cifar10.csv").write_text(
        "cell,method,seed,early_time\na,imp,0,False\nb,imp,1,False\nc,imp,0,True\n")
    (tmp_path / "cifar10-rounds.csv").write_text(
        "cell,stage,sparsity,accuracy\nc,dense,0,0.9\n"
        "a,dense,0,0.5\na,round 1,0.684,0.4\nb,dense,0,0.52\nb,round 1,0.684,0.44\n")
    lines = page.Page(tmp_path, DOCS / "sweeps").render("{{imp}}").splitlines()
    assert lines[2].endswith("| 0.0 % | **51.0 ± 1.4** |") and lines[2].startswith("| dense |")
    assert lines[3].startswith("| 68.3 % |") and lines[3].endswith("| 68.4 % | **42.0 ± 2.8** |")
    assert lines[-1].startswith("| 98.1 % |") and lines[-1].endswith("|  | not run |")
    assert len({line.count("|") for line in lines}) == 1


def _compared(folder: Path, text: str) -> str:
    (folder / "compared.yaml").write_text(text)
    (folder / "f.csv").write_text(
        "cell,method,seed,accuracy_ticket,sparsity_mask,epochs_ticket,epochs_trained\n"
        "1,dense,0,0.5,0,8,8\n2,dense,1,0.7,0,8,8\n3,scores,1,0.69,0.5,8,9\n"
        "4,scores,0,0.51,0.5,8,9\n5,scores,2,0.99,0.5,8,9\n6,imp,0,0.4,0.9,3,20\n")
    return page.Page(folder, folder).render("{{compare f}}")


def test_a_ticket_is_set_against_its_control_seed_by_seed(tmp_path):
    lines = _compared(tmp_path, """\
f:
  dense: method=dense
  ticket: method=scores | dense
  pruned: method=imp | ticket, dense
  none: method=obs | dense
""").splitlines()
    assert lines[2] == "| dense | 0.0 % | 8, 8 | 2 | 60.0 ± 14.1 |  |"
    assert lines[3] == "| ticket | 50.0 % | 8, 9 | 3 | 73.0 ± 24.2 | dense: **+0.0 ± 1.4** |"
    assert lines[4].endswith("| 3, 20 | 1 | 40.0 | ticket: **-11.0**; dense: **-10.0** |")
    assert lines[5] == "| none | | | 0 | not run | |"


@pytest.mark.parametrize("text, message", [
    ("f: {a: method=dense | b}", "'a' is set against 'b', which is no row"),
    ("f: [1]", "f must be labels with settings"), ("g: {a: seed=0}", "field 'compare f'"),
    ("f: {a: x=1}", None), ("f: {a: ''}", "are several cells of a seed")])
def test_bad_comparisons_are_named(tmp_path, text, message):
    if message is None:
        assert "not run" in _compared(tmp_path, text)
        return
    with pytest.raises(SpikeTicketError, match=message):
        _compared(tmp_path, text)


def test_the_committed_comparisons_are_of_sweeps_that_are_kept():
    for name, entries in compare.read(DOCS / "results" / "compared.yaml").items():
        cells = [cell.settings for cell in read_plan(DOCS / "sweeps" / f"{name}.yaml").cells]
        for label, entry in entries.items():
            pairs = dict(part.split("=", 1) for part in entry.conditions.split())
            found = tables.matching(cells, pairs)
            assert found and len({c["seed"] for c in found}) == len(found), (name, label)


def test_what_is_missing_is_named(collected, tmp_path, capsys):
    docs, _ = collected
    assert main(["look", "results", "--docs", str(tmp_path)]) == 2
    assert "template.md: missing" in capsys.readouterr().err
    assert main(["look", "results", "--docs", str(docs), "--collect", str(tmp_path)]) == 2
    assert "no finished cell" in capsys.readouterr().err
    copy = tmp_path / "docs"
    shutil.copytree(docs, copy)
    (copy / "results" / "tickets.yaml").write_text("tiny: {a: method=scores}")
    assert main(["look", "results", "--docs", str(copy), "--collect",
                 str(docs.parent / "runs")]) == 2
    assert "'method=scores' are 4 finished cells, not one" in capsys.readouterr().err
    (copy / "results" / "tickets.yaml").write_text("tiny: [1]")
    with pytest.raises(SpikeTicketError, match="tiny must be labels with settings"):
        tickets.read_choice(copy / "results" / "tickets.yaml")


def test_the_papers_tables_are_whole():
    rows = tables.read(DOCS / "results" / "paper.csv")
    counts = {source: sum(row["source"] == source for row in rows)
              for source in ("table1", "table2", "imp")}
    assert counts == {"table1": 4 * 4 * 2, "table2": 3 * 4 * 2, "imp": 3 * 4}
    assert all(50 < row["value"] < 100 for row in rows)


def test_the_committed_page_is_what_its_tables_give():
    assert (DOCS / "results.md").read_text() == run.page(DOCS)


@pytest.mark.parametrize("path", sorted((DOCS / "sweeps").glob("*.yaml")), ids=lambda p: p.stem)
def test_the_committed_sweeps_are_plans_of_their_tables(path):
    plan = read_plan(path)
    stored = DOCS / "results" / f"{path.stem}.csv"
    assert plan.cells and all(cell.settings.keys() == RunConfig().__dict__.keys()
                              for cell in plan.cells)
    if stored.exists():
        assert {row["cell"] for row in tables.read(stored)} <= {cell.id for cell in plan.cells}
        assert f"docs/sweeps/{path.name}" in path.read_text()


def test_stored_analyses_are_of_chosen_tickets():
    for name, labels in tickets.read_choice(DOCS / "results" / "tickets.yaml").items():
        path = DOCS / "results" / f"{name}.json"
        if path.exists():
            assert set(json.loads(path.read_text())["tickets"]) <= set(labels)


def _front(folder: Path, rows: list[tuple]) -> None:
    """Tables of a sweep with one cell a (cost, seed)."""
    cells = list(dict.fromkeys((cost, seed) for cost, seed, *_ in rows))
    (folder / "f.csv").write_text(
        "cell,cost,seed,cycles,accuracy_ticket,accuracy_integer\n" + "".join(
            f"{i},{cost},{seed},1000,0.5,0.25\n" for i, (cost, seed) in enumerate(cells)))
    (folder / "f-rounds.csv").write_text("cell,stage,sparsity,accuracy,cycles\n" + "".join(
        f"{cells.index((cost, seed))},{stage},{removed},{accuracy},{cycles}\n"
        for cost, seed, stage, removed, accuracy, cycles in rows))


def test_a_front_sets_rounds_of_about_equal_accuracy_side_by_side(tmp_path):
    """Half a point below is near enough, 0.6 points are not; of the near ones the cheapest. What
    pruning by magnitude has cheaper itself is no row."""
    _front(tmp_path, [
        ("weights", 0, "dense", 0, 0.9, 9000), ("weights", 0, "round 1", 0.5, 0.81, 6000),
        ("weights", 1, "round 1", 0.5, 0.79, 4000), ("weights", 0, "round 2", 0.9, 0.95, ""),
        ("weights", 0, "round 3", 0.95, 0.9, 9000), ("weights", 0, "round 4", 0.97, 0.804, 5100),
        ("cycles", 0, "round 1", 0.2, 0.796, 2000), ("cycles", 0, "round 2", 0.3, 0.794, 1000),
        ("cycles", 0, "round 3", 0.4, 0.85, 2500)])
    found = front.points(tmp_path, "f")
    assert [(p.cost, p.stage) for p in found] == [
        ("weights", "round 1"), ("weights", "round 3"), ("weights", "round 4"),
        ("cycles", "round 1"), ("cycles", "round 2"), ("cycles", "round 3")]
    assert found[0].mean == pytest.approx((5000, 0.8))
    lines = front.markdown(tmp_path, "f").splitlines()
    assert lines[2] == ("| 50.0 % | 80.0 ± 1.4 | 5,000 | 20.0 % | 79.6 | 2,000 | **2.50** |")
    assert lines[3] == "| 95.0 % | 90.0 | 9,000 | none |  |  |  |"
    assert lines[4] == ""
    assert "| by cycles | 1,000 | 50.0 | 25.0 |" in lines
    assert front.markdown(tmp_path, "none") == "(not run yet)"


def test_a_front_is_drawn(tmp_path):
    _front(tmp_path, [("weights", 0, "round 1", 0.5, 0.8, 5000),
                      ("cycles", 0, "round 1", 0.5, 0.8, 2500)])
    text = draw(front.points(tmp_path, "f"), "stripes, 4p-6", tmp_path / "f.svg").read_text()
    assert "pruned by magnitude" in text and "stripes, 4p-6" in text and "1 seed" in text
