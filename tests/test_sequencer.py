"""Sequencer in cocotb: every word of random programs where the engines expect it."""

from __future__ import annotations

from hw.config import PRESETS
from hw.sequencer import Sequencer
from sim.runner import run_bench


def test_sequencer():
    config = PRESETS["tiny"]
    run_bench(Sequencer(config), "sim.units.sequencer.bench", config=config.as_dict(), seed=1,
              programs=12)
