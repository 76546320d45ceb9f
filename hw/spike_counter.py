"""Spike counter: in how many tokens do k and v both have a spike?

v words ─► memory ─┐
k words ───────────┴► AND ─► sums of 3 ─► of 6 of those ─► of the word ─► of all words
"""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from . import layouts
from .config import KEY_WORDS as MAP_WORDS
from .config import TIMESTEPS_PER_GROUP, CoreConfig


def attention_sums(config: CoreConfig) -> data.ArrayLayout:
    """M of one channel of q in the 4 timesteps of a group."""
    return data.ArrayLayout((MAP_WORDS * config.window).bit_length(), TIMESTEPS_PER_GROUP)


def compress(columns: dict[int, list], size: int) -> list[tuple[int, list]]:
    """Bits by weight (log2), counted in groups of `size` 3 or 6: (weight, bits of the count).

    Gates instead of adders: a count of 6 bits is then one lookup table a bit.
    """
    def add(a, b, c):
        return a ^ b ^ c, (a & b) | (c & (a ^ b))

    counts = []
    for weight, bits in columns.items():
        for start in range(0, len(bits), size):
            group = bits[start:start + size]
            group = group + [0] * (-len(group) % 3)
            ones, twos = add(*group[:3])
            if len(group) == 3:
                counts.append((weight, [ones, twos]))
                continue
            more_ones, more_twos = add(*group[3:])
            counts.append((weight, [ones ^ more_ones, *add(twos, more_twos, ones & more_ones)]))
    return counts


class SpikeCounter(wiring.Component):
    """Keeps the words of v and counts the spikes that each k has in common with it.

    A word in `data` two cycles after `granted`, then `slices` cycles for it, in which no other
    comes; 4 cycles more from the last word of a channel to `push`.

    Members
    -------
    begin: the next word is the first one of v.
    push, sums: M of the 4 timesteps, for one channel after the other.
    silent: all words of v have come and none has a spike.
    busy: a word is on its way, or `push`.
    """

    def __init__(self, config: CoreConfig, parallel: int):
        self._window, self._parallel = config.window, parallel
        super().__init__({
            "words": In(4), "begin": In(1), "granted": In(1), "data": In(config.map_bits),
            "push": Out(1), "sums": Out(attention_sums(config)), "silent": Out(1), "busy": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        parallel, slices = self._parallel, TIMESTEPS_PER_GROUP // self._parallel
        timesteps = range(parallel)

        # The word, turned by `parallel` timesteps a cycle.
        asked, arriving, held = Signal(), Signal(), Signal()
        word = Signal(data.ArrayLayout(layouts.MASK, self._window), reset_less=True)
        part, ends_word = Signal(range(slices)), Signal()
        m.d.comb += ends_word.eq(part == slices - 1)
        m.d.sync += [
            asked.eq(self.granted), arriving.eq(asked), held.eq(arriving | (held & ~ends_word)),
            part.eq(Mux(arriving | ends_word, 0, part + 1)),
        ]
        with m.If(arriving):
            m.d.sync += word.eq(self.data)
        with m.Else():
            m.d.sync += [lane[:-parallel].eq(lane[parallel:]) for lane in word]
        spikes = [Cat(lane[t] for lane in word) for t in timesteps]

        last_word, number, ends_channel = Signal(range(MAP_WORDS)), Signal(3), Signal()
        storing, spoke, stored = Signal(), Signal(), Signal()
        m.d.comb += [
            ends_channel.eq((number == last_word) & ends_word),
            self.silent.eq(stored & ~spoke),
        ]
        m.d.sync += [
            last_word.eq(self.words - 1), stored.eq(held & storing & ends_channel),
            spoke.eq((spoke | (held & storing & Cat(spikes).any())) & ~self.begin),
            storing.eq((storing & ~(held & ends_channel)) | self.begin),
        ]
        with m.If(self.begin | (held & ends_channel)):
            m.d.sync += number.eq(0)
        with m.Elif(held & ends_word):
            m.d.sync += number.eq(number + 1)

        # One port, as v is written before it is read.
        m.submodules.values = values = Memory(
            shape=parallel * self._window, depth=MAP_WORDS * slices, init=[])
        write, read = values.write_port(), values.read_port(domain="comb")
        place = Cat(part, number)
        m.d.comb += [
            write.addr.eq(place), read.addr.eq(place),
            write.en.eq(held & storing), write.data.eq(Cat(spikes)),
        ]

        # In every timestep: sums of 3 lanes, of 6 of those, of all, and of all words.
        flags = data.StructLayout({"valid": 1, "first": 1, "last": 1})
        stages = [Signal(flags, name=f"stage{i}") for i in range(3)]
        m.d.sync += [
            stages[0].valid.eq(held & ~storing), stages[0].first.eq(number == 0),
            stages[0].last.eq(ends_channel),
            stages[1].eq(stages[0]), stages[2].eq(stages[1]),
            self.push.eq(stages[2].valid & stages[2].last),
        ]
        kept = [Signal.like(self.sums[0], name=f"sum{t}") for t in range(TIMESTEPS_PER_GROUP)]
        with m.If(stages[2].valid):
            m.d.sync += [old.eq(newer) for old, newer in zip(kept, kept[parallel:], strict=False)]
        for t in timesteps:
            both = spikes[t] & read.data.word_select(t, self._window)
            columns: dict[int, list] = {}
            for _, bits in compress({0: list(both)}, 3):
                for weight, bit in enumerate(bits):
                    columns.setdefault(weight, []).append(self._register(m, bit))
            counts = [self._register(m, Cat(bits)) << weight
                      for weight, bits in compress(columns, 6)]
            count = self._register(m, sum(counts)[:self._window.bit_length()])
            with m.If(stages[2].valid):
                m.d.sync += kept[t - parallel].eq(Mux(stages[2].first, 0, kept[t]) + count)
        m.d.comb += [
            *(out.eq(total) for out, total in zip(self.sums, kept, strict=True)),
            self.busy.eq(Cat(asked, arriving, held, *(s.valid for s in stages), self.push).any()),
        ]
        return m

    @staticmethod
    def _register(m, value):
        register = Signal.like(value, name="count", reset_less=True)
        m.d.sync += register.eq(value)
        return register
