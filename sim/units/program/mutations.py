"""Wrong lines of the unit: the tests must notice `MUTATIONS`."""

from sim.wrong_lines import bad

MUTATIONS = bad(
    "hw/program.py",
    ("- moved) % (1 << WALK_BITS)\n            moved += (counts",
     ") % (1 << WALK_BITS)\n            moved += (counts", "the walk does not go back"))
