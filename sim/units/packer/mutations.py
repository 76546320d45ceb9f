"""Wrong lines of the unit: the tests must notice `MUTATIONS` and the proofs `BUGS`."""

from sim.wrong_lines import bad, bug

MUTATIONS = bad(
    "hw/packer.py",
    ("self.scores.pair.eq(pair_of_outputs)", "self.scores.pair.eq(0)",
     "every other output does not count for the gate"),
    ("pitch_words & ~index[:4]", "0", "no words of zeros up to the next image row"),
    ("(lane | pitch_lanes) + 1", "lane + 1", "no zeros up to the next image row"),
    ("m.d.sync += word[i].eq(0)", "m.d.sync += word[i].eq(word[i])",
     "lanes keep spikes of the word before"),
    ("Mux(item.phase_end, layer.out_phase_stride, 0)", "0", "all phases in one place"),
    ("~(next_pending & (move | out_valid)) & (next_fill == 0)", "next_fill == 0",
     "a finished word is overwritten while it waits"),
    ("Mux(item.parity, self.total1, self.total0)", "self.total0",
     "the sum of another row's pass"))

BUGS = (
    bug("packer.Packer/stream", "o_held", "packer",
        "move.eq(pending & ~out_valid)", "move.eq(pending)",
        "overwrites a word that waits", 14, quick=True),
    bug("packer.Packer/words", "", "packer",
        "~(next_pending & (move | out_valid)) & (next_fill == 0)", "next_fill == 0",
        "goes on while a finished word cannot leave"),
)
