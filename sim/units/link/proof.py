"""The link: frames, commands and their streams."""

from __future__ import annotations

from contextlib import contextmanager
from unittest import mock

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw import framing
from hw.commands import Commands
from hw.config import PRESETS
from hw.core import Core
from hw.framing import CobsDecoder, CobsEncoder, FrameReceiver, FrameSender
from hw.link import Link
from hw.packing import Unpacker
from hw.top import Top
from sim.formal.checkers import Count, Order, assume_held, claim_held, implies
from sim.formal.harness import Bench, proof


class AnyCrc(wiring.Component):
    """Stands for the CRC with any value and any verdict: what is proved holds for the real one."""

    def __init__(self, value, verdict):
        self._value, self._verdict = value, verdict
        super().__init__({"data": In(8), "valid": In(1), "start": In(1), "crc": Out(32),
                          "match_detected": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += [self.crc.eq(self._value), self.match_detected.eq(self._verdict)]
        return m


class AnyEncoder(CobsEncoder):
    """Stands for the encoder; takes bytes when it likes."""

    def __init__(self, ready):
        self._ready = ready
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.i.ready.eq(self._ready)
        return m


class _Parameters:
    """Has the `create` of a CRC's parameters."""

    def __init__(self, crc: AnyCrc):
        self._crc = crc

    def __call__(self, data_width: int):
        return self

    def create(self) -> AnyCrc:
        return self._crc


@contextmanager
def any_crc(value, verdict=0):
    with mock.patch.object(framing, "CRC32_ISO_HDLC", _Parameters(AnyCrc(value, verdict))):
        yield


def _encoder_invariants(f: Bench, encoder: CobsEncoder, inner) -> None:
    code, head, run = inner["code"], inner["head"], inner["run"]
    used = (code - head)[:len(head)]
    f.lemma("block_fits", used + run < encoder.DEPTH - 1)
    f.lemma("offers_finished_bytes", implies(encoder.o.valid, head != code))
    spy = inner["ram"].read_port(domain="comb")
    f.m.d.comb += spy.addr.eq(head)
    f.lemma("shows_the_buffer", implies(encoder.o.valid, encoder.o.payload == spy.data))


@proof("framing.CobsEncoder/stream", depth=6, induction=True, quick=True,
       scope="the buffer of 512 bytes as built")
def encoder_stream(f: Bench):
    """A waiting byte does not change although the buffer behind it fills; the buffer never
    overflows."""
    encoder = CobsEncoder()
    inner = f.open("encoder", encoder)
    assume_held(f, encoder.i)
    claim_held(f, "o", encoder.o)
    _encoder_invariants(f, encoder, inner)


@proof("framing.CobsEncoder/roundtrip", depth=12, reach=14,
       scope="a buffer of 8 bytes and blocks of up to 2 in place of 512 and 254; bytes from 0 to 3")
def encoder_roundtrip(f: Bench):
    """What is encoded comes out of CobsDecoder as it went in, bytes and ends, in order."""
    encoder, decoder = CobsEncoder(), CobsDecoder()
    encoder.DEPTH = 8
    inner = f.open("encoder", encoder)
    f.place("decoder", decoder)
    assume_held(f, encoder.i)
    item = encoder.i.payload
    f.assume(implies(encoder.i.valid & (inner["run"] == 2), item.end | (item.data == 0)))
    f.assume(item.data < 4)
    f.m.d.comb += [decoder.i.eq(encoder.o.payload),
                   decoder.i_valid.eq(encoder.o.valid & encoder.o.ready)]
    byte, taken = Mux(item.end, 0, item.data), encoder.i.valid & encoder.i.ready
    order = Order(f, "byte", push=taken, item=Cat(byte, item.end),
                  capacity=encoder.DEPTH + 2, reach_full=False,
                  pop=decoder.o_valid | decoder.end,
                  out=Cat(Mux(decoder.end, 0, decoder.o), decoder.end))
    f.claim("frames_are_whole", implies(decoder.end, decoder.whole))
    # A zero is seen with the byte behind it.
    f.claim("idle_means_sent", implies(encoder.idle, order.count <= 1))
    f.cover("second_frame", decoder.end & f.past(order.done) & (order.kept[:8] != 0))


def _receiver(f: Bench, **parameters: int):
    with any_crc(0, f.free("crc_matches")):
        receiver = FrameReceiver(**parameters)
        return receiver, f.open("receiver", receiver)


@proof("framing.FrameReceiver/frames", depth=22,
       scope="frames of 1 or 2 words in a buffer of 4; CRC verdicts are arbitrary")
def receiver_frames(f: Bench):
    """Good frames come out whole and in order, their length first; of a bad or dropped frame
    nothing comes out; the buffer never overflows; every frame that is not empty is good, bad or
    dropped, and the input is always ready."""
    receiver, inner = _receiver(f, min_words=1, max_words=2, depth=4)
    cobs = inner["cobs"]
    claim_held(f, "o", receiver.o)
    f.claim("always_ready", receiver.i.ready)
    # The frame as its bytes come: its first word, which may be the CRC.
    place, data, some = Signal(5), Signal(32), Signal()
    f.m.d.sync += some.eq(Mux(cobs.end, 0, some | cobs.o_valid))
    with f.m.If(cobs.end):
        f.m.d.sync += place.eq(0)
    with f.m.Elif(cobs.o_valid & (place != 31)):
        f.m.d.sync += place.eq(place + 1)
        with f.m.If(place < 4):
            f.m.d.sync += data.eq(Cat(data[8:], cobs.o))
    words = place >> 2
    popped = receiver.o.valid & receiver.o.ready
    count = Count(f, "words", push=receiver.good, amount=words + 1, capacity=3, pop=popped).count
    f.claim("good_has_its_length", implies(receiver.good, (place == 4) | (place == 8)))
    # An arbitrary good frame: its length and its first word must come out after all before.
    tracking, ahead = Signal(2), Signal(6)
    kept, kept_words = Signal(32), Signal(2)
    mark = receiver.good & f.free("mark_frame") & (tracking == 0)
    with f.m.If(mark):
        f.m.d.sync += [tracking.eq(1), ahead.eq(count - popped), kept.eq(data),
                       kept_words.eq(words)]
    with f.m.Elif((tracking == 1) & popped):
        f.m.d.sync += ahead.eq(ahead - 1)
        with f.m.If(ahead == 0):
            f.m.d.sync += tracking.eq(2)
    with f.m.Elif((tracking == 2) & popped):
        f.m.d.sync += tracking.eq(3)
    f.claim("length_first", implies((tracking == 1) & (ahead == 0) & popped,
                                    receiver.o.payload == kept_words))
    f.claim("then_its_word", implies((tracking == 2) & popped, receiver.o.payload == kept))
    verdicts = Cat(receiver.good, receiver.bad, receiver.overrun)
    f.claim("one_verdict", sum(verdicts) == (cobs.end & (some | ~cobs.whole)))
    f.cover("word_out", (tracking == 2) & popped & (kept == 0x01020304))
    f.cover("dropped", receiver.overrun)


@proof("framing.FrameReceiver/stream", depth=6, induction=True,
       scope="frames of 10 to 20 words in a buffer of 64; CRC verdicts are arbitrary")
def receiver_stream(f: Bench):
    """A waiting word does not change although frames arrive behind it."""
    depth, most = 64, 20
    receiver, inner = _receiver(f, min_words=10, max_words=most, depth=depth)
    claim_held(f, "o", receiver.o, cover=False)
    head, base, words = inner["head"], inner["base"], inner["words"]
    used = (base - head)[:len(head)]
    spy = inner["ram"].read_port(domain="comb")
    f.m.d.comb += spy.addr.eq(head)
    f.lemma("words_in_range", words <= most)
    f.lemma("buffer_has_room", implies(~inner["full"] & (words != 0), used + words + 1 < depth))
    f.lemma("offers_finished_words", implies(receiver.o.valid, head != base))
    f.lemma("shows_the_buffer", implies(receiver.o.valid, receiver.o.payload == spy.data))


@proof("framing.FrameSender/bytes", depth=4, reach=20, induction=True, quick=True,
       scope="one word at a time, with an encoder that takes bytes when it likes; CRC arbitrary")
def sender_bytes(f: Bench):
    """A word goes out as its four bytes, lowest first; behind a last word follow the CRC's four
    and the end; of a quiet word nothing does. A byte waits unchanged, no word is taken before the
    one before has left."""
    sender, ready = FrameSender(), f.free("encoder_ready")
    encoder = AnyEncoder(ready)
    crc = f.free("crc", 32)
    with any_crc(crc), mock.patch.object(framing, "CobsEncoder", lambda: encoder):
        inner = f.open("sender", sender)
    assume_held(f, sender.i)
    claim_held(f, "bytes", encoder.i)
    taken, sent = sender.i.valid & sender.i.ready, encoder.i.valid & encoder.i.ready
    number, last, quiet, busy = Signal(4), Signal(), Signal(), Signal()
    word, check = Signal(32), Signal(32)
    total = Mux(quiet, 0, Mux(last, 9, 4))
    with f.m.If(taken):
        f.m.d.sync += [busy.eq(1), number.eq(0), word.eq(sender.i.payload.data),
                       last.eq(sender.i.payload.last), quiet.eq(sender.quiet)]
    with f.m.Elif(sent):
        f.m.d.sync += number.eq(number + 1)
    # The CRC is taken in the cycle after the word's last byte.
    with f.m.If(busy & (number == 4) & f.past(sent)):
        f.m.d.sync += check.eq(crc)
    f.claim("one_word_at_a_time", implies(taken & busy, number == total))
    f.claim("nothing_invented", implies(sent, busy & (number < total)))
    payload = encoder.i.payload
    f.claim("word_bytes", implies(sent & (number < 4), ~payload.end & (
        payload.data == word.word_select(number[:2], 8))))
    f.claim("crc_bytes", implies(sent & (number >= 4) & (number < 8), ~payload.end & (
        payload.data == check.word_select(number[:2], 8))))
    f.claim("end_mark", implies(sent & (number == 8), payload.end))
    # Invariants: what its registers say of the bytes that are left.
    left, crc_part, ended = inner["left"], inner["crc_part"], inner["ended"]
    word_part = busy & (left != 0) & ~crc_part & ~ended
    rest = Signal(32)
    f.m.d.comb += rest.eq(Mux(crc_part, check, word) >> (number[:2] << 3))
    known = Cat((left > n).replicate(8) for n in range(4))
    f.lemma("part_word", implies(word_part & ~quiet,
                                 (number == 4 - left) & (inner["last"] == last)))
    f.lemma("part_quiet", implies(quiet, ~crc_part & ~ended & ~inner["last"] & (number == 0)))
    f.lemma("part_kind", implies(left != 0, busy & (inner["quiet"] == quiet) & (left <= 4)))
    f.lemma("part_crc", implies(crc_part, busy & last & ~ended & ~inner["last"] & Mux(
        left == 0, (number == 4) & f.past(sent), number == 8 - left)))
    f.lemma("part_end", implies(ended, busy & last & (number == 8) & (left == 0)))
    f.lemma("part_none", implies(busy & (left == 0) & ~crc_part & ~ended, number == total))
    f.lemma("rest_known", implies((left != 0) & ~quiet, ((inner["word"] ^ rest) & known) == 0))
    f.cover("frame", sent & (number == 8))
    f.cover("word_after_frame", busy & f.past(number == 9) & sent)


@proof("commands.Commands/stream", depth=8, induction=True, quick=True,
       scope="the tiny core; any requests, faults and memory answers")
def commands_stream(f: Bench):
    """A word of a reply waits unchanged until the sender takes it; memories are not read and
    written at once."""
    commands = f.place("commands", Commands(PRESETS["tiny"]))
    assume_held(f, commands.requests)
    claim_held(f, "replies", commands.replies)
    f.claim("reads_or_writes", ~(commands.bus.r_en & commands.bus.w_en))


@proof("packing.Unpacker/stream", depth=6, induction=True, quick=True,
       scope="any bytes and settings, changing as they like")
def unpacker_stream(f: Bench):
    """An unpacked word waits unchanged until it is taken; four bytes are taken at a time, and never
    in two cycles running."""
    unpacker = Unpacker()
    f.place("unpacker", unpacker)
    assume_held(f, unpacker.i)
    f.assume(~(unpacker.ended & unpacker.i.valid))
    claim_held(f, "o", unpacker.o)
    taken = unpacker.i.valid & unpacker.i.ready
    f.claim("not_twice_running", implies(taken, ~f.past(taken)))


@proof("link.Link/streams", depth=8, scope="the tiny core")
def link_streams(f: Bench):
    """The link takes a byte in every cycle and keeps the byte it offers; with
    framing.CobsEncoder/stream, whose stream this is, for ever."""
    link = Link(PRESETS["tiny"], divisor=100)
    inner = f.open("link", link)
    f.claim("always_ready", link.rx.ready)
    claim_held(f, "tx", link.tx, cover=False)
    out = inner["sender"].o
    f.claim("tx_is_the_senders", Cat(link.tx.valid, Value.cast(link.tx.payload), out.ready)
            == Cat(out.valid, Value.cast(out.payload), link.tx.ready))


class NoCore(Core):
    """Has the ports of the core and does nothing."""

    def elaborate(self, platform):
        return Module()


@proof("top.Top/streams", depth=8, scope="the tiny core's link; the core is a stand-in")
def top_streams(f: Bench):
    """The board's byte streams are the link's: always ready, and what waits does not change."""
    top = Top(PRESETS["tiny"], core=NoCore(PRESETS["tiny"]))
    f.place("top", top)
    f.claim("always_ready", top.rx.ready)
    claim_held(f, "tx", top.tx, cover=False)
