"""Seeded bugs: does every checker notice what it is there for?

Each is one wrong line in a copy of the gateware; the proof must fail there, at the claim named.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from sim.mutate import ROOT, changed
from sim.mutations import Mutation
from sw.errors import SpikeTicketError

from .run import Outcome, environment

COPIED = ("hw", "sw", "sim")


@dataclass(frozen=True)
class Bug:
    """A wrong line, the proof that must notice, and how the name of the failed claim begins.

    depth: cycles from reset in which it shows, where the proof's own depth is that of an induction;
    without it, a step of the induction must fail.
    quick: part of the test suite.
    """

    proof: str
    claim: str
    mutation: Mutation
    depth: int | None = None
    quick: bool = False

    @property
    def name(self) -> str:
        return f"{self.proof}: {self.mutation.why}"


def _bug(proof: str, claim: str, file: str, old: str, new: str, why: str, depth: int | None = None,
         quick: bool = False) -> Bug:
    return Bug(proof, claim, Mutation(f"hw/{file}.py", old, new, why), depth, quick)


BUGS = (
    _bug("unit.JobQueue/margin", "job_no_overflow", "unit", "self._depth - self._margin",
         "self._depth - self._margin // 2", "half the margin", 24, quick=True),
    _bug("unit.JobQueue/order", "job_in_order", "unit", "read.addr.eq(read.addr + 1)",
         "read.addr.eq(read.addr + 1 + (level == 7))", "skips a job", 12),
    _bug("unit.JobQueue/order", "offered_while_inside", "unit", "(level > 1)",
         "(level > 2)", "forgets the last but one job", 6),
    _bug("engine.Engine/stops", "stops", "fetch",
         "go.eq(r_valid & ~self.almost_full & ~self.port_blocked)",
         "go.eq(r_valid & ~self.port_blocked)", "issues although a queue is almost full"),
    _bug("fetch.Fetch/queues", "ranges_stop", "fetch", "self.items.ready.eq(~ranges.almost_full)",
         "self.items.ready.eq(1)", "takes items although their queue is almost full"),
    _bug("fetch.Fetch/passes", "idle_means_empty", "fetch", "self.idle.eq(~(r_valid | ",
         "self.idle.eq(~(", "idle with a word left to visit"),
    _bug("passes.HeaderQueue/order", "header_no_overflow", "passes",
         "self.i.ready.eq(level != HEADERS)", "self.i.ready.eq(1)", "takes a fifth header", 10,
         quick=True),
    _bug("passes.Passes/choice", "filled", "passes",
         "filled[e].bit_select(banks[e], 1)", "filled[e].any()", "walks the bank that is not full"),
    _bug("passes.Passes/choice", "two_live", "passes", "& ~in_flight[1]", "",
         "a third pass while two are live"),
    _bug("passes.Passes/choice", "one_of_an_engine", "passes", "(one_group | ~own)", "1",
         "reads membranes before they are stored"),
    _bug("passes.Passes/choice", "row_is_whole", "passes",
         "(~held | (self.engine == e))", "1", "another engine's pass in the middle of a row"),
    _bug("passes.Passes/choice", "in_turn", "passes", "Mux(self.engine, ~may[0], may[1])",
         "~may[0]", "the first engine always goes first"),
    _bug("drain.Drain/claims", "claimed", "drain",
         "port.read.eq(port.claim |", "port.read.eq(port.claim | tag0.valid |",
         "reads the first unit without a claim"),
    _bug("cluster.EngineCluster/words", "done_means_idle", "cluster",
         "engine.idle for engine in engines", "engine.idle for engine in engines[:1]",
         "done while the second engine works"),
    _bug("drain.Drain/stops", "stops", "drain",
         "walker.step.eq(walker.running & ~finished.almost_full)",
         "walker.step.eq(walker.running)", "walks on although the queue is almost full"),
    _bug("unit.AccumulateUnit/lanes", "not_while_drained", "unit",
         "take = head_valid & ~ends & ~self.claim", "take = head_valid & ~ends",
         "adds in a claimed cycle", 8),
    _bug("unit.AccumulateUnit/lanes", "kept", "unit", "self.drain & self.drain_clear",
         "self.drain", "clears what another window still needs"),
    _bug("unit.AccumulateUnit/lanes", "lane", "unit", "(take & ~others.any()) | switch",
         "take | switch", "drops all lanes of a job but one", 8),
    _bug("decoder.BitReader/window", "window", "decoder", "(level + arriving) < depth",
         "(level + arriving) <= depth", "reads ahead too far", 12),
    _bug("decoder.RowDecoder/streams", "item", "decoder", "(item_free | ~code_is_weight)",
         "1", "overwrites an item that waits", 20),
    _bug("decoder.RowDecoder/channels", "channel", "decoder", "with m.If(first_pass):",
         "with m.If(1):", "every pass of a row counts on"),
    _bug("fetch.Fetch/port", "one_of_two", "fetch", "self.request & ~go & ~self.port_blocked",
         "self.request & ~self.port_blocked", "grants the word walk's turn", quick=True),
    _bug("fetch.Fetch/passes", "unit", "fetch", "f.timesteps.eq(p.timesteps)", "f.timesteps.eq(-1)",
         "adds in every timestep"),
    _bug("decoder.RowDecoder/attention", "marker_comes", "decoder",
         "(attended | self.attended) & item_free", "self.attended & item_free",
         "no marker if the last item of a pass waits"),
    _bug("packer.Packer/stream", "o_held", "packer",
         "move.eq(pending & ~out_valid)", "move.eq(pending)",
         "overwrites a word that waits", 14, quick=True),
    _bug("packer.Packer/words", "", "packer",
         "~(next_pending & (move | out_valid)) & (next_fill == 0)", "next_fill == 0",
         "goes on while a finished word cannot leave"),
    _bug("attention.AttentionSource/stops", "stops", "attention",
         "may_read = ~self.stop & (pause == 0)", "may_read = pause == 0",
         "reads on although the queue fills", quick=True),
    _bug("attention.AttentionSource/room", "sum_no_overflow", "attention", "QUEUE, FULL = 16, 7",
         "QUEUE, FULL = 16, 8", "a place too few", 24, quick=True),
    _bug("attention.AttentionSource/pass", "once", "attention", "others.eq(left & ~alike)",
         "others.eq(left & ~lowest)", "repeats equal timesteps"),
    _bug("gate.TopK/keeps", "keeps", "gate", "reaches & (~equals | missing.any())", "reaches",
         "keeps all ties"),
    _bug("gate.TopK/keeps", "", "gate", "inside & Mux(host", "Mux(host",
         "keeps positions that are no tokens"),
    _bug("core.WriteArbiter/service", "one_at_a_time", "core",
         "self.ready.eq(Mux(any_valid, 1 << choice, 0))", "self.ready.eq(self.valid)",
         "takes all words and writes one", 6, quick=True),
    _bug("core.WriteArbiter/service", "engine", "core", "m.d.sync += last.eq(choice)",
         "m.d.sync += last.eq(0)", "serves the same engine over and over", 12),
    _bug("framing.CobsEncoder/roundtrip", "frames_are_whole", "framing",
         "code.eq(code + run + 1), run.eq(0)", "code.eq(code + run + 1)",
         "starts a block with the length of the one before"),
    _bug("framing.FrameReceiver/frames", "", "framing",
         "room.eq(used + words + 2 < self._depth)", "room.eq(used + words < self._depth)",
         "sees room where there is none"),
    _bug("framing.FrameReceiver/resync", "same", "framing",
         "m.d.sync += [left.eq(0), implied.eq(0)]", "m.d.sync += implied.eq(0)",
         "goes on counting a block of before the zero", quick=True),
    _bug("framing.FrameSender/bytes", "bytes_held", "framing",
         "(left != 0) & (quiet | cobs.i.ready)", "left != 0", "goes on when a byte was not taken"),
    _bug("commands.Commands/stream", "replies_held", "commands",
         "self.replies.payload.last.eq(last_word)",
         "self.replies.payload.last.eq(void)", "changes its mind about the end", 24),
    _bug("commands.Commands/ends", "", "commands", "left.eq(left - 1), next_address()",
         "next_address()", "a digest never ends"),
    _bug("commands.Commands/epoch", "advances", "commands", "with m.If(chained):", "with m.If(1):",
         "the epoch counts what was not done too", 24),
    _bug("commands.Commands/epoch", "writes_are_chained", "commands",
         "chained.eq(~header.sync | header.write | header.run)", "chained.eq(~header.sync)",
         "a sync that writes does not advance the epoch", 24),
    _bug("uart.UartSender/line", "not_taken_early", "uart", "(1 << 8)), left.eq(10)",
         "(1 << 8)), left.eq(9)",
         "no stop bit", 60),
    _bug("uart.UartReceiver/resync", "waits", "uart",
         "time.eq(time - FRACTION + self.divisor), left.eq(left - 1)]",
         "time.eq(time - FRACTION + self.divisor), left.eq(left - (left != 1))]",
         "a byte never ends", 60),
)


def judge(bug: Bug, folder: Path) -> Outcome:
    """Run the bug's proof on a broken copy of the sources in `folder`."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=folder) as name:
        tree = Path(name)
        for part in COPIED:
            shutil.copytree(ROOT / part, tree / part,
                            ignore=shutil.ignore_patterns("__pycache__"))
        (tree / bug.mutation.file).write_text(changed(bug.mutation, ROOT))
        command = [sys.executable, "-m", "sw.cli", "check", "proofs", "--json", "--jobs", "1",
                   "--only", bug.proof]
        if bug.depth:
            command += ["--depth", str(bug.depth)]
        run = subprocess.run(
            command, cwd=tree, capture_output=True, text=True,
            env=os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1",
                              "SPIKETICKET_CACHE": str(tree / "cache")})
    if run.returncode == 2 or not run.stdout.startswith("["):
        lines = run.stderr.strip().splitlines() or ["?"]
        verdict, how, result = "error", lines[-1], {}
    else:
        result = json.loads(run.stdout)[0]
        verdict, how = result["verdict"], result["how"]
        if verdict in ("failed", "unknown"):
            # Some show only after many cycles, but at once in the step of an induction.
            claim = how.split(": ")[-1]
            verdict = "caught" if claim.startswith(bug.claim) else "elsewhere"
        elif verdict in ("proved", "holds"):
            verdict = "survived"
    return Outcome(bug.name, verdict, result.get("depth", 0), result.get("claims", 0),
                   round(time.monotonic() - began, 1), how)


def check(bugs: Sequence[Bug], *, jobs: int = 1,
          report: Callable[[Outcome], None] = lambda outcome: None) -> list[Outcome]:
    """Verdict "caught" for each bug, or "survived", "elsewhere" (another claim failed) or "error".

    Raises SpikeTicketError if the tools are missing or a bug's text is no longer there.
    """
    for bug in bugs:
        try:
            changed(bug.mutation, ROOT)
        except SpikeTicketError as error:
            raise SpikeTicketError(str(error).replace("sim/mutations.py", "sim/formal/bugs.py")
                                   ) from None
    with tempfile.TemporaryDirectory(prefix="spiketicket-formal-") as name:
        folder = Path(name)
        environment(folder)
        with ThreadPoolExecutor(jobs) as pool:
            def one(bug: Bug) -> Outcome:
                outcome = judge(bug, folder)
                report(outcome)
                return outcome
            return list(pool.map(one, bugs))
