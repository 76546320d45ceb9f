"""Engine cluster: the engines that share a drain, and the drain."""

from __future__ import annotations

from amaranth import Cat, Module, ResetInserter, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from . import layouts
from .config import CoreConfig
from .copies import own_copy
from .drain import Drain
from .engine import Engine, MemoryPort, Setup
from .gate import GatePort


class EngineCluster(wiring.Component):
    """One or two engines and their drain, with registers of their own for all that they are told:
    what `setup` says arrives a cycle later, and so does `reset`.

    Between `setup.start` and `done` the engines work through their rows of the layer.

    Members
    -------
    reset: of all engines and the drain.
    memories: of every engine. neurons: that the drain updated, for the counters (0..2 a cycle).
    o: finished map words. gate: see `drain.Drain`.
    """

    def __init__(self, config: CoreConfig, engines: int):
        self._config, self._engines = config, engines
        super().__init__({
            "reset": In(1), "setup": In(Setup(config)),
            "memories": Out(MemoryPort(config)).array(engines),
            "done": Out(1), "neurons": Out(2),
            "o": Out(stream.Signature(layouts.map_write(config))), "gate": In(GatePort(config)),
        })

    def elaborate(self, platform):
        m = Module()
        setup = Setup(self._config).create()
        for name in setup.signature.members:
            m.d.comb += getattr(setup, name).eq(own_copy(m, getattr(self.setup, name), name))
        drain = Drain(self._config, self._engines)
        m.submodules.drain = ResetInserter(own_copy(m, self.reset, "reset_drain"))(drain)
        engines = [Engine(self._config) for _ in range(self._engines)]
        for e, engine in enumerate(engines):
            m.submodules[f"engine{e}"] = ResetInserter(
                own_copy(m, self.reset, f"reset_engine{e}"))(engine)
            wiring.connect(m, setup, engine.setup)
            wiring.connect(m, engine.memory, wiring.flipped(self.memories[e]))
            wiring.connect(m, drain.engines[e], engine.drain)
        wiring.connect(m, drain.o, wiring.flipped(self.o))
        wiring.connect(m, wiring.flipped(self.gate), drain.gate)
        m.d.comb += [drain.layer.eq(setup.layer), drain.sweep.eq(setup.sweep)]
        m.d.sync += self.neurons.eq(drain.visits)

        # The drain's header queues hold a pass until it is drained, so idle decoders and an idle
        # drain mean that nothing is on its way.
        idle, working = Signal(), Signal()
        m.d.comb += [
            idle.eq(Cat(engine.idle for engine in engines).all() & drain.idle),
            self.done.eq(~working & ~self.setup.start & idle),
        ]
        m.d.sync += working.eq(~idle | self.setup.start | setup.start)
        return m
