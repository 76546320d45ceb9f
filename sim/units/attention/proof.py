"""Attention and the patch gate: items of a pass, room in the queue of sums, the tokens kept."""

from __future__ import annotations

from amaranth import Array, Cat, Const, Mux, Signal, Value

from hw.attention import FULL, QUEUE, AttentionItems, AttentionSource
from hw.config import TIMESTEPS_PER_GROUP, top_k_cycles
from hw.gate import TopK
from hw.unit import JobQueue
from sim.formal.checkers import Count, claim_held, implies
from sim.formal.harness import Bench, proof
from sim.formal.small import SMALL

STOP = 7
"""Cycles after which no sum is pushed any more once the queue is almost full. The two proofs that
use it must both hold: that the source keeps it, and that the queue has room for it."""

HEAD = 3
"""Channels of the head in the proof of a pass."""


@proof("attention.AttentionSource/stops", depth=STOP + 2, induction=True, quick=True,
       scope="words of 8 positions, 4 timesteps at a time; the state of everything else is "
             "arbitrary")
def attention_stops(f: Bench):
    """No sum is pushed into the queue more than STOP cycles after it is almost full; a granted word
    was asked for. An item waits unchanged until it is taken."""
    source = AttentionSource(SMALL, 4)
    inner = f.open("source", source)
    queue = inner["queue"]
    f.assume(implies(source.granted, source.request))
    free = ~queue.almost_full
    f.claim("stops", implies(queue.push & f.past(Const(1), STOP), f.past(free, STOP)))
    claim_held(f, "items", source.items, cover=False)


@proof("attention.AttentionSource/room", depth=STOP + 4, reach=20, induction=True, quick=True,
       scope="sums of 1 bit")
def attention_room(f: Bench):
    """The queue of sums never overflows if one is pushed in a cycle only if the queue was not
    almost full STOP cycles before."""
    queue = JobQueue(1, QUEUE, QUEUE - FULL)
    inner = f.open("queue", queue)
    count = Count(f, "sum", push=queue.push, pop=queue.o.valid & queue.o.ready,
                  capacity=QUEUE - 1).count
    f.assume(implies(queue.push & f.past(Const(1), STOP), f.past(~queue.almost_full, STOP)))
    f.lemma("level_counts", (inner["level"] == count) & (queue.o.valid == (count != 0)))
    f.cover("full", count == QUEUE - 1)


@proof("attention.AttentionItems/stream", depth=3, reach=10, induction=True, quick=True,
       scope="words of 8 positions; any sums")
def attention_items(f: Bench):
    """An item waits unchanged until it is taken."""
    claim_held(f, "o", f.place("items", AttentionItems(SMALL)).o)


@proof("attention.AttentionSource/pass", depth=26,
       scope="one pass, words of 8 positions of arbitrary content, maps of one word, heads of 3 "
             "channels, 4 timesteps at a time; grants and takes as they like")
def attention_pass(f: Bench):
    """Every timestep of every channel comes in one item, with the number of tokens in which its k
    and v have a spike, or in none if there is no such token; in order of the channels; `done`
    comes when all have."""
    source = f.place("source", AttentionSource(SMALL, 4))
    layer, items = source.layer, source.items
    begun, ended = Signal(), Signal()
    f.m.d.sync += [begun.eq(1), ended.eq(ended | source.done)]
    for name, value in {"words": 1, "width": HEAD, "channel_stride": 1, "channel_step": 1,
                        "group_stride": 0, "key": 0, "value": HEAD}.items():
        f.assume(layer[name] == value)
    f.m.d.comb += [source.channel.eq(0), source.group.eq(0), source.reset_head.eq(0),
                   source.start.eq(begun & ~f.past(begun))]
    f.assume(implies(source.granted, source.request))

    # Words in order of their arrival: v, then k of every channel.
    arriving = f.past(source.granted, 2)
    number = Signal(range(HEAD + 2))
    chosen, t = f.constant("chosen", range(HEAD)), f.constant("timestep", 2)
    f.assume(chosen < HEAD)
    timesteps = Signal(SMALL.window)
    lanes = Value.cast(source.data)
    f.m.d.comb += timesteps.eq(Cat(
        lanes.word_select(lane, TIMESTEPS_PER_GROUP).bit_select(t, 1)
        for lane in range(SMALL.window)))
    value, wanted, known = Signal(SMALL.window), Signal(4), Signal()
    common = timesteps & value
    spoke = Signal()
    with f.m.If(arriving):
        f.m.d.sync += number.eq(number + 1)
        with f.m.If(number == 0):
            f.m.d.sync += [value.eq(timesteps), spoke.eq(lanes.any())]
        with f.m.If(number == chosen + 1):
            f.m.d.sync += [known.eq(1), wanted.eq(sum(common[i] for i in range(SMALL.window)))]
    f.claim("words", implies(arriving, number <= HEAD))
    f.claim("all_words", implies(source.done & spoke, number == HEAD + 1))

    taken = items.valid & items.ready
    here = taken & (items.payload.channel == chosen) & items.payload.timesteps.bit_select(t, 1)
    seen, before = Signal(), Signal(range(HEAD))
    with f.m.If(here):
        f.m.d.sync += seen.eq(1)
    with f.m.If(taken):
        f.m.d.sync += before.eq(items.payload.channel)
    f.claim("once", ~(here & seen))
    f.claim("counted", implies(here, known & (items.payload.value == wanted) & (wanted != 0)))
    f.claim("in_order", implies(taken, items.payload.channel >= before))
    f.claim("complete", implies(source.done & known & (wanted != 0), seen))
    f.claim("not_after_done", ~(ended & taken))
    claim_held(f, "items", items)
    f.cover("all", source.done & seen & (chosen == HEAD - 1) & (wanted == 8))
    f.cover("silent", source.done & (number < HEAD + 1))


