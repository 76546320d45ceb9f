"""Drain: walks the finished accumulators of a pass, through pool and neurons, to the packer."""

from __future__ import annotations

from amaranth import Array, Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from . import layouts
from .config import DRAIN_MARGIN, DRAIN_QUEUE, TIMESTEPS_PER_GROUP, CoreConfig
from .gate import GatePort, Scores
from .neuron import LATENCY, MEMBRANE, NeuronLane
from .outputs import Outputs, output, visit_tag
from .packer import Packer
from .passes import DrainPort, Passes
from .unit import JobQueue
from .walker import Walker


class Drain(wiring.Component):
    """Drains one pass after another, of one engine or of two that share it: waits until all units
    of one have filled a bank, walks it, frees it (`passes.Passes`).

    Members
    -------
    sweep: clears the accumulators of all engines, in 2 * acc_depth cycles, between two layers.
    engines: see `passes.DrainPort`.
    o: finished map words. visits: neurons that entered the lanes in this cycle (0..2).
    gate: with a gate, scores of these engines' outputs and the list of kept tokens.
    """

    def __init__(self, config: CoreConfig, engines: int):
        self._config, self._engines = config, engines
        super().__init__({
            "layer": In(layouts.LAYER), "sweep": In(1),
            "engines": Out(DrainPort(config)).array(engines),
            "o": Out(stream.Signature(layouts.map_write(config))),
            "visits": Out(2), "idle": Out(1), "gate": In(GatePort(config)),
        })

    def elaborate(self, platform):
        m = Module()
        cfg, layer, engines = self._config, self.layer, range(self._engines)
        unit_bits = (cfg.units - 1).bit_length()

        m.submodules.passes = passes = Passes(cfg, self._engines)
        m.submodules.walker = walker = Walker(cfg)
        m.submodules.outputs = outputs = Outputs(cfg)
        m.submodules.finished = finished = JobQueue(output(cfg), DRAIN_QUEUE, DRAIN_MARGIN)
        m.submodules.packer = packer = Packer(cfg)
        for e in engines:
            wiring.connect(m, wiring.flipped(self.engines[e].headers), passes.headers[e])
            m.d.comb += passes.filled[e].eq(self.engines[e].filled)
        wiring.connect(m, finished.o, packer.i)
        live = passes.live
        if cfg.gate:
            self._connect_gate(m, walker, packer)
            m.d.comb += [packer.word0.eq(live[0].words), packer.word1.eq(live[1].words)]
        walked = Signal()
        m.d.comb += [
            passes.layer.eq(layer), walker.layer.eq(layer), outputs.layer.eq(layer),
            packer.layer.eq(layer), finished.push.eq(outputs.push), finished.i.eq(outputs.o),
            walker.prepare.eq(passes.waits | walked), walker.start.eq(passes.start),
            walker.step.eq(walker.running & ~finished.almost_full),
            walked.eq(walker.step & walker.last), passes.walked.eq(walked),
            passes.done.eq(packer.pass_done), self.idle.eq(passes.idle & ~packer.busy),
        ]

        def select(which):
            return data.View(layouts.pass_header(), Mux(
                which, live[1].header.as_value(), live[0].header.as_value()))

        header = select(passes.parity)
        m.d.comb += walker.last_strip.eq(header.last_strip)

        # Stage 0: the position of the walk claims its units. Stage 1: read the accumulators. From
        # here on nothing waits: the walk stops in time for the queue behind the neuron lanes.
        tag0, tag1, tag2 = (Signal(visit_tag(), name=f"tag{i}") for i in range(3))
        engine0, engine1, engine2 = (
            Signal.like(passes.engine, name=f"engine{i}") for i in range(3))
        currents2 = [Signal(layouts.currents(cfg), name=f"currents{i}", reset_less=True)
                     for i in range(2)]
        position0, bank0, clear0, unit1 = Signal(10), Signal(), Signal(), Signal(unit_bits)
        pair = layer.pair if cfg.lanes == 2 else Const(0)

        def inside(q):
            limit = Mux(header.last_strip, layer.positions_last, layer.positions)
            return ((q & layer.pitch_mask) < layer.row_valid) & (q < limit)

        lowest = walker.position[:unit_bits]
        # Of a pool that overlaps: beyond the left or upper edge of the map.
        beyond = Signal()
        m.d.comb += beyond.eq(
            layer.pool_overlap & (walker.at_edge & Cat(1, passes.first_strip)).any())
        # Of every engine one even and one odd unit, then which goes to which lane: so a bit is two
        # lookup tables wide, one of them near the units.
        halves = []
        for e in engines:
            units = list(self.engines[e].currents)
            for half, name in enumerate(("even", "odd")):
                one = Signal(layouts.currents(cfg), name=f"{name}{e}")
                m.d.comb += one.eq(Array(units[half::2])[unit1[1:]])
                halves.append(one)
        m.d.sync += [
            tag0.valid.eq(walker.step), tag0.parity.eq(passes.parity),
            tag0.window_first.eq(walker.window_first), tag0.window_last.eq(walker.window_last),
            tag0.row_end.eq(walker.row_end), tag0.phase_end.eq(walker.phase_end),
            tag0.pass_first.eq(walker.first), tag0.pass_end.eq(walker.last),
            tag0.inside.eq(Cat(inside(walker.position) & ~beyond,
                               pair & inside(walker.position | 1))),
            clear0.eq(walker.clear | ~layer.pool_overlap),
            position0.eq(walker.position), bank0.eq(passes.bank), engine0.eq(passes.engine),
            tag1.eq(tag0), unit1.eq(position0), engine1.eq(engine0),
            tag2.eq(tag1), engine2.eq(engine1),
            currents2[0].eq(Array(halves)[Cat(unit1[0], engine1)]),
            currents2[1].eq(Array(halves[1::2])[engine1]),
        ]
        sweeping, sweep_place = Signal(), Signal(range(2 * cfg.acc_depth), reset_less=True)
        with m.If(self.sweep):
            m.d.sync += [sweeping.eq(1), sweep_place.eq(0)]
        with m.Elif(sweeping):
            m.d.sync += [sweep_place.eq(sweep_place + 1), sweeping.eq(~sweep_place.all())]
        for e in engines:
            port = self.engines[e]
            m.d.comb += port.release.eq(tag1.valid & tag1.pass_end & (engine1 == e))
            m.d.sync += [
                port.claim.eq(Mux(walker.step & (passes.engine == e),
                                  (1 << lowest) | Mux(pair, 2 << lowest, 0), 0)),
                port.read.eq(port.claim | sweeping.replicate(cfg.units)),
            ]
            # Registers of every engine's own, near its units.
            with m.If(sweeping):
                m.d.sync += [Cat(port.address, port.bank).eq(sweep_place), port.clear.eq(1)]
            with m.Elif(engine0 == e):
                m.d.sync += [
                    port.bank.eq(bank0), port.clear.eq(clear0),
                    port.address.eq(position0 >> unit_bits),
                ]

        # Stage 3: the pool's maximum before the neuron; membranes of the previous group.
        tag3 = Signal(visit_tag())
        pooled = [Signal(layouts.currents(cfg), name=f"pooled{i}", reset_less=True)
                  for i in range(2)]
        slot = Signal(10)
        # Of a readout the sum over timesteps, of bit-planes their sum by place.
        sums = [Signal(signed(20), name=f"sum{i}", reset_less=True) for i in range(cfg.lanes)]
        window_is_first = Signal()
        to_neuron = Signal()
        # Of a pool's window: an earlier visit was inside; this one or an earlier one is.
        found, had, has = Signal(), Signal(), Signal()
        m.d.comb += [
            had.eq(found & ~tag2.window_first), has.eq(had | tag2.inside[0]),
            to_neuron.eq(tag2.valid & (tag2.window_last | ~layer.pool_max)),
            self.visits.eq(Mux(to_neuron & ~layer.readout, Mux(
                layer.pool_max, has, tag2.inside[0] + tag2.inside[1]), 0)),
        ]
        # Every engine's membranes in its own part of the memory.
        place = Cat(slot[:(cfg.tile_positions - 1).bit_length()], engine2)
        m.d.sync += [tag3.eq(tag2), tag3.slot.eq(place), pooled[1].eq(currents2[1])]
        with m.If(layer.pool_max):
            # One visit a window reaches the neuron; it stands for the window's first one, too.
            m.d.sync += [
                tag3.valid.eq(to_neuron), tag3.window_first.eq(1),
                tag3.pass_first.eq(Mux(tag2.window_first, tag2.pass_first, window_is_first)),
                tag3.inside.eq(has),
            ]
        with m.If(tag2.valid & tag2.window_first):
            m.d.sync += window_is_first.eq(tag2.pass_first)
        with m.If(tag2.valid):
            m.d.sync += found.eq(has)
        for t in range(TIMESTEPS_PER_GROUP):
            new, best = currents2[0][t], pooled[0][t]
            keep = layer.pool_max & (~tag2.inside[0] | (had & (best > new)))
            with m.If(tag2.valid & ~keep):
                m.d.sync += best.eq(new)
        with m.If(to_neuron):
            m.d.sync += slot.eq(Mux(tag2.pass_end, 0, slot + 1))
        for i, total in enumerate(sums):
            parts = [Mux(layer.bit_planes, currents2[i][t] << t, currents2[i][t])
                     for t in range(TIMESTEPS_PER_GROUP)]
            m.d.sync += total.eq(Mux(tag2.inside[i], sum(parts), 0))

        # Neuron lanes; the tag and the readout's sum travel alongside.
        tags, totals = [tag3], sums[0]
        for i in range(LATENCY):
            next_tag = Signal(visit_tag(), name=f"tag_{i}")
            next_total = Signal(signed(20), name=f"total_{i}", reset_less=True)
            m.d.sync += [next_tag.eq(tags[-1]), next_total.eq(totals)]
            tags, totals = [*tags, next_tag], next_total
        for i in range(cfg.lanes):
            m.submodules[f"lane{i}"] = lane = NeuronLane(cfg)
            m.submodules[f"membranes{i}"] = membranes = Memory(
                shape=MEMBRANE, depth=cfg.tile_positions * self._engines, init=[])
            write, back = membranes.write_port(), membranes.read_port()
            m.d.comb += [
                lane.layer.eq(layer),
                lane.bias0.eq(live[0].header.row.bias), lane.bias1.eq(live[1].header.row.bias),
                lane.threshold0.eq(live[0].header.row.threshold),
                lane.threshold1.eq(live[1].header.row.threshold),
                lane.currents.eq(pooled[i]), lane.total.eq(sums[i]),
                lane.parity.eq(tag3.parity),
                back.addr.eq(place),
                lane.membrane.eq(Mux(select(tag3.parity).first_group, layer.v_reset, back.data)),
                write.addr.eq(tags[-1].slot), write.data.eq(lane.membrane_out),
                write.en.eq(tags[-1].valid & ~layer.readout),
                outputs.spikes[i].eq(lane.spikes),
            ]
        m.d.comb += [
            outputs.tag.eq(tags[-2]), outputs.sum.eq(totals),
            outputs.header0.eq(live[0].header), outputs.header1.eq(live[1].header),
            packer.base0.eq(live[0].base), packer.base1.eq(live[1].base),
            packer.total0.eq(outputs.total0), packer.total1.eq(outputs.total1),
        ]
        wiring.connect(m, packer.o, wiring.flipped(self.o))
        return m

    def _connect_gate(self, m, walker, packer):
        """Scores of what is packed; the list of kept tokens for the walker."""
        cfg, gate = self._config, self.gate
        m.submodules.scores = scores = Scores(cfg, cfg.gate_tokens)
        m.submodules.list = memory = Memory(
            shape=range(cfg.gate_tokens), depth=cfg.gate_tokens, init=[])
        write, read = memory.write_port(), memory.read_port(domain="comb")
        m.d.comb += [
            scores.valid.eq(packer.scores.valid), scores.masks.eq(packer.scores.masks),
            scores.pair.eq(packer.scores.pair), scores.position.eq(packer.scores.position),
            scores.clear.eq(gate.clear), gate.busy.eq(scores.busy), scores.token.eq(gate.token),
            gate.score.eq(scores.score),
            write.en.eq(gate.list_write), write.addr.eq(gate.list_index),
            write.data.eq(gate.list_token), read.addr.eq(walker.list_index),
            walker.list_token.eq(read.data),
        ]
