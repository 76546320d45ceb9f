"""`spiketicket check faults`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from sim import faults as injection

from .options import Json, Seed, number, one_of, put


def faults(*, megabytes: Annotated[float, number(
               "over the line, of the kinds that have a rate", 1e-6, 10_000)] = 10,
           runs: Annotated[int, number("operations of every other kind", 1, 10_000)] = 40,
           rates: Annotated[list[float] | None, Parameter(
               help="faults per byte (default: 1e-6 1e-5 1e-4 1e-3)",
               consume_multiple=True)] = None,
           only: Annotated[list[one_of(injection.KINDS)] | None, Parameter(
               help="kinds of fault (default: all)", consume_multiple=True)] = None,
           minutes: Annotated[float | None, number(
               "instead of that much once: again and again for so long, shared by the kinds",
               1e-6)] = None,
           seed: Seed = 1, json: Json = False) -> int:
    """Faults in line, board and host: no wrong result may pass for right.

    The gateware runs in simulation, link framing included, while its line, its
    power and its host are disturbed; the driver that talks to it is the real one.
    Wrong results that say nothing, runs that do not end within the time that
    docs/faults.md states, other exceptions than SpikeTicketError and boards that
    cannot be used afterwards make the exit code 1.

    examples:
      spiketicket check faults                        # 10 MB, about ten minutes
      spiketicket check faults --megabytes 1 --json
      spiketicket check faults --only "second speaker" --minutes 30
      spiketicket check faults --only drop "power cut in load" --seed 7
    """
    tallies = injection.inject(only or injection.KINDS, megabytes=megabytes, runs=runs,
                               rates=rates or injection.RATES, minutes=minutes, seed=seed)
    together = injection.total(tallies)
    put(together.as_dict() | {"seed": seed, "kinds": [tally.as_dict() for tally in tallies]},
        json, lambda _: injection.show(tallies))
    return int(not together.passed)
