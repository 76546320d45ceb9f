"""Engine cluster: the engines that share a drain, and the drain."""

from __future__ import annotations

from amaranth import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from . import layouts
from .config import CoreConfig
from .drain import Drain
from .engine import Engine, MemoryPort, Setup
from .gate import GatePort


class EngineCluster(wiring.Component):
    """One or two engines and their drain; wiring only.

    Between `setup.start` and `done` the engines work through their rows of the layer.

    Members
    -------
    memories: of every engine. neurons: that the drain updated, for the counters (0..2 a cycle).
    o: finished map words. gate: see `drain.Drain`.
    """

    def __init__(self, config: CoreConfig, engines: int):
        self._config, self._engines = config, engines
        super().__init__({
            "setup": In(Setup(config)), "memories": Out(MemoryPort(config)).array(engines),
            "done": Out(1), "neurons": Out(2),
            "o": Out(stream.Signature(layouts.map_write(config))), "gate": In(GatePort(config)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.drain = drain = Drain(self._config, self._engines)
        engines = [Engine(self._config) for _ in range(self._engines)]
        for e, engine in enumerate(engines):
            m.submodules[f"engine{e}"] = engine
            wiring.connect(m, wiring.flipped(self.setup), engine.setup)
            wiring.connect(m, engine.memory, wiring.flipped(self.memories[e]))
            wiring.connect(m, drain.engines[e], engine.drain)
        wiring.connect(m, drain.o, wiring.flipped(self.o))
        wiring.connect(m, wiring.flipped(self.gate), drain.gate)
        m.d.comb += drain.layer.eq(self.setup.layer)
        m.d.sync += self.neurons.eq(drain.visits)

        # The drain's header queues hold a pass until it is drained, so idle decoders and an idle
        # drain mean that nothing is on its way.
        idle, working = Signal(), Signal()
        m.d.comb += [
            idle.eq(Cat(engine.idle for engine in engines).all() & drain.idle),
            self.done.eq(~working & ~self.setup.start & idle),
        ]
        m.d.sync += working.eq(~idle | self.setup.start)
        return m
