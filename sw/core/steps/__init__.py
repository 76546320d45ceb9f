"""The cycle model's engine, a clock at a time: a module for each of its units, in the order in
which data flow. Every step moves one unit of engine `e` by one cycle, as the cycle contract of
`docs/core.md` says. The units are stepped from the last to the first, so that each still sees what
those behind it held before the clock edge, and puts what it hands on into places just left.

Compiled by numba and put into the loop of `sw.core.cycle_kernel`, so that a step costs no call.
"""
