"""Wrong lines of the unit: the tests must notice `MUTATIONS` and the proofs `BUGS`."""

from sim.wrong_lines import bad, bug

MUTATIONS = bad(
    "hw/core.py",
    ("gate.keep.eq(layer.out_pitch)", "gate.keep.eq(layer.out_pitch - 1)",
     "a token too few is kept"),
    ("self.ready.eq(Mux(any_valid, 1 << choice, 0))", "self.ready.eq(self.valid)",
     "the arbiter loses words"),
    ("odd.map_data.eq(ram.b_data)", "odd.map_data.eq(ram.a_data)",
     "odd engines see the even engines' words"),
    ("address >> weight_bits == i", "address >> weight_bits == 0",
     "all pairs hold the first one's weights"))

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
