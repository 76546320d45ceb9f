"""`njit` of numba with a cache of compiled kernels that notices what they depend on.

Numba compiles the numbers of `hw.program` and `hw.config`, and functions of other files, into a
kernel, but compiles a cached one anew only when the kernel's own file has changed.
"""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path

import numba

_ROOT = Path(__file__).parents[2]
_SOURCES = [_ROOT / "hw/program.py", _ROOT / "hw/config.py", _ROOT / "hw/registers.py",
            _ROOT / "hw/sdram_timing.py",
            _ROOT / "sw/core/attention_items.py", _ROOT / "sw/nets/neuron_kernel.py",
            *sorted((_ROOT / "sw/core/steps").glob("*.py"))]

if not os.environ.get("NUMBA_CACHE_DIR"):
    _KEY = hashlib.sha256(b"".join(path.read_bytes() for path in _SOURCES)).hexdigest()[:16]
    _BASE = os.environ.get("SPIKETICKET_CACHE") or Path.home() / ".cache" / "spiketicket"
    numba.config.CACHE_DIR = str(Path(_BASE) / f"numba-{_KEY}")

njit = functools.partial(numba.njit, cache=True)
"""Decorator: compiled without Python objects, cached."""

stepped = functools.partial(numba.njit, inline="always")
"""Decorator: put into every kernel that calls it, so that a step of a unit costs no call."""
