"""The row decoder: its reader's window, and its two streams."""

from __future__ import annotations

from amaranth import Cat, Mux, Signal

from hw.attention import CHANNEL_BITS
from hw.decoder import BitReader, RowDecoder
from sim.formal.checkers import Order, assume_held, claim_held, implies
from sim.formal.harness import Bench, proof
from sim.formal.small import ATTENTIVE, steady

READY = 5
"""The reader is ready in this cycle after a seek: 4 lie between."""


def taken_bits(reader: BitReader):
    """How many bits a `take` takes."""
    return Mux(reader.long, reader.long_count, reader.count)


@proof("decoder.BitReader/late_words", depth=4, reach=16, induction=True, quick=True,
       scope="16 words of 32 bits with arbitrary content; any seeks, takes and holds")
def reader_late_words(f: Bench):
    """Whenever words are held, `bits` shows the stream from the reader's place on, the place is
    where the takes have led, and no word is fetched while it is held: nothing of the stream is
    skipped or repeated."""
    reader = _window(f)
    f.claim("held", implies(f.past(reader.hold) & ~f.past(reader.seek) & f.started,
                            reader.address == f.past(reader.address)))
    f.cover("ready_after_a_hold", f.past(reader.hold, 3) & reader.ready)


@proof("decoder.BitReader/window", depth=4, reach=12, induction=True, quick=True,
       scope="16 words of 32 bits with arbitrary content; any seeks and takes")
def reader_window(f: Bench):
    """`bits` shows the stream from the reader's place on, the place is where the takes have led,
    and the reader is ready 4 cycles after a seek and from then on, whatever is taken: nothing of
    the stream is skipped or repeated."""
    f.assume(~_window(f, keeps_up=True).hold)


def _window(f: Bench, keeps_up: bool = False) -> BitReader:
    """A reader and what is claimed of it; keeps_up: no word is ever held."""
    reader = BitReader(4)
    inner = f.open("reader", reader)
    count = taken_bits(reader)
    f.assume(implies(reader.take, reader.ready & (count <= 24)))
    f.assume(implies(f.started, reader.long_count == f.past(reader.long_count)))
    # An arbitrary word of the memory; the claims about it hold for each.
    place, content = f.constant("some_place", 4), f.constant("content", 32)
    f.assume(implies((f.past(reader.address) == place) & ~f.past(reader.hold),
                     ~f.started | (reader.data == content)))
    f.assume(f.started | reader.seek)

    age, word, bit = Signal(range(READY + 1)), Signal(4), Signal(5)
    with f.m.If(reader.seek):
        f.m.d.sync += [age.eq(1), word.eq(reader.seek_word), bit.eq(reader.seek_bit)]
    with f.m.Else():
        f.m.d.sync += age.eq(Mux(age == READY, READY, age + 1))
        with f.m.If(reader.take):
            end = Signal(10)
            f.m.d.comb += end.eq(bit + count)
            f.m.d.sync += [bit.eq(end[:5]), word.eq(word + end[5:])]
    f.claim("place", implies(f.started, (reader.word == word) & (reader.bit == bit)))
    if keeps_up:
        f.claim("ready_after_seek", implies(f.started, reader.ready == (age == READY)))
    here, shown = Signal(4), Signal(24)
    f.m.d.comb += [here.eq(place - reader.word),
                   shown.eq(Cat(Mux(here == 0, content, inner["low"]),
                                Mux(here == 1, content, inner["high"])) >> reader.bit)]
    f.claim("window", implies(reader.ready & f.started, reader.bits == shown))

    # Invariants: where the words between memory and window are.
    low, high, filled, level = inner["low"], inner["high"], inner["filled"], inner["level"]
    arriving, read, write = inner["arriving"], inner["read"], inner["write"]
    stored = Signal(4)
    f.m.d.comb += stored.eq(here - filled)
    spy = inner["ahead"].read_port(domain="comb")
    f.m.d.comb += spy.addr.eq(read.addr + stored)
    f.lemma("bit_and_its_rest", (inner["unbit"] == ~reader.bit) & implies(
        f.started, inner["long_count"] == (reader.long_count + 31)[:6]))
    f.lemma("started_by_a_seek", f.started == (age != 0))
    f.lemma("address_is_ahead", implies(
        f.started, reader.address == (reader.word + filled + level + arriving)[:4]))
    f.lemma("address_was_sent", implies(arriving, f.past(reader.address)
                                        == (reader.address - 1)[:4]))
    f.lemma("words_ahead", (level + arriving <= 4) & (write.addr == (read.addr + level)[:2]))
    f.lemma("word_ahead", implies(f.started & (stored < level), spy.data == content))
    f.lemma("window_low", implies(f.started & (filled == 2) & (here == 0), low == content))
    f.lemma("window_high", implies(f.started & (filled != 0) & (here == filled - 1),
                                   high == content))
    f.lemma("stored_is_not_empty", inner["stored"] == (level != 0))
    if not keeps_up:
        f.lemma("two_in_the_window", filled != 3)
        return reader
    for when, state in ((1, (0, 0, 0)), (2, (0, 0, 1)), (3, (0, 1, 1)), (4, (1, 1, 1))):
        f.lemma(f"state_{when}_after_seek", implies(age == when, Cat(
            filled == state[0], level == state[1], arriving == state[2]).all()))
    f.lemma("keeps_up", implies(age == READY, (filled == 2) & (level != 0)
                                & (level + arriving >= 2)))
    f.cover("full_speed", (age == READY) & (word == 3) & reader.take & (count == 24))
    return reader


