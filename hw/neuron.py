"""LIF/IF neuron lane: four timesteps of one output position, pipelined, one position a cycle."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from . import layouts
from .config import TIMESTEPS_PER_GROUP, CoreConfig

MEMBRANE = signed(24)
"""Wide enough that no network the compiler accepts can overflow it (`docs/numerics.md`)."""

LATENCY = 1 + 4 * TIMESTEPS_PER_GROUP
"""Cycles from input to output."""


class NeuronLane(wiring.Component):
    """v = floor(leak v / 256) + current + bias; spike where v >= threshold; then the reset.

    Parameters of two passes are live at a time (`bias`, `threshold` index 0/1): `parity` travels
    with the position and selects them. The pipeline never waits. With `bit_planes` the current is
    `total` in every timestep, whatever `currents` are.
    """

    def __init__(self, config: CoreConfig):
        self._config = config
        super().__init__({
            "layer": In(layouts.LAYER),
            "bias0": In(signed(18)), "bias1": In(signed(18)),
            "threshold0": In(signed(24)), "threshold1": In(signed(24)),
            "currents": In(layouts.currents(config)), "total": In(signed(config.current_bits)),
            "parity": In(1), "membrane": In(MEMBRANE),
            "spikes": Out(layouts.MASK), "membrane_out": Out(MEMBRANE),
        })

    def elaborate(self, platform):
        m = Module()
        layer = self.layer
        steps = range(TIMESTEPS_PER_GROUP)

        inputs = [Signal(signed(20), name=f"current{t}", reset_less=True) for t in steps]
        membrane, parity = Signal(MEMBRANE, reset_less=True), Signal(reset_less=True)
        spikes = Signal(0)
        bias = Mux(self.parity, self.bias1, self.bias0)
        m.d.sync += [inputs[t].eq(Mux(layer.bit_planes, self.total, self.currents[t]) + bias)
                     for t in steps]
        m.d.sync += [membrane.eq(self.membrane), parity.eq(self.parity)]

        for t in steps:
            def delayed(signal, name, t=t):
                copy = Signal.like(signal, name=f"{name}_{t}", reset_less=True)
                m.d.sync += copy.eq(signal)
                return copy

            def delayed_all(signals, name, delayed=delayed):
                return [delayed(s, f"{name}{i}") for i, s in enumerate(signals)]

            current, *later = inputs
            # Cycles 1 and 2: leak and integrate, a multiply-add that fits one DSP slice;
            # floor((leak v + 256 I) / 256) = floor(leak v / 256) + I.
            leaked = Signal(signed(34), name=f"leaked_{t}")
            m.d.comb += leaked.eq(membrane * layer.leak)
            product, current = delayed(leaked, "product"), delayed(current, "current_a")
            parity, spikes = delayed(parity, "parity_a"), delayed(spikes, "spikes_a")
            later = delayed_all(later, "later_a")
            summed = Signal(signed(34), name=f"summed_{t}")
            m.d.comb += summed.eq(product + (current << 8))
            integrated = delayed(summed, "membrane_b")[8:32].as_signed()
            parity, spikes = delayed(parity, "parity_b"), delayed(spikes, "spikes_b")
            later = delayed_all(later, "later_b")
            # Cycle 3: compare with the threshold.
            distance = Signal(signed(26), name=f"distance_{t}")
            m.d.comb += distance.eq(integrated - Mux(parity, self.threshold1, self.threshold0))
            above, integrated = delayed(distance, "above_c"), delayed(integrated, "membrane_c")
            parity, spikes = delayed(parity, "parity_c"), delayed(spikes, "spikes_c")
            later = delayed_all(later, "later_c")
            # Cycle 4: fire and reset.
            after = Signal(MEMBRANE, name=f"after_{t}")
            fired = Signal(t + 1, name=f"fired_{t}")
            fire = ~above[-1]
            m.d.comb += [
                after.eq(Mux(fire, Mux(layer.soft_reset, above[:24].as_signed(), layer.v_reset),
                             integrated)),
                fired.eq(Cat(spikes, fire)),
            ]
            membrane, spikes = delayed(after, "membrane_d"), delayed(fired, "spikes_d")
            parity = delayed(parity, "parity_d")
            inputs = delayed_all(later, "later_d")

        m.d.comb += [self.spikes.eq(spikes), self.membrane_out.eq(membrane)]
        return m
