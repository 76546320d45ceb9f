"""Attention: items for the fetch from spikes of k and v, in the place of decoded weights.

For output channel c of the head that begins at channel b, over the tokens m:

    x_t[c, n] = sum_i M_t[i] q_t[b + i, n]    with    M_t[i] = sum_m k_t[b + i, m] v_t[c, m]

so M is a row of weights, one for every timestep.

map words ─► `SpikeCounter` ─► M of a channel ─► queue ─► equal timesteps ─► items
"""

from __future__ import annotations

from amaranth import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from . import layouts
from .config import TIMESTEPS_PER_GROUP, CoreConfig
from .spike_counter import MAP_WORDS, SpikeCounter, attention_sums
from .unit import JobQueue, lowest_one

CHANNEL_BITS = 12
"""Width of an output channel, as in a row header."""

QUEUE, FULL = 16, 7
"""Places of the queue of sums, and how many stop the reading: it is 7 cycles from a request to the
push of its sums, and one until the reader notices, so 8 more may come."""


def attention_layer(config: CoreConfig) -> data.StructLayout:
    """Where the maps of an attention layer are; constant while the layer runs."""
    address = (config.map_words - 1).bit_length()
    return data.StructLayout({
        "key": address, "value": address,     # first words of the maps
        "channel_stride": address,            # words from a channel to the next,
        "channel_step": address,              # that, less all words of a channel but the first
        "group_stride": address,              # words from a group of timesteps to the next
        "words": 4,                           # words of a channel's group, 1..8
        "width": 7,                           # channels of a head, 8..64
    })


def attention_item(config: CoreConfig) -> data.StructLayout:
    """M of one channel of q; the same in every timestep that is set."""
    return data.StructLayout({
        "channel": CHANNEL_BITS,              # b + i
        "timesteps": layouts.MASK,
        "value": (MAP_WORDS * config.window).bit_length(),
    })


