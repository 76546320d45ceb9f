"""Fetch: from a decoded weight to jobs for the units, one map word a cycle.

weight ─► tap entry ─► planes ─► live words ─► map word ─► rotate to units ─► active lanes ─► queues
"""

from __future__ import annotations

from amaranth import Array, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from . import layouts, program
from .config import CoreConfig


class Fetch(wiring.Component):
    """Reads the map words a weight needs and deals their active lanes to the units.

    Latency from issue to the push into the queues 3 cycles; one word a cycle. Issues only while
    no queue is almost full and the map port is free in the next cycle.

    Members
    -------
    items: decoded weights. tap_*, plane_*: table writes (before the layer starts).
    map_address, map_data: map memory port, data one cycle after the address.
    live_*: every write to the map memory, and whether the word has a spike at all; silent words
        are not read.
    port_blocked: the port is taken in the next cycle.
    push, jobs: to the units; an end marker goes to all of them.
    issued: a word was requested. queue_stall, port_stall: it could not be. starved: no weight.
    """

    def __init__(self, config: CoreConfig):
        self._config = config
        self._address_bits = (config.map_words - 1).bit_length()
        super().__init__({
            "layer": In(layouts.LAYER),
            "items": In(stream.Signature(layouts.weight_item())),
            "channels_tap": In(7), "channels": Out(13),
            "tap_write": In(1), "tap_index": In(7), "tap": In(layouts.TAP),
            "plane_write": In(1), "plane_index": In(6), "plane": In(layouts.PLANE),
            "map_address": Out(self._address_bits), "map_data": In(config.map_bits),
            "port_blocked": In(1), "almost_full": In(1),
            "live_write": In(1), "live_address": In(self._address_bits), "live": In(1),
            "push": Out(config.units),
            "jobs": Out(data.ArrayLayout(layouts.job(config), config.units)),
            "issued": Out(1), "queue_stall": Out(1), "port_stall": Out(1), "starved": Out(1),
            "weight": Out(1), "idle": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        cfg, layer = self._config, self.layer
        units, subs = cfg.units, cfg.subs
        unit_bits = (units - 1).bit_length()

        # Tables in distributed RAM, written by the sequencer.
        m.submodules.taps = taps = Memory(shape=layouts.TAP, depth=cfg.taps, init=[])
        m.submodules.planes = planes = Memory(shape=layouts.PLANE, depth=cfg.planes, init=[])
        tap_write, plane_write = taps.write_port(), planes.write_port()
        tap_of_decoder, tap_of_item = taps.read_port(domain="comb"), taps.read_port(domain="comb")
        plane_read = planes.read_port(domain="comb")
        m.d.comb += [
            tap_write.addr.eq(self.tap_index), tap_write.data.eq(self.tap),
            tap_write.en.eq(self.tap_write),
            plane_write.addr.eq(self.plane_index), plane_write.data.eq(self.plane),
            plane_write.en.eq(self.plane_write),
            tap_of_decoder.addr.eq(self.channels_tap),
            self.channels.eq(tap_of_decoder.data.channels),
        ]

        # Stage 1: the item meets its tap. Stage 2: word range and channel address.
        s1, s1_valid, s1_tap = Signal(layouts.weight_item()), Signal(), Signal(layouts.TAP)
        s1_product = Signal(self._address_bits)
        s2, s2_valid, s2_tap = Signal(layouts.weight_item()), Signal(), Signal(layouts.TAP)
        s2_base, s2_first, s2_last = Signal(self._address_bits), Signal(10), Signal(10)
        s2_empty = Signal()
        s1_free, s2_free = Signal(), Signal()
        m.d.comb += [s1_free.eq(~s1_valid | s2_free), self.items.ready.eq(s1_free)]
        m.d.comb += tap_of_item.addr.eq(self.items.payload.tap)
        with m.If(s1_free):
            m.d.sync += [
                s1.eq(self.items.payload), s1_valid.eq(self.items.valid),
                s1_tap.eq(tap_of_item.data),
                s1_product.eq(self.items.payload.channel * tap_of_item.data.channel_stride),
            ]
        words = Signal(5)
        first, last, limit = Signal(signed(12)), Signal(signed(12)), Signal(signed(12))
        m.d.comb += [
            words.eq(Mux(s1.last_strip, layer.strip_words_last, layer.strip_words)),
            first.eq(s1.strip_word + s1_tap.word_offset),
            last.eq(first + words - 1 + s1_tap.extra),
            limit.eq(s1_tap.channel_words - 1),
        ]
        with m.If(s2_free):
            m.d.sync += [
                s2.eq(s1), s2_valid.eq(s1_valid), s2_tap.eq(s1_tap),
                s2_base.eq(s1_tap.base + s1_product),
                s2_first.eq(Mux(first < 0, 0, first)),
                s2_last.eq(Mux(last > limit, limit, last)),
                s2_empty.eq((last < 0) | (first > limit)),
            ]

        # Stage 3: walk the planes of the current weight.
        w, w_valid, w_tap = Signal(layouts.weight_item()), Signal(), Signal(layouts.TAP)
        w_base, w_first, w_last = Signal(self._address_bits), Signal(10), Signal(10)
        w_empty = Signal()
        plane, plane_index = Signal(6), Signal(6)
        last_plane, p_go, p_finished = Signal(), Signal(), Signal()
        q_free = Signal()
        group_planes = Signal(6)
        with m.Switch(s2.group):
            for g in range(4):
                with m.Case(g):
                    m.d.comb += group_planes.eq(g * layer.planes_per_group)
        m.d.comb += [
            last_plane.eq(plane + 1 == w_tap.plane_count),
            p_go.eq(w_valid & q_free),
            p_finished.eq(~w_valid | (p_go & (last_plane | w_empty | w.end))),
            s2_free.eq(~s2_valid | p_finished),
            self.weight.eq(w_valid & p_finished & ~w.end),
            plane_read.addr.eq(plane_index),
        ]
        with m.If(p_finished):
            m.d.sync += [
                w.eq(s2), w_valid.eq(s2_valid), w_tap.eq(s2_tap), w_base.eq(s2_base),
                w_first.eq(s2_first), w_last.eq(s2_last), w_empty.eq(s2_empty & ~s2.end),
                plane.eq(0), plane_index.eq(group_planes + s2_tap.plane_start),
            ]
        with m.Elif(p_go):
            m.d.sync += [plane.eq(plane + 1), plane_index.eq(plane_index + 1)]

        # Stage 4: which words of the plane's range have a spike. A plane without one ends here.
        span = data.StructLayout({
            "end": 1, "last_strip": 1, "strip_word": 9, "weight": signed(cfg.acc_bits),
            "shift": signed(13), "edge": 2, "mask": cfg.window,
            "word": 10, "address": self._address_bits,
        })
        q, q_valid, q_words = Signal(span), Signal(), Signal(range(cfg.tile_words + 2))
        r, r_valid, r_free = Signal(span), Signal(), Signal()
        left = Signal(cfg.tile_words + 1)
        live = self._live_bits(m, q.address, cfg.tile_words + 1)
        wanted = Signal(cfg.tile_words + 1)
        m.d.comb += [
            wanted.eq(Mux(q.end, 1, live & Cat(i < q_words for i in range(len(live))))),
            q_free.eq(~q_valid | r_free | (wanted == 0)),
        ]
        with m.If(q_free):
            m.d.sync += [
                q_valid.eq(p_go), q.end.eq(w.end), q.last_strip.eq(w.last_strip),
                q.strip_word.eq(w.strip_word), q.weight.eq(w.value << plane_read.data.shift),
                q.shift.eq(w_tap.shift), q.edge.eq(w_tap.edge),
                q.mask.eq(Cat(w_tap.mask_low, w_tap.mask_high)[:cfg.window]),
                q.word.eq(w_first), q.address.eq(w_base + plane_read.data.offset + w_first),
                q_words.eq(Mux(w_empty, 0, w_last - w_first + 1)),
            ]

        # Stage 5: visit those words, one a cycle.
        lowest, step = Signal(cfg.tile_words + 1), Signal(range(cfg.tile_words + 1))
        go, word = Signal(), Signal(10)
        for i in reversed(range(len(left))):
            with m.If(left[i]):
                m.d.comb += step.eq(i)
        m.d.comb += [
            lowest.eq(left & ~(left - 1)[:len(left)]),
            go.eq(r_valid & ~self.almost_full & ~self.port_blocked),
            r_free.eq(~r_valid | (go & (left == lowest))),
            word.eq(r.word + step),
            self.issued.eq(go & ~r.end),
            self.queue_stall.eq(r_valid & self.almost_full),
            self.port_stall.eq(r_valid & ~self.almost_full & self.port_blocked),
            self.starved.eq(~r_valid),
            self.idle.eq(~r_valid & ~q_valid & ~w_valid & ~s2_valid & ~s1_valid),
        ]
        with m.If(r_free):
            m.d.sync += [r.eq(q), left.eq(wanted), r_valid.eq(q_valid & (wanted != 0))]
        with m.Elif(go):
            m.d.sync += left.eq(left & ~lowest)

        # Accumulator row of sub-position 0 before the borrow. Rows subs or more outside the strip
        # cannot matter: `near` says so, and then a few bits are enough.
        row_bits = (cfg.acc_depth + subs).bit_length() + 1
        row = Signal(signed(14))
        m.d.comb += row.eq(subs * (word - r.strip_word) - (r.shift >> unit_bits))

        # Stage 6: the address is at the memory. Everything else travels along.
        rest = data.StructLayout({
            "valid": 1, "end": 1, "mask": cfg.window, "row": signed(row_bits), "near": 1,
            "rotate": unit_bits, "positions": 10, "weight": signed(cfg.acc_bits),
        })
        a, b, c = Signal(rest), Signal(rest), Signal(rest)
        edge_word = word & layer.row_words_mask
        use_mask = Signal()
        with m.Switch(r.edge):
            with m.Case(program.EDGE_FIRST):
                m.d.comb += use_mask.eq(edge_word == 0)
            with m.Case(program.EDGE_LAST):
                m.d.comb += use_mask.eq(edge_word == layer.row_words_mask)
            with m.Default():
                m.d.comb += use_mask.eq(1)
        m.d.sync += [
            self.map_address.eq(r.address + step),
            a.valid.eq(go), a.end.eq(r.end),
            a.mask.eq(r.mask | (~use_mask).replicate(cfg.window)),
            a.row.eq(row), a.near.eq((row >> row_bits - 1 == 0) | (row >> row_bits - 1 == -1)),
            a.rotate.eq(r.shift[:unit_bits]),
            a.positions.eq(Mux(r.last_strip, layer.positions_last, layer.positions)),
            a.weight.eq(r.weight),
        ]
        m.d.sync += b.eq(a)

        # Stage 7: the word has arrived; rotate it so that every unit sees its own lanes.
        lanes = data.View(data.ArrayLayout(layouts.MASK, cfg.window), self.map_data)
        rotated = Signal(data.ArrayLayout(layouts.MASK, cfg.window))
        for i in range(subs):
            for u in range(units):
                choices = Array(lanes[i * units + (u + r) % units] for r in range(units))
                m.d.sync += rotated[i * units + u].eq(choices[b.rotate])
        # Which accumulator rows row-1 .. row+subs-1 lie in the strip; its last row may be partial.
        in_strip, in_last_row = Signal(subs + 1), Signal(subs + 1)
        full_rows = (b.positions >> unit_bits)[:row_bits]
        for d in range(-1, subs):
            this_row = (b.row + d)[:row_bits + 1].as_signed()
            m.d.sync += [
                in_strip[d + 1].eq(b.near & (this_row >= 0) & (this_row < full_rows)),
                in_last_row[d + 1].eq(b.near & (this_row == full_rows)),
            ]
        m.d.sync += c.eq(b)

        # Stage 8: active lanes to the queues.
        for u in range(units):
            borrow = (c.rotate + u) >= units
            wanted = in_strip | Mux(u < c.positions[:unit_bits], in_last_row, 0)
            active = Cat(
                rotated[i * units + u].any() & c.mask[i * units + u]
                & Mux(borrow, wanted[i], wanted[i + 1]) for i in range(subs))
            job = self.jobs[u]
            m.d.comb += [
                job.masks.eq(Cat(rotated[i * units + u] for i in range(subs))),
                job.active.eq(Mux(c.end, 0, active)),
                job.address.eq((c.row - borrow)[:(cfg.acc_depth - 1).bit_length()]),
                job.weight.eq(c.weight), job.end.eq(c.end),
                self.push[u].eq(c.valid & (c.end | active.any())),
            ]
        return m

    def _live_bits(self, m, address, count):
        """Live bits of `count` consecutive map words from `address` on.

        Two memories of 8 words a row: the range starts in a row of one and goes on in the other.
        """
        rows = [Memory(shape=8, depth=max(2, self._config.map_words // 16), init=[])
                for _ in range(2)]
        reads = [ram.read_port(domain="comb") for ram in rows]
        for i, ram in enumerate(rows):
            m.submodules[f"live{i}"] = ram
            write = ram.write_port(granularity=1)
            m.d.comb += [
                write.addr.eq(self.live_address >> 4),
                write.data.eq(self.live.replicate(8)),
                write.en.eq(Mux(self.live_write & (self.live_address[3] == i),
                                1 << self.live_address[:3], 0)),
            ]
        block = address >> 3
        m.d.comb += [reads[0].addr.eq((block + block[0]) >> 1), reads[1].addr.eq(block >> 1)]
        both = Mux(block[0], Cat(reads[1].data, reads[0].data), Cat(reads[0].data, reads[1].data))
        live = Signal(count)
        m.d.comb += live.eq(both.bit_select(address[:3], count))
        return live
