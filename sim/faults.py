"""Faults on the way to a board, injected and survived.

    spiketicket check faults                        # 10 MB, about ten minutes
    spiketicket check faults --only drop "power cut in load" --seed 7

The gateware runs in simulation, link framing included, while its line, its power and its host are
disturbed; the driver that talks to it is the real one. Every result is compared with the
reference's: logits, every map of a trace, cycles and counters. Wrong results that say nothing,
runs that do not end within the time that `docs/faults.md` states, other exceptions than
SpikeTicketError and boards that cannot be used afterwards are failures.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from tqdm import tqdm

from hw.config import CoreConfig
from sw.errors import BadInput, did_you_mean

from . import board, fault_board, fault_dram, fault_network
from .board import SimTransport
from .fault_board import CONFIG, PinTransport
from .fault_cases import Case, make_cases
from .fault_dram import DRAM
from .fault_host import REAL
from .fault_kinds import BYTES, PINS, byte_faults, noise
from .fault_lab import Lab, Tally, bound
from .fault_lines import ByteFaults
from .fault_network import NETWORK

RATES = (1e-6, 1e-5, 1e-4, 1e-3)
NOISE = "line noise"
NOISE_SHARE = 0.02
"""Of the bytes: at the pins a byte takes forty times as long to simulate."""

KINDS = (*ByteFaults.KINDS, NOISE, *BYTES, *PINS, *DRAM, *NETWORK, *REAL)
COLUMNS = ("bytes", "faults", "runs", "errors", "silent_wrong", "hangs", "crashes",
           "unusable_after", "max_seconds_to_error", "max_seconds_to_result")

Report = Callable[[Tally], None]


def inject(kinds: Sequence[str] = KINDS, *, megabytes: float = 10, runs: int = 40,
           rates: Sequence[float] = RATES, minutes: float | None = None, seed: int = 1,
           progress: bool = True) -> list[Tally]:
    """Inject faults; returns what happened, for each kind (and rate) in turn.

    kinds: of `KINDS`. megabytes: over the line, shared by the kinds that have a rate. runs: of the
    kinds that have none. rates: faults per byte, each 0 to 1. minutes: instead of that amount once,
    again and again until they are over, shared evenly.
    Raises BadInput naming an unknown kind or a value out of range, or where the simulated
    board cannot be built.
    """
    plan = list(_plan(kinds, megabytes, runs, rates))
    library, cases = _prepared(CONFIG, progress)
    pins = fault_board.build(CONFIG, progress=progress) if any(
        kind in PINS or kind == NOISE for kind, *_ in plan) else None
    streaming = _prepared(fault_dram.CONFIG, progress) if any(
        kind in DRAM for kind, *_ in plan) else None
    done = []
    with tqdm(total=len(plan), unit="kind", disable=None if progress else True) as bar:
        for kind, rate, amount in plan:
            tally = Tally(kind, rate)
            share = 0.0 if minutes is None else 60 * minutes / len(plan)
            bar.set_postfix_str(kind + (f" {rate:g}" if rate else ""))
            at_pins = kind in PINS or kind == NOISE
            transport = (PinTransport(library=pins) if at_pins
                         else SimTransport(fault_dram.CONFIG, library=streaming[0]) if kind in DRAM
                         else fault_network.transport(library) if kind in NETWORK
                         else SimTransport(CONFIG, library=library))
            lab = Lab(transport, streaming[1] if kind in DRAM else cases, library,
                      f"{seed} {kind} {rate}")
            try:
                for _ in _repeated(partial(_kind(kind), lab, tally, amount), share):
                    bar.refresh()
            finally:
                lab.close()
                transport.close()
            done.append(tally)
            bar.update()
    return done


def _prepared(config: CoreConfig, progress: bool) -> tuple[Path, list[Case]]:
    """A simulated board, and networks for it."""
    library = board.build(config, progress=progress)
    return library, make_cases(config, library)


def _repeated(begin: Callable[[], Iterator[None]], seconds: float) -> Iterator[None]:
    """What `begin` generates; where `seconds` is not 0, anew until they are over, and no longer."""
    end = time.monotonic() + seconds
    while True:
        for _ in begin():
            yield
            if seconds and time.monotonic() > end:
                return
        if not seconds:
            return


def _kind(name: str):
    if name in ByteFaults.KINDS:
        return byte_faults
    return noise if name == NOISE else (BYTES | PINS | DRAM | NETWORK | REAL)[name]


def _plan(kinds: Sequence[str], megabytes: float, runs: int, rates: Sequence[float]
          ) -> Iterator[tuple[str, float | None, int]]:
    """(kind, rate, bytes or runs) of everything that is to be done."""
    for kind in kinds:
        if kind not in KINDS:
            raise BadInput(f"--only {kind!r} is no kind of fault; {did_you_mean(kind, KINDS)}")
    if not 0 < megabytes <= 10_000:
        raise BadInput(f"--megabytes {megabytes:g} is outside 0..10000")
    if not 1 <= runs <= 10_000:
        raise BadInput(f"--runs {runs} is outside 1..10000")
    for rate in rates:
        if not 0 < rate <= 0.01:
            raise BadInput(f"--rates {rate:g} is outside 0..0.01 (a frame of 1 KB would "
                           "hardly ever arrive)")
    rated = [kind for kind in kinds if kind in ByteFaults.KINDS]
    for kind in kinds:
        if kind in rated or kind == NOISE:
            size = 1e6 * megabytes * NOISE_SHARE / len(rates) if kind == NOISE else (
                1e6 * megabytes / len(rated) / len(rates))
            yield from ((kind, rate, int(size) + 1) for rate in rates)
        else:
            yield kind, None, max(1, runs // 4) if kind in REAL else runs


def total(tallies: Sequence[Tally]) -> Tally:
    """All of them in one, by the name "total"."""
    result = Tally("total")
    for tally in tallies:
        result.add(tally)
    return result


def by_kind(tallies: Sequence[Tally]) -> list[Tally]:
    """One for each kind, its rates together."""
    found: dict[str, Tally] = {}
    for tally in tallies:
        found.setdefault(tally.kind, Tally(tally.kind)).add(tally)
    return list(found.values())


def table(tallies: Sequence[Tally]) -> str:
    heads = ("MB", "faults", "runs", "errors", "wrong", "hangs", "crashes", "unusable",
             "s to error", "s to result")
    lines = [f"{'kind':23} " + " ".join(f"{head:>{max(7, len(head))}}" for head in heads)]
    for t in [*by_kind(tallies), total(tallies)]:
        lines.append(
            f"{t.kind:23} {t.bytes / 1e6:7.3f} {t.faults:7} {t.runs:7} {t.errors:7} "
            f"{t.silent_wrong:7} {t.hangs:7} {t.crashes:7} {t.unusable_after:8} "
            f"{t.max_seconds_to_error:10.2f} {t.max_seconds_to_result:11.2f}")
    return "\n".join(lines)


def show(tallies: Sequence[Tally]) -> None:
    """Print a table of what happened, and what was said how often."""
    print(table(tallies))
    for message, count in total(tallies).messages.most_common():
        print(f"{count:7} x {message}")
    print(f"time bound: {bound(0):g} s and three times the longest wait for a reply")
