"""The proofs of `sim.formal`: the quick ones hold, and each kind of checker notices a seeded bug.

All of them: `make formal`.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import shutil

import pytest
from amaranth import Module, Signal
from amaranth.lib import stream, wiring

import hw
from hw.config import PRESETS
from sim.formal import bugs, load, run, verdicts
from sim.formal.harness import Bench, Inner, Proof
from sim.mutate import ROOT, changed
from sw.cli.app import main
from sw.errors import SpikeTicketError

needs_tools = pytest.mark.skipif(bool(run.missing()), reason=run.missing() or "tools are there")
PROOFS = load()


@needs_tools
@pytest.mark.parametrize("name", [p.name for p in PROOFS.values() if p.quick])
def test_quick_proof(name):
    outcome, = run.run([PROOFS[name]], covers=False)
    assert outcome.passed, verdicts.table([outcome])


@needs_tools
@pytest.mark.parametrize("bug", [b for b in bugs.BUGS if b.quick], ids=lambda b: b.name)
def test_seeded_bug_is_caught(bug):
    outcome, = bugs.check([bug])
    assert outcome.verdict == "caught", verdicts.table([outcome])


@pytest.mark.parametrize("bug", bugs.BUGS, ids=lambda b: b.name)
def test_bug_applies_exactly_once(bug):
    assert bug.mutation.new in changed(bug.mutation, ROOT)
    assert bug.proof in PROOFS


@pytest.mark.parametrize("proof", PROOFS.values(), ids=lambda p: p.name)
def test_proof_fits_the_gateware(proof):
    bench = proof.bench()
    assert bench.claims and proof.scope
    assert bench.rtlil().count("cell $check") >= len(bench.claims)


def components_with_streams() -> set[str]:
    """Names, as module.Class, of the gateware's components that have a stream port."""
    arguments = {"shape": 8, "depth": 16, "width": 32, "config": PRESETS["tiny"],
                 "divisor": 100, "min_words": 2, "max_words": 4, "address_bits": 4,
                 "slices": 2, "engines": 2, "parallel": 2}
    found = set()
    for module in pkgutil.iter_modules(hw.__path__):
        if module.ispkg:
            continue
        for name, kind in inspect.getmembers(importlib.import_module(f"hw.{module.name}"),
                                             inspect.isclass):
            if kind.__module__ != f"hw.{module.name}" or not issubclass(kind, wiring.Component):
                continue
            parameters = inspect.signature(kind).parameters.values()
            given = {p.name: arguments[p.name] for p in parameters
                     if p.name in arguments and p.default is p.empty}
            missing = [p.name for p in parameters if p.default is p.empty and p.name not in given]
            assert not missing, f"{module.name}.{name} needs {missing}: say here what to give it"
            component = kind(**given)
            component._MustUse__silence = True
            if any(member.is_signature and isinstance(member.signature, stream.Signature)
                   for member in component.signature.members.values()):
                found.add(f"{module.name}.{name}")
    return found


def test_every_stream_has_a_proof():
    units = {name.split("/")[0] for name in PROOFS}
    assert components_with_streams() - units == set()


class Counter(wiring.Component):
    """Counts to 5 and stays."""

    def __init__(self):
        super().__init__({"o": wiring.Out(4)})

    def elaborate(self, platform):
        m = Module()
        value = Signal(4)
        m.d.sync += value.eq(value + (value != 5))
        m.d.comb += self.o.eq(value)
        return m


def _below_four(f: Bench):
    """Wrong from cycle 4 on."""
    f.claim("below_four", f.place("counter", Counter()).o < 4)


def _not_nine(f: Bench):
    """Right, but not in two steps of induction: 9 follows 8."""
    f.claim("not_nine", f.place("counter", Counter()).o != 9)


def _never_six(f: Bench):
    """Right, and about something that cannot happen."""
    counter = f.place("counter", Counter())
    f.claim("fine", counter.o != 9)
    f.cover("six", counter.o == 6)


@needs_tools
def test_verdicts():
    def proof(build, depth, induction=False):
        return Proof(build.__name__, build, depth, induction, depth, "", False)

    wrong, short, right, vacuous = (
        run.run([p])[0] for p in (proof(_below_four, 8), proof(_below_four, 4),
                                  proof(_not_nine, 2, True), proof(_never_six, 8)))
    assert (wrong.verdict, wrong.how) == ("failed", "below_four in cycle 4")
    assert wrong.trace.endswith("trace.vcd") and not wrong.passed
    assert short.verdict == "holds"
    assert right.verdict == "unknown" and "not_nine" in right.how
    assert (vacuous.verdict, vacuous.how) == ("unreached", "six")


@needs_tools
def test_what_does_not_end_is_told_so(monkeypatch):
    monkeypatch.setattr(run, "LIMIT", 1)
    [late] = run.run([Proof("late", _not_nine, 100_000, False, 1, "", False)])
    assert late.verdict == "error" and late.how.startswith("no end within 1 s;")


def test_bench_refuses_wrong_names():
    bench = Bench()
    bench.free("a")
    for name in ("a", "A", "1a", "a b"):
        with pytest.raises(ValueError, match="is not a new name"):
            bench.free(name)
    with pytest.raises(SpikeTicketError, match=r"'gone' inside JobQueue.*bring the unit's proof"):
        Inner("JobQueue")["gone"]


def test_command_line(capsys, monkeypatch):
    assert main(["check", "proofs", "--list"]) == 0
    text = capsys.readouterr().out
    assert all(f"{name}  [" in text for name in PROOFS)
    assert main(["check", "proofs", "--list", "--json", "--only", "JobQueue"]) == 0
    assert [p["name"] for p in json.loads(capsys.readouterr().out)] == [
        "unit.JobQueue/order", "unit.JobQueue/margin"]
    for arguments, message in ((["--only", "JobQuee"], "did you mean JobQueue"),
                               (["--depth", "0"], "--depth 0 is outside"),
                               (["--jobs", "0"], "--jobs 0 is below 1")):
        assert main(["check", "proofs", *arguments]) == 2
        assert message in capsys.readouterr().err

    def pretend(proofs, *, jobs, depth, report):
        results = [run.Outcome(p.name, "failed" if i else "proved", 3, 2, 1.0, "claim in cycle 2")
                   for i, p in enumerate(proofs)]
        for result in results:
            report(result)
        return results

    monkeypatch.setattr(verdicts, "run", pretend)
    assert main(["check", "proofs", "--only", "JobQueue/order", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["verdict"] == "proved"
    assert main(["check", "proofs", "--only", "JobQueue"]) == 1
    assert "1 failed, 1 proved; 4 claims, 2 s" in capsys.readouterr().out


def test_missing_tools_are_named(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(run.util, "find_spec", lambda name: None)
    assert main(["check", "proofs", "--only", "JobQueue/order"]) == 2
    assert "pip install -e '.[formal]'" in capsys.readouterr().err
    monkeypatch.undo()
    if not run.missing():
        monkeypatch.setattr(run.sys, "executable", str(tmp_path / "python"))
        monkeypatch.setattr(shutil, "which", lambda tool: None)
        assert main(["check", "proofs", "--only", "JobQueue/order"]) == 2
        assert "yowasp-sby is not beside" in capsys.readouterr().err
