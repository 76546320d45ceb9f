"""Wrong lines of the unit: the tests must notice `MUTATIONS` and the proofs `BUGS`."""

from sim.wrong_lines import bad, bug

_STREAMER = ("tests/test_dram.py", "-k", "streamer")

MUTATIONS = bad(
    "hw/stream.py",
    ("(used <= cfg.ring_words - STREAM_WORDS)", "(used <= cfg.ring_words)",
     "a block overwrites what is still needed"),
    ("& ~ended[turn] & ~on_way[1]", "& ~on_way[1] & ~on_way[0] & (turn != 0)",
     "an engine gets nothing"),
    ("(content == ~crc)", "1", "damaged words count"),
    ("Cat(first.number, first.engine) ^ Const(-1, WORD_BITS)", "Const(-1, WORD_BITS)",
     "a block of another place counts"),
    ("~ended[first.engine] & (self.fault", "(self.fault",
     "what lies behind a stream is taken for its next block"),
    ("m.d.sync += [limit[n].eq(0) for n in range(cfg.engines)]", "pass",
     "words of the streams before count"),
    ("dead.eq(silent == PATIENCE - 1)", "dead.eq(0)", "a dead memory holds up the host"),
    ("first.eq(second)", "first.eq(first)", "the second block goes to the first one's ring"),
    tests=_STREAMER)

BUGS = (
    bug("stream.Streamer/rings", "room", "stream", "(used <= cfg.ring_words - STREAM_WORDS)",
        "(used <= cfg.ring_words - STREAM_WORDS + 1)", "a block is asked for a word too early"),
    bug("stream.Streamer/rings", "free", "stream", "come.eq(came & (on_way != 0))", "come.eq(came)",
        "a word too many goes to a ring"),
    bug("stream.Streamer/rings", "counts", "stream", "with m.If(right):", "with m.If(1):",
        "damaged words count"),
)
