"""What users have as inputs, as what a board takes."""

import numpy as np
import pytest
import torch

from hw.config import PRESETS
from sw import bundled, ticket
from sw.board.batches import Framing, Wanted, as_batch, as_input, compiled, opened
from sw.data import depth
from sw.data.events import Events, frames
from sw.errors import SpikeTicketError

STATIC = Wanted("still", 4, (1, 3, 5), 8, True)
MOVING = Wanted("moving", 4, (2, 6, 8), 4, False)


def test_arrays_and_tensors():
    values = np.random.default_rng(0).integers(0, 256, (4, 1, 3, 5), np.uint8)
    for batch in (values, torch.from_numpy(values), list(values),
                  [torch.from_numpy(one) for one in values], tuple(values)):
        assert (as_batch(STATIC, batch, Framing()) == values).all()
    assert (as_input(STATIC, torch.from_numpy(values[1]), Framing()) == values[1]).all()
    spikes = values > 128
    assert (as_batch(STATIC, spikes, Framing()) == spikes).all()
    assert as_batch(STATIC, [], Framing()).shape == (0, 1, 3, 5)
    assert as_batch(MOVING, [], Framing()).shape == (0, 4, 2, 6, 8)


@pytest.mark.parametrize(("batch", "message"), [
    (np.zeros((2, 1, 3, 5)), r"input is float64 \[1, 3, 5\]; network 'still' takes uint8 .*0 to"),
    (torch.zeros(2, 1, 3, 5), "not fractions"),
    (np.zeros((1, 3, 5), np.uint8), r"add an axis for the batch: batch\[None\]"),
    (np.zeros((2, 1, 3, 4), np.uint8), r"uint8 \[1, 3, 4\]"),
    ([np.zeros((1, 3, 5), np.uint8), np.zeros((1, 3, 4), np.uint8)], "in one batch"),
    (5, "input is int64"),
    ("images", "input"),
])
def test_what_is_no_input(batch, message):
    with pytest.raises(SpikeTicketError, match=message):
        as_batch(STATIC, batch, Framing())
    with pytest.raises(SpikeTicketError, match="needs more than 4 bits"):
        as_batch(MOVING, np.full((1, 4, 2, 6, 8), 16, np.uint8), Framing())


def recording(count=200, seed=3, sensor=(8, 6)):
    rng = np.random.default_rng(seed)
    found = np.zeros(count, [("x", "i2"), ("y", "i2"), ("t", "i8"), ("p", "i1")])
    found["x"], found["y"] = (rng.integers(0, n, count) for n in sensor)
    found["t"], found["p"] = np.sort(rng.integers(0, 10_000, count)), rng.integers(0, 2, count)
    return found


def test_events_become_frames():
    raw = recording()
    events = Events(raw["x"], raw["y"], raw["t"], raw["p"], (8, 6))
    want = frames(events, 4, "time", (8, 6), max_count=15)
    by_time = Framing(by="time")
    for batch in (events, raw, [events], [raw]):
        assert (as_batch(MOVING, batch, by_time) == want).all()
    both = as_batch(MOVING, [raw, recording(seed=4)], by_time)
    assert both.shape == (2, 4, 2, 6, 8) and (both[0] == want).all()
    assert (as_input(MOVING, raw, by_time) == want[None][0]).all()
    far = recording(sensor=(34, 34))
    padded = as_batch(MOVING, far, Framing(sensor=(34, 34)))
    assert padded.shape == (1, 4, 2, 6, 8)
    with pytest.raises(SpikeTicketError, match="outside a sensor of 8 x 6"):
        as_batch(MOVING, far, Framing())
    with pytest.raises(SpikeTicketError, match="takes images, not event streams"):
        as_batch(STATIC, raw, Framing())
    with pytest.raises(SpikeTicketError, match="no field t, p"):
        as_batch(MOVING, raw[["x", "y"]], Framing())


def test_framing_is_the_tickets():
    assert Framing.of({"data": "n-mnist:size=32,frames_by=time"}) == Framing("time",
                                                                             sensor=(34, 34))
    assert Framing.of({"data": "other:sensor=10x12,fit=resize"}) == Framing(fit="resize",
                                                                            sensor=(10, 12))
    assert Framing.of({}) == Framing.of({"data": "x:size=?"}) == Framing()
    image, framing = compiled("nmnist-spikeformer", PRESETS["large"])
    assert framing.sensor == (34, 34) and image.input_shape == (2, 32, 32)


def test_what_can_be_loaded():
    found = ticket.load(bundled.find("fmnist-scnn"))
    large = PRESETS["large"]
    image, _ = compiled(found, large)
    assert compiled(image, large) == (image, Framing())
    assert compiled(found.network, large)[0].classes == 10
    assert Wanted.of(found.network).input_shape == image.input_shape
    with pytest.raises(SpikeTicketError, match="compiled for another core"):
        compiled(image, PRESETS["a35tw"])
    with pytest.raises(SpikeTicketError, match="neither a file nor bundled"):
        compiled("nothing", large)
    with pytest.raises(SpikeTicketError, match="cannot load a int"):
        opened(5)


def test_whole_pictures_for_fewer_bits_are_refused_with_the_rule():
    """What a ticket takes is its own numbers: these may be such that were not rounded."""
    pictures = np.full((1, 1, 3, 5), 200, np.uint8)
    wanted = Wanted("w", 4, (1, 3, 5), 4, True)
    with pytest.raises(SpikeTicketError, match=r"200 needs more than 4 bits; of pictures 0..255 "
                                               r"network 'w' takes the upper bits: .*, 4\)"):
        as_batch(wanted, pictures, Framing())
    assert (as_batch(wanted, depth.upper_bits(pictures, 4), Framing()) == 12).all()
