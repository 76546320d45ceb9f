"""Fetch: from a decoded weight to jobs for the units, one map word a cycle.

weight ─► word range ─► queue ─► planes ─► live words ─► queue ─► map word ─► rotate to units
       ─► active lanes ─► the units' queues
"""

from __future__ import annotations

from amaranth import Array, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from . import layouts, program
from .config import FETCH_QUEUE, CoreConfig
from .unit import JobQueue, lowest_one


def _payload(shape) -> Signal:
    """A register of the pipeline that a valid bit stands beside, so that it needs no reset."""
    return Signal(shape, reset_less=True, src_loc_at=1)


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
    request, request_address, granted: somebody else asks for a map word (if config.attention);
        granted in a cycle in which no word and no marker is issued. map_data has it 2 cycles later.
    """

    def __init__(self, config: CoreConfig):
        self._config = config
        self._address_bits = (config.map_words - 1).bit_length()
        shared = {
            "request": In(1), "request_address": In(self._address_bits), "granted": Out(1),
        }
        super().__init__({
            "layer": In(layouts.LAYER),
            "items": In(stream.Signature(layouts.weight_item(config))),
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
        } | (shared if config.attention else {}))

    def elaborate(self, platform):
        m = Module()
        cfg, layer = self._config, self.layer
        units, subs = cfg.units, cfg.subs
        unit_bits, tap_bits = (units - 1).bit_length(), (cfg.taps - 1).bit_length()

        # Tables in distributed RAM, written by the sequencer.
        m.submodules.taps = taps = Memory(shape=layouts.TAP, depth=cfg.taps, init=[])
        m.submodules.planes = planes = Memory(shape=layouts.PLANE, depth=cfg.planes, init=[])
        tap_write, plane_write = taps.write_port(), planes.write_port()
        tap_of_decoder, tap_of_item, tap_of_range, tap_of_word = (
            taps.read_port(domain="comb") for _ in range(4))
        plane_read = planes.read_port(domain="comb")
        m.d.comb += [
            tap_write.addr.eq(self.tap_index), tap_write.data.eq(self.tap),
            tap_write.en.eq(self.tap_write),
            plane_write.addr.eq(self.plane_index), plane_write.data.eq(self.plane),
            plane_write.en.eq(self.plane_write),
            tap_of_decoder.addr.eq(self.channels_tap),
            self.channels.eq(tap_of_decoder.data.channels),
        ]

        # Stage 1: the item meets its tap. Stages 2 and 3: channel address and word range. These do
        # not wait: the queue behind them asks the decoder to stop in time.
        item = layouts.weight_item(cfg)
        timesteps = item["timesteps"].shape     # of no bits without attention
        ranged = data.StructLayout({
            "end": 1, "tap": 7, "value": layouts.value(cfg), "timesteps": timesteps,
            "strip_word": 9, "last_strip": 1, "group": 2,
            "base": self._address_bits, "first": 10, "last": 10, "empty": 1,
        })
        m.submodules.ranges = ranges = JobQueue(ranged, FETCH_QUEUE)
        s1, s1_valid = _payload(item), Signal()
        s1_tap, s1_product = _payload(layouts.TAP), _payload(self._address_bits)
        s2, s2_valid = _payload(ranged), Signal()
        s3, s3_valid = _payload(ranged), Signal()
        m.d.comb += [
            self.items.ready.eq(~ranges.almost_full),
            tap_of_item.addr.eq(self.items.payload.tap),
        ]
        m.d.sync += [
            s1_valid.eq(self.items.valid & self.items.ready), s1.eq(self.items.payload),
            s1_tap.eq(tap_of_item.data),
            s1_product.eq(self.items.payload.channel * tap_of_item.data.channel_stride),
        ]
        words, span_last = Signal(5), Signal(signed(7))
        first, last, limit = Signal(signed(12)), Signal(signed(12)), Signal(signed(12))
        m.d.comb += [
            words.eq(Mux(s1.last_strip, layer.strip_words_last, layer.strip_words)),
            last.eq(first + span_last),
        ]
        m.d.sync += [
            first.eq(s1.strip_word + s1_tap.word_offset),
            span_last.eq(words + s1_tap.extra - 1), limit.eq(s1_tap.channel_words - 1),
        ]
        m.d.sync += [
            s2_valid.eq(s1_valid), s2.end.eq(s1.end), s2.tap.eq(s1.tap), s2.value.eq(s1.value),
            s2.timesteps.eq(s1.timesteps), s2.strip_word.eq(s1.strip_word),
            s2.last_strip.eq(s1.last_strip), s2.group.eq(s1.group),
            s2.base.eq(s1_tap.base + s1_product),
            s3_valid.eq(s2_valid), s3.eq(s2),
            s3.first.eq(Mux(first[-1], 0, first)),
            s3.last.eq(Mux(last > limit, limit, last)),
            s3.empty.eq(~s2.end & (last[-1] | (first > limit))),
        ]
        m.d.comb += [ranges.push.eq(s3_valid), ranges.i.eq(s3)]

        # Stage 4: walk the planes of the current weight.
        head = ranges.o.payload
        w, w_valid, w_tap = _payload(ranged), Signal(), _payload(layouts.TAP)
        planes_left, plane_index = _payload(6), _payload(6)
        last_plane, p_go, p_finished = Signal(), Signal(), Signal()
        q_free = Signal()
        group_planes = Signal(6)
        with m.Switch(head.group):
            for g in range(4):
                with m.Case(g):
                    m.d.comb += group_planes.eq(g * layer.planes_per_group)
        m.d.comb += [
            tap_of_range.addr.eq(head.tap),
            last_plane.eq(planes_left == 1),
            p_go.eq(w_valid & q_free),
            p_finished.eq(~w_valid | (q_free & (last_plane | w.empty | w.end))),
            ranges.o.ready.eq(p_finished),
            self.weight.eq(w_valid & p_finished & ~w.end),
            plane_read.addr.eq(plane_index),
        ]
        with m.If(p_finished):
            m.d.sync += [
                w.eq(head), w_valid.eq(ranges.o.valid), w_tap.eq(tap_of_range.data),
                planes_left.eq(tap_of_range.data.plane_count),
                plane_index.eq(group_planes + tap_of_range.data.plane_start),
            ]
        with m.Elif(p_go):
            m.d.sync += [planes_left.eq(planes_left - 1), plane_index.eq(plane_index + 1)]

        # Stage 5: the plane's words. Stage 6: their rows of live bits. Stage 7: which of the words
        # have a spike, and the accumulator row of sub-position 0 of the first one, before the
        # borrow; a plane without one ends there. These three do not wait either.
        count = cfg.tile_words + 1
        span = data.StructLayout({
            "end": 1, "last_strip": 1, "strip_word": 9, "weight": signed(cfg.acc_bits),
            "timesteps": timesteps, "shift": signed(13), "tap": tap_bits, "word": 10,
            "words": range(count + 1), "address": self._address_bits,
            "next_block": max(1, self._address_bits - 4),
        })
        visit = data.StructLayout({
            "end": 1, "last_strip": 1, "weight": signed(cfg.acc_bits), "timesteps": timesteps,
            "rotate": unit_bits,
            "tap": tap_bits, "word": 4, "address": self._address_bits, "row": signed(14),
            "live": count,
        })
        q, q_valid, f, f_valid = _payload(span), Signal(), _payload(visit), Signal()
        p, p_valid = _payload(span), Signal()
        address, wanted = Signal(self._address_bits), Signal(count)
        found = self._live_bits(m, q, p.address, count)
        m.d.comb += [
            address.eq(w.base + plane_read.data.offset + w.first),
            wanted.eq(Mux(p.end, 1, found & Cat(i < p.words for i in range(count)))),
        ]
        m.d.sync += [
            q_valid.eq(p_go), q.end.eq(w.end), q.last_strip.eq(w.last_strip),
            q.strip_word.eq(w.strip_word), q.timesteps.eq(w.timesteps),
            q.weight.eq(w.value << plane_read.data.shift),
            q.shift.eq(w_tap.shift), q.tap.eq(w.tap), q.word.eq(w.first), q.address.eq(address),
            q.next_block.eq((address + 8) >> 4),
            q.words.eq(Mux(w.empty, 0, w.last - w.first + 1)),
            p_valid.eq(q_valid), p.eq(q),
            f_valid.eq(p_valid & wanted.any()), f.end.eq(p.end), f.last_strip.eq(p.last_strip),
            f.weight.eq(p.weight), f.timesteps.eq(p.timesteps), f.rotate.eq(p.shift),
            f.tap.eq(p.tap), f.word.eq(p.word), f.address.eq(p.address), f.live.eq(wanted),
            f.row.eq(subs * (p.word - p.strip_word) - (p.shift >> unit_bits)),
        ]
        m.submodules.visits = visits = JobQueue(visit, FETCH_QUEUE)
        m.d.comb += [
            visits.push.eq(f_valid), visits.i.eq(f), q_free.eq(~visits.almost_full),
        ]

        # Stage 8: visit the words, one a cycle.
        r, r_valid, r_free = _payload(visit), Signal(), Signal()
        left, last_word = _payload(count), _payload(1)       # last_word: `left` has one bit
        others, step = Signal(count), Signal(range(count))
        go, live = Signal(), visits.o.payload.live
        for i in reversed(range(count)):
            with m.If(left[i]):
                m.d.comb += step.eq(i)
        m.d.comb += [
            others.eq(left & ~lowest_one(left)),
            go.eq(r_valid & ~self.almost_full & ~self.port_blocked),
            r_free.eq(~r_valid | (go & last_word)),
            visits.o.ready.eq(r_free),
            self.issued.eq(go & ~r.end),
            self.queue_stall.eq(r_valid & self.almost_full),
            self.port_stall.eq(r_valid & ~self.almost_full & self.port_blocked),
            self.starved.eq(~r_valid),
            self.idle.eq(~(r_valid | visits.o.valid | f_valid | p_valid | q_valid | w_valid
                           | ranges.o.valid | s3_valid | s2_valid | s1_valid)),
        ]
        with m.If(r_free):
            m.d.sync += [
                r.eq(visits.o.payload), r_valid.eq(visits.o.valid), left.eq(live),
                last_word.eq(live == lowest_one(live)),
            ]
        with m.Elif(go):
            m.d.sync += [left.eq(others), last_word.eq(others == lowest_one(others))]

        # The accumulator row of this word.
        row_bits = (cfg.acc_depth + subs).bit_length() + 1
        row = Signal(signed(14))
        m.d.comb += row.eq(r.row + subs * step)

        # Stage 9: the address is at the memory. Everything else travels along.
        rest = data.StructLayout({
            "end": 1, "mask": cfg.window, "row": signed(14), "borrow": units,
            "rotate": unit_bits, "positions": 10, "weight": signed(cfg.acc_bits),
            "timesteps": timesteps, "edge": 2, "edge_word": 4,
        })
        a, b, c = _payload(rest), _payload(rest), _payload(rest)
        a_valid, b_valid, c_valid = Signal(), Signal(), Signal()
        use_mask = Signal()
        with m.Switch(a.edge):
            with m.Case(program.EDGE_FIRST):
                m.d.comb += use_mask.eq(a.edge_word == 0)
            with m.Case(program.EDGE_LAST):
                m.d.comb += use_mask.eq(a.edge_word == layer.row_words_mask)
            with m.Default():
                m.d.comb += use_mask.eq(1)
        m.d.comb += tap_of_word.addr.eq(r.tap)
        m.d.sync += [
            a_valid.eq(go), b_valid.eq(a_valid), c_valid.eq(b_valid), a.end.eq(r.end),
            a.mask.eq(Cat(tap_of_word.data.mask_low, tap_of_word.data.mask_high)),
            a.edge.eq(tap_of_word.data.edge),
            a.edge_word.eq((r.word + step) & layer.row_words_mask),
            a.row.eq(row),
            a.rotate.eq(r.rotate),
            a.positions.eq(Mux(r.last_strip, layer.positions_last, layer.positions)),
            a.weight.eq(r.weight), a.timesteps.eq(r.timesteps),
        ]
        if cfg.attention:
            m.d.comb += self.granted.eq(self.request & ~go & ~self.port_blocked)
            # One adder for both: the other's address plus 0.
            m.d.sync += self.map_address.eq(
                Mux(go, step, 0) + Mux(go, r.address, self.request_address))
        else:
            m.d.sync += self.map_address.eq(r.address + step)
        m.d.sync += [b.eq(a), b.mask.eq(a.mask | (~use_mask).replicate(cfg.window))]

        # Which accumulator rows row-1 .. row+subs-1 lie in the strip; of its last row maybe only
        # the first units. Rows further away are no neighbours, so a few bits are enough.
        in_strip, in_last_row = _payload(subs + 1), _payload(subs + 1)
        in_part, near = _payload(units), Signal()
        m.d.comb += near.eq((a.row >> row_bits - 1 == 0) | (a.row >> row_bits - 1 == -1))
        full_rows = (a.positions >> unit_bits)[:row_bits]
        for d in range(-1, subs):
            this_row = (a.row[:row_bits].as_signed() + d)[:row_bits + 1].as_signed()
            m.d.sync += [
                in_strip[d + 1].eq(near & (this_row >= 0) & (this_row < full_rows)),
                in_last_row[d + 1].eq(near & (this_row == full_rows)),
            ]
        # By tables, not by comparisons, which synthesis would put on carry chains.
        for u in range(units):
            m.d.sync += [
                b.borrow[u].eq(Array(int(r + u >= units) for r in range(units))[a.rotate]),
                in_part[u].eq(Array(int(u < part) for part in range(units))[
                    a.positions[:unit_bits]]),
            ]

        # Stage 10: the word has arrived; rotate it so that every unit sees its own lanes.
        lanes = data.View(data.ArrayLayout(layouts.MASK, cfg.window), self.map_data)
        rotated = _payload(data.ArrayLayout(layouts.MASK, cfg.window))
        for i in range(subs):
            for u in range(units):
                choices = Array(lanes[i * units + (u + r) % units] for r in range(units))
                m.d.sync += rotated[i * units + u].eq(choices[b.rotate])
        # In the other timesteps there is nothing to add; this becomes the registers' reset.
        for t, counts in enumerate(b.timesteps):
            with m.If(~counts):
                m.d.sync += [lane[t].eq(0) for lane in rotated]
        kept = _payload(data.ArrayLayout(subs, units))
        for u in range(units):
            wanted = in_strip | (in_last_row & in_part[u].replicate(subs + 1))
            m.d.sync += kept[u].eq(Mux(b.borrow[u], wanted, wanted >> 1))
        m.d.sync += c.eq(b)

        # Stage 11: active lanes to the queues.
        for u in range(units):
            active = Cat(
                rotated[i * units + u].any() & c.mask[i * units + u] & kept[u][i]
                for i in range(subs))
            job = self.jobs[u]
            m.d.comb += [
                job.masks.eq(Cat(rotated[i * units + u] for i in range(subs))),
                job.active.eq(Mux(c.end, 0, active)),
                job.address.eq((c.row - c.borrow[u])[:(cfg.acc_depth - 1).bit_length()]),
                job.weight.eq(c.weight),
                self.push[u].eq(c_valid & (c.end | active.any())),
            ]
        return m

    def _live_bits(self, m, span, address, count):
        """Live bits of `count` consecutive map words.

        Two memories of 8 words a row: the range starts in a row of one and goes on in the other.
        span: the words, one cycle early; address: of their first, now.
        """
        # With the registers behind it, synthesis would take block RAM, whose output comes late.
        rows = [Memory(shape=8, depth=max(2, self._config.map_words // 16), init=[],
                       attrs={"ram_style": "distributed"}) for _ in range(2)]
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
        m.d.comb += [reads[0].addr.eq(span.next_block), reads[1].addr.eq(span.address >> 4)]
        even, odd = _payload(8), _payload(8)
        m.d.sync += [even.eq(reads[0].data), odd.eq(reads[1].data)]
        both = Mux(address[3], Cat(odd, even), Cat(even, odd))
        live = Signal(count)
        m.d.comb += live.eq(both.bit_select(address[:3], count))
        return live