@proof("decoder.RowDecoder/streams", depth=4, reach=16, quick=True, induction=True,
       scope="16 words; any layer, any memory content")
def decoder_streams(f: Bench):
    """Headers and items wait unchanged until they are taken, and nothing is put into a place that
    is still occupied."""
    decoder = RowDecoder(ATTENTIVE)
    inner = f.open("decoder", decoder)
    claim_held(f, "items", decoder.items)
    claim_held(f, "header", decoder.header)
    written = ((inner["consume"] & inner["code_is_weight"])
               | (decoder.sums.valid & decoder.sums.ready))
    fsm = inner["fsm"]
    f.lemma("header_has_left", implies(fsm.ongoing("BIAS") | fsm.ongoing("THRESHOLD"),
                                       ~decoder.header.valid))
    f.claim("item_has_room", implies(written, ~decoder.items.valid | decoder.items.ready))


@proof("decoder.RowDecoder/reader_contract", depth=8, induction=True,
       scope="headers of any width; values of 1 to 8 bits, k from 0 to 9, as compiled")
def decoder_reader(f: Bench):
    """The decoder takes at most 24 bits at a time, and only while its reader is ready; the longer
    of its two choices does not change in a layer."""
    decoder = RowDecoder(ATTENTIVE)
    inner = f.open("decoder", decoder)
    reader = inner["reader"]
    layer = decoder.layer
    steady(f, layer)
    f.assume((layer.value_bits >= 1) & (layer.value_bits <= 8) & (layer.rice_k <= 9))
    f.assume((layer.channel_bits <= 12) & (layer.neuron_bits <= 24))
    count = taken_bits(reader)
    f.lemma("count_is_set", implies(~inner["fsm"].ongoing("IDLE"), reader.count <= 24))
    f.claim("long_count_stays", implies(f.started, reader.long_count == f.past(reader.long_count)))
    f.claim("takes_when_ready", implies(reader.take, reader.ready))
    f.claim("takes_24_at_most", implies(reader.take, count <= 24))


@proof("decoder.RowDecoder/channels", depth=4, reach=24, quick=True, induction=True,
       scope="16 words; any layer, any memory content")
