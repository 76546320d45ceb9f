"""Patch gate: counts spikes of tokens, finds the tokens with most of them, lists those to keep.

packers ─► Scores (one an engine) ─► TopK (one a core) ─► mask, list of kept tokens in every walker

A token's number is its flat position; not every flat position is a token (`docs/core.md`).
"""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from . import layouts
from .config import GATE_TOKENS, SCORE_LATENCY, CoreConfig, is_power_of_two
from .spike_counter import compress

SCORE_BITS = 16
"""Width of a score, enough for its sum over all engines: channels · timesteps < 2^16."""


def _check_tokens(tokens: int, least: int) -> None:
    if not is_power_of_two(tokens) or not least <= tokens <= GATE_TOKENS:
        raise ValueError(f"tokens {tokens} is not a power of two in {least}..{GATE_TOKENS}")


def mask_word(tokens: int) -> int:
    """Width of a word of the mask."""
    return min(32, tokens // 2)


class GatePort(wiring.Signature):
    """What an engine and the gate have to do with each other; the engine is the target.

    clear, busy, token, score: see `Scores`. list_*: writes the list of kept tokens; the list has
    `tokens` places.
    """

    def __init__(self, config: CoreConfig):
        number = range(config.gate_tokens)
        super().__init__({
            "clear": Out(1), "busy": In(1), "token": Out(number), "score": In(SCORE_BITS),
            "list_write": Out(1), "list_index": Out(number), "list_token": Out(number),
        })


class Scores(wiring.Component):
    """Adds up the spikes of every token: score[n] += spikes of an output.

    Takes an output a cycle (a pair of two tokens at a time with two `lanes`) and never waits; one
    cycle later it is added, in a single cycle, so that the same token may come in every cycle.
    `clear` sets all scores to 0 within `tokens` / `lanes` cycles, while `busy`; no output may
    come then. Scores wrap at 2^16; the compiler sees to it that none gets there.

    Members
    -------
    valid, masks, position: spikes of this token. pair: of two, an even one first.
    token, score: asks for a score in a cycle without `valid`; the answer comes `SCORE_LATENCY`
        cycles later.
    """

    def __init__(self, config: CoreConfig, tokens: int = GATE_TOKENS):
        _check_tokens(tokens, 2)
        self._lanes, self._token_bits = config.lanes, (tokens - 1).bit_length()
        super().__init__({
            "valid": In(1), "masks": In(data.ArrayLayout(layouts.MASK, config.lanes)),
            "pair": In(1), "position": In(self._token_bits),
            "clear": In(1), "busy": Out(1),
            "token": In(self._token_bits), "score": Out(SCORE_BITS),
        })

    def elaborate(self, platform):
        m = Module()
        lanes = self._lanes
        place = Signal(self._token_bits)
        adds = [Signal(name=f"add{i}") for i in range(lanes)]
        counts = [Signal(3, name=f"count{i}", reset_less=True) for i in range(lanes)]
        spikes = [Cat(bits) for mask in self.masks for _, bits in compress({0: list(mask)}, 6)]
        pair = self.pair if lanes == 2 else 0

        # The address is a register, so the memory has one port.
        sweep = Signal(self._token_bits + 1)
        m.d.comb += self.busy.eq(sweep[-1])
        m.d.sync += place.eq(
            Mux(self.busy, sweep, Mux(self.valid, self.position, self.token)))
        with m.If(self.clear):
            m.d.sync += sweep.eq(1 << self._token_bits)
        with m.Elif(self.busy):
            m.d.sync += sweep.eq(sweep + lanes)

        # With two lanes: even tokens in one memory, odd ones in the other.
        scores, clearing = [], Signal()
        m.d.sync += clearing.eq(self.busy)
        for lane in range(lanes):
            m.submodules[f"scores{lane}"] = ram = Memory(
                shape=SCORE_BITS, depth=(1 << self._token_bits) // lanes, init=[])
            write, read = ram.write_port(), ram.read_port(domain="comb")
            address = place if lanes == 1 else place[1:]
            mine = pair | (self.position[0] == lane) if lanes == 2 else 1
            m.d.sync += [
                adds[lane].eq(self.valid & mine),
                counts[lane].eq(Mux(pair, spikes[lane], spikes[0])),
            ]
            m.d.comb += [
                write.addr.eq(address), read.addr.eq(address),
                write.en.eq(adds[lane] | clearing),
                write.data.eq(Mux(clearing, 0, read.data + counts[lane])),
            ]
            scores.append(read.data)
        m.d.sync += self.score.eq(scores[0] if lanes == 1 else Mux(place[0], scores[1], scores[0]))
        return m


class TopK(wiring.Component):
    """Lists the tokens to keep: the `keep` of them with the highest scores, ties to the lower
    number; or those of a mask from the host.

    Reads the scores once and finds the keep-th highest by bisection, bit by bit from the highest
    one: the largest threshold that `keep` scores reach. What is above it is kept, and of those
    that have it as many as are missing, in ascending order. `done` comes `top_k_cycles` after
    `start`.

    Parameters
    ----------
    engines: whose scores are added. tokens: at most, a power of two. score_bits: of the sum.

    Members
    -------
    start: begin; `tokens` 1..256, `keep` 1..tokens and `bits` 1..score_bits (no score has a higher
        bit) stay until `done`, and so do `pitch_mask` and `row_valid`: number n stands for a token
        if n < tokens and (n & pitch_mask) < row_valid. host: take the mask as it is; `keep` does
        not matter. What is no token is never kept.
    token, scores: asks all engines for a token's score, see `Scores`.
    list_write, list_token, kept: writes the list, in ascending order, at place `kept`; after `done`
        `kept` tokens are in it.
    mask_index, mask: the mask, token n is bit n mod 32 of word n / 32.
    mask_write, mask_data: the host writes it, not while busy. Without `host` it is overwritten.
    """

    def __init__(self, engines: int, tokens: int = GATE_TOKENS, score_bits: int = SCORE_BITS):
        _check_tokens(tokens, 4)
        if engines < 1:
            raise ValueError(f"engines {engines} is below 1")
        if not 1 <= score_bits <= SCORE_BITS:
            raise ValueError(f"score_bits {score_bits} is outside 1..{SCORE_BITS}")
        self._engines, self._tokens, self._score_bits = engines, tokens, score_bits
        self._word = mask_word(tokens)
        number = range(tokens)
        super().__init__({
            "start": In(1), "host": In(1), "busy": Out(1), "done": Out(1),
            "tokens": In(range(tokens + 1)), "keep": In(range(tokens + 1)),
            "bits": In(range(score_bits + 1)), "pitch_mask": In(10), "row_valid": In(10),
            "token": Out(number), "scores": In(data.ArrayLayout(score_bits, engines)),
            "list_write": Out(1), "list_token": Out(number), "kept": Out(range(tokens + 1)),
            "mask_index": In(range(tokens // self._word)), "mask": Out(self._word),
            "mask_write": In(1), "mask_data": In(self._word),
        })

    def elaborate(self, platform):
        m = Module()
        loading, searching, writing, host = Signal(), Signal(), Signal(), Signal()

        # A walk over the tokens up to `limit`.
        begin, walking, last = Signal(), Signal(), Signal()
        limit = Signal.like(self.token)
        m.d.comb += last.eq(self.token == limit)
        with m.If(begin):
            m.d.sync += [walking.eq(1), self.token.eq(0)]
        with m.Elif(walking):
            m.d.sync += [self.token.eq(self.token + 1), walking.eq(~last)]

        m.submodules.totals = totals = Memory(
            shape=self._score_bits, depth=self._tokens, init=[])
        write, read = totals.write_port(), totals.read_port(domain="comb")
        arrived, arrived_last, total, place = self._sum(m, walking & loading, last)
        at = Mux(loading, place, self.token)
        m.d.comb += [
            write.addr.eq(at), read.addr.eq(at), write.data.eq(total), write.en.eq(arrived),
        ]

        # Two stages later a score is judged: against the threshold and one more bit in the search.
        threshold, bit, candidate, score = (Signal(self._score_bits, name=name)
                                            for name in ("threshold", "bit", "candidate", "score"))
        scored, judged = (Signal(data.StructLayout({
            "valid": 1, "last": 1, "token": range(self._tokens)}), name=name)
            for name in ("scored", "judged"))
        reaches, equals, inside, chosen = Signal(), Signal(), Signal(), Signal()
        m.submodules.masks = masks = Memory(
            shape=self._word, depth=self._tokens // self._word, init=[])
        mask_write, mask = self._mask(m, masks, scored.token, writing)
        m.d.comb += candidate.eq(threshold | Mux(searching, bit, 0))
        m.d.sync += [
            score.eq(read.data), scored.valid.eq(walking & ~loading), scored.last.eq(last),
            scored.token.eq(self.token), judged.eq(scored),
            reaches.eq(score >= candidate), equals.eq(score == candidate),
            inside.eq((scored.token < self.tokens)
                      & ((scored.token & self.pitch_mask) < self.row_valid)), chosen.eq(mask),
        ]
        count, above, missing = (Signal.like(self.keep, name=name)
                                 for name in ("count", "above", "missing"))
        with m.If(begin):
            m.d.sync += count.eq(0)
        with m.Elif(judged.valid):
            m.d.sync += count.eq(count + (reaches & inside))
        keeps = inside & Mux(host, chosen, reaches & (~equals | missing.any()))
        self._list(m, mask_write, writing & judged.valid, judged.token, keeps)
        with m.If(writing & judged.valid & keeps & equals):
            m.d.sync += missing.eq(missing - 1)

        whole_words = (self.tokens - 1) | (self._word - 1)
        enough = Signal()
        m.d.comb += self.busy.eq(1)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.busy.eq(0)
                m.d.sync += [
                    host.eq(self.host), above.eq(0), threshold.eq(0), bit.eq(1 << self.bits >> 1),
                    limit.eq(Mux(self.host, whole_words, self.tokens - 1)),
                ]
                with m.If(self.start):
                    m.d.comb += begin.eq(1)
                    m.d.sync += [self.kept.eq(0), loading.eq(~self.host), writing.eq(self.host)]
                    m.next = "LOAD"
                    with m.If(self.host):
                        m.next = "WRITE"
            with m.State("LOAD"):
                with m.If(arrived_last):
                    m.d.comb += begin.eq(1)
                    m.d.sync += [loading.eq(0), searching.eq(1)]
                    m.next = "SEARCH"
            with m.State("SEARCH"):
                with m.If(judged.valid & judged.last):
                    m.next = "COMPARE"
            with m.State("COMPARE"):
                m.d.sync += enough.eq(count >= self.keep)
                m.next = "DECIDE"
            with m.State("DECIDE"):
                # The last candidate that too few have reached is the final threshold's successor.
                with m.If(enough):
                    m.d.sync += threshold.eq(candidate)
                with m.Else():
                    m.d.sync += above.eq(count)
                m.d.comb += begin.eq(1)
                m.d.sync += bit.eq(bit >> 1)
                m.next = "SEARCH"
                with m.If(bit[0]):
                    m.d.sync += [searching.eq(0), writing.eq(1), limit.eq(whole_words)]
                    m.next = "WRITE"
            with m.State("WRITE"):
                # Before the first one is judged.
                with m.If(~scored.valid & ~judged.valid):
                    m.d.sync += missing.eq(self.keep - above)
                with m.If(judged.valid & judged.last):
                    m.d.sync += writing.eq(0)
                    m.next = "DONE"
            with m.State("DONE"):
                m.d.comb += self.done.eq(1)
                m.next = "IDLE"
        return m

    def _sum(self, m, asked, last):
        """The engines' scores, added pairwise with a register after each addition."""
        flags = Cat(asked, asked & last)
        for _ in range(SCORE_LATENCY):
            flags = self._register(m, flags)
        sums = list(self.scores)
        while len(sums) > 1:
            sums = [self._register(m, sum(sums[i:i + 2])[:self._score_bits])
                    for i in range(0, len(sums), 2)]
            flags = self._register(m, flags)
        place = Signal.like(self.token)
        with m.If(self.done):
            m.d.sync += place.eq(0)
        with m.Elif(flags[0]):
            m.d.sync += place.eq(place + 1)
        return flags[0], flags[1], sums[0], place

    @staticmethod
    def _register(m, value):
        register = Signal.like(value, name="stage")
        m.d.sync += register.eq(value)
        return register

    def _mask(self, m, masks, token, writing):
        """The mask's write port, and the bit of `token` while writing."""
        word_bits = (self._word - 1).bit_length()
        write, read = masks.write_port(), masks.read_port(domain="comb")
        m.d.comb += [
            read.addr.eq(Mux(writing, token >> word_bits, self.mask_index)),
            self.mask.eq(read.data),
        ]
        return write, read.data.bit_select(token[:word_bits], 1)

    def _list(self, m, mask_write, writes, token, keeps):
        """Writes list and mask, a token a cycle."""
        word_bits = (self._word - 1).bit_length()
        word, full_word, ends = Signal(self._word), Signal(self._word), Signal()
        m.d.comb += [
            self.list_write.eq(writes & keeps), self.list_token.eq(token),
            full_word.eq(Cat(word[1:], keeps)), ends.eq(writes & token[:word_bits].all()),
            mask_write.addr.eq(Mux(self.busy, token >> word_bits, self.mask_index)),
            mask_write.data.eq(Mux(self.busy, full_word, self.mask_data)),
            mask_write.en.eq(Mux(self.busy, ends, self.mask_write)),
        ]
        with m.If(writes):
            m.d.sync += [word.eq(full_word), self.kept.eq(self.kept + keeps)]
