"""The writes to the map memory: the arbiter's, and those of the adder of residual sums behind it
(`hw.core.WriteArbiter`, `hw.sums.SumWriter`)."""

from __future__ import annotations

import numpy as np
from numpy import ndarray

from ..jit import stepped

# Planes of a word that are still to be read but for the next one; whether there is a read, or a
# write, at the memory in the next cycle and in this one.
LEFT, READS_NEXT, READS, WRITES_NEXT, WRITES = range(5)
REGISTERS = 5


def new_writer() -> ndarray:
    """Nothing on its way: int64 [REGISTERS]."""
    return np.zeros(REGISTERS, np.int64)


@stepped
def writer_busy(w):
    """Whether something is on its way to the memory."""
    return w[READS_NEXT] or w[READS] or w[WRITES_NEXT] or w[WRITES]


@stepped
def writer_step(w, chosen, planes):
    """One cycle. chosen: the arbiter takes a word. planes: of the sum that the layer's words are
    added to, a plane a cycle; 0 if they are written as they are."""
    w[WRITES] = w[WRITES_NEXT]
    w[WRITES_NEXT] = w[READS] if planes else chosen
    w[READS] = w[READS_NEXT]
    w[READS_NEXT] = planes > 0 and (chosen or w[LEFT] > 0)
    w[LEFT] = planes - 1 if chosen and planes > 0 else max(w[LEFT] - 1, 0)


@stepped
def port_blocked(w, e, size):
    """Whether the engine's map port is taken in the next cycle: port A of all copies by a write,
    port B of the last one, which sums are read from, by a read."""
    if e % 2 == 0:
        return w[WRITES_NEXT] != 0
    return e == size.engines - 1 and w[READS_NEXT] != 0
