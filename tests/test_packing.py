"""Packed writes: the host's encoder, the format as docs/link.md has it, and the gateware."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hw.packing import Unpacker
from hw.registers import Space
from sw.board import packing
from sw.board.byte_kernels import common_mask
from sw.board.packing import (
    FORMS,
    pack,
    to_masks,
    to_words,
    unpack,
    writes,
    writes_of_each,
)
from sw.board.protocol import FrameSizes

from .test_link import STALLS, simulate

DENSITIES = (0, 0.002, 0.02, 0.2, 0.6, 1)


def random_masks(rng, count, density, mask=0):
    """Masks of `count` words; all alike if `mask` is not 0."""
    active = rng.random((count, packing.POSITIONS)) < density
    return (active * (mask or rng.integers(1, 16, active.shape))).astype(np.uint8)


MASKS = st.builds(
    lambda seed, count, density, mask: random_masks(np.random.default_rng(seed), count, density,
                                                    mask),
    st.integers(0, 999), st.integers(0, 700), st.sampled_from(DENSITIES),
    st.sampled_from([0, 3, 15]))


def memory_after(found, count):
    """What writes leave in a memory of `count` words of ones, by the format's definition."""
    memory = np.full(count, 0xFFFF_FFFF, np.uint32)
    for write in found:
        data = write.words.astype("<u4").tobytes()
        if write.packed:
            words = to_words(unpack(data, write.packed, write.expand))
        elif write.expand:
            bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
            words = to_words(bits.reshape(-1, 8) * write.expand)
        else:
            words = write.words
        memory[write.address:write.address + len(words)] = words
    return memory


@pytest.mark.parametrize(("masks", "mask", "stream"), [
    # the examples of docs/link.md
    ([[0, 0, 0, 0, 0, 0, 0, 0]] * 24, 0, "00 02"),
    ([[1, 0, 0, 0, 0, 0, 0, 8], [0] * 8, [0, 5, 0, 0, 0, 0, 0, 0]], 0, "05 81 81 02 05"),
    ([[0] * 8] * 9 + [[0, 0, 15, 15, 0, 0, 0, 0]], 15, "00 00 02 0c"),
])
def test_examples(masks, mask, stream):
    masks = np.array(masks, np.uint8)
    assert pack(to_words(masks), mask) == bytes.fromhex(stream)
    assert (unpack(bytes.fromhex(stream), len(masks), mask) == masks).all()


@given(MASKS, st.binary(max_size=9))
def test_round_trip(masks, rest):
    assert (to_masks(to_words(masks)) == masks).all()
    words = to_words(masks)
    for mask in {0, common_mask(words)}:
        data = pack(words, mask)
        assert (unpack(data + rest, len(masks), mask) == masks).all()


@given(MASKS, st.sampled_from([16, 17, 40, FrameSizes.input]),
       st.sampled_from([FORMS, *[(form,) for form in FORMS]]))
def test_writes_fill_the_memory_whatever_the_form(masks, size, forms):
    words = to_words(masks)
    found = writes(Space.MAP, 8, words, size=size, forms=forms)
    assert all(len(write.payload) <= size for write in found)
    expected = np.concatenate([np.full(8, 0xFFFF_FFFF, np.uint32), words,
                               np.full(8, 0xFFFF_FFFF, np.uint32)])
    assert (memory_after(found, len(expected)) == expected).all()


@given(st.integers(0, 9999), st.integers(1, 5), st.integers(0, 300),
       st.sampled_from([16, 100, 480]))
def test_many_inputs_are_written_as_each_alone(seed, inputs, count, size):
    rng = np.random.default_rng(seed)
    words = np.stack([to_words(random_masks(rng, count, rng.choice(DENSITIES), rng.choice([0, 15])))
                      for _ in range(inputs)])
    together = writes_of_each(Space.MAP, 40, words, size=size)
    for each, found in zip(words, together, strict=True):
        alone = writes(Space.MAP, 40, each, size=size)
        assert [(w.address, w.expand, w.packed, w.words.tolist()) for w in found] == [
            (w.address, w.expand, w.packed, w.words.tolist()) for w in alone]
        assert (memory_after(found, 40 + count)[40:] == each).all()


@given(MASKS)
def test_the_shortest_form_is_taken(masks):
    words = to_words(masks)

    def cost(forms):
        return sum(write.frame_words for write in writes(Space.MAP, 0, words, forms=forms))
    chosen = sum(write.frame_words for write in writes(Space.MAP, 0, words))
    # Frames are counted with a word for their stuffing and end.
    frames = len(writes(Space.MAP, 0, words))
    assert chosen <= min(cost((form,)) for form in FORMS) + frames


