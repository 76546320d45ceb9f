"""Frames on the host's side, against the specification in docs/link.md."""

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw import program
from hw.config import PRESETS, CoreConfig
from hw.registers import (
    REPLY,
    REQUEST,
    Space,
    Status,
    identity,
    manifest,
    manifest_config,
    next_epoch,
)
from sw.board.protocol import (
    MAX_PAYLOAD,
    FrameError,
    Read,
    Reply,
    Request,
    Run,
    Splitter,
    Write,
    cobs_decode,
    cobs_encode,
    decode_frame,
    digest,
    encode_frame,
)
from sw.errors import WrongBoard


def reply_frame(words=(), **values):
    header = {"version": 3, "reply": 1, "unused": 0, "status": 0, "seq": 7, "expected": 8,
              "count": len(words), "cycles": 123, "epoch": 0xCAFE} | values
    return encode_frame(np.array([*program.pack_words(REPLY, header), *words], np.uint32))[:-1]


@pytest.mark.parametrize(("plain", "stuffed"), [
    # the published examples of the encoding
    (b"", "01"), (b"\0", "0101"), (b"\0\0", "010101"), (b"\0\x11\0", "01021101"),
    (b"\x11\x22\0\x33", "0311220233"), (b"\x11\x22\x33\x44", "0511223344"),
    (b"\x11\0\0\0", "0211010101"),
])
def test_cobs_examples(plain, stuffed):
    assert cobs_encode(plain).hex() == stuffed
    assert cobs_decode(bytes.fromhex(stuffed)) == plain


@given(st.lists(st.integers(0, 600)).flatmap(
    lambda runs: st.just(b"\0".join(b"\x55" * run for run in runs))) | st.binary(max_size=2000))
def test_cobs_round_trip(data):
    coded = cobs_encode(data)
    assert 0 not in coded
    assert len(coded) <= len(data) + len(data) // 254 + 1
    assert cobs_decode(coded) == data


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=50))
def test_frame_round_trip(values):
    words = np.array(values, np.uint32)
    frame = encode_frame(words)
    assert frame.endswith(b"\0") and frame.count(b"\0") == 1
    assert (decode_frame(frame[:-1]) == words).all()


@given(st.binary(max_size=200))
def test_garbage_is_no_frame(data):
    with pytest.raises(FrameError):
        decode_frame(data.replace(b"\0", b"\1"))


def test_every_bit_flip_is_found():
    frame = reply_frame(range(20))
    Reply.decode(frame)
    for bit in range(8 * len(frame)):
        flipped = bytearray(frame)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FrameError):
            Reply.decode(bytes(flipped))


def test_truncated_frame_is_found():
    frame = reply_frame(range(20))
    for length in range(len(frame)):
        with pytest.raises(FrameError):
            Reply.decode(frame[:length])


def test_request_header_as_specified():
    words = np.arange(5, dtype=np.uint32)
    request = Request(Write(Space.WEIGHT, 0x1234, words, expand=0xF), Run(77, 3, 10_000),
                      Read(Space.COUNTER, 16, 32, stride=4), sync=True)
    data = cobs_decode(request.encode(0xBEEF)[:-1])
    assert zlib.crc32(data[:-4]) == int.from_bytes(data[-4:], "little")
    got = np.frombuffer(data[:-4], "<u4")
    assert (got[6:] == words).all()
    assert got[0] == 0xBEEF_0000 | 0b1_1110_0011
    assert got[1] == 0x1234 | 1 << 24 | 0xF << 28
    assert got[2] == 16 | 3 << 24
    assert got[3] == 32 | 4 << 16
    assert got[4] == 77 | 3 << 16
    assert got[5] == 10_000
    assert len(REQUEST) == 6


def test_packed_write_begins_with_its_length():
    words = np.arange(5, dtype=np.uint32)
    write = Write(Space.MAP, 3, words, packed=77)
    request = Request(write)
    got = np.frombuffer(cobs_decode(request.encode(1)[:-1]), "<u4")
    assert got[0] == 0x0001_0000 | 1 << 10 | 1 << 6 | 3
    assert got[6:-1].tolist() == [77, *range(5)]
    assert write.frame_words == len(got) == request.buffer_words - 1 == 13


