"""Row decoder: turns an engine's compressed weight stream into (tap, channel, weight) items.

The stream and its Rice code are specified in `docs/core.md`. A row is decoded once per pass, i.e.
again for every strip and every group of timesteps; between passes the reader rewinds.
"""

from __future__ import annotations

from amaranth import Array, Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from . import layouts
from .attention import CHANNEL_BITS, attention_item
from .config import WORD_BITS, CoreConfig

FIELD_BITS = 24
"""Most bits taken from the stream at once: the widest row header field (a code has at most 18)."""


class BitReader(wiring.Component):
    """Window on a bit stream in a synchronous memory.

    Contract: while `ready`, `bits` shows the next 24 bits (`first`: the first of them again, from a
    register with less to drive); `take` advances in the same cycle, by
    `long_count` bits where `long` is set, else by `count` (0..24; a choice of two, so that a `long`
    that depends on `bits` comes after both sums; `long_count` stays the same). `seek` restarts at
    (`seek_word`, `seek_bit`), ready 4 cycles later. `word`, `bit` is the place of the next bit.
    Sustains 32 bits a cycle. Reads ahead up to 4 words past the end of the stream; what it finds
    there is never used. With `hold` the word at `address` is not taken in this cycle: it is not
    there yet, or another has the memory's port; so `ready` may come later, and go.

    The memory answers `address` one cycle later.
    """

    def __init__(self, address_bits: int):
        self._address_bits = address_bits
        super().__init__({
            "address": Out(address_bits), "data": In(WORD_BITS), "hold": In(1),
            "seek": In(1), "seek_word": In(address_bits), "seek_bit": In(5),
            "ready": Out(1), "bits": Out(FIELD_BITS), "first": Out(1),
            "take": In(1), "count": In(5),
            "long": In(1), "long_count": In(5),
            "word": Out(address_bits), "bit": Out(5),
        })

    def elaborate(self, platform):
        m = Module()
        depth = 4
        m.submodules.ahead = ahead = Memory(shape=WORD_BITS, depth=depth, init=[])
        write, read = ahead.write_port(), ahead.read_port(domain="comb")
        level = Signal(range(depth + 1))
        arriving = Signal()
        low, high = (Signal(WORD_BITS, name=name, reset_less=True) for name in ("low", "high"))
        filled = Signal(2)      # how many of low, high are valid
        stored = Signal()       # level is not 0

        # Read ahead while there is room for what is stored and what is on its way.
        fetch = Signal()
        m.d.comb += fetch.eq(((level + arriving) < depth) & ~self.hold)
        m.d.sync += arriving.eq(fetch)
        with m.If(fetch):
            m.d.sync += self.address.eq(self.address + 1)
        m.d.comb += [write.data.eq(self.data), write.en.eq(arriving)]
        with m.If(arriving):
            m.d.sync += write.addr.eq(write.addr + 1)

        end = Signal(6)
        crosses = Signal()
        # Both sums start from a register of their own, or synthesis would choose what to add first.
        ends = [Signal(6, name=f"end{i}") for i in range(2)]
        unbit = Signal(5, init=31)      # 31 - bit
        long_count = Signal(6)
        m.d.sync += long_count.eq(self.long_count + 31)
        m.d.comb += [
            self.ready.eq(filled[1]),
            self.bits.eq(Cat(low, high).bit_select(self.bit, FIELD_BITS)),
            self.first.eq(Array(reversed(low))[unbit]),
            ends[0].eq(self.bit + self.count), ends[1].eq(long_count - unbit),
            end.eq(Mux(self.long, ends[1], ends[0])),
            crosses.eq(self.take & end[5]),
        ]
        with m.If(self.take):
            m.d.sync += [self.bit.eq(end[:5]), unbit.eq(~end[:5])]
        shift_in = Signal()
        m.d.comb += shift_in.eq(stored & (~filled[1] | crosses))
        with m.If(shift_in):
            m.d.sync += [low.eq(high), high.eq(read.data), read.addr.eq(read.addr + 1)]
            m.d.sync += filled.eq(Mux(crosses, filled, filled + 1))
        with m.Elif(crosses):
            m.d.sync += [low.eq(high), filled.eq(filled - 1)]
        with m.If(crosses):
            m.d.sync += self.word.eq(self.word + 1)
        m.d.sync += [
            level.eq(level + arriving - shift_in),
            stored.eq(arriving | (level > 1) | (stored & ~shift_in)),
        ]

        with m.If(self.seek):
            m.d.sync += [
                self.address.eq(self.seek_word), self.word.eq(self.seek_word),
                self.bit.eq(self.seek_bit), unbit.eq(~self.seek_bit),
                filled.eq(0), level.eq(0), stored.eq(0), arriving.eq(0),
                read.addr.eq(0), write.addr.eq(0),
            ]
        return m


