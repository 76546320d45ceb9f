"""Fetch: the passes' end markers keep their place among the jobs."""

from __future__ import annotations

from amaranth import Cat, Mux, Signal

from hw.fetch import Fetch
from sim.formal.checkers import Count, implies
from sim.formal.harness import Bench, proof
from sim.formal.small import ATTENTIVE, SMALL, steady

INSIDE = 56
"""More items than Fetch can hold: its queue and one in every stage."""

LAST_STAGES = 3
"""Stages behind those that `idle` looks at."""


@proof("fetch.Fetch/passes", depth=18, scope="2 units, words of 8 positions, 2 taps and planes of "
       "arbitrary content, weights of 1 and 2, no shift")
def fetch_passes(f: Bench):
    """Every end marker comes out once and at all units together, every job belongs to the pass
    between its markers and adds in its timesteps only, and when Fetch is idle nothing is left
    inside."""
    fetch = f.place("fetch", Fetch(ATTENTIVE))
    layer, item = fetch.layer, fetch.items.payload
    # The tables are written before the layer starts, with what the compiler guarantees.
    steady(f, layer)
    loaded = f.past(f.past(f.started))
    f.assume(implies(loaded, ~fetch.tap_write & ~fetch.plane_write))
    f.assume(implies(fetch.items.valid, loaded))
    f.assume((layer.strip_words >= 1) & (layer.strip_words <= SMALL.tile_words))
    f.assume((layer.strip_words_last >= 1) & (layer.strip_words_last <= SMALL.tile_words))
    f.assume(implies(fetch.tap_write, (fetch.tap.plane_count >= 1) & (fetch.tap.plane_count <= 2)))
    f.assume(implies(fetch.plane_write, fetch.plane.shift == 0))
    # Also what was never written must be sound, so every entry in use is written.
    written = Signal(SMALL.taps)
    with f.m.If(fetch.tap_write):
        f.m.d.sync += written.bit_select(fetch.tap_index[0], 1).eq(1)
    f.assume(implies(fetch.items.valid, written.all() & (item.tap < SMALL.taps)))

    # One arbitrary marker: weights before it are 1, after it 2, with other timesteps.
    accepted = fetch.items.valid & fetch.items.ready
    passed, gone = Signal(), Signal()
    end_in = accepted & item.end
    timesteps = [f.constant(f"timesteps{n}", 4) for n in range(2)]
    f.assume(implies(fetch.items.valid & ~item.end, (item.value == Mux(passed, 2, 1))
                     & (item.timesteps == Mux(passed, timesteps[1], timesteps[0]))))
    mark = end_in & ~passed & f.free("mark")
    ends = Cat(fetch.push[u] & ~fetch.jobs[u].active.any() for u in range(SMALL.units))
    end_out = ends.any()
    count = Count(f, "ends", push=end_in, pop=end_out, capacity=INSIDE).count
    ahead = Signal.like(count)
    with f.m.If(mark):
        f.m.d.sync += [passed.eq(1), ahead.eq(count - end_out)]
    with f.m.Elif(passed & ~gone & end_out):
        f.m.d.sync += [gone.eq(ahead == 0), ahead.eq(ahead - 1)]
    f.claim("end_at_all_units", implies(end_out, ends.all()))
    for u in range(SMALL.units):
        job = fetch.push[u] & fetch.jobs[u].active.any()
        weight = fetch.jobs[u].weight
        f.claim(f"unit{u}_pass", implies(job, weight == Mux(gone, 2, 1)))
        others = ~Mux(gone, timesteps[1], timesteps[0])
        f.claim(f"unit{u}_timesteps", implies(
            job, ~Cat(mask & others for mask in fetch.jobs[u].masks).any()))
    quiet = Cat(fetch.idle, *(f.past(fetch.idle, n) for n in range(1, LAST_STAGES + 1))).all()
    f.claim("idle_means_empty", implies(quiet, count == 0))
    f.cover("job_after_marker", gone & fetch.push[0] & fetch.jobs[0].active.any())


@proof("fetch.Fetch/port", depth=2, reach=14, induction=True, quick=True,
       scope="2 units, words of 8 positions; the state of everything else is arbitrary")
def fetch_port(f: Bench):
    """The map port goes to the word walk if it has a word, else to who else asks for one, and never
    while it is blocked; the memory sees the right address in the next cycle."""
    fetch = Fetch(ATTENTIVE)
    inner = f.open("fetch", fetch)
    granted = fetch.granted
    f.claim("asked_and_free", implies(granted, fetch.request & ~fetch.port_blocked))
    f.claim("one_of_two", ~(granted & inner["go"]))
    f.claim("no_cycle_lost", implies(
        fetch.request & ~fetch.port_blocked & ~inner["go"], granted))
    own = (inner["r"].address + inner["step"])[:len(fetch.map_address)]
    for name, asked, address in (("granted", granted, fetch.request_address),
                                 ("issued", fetch.issued, own)):
        f.claim(f"{name}_address", implies(f.past(asked), fetch.map_address == f.past(address)))
    f.cover("in_turn", f.past(granted) & fetch.issued)
