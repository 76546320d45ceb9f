"""`spiketicket check`. Checks whose choices need the simulator are in `check_faults` and
`check_files`, so that help on the others is quick."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from hw.boards import BOARDS
from hw.config import PRESETS

from .. import bundled
from ..errors import BadInput
from .app import verb
from .options import (
    Data,
    Jobs,
    Json,
    Listing,
    Seed,
    Ticket,
    flag,
    number,
    one_of,
    out_folder,
    put,
)

TWO = min(2, os.cpu_count() or 1)

app = verb("check")
app.command("sw.cli.check_faults:faults", name="faults",
            help="Faults in line, board and host: no wrong result may pass for right.")
app.command("sw.cli.check_files:files", name="files",
            help="Broken and hostile files for every loader.")


@app.command
def regression(*, software: Annotated[bool, flag("without the gateware")] = False,
               cases: Annotated[Path | None, out_folder(
                   "where to write the cases (default: a temporary folder)")] = None,
               gateware: Annotated[Path | None, Parameter(
                   help="only the gateware, on cases written to this folder before")] = None,
               choose: Annotated[int | None, number(
                   "only print seeds below this, of both kinds, that have every feature: after a "
                   "change of the networks' generator", 1)] = None) -> None:
    """Few small networks with every feature: reference = software core = gateware (in Icarus).

    Stops at the first difference. Exit code 0: all equal; 1: a difference, which
    is named.
    """
    from sim import regression
    if choose:
        print(regression.choose_of_both(choose))
    else:
        regression.run(software=software, cases=cases, gateware=gateware)


@app.command
def frames(*, minutes: Annotated[float, number("how long", 1e-6)] = 1, seed: Seed = 1,
           replay: Annotated[str | None, Parameter(
               help="only send these bytes, in hexadecimal")] = None,
           json: Json = False) -> int:
    """Random and mutated frames for the board's parser, guided by the lines they reach.

    Every input is a few frames, whole, damaged or none at all. The board must
    answer each as a model says, within the cycles it says, and be in step after
    one zero. Exit code 0 as it should be, 1 it was not.

    examples:
      spiketicket check frames                      # a minute
      spiketicket check frames --minutes 10 --seed 3 --json
      spiketicket check frames --replay 0512ab00  # bytes that it complained about
    """
    from sim import parser_fuzz
    if replay is None:
        found = parser_fuzz.fuzz(seconds=60 * minutes, seed=seed)
    else:
        try:
            data = bytes.fromhex(replay)
        except ValueError:
            raise BadInput("--replay takes bytes in hexadecimal, two digits each") from None
        found = parser_fuzz.replay(data)
    put(found.as_dict(), json, lambda _: print(parser_fuzz.summary(found)))
    return int(bool(found.fault))


@app.command
def proofs(*, only: Annotated[list[str] | None, Parameter(
               help="proofs whose names contain one of these (--list)",
               consume_multiple=True)] = None,
           quick: Annotated[bool, flag("the subset of the test suite")] = False,
           depth: Annotated[int | None, number(
               "search so many cycles from reset, without induction", 1, 1000)] = None,
           bugs: Annotated[bool, flag(
               "break copies of the gateware instead, one seeded bug each")] = False,
           jobs: Jobs = TWO, listing: Listing = False, json: Json = False) -> int:
    """Prove the stream rules of the gateware's queues, streams and arbiter.

    examples:
      spiketicket check proofs                                  everything
      spiketicket check proofs --only unit.JobQueue drain
      spiketicket check proofs --only packer.Packer/words --depth 40
      spiketicket check proofs --bugs                 does every checker notice its seeded bug?

    Exit code 0: everything is proved (or every bug caught), 1 not everything, 2
    bad arguments, missing tools or a proof that no longer fits the gateware.
    """
    from sim.formal import verdicts
    if listing:
        put(verdicts.listed(verdicts.select(only, quick)), json, verdicts.show_list)
        return 0
    outcomes = verdicts.check(only, quick=quick, depth=depth, bugs=bugs, jobs=jobs)
    put([asdict(one) for one in outcomes], json, lambda _: print(verdicts.table(outcomes)))
    return int(not all(outcome.passed for outcome in outcomes))


@app.command
def mutations(*, only: Annotated[list[int] | None, Parameter(
                  help="only these numbers (--list)", consume_multiple=True)] = None,
              jobs: Jobs = TWO, listing: Listing = False, json: Json = False) -> int:
    """Flip single lines of gateware, compiler and reference: does the regression notice?

    Each mutation is applied alone to a copy of the sources, and 'check
    regression' runs on the copy. Those of the link, which the regression does
    without, and of what its networks never come to are judged by their tests.
    Exit code 0: all caught, 1 some survived or were invalid, 2 bad arguments or a
    mutation that does not apply.

    examples:
      spiketicket check mutations --list
      spiketicket check mutations --only 3 17 --json
    """
    from sim import mutate
    if listing:
        print(mutate.listing())
        return 0
    outcomes = mutate.check(only, jobs, sys.stderr.isatty())
    put([asdict(one) for one in outcomes], json, lambda _: print(mutate.table(outcomes)))
    return int(any(outcome.verdict != "caught" for outcome in outcomes))


@app.command
def netlist(*, family: Annotated[one_of(("xc7", "ecp5")), Parameter(help="FPGA family")] = "xc7",
            preset: Annotated[one_of(sorted(PRESETS)), Parameter(
                help="core that is synthesised")] = BOARDS["sim"].preset,
            ticket: Ticket = bundled.DEFAULT, data: Data = None,
            images: Annotated[int, number("first images to run", 1)] = 2,
            strict: Annotated[bool, flag(
                "promise nothing where one port of a block RAM reads what the other "
                     "writes, whatever the vendor says")] = False,
            build: Annotated[bool, flag("synthesise and compile only")] = False,
            json: Json = False) -> int:
    """A ticket on the synthesised netlist (7-series or ECP5 cells), compared with the reference.

    Yosys maps the whole top level to the FPGA's cells, Verilator compiles the
    netlist with models of these. Logits and every spike must equal the reference,
    all counters and the cycles of every run those of the gateware. Exit code 0 if
    so, 1 if not, 2 for bad input or a missing tool.

    examples:
      spiketicket check netlist --family xc7 --images 2
      spiketicket check netlist --family xc7 --preset tiny --build
    """
    from sim import netlist as netlists
    if build:
        print(netlists.build(PRESETS[preset], family, strict=strict))
        return 0
    values = netlists.run(preset, family, strict=strict, ticket=ticket, data=data, images=images)
    put(values, json, netlists.show)
    return 0 if values["agrees"] else 1


@app.command
def uart(*, minutes: Annotated[float, number(
             "simulated time at each rate (default: a second)", 1e-6)] = 1 / 60,
         baud: Annotated[list[int] | None, number(
             "rates (default: 1, 3 and 12 Mbaud)", 1)] = None,
         clock: Annotated[float, number("clock of the board in MHz", 0.001)] = 100,
         error: Annotated[float, number("error of the far end's clock in percent", 0, 49.9)] = 2,
         jitter: Annotated[float, number("jitter of the far end, each way, in percent of a bit",
                                         0, 49.9)] = 5,
         tolerance: Annotated[bool, flag(
             "find the largest clock error without a wrong byte")] = False,
         bytes: Annotated[int, number("bytes of each step of --tolerance", 1)] = 20_000,
         seed: Seed = 1, jobs: Jobs = 1, json: Json = False) -> int:
    """The UART bit by bit for minutes of line time, against a far end with another clock.

    A third each of the time the far end is slow by --error, exact, and fast by
    --error; every byte is compared. Exit code 1 where one is wrong.

    examples:
      spiketicket check uart  # 1 s at 1, 3 and 12 Mbaud
      spiketicket check uart --minutes 2 --json  # two minutes at each rate
      spiketicket check uart --baud 12000000 --clock 80
      spiketicket check uart --tolerance  # the largest clock error that passes
    """
    from sim import uart_soak
    rates, hertz = baud or list(uart_soak.RATES), round(clock * 1e6)
    if tolerance:
        rows = uart_soak.tolerances(rates, hertz, jitter / 100, bytes_each=bytes, seed=seed,
                                    jobs=jobs)
        put(rows, json, uart_soak.show_tolerances)
        return 0
    results = uart_soak.soak(rates, hertz, minutes * 60, error / 100, jitter / 100, seed, jobs)
    put(results, json, uart_soak.show)
    return int(not all(result["passed"] for result in results))
