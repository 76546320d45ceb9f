"""Wrong lines of the unit: the tests must notice `MUTATIONS`."""

from sim.wrong_lines import bad

MUTATIONS = bad(
    "hw/neuron.py",
    ("fire = ~above[-1]", "fire = ~above[-1] & (above != 0)", "fires only above the threshold"),
    ("Mux(layer.soft_reset, above", "Mux(~layer.soft_reset, above", "soft and hard reset swapped"),
    ("above[:24].as_signed(), layer.v_reset)", "above[:24].as_signed(), 0)",
     "hard reset to 0 instead of v_reset"),
    ("leaked.eq(membrane * layer.leak)", "leaked.eq(membrane * layer.leak + 128)",
     "leak rounds to nearest"),
    ("summed.eq(product + ", "summed.eq(product + Mux(product[-1], 255, 0) + ",
     "leak rounds towards zero"),
    ("Mux(self.parity, self.bias1, self.bias0)", "self.bias0", "bias of the other pass"),
    ("Mux(layer.bit_planes, self.total, self.currents[t])", "self.currents[t]",
     "places of bit-planes taken for timesteps"),
    ("Mux(parity, self.threshold1, self.threshold0)", "self.threshold1",
     "threshold of the other pass"),
    ("m.d.comb += [self.spikes.eq(spikes)", "m.d.comb += [self.spikes.eq(spikes[::-1])",
     "timesteps in reverse order"),
)
