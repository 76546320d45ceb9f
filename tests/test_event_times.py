"""Times and polarities as cameras and libraries leave them: what is repaired, what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.samples import event_files as write
from sw.data import event_files, events
from sw.data.event_arrays import from_fields
from sw.data.events import Events
from sw.errors import SpikeTicketError

N = 200
TRUE = np.cumsum(np.random.default_rng(4).integers(1, 5000, N))      # about half a second


def made(t, p=None):
    """Events with their number in x and y."""
    t = np.asarray(t)
    place = np.arange(len(t))
    return Events(place % 100, place // 100, t, place % 2 if p is None else np.asarray(p),
                  (100, 100), "here")


@pytest.mark.parametrize("bits, kind", [(32, np.uint32), (32, np.int32), (31, np.uint32)])
@pytest.mark.parametrize("before", [1, 50, 199])
def test_counters_that_wrap(bits, kind, before):
    top = 1 << (31 if kind is np.int32 else bits)
    true = TRUE + top - TRUE[before]                     # event `before` is the first behind it
    stored = (true % (1 << bits)).astype(np.uint32).astype(kind)
    found = made(stored)
    assert np.array_equal(found.t, true)
    [note] = found.notes
    assert note == (f"here: its times wrap at {bits} bits (event {before}); read on from there")


def test_a_wrap_with_late_events_around_it():
    true = TRUE + (1 << 32) - TRUE[50]
    order = np.arange(N)
    order[[49, 50]] = 50, 49                             # written in the wrong order
    found = made((true % (1 << 32))[order])
    assert np.array_equal(found.t, true) and len(found.notes) == 2
    assert np.array_equal(found.x, order % 100)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.permutations(range(30)))
def test_events_out_of_order_are_sorted(order):
    t = np.repeat(TRUE[:15], 2)[list(order)]             # every time twice: the sort is stable
    try:
        found = made(t)
    except SpikeTicketError as error:
        assert "jump back" in str(error)
        assert (np.diff(t) < 0).sum() <= 2
        return
    place = np.argsort(t, kind="stable")
    assert np.array_equal(found.t, t[place]) and np.array_equal(found.x, place)
    assert bool(found.notes) == bool((np.diff(t) < 0).any())


def test_late_events_are_sorted():
    t = TRUE.copy()
    t[100:104] -= 3000
    found = made(t)
    assert np.array_equal(found.t, np.sort(t)) and "not in order of time; sorted" in found.notes[0]


@pytest.mark.parametrize("parts", [2, 3])
def test_joined_recordings_are_refused(parts):
    with pytest.raises(SpikeTicketError, match=r"times jump back by [\d,]+ µs at event 200 of"):
        made(np.concatenate([TRUE] * parts))


@pytest.mark.parametrize("t, message", [
    (TRUE / 1e6, "a time with a fraction is not in microseconds; give time_unit"),
    (TRUE / 1e3, "1000 for milliseconds"), (np.where(TRUE > 9, np.nan, 0), "t = nan"),
    (np.where(TRUE > 9, np.inf, 0), "t = inf")])
def test_fractions_are_refused(t, message):
    with pytest.raises(SpikeTicketError, match=message):
        made(t)


@pytest.mark.parametrize("unit", [1e6, 1e3, 1])
def test_a_stated_unit_is_rounded(tmp_path, unit):
    fields = dict(zip("xytp", (np.zeros(N, int), np.zeros(N, int), TRUE / unit, np.arange(N) % 2),
                      strict=True))
    np.savez(tmp_path / "a.npz", **fields)
    found = event_files.read(tmp_path / "a.npz", (4, 4), time_unit=unit)
    assert np.array_equal(found.t, TRUE)                 # and not a microsecond less
    assert events.frames(found, 4, "time").sum((1, 2, 3)).tolist() == [
        int(n) for n in np.bincount(np.minimum((TRUE - TRUE[0]) // ((TRUE[-1] - TRUE[0]) // 4), 3))]


def test_whole_milliseconds_are_noted():
    fields = {"x": np.zeros(N, int), "y": np.zeros(N, int), "t": np.arange(N) // 40,
              "p": np.arange(N) % 2}
    [note] = from_fields(fields, "here", (4, 4)).notes
    assert note == ("here: 200 events within 4 µs; if its times are milliseconds or seconds, give "
                    "time_unit=1000 or 1000000")
    assert not from_fields({**fields, "t": np.arange(N)}, "here", (4, 4)).notes


def test_negative_times_are_noted():
    found = made(TRUE - 6000)
    assert np.array_equal(found.t, TRUE - 6000) and "begin below 0" in found.notes[0]


def test_polarities():
    two = np.arange(N) % 2
    assert np.array_equal(made(TRUE, two * 2 - 1).p, two)
    assert "polarities -1 and 1" in made(TRUE, two * 2 - 1).notes[0]
    assert np.array_equal(made(TRUE, two.astype(bool)).p, two) and not made(TRUE, two).notes
    for p, message in ((two - 1, "polarities -1 and 0"), (two + 1, "p = 2"), (two / 2, "p = 0.5"),
                       (np.arange(N) % 3 - 1, "polarities -1 and 0")):
        with pytest.raises(SpikeTicketError, match=message):
            made(TRUE, p)


def test_places_outside_and_between():
    for x, message in ((np.arange(N) % 5, "x = 4, outside a sensor of 4 x 4$"),
                       (np.arange(N) % 4 + 1, "these count from 1, subtract it"),
                       (np.arange(N) % 4 - 1, "x = -1"), (np.full(N, 1.5), "not a whole number")):
        with pytest.raises(SpikeTicketError, match=message):
            Events(x, np.zeros(N, int), TRUE, np.zeros(N, int), (4, 4))


def test_atis_times_wrap_at_23_bits(tmp_path):
    true = TRUE + (1 << 23) - TRUE[50]
    e = {"x": np.arange(N) % 34, "y": np.arange(N) % 34, "t": true % (1 << 23),
         "p": np.arange(N) % 2}
    (tmp_path / "a.bin").write_bytes(write.atis_bin(e))
    found = event_files.read(tmp_path / "a.bin", (34, 34))
    assert np.array_equal(found.t, true) and "wrap at 23 bits (event 50)" in found.notes[0]
