"""Registers of a unit's own: copies of a signal that synthesis does not merge again.

Wires, not levels, make the long ways of a full FPGA. A signal that goes to all engines reaches a
register near each of them first; alike as they are, synthesis would make one of them again, so
that the build marks their cells (`hw.build.yosys`).
"""

from __future__ import annotations

from amaranth import Module, Signal

ATTRIBUTE = "own_copy"
"""Of a copy's signal; the build keeps the registers that drive such a one."""


def own_copy(m: Module, source, name: str) -> Signal:
    """A register that has what `source` had a cycle ago; no reset clears it."""
    copy = Signal.like(source, name=name, reset_less=True, attrs={ATTRIBUTE: 1})
    m.d.sync += copy.eq(source)
    return copy
