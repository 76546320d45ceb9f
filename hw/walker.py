"""Walker: the order in which the drain visits the positions of a pass."""

from __future__ import annotations

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from . import layouts
from .config import CoreConfig

LEVELS = ("kx", "ky", "ox", "oy", "px", "py")
"""Loops of the walk, innermost first."""


class Walker(wiring.Component):
    """Address generator of the drain walk (`docs/core.md`, "Drain walk"): six nested counters.

    `start` loads position 0, or the first one listed; then `position` and the flags are valid until
    the step that is taken with `last` set. One step a cycle. With a gate `prepare` comes at least
    two cycles before `start`.

    Members
    -------
    at_edge: with `pool_overlap`, bit 0: column -1; bit 1: the strip's first row.
    clear: no later window of the strip visits the position.
    list_index, list_token: asks the list of kept tokens.
    """

    def __init__(self, config: CoreConfig):
        self._config = config
        number = range(config.gate_tokens)
        super().__init__({
            "layer": In(layouts.LAYER), "last_strip": In(1),
            "prepare": In(1), "start": In(1), "step": In(1),
            "running": Out(1), "position": Out(10), "first": Out(1),
            "window_first": Out(1), "window_last": Out(1), "row_end": Out(1),
            "phase_end": Out(1), "last": Out(1), "at_edge": Out(2), "clear": Out(1),
            "list_index": Out(number), "list_token": In(number),
        })

    def elaborate(self, platform):
        m = Module()
        layer = self.layer
        limits = {name: layer[f"count_{name}"] for name in LEVELS}
        limits["oy"] = Mux(self.last_strip, layer.count_oy_last, layer.count_oy)
        # Turns left, this one included.
        count = {name: Signal(len(layer[f"count_{name}"]), name=f"count_{name}")
                 for name in LEVELS}
        at_end = {name: Signal(name=f"end_{name}") for name in LEVELS}      # count == 1
        at_first = {name: Signal(name=f"first_{name}") for name in LEVELS[:4]}

        # The list's positions are steps of the loop over ox, from 0 each: no way gets longer.
        listed, step_ox = Const(0), layer.step_ox
        if self._config.gate:
            listed, step_ox = layer.listed, self._step_or_listed(m)

        def ends(*names):
            return Cat(at_end[name] for name in names).all()

        # Innermost loop that is not at its end turns; the loops inside start again. The steps
        # take back what those have moved, so one adder serves all loops.
        phase_start, start_from, step = Signal(10), Signal(10), Signal(10)
        for i, name in enumerate(LEVELS):
            turns = ends(*LEVELS[:i]) if i else 1
            # At the start the loops' ends are not known yet.
            with m.If(turns | listed if name == "ox" else turns & ~listed):
                m.d.comb += step.eq(step_ox if name == "ox" else layer[f"step_{name}"])
        new_phase = self.phase_end
        # An overlapping pool begins at position -1, whose visit is no output and so may show 0.
        before = self.first & layer.pool_overlap
        m.d.comb += start_from.eq((Mux(new_phase, phase_start, self.position)
                                   | before.replicate(10)) & ~listed.replicate(10))
        moved = Signal(10)
        m.d.comb += [
            moved.eq(start_from + step),
            self.window_last.eq(ends("kx", "ky")),
            self.row_end.eq(ends("ox")),
            self.phase_end.eq(ends("kx", "ky", "ox", "oy")),
            self.last.eq(ends(*LEVELS)),
            self.at_edge.eq(Cat(at_first["kx"] & at_first["ox"], at_first["ky"] & at_first["oy"])),
            self.clear.eq((~at_end["kx"] | at_end["ox"]) & (~at_end["ky"] | at_end["oy"])
                          & ~self.at_edge[0]),
        ]
        with m.If(self.start & ~listed):
            m.d.sync += self.position.eq(0)
        with m.Elif(self.start | self.step):
            m.d.sync += self.position.eq(moved)
        with m.If(self.start):
            m.d.sync += [
                self.running.eq(1), self.first.eq(1), self.window_first.eq(1), phase_start.eq(0),
            ]
            m.d.sync += [first.eq(1) for first in at_first.values()]
            for name in LEVELS:
                m.d.sync += [count[name].eq(limits[name]), at_end[name].eq(limits[name] == 1)]
        with m.Elif(self.step):
            m.d.sync += [self.first.eq(0), self.window_first.eq(self.window_last)]
            with m.If(new_phase):
                m.d.sync += phase_start.eq(moved)
            with m.If(self.last):
                m.d.sync += self.running.eq(0)
            for i, name in enumerate(LEVELS):
                with m.If(ends(*LEVELS[:i]) if i else 1):
                    m.d.sync += [
                        count[name].eq(Mux(at_end[name], limits[name], count[name] - 1)),
                        at_end[name].eq(Mux(at_end[name], limits[name] == 1, count[name] == 2)),
                    ]
                    if name in at_first:
                        m.d.sync += at_first[name].eq(at_end[name])
        return m

    def _step_or_listed(self, m):
        """The step of the loop over ox, or the next position of the list, read one ahead."""
        layer, ready = self.layer, Signal()
        step = Signal.like(layer.step_ox)
        with m.If(self.start | self.step | ~ready):
            m.d.sync += [
                step.eq(Mux(layer.listed, self.list_token, layer.step_ox)),
                self.list_index.eq(self.list_index + 1), ready.eq(1),
            ]
        with m.If(self.prepare):
            m.d.sync += [self.list_index.eq(0), ready.eq(0)]
        return step
