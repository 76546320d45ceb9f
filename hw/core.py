"""The core: clusters of engines, memories, sequencer, counters, the host's window onto memories."""

from __future__ import annotations

from amaranth import Array, Cat, Const, Module, Mux, ResetInserter, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from . import layouts
from .cluster import EngineCluster
from .config import WORD_BITS, CoreConfig
from .copies import own_copy
from .gate import TopK
from .memories import PairMemory
from .registers import COUNTER_LAYERS, COUNTER_WORDS, COUNTERS, Space, Status
from .sequencer import Sequencer
from .stream import DramPort, Streamer
from .sums import SumWriter


class HostBus(wiring.Signature):
    """The host's access to the memories while the core is not busy; 32 bits a cycle.

    space: a `registers.Space`. addr: 32-bit word address in the space. In the map space a map word
    is map_bits / 32 consecutive addresses; a write is carried out with its last one.
    r_valid follows r_en after 4 cycles, in order; in the DRAM's spaces after any number, and there
    one access at a time: the next one waits for r_valid, or after a write for w_done.
    """

    def __init__(self):
        super().__init__({
            "space": Out(3), "addr": Out(24), "w_data": Out(WORD_BITS), "w_en": Out(1),
            "r_en": Out(1), "r_data": In(WORD_BITS), "r_valid": In(1), "w_done": In(1),
        })


class WriteArbiter(wiring.Component):
    """Round-robin choice of one cluster's finished word a cycle, registered.

    announce: a word is written in the next cycle. blocked: the same, for every pair of engines.
    With sums: hold: none is chosen. adds: what is chosen goes to `sums.SumWriter`, and `write` says
    that it is there. adder_writes: that unit writes in two cycles.
    """

    def __init__(self, config: CoreConfig):
        self._config = config
        super().__init__({
            "valid": In(config.drains), "ready": Out(config.drains),
            "payload": In(data.ArrayLayout(layouts.map_write(config), config.drains)),
            "announce": Out(1), "blocked": Out(config.pairs),
            "write": Out(1), "word": Out(layouts.map_write(config)),
        } | ({"hold": In(1), "adds": In(1), "adder_writes": In(1)} if config.sums else {}))

    def elaborate(self, platform):
        m = Module()
        n, sums = self._config.drains, self._config.sums
        last = Signal(range(max(n, 2)))
        choice = Signal(range(max(n, 2)))
        # The nearest waiting cluster after the last one served.
        with m.Switch(last):
            for start in range(n):
                with m.Case(start):
                    for offset in range(n, 0, -1):
                        cluster = (start + offset) % n
                        with m.If(self.valid[cluster]):
                            m.d.comb += choice.eq(cluster)
        any_valid = self.valid.any()
        blocks = any_valid
        if sums:
            any_valid &= ~self.hold
            blocks = any_valid & ~self.adds | self.adder_writes
        m.d.comb += self.ready.eq(Mux(any_valid, 1 << choice, 0))
        stage = Signal(layouts.map_write(self._config), reset_less=True)
        m.d.sync += [
            self.announce.eq(any_valid), self.write.eq(self.announce),
            stage.eq(Array(self.payload)[choice]), self.word.eq(stage),
        ]
        m.d.comb += self.blocked.eq(Cat(own_copy(m, blocks, f"blocked{pair}")
                                        for pair in range(self._config.pairs)))
        with m.If(any_valid):
            m.d.sync += last.eq(choice)
        return m


