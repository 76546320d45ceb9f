"""The cycle-stepped model of one layer on the core: numba, one iteration per clock.

Every register that can delay anything is modelled. The units of an engine are in `sw.core.steps`,
the loop over engines and the write arbiter are here. `sw.core.cycles` names the results.
"""

from __future__ import annotations

import numpy as np

from .jit import njit
from .steps.decoder import decoder_idle, decoder_step, new_decoder
from .steps.drain import drain_idle, drain_step, new_drain
from .steps.dram import ON, Dram, dram_step
from .steps.fetch import (
    WORDS,
    landing_step,
    new_fetch,
    planes_step,
    waiting_for,
    weights_step,
    words_step,
)
from .steps.inputs import (
    CAUSES,
    COUNTERS,
    DONE,
    N_BANK,
    N_UPDATES,
    N_WRITTEN,
    NEURON,
    NOTHING,
    USED,
    Attention,
    Codes,
    Layer,
    Maps,
    Size,
    Taps,
    Walk,
)
from .steps.packer import new_packer, packer_busy, packer_step
from .steps.reader import new_reader
from .steps.source import new_source
from .steps.sums import LEFT, WRITES, new_writer, port_blocked, writer_busy, writer_step
from .steps.units import any_almost_full, new_units, units_step


def run_layer(size: Size, layer: Layer, taps: Taps, codes: Codes, maps: Maps, walk: Walk,
              attention: Attention, dram: Dram,
              served: int) -> tuple[int, np.ndarray, np.ndarray, int]:
    """Step one layer from the start of the engines until the sequencer sees them done.

    dram: goes on. served: the drain whose word was written last.
    Returns (cycles, causes [CAUSES], counters [COUNTERS], served); causes count unit-cycles.
    """
    state = (new_decoder(codes), new_reader(codes.start), new_source(size.engines),
             new_fetch(size), new_units(size), new_drain(size), new_packer(size),
             new_writer())
    causes, count = np.zeros(CAUSES, np.int64), np.zeros(COUNTERS, np.int64)
    cycles, served = _run(size, layer, taps, codes, maps, walk, attention, dram, served,
                          *state, np.ones(size.drains, np.bool_), np.zeros(size.units, np.int64),
                          causes, count)
    return cycles, causes, count, served


# Without numba's reference counting, which arrays in tuples would pay at every access (the loop
# would take 25 times as long); so nothing is allocated in here.
@njit(_nrt=False)
def _run(size, layer, taps, codes, maps, walk, attention, dram, served,
         decoder, reader, source, fetch, units, drain, packer, writer, working, lanes, causes,
         count):
    planes = 0 if layer.attention else layer.head_width     # of the sum that the words go to
    cycle = 0
    while True:
        cycle += 1
        # A word for a ring takes the turn of its pair's even engine.
        filling = dram_step(dram, True, False) // 2 if dram.reg[ON] else -1
        all_done = not writer_busy(writer)
        choice = -1
        for i in range(1, size.drains + 1):
            n = (served + i) % size.drains
            if packer.out[n] and writer[LEFT] == 0:
                choice = n
                break
        count[N_WRITTEN] += writer[WRITES]
        for n in range(size.drains):
            first = n * size.drain_engines
            behind = min(first + size.drain_engines, size.engines)
            drained = drain_idle(drain, decoder.headers, n, size)
            idle = drained and not packer_busy(packer, n)
            for e in range(first, behind):
                idle = idle and decoder_idle(decoder, fetch, e)
            if idle and not working[n]:
                causes[DONE] += size.units * (behind - first)
                continue
            all_done = False
            working[n] = not idle

            waiting_outputs = drain.outputs_level[n]
            pass_done = packer_step(packer, drain, n, size, layer, choice == n)
            claimed, claims, released, releases, popped = drain_step(
                drain, units, decoder.headers, n, size, layer, walk, waiting_outputs, pass_done,
                count)

            for e in range(first, behind):
                decoded = decoder_idle(decoder, fetch, e)
                stalled, blocked = fetch.stalled[e], port_blocked(writer, e, size)
                fetch.stalled[e] = any_almost_full(units, e, size)
                landing = landing_step(fetch, e, size, lanes)
                why = waiting_for(fetch, e, stalled, blocked, decoded, count)
                if (decoded and not drained and decoder.headers[e] == 0
                        and drain.in_flight[e] == 0):
                    why = DONE              # the engine that shares the drain is not
                go = fetch.weight[e, WORDS] != NOTHING and not stalled and not blocked
                walk_free = words_step(fetch, e, size, layer, taps, codes, maps, attention, go,
                                       count)
                planes_free = planes_step(fetch, e, size, layer, taps, codes, maps, walk_free,
                                          count)
                item_free = weights_step(fetch, e, size, layer, taps, codes, planes_free)
                hold = 2 * filling == e or (
                    layer.streamed == 1 and reader.address[e] == dram.shown[e])
                decoder_step(decoder, reader, fetch, source, e, layer, codes, attention,
                             not go and not blocked, item_free, popped == e, hold, dram.freed,
                             count)

                updates, waiting = units_step(
                    units, e, size, layer.pair, claimed if claims == e else -1,
                    released if releases == e else -1, landing, lanes)
                count[N_UPDATES] += updates
                count[N_BANK] += waiting
                causes[USED] += updates
                causes[NEURON] += waiting
                causes[why] += size.units - updates - waiting
        if all_done:
            break
        writer_step(writer, choice >= 0, planes)
        if choice >= 0:
            served = choice
    causes[DONE] += size.engines * size.units
    return cycle + 1, served        # a cycle until the sequencer sees it
