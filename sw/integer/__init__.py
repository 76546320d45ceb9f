"""The integer network, exact from here on.

`quantize` makes one of a float network; `network` states it, `spikingjelly` runs it on SpikingJelly
neurons, `reference` in NumPy, `trainee` with gradients. `docs/numerics.md` has every rule.
"""
