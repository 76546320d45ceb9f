"""PLL settings keep to the data sheets' ranges and hit the clock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.build.clocking import EHXPLLL, PLLE2, TOLERANCE, parameters, solve
from sw.errors import SpikeTicketError

OSCILLATORS = (12_000_000, 25_000_000, 48_000_000, 100_000_000)


@pytest.mark.parametrize("ranges", [EHXPLLL, PLLE2], ids=lambda ranges: ranges.name)
@given(oscillator=st.sampled_from(OSCILLATORS), output=st.integers(10_000_000, 300_000_000))
def test_settings_obey_the_ranges(ranges, oscillator, output):
    try:
        found = solve(ranges, oscillator, output)
    except SpikeTicketError as error:
        assert "nearest" in str(error) or "choose" in str(error)
        return
    for name in ("divide", "multiply", "out_divide"):
        low, high = getattr(ranges, name)
        assert low <= getattr(found, name) <= high
    assert ranges.pfd[0] <= found.pfd_hz <= ranges.pfd[1]
    assert ranges.vco[0] <= found.vco_hz <= ranges.vco[1]
    exact = oscillator / found.divide * found.multiply / found.out_divide
    assert found.output_hz == pytest.approx(exact)
    assert abs(exact - output) <= TOLERANCE * output


@pytest.mark.parametrize("family, oscillator, clock", [
    ("ecp5", 25_000_000, 80_000_000), ("ecp5", 25_000_000, 50_000_000),
    ("ecp5", 100_000_000, 90_000_000), ("xc7", 100_000_000, 125_000_000),
    ("xc7", 100_000_000, 80_000_000), ("xc7", 100_000_000, 110_000_000)])
def test_usual_clocks_are_exact(family, oscillator, clock):
    assert parameters(family, oscillator, clock).output_hz == clock


def test_no_pll_for_the_oscillators_own_clock():
    assert parameters("xc7", 100_000_000, 100_000_000) is None


def test_impossible_clocks_name_the_nearest():
    with pytest.raises(SpikeTicketError, match=r"no 2000 MHz from 25 MHz"):
        solve(EHXPLLL, 25_000_000, 2_000_000_000)
    with pytest.raises(SpikeTicketError, match=r"the nearest is [\d.]+ MHz"):
        solve(PLLE2, 100_000_000, 6_200_000)