def decoder_channels(f: Bench):
    """A row's channel is that of the row before plus 1 and the gap between them; the first row's is
    the gap. It stays the same in all passes of the row."""
    decoder = RowDecoder(ATTENTIVE)
    inner = f.open("decoder", decoder)
    steady(f, decoder.layer)
    steady(f, decoder.masks)
    fsm, reader = inner["fsm"], inner["reader"]
    taken = fsm.ongoing("CHANNEL") & reader.ready & inner["next_field"]
    gap = reader.bits & decoder.masks.channel
    f.assume(implies(decoder.start, decoder.idle))
    channel, known = Signal(12), Signal()
    with f.m.If(fsm.ongoing("IDLE") & decoder.idle):
        f.m.d.sync += known.eq(0)
    with f.m.Elif(taken & inner["first_pass"]):
        f.m.d.sync += [known.eq(1), channel.eq(Mux(known, channel + 1, 0) + gap)]
    shown = decoder.header.payload.row.channel
    f.claim("channel", implies(known, shown == channel))
    f.lemma("before_the_first", implies(~known & ~fsm.ongoing("IDLE"), (shown == 4095)
                                        & fsm.ongoing("CHANNEL") & inner["first_pass"]))


@proof("decoder.RowDecoder/attention", depth=4, reach=24, quick=True, induction=True,
       scope="16 words; any attention layer; a source that keeps its contract")
def decoder_attention(f: Bench):
    """A pass of the source begins only when the one before has ended, and its channel and group
    stay until then. The source's items come out once, unchanged and in order, and one marker after
    each pass."""
    decoder = RowDecoder(ATTENTIVE)
    inner = f.open("decoder", decoder)
    sums, items = decoder.sums, decoder.items
    steady(f, decoder.layer)
    f.assume(decoder.layer.attention)
    running = Signal()
    f.m.d.sync += running.eq(decoder.attend | (running & ~decoder.attended))
    f.assume(implies(decoder.attended, running & ~sums.valid))
    f.assume(implies(sums.valid, running))
    assume_held(f, sums)
    f.claim("begins_after_end", implies(decoder.attend, ~running))
    f.claim("place_stays", implies(f.past(running | decoder.attend) & running, Cat(
        decoder.channel == f.past(decoder.channel), decoder.group == f.past(decoder.group)).all()))
    order = Order(
        f, "item", push=(sums.valid & sums.ready) | decoder.attended,
        item=Cat(decoder.attended, Mux(decoder.attended, 0, Cat(
            sums.payload.channel, sums.payload.value, sums.payload.timesteps))),
        pop=items.valid & items.ready, out=Cat(items.payload.end, Mux(items.payload.end, 0, Cat(
            items.payload.channel[:CHANNEL_BITS], items.payload.value[:len(sums.payload.value)],
            items.payload.timesteps))), capacity=2)
    f.claim("nothing_else", implies(items.valid, items.payload.end | (
        (items.payload.tap == 0) & (items.payload.channel >> CHANNEL_BITS == 0)
        & (items.payload.value >= 0))))

    attending, owed = inner["fsm"].ongoing("ATTEND"), Signal()
    f.m.d.comb += owed.eq(attending & inner["attended"])
    f.claim("marker_comes", implies(f.past(owed & (items.ready | ~items.valid)),
                                    items.valid & items.payload.end))

    # Invariants: where a pass stands.
    f.lemma("no_codes", ~inner["fsm"].ongoing("CODES") & ~inner["codes"])
    f.lemma("attending", attending == (decoder.attend | running | owed))
    f.lemma("one_of_them", (decoder.attend + running + owed) <= 1)
    f.lemma("inside", order.count == items.valid + owed)
    f.lemma("kept_is_inside", implies(order.tracking, order.kept == Mux(
        owed & (order.ahead == order.count - 1), 1, Cat(
            items.payload.end, Mux(items.payload.end, 0, Cat(
                items.payload.channel[:CHANNEL_BITS], items.payload.value[:len(sums.payload.value)],
                items.payload.timesteps))))))
