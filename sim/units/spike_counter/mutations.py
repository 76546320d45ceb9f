"""Wrong lines of the unit: the tests must notice `MUTATIONS`."""

from sim.wrong_lines import bad

MUTATIONS = bad(
    "hw/spike_counter.py",
    ("both = spikes[t] & read.data.word_select(t, self._window)", "both = spikes[t]",
     "counts the spikes of k alone"),
    ("self.silent.eq(stored & ~spoke)", "self.silent.eq(stored & ~Cat(spikes).any())",
     "judges v by its last word"))
