"""Frames on a byte stream: COBS between zero bytes, 32-bit words, a CRC-32 at the end.

A frame's words go least significant byte first, its last word is the CRC-32 (as `zlib.crc32`) of
the bytes before it. Consistent overhead byte stuffing takes every zero out of these bytes at a cost
of 1 byte in 254, so a zero byte always ends a frame: whatever came before, the receiver is in step
after one zero. CRC-32 finds every burst of up to 32 bits and any 3 wrong bits in the words of a
frame, and all but one in 2^32 of other damage; a CRC-16 would let one in 65,536 pass, too many for
a link that must never turn line errors into wrong results.
"""

from __future__ import annotations

from amaranth import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

WORD = data.StructLayout({"data": 32, "last": 1})
"""A word of a frame; `last` marks the frame's last word (the CRC is not among them)."""


class CobsDecoder(wiring.Component):
    """Takes the zeros' place holders out of a byte stream.

    One byte a cycle, never stalls, no latency: `o_valid` with `o` is a byte of the frame, `end`
    is its end, with `whole` if the stuffing was complete. Empty frames (two zeros in a row) give
    `end` as well.
    """

    def __init__(self):
        super().__init__({
            "i": In(8), "i_valid": In(1),
            "o": Out(8), "o_valid": Out(1), "end": Out(1), "whole": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        left = Signal(8)      # bytes to come before the next code byte
        implied = Signal()    # that code byte stands for a zero
        m.d.comb += [self.whole.eq(left == 0), self.o.eq(Mux(left == 0, 0, self.i))]
        with m.If(self.i_valid):
            with m.If(self.i == 0):
                m.d.comb += self.end.eq(1)
                m.d.sync += [left.eq(0), implied.eq(0)]
            with m.Elif(left == 0):
                m.d.comb += self.o_valid.eq(implied)
                m.d.sync += [left.eq(self.i - 1), implied.eq(self.i != 0xFF)]
            with m.Else():
                m.d.comb += self.o_valid.eq(1)
                m.d.sync += left.eq(left - 1)
        return m


def _hand_on(m: Module, o, head: Signal, end: Signal) -> Signal:
    """Read side of a ring buffer in a synchronous memory, up to `end`: returns the read address.

    `o.ready` comes late in the cycle: what depends on it is worked out for both cases and chosen.
    """
    after, ahead = Signal.like(head), Signal.like(head, name="ahead", attrs={"keep": 1})
    more = [Signal(name=f"more{i}", attrs={"keep": 1}) for i in range(2)]
    taken = o.valid & o.ready
    m.d.comb += [
        ahead.eq(head + 1), more[0].eq(head != end), more[1].eq(ahead != end),
        after.eq(Mux(taken, ahead, head)),
    ]
    m.d.sync += [head.eq(after), o.valid.eq(Mux(taken, more[1], more[0]))]
    return after


class FrameReceiver(wiring.Component):
    """Checks frames and hands the good ones on, whole.

    A frame is written to a ring buffer as it comes and becomes visible only when its CRC is right,
    so a bad one leaves nothing behind. Each good frame comes out of `o` as one word that says how
    many words follow, then those words, the CRC the last of them.

    `i` is always ready: a serial line cannot be stopped. A frame that finds no room is dropped
    whole, with an `overrun` pulse; other bad frames give a `bad` pulse. `first` is the first byte
    of the frame that a pulse tells of. In step again after one zero byte, whatever came before.

    Parameters
    ----------
    min_words, max_words: length of a frame, CRC included; others are bad.
    depth: words of the buffer, a power of two; a frame takes its words and one more.
    """

    def __init__(self, *, min_words: int, max_words: int, depth: int):
        if depth & (depth - 1) or depth <= max_words:
            raise ValueError(f"depth {depth} must be a power of two above max_words {max_words}")
        self._min, self._max, self._depth = min_words, max_words, depth
        super().__init__({
            "i": In(stream.Signature(8)),
            "o": Out(stream.Signature(32)),
            "good": Out(1), "bad": Out(1), "overrun": Out(1), "first": Out(8),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.cobs = cobs = CobsDecoder()
        m.submodules.crc = crc = CRC32_ISO_HDLC(data_width=8).create()
        m.submodules.ram = ram = Memory(shape=32, depth=self._depth, init=[])
        write, read = ram.write_port(), ram.read_port()

        head = Signal(range(self._depth))     # next word to hand on
        base = Signal(range(self._depth))     # where the frame being received starts
        place = Signal(2)                     # bytes of the unfinished word
        words = Signal(range(self._max + 1))  # finished words
        word = Signal(24)
        empty, full, long = Signal(init=1), Signal(), Signal()

        m.d.comb += [
            self.i.ready.eq(1),
            cobs.i.eq(self.i.payload), cobs.i_valid.eq(self.i.valid),
            crc.data.eq(cobs.o), crc.valid.eq(cobs.o_valid), crc.start.eq(cobs.end),
        ]

        # A word goes behind the place of the frame's length, which is written last.
        used = Signal(range(self._depth))
        room = Signal()
        m.d.comb += used.eq(base - head)
        # A cycle old; a word takes at least four to come.
        m.d.sync += room.eq(used + words + 2 < self._depth)
        m.d.comb += [write.addr.eq(base + 1 + words), write.data.eq(word | (cobs.o << 24))]
        with m.If(cobs.o_valid):
            m.d.sync += [place.eq(place + 1), word.eq((word >> 8) | (cobs.o << 16)), empty.eq(0)]
            with m.If(empty):
                m.d.sync += self.first.eq(cobs.o)
            with m.If(place == 3):
                m.d.comb += write.en.eq(room & ~full & ~long)
                with m.If(~room):
                    m.d.sync += full.eq(1)
                with m.If(words == self._max):
                    m.d.sync += long.eq(1)
                with m.Else():
                    m.d.sync += words.eq(words + 1)

        whole = Signal()
        m.d.comb += whole.eq(cobs.whole & crc.match_detected & (place == 0) & ~long
                             & (words >= self._min))
        with m.If(cobs.end):
            m.d.sync += [place.eq(0), words.eq(0), empty.eq(1), full.eq(0), long.eq(0)]
            m.d.comb += [
                self.good.eq(whole & ~full),
                self.overrun.eq(whole & full),
                self.bad.eq(~whole & ~(empty & cobs.whole)),
            ]
            with m.If(self.good):
                m.d.comb += [write.addr.eq(base), write.data.eq(words), write.en.eq(1)]
                m.d.sync += base.eq(base + 1 + words)

        m.d.comb += [
            read.addr.eq(_hand_on(m, self.o, head, base)), self.o.payload.eq(read.data),
        ]
        return m


class CobsEncoder(wiring.Component):
    """Stuffs the bytes of a frame and ends it with a zero.

    `i` carries a frame's bytes, then `end` (a byte of no meaning). A block of up to 254 bytes is
    complete in a ring buffer before its first byte goes out; a byte a cycle, one cycle more per
    block. Holds back when the buffer is full.
    """

    DEPTH = 512

    def __init__(self):
        super().__init__({
            "i": In(stream.Signature(data.StructLayout({"data": 8, "end": 1}))),
            "o": Out(stream.Signature(8)),
            "idle": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.ram = ram = Memory(shape=8, depth=self.DEPTH, init=[])
        write, read = ram.write_port(), ram.read_port()
        head = Signal(range(self.DEPTH))
        code = Signal(range(self.DEPTH))  # place of the current block's code byte
        run = Signal(8)                   # bytes of the current block
        ended = Signal()                  # the zero that ends the frame is due

        used, room = Signal(range(self.DEPTH)), Signal()
        m.d.comb += used.eq(code - head)
        m.d.sync += room.eq(used + run < self.DEPTH - 4)  # a cycle old: two bytes may have come
        close = Signal()                  # write the code byte, start another block
        m.d.comb += write.addr.eq(code)
        with m.If(room):
            with m.If(ended):
                m.d.comb += [write.en.eq(1), write.data.eq(0)]
                m.d.sync += [code.eq(code + 1), ended.eq(0)]
            with m.Elif(run == 254):
                m.d.comb += close.eq(1)
            with m.Elif(self.i.valid):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.payload.end):
                    m.d.comb += close.eq(1)
                    m.d.sync += ended.eq(1)
                with m.Elif(self.i.payload.data == 0):
                    m.d.comb += close.eq(1)
                with m.Else():
                    m.d.comb += [write.addr.eq(code + 1 + run), write.en.eq(1),
                                 write.data.eq(self.i.payload.data)]
                    m.d.sync += run.eq(run + 1)
        with m.If(close):
            m.d.comb += [write.en.eq(1), write.data.eq(run + 1)]
            m.d.sync += [code.eq(code + run + 1), run.eq(0)]

        m.d.comb += [
            read.addr.eq(_hand_on(m, self.o, head, code)), self.o.payload.eq(read.data),
            self.idle.eq((head == code) & ~ended & (run == 0)),
        ]
        return m


class FrameSender(wiring.Component):
    """Sends words as a frame: bytes, CRC-32, stuffing, end.

    `i` carries a frame's words; the CRC follows the one marked `last`. About 4 cycles a word.

    While `quiet` is high, words only go into `digest`, the CRC-32 of the words since the last
    frame or `clear`: that is how the board checks its own memories. `digest` is right when `idle`.
    """

    def __init__(self):
        super().__init__({
            "i": In(stream.Signature(WORD)),
            "quiet": In(1), "clear": In(1), "digest": Out(32),
            "o": Out(stream.Signature(8)),
            "idle": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.cobs = cobs = CobsEncoder()
        m.submodules.crc = crc = CRC32_ISO_HDLC(data_width=8).create()
        wiring.connect(m, cobs.o, wiring.flipped(self.o))

        word = Signal(32)
        last, crc_part, quiet = Signal(), Signal(), Signal()
        left = Signal(3)     # bytes of `word` to send
        ended = Signal()     # the end mark is due
        m.d.comb += [
            self.digest.eq(crc.crc),
            self.idle.eq((left == 0) & ~ended & ~crc_part & cobs.idle),
            crc.data.eq(word[:8]), crc.start.eq(self.clear),
            cobs.i.payload.data.eq(word[:8]), cobs.i.payload.end.eq(ended),
            cobs.i.valid.eq(ended | ((left != 0) & ~quiet)),
        ]
        sent = Signal()
        m.d.comb += sent.eq((left != 0) & (quiet | cobs.i.ready))
        with m.If(ended):
            with m.If(cobs.i.ready):
                m.d.sync += ended.eq(0)
                m.d.comb += crc.start.eq(1)
        with m.Elif(left != 0):
            with m.If(sent):
                m.d.comb += crc.valid.eq(~crc_part)
                m.d.sync += [word.eq(word >> 8), left.eq(left - 1)]
                with m.If((left == 1) & crc_part):
                    m.d.sync += [crc_part.eq(0), ended.eq(1)]
                with m.Elif((left == 1) & last):
                    m.d.sync += [crc_part.eq(1), last.eq(0)]
        with m.Elif(crc_part):
            m.d.sync += [word.eq(crc.crc), left.eq(4)]
        with m.Else():
            m.d.comb += self.i.ready.eq(1)
            with m.If(self.i.valid):
                m.d.sync += [word.eq(self.i.payload.data), left.eq(4), quiet.eq(self.quiet),
                             last.eq(self.i.payload.last & ~self.quiet)]
        return m
