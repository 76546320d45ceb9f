"""The simulated board, the benches, the faults and the fuzzing: what the gateware is held to."""

from sw.starting import quiet_interrupt

quiet_interrupt()