def test_request_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="more than"):
        Request(Write(Space.MAP, 0, np.zeros(MAX_PAYLOAD + 1, np.uint32))).encode(0)
    with pytest.raises(ValueError, match="more than"):
        Request(Write(Space.MAP, 0, np.zeros(MAX_PAYLOAD, np.uint32), packed=1)).encode(0)
    with pytest.raises(ValueError, match="read_count"):
        Request(read=Read(Space.MAP, 0, 1 << 16)).encode(0)


def test_reply_fields():
    reply = Reply.decode(reply_frame([5, 6], status=Status.RANGE))
    assert (reply.status, reply.seq, reply.expected, reply.cycles) == (Status.RANGE, 7, 8, 123)
    assert reply.words.tolist() == [5, 6] and reply.epoch == 0xCAFE


def test_epoch_by_its_definition():
    """epoch * x + crc in GF(2^32), the polynomial that of the CRC."""
    assert next_epoch(1, 0) == 2 and next_epoch(0x8000_0000, 0) == 0x04C1_1DB7
    assert next_epoch(0xFFFF_FFFF, 0x1234_5678) == 0xFFFF_FFFE ^ 0x04C1_1DB7 ^ 0x1234_5678


@pytest.mark.parametrize(("request_", "chained"), [
    (Request(), True), (Request(sync=True), False), (Request(read=Read(Space.MAP, 0, 1)), True),
    (Request(read=Read(Space.MAP, 0, 1), sync=True), False), (Request(run=Run(), sync=True), True),
    (Request(Write(Space.MAP, 0), sync=True), True)])
def test_what_advances_an_epoch(request_, chained):
    assert request_.chained == chained


def test_reply_of_another_version():
    with pytest.raises(WrongBoard, match="protocol 9"):
        Reply.decode(reply_frame(version=9))
    old = np.array([2 | 1 << 4 | 4 << 8, 1, 0], np.uint32)  # "VERSION", in the words of protocol 2
    with pytest.raises(WrongBoard, match="speaks protocol 2, this host 3"):
        Reply.decode(encode_frame(old)[:-1])


@pytest.mark.parametrize("values", [{"count": 3}, {"status": 200}, {"reply": 0}])
def test_reply_that_contradicts_itself(values):
    with pytest.raises(FrameError):
        Reply.decode(reply_frame([1], **values))


@given(st.lists(st.binary(min_size=1, max_size=40)), st.integers(1, 50))
def test_splitter_finds_frames_in_any_portions(parts, size):
    frames = [part.replace(b"\0", b"\1") for part in parts]
    data = b"".join(frame + b"\0" for frame in frames)
    splitter = Splitter()
    got = []
    for start in range(0, len(data), size):
        got += splitter.feed(data[start:start + size])
    assert got == frames


def test_splitter_bounds_its_memory():
    splitter = Splitter()
    for _ in range(40):
        assert not list(splitter.feed(b"\1" * 100_000))
    assert len(splitter._rest) < 300_000
    assert len(list(splitter.feed(b"\0abc\0"))) == 2


def test_digest_is_the_crc_of_the_bytes():
    words = np.array([1, 0xFFFFFFFF], np.uint32)
    assert digest(words) == zlib.crc32(b"\1\0\0\0\xff\xff\xff\xff")


def test_manifest_round_trip_and_identity():
    for config in PRESETS.values():
        assert manifest_config(manifest(config)) == config
    assert identity(CoreConfig(engines=2)) != identity(CoreConfig(engines=4))
    assert identity(CoreConfig(engines=2)) != identity(CoreConfig(engines=2, drain_engines=2))
    with pytest.raises(ValueError, match=r"drain_engines 3 is outside 1\.\.2"):
        CoreConfig(drain_engines=3)


@pytest.mark.parametrize(("change", "message"), [
    ({"format": "x"}, "not a SpikeTicket manifest"), ({"config": {}}, "identity"),
    ({"config": {"unknown": 1}}, "unknown"), ({"id": "0"}, "identity"),
    ({"config": {"engines": 0}}, "engines"),
])
def test_manifest_errors(change, message):
    with pytest.raises(ValueError, match=message):
        manifest_config(manifest(PRESETS["tiny"]) | change)
