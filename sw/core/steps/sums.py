"""The writes to the map memory: the arbiter's, and the adder of residual sums behind it
(`hw.core.WriteArbiter`, `hw.sums.SumWriter`)."""

from __future__ import annotations

import numpy as np
from numpy import ndarray

from ..jit import stepped

# A word on its way: steps of the adder that are left behind the one that comes next to the port;
# whether the port is taken in the next cycle, and in this one, at all and by a write.
LEFT, NEXT, NEXT_WRITE, NOW, NOW_WRITE = range(5)
REGISTERS = 5


def new_writer() -> ndarray:
    """Nothing on its way: int64 [REGISTERS]."""
    return np.zeros(REGISTERS, np.int64)


@stepped
def writer_step(w, chosen, planes):
    """One cycle. chosen: the arbiter takes a word. planes: of the sum that the layer's words are
    added to, 0 if they are written as they are.

    A word takes 2 steps a plane: reads in steps 0, 1, 3, 5 ..., writes in 2, 4, 6 ... and the last.
    """
    w[NOW], w[NOW_WRITE] = w[NEXT], w[NEXT_WRITE]
    left = w[LEFT]
    w[NEXT] = chosen or left > 0
    w[NEXT_WRITE] = (chosen and planes == 0) or left == 1 or (left > 0 and left % 2 == 0)
    w[LEFT] = 2 * planes - 1 if chosen and planes > 0 else max(left - 1, 0)


@stepped
def port_blocked(w, e):
    """Whether the engine's map port is taken in the next cycle: port A of every copy by a write,
    of the first one, which the sums are read from, by a read."""
    return e % 2 == 0 and w[NEXT] != 0 and (e == 0 or w[NEXT_WRITE] != 0)
