"""Wrong lines of the unit: the tests must notice `MUTATIONS` and the proofs `BUGS`."""

from sim.wrong_lines import bad, bug

MUTATIONS = bad(
    "hw/gate.py",
    ("reaches & (~equals | missing.any())", "reaches & (~equals | ~missing.any())",
     "of equal scores the wrong ones are kept"),
    ("inside & Mux(host, chosen", "inside & Mux(host, ~chosen", "the host's mask inverted"),
    ("m.d.sync += above.eq(count)", "m.d.sync += above.eq(0)",
     "too many of equal scores are kept"))

BUGS = (
    bug("gate.TopK/keeps", "keeps", "gate", "reaches & (~equals | missing.any())", "reaches",
        "keeps all ties"),
    bug("gate.TopK/keeps", "", "gate", "inside & Mux(host", "Mux(host",
        "keeps positions that are no tokens"),
)