class AttentionReader(wiring.Component):
    """Asks for the words of v and of k, in ascending order; see `AttentionSource`.

    Members
    -------
    begin: nothing of the next pass has been read; head: its head's first channel, from then on.
    stop: the sums' queue fills. silent: v has no spike. finished: everything was read.
    """

    def __init__(self, config: CoreConfig, slices: int):
        self._address_bits, self._slices = (config.map_words - 1).bit_length(), slices
        super().__init__({
            "layer": In(attention_layer(config)), "reset_head": In(1),
            "start": In(1), "channel": In(CHANNEL_BITS), "group": In(2),
            "begin": Out(1), "head": Out(CHANNEL_BITS), "finished": Out(1), "done": In(1),
            "request": Out(1), "address": Out(self._address_bits), "granted": In(1),
            "stop": In(1), "silent": In(1),
        })

    def elaborate(self, platform):
        m = Module()
        layer, address_bits = self.layer, self._address_bits

        # Fixed while the layer or the pass runs, so a cycle late is early enough.
        last_word, last_channel = Signal(range(MAP_WORDS)), Signal(6)
        group_offset = Signal(address_bits)
        m.d.sync += [
            last_word.eq(layer.words - 1), last_channel.eq(layer.width - 1),
            group_offset.eq(Mux(self.group[0], layer.group_stride, 0)
                            + (Mux(self.group[1], layer.group_stride, 0) << 1)),
        ]

        # The row's channel and its offset in a map, and those of its head: counted up from the row
        # before.
        at, in_head, next_at = Signal(CHANNEL_BITS), Signal(6), Signal(CHANNEL_BITS)
        offset, head_offset, next_offset = (Signal(address_bits, name=f"{name}offset")
                                            for name in ("", "head_", "next_"))
        m.d.comb += [next_at.eq(at + 1), next_offset.eq(offset + layer.channel_stride)]

        # One adder makes all addresses; `step` is known a cycle ahead.
        step, moved, keys = (Signal(address_bits, name=name) for name in ("step", "moved", "keys"))
        m.d.comb += moved.eq(self.address + step)
        words_left, channels_left = Signal.like(last_word), Signal(6)
        ends_channel, next_ends = Signal(), Signal()
        m.d.comb += next_ends.eq(Mux(ends_channel, last_word == 0, words_left == 1))
        # A word stays for `slices` cycles where it is counted.
        pause = Signal(range(self._slices))
        may_read = ~self.stop & (pause == 0)
        with m.If(self.granted):
            m.d.sync += [
                words_left.eq(Mux(ends_channel, last_word, words_left - 1)),
                ends_channel.eq(next_ends), pause.eq(self._slices - 1),
            ]
        with m.Elif(pause != 0):
            m.d.sync += pause.eq(pause - 1)

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.begin.eq(1)
                m.d.sync += [
                    self.address.eq(layer.key), channels_left.eq(last_channel),
                    words_left.eq(last_word), ends_channel.eq(last_word == 0),
                ]
                with m.If(self.start):
                    m.next = "SEEK"
            with m.State("SEEK"):
                m.d.comb += self.begin.eq(1)
                m.d.sync += step.eq(head_offset)
                with m.If(at == self.channel):
                    m.next = "KEY_ROW"
                with m.Else():
                    m.d.sync += [at.eq(next_at), offset.eq(next_offset), in_head.eq(in_head + 1)]
                    with m.If(in_head == last_channel):
                        m.d.sync += [
                            in_head.eq(0), self.head.eq(next_at), head_offset.eq(next_offset),
                        ]
            with m.State("KEY_ROW"):
                m.d.sync += [self.address.eq(moved), step.eq(group_offset)]
                m.next = "KEY_GROUP"
            with m.State("KEY_GROUP"):
                m.d.sync += [keys.eq(moved), self.address.eq(layer.value), step.eq(offset)]
                m.next = "VALUE_ROW"
            with m.State("VALUE_ROW"):
                m.d.sync += [self.address.eq(moved), step.eq(group_offset)]
                m.next = "VALUE_GROUP"
            with m.State("VALUE_GROUP"):
                m.d.sync += [self.address.eq(moved), step.eq(1)]
                m.next = "VALUES"
            with m.State("VALUES"):
                m.d.comb += self.request.eq(may_read)
                with m.If(self.granted):
                    m.d.sync += self.address.eq(moved)
                    with m.If(ends_channel):
                        m.d.sync += self.address.eq(keys)
                        with m.If(next_ends):
                            m.d.sync += step.eq(layer.channel_step)
                        m.next = "KEYS"
            with m.State("KEYS"):
                m.d.comb += self.request.eq(may_read)
                with m.If(self.granted):
                    m.d.sync += [
                        self.address.eq(moved), step.eq(Mux(next_ends, layer.channel_step, 1)),
                    ]
                    with m.If(ends_channel):
                        m.d.sync += channels_left.eq(channels_left - 1)
                        with m.If(channels_left == 0):
                            m.next = "FINISHED"
                with m.If(self.silent):
                    m.next = "FINISHED"
            with m.State("FINISHED"):
                m.d.comb += self.finished.eq(1)
                with m.If(self.done):
                    m.next = "IDLE"
        with m.If(self.reset_head):
            m.d.sync += [
                at.eq(0), in_head.eq(0), offset.eq(0), self.head.eq(0), head_offset.eq(0),
            ]
        return m


