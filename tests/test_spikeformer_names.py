"""Spikeformers by name: what a name says, and what is refused."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sw import nets
from sw.errors import SpikeTicketError
from sw.nets.spikeformer import Name, parse, stem_of

pytestmark = pytest.mark.usefixtures("one_thread")


@given(st.integers(1, 9), st.integers(1, 64), st.integers(1, 16), st.integers(1, 8),
       st.sampled_from([None, "24p-48p-96", "8m-16"]))
def test_names_are_read_back(blocks, width, heads, ratio, stem):
    name = f"spikeformer-{blocks}-{8 * width}-{heads}-{ratio}" + (f"@{stem}" if stem else "")
    assert parse(name) == Name(blocks, 8 * width, heads, ratio, stem)


def test_what_a_short_name_means():
    assert parse("spikeformer-2-96") == Name(2, 96, 3, 4, None)
    assert parse("spikeformer-1-16") == Name(1, 16, 1, 4, None)
    assert parse("spikeformer-2-96-6") == Name(2, 96, 6, 4, None)
    assert stem_of(384, 32) == "48-96-192p-384p" and stem_of(256, 128) == "32p-64p-128p-256p"


@pytest.mark.parametrize("stem, tokens", [("4p-6p-16", 64), ("4m-16", 256), ("4p-8m-16p", 16)])
def test_a_given_stem_is_built(stem, tokens):
    model = nets.build(nets.NetConfig(f"spikeformer-1-16-2-2@{stem}", (2, 32, 32), timesteps=2))
    with torch.no_grad():
        assert model.stem(torch.rand(1, 3, 2, 32, 32)).shape == (2, 3, 16, tokens)
    assert model.blocks[0].fc1.fc.weight.shape == (32, 16)
    assert model(torch.rand(3, 2, 32, 32)).shape == (3, 10)


def test_early_pools_leave_fewer_weights_to_compute_with():
    early, late = (nets.build(nets.NetConfig(name, (1, 32, 32))) for name in (
        "spikeformer-1-16@4p-8p-16", "spikeformer-1-16@4-8p-16p"))
    x = torch.rand(1, 1, 1, 32, 32)
    with torch.no_grad():
        assert early.stem(x).shape == late.stem(x).shape == (4, 1, 16, 64)
    assert [p.shape for p in early.parameters()] == [p.shape for p in late.parameters()]


@pytest.mark.parametrize("name, message", [
    ("spikeformer", "is not spikeformer-BLOCKS"), ("spikeformer-2", "is not spikeformer-BLOCKS"),
    ("spikeformer-2-96-6-4-1", "is not spikeformer-BLOCKS"),
    ("spikeformer-0-96", "is not spikeformer-BLOCKS"),
    ("spikeformer-²-96", "is not spikeformer-BLOCKS"),
    ("spikeformer-2-96@", "is not spikeformer-BLOCKS"),
    ("spikeformer2-2-96", "is not spikeformer-BLOCKS"),
    ("spikeformer-2-97", "width 97 is not a multiple of 8"),
    ("spikeformer-2-8-2@8", "heads of 4 channels are outside 8..64"),
    ("spikeformer-2-96@24p-f96", "ends with f"),
    ("spikeformer-2-96@24pp-96", "'24pp' is not channels"),
    ("spikeformer-2-96@24-p", "'p' is not channels"),
    ("spikeformer-2-96-5", "96 channels do not divide into 5 heads"),
    ("spikeformer-2-96-6@24p-48p", "stem ends with 48 channels, the tokens have 96"),
    ("spikeformer-2-96@24q-96", "'24q' is not channels"),
    ("spikeformer-2-96@24p@96", "'24p@96' is not channels"),
    ("spikeformer-2-96@24-96", "leaves 1024 tokens"),
    ("spikeformer-2-96@8p-8p-8p-8p-8p-96p", "leave nothing")])
def test_bad_names_are_one_line(name, message):
    with pytest.raises(SpikeTicketError, match=message) as caught:
        nets.build(nets.NetConfig(name, (1, 32, 32)))
    assert "\n" not in str(caught.value) and name in str(caught.value)
