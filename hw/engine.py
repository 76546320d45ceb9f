"""Engine: one row of the network at a time, from compressed weights to finished map words."""

from __future__ import annotations

from amaranth import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from . import layouts
from .attention import AttentionSource
from .config import WORD_BITS, CoreConfig
from .decoder import RowDecoder
from .drain import Drain
from .fetch import Fetch
from .gate import GatePort
from .unit import AccumulateUnit


class EngineEvents(wiring.Signature):
    """What happened in an engine in this cycle, for the counters."""

    def __init__(self, config: CoreConfig):
        super().__init__({
            "words": Out(1), "weights": Out(1), "updates": Out(range(config.units + 1)),
            "queue_stall": Out(1), "port_stall": Out(1), "starved": Out(1),
            "bank_wait": Out(range(config.units + 1)), "neurons": Out(2),
        })


class Engine(wiring.Component):
    """Decoder -> fetch -> units -> drain; wiring only.

    `sweep` clears the accumulators, at least 2 * acc_depth cycles before `start`.
    Between `start` and `done` the engine works through its rows of the layer on its own.
    """

    def __init__(self, config: CoreConfig):
        self._config = config
        super().__init__({
            "layer": In(layouts.LAYER), "sweep": In(1), "start": In(1), "done": Out(1),
            "rows": In(layouts.ENGINE),
            "tap_write": In(1), "tap_index": In(7), "tap": In(layouts.TAP),
            "plane_write": In(1), "plane_index": In(6), "plane": In(layouts.PLANE),
            "weight_address": Out((config.weight_words - 1).bit_length()),
            "weight_data": In(WORD_BITS),
            "map_address": Out((config.map_words - 1).bit_length()),
            "map_data": In(config.map_bits), "port_blocked": In(1),
            "live_write": In(1), "live_address": In((config.map_words - 1).bit_length()),
            "live": In(1),
            "o": Out(stream.Signature(layouts.map_write(config))), "gate": In(GatePort(config)),
            "events": Out(EngineEvents(config)),
        })

    def elaborate(self, platform):
        m = Module()
        cfg = self._config
        m.submodules.decoder = decoder = RowDecoder(cfg)
        m.submodules.fetch = fetch = Fetch(cfg)
        m.submodules.drain = drain = Drain(cfg)
        units = [AccumulateUnit(cfg) for _ in range(cfg.units)]
        for i, unit in enumerate(units):
            m.submodules[f"unit{i}"] = unit

        m.d.comb += [
            decoder.layer.eq(self.layer), fetch.layer.eq(self.layer), drain.layer.eq(self.layer),
            decoder.start.eq(self.start), decoder.start_word.eq(self.rows.start),
            decoder.rows.eq(self.rows.rows),
            self.weight_address.eq(decoder.address), decoder.data.eq(self.weight_data),
            fetch.channels_tap.eq(decoder.channels_tap), decoder.channels.eq(fetch.channels),
            fetch.tap_write.eq(self.tap_write), fetch.tap_index.eq(self.tap_index),
            fetch.tap.eq(self.tap), fetch.plane_write.eq(self.plane_write),
            fetch.plane_index.eq(self.plane_index), fetch.plane.eq(self.plane),
            self.map_address.eq(fetch.map_address), fetch.map_data.eq(self.map_data),
            fetch.port_blocked.eq(self.port_blocked), fetch.live_write.eq(self.live_write),
            fetch.live_address.eq(self.live_address), fetch.live.eq(self.live),
        ]
        m.d.sync += fetch.almost_full.eq(Cat(u.almost_full for u in units).any())
        if cfg.attention:
            self._attend(m, decoder, fetch)
        wiring.connect(m, decoder.items, fetch.items)
        wiring.connect(m, decoder.header, drain.headers)
        wiring.connect(m, drain.o, wiring.flipped(self.o))
        wiring.connect(m, wiring.flipped(self.gate), drain.gate)
        for i, unit in enumerate(units):
            m.d.comb += [
                unit.push.eq(fetch.push[i]), unit.job.eq(fetch.jobs[i]),
                unit.release.eq(drain.release), unit.release_bank.eq(drain.bank),
                unit.claim.eq(drain.claim[i]), unit.drain.eq(drain.read[i]),
                unit.drain_bank.eq(drain.bank), unit.drain_clear.eq(drain.clear),
                unit.drain_address.eq(drain.address), unit.sweep.eq(self.sweep),
                drain.currents[i].eq(unit.currents), drain.filled[i].eq(unit.filled),
            ]

        # The drain's header queue holds a pass until it is drained, so an idle decoder and an
        # idle drain mean that nothing is on its way.
        working = Signal()
        m.d.sync += working.eq(~decoder.idle | ~drain.idle | self.start)
        m.d.comb += self.done.eq(~working & ~self.start & decoder.idle & drain.idle)

        # A register between the units and the counters.
        events = self.events
        m.d.sync += [
            events.words.eq(fetch.issued | (fetch.granted if cfg.attention else 0)),
            events.weights.eq(fetch.weight),
            events.queue_stall.eq(fetch.queue_stall), events.port_stall.eq(fetch.port_stall),
            events.starved.eq(fetch.starved & ~decoder.idle), events.neurons.eq(drain.visits),
            events.updates.eq(sum(u.update for u in units)),
            events.bank_wait.eq(sum(u.waiting for u in units)),
        ]
        return m

    def _attend(self, m, decoder, fetch):
        """The source of an attention layer's items, with the map port's free cycles."""
        m.submodules.attention = source = AttentionSource(self._config)
        layer = self.layer
        m.d.comb += [
            source.layer.key.eq(layer.key), source.layer.value.eq(layer.value),
            source.layer.words.eq(layer.key_words), source.layer.width.eq(layer.head_width),
            source.layer.channel_stride.eq(layer.key_words), source.layer.channel_step.eq(1),
            source.layer.group_stride.eq(layer.key_group_stride),
            source.reset_head.eq(self.sweep), source.start.eq(decoder.attend),
            source.channel.eq(decoder.channel), source.group.eq(decoder.group),
            decoder.attended.eq(source.done), source.data.eq(self.map_data),
            fetch.request.eq(source.request), fetch.request_address.eq(source.address),
            source.granted.eq(fetch.granted),
        ]
        wiring.connect(m, source.items, decoder.sums)