TOKENS, BITS = 4, 2


@proof("gate.TopK/keeps", depth=top_k_cycles(1, TOKENS, BITS, TOKENS // 2) + 4,
       scope="1 to 4 positions, any of them tokens, with arbitrary scores of 2 bits, one engine")
def top_k_keeps(f: Bench):
    """Exactly `keep` tokens are kept, listed in ascending order and set in the mask, every one of
    them with a higher score than all others or the same and a lower number, and no position that
    is none; `done` comes after the cycles of the contract."""
    top = TopK(1, TOKENS, BITS)
    inner = f.open("top", top)
    begun, cycles = Signal(), Signal(6)
    f.m.d.sync += [begun.eq(1), cycles.eq(cycles + (begun & ~cycles.all()))]
    keep, count = f.constant("keep", 3), f.constant("count", 3)
    scores = [f.constant(f"score{n}", BITS) for n in range(TOKENS)]
    pitch_mask, row_valid = f.constant("pitch_mask", 2), f.constant("row_valid", 3)
    exists = [(n < count) & ((n & pitch_mask) < row_valid) for n in range(TOKENS)]
    f.assume((count >= 1) & (count <= TOKENS) & (keep >= 1) & (keep <= sum(exists)))
    asked = f.past(top.token, 2)
    f.m.d.comb += [
        top.start.eq(begun & ~f.past(begun)), top.host.eq(0), top.tokens.eq(count),
        top.keep.eq(keep), top.bits.eq(BITS), top.mask_write.eq(0),
        top.pitch_mask.eq(pitch_mask), top.row_valid.eq(row_valid),
        top.scores[0].eq(Mux(asked[1], Mux(asked[0], scores[3], scores[2]),
                             Mux(asked[0], scores[1], scores[0]))),
    ]
    ports = [inner["masks"].read_port(domain="comb") for _ in range(2)]
    for index, port in enumerate(ports):
        f.m.d.comb += port.addr.eq(index)
    mask = Cat(port.data for port in ports)
    done = top.done
    f.claim("keeps", implies(done, (top.kept == keep)
                             & (sum(mask[n] for n in range(TOKENS)) == keep)))
    for n in range(TOKENS):
        f.claim(f"token{n}_exists", implies(done & mask[n], exists[n]))
        for other in range(TOKENS):
            if other != n:
                better = scores[n] > scores[other] if n > other else scores[n] >= scores[other]
                f.claim(f"token{n}_not_{other}", implies(
                    done & mask[n] & ~mask[other] & exists[other], better))
    # The list, written in order of its places.
    places = [Signal(2, name=f"place{n}") for n in range(TOKENS)]
    with f.m.If(top.list_write):
        f.m.d.sync += Array(places)[top.kept].eq(top.list_token)
    place = f.constant("place", 2)
    token = Array(places)[place]
    number = sum(mask[n] & (n < token) for n in range(TOKENS))
    f.claim("listed", implies(done & (place < keep), (number == place)
                              & mask.bit_select(token, 1)))
    # tokens + 2 of the load, bits (tokens + 4), whole words + 3.
    whole = (count + 1) & 6
    f.claim("in_time", implies(done, cycles == count + 2 + BITS * (count + 4) + whole + 3))
    f.cover("all_equal", done & (keep == 2) & (count == 4) & (scores[0] == scores[3])
            & mask[0] & mask[1])
    f.cover("last_two", done & (count == 4) & mask[2] & mask[3] & ~mask[0])
