"""Wrong lines of the unit: the tests must notice `MUTATIONS` and the proofs `BUGS`."""

from sim.wrong_lines import bad, bug

CORE = bad(
    "hw/core.py",
    ("gate.keep.eq(layer.out_pitch)", "gate.keep.eq(layer.out_pitch - 1)",
     "a token too few is kept"))

SEQUENCER = bad(
    "hw/sequencer.py",
    ("self.layer.score_clear & (position == 2)", "0",
     "scores of the image before are left"))

CORE_2 = bad(
    "hw/core.py",
    ("self.ready.eq(Mux(any_valid, 1 << choice, 0))", "self.ready.eq(self.valid)",
     "the arbiter loses words"),
    ("odd.map_data.eq(ram.b_data)", "odd.map_data.eq(ram.a_data)",
     "odd engines see the even engines' words"),
    ("address >> weight_bits == i", "address >> weight_bits == 0",
     "all pairs hold the first one's weights"))

SEQUENCER_2 = bad(
    "hw/sequencer.py",
    ("(position != program.TAP_WORDS - 1) | ~last_tap", "1",
     "the next layer starts a word late"),
    ("self.plane_index.eq(self.plane_index + 1)", "self.plane_index.eq(self.plane_index)",
     "one plane only"))

MUTATIONS = (*CORE, *SEQUENCER, *CORE_2, *SEQUENCER_2)

BUGS = (
    bug("cluster.EngineCluster/words", "done_means_idle", "cluster",
        "engine.idle for engine in engines", "engine.idle for engine in engines[:1]",
        "done while the second engine works"),
    bug("core.WriteArbiter/service", "one_at_a_time", "core",
        "self.ready.eq(Mux(any_valid, 1 << choice, 0))", "self.ready.eq(self.valid)",
        "takes all words and writes one", 6, quick=True),
    bug("core.WriteArbiter/service", "engine", "core", "m.d.sync += last.eq(choice)",
        "m.d.sync += last.eq(0)", "serves the same engine over and over", 12),
)
