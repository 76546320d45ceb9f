"""The mutation check itself: its list is up to date, and it tells caught from survived."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from sim import mutate, regression
from sim.mutations import MUTATIONS, Mutation
from sw.cli.app import main
from sw.errors import SpikeTicketError

QUICK = ("fires only above the threshold", "Rice skip", "mask bit 0", "towards zero")
"""One mutation for each of these, in gateware; the rest is for `make mutation`."""


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.why.replace(" ", "_"))
def test_applies_exactly_once(mutation):
    assert mutation.new in mutate.changed(mutation, mutate.ROOT)


def test_list_covers_every_part():
    files = {mutation.file for mutation in MUTATIONS}
    assert len(MUTATIONS) >= 20
    assert {f"hw/{name}.py" for name in ("neuron", "unit", "fetch", "decoder", "drain", "outputs",
                                         "packer", "core", "sequencer")} <= files
    assert any(file.startswith("sw/compile/") for file in files)
    assert {"sw/integer/reference.py", "sw/core/machine_kernel.py"} <= files
    assert len({(m.file, m.old, m.new) for m in MUTATIONS}) == len(MUTATIONS)


def test_outdated_mutation_is_named():
    outdated = Mutation("hw/neuron.py", "no such text", "", "outdated")
    with pytest.raises(SpikeTicketError, match=r"'outdated': 'no such text' occurs 0 times in hw/"):
        mutate.changed(outdated, mutate.ROOT)
    idle = replace(outdated, old="fire = ~above[-1]", new="fire = ~above[-1]")
    with pytest.raises(SpikeTicketError, match="occurs 1 times"):
        mutate.changed(idle, mutate.ROOT)


def test_regression_has_every_feature():
    found = set().union(*(regression.features(regression.make_case(seed))
                          for seed in regression.SEEDS))
    assert regression.FEATURES <= found, sorted(regression.FEATURES - found)


def test_verdicts(monkeypatch):
    chosen = [next(m for m in MUTATIONS if name in m.why and m.file.startswith("hw/"))
              for name in QUICK]
    chosen.append(next(m for m in MUTATIONS if m.file == "sw/integer/reference.py"))
    chosen.append(next(m for m in MUTATIONS if m.file == "sw/compile/rice.py"))
    harmless = Mutation("sw/integer/reference.py", "Plain numpy.", "Plain NumPy.", "a comment")
    broken = Mutation("hw/neuron.py", "m = Module()", "m = Modul()", "does not run")
    monkeypatch.setattr(mutate, "MUTATIONS", (*chosen, harmless, broken))
    outcomes = mutate.run(range(len(chosen) + 2), 2, progress=False)
    verdicts = [outcome.verdict for outcome in outcomes]
    assert verdicts == ["caught"] * len(chosen) + ["survived", "invalid"], mutate.table(outcomes)
    assert "network" in outcomes[0].how
    assert "1 survived, 1 invalid" in mutate.table(outcomes)


def test_command_line(capsys, monkeypatch):
    assert main(["check", "mutations", "--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(MUTATIONS)
    assert main(["check", "mutations", "--only", "9999"]) == 2
    assert "--only 9999 is outside 0.." in capsys.readouterr().err
    assert main(["check", "mutations", "--jobs", "0"]) == 2
    assert "--jobs 0 is below 1" in capsys.readouterr().err

    def pretend(numbers, jobs, progress):
        return [mutate.Outcome(n, "f", "w", "survived" if n else "caught", "", 1.0)
                for n in numbers]

    monkeypatch.setattr(mutate, "run", pretend)
    assert main(["check", "mutations", "--only", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["verdict"] == "caught"
    assert main(["check", "mutations", "--only", "0", "1"]) == 1
    assert "1 caught, 1 survived, 0 invalid" in capsys.readouterr().out
