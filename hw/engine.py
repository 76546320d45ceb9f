"""Engine: one row of the network at a time, from compressed weights to its neurons' currents."""

from __future__ import annotations

from amaranth import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from . import layouts
from .attention import AttentionSource
from .config import WORD_BITS, CoreConfig
from .decoder import RowDecoder, StreamPort
from .fetch import Fetch
from .passes import DrainPort
from .unit import AccumulateUnit


class EngineEvents(wiring.Signature):
    """What happened in an engine in this cycle, for the counters."""

    def __init__(self, config: CoreConfig):
        super().__init__({
            "words": Out(1), "weights": Out(1), "updates": Out(range(config.units + 1)),
            "queue_stall": Out(1), "port_stall": Out(1), "starved": Out(1),
            "bank_wait": Out(range(config.units + 1)),
        })


class Setup(wiring.Signature):
    """What all engines are told alike: the layer and its tables, and what is written to the map.

    sweep: clears the accumulators, at least 2 * acc_depth cycles before `start`.
    """

    def __init__(self, config: CoreConfig):
        super().__init__({
            "layer": Out(layouts.LAYER), "masks": Out(layouts.STREAM_MASKS),
            "sweep": Out(1), "start": Out(1),
            "tap_write": Out(1), "tap_index": Out(7), "tap": Out(layouts.TAP),
            "plane_write": Out(1), "plane_index": Out(6), "plane": Out(layouts.PLANE),
            "live_write": Out(1), "live_address": Out((config.map_words - 1).bit_length()),
            "live": Out(1),
        })


class MemoryPort(wiring.Signature):
    """An engine's share of a layer's rows, and its ports to the memories, from the engine's side.

    port_blocked: the map port is taken in the next cycle. stream: with DRAM only.
    """

    def __init__(self, config: CoreConfig):
        weight_bits = (config.weight_words - 1).bit_length()
        super().__init__({
            "rows": In(layouts.ENGINE),
            "weight_address": Out(weight_bits),
            "weight_data": In(WORD_BITS),
            "map_address": Out((config.map_words - 1).bit_length()),
            "map_data": In(config.map_bits), "port_blocked": In(1),
            "events": Out(EngineEvents(config)),
        } | ({"stream": Out(StreamPort(weight_bits))} if config.dram_words else {}))


class Engine(wiring.Component):
    """Decoder -> fetch -> units; wiring only.

    From `start` on the engine works through its rows of the layer on its own, as far as the drain
    takes the passes that it has ended. idle: all weights have left the decoder.
    """

    def __init__(self, config: CoreConfig):
        self._config = config
        super().__init__({
            "setup": In(Setup(config)), "memory": Out(MemoryPort(config)),
            "drain": In(DrainPort(config)), "idle": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        cfg, setup, memory, drain = self._config, self.setup, self.memory, self.drain
        m.submodules.decoder = decoder = RowDecoder(cfg)
        m.submodules.fetch = fetch = Fetch(cfg)
        units = [AccumulateUnit(cfg) for _ in range(cfg.units)]
        for i, unit in enumerate(units):
            m.submodules[f"unit{i}"] = unit

        m.d.comb += [
            decoder.layer.eq(setup.layer), fetch.layer.eq(setup.layer),
            decoder.masks.eq(setup.masks),
            decoder.start.eq(setup.start), decoder.start_word.eq(memory.rows.start),
            decoder.rows.eq(memory.rows.rows), self.idle.eq(decoder.idle),
            memory.weight_address.eq(decoder.address), decoder.data.eq(memory.weight_data),
            fetch.channels_tap.eq(decoder.channels_tap), decoder.channels.eq(fetch.channels),
            fetch.tap_write.eq(setup.tap_write), fetch.tap_index.eq(setup.tap_index),
            fetch.tap.eq(setup.tap), fetch.plane_write.eq(setup.plane_write),
            fetch.plane_index.eq(setup.plane_index), fetch.plane.eq(setup.plane),
            memory.map_address.eq(fetch.map_address), fetch.map_data.eq(memory.map_data),
            fetch.port_blocked.eq(memory.port_blocked), fetch.live_write.eq(setup.live_write),
            fetch.live_address.eq(setup.live_address), fetch.live.eq(setup.live),
        ]
        m.d.sync += fetch.almost_full.eq(Cat(u.almost_full for u in units).any())
        if cfg.attention:
            self._attend(m, decoder, fetch)
        if cfg.dram_words:
            wiring.connect(m, decoder.stream, wiring.flipped(memory.stream))
        wiring.connect(m, decoder.items, fetch.items)
        wiring.connect(m, decoder.header, wiring.flipped(drain.headers))
        for i, unit in enumerate(units):
            m.d.comb += [
                unit.push.eq(fetch.push[i]), unit.job.eq(fetch.jobs[i]),
                unit.release.eq(drain.release), unit.release_bank.eq(drain.bank),
                unit.claim.eq(drain.claim[i]), unit.drain.eq(drain.read[i]),
                unit.drain_bank.eq(drain.bank), unit.drain_clear.eq(drain.clear),
                unit.drain_address.eq(drain.address),
                drain.currents[i].eq(unit.currents), drain.filled[i].eq(unit.filled),
            ]

        # A register between the units and the counters.
        events = memory.events
        m.d.sync += [
            events.words.eq(fetch.issued | (fetch.granted if cfg.attention else 0)),
            events.weights.eq(fetch.weight),
            events.queue_stall.eq(fetch.queue_stall), events.port_stall.eq(fetch.port_stall),
            events.starved.eq(fetch.starved & ~decoder.idle),
            events.updates.eq(sum(u.update for u in units)),
            events.bank_wait.eq(sum(u.waiting for u in units)),
        ]
        return m

    def _attend(self, m, decoder, fetch):
        """The source of an attention layer's items, with the map port's free cycles."""
        m.submodules.attention = source = AttentionSource(self._config)
        layer = self.setup.layer
        m.d.comb += [
            source.layer.key.eq(layer.key), source.layer.value.eq(layer.value),
            source.layer.words.eq(layer.key_words), source.layer.width.eq(layer.head_width),
            source.layer.channel_stride.eq(layer.key_words), source.layer.channel_step.eq(1),
            source.layer.group_stride.eq(layer.key_group_stride),
            source.reset_head.eq(self.setup.sweep), source.start.eq(decoder.attend),
            source.channel.eq(decoder.channel), source.group.eq(decoder.group),
            decoder.attended.eq(source.done), source.data.eq(self.memory.map_data),
            fetch.request.eq(source.request), fetch.request_address.eq(source.address),
            source.granted.eq(fetch.granted),
        ]
        wiring.connect(m, source.items, decoder.sums)
