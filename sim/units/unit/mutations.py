"""Wrong lines of the unit: the tests must notice `MUTATIONS` and the proofs `BUGS`."""

from sim.wrong_lines import bad, bug

MUTATIONS = bad(
    "hw/unit.py",
    ("take = head_valid & ~ends & ~self.claim", "take = head_valid & ~ends",
     "the drain's claim is ignored"),
    ("bank.eq(~bank)", "bank.eq(bank)", "banks are not swapped"),
    ("switch = is_end & ~other_busy", "switch = is_end", "does not wait for the other bank"),
    ("adders.clear.eq(clear)", "adders.clear.eq(0)",
     "a drained accumulator is not cleared"),
    ("self.drain & self.drain_clear", "self.drain",
     "a pool clears what its next window needs"),
    ("(head.address + lane)", "(head.address)", "all lanes of a word at one address"),
    ("with m.If(take & mask[t]):", "with m.If(take):", "adds in timesteps without a spike"),
    ("level >= self._depth - self._margin", "level >= self._depth", "the queue overflows"),
)

BUGS = (
    bug("unit.JobQueue/margin", "job_no_overflow", "unit", "self._depth - self._margin",
        "self._depth - self._margin // 2", "half the margin", 24, quick=True),
    bug("unit.JobQueue/order", "job_in_order", "unit", "read.addr.eq(read.addr + 1)",
        "read.addr.eq(read.addr + 1 + (level == 7))", "skips a job", 12),
    bug("unit.JobQueue/order", "offered_while_inside", "unit", "(level > 1)",
        "(level > 2)", "forgets the last but one job", 6),
    bug("unit.AccumulateUnit/lanes", "not_while_drained", "unit",
        "take = head_valid & ~ends & ~self.claim", "take = head_valid & ~ends",
        "adds in a claimed cycle", 8),
    bug("unit.AccumulateUnit/lanes", "kept", "unit", "self.drain & self.drain_clear",
        "self.drain", "clears what another window still needs"),
    bug("unit.AccumulateUnit/lanes", "lane", "unit", "(take & ~others.any()) | switch",
        "take | switch", "drops all lanes of a job but one", 8),
)
