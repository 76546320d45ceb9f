"""What the accumulate unit must answer: plain Python from `docs/core.md`, not from the gateware."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hw.config import TIMESTEPS_PER_GROUP, CoreConfig
from sim.units.layers import wrap


def accumulate(jobs: Sequence[Mapping], config: CoreConfig) -> list[list[int]]:
    """Currents [acc_depth][4] after the jobs (payloads of `hw.layouts.job`) of one pass."""
    acc = [[0] * TIMESTEPS_PER_GROUP for _ in range(config.acc_depth)]
    for job in jobs:
        for m in range(config.subs):
            if job["active"] >> m & 1:
                row = acc[(job["address"] + m) % config.acc_depth]
                for t in range(TIMESTEPS_PER_GROUP):
                    if job["masks"][m] >> t & 1:
                        row[t] = wrap(row[t] + job["weight"], config.acc_bits)
    return acc
