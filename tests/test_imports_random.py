"""Random modules: what imports is the module, spike for spike, on whole numbers."""

import random

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from sw.imports.zoo.check import imported_and_compared
from sw.imports.zoo.random_modules import FORMS, random_entry

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=4, deadline=None, print_blob=True)
@given(data=st.data(), seed=st.integers(0, 2 ** 16))
def test_a_random_module_s_spikes_are_its_integers(form, data, seed):
    """Unless a note says that something is rounded: products of weights can need more bits."""
    def choose(options):
        return form if options is FORMS else data.draw(st.sampled_from(options))

    imported, agreement = imported_and_compared(random_entry(choose), None, whole=True, seed=seed)
    rounded = any("are rounded" in note for note in imported.notes)
    event("rounded" if rounded else "exact")
    assert agreement.equal or rounded, (agreement, imported.notes)
    assert not agreement.missing


def test_most_of_them_are_exact():
    """The property above is not empty: of some drawn modules nearly all have nothing to round."""
    exact = 0
    for seed in range(8):
        entry = random_entry(random.Random(seed).choice)
        imported, agreement = imported_and_compared(entry, None, whole=True, seed=seed)
        exact += agreement.equal and not any("are rounded" in n for n in imported.notes)
    assert exact >= 6


@settings(max_examples=4, deadline=None, print_blob=True)
@given(data=st.data(), seed=st.integers(0, 2 ** 16))
def test_random_floats_at_8_bits_stay_near(data, seed):
    """Rounding may part spikes; a wrong operator would part most of them."""
    entry = random_entry(lambda options: data.draw(st.sampled_from(options)))
    _, agreement = imported_and_compared(entry, None, whole=False, seed=seed)
    assert agreement.mean > 0.8, agreement