class StreamPort(wiring.Signature):
    """An engine and its weights from DRAM, seen from the engine. Words count from the beginning of
    its stream, modulo the depth of the weight memory.

    limit: first word that is not there yet. freed: first one that is still needed. streaming: the
    address is one of the stream. blocked: somebody else has the memory's port. restart: the stream
    begins anew; no layer is at work. misplaced: a layer starts elsewhere than where the stream is.
    """

    def __init__(self, address_bits: int):
        super().__init__({
            "limit": In(address_bits), "freed": Out(address_bits), "streaming": Out(1),
            "blocked": In(1), "restart": In(1), "misplaced": Out(1),
        })


class RowDecoder(wiring.Component):
    """Decodes rows pass by pass.

    After `start`, for `rows` rows from word `start_word`: for each strip, for each group, emits the
    pass header on `header` and then the row's weights and an end marker on `items`. One code (a
    skip or a weight) a cycle while the stream and the consumers keep up; the code of index
    arithmetic runs one stage behind the bit extraction, hence the filler bit at the end of a row.
    The row of an attention layer is a header alone: from the cycle after it `sums` gives the items.

    Members
    -------
    layer, masks: the layer's parameters, constant while busy.
    channels_tap, channels: asks the tap table for the number of channels of a tap (combinational).
    address, data: weight memory port, data one cycle after the address.
    code: a code was consumed in this cycle.
    stream: what a core with DRAM has besides, see `StreamPort`.
    attend, channel, group: begins a pass of `attention.AttentionSource` (if config.attention).
    sums, attended: its items; a cycle in which the last one has been taken.
    """

    def __init__(self, config: CoreConfig):
        self._config = config
        self._address_bits = (config.weight_words - 1).bit_length()
        attention = {
            "attend": Out(1), "channel": Out(CHANNEL_BITS), "group": Out(2),
            "sums": In(stream.Signature(attention_item(config))), "attended": In(1),
        }
        super().__init__({
            "layer": In(layouts.LAYER), "masks": In(layouts.STREAM_MASKS),
            "start": In(1), "idle": Out(1),
            "start_word": In(self._address_bits), "rows": In(12),
            "channels_tap": Out(7), "channels": In(13),
            "address": Out(self._address_bits), "data": In(WORD_BITS),
            "header": Out(stream.Signature(layouts.pass_header())),
            "items": Out(stream.Signature(layouts.weight_item(config))),
            "code": Out(1),
        } | (attention if config.attention else {})
          | ({"stream": Out(StreamPort(self._address_bits))} if config.dram_words else {}))

    def elaborate(self, platform):
        m = Module()
        layer = self.layer
        m.submodules.reader = reader = BitReader(self._address_bits)
        m.d.comb += [self.address.eq(reader.address), reader.data.eq(self.data)]

        rows_left = Signal(12)
        row_word, row_bit = Signal(self._address_bits), Signal(5)
        strip, group, strip_word = Signal(8), Signal(2), Signal(9)
        first_pass = Signal()
        last_strip, last_group, last_pass = Signal(), Signal(), Signal()
        # Registered: they are asked for some cycles after a pass has begun.
        ends_strips, ends_groups = strip + 1 == layer.n_strips, group + 1 == layer.n_groups
        m.d.sync += [
            last_strip.eq(ends_strips), last_group.eq(ends_groups),
            last_pass.eq(ends_strips & ends_groups),
        ]

        header = Signal(layouts.pass_header(), reset_less=True)
        header_valid = Signal()
        m.d.comb += [self.header.payload.eq(header), self.header.valid.eq(header_valid)]
        with m.If(self.header.ready):
            m.d.sync += header_valid.eq(0)

        item = Signal(layouts.weight_item(self._config), reset_less=True)
        item_valid, item_free = Signal(), Signal()
        m.d.comb += [
            self.items.payload.eq(item), self.items.valid.eq(item_valid),
            item_free.eq(~item_valid | self.items.ready),
        ]
        with m.If(self.items.ready):
            m.d.sync += item_valid.eq(0)

        def load_item(tap, channel, value, timesteps):
            return [
                item_valid.eq(1), item.end.eq(0), item.tap.eq(tap), item.channel.eq(channel),
                item.value.eq(value), item.timesteps.eq(timesteps),
                item.strip_word.eq(strip_word), item.last_strip.eq(last_strip),
                item.group.eq(group),
            ]

        # Extracted code, one ahead of the index.
        code_valid, code_is_weight = Signal(), Signal()
        code_value = Signal(signed(8), reset_less=True)
        code_step = Signal(12, reset_less=True)
        m.d.comb += reader.long_count.eq(1 + layer.value_bits + layer.rice_k)

        body = reader.bits[1:]
        value = Signal(signed(8))
        with m.Switch(layer.value_bits):
            with m.Case(1):
                m.d.comb += value.eq(Mux(body[0], -1, 1))
            for b in range(2, 9):
                with m.Case(b):
                    m.d.comb += value.eq(body[:b].as_signed())

        # A field of a row's header: sign, magnitude (of negative numbers, one less).
        field = Signal(signed(24))
        m.d.comb += field.eq((reader.bits[1:] & self.masks.neuron)
                             ^ reader.bits[0].replicate(24))

        # The codes so far have led to channel `index` (-1 at first) of tap `tap`; behind it and the
        # next one are `left` more. A code moves on by `code_step` + 1, maybe into the next tap,
        # about which the table is asked ahead. A weight there is the new `index`.
        tap, next_tap, index, left = Signal(7), Signal(8), Signal(13), Signal(signed(14))
        last_tap, at_end, taps_left = Signal(), Signal(), Signal(8)
        m.d.comb += [
            self.channels_tap.eq(next_tap),
            at_end.eq(last_tap & left[-1]),
        ]
        beyond, wrapped = Signal(signed(14)), Signal()
        # Kept apart, or synthesis would choose first and add then.
        stays, wraps = (Signal(signed(14), name=name, attrs={"keep": 1})
                        for name in ("stays", "wraps"))
        moved = Signal(13, attrs={"keep": 1})
        target_tap, target_index, target_left = Signal(7), Signal(13), Signal(signed(14))
        m.d.comb += [
            beyond.eq(left - code_step),
            wrapped.eq(beyond[-1] & ~(last_tap & ~code_is_weight)),
            stays.eq(left + (~Cat(code_step, Const(0, 2))).as_signed()),
            wraps.eq(stays + self.channels),
            moved.eq((Cat(1, index) + Cat(1, code_step)) >> 1),
            target_tap.eq(Mux(wrapped, next_tap, tap)),
            # index + step + 1 - channels = -(left - step) - 1
            target_index.eq(Mux(wrapped, ~beyond, moved)),
            target_left.eq(Mux(wrapped, wraps, stays)),
        ]

        # What the reader waits for comes late, so it is said once, from registers: the next code or
        # the next field of a header (which never waits but for its first field).
        codes, consume, next_field = Signal(), Signal(), Signal()
        m.d.comb += [
            consume.eq(code_valid & ~at_end & (item_free | ~code_is_weight)),
            reader.take.eq(reader.ready & Mux(codes, ~code_valid | consume, next_field)),
            reader.long.eq(codes & reader.first),
        ]

        attends, attended = Signal(), Signal()
        if self._config.attention:
            m.d.comb += [
                attends.eq(layer.attention), self.channel.eq(header.row.channel),
                self.group.eq(group),
            ]
            m.d.sync += [self.attend.eq(0), attended.eq(attended | self.attended)]

        ends_pass, ends_rows = Signal(), Signal()
        m.d.comb += ends_rows.eq(last_pass & (rows_left == 1))
        m.d.sync += reader.seek.eq(0)
        with m.FSM() as fsm:
            m.d.comb += self.idle.eq(fsm.ongoing("IDLE") & ~item_valid & ~header_valid)
            with m.State("IDLE"):
                m.d.sync += [
                    strip.eq(0), group.eq(0), strip_word.eq(0), first_pass.eq(1), next_tap.eq(0),
                    reader.count.eq(layer.channel_bits),
                ]
                with m.If(self.idle):
                    m.d.sync += header.row.channel.eq(-1)
                with m.If(self.start):
                    m.d.sync += rows_left.eq(self.rows)
                    m.d.sync += [
                        reader.seek.eq(1), reader.seek_word.eq(self.start_word),
                        reader.seek_bit.eq(0),
                    ]
                    with m.If(self.rows != 0):
                        m.next = "CHANNEL"
            with m.State("CHANNEL"):
                m.d.comb += next_field.eq(~header_valid & ~reader.seek)
                with m.If(reader.ready & next_field):
                    m.d.sync += [
                        reader.count.eq(layer.neuron_bits),
                        row_word.eq(reader.word), row_bit.eq(reader.bit),
                    ]
                    with m.If(first_pass):
                        m.d.sync += header.row.channel.eq(
                            header.row.channel + (reader.bits & self.masks.channel) + 1)
                    m.next = "BIAS"
            with m.State("BIAS"):
                m.d.comb += next_field.eq(1)
                with m.If(reader.ready):
                    m.d.sync += header.row.bias.eq(field)
                    m.next = "THRESHOLD"
            with m.State("THRESHOLD"):
                m.d.comb += next_field.eq(1)
                with m.If(reader.ready):
                    m.d.sync += [
                        reader.count.eq(1),
                        header.row.threshold.eq(field),
                        header.first.eq(first_pass), header.last.eq(last_pass),
                        header.first_group.eq(group == 0), header.last_group.eq(last_group),
                        header.last_strip.eq(last_strip),
                        header_valid.eq(1),
                        tap.eq(0), next_tap.eq(1), taps_left.eq(layer.n_taps),
                        last_tap.eq(layer.n_taps == 1), index.eq(-1), left.eq(self.channels - 1),
                        code_valid.eq(0), codes.eq(~attends),
                    ]
                    m.next = "CODES"
                    if self._config.attention:
                        m.d.sync += attended.eq(0)
                        with m.If(attends):
                            m.d.sync += self.attend.eq(1)
                            m.next = "ATTEND"
            with m.State("CODES"):
                with m.If(consume):
                    m.d.comb += self.code.eq(1)
                    m.d.sync += [
                        tap.eq(target_tap),
                        index.eq(target_index), left.eq(target_left), code_valid.eq(0),
                    ]
                    with m.If(wrapped):
                        m.d.sync += [
                            next_tap.eq(next_tap + 1), taps_left.eq(taps_left - 1),
                            last_tap.eq(taps_left == 2),
                        ]
                    with m.If(code_is_weight):
                        m.d.sync += load_item(target_tap, target_index, code_value, -1)
                with m.If(reader.ready & (~code_valid | consume)):
                    m.d.sync += [
                        code_valid.eq(1), code_is_weight.eq(reader.bits[0]),
                        code_value.eq(value),
                        code_step.eq(((body >> layer.value_bits)
                                      | (~reader.bits[0]).replicate(12)) & self.masks.gap),
                    ]
                # The filler bit is (or will be) the waiting code: drop it and end the pass.
                with m.If(at_end & code_valid & item_free):
                    m.d.comb += ends_pass.eq(1)
                    m.d.sync += [code_valid.eq(0), codes.eq(0)]
                    m.next = "CHANNEL"
                    with m.If(ends_rows):
                        m.next = "IDLE"
            if self._config.attention:
                with m.State("ATTEND"):
                    sums = self.sums.payload
                    m.d.comb += self.sums.ready.eq(item_free)
                    with m.If(self.sums.valid & item_free):
                        m.d.sync += load_item(0, sums.channel, sums.value, sums.timesteps)
                    with m.If((attended | self.attended) & item_free):
                        m.d.comb += ends_pass.eq(1)
                        m.next = "CHANNEL"
                        with m.If(ends_rows):
                            m.next = "IDLE"

        if self._config.dram_words:
            begins = reader.ready & fsm.ongoing("CHANNEL") & next_field
            self._follow_stream(m, reader, begins, ends_pass & ends_rows)

        with m.If(ends_pass):
            m.d.sync += [
                item_valid.eq(1), item.end.eq(1), first_pass.eq(0), group.eq(group + 1),
                next_tap.eq(0), reader.count.eq(layer.channel_bits),
            ]
            with m.If(~last_pass):
                m.d.sync += [
                    reader.seek.eq(1), reader.seek_word.eq(row_word), reader.seek_bit.eq(row_bit),
                ]
            with m.If(last_group):
                m.d.sync += [
                    group.eq(0), strip.eq(strip + 1), strip_word.eq(strip_word + layer.strip_step),
                ]
            with m.If(last_pass):
                m.d.sync += [
                    strip.eq(0), strip_word.eq(0), first_pass.eq(1), rows_left.eq(rows_left - 1),
                ]
        return m

    def _follow_stream(self, m, reader, begins, ends):
        """Where the engine is in its stream. begins: a pass, with its row's first bit; ends: the
        layer."""
        layer, port = self.layer, self.stream
        behind = Signal(self._address_bits)     # the layer before
        m.d.comb += [
            port.streaming.eq(layer.streamed),
            reader.hold.eq(port.blocked | (layer.streamed & (reader.address == port.limit))),
        ]
        m.d.sync += port.misplaced.eq(
            self.start & layer.streamed & (self.start_word != behind))
        with m.If(layer.streamed & begins):
            m.d.sync += port.freed.eq(reader.word)
        with m.If(layer.streamed & ends):
            m.d.sync += behind.eq(reader.word + (reader.bit != 0))
        with m.If(port.restart):
            m.d.sync += [behind.eq(0), port.freed.eq(0)]
