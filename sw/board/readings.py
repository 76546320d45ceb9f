"""What a monitored board did so far, summed up from its results, counters and registers."""

from __future__ import annotations

import time
from collections import deque

import numpy as np

from hw.registers import COUNTERS

from .connect import Connection
from .driver import Inference

RECENT = 60
"""Inputs whose cycles are kept one by one, and that rates are means of."""

STALLS = ("queue_stall", "port_stall", "starved")
"""Counters of cycles that an engine's fetch waited, summed over the engines."""


class Readings:
    """Add results as they come, take `values` when they are to be shown.

    to: board with the ticket loaded. What the line has carried until now does not count.
    """

    def __init__(self, to: Connection):
        self._to = to
        self._images = self._right = 0
        self._sums = np.zeros((len(to.image.logged), len(COUNTERS)), np.int64)
        self._cycles = 0
        self._recent: deque[tuple[float, int]] = deque(maxlen=RECENT)
        self._first = self._registers = self._ask()
        self._before = vars(to.accelerator.statistics).copy()
        self._began = time.perf_counter()

    def ask(self) -> None:
        """Ask the board for its own counts of frames and errors."""
        self._registers = self._ask()

    def _ask(self) -> dict[str, int]:
        known = self._to.accelerator.identify()
        return {"frames": known.frames, "bad_frames": known.bad_frames, "overruns": known.overruns}

    def add(self, result: Inference, truth: int) -> None:
        """One input's result, with counters."""
        self._images += 1
        self._right += int(result.labels[0]) == truth
        self._sums += result.counters[0]
        self._cycles += int(result.cycles[0])
        self._recent.append((time.perf_counter(), int(result.cycles[0])))

    def values(self) -> dict:
        """JSON-serialisable; see docs/report.md."""
        to, image = self._to, self._to.image
        config, count = image.config, max(1, self._images)
        seconds = time.perf_counter() - self._began
        line = {name: value - self._before[name]
                for name, value in vars(to.accelerator.statistics).items()}
        times, cycles = zip(*self._recent, strict=True) if self._recent else ((), ())
        recent = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0
        updates = int(self._sums[:, COUNTERS.index("updates")].sum())
        return {
            "ticket": image.name, "board": to.board, "preset": to.preset,
            "transport": to.accelerator.transport.name,
            "simulated": to.accelerator.transport.simulated, "clock_hz": config.clock_hz,
            "slots": config.slots, "images": self._images, "seconds": seconds,
            "accuracy": self._right / count,
            "frames_per_s_host": recent,
            "frames_per_s_core": config.clock_hz * count / self._cycles if self._cycles else 0.0,
            "cycles_per_image": self._cycles / count, "cycles_recent": list(cycles),
            "useful_updates_per_cycle": updates / max(1, self._cycles),
            "useful_fraction": updates / max(1, self._cycles) / config.slots,
            "layers": self._layers(count),
            "link": line | {
                "baud": to.accelerator.transport.baud,
                "network": to.accelerator.transport.network,
                "bytes_per_s": (line["bytes_sent"] + line["bytes_received"]) / seconds,
                "bytes_per_image": [line["bytes_sent"] / count, line["bytes_received"] / count]},
            "board_counts": self.counts(),
        }

    def counts(self) -> dict[str, int]:
        """Frames and errors that the board counted since the beginning, as of the last `ask`."""
        return {name: (value - self._first[name]) & 0xFFFF_FFFF     # its counts wrap
                for name, value in self._registers.items()}

    def _layers(self, count: int) -> list[dict]:
        """Mean per input of every layer, its copies included."""
        config, rows = self._to.image.config, {}
        for info, sums in zip(self._to.image.logged, self._sums, strict=True):
            rows[info.name] = rows.get(info.name, 0) + sums
        whole = max(1, sum(int(row[0]) for row in rows.values()))
        result = []
        for name, row in rows.items():
            counted = dict(zip(COUNTERS, (int(v) for v in row), strict=True))
            cycles = max(1, counted["cycles"])
            result.append({
                "name": name, "cycles": counted["cycles"] / count,
                "share": counted["cycles"] / whole,
                "useful": counted["updates"] / cycles / config.slots,
                **{stall: counted[stall] / cycles / config.engines for stall in STALLS},
                "weights": counted["weights"] / count, "updates": counted["updates"] / count})
        return result
