"""Bounds of membranes: layers that cannot fire, or cannot rest."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sw.imports.reach import notes, reaches
from sw.integer.floats import FloatLayer, FloatNeuron, FloatSynapses
from sw.integer.network import InputSpec

SPEC = InputSpec(2, 1, 1, bits=2, static=False)


def layer(weight, theta, decay=0.5, bias=0.0, reset=0.0, strict=False, name="a"):
    weight = torch.as_tensor(weight).double()
    full = torch.full((len(weight),), 1.0).double()
    neuron = FloatNeuron(decay, full * theta, None if reset is None else full * reset, strict)
    return FloatLayer(name, (FloatSynapses(weight[:, :, None, None]),), full * bias, neuron)


def test_the_largest_membrane_of_three_timesteps():
    # 3 * 2 a timestep, halved each: 6, 9, 10.5; the negative weight's input stays away.
    found = next(reaches([layer([[2.0, -5.0]], 10.5)], SPEC, 3))
    assert (found.largest, found.threshold, found.never, found.always) == (10.5, 10.5, False, False)
    assert next(reaches([layer([[2.0, -5.0]], 10.5, strict=True)], SPEC, 3)).never
    assert next(reaches([layer([[2.0, -5.0]], 10.5)], SPEC, 2)).never
    said = notes([layer([[2.0, -5.0]], 100)], SPEC, 3, 0.5, "is the dialect right?")
    assert said == [("layer 'a' cannot fire: the largest membrane in 3 timesteps is 5.25 of "
                     "threshold 100; is the dialect right?")]


def test_a_layer_that_cannot_rest_and_one_that_is_meant_not_to():
    assert next(reaches([layer([[1.0, -1.0]], 2, bias=5)], SPEC, 4)).always
    assert not next(reaches([layer([[1.0, -1.0]], 2, bias=4.9)], SPEC, 4)).always
    assert notes([layer([[1.0, -1.0]], 2, bias=5)], SPEC, 4)[0].startswith(
        "layer 'a' fires at every timestep, whatever the input")
    assert notes([layer([[0.0, 0.0]], 1, bias=1)], SPEC, 4) == []       # a map of ones
    # What always spikes counts in what follows: 3 * 1 always comes, and fires.
    after = FloatLayer("b", (FloatSynapses(torch.full((1, 1, 1, 1), 3.0).double(), ("a",)),),
                       torch.zeros(1).double(), layer([[0.0]], 3).neuron)
    assert next(iter(list(reaches([layer([[0.0, 0.0]], 1, bias=1), after], SPEC, 4))[1:])).always


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([None, 0.0, -1.0]), st.booleans())
def test_no_input_gets_beyond_the_bounds(seed, reset, strict):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randint(-3, 4, (1, 2), generator=generator)
    one = layer(weight, 1 + 8 * torch.rand(1, generator=generator).double(), 0.5,
                float(torch.randint(-3, 6, (1,), generator=generator)), reset, strict)
    bound = next(reaches([one], SPEC, 4))
    x = torch.randint(0, 4, (4, 500, 2), generator=generator).double()
    currents = x @ one.synapses[0].weight.flatten(1).T + one.bias
    v = torch.zeros_like(currents[0]) if reset is None else one.neuron.reset
    fired_ever, rested_ever, largest = False, False, -torch.inf
    for current in currents:
        v = 0.5 * v + current
        fired = v > one.neuron.theta if strict else v >= one.neuron.theta
        if not fired_ever:
            largest = max(largest, float(v.max()))
        fired_ever |= bool(fired.any())
        rested_ever |= not bool(fired.all())
        v = v - one.neuron.theta * fired if reset is None else torch.where(fired, one.neuron.reset,
                                                                           v)
    assert largest <= bound.largest + 1e-12
    assert not (bound.never and fired_ever) and not (bound.always and rested_ever)