class Core(wiring.Component):
    """Runs the layer program in its memory; see `docs/core.md`.

    Members
    -------
    reset: takes effect a cycle later; memories keep their content, and a write of the host's goes
    on.
    start, first_layer_address, stop_after: run from a program address, all layers (0) or some.
    busy, done, layer: busy while running; done pulses at the end; index of the running layer.
    next_layer_address: where a stopped run goes on.
    bus: memories, for the host.
    dram, fault: with DRAM, the memory, and why the run cannot go on, from then until a reset.
    """

    def __init__(self, config: CoreConfig):
        self.config = config
        program_bits = (config.program_words - 1).bit_length()
        super().__init__({
            "reset": In(1),
            "start": In(1), "first_layer_address": In(program_bits), "stop_after": In(8),
            "busy": Out(1), "done": Out(1), "layer": Out(8),
            "next_layer_address": Out(program_bits),
            "bus": In(HostBus()),
        } | ({"dram": Out(DramPort()), "fault": Out(Status)} if config.dram_words else {}))

    def elaborate(self, platform):
        m = Module()
        cfg, bus = self.config, self.bus
        reset = own_copy(m, self.reset, "reset_control")
        sequencer, arbiter = Sequencer(cfg), WriteArbiter(cfg)
        m.submodules.sequencer = ResetInserter(reset)(sequencer)
        m.submodules.arbiter = ResetInserter(reset)(arbiter)
        # The last cluster may have an engine less.
        clusters = [EngineCluster(cfg, min(cfg.drain_engines, cfg.engines - n * cfg.drain_engines))
                    for n in range(cfg.drains)]
        engines = [memory for cluster in clusters for memory in cluster.memories]
        for n, cluster in enumerate(clusters):
            m.submodules[f"cluster{n}"] = cluster
            m.d.comb += cluster.reset.eq(self.reset)
        maps = [PairMemory(cfg.map_bits, cfg.map_words) for _ in range(cfg.pairs)]
        weights = [PairMemory(WORD_BITS, depth) for depth in cfg.weight_depths]
        for i in range(cfg.pairs):
            m.submodules[f"map{i}"], m.submodules[f"weights{i}"] = maps[i], weights[i]

        m.d.comb += [
            sequencer.start.eq(self.start),
            sequencer.first_address.eq(self.first_layer_address),
            sequencer.stop_after.eq(self.stop_after),
            self.busy.eq(sequencer.busy), self.done.eq(sequencer.done),
            self.layer.eq(sequencer.index), self.next_layer_address.eq(sequencer.next_address),
        ]

        # Host writes, registered once; from the reset on there is no run for them to disturb.
        space, address = Signal(3), Signal(24)
        write, write_data = Signal(), Signal(WORD_BITS)
        m.d.sync += [
            space.eq(bus.space), address.eq(bus.addr), write_data.eq(bus.w_data),
            write.eq(bus.w_en & (~sequencer.busy | reset)),
        ]
        lanes = cfg.map_bits // WORD_BITS
        lane_bits = (lanes - 1).bit_length()
        collected = Signal(WORD_BITS * (lanes - 1), reset_less=True)
        host_map_write = Signal()
        m.d.comb += host_map_write.eq(
            write & (space == Space.MAP) & (address[:lane_bits] == lanes - 1))
        with m.If(write & (space == Space.MAP)):
            m.d.sync += collected.eq(Cat(collected, write_data)[WORD_BITS:])

        # Which map words have a spike at all; engines do not read the others.
        live_write, live_address = Signal(), Signal((cfg.map_words - 1).bit_length())
        live = Signal()
        m.d.sync += [
            live_write.eq(maps[0].write), live_address.eq(maps[0].a_address),
            live.eq(maps[0].write_data.any()),
        ]

        # A cycle late, which is early enough: engines read long after the start, the host long
        # after the end.
        running = Signal()
        m.d.sync += running.eq(sequencer.busy)

        # Map memory: every copy is written alike; port A is shared with the even engine.
        writing = arbiter.announce | arbiter.write
        written, word = arbiter.write, arbiter.word
        if cfg.sums:
            adder = self._sums(m, sequencer, arbiter, engines, reset)
            writing, written, word = arbiter.announce | adder.busy, adder.write, adder.o
        for i, ram in enumerate(maps):
            even, odd = engines[2 * i], engines[2 * i + 1] if 2 * i + 1 < cfg.engines else None
            m.d.comb += [
                ram.write.eq(written | host_map_write),
                ram.write_data.eq(Mux(written, word.data, Cat(collected, write_data))),
                even.map_data.eq(ram.a_data), even.port_blocked.eq(arbiter.blocked[i]),
            ]
            with m.If(written):
                m.d.comb += ram.a_address.eq(word.address)
            with m.Elif(running):
                m.d.comb += ram.a_address.eq(even.map_address)
            with m.Else():
                m.d.comb += ram.a_address.eq(address >> lane_bits)
            if odd is not None:
                m.d.comb += [ram.b_address.eq(odd.map_address), odd.map_data.eq(ram.b_data)]
        if cfg.sums:        # every copy has all words; the last one's port B is the freest
            m.d.comb += adder.data.eq(maps[-1].b_data)
            with m.If(adder.read):
                m.d.comb += maps[-1].b_address.eq(adder.read_address)

        # Weight memories.
        weight_bits = (cfg.weight_stride - 1).bit_length()
        for i, ram in enumerate(weights):
            even, odd = engines[2 * i], engines[2 * i + 1] if 2 * i + 1 < cfg.engines else None
            m.d.comb += [
                ram.write.eq(write & (space == Space.WEIGHT) & (address >> weight_bits == i)),
                ram.write_data.eq(write_data), even.weight_data.eq(ram.a_data),
                ram.a_address.eq(Mux(running, self._place(even, 2 * i), address)),
            ]
            if odd is not None:
                m.d.comb += [ram.b_address.eq(self._place(odd, 2 * i + 1)),
                             odd.weight_data.eq(ram.b_data)]
        host_read = Signal()    # a word from DRAM
        if cfg.dram_words:
            streamer = self._stream(m, sequencer, engines, weights, reset)
            m.d.comb += [
                bus.w_done.eq(streamer.host_done & streamer.host_write),
                host_read.eq(streamer.host_done & ~streamer.host_write),
            ]

        # Program memory.
        m.submodules.program = program = Memory(
            shape=WORD_BITS, depth=cfg.program_words, init=[])
        program_write, program_read = program.write_port(), program.read_port()
        m.d.comb += [
            program_write.addr.eq(address), program_write.data.eq(write_data),
            program_write.en.eq(write & (space == Space.PROGRAM)),
            program_read.addr.eq(Mux(sequencer.busy, sequencer.address, address)),
            sequencer.data.eq(program_read.data),
        ]

        # Engines.
        m.d.comb += arbiter.valid.eq(Cat(cluster.o.valid for cluster in clusters))
        gate_busy, mask = Signal(), Const(0)
        if cfg.gate:
            mask = self._gate(m, clusters, sequencer, gate_busy, address,
                              write & (space == Space.GATE), write_data, reset)
        # A cycle late: the engines are not done in the cycle in which they start.
        m.d.sync += sequencer.engines_done.eq(Cat(cluster.done for cluster in clusters).all()
                                              & ~(writing | gate_busy))
        for engine, rows in zip(engines, sequencer.rows, strict=True):
            m.d.comb += engine.rows.eq(rows)
        for n, cluster in enumerate(clusters):
            setup = cluster.setup
            m.d.comb += [
                setup.layer.eq(sequencer.layer), setup.masks.eq(sequencer.masks),
                setup.start.eq(sequencer.run),
                setup.sweep.eq(sequencer.begin),
                setup.tap_write.eq(sequencer.tap_write), setup.tap.eq(sequencer.tap),
                setup.tap_index.eq(sequencer.tap_index),
                setup.plane_write.eq(sequencer.plane_write), setup.plane.eq(sequencer.plane),
                setup.plane_index.eq(sequencer.plane_index),
                setup.live_write.eq(live_write), setup.live_address.eq(live_address),
                setup.live.eq(live),
                arbiter.payload[n].eq(cluster.o.payload), cluster.o.ready.eq(arbiter.ready[n]),
            ]

        log_data = self._counters(m, clusters, engines, written, sequencer, address, reset)

        # Host reads: the address was registered above, the memories answer one cycle later. One
        # register behind each memory, one behind the choice of the space.
        reading = Signal(4)
        m.d.sync += [reading.eq(Cat(bus.r_en & ~sequencer.busy & ~self._in_dram(), reading)),
                     bus.r_valid.eq(reading[2] | host_read)]
        with m.If(reset):
            m.d.sync += reading.eq(0)
        old_address, spaces = Signal.like(address), [Signal.like(space) for _ in range(2)]
        m.d.sync += [old_address.eq(address), spaces[0].eq(space), spaces[1].eq(spaces[0])]
        map_words = data.View(data.ArrayLayout(WORD_BITS, lanes), maps[0].a_data)
        answers = {
            Space.MAP: map_words[old_address[:lane_bits]] if lanes > 1 else map_words[0],
            Space.WEIGHT: Array(w.a_data for w in weights)[(old_address >> weight_bits)[:8]],
            Space.PROGRAM: program_read.data, Space.COUNTER: log_data, Space.GATE: mask,
        }
        got = {which: Signal(WORD_BITS, name=f"read_{which.name.lower()}", reset_less=True)
               for which in answers}
        m.d.sync += [word.eq(answers[which]) for which, word in got.items()]
        m.d.sync += bus.r_data.eq(0)
        with m.Switch(spaces[1]):
            for which, word in got.items():
                with m.Case(which):
                    m.d.sync += bus.r_data.eq(word)
        if cfg.dram_words:
            with m.If(host_read):
                m.d.sync += bus.r_data.eq(streamer.host_read)
        return m

    def _sums(self, m, sequencer, arbiter, engines, reset):
        """The adder of residual sums, between arbiter and map memory."""
        adder = SumWriter(self.config)
        m.submodules.sums = ResetInserter(reset)(adder)
        m.d.comb += [
            adder.layer.eq(sequencer.layer), adder.chosen.eq(arbiter.ready.any()),
            adder.first.eq(arbiter.write), adder.word.eq(arbiter.word),
            arbiter.hold.eq(adder.hold), arbiter.adds.eq(adder.adds),
            arbiter.adder_writes.eq(adder.read),
        ]
        if len(engines) % 2 == 0:       # else that port is nobody's
            m.d.comb += engines[-1].port_blocked.eq(own_copy(m, adder.asks, "blocked_by_sums"))
        return adder

    def _in_dram(self):
        """Whether the host's access is to the DRAM."""
        return self.bus.space == Space.DRAM if self.config.dram_words else Const(0)

    def _place(self, engine, number: int):
        """Where an engine reads in its weight memory: of a stream, in its ring."""
        cfg, address = self.config, engine.weight_address
        if not cfg.dram_words:
            return address
        return Mux(engine.stream.streaming, self._in_ring(address, number), address)

    def _in_ring(self, word, number: int):
        """Place of a stream's word in the weight memory of an engine's pair."""
        bits = (self.config.ring_words - 1).bit_length()
        return Cat(word[:bits], Const(self.config.ring_bases[number] >> bits))

    def _stream(self, m, sequencer, engines, weights, reset):
        """The streamer, between DRAM, rings, engines and host; all of it goes on in a reset, which
        ends the streams as a write of the host's to weights does."""
        m.submodules.streamer = streamer = Streamer(self.config)
        bus = self.bus
        wiring.connect(m, streamer.port, wiring.flipped(self.dram))
        m.d.comb += [
            streamer.restart.eq(sequencer.restart_streams), streamer.go.eq(sequencer.stream),
            sequencer.settled.eq(streamer.quiet),
            streamer.stop.eq(reset | (bus.w_en & ~sequencer.busy & (
                (bus.space == Space.WEIGHT) | (bus.space == Space.DRAM)))),
        ]
        restarted = Signal()    # a cycle late: the engines have the layer only then
        m.d.sync += restarted.eq(sequencer.restart_streams)
        for n, engine in enumerate(engines):
            ring, ram = engine.stream, weights[n // 2]
            writes = streamer.write & (streamer.write_engine == n)
            m.d.comb += [
                ring.limit.eq(streamer.limit[n]), streamer.freed[n].eq(ring.freed),
                ring.restart.eq(restarted),
            ]
            with m.If(writes):
                m.d.comb += [
                    ram.write.eq(1), ram.write_data.eq(streamer.write_data),
                    ram.a_address.eq(self._in_ring(streamer.write_word, n)),
                    engines[n - n % 2].stream.blocked.eq(1),    # it reads by that port
                ]
        # A layer that is not where the streams are: nobody ran those before, or somebody wrote.
        misplaced = Signal()
        m.d.sync += [
            misplaced.eq(Cat(engine.stream.misplaced for engine in engines).any()
                         | (sequencer.run & sequencer.layer.streamed
                            & ~(streamer.restarting | streamer.active))),
            self.fault.eq(Mux(misplaced, Status.OUT_OF_TURN,
                              Mux(self.fault != Status.OK, self.fault, streamer.fault))),
        ]
        with m.If(reset | self.start):
            m.d.sync += self.fault.eq(Status.OK)
        # One access of the host's, held until it is done.
        m.d.sync += streamer.host_request.eq(streamer.host_request & ~streamer.host_done)
        with m.If((bus.w_en | bus.r_en) & self._in_dram()):
            m.d.sync += [
                streamer.host_request.eq(1), streamer.host_write.eq(bus.w_en),
                streamer.host_address.eq(bus.addr), streamer.host_data.eq(bus.w_data),
            ]
        return streamer

    def _gate(self, m, clusters, sequencer, busy, address, mask_write, mask_data, reset):
        """Scores of all clusters to the gate, its list to them. Returns the mask's read data."""
        layer, tokens = sequencer.layer, self.config.gate_tokens
        gate = TopK(self.config.drains, tokens)
        m.submodules.gate = ResetInserter(reset)(gate)
        m.d.comb += [
            gate.start.eq(sequencer.run & layer.gate), gate.host.eq(layer.gate_host),
            gate.tokens.eq(layer.positions), gate.keep.eq(layer.out_pitch),
            gate.bits.eq(layer.strip_words), gate.pitch_mask.eq(layer.pitch_mask),
            gate.row_valid.eq(layer.row_valid), busy.eq(gate.busy),
            gate.mask_index.eq(address), gate.mask_write.eq(mask_write),
            gate.mask_data.eq(mask_data), sequencer.scores_busy.eq(clusters[0].gate.busy),
        ]
        # A register on the way to all clusters; the next layer is far away.
        entry = Signal(data.StructLayout(
            {"write": 1, "index": range(tokens), "token": range(tokens)}))
        mask = Signal.like(gate.mask)
        m.d.sync += [
            entry.write.eq(gate.list_write), entry.index.eq(gate.kept),
            entry.token.eq(gate.list_token), mask.eq(gate.mask),
        ]
        for n, cluster in enumerate(clusters):
            port = cluster.gate
            m.d.comb += [
                port.clear.eq(sequencer.clear_scores), port.token.eq(gate.token),
                gate.scores[n].eq(port.score), port.list_write.eq(entry.write),
                port.list_index.eq(entry.index), port.list_token.eq(entry.token),
            ]
        return mask

    def _counters(self, m, clusters, engines, written, sequencer, address, reset):
        """Count events of the layer; store them when it ends. Returns the log's read data."""
        def total(name):
            return sum(getattr(e.events, name) for e in engines)

        increments = {"cycles": 1, "written": written,
                      "neurons": sum(cluster.neurons for cluster in clusters)}
        increments |= {name: total(name) for name in COUNTERS if name not in increments}
        # Every layer clears them as it begins, a cycle late, when no engine is at work yet.
        clear = own_copy(m, sequencer.begin, "clear")
        counters = {name: Signal(WORD_BITS, name=f"count_{name}", reset_less=True)
                    for name in COUNTERS}
        for name, counter in counters.items():
            # One register between the engines and the wide counters.
            step = Signal(range(self.config.slots + 1), name=f"step_{name}", reset_less=True)
            m.d.sync += step.eq(increments[name])
            with m.If(clear):
                m.d.sync += counter.eq(0)
            with m.Else():
                m.d.sync += counter.eq(counter + step)

        m.submodules.log = log = Memory(
            shape=WORD_BITS, depth=COUNTER_WORDS * COUNTER_LAYERS, init=[])
        write, read = log.write_port(), log.read_port()
        slot, last_slot = Signal(range(COUNTER_WORDS)), Signal()
        m.d.comb += [
            write.addr.eq(Cat(slot, sequencer.index)),
            write.en.eq(sequencer.log & (sequencer.index < COUNTER_LAYERS)),
            write.data.eq(Array(counters.values())[slot]),
            sequencer.logged.eq(last_slot), read.addr.eq(address),
        ]
        m.d.sync += last_slot.eq(sequencer.log & (slot == len(COUNTERS) - 2))
        with m.If(sequencer.log):
            m.d.sync += slot.eq(Mux(last_slot, 0, slot + 1))
        with m.If(reset):
            m.d.sync += [slot.eq(0), last_slot.eq(0)]
        return read.data