class AttentionItems(wiring.Component):
    """Makes items of the sums of one channel after the other; see `AttentionSource`.

    begin: the next sums are those of channel `head`.
    """

    def __init__(self, config: CoreConfig):
        super().__init__({
            "i": In(stream.Signature(attention_sums(config))), "begin": In(1),
            "head": In(CHANNEL_BITS),
            "o": Out(stream.Signature(attention_item(config))), "busy": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        sums, valid = Signal.like(self.i.payload, reset_less=True), Signal()
        index = Signal(6)
        left, others = Signal(TIMESTEPS_PER_GROUP), Signal(TIMESTEPS_PER_GROUP)
        item, item_valid, free = Signal(self.o.payload.shape(), reset_less=True), Signal(), Signal()
        ends, take = Signal(), Signal()
        # Which timesteps have the same sum as an earlier one.
        pairs = {(a, b): Signal(name=f"same{a}{b}") for b in range(4) for a in range(b)}
        lowest = lowest_one(left)
        alike = Cat(left[t] & Cat(lowest[t], *(lowest[a] & pairs[a, t] for a in range(t))).any()
                    for t in range(TIMESTEPS_PER_GROUP))
        first = Signal(range(TIMESTEPS_PER_GROUP))
        for t in reversed(range(TIMESTEPS_PER_GROUP)):
            with m.If(left[t]):
                m.d.comb += first.eq(t)
        m.d.comb += [
            free.eq(~item_valid | self.o.ready), others.eq(left & ~alike),
            ends.eq(valid & ~others.any() & (free | ~left.any())), take.eq(ends | ~valid),
            self.i.ready.eq(take),
            self.o.payload.eq(item), self.o.valid.eq(item_valid),
            self.busy.eq(valid | item_valid),
        ]
        with m.If(free):
            m.d.sync += [
                item_valid.eq(valid & left.any()), item.timesteps.eq(alike),
                item.value.eq(Array(sums)[first]), item.channel.eq(self.head + index),
                left.eq(others),
            ]
        with m.If(take):
            new = self.i.payload
            m.d.sync += [
                valid.eq(self.i.valid), sums.eq(new), left.eq(Cat(total.any() for total in new)),
                *(same.eq(new[a] == new[b]) for (a, b), same in pairs.items()),
            ]
        with m.If(self.begin):
            m.d.sync += index.eq(0)
        with m.Elif(ends):
            m.d.sync += index.eq(index + 1)
        return m


class AttentionSource(wiring.Component):
    """Gives the items of one pass: an output channel, a group of 4 timesteps.

    For every channel of the head, in ascending order, an item for each value M != 0 with all the
    timesteps that have it; the value of the lowest timestep first. Reads the words of v, then
    those of k, each once: `slices` = 4 / `parallel` cycles a word. A v without a spike ends the
    pass at once; the sums of words of k that were read until then are zero and give no item.

    Timing, if all requests are granted at once and all items taken. `start` in cycle 0. Rows come
    in ascending order of channels; if this one is s channels after the last pass', the first
    request is in cycle 6 + s, the next after every `slices` cycles. The sums of channel i of the
    head enter a queue in the 7th cycle + `slices` - 1 after its last request; they can be taken in
    the next cycle, their first item is valid 2 cycles later, and more items or the next sums' come
    every cycle (sums that are all zero take a cycle too). `done` comes a cycle after the last item
    was taken. Up to 15 sums wait: reading stops a cycle after there are 7.
    `sim.units.attention.model.pass_cycles` is this contract as a function.

    Parameters
    ----------
    parallel: timesteps that are counted at a time, 1, 2 or 4: speed against area.

    Members
    -------
    reset_head: a layer begins; the next pass counts channels from 0 again. Not during a pass.
    start, channel, group: begin a pass; channel and group stay until `done`.
    request, address, granted: asks for a map word; granted only with a request, which is repeated
        until then, or withdrawn when the pass ends or the queue fills. address is a register.
    data: the word, two cycles after the grant.
    done: every item was taken; the next `start` may come a cycle later.
    """

    def __init__(self, config: CoreConfig, parallel: int = 2):
        if parallel not in (1, 2, 4):
            raise ValueError(f"parallel {parallel} is none of 1, 2, 4 timesteps at a time")
        self._config, self._parallel = config, parallel
        super().__init__({
            "layer": In(attention_layer(config)), "reset_head": In(1),
            "start": In(1), "channel": In(CHANNEL_BITS), "group": In(2), "done": Out(1),
            "request": Out(1), "address": Out((config.map_words - 1).bit_length()),
            "granted": In(1), "data": In(config.map_bits),
            "items": Out(stream.Signature(attention_item(config))),
        })

    def elaborate(self, platform):
        m = Module()
        cfg = self._config
        m.submodules.reader = reader = AttentionReader(cfg, TIMESTEPS_PER_GROUP // self._parallel)
        m.submodules.counter = counter = SpikeCounter(cfg, self._parallel)
        m.submodules.queue = queue = JobQueue(attention_sums(cfg), QUEUE, QUEUE - FULL)
        m.submodules.emitter = emitter = AttentionItems(cfg)
        m.d.comb += [
            reader.layer.eq(self.layer), reader.reset_head.eq(self.reset_head),
            reader.start.eq(self.start), reader.channel.eq(self.channel),
            reader.group.eq(self.group), reader.granted.eq(self.granted),
            reader.stop.eq(queue.almost_full), reader.silent.eq(counter.silent),
            reader.done.eq(self.done),
            self.request.eq(reader.request), self.address.eq(reader.address),
            counter.words.eq(self.layer.words), counter.begin.eq(reader.begin),
            counter.granted.eq(self.granted), counter.data.eq(self.data),
            queue.push.eq(counter.push), queue.i.eq(counter.sums),
            emitter.begin.eq(reader.begin), emitter.head.eq(reader.head),
            self.done.eq(reader.finished & ~counter.busy & ~queue.o.valid & ~emitter.busy),
        ]
        wiring.connect(m, queue.o, emitter.i)
        wiring.connect(m, emitter.o, wiring.flipped(self.items))
        return m
