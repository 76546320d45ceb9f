"""The small core that proofs are done at, and what the compiler guarantees of a layer."""

from __future__ import annotations

from dataclasses import replace

from hw.config import CoreConfig
from hw.walker import LEVELS

from .harness import Bench

SMALL = CoreConfig(engines=3, units=2, window=8, acc_bits=8, acc_depth=8, queue_depth=16, lanes=1,
                   map_words=16, weight_words=16, program_words=64, taps=2, planes=2)
ATTENTIVE = replace(SMALL, attention=True)


def steady(f: Bench, value) -> None:
    """Assume that `value` never changes."""
    f.assume(~f.started | (value.as_value() == f.past(value)))


def positive_counts(f: Bench, layer) -> None:
    """Assume a constant layer whose drain walk turns every loop at least once."""
    steady(f, layer)
    for name in (*LEVELS, "oy_last"):
        f.assume(layer[f"count_{name}"] != 0)
