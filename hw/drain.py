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
from .unit import JobQueue
from .walker import Walker


class Drain(wiring.Component):
    """Drains one pass after another: waits until all units have filled a bank, walks it, frees it.

    Members
    -------
    headers: one per pass, from the row decoder.
    filled: per unit, its two bank flags. release: `bank` has been read.
    read, clear, bank, address, currents: read (and clear) accumulators of the units in `read`,
        each claimed one cycle before.
    o: finished map words. visits: neurons that entered the lanes in this cycle (0..2).
    gate: with a gate, scores of this engine's outputs and the list of kept tokens.
    """

    def __init__(self, config: CoreConfig):
        self._config = config
        self._address_bits = (config.map_words - 1).bit_length()
        super().__init__({
            "layer": In(layouts.LAYER),
            "headers": In(stream.Signature(layouts.pass_header())),
            "filled": In(data.ArrayLayout(2, config.units)),
            "release": Out(1), "bank": Out(1),
            "claim": Out(config.units), "read": Out(config.units), "clear": Out(1),
            "address": Out(range(config.acc_depth)),
            "currents": In(data.ArrayLayout(layouts.currents(config), config.units)),
            "o": Out(stream.Signature(layouts.map_write(config))),
            "visits": Out(2), "idle": Out(1), "gate": In(GatePort(config)),
        })

    def elaborate(self, platform):
        m = Module()
        cfg, layer = self._config, self.layer
        unit_bits = (cfg.units - 1).bit_length()

        m.submodules.queue = queue = Memory(shape=layouts.pass_header(), depth=4, init=[])
        queue_write, queue_read = queue.write_port(), queue.read_port(domain="comb")
        level, pop = Signal(3), Signal()
        m.d.comb += [
            self.headers.ready.eq(level != 4),
            queue_write.data.eq(self.headers.payload),
            queue_write.en.eq(self.headers.valid & self.headers.ready),
        ]
        with m.If(queue_write.en):
            m.d.sync += queue_write.addr.eq(queue_write.addr + 1)
        with m.If(pop):
            m.d.sync += queue_read.addr.eq(queue_read.addr + 1)
        m.d.sync += level.eq(level + queue_write.en - pop)

        m.submodules.walker = walker = Walker(cfg)
        m.submodules.outputs = outputs = Outputs(cfg)
        m.submodules.finished = finished = JobQueue(output(cfg), DRAIN_QUEUE, DRAIN_MARGIN)
        m.submodules.packer = packer = Packer(cfg)
        m.d.comb += [
            walker.layer.eq(layer), outputs.layer.eq(layer), packer.layer.eq(layer),
            finished.push.eq(outputs.push), finished.i.eq(outputs.o),
        ]
        wiring.connect(m, finished.o, packer.i)

        # Headers and output addresses of the two passes that can be in the pipeline.
        headers = [Signal(layouts.pass_header(), name=f"header{i}", reset_less=True)
                   for i in range(2)]
        bases = [Signal(self._address_bits, name=f"base{i}", reset_less=True) for i in range(2)]
        if cfg.gate:
            words = self._connect_gate(m, walker, packer)
        parity, in_flight = Signal(), Signal(2)
        strip_offset, first_strip = Signal(self._address_bits), Signal()
        group_offset = Signal(self._address_bits)
        product = Signal(self._address_bits)

        def select(which):
            return data.View(layouts.pass_header(), Mux(
                which, headers[1].as_value(), headers[0].as_value()))

        header = select(parity)
        walk_bank = Signal()
        # A cycle late: a flag of this bank, once set, stays until the bank has been walked.
        all_filled = Signal()
        m.d.sync += all_filled.eq(Cat(u.bit_select(walk_bank, 1) for u in self.filled).all())
        # With several groups the membranes of a pass must be stored before the next one reads.
        may_start = Mux(layer.n_groups == 1, in_flight < 2, in_flight == 0)
        m.d.comb += [
            walker.step.eq(walker.running & ~finished.almost_full),
            walker.last_strip.eq(header.last_strip),
        ]
        with m.FSM() as fsm:
            with m.State("HEADER"):
                with m.If((level != 0) & may_start):
                    m.d.comb += [pop.eq(1), walker.prepare.eq(1)]
                    for i in range(2):
                        with m.If(parity == i):
                            m.d.sync += headers[i].eq(queue_read.data)
                    m.d.sync += product.eq(
                        queue_read.data.row.channel * layer.out_channel_stride)
                    with m.If(queue_read.data.first_group):
                        m.d.sync += [
                            group_offset.eq(0), first_strip.eq(queue_read.data.first),
                            strip_offset.eq(Mux(queue_read.data.first, 0,
                                                strip_offset + layer.strip_out_words)),
                        ]
                    with m.Else():
                        m.d.sync += group_offset.eq(group_offset + layer.out_group_stride)
                    m.next = "BASE"
            with m.State("BASE"):
                offset = Mux(layer.flush_strip, strip_offset + group_offset, 0)
                for i in range(2):
                    with m.If(parity == i):
                        m.d.sync += bases[i].eq(layer.out_base + product + offset)
                        if cfg.gate:
                            m.d.sync += words[i].eq(Mux(layer.flush_strip, strip_offset, 0))
                m.next = "WAIT"
            with m.State("WAIT"):
                with m.If(all_filled):
                    m.d.comb += walker.start.eq(1)
                    m.next = "WALK"
            with m.State("WALK"):
                with m.If(walker.step & walker.last):
                    m.d.sync += [parity.eq(~parity), walk_bank.eq(~walk_bank)]
                    m.next = "HEADER"
            m.d.sync += in_flight.eq(in_flight + walker.start - packer.pass_done)
            m.d.comb += self.idle.eq(
                fsm.ongoing("HEADER") & (level == 0) & (in_flight == 0) & ~packer.busy)

        # Stage 0: the position of the walk claims its units. Stage 1: read the accumulators. From
        # here on nothing waits: the walk stops in time for the queue behind the neuron lanes.
        tag0, tag1, tag2 = (Signal(visit_tag(), name=f"tag{i}") for i in range(3))
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
        m.d.comb += [
            beyond.eq(layer.pool_overlap & (walker.at_edge & Cat(1, first_strip)).any()),
            self.release.eq(tag1.valid & tag1.pass_end),
        ]
        m.d.sync += [
            self.claim.eq(Mux(walker.step, (1 << lowest) | Mux(pair, 2 << lowest, 0), 0)),
            tag0.valid.eq(walker.step), tag0.parity.eq(parity),
            tag0.window_first.eq(walker.window_first), tag0.window_last.eq(walker.window_last),
            tag0.row_end.eq(walker.row_end), tag0.phase_end.eq(walker.phase_end),
            tag0.pass_first.eq(walker.first), tag0.pass_end.eq(walker.last),
            tag0.inside.eq(Cat(inside(walker.position) & ~beyond,
                               pair & inside(walker.position | 1))),
            clear0.eq(walker.clear | ~layer.pool_overlap), self.clear.eq(clear0),
            position0.eq(walker.position), bank0.eq(walk_bank),
            tag1.eq(tag0), self.read.eq(self.claim), self.bank.eq(bank0),
            self.address.eq(position0 >> unit_bits), unit1.eq(position0),
            tag2.eq(tag1),
            currents2[0].eq(Array(self.currents)[unit1]),
            currents2[1].eq(Array(self.currents)[unit1 | 1]),
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
        m.d.sync += [tag3.eq(tag2), tag3.slot.eq(slot), pooled[1].eq(currents2[1])]
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
                shape=MEMBRANE, depth=cfg.tile_positions, init=[])
            write, back = membranes.write_port(), membranes.read_port()
            m.d.comb += [
                lane.layer.eq(layer),
                lane.bias0.eq(headers[0].row.bias), lane.bias1.eq(headers[1].row.bias),
                lane.threshold0.eq(headers[0].row.threshold),
                lane.threshold1.eq(headers[1].row.threshold),
                lane.currents.eq(pooled[i]), lane.total.eq(sums[i]),
                lane.parity.eq(tag3.parity),
                back.addr.eq(slot),
                lane.membrane.eq(Mux(select(tag3.parity).first_group, layer.v_reset, back.data)),
                write.addr.eq(tags[-1].slot), write.data.eq(lane.membrane_out),
                write.en.eq(tags[-1].valid & ~layer.readout),
                outputs.spikes[i].eq(lane.spikes),
            ]
        m.d.comb += [
            outputs.tag.eq(tags[-2]), outputs.sum.eq(totals),
            outputs.header0.eq(headers[0]), outputs.header1.eq(headers[1]),
            packer.base0.eq(bases[0]), packer.base1.eq(bases[1]),
            packer.total0.eq(outputs.total0), packer.total1.eq(outputs.total1),
        ]
        wiring.connect(m, packer.o, wiring.flipped(self.o))
        return m

    def _connect_gate(self, m, walker, packer):
        """Scores of what is packed; the list of kept tokens for the walker. Returns registers for
        the words of the row's strips before, of the two passes that can be in the pipeline."""
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
        words = [Signal.like(packer.word0, name=f"word{i}", reset_less=True) for i in range(2)]
        m.d.comb += [packer.word0.eq(words[0]), packer.word1.eq(words[1])]
        return words
