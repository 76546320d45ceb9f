"""Wrong lines of the unit: the tests must notice `MUTATIONS`."""

from sim.wrong_lines import bad

MUTATIONS = bad(
    "hw/sequencer.py",
    ("self.layer.score_clear & (position == 2)", "0",
     "scores of the image before are left"),
    ("(position != program.TAP_WORDS - 1) | ~last_tap", "1",
     "the next layer starts a word late"),
    ("self.plane_index.eq(self.plane_index + 1)", "self.plane_index.eq(self.plane_index)",
     "one plane only"))
