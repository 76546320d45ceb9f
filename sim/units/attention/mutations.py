"""Wrong lines of the unit: the tests must notice `MUTATIONS` and the proofs `BUGS`."""

from sim.wrong_lines import bad, bug

MUTATIONS = bad(
    "hw/attention.py",
    ("Mux(self.group[0], layer.group_stride, 0)", "0", "k and v of an even group"),
    ("with m.If(in_head == last_channel):", "with m.If(0):",
     "every head takes k of the first"),
    ("others.eq(left & ~alike)", "others.eq(left & ~lowest)", "repeats equal timesteps"))

BUGS = (
    bug("attention.AttentionSource/stops", "stops", "attention",
        "may_read = ~self.stop & (pause == 0)", "may_read = pause == 0",
        "reads on although the queue fills", quick=True),
    bug("attention.AttentionSource/room", "sum_no_overflow", "attention", "QUEUE, FULL = 16, 7",
        "QUEUE, FULL = 16, 8", "a place too few", 24, quick=True),
    bug("attention.AttentionSource/pass", "once", "attention", "others.eq(left & ~alike)",
        "others.eq(left & ~lowest)", "repeats equal timesteps"),
)