def test_forms_by_density():
    """Dense data goes as it is, dense static data expanded, the rest packed."""
    rng = np.random.default_rng(1)
    for density, mask, packed, expand in ((0.9, 0, 0, 0), (0.6, 15, 0, 15), (0.05, 0, 1, 0),
                                          (0.02, 15, 1, 15)):
        [write] = writes(Space.MAP, 0, to_words(random_masks(rng, 400, density, mask)))
        assert (bool(write.packed), write.expand) == (bool(packed), expand), density


@pytest.mark.parametrize("size", [15, 506])
def test_size_is_checked(size):
    with pytest.raises(ValueError, match=f"size {size} is outside"):
        writes(Space.MAP, 0, np.zeros(3, np.uint32), size=size)


@given(arrays(np.uint32, st.integers(0, 16)), st.sampled_from([0, 1, 5, 15]))
def test_expanded_form(values, mask):
    bits = np.unpackbits(values.view(np.uint8), bitorder="little").astype(np.uint8)
    found = writes(Space.MAP, 0, to_words(bits.reshape(-1, 8) * mask), forms=("expand",))
    assert sum(len(write.words) for write in found) == len(values)
    if mask and values.any():
        assert found[0].expand == mask and (found[0].words == values).all()


@pytest.mark.parametrize("values", [[0x21, 0, 0, 0], [1, 1, 1]])
def test_words_that_do_not_expand(values):
    [write] = writes(Space.MAP, 0, np.array(values, np.uint32), forms=("expand",))
    assert write.expand == 0 and write.words.tolist() == values


def unpacked(data, count, mask, *, packed=True, stalls=(0, 0), seed=0):
    """What the gateware makes of the bytes, and the cycles it took: uint32 [count], int."""
    unpacker = Unpacker()
    queue = np.frombuffer(data + bytes(-len(data) % 4), "<u4").tolist()
    rng, got, cycles, held = random.Random(seed), [], 0, None
    slow_in, slow_out = stalls

    async def testbench(ctx):
        nonlocal cycles, held
        ctx.set(unpacker.packed, packed)
        ctx.set(unpacker.mask, mask)
        while len(got) < count:
            give = bool(queue) and rng.random() >= slow_in
            take = rng.random() >= slow_out
            ctx.set(unpacker.ended, not queue)
            ctx.set(unpacker.i.valid, give)
            ctx.set(unpacker.i.payload, queue[0] if give else 0)
            ctx.set(unpacker.o.ready, take)
            if give and ctx.get(unpacker.i.ready):
                queue.pop(0)
            if ctx.get(unpacker.o.valid):
                word = ctx.get(unpacker.o.payload)
                assert held in (None, word), "a waiting word changed"
                held = None if take else word
                if take:
                    got.append(word)
            else:
                assert held is None, "a waiting word was withdrawn"
            await ctx.tick()
            cycles += 1
            assert cycles < 100 * (count + 10), "no more words"
    simulate(unpacker, testbench)
    return np.array(got, np.uint32), cycles


@pytest.mark.parametrize("stalls", STALLS)
@pytest.mark.parametrize("density", DENSITIES)
def test_gateware_unpacks(density, stalls):
    seed = DENSITIES.index(density)
    rng = np.random.default_rng(seed)
    for mask in (0, int(rng.integers(1, 16))):
        masks = random_masks(rng, 45, density, mask)
        got, cycles = unpacked(pack(to_words(masks), mask), len(masks), mask, stalls=STALLS[stalls],
                               seed=seed)
        assert (got == to_words(masks)).all()
        if stalls == "full speed":
            assert cycles <= 16 * len(masks) + 20


@pytest.mark.parametrize("seed", range(20))
def test_gateware_agrees_on_any_bytes(seed):
    """Bytes that no encoder makes: the memory holds what the format says, and the writes end."""
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 256, int(rng.integers(0, 60)), np.uint8)
    data[rng.random(len(data)) < 0.3] = 0
    mask = int(rng.choice([0, 0, 1, 15]))
    count = int(rng.integers(1, 70))
    got, _ = unpacked(data.tobytes(), count, mask, stalls=(0.2, 0.2), seed=seed)
    assert (got == to_words(unpack(data.tobytes(), count, mask))).all()


def test_longest_run_of_silence():
    masks = np.zeros((257 * 8 + 3, 8), np.uint8)
    masks[-1, 7] = 9
    data = pack(to_words(masks))
    assert data == bytes.fromhex("00ff 0000 04 80 09")
    got, cycles = unpacked(data, len(masks), 0)
    assert (got == to_words(masks)).all() and cycles <= 2.3 * len(masks)


def test_gateware_expands():
    rng = np.random.default_rng(2)
    data = rng.integers(0, 256, 24, np.uint8)
    got, cycles = unpacked(data.tobytes(), len(data), 6, packed=False)
    bits = np.unpackbits(data, bitorder="little").reshape(-1, 8)
    assert (got == to_words(bits * 6)).all() and cycles <= 12 * len(data)
