"""Ticket files: round trips, and every kind of damage gives one line that names the file."""

import hashlib
import json
import pickle
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from sim.samples.spikeformers import random_spikeformer
from sw import bundled, ticket
from sw.errors import SpikeTicketError
from sw.integer.attention import Attention
from sw.integer.gate import Gate, Select
from sw.integer.network import InputSpec, Layer, Network, Neuron, Pool, Synapses
from sw.tickets.config import RunConfig


def small_network() -> Network:
    rng = np.random.default_rng(3)

    def weight(*shape, bits=4, density=0.3):
        top = max(1, (1 << bits - 1) - 1)
        w = rng.integers(-top, top + 1, shape) * (rng.random(shape) < density)
        return (np.sign(w) if bits == 1 else w).astype(np.int8)

    def column(n, low, high):
        return rng.integers(low, high, n)

    layers = (
        Layer("a", (Synapses(weight(5, 2, 3, 3), padding=1),), column(5, -9, 9),
              column(5, 100, 900), Neuron(128, "hard", 0), Pool("or", 2)),
        Layer("b", (Synapses(weight(5, 5, 1, 1, bits=1), ("a",), bits=1),
                    Synapses(weight(5, 2, 1, 1, bits=8), ("input",), sum_pool=2, bits=8)),
              column(5, -9, 9), column(5, 1, 9), Neuron(256, "soft")),
        Layer("c", (Synapses(weight(5, 5, 3, 3), ("a", "b"), padding=1),), column(5, -9, 9),
              column(5, 1, 9), Neuron(200, "hard", -3), Pool("max", 3)),
        Layer("out", (Synapses(weight(3, 5, 1, 1, density=1.0), ("c",)),), column(3, -9, 9),
              np.zeros(3, np.int64), None),
    )
    return Network(InputSpec(2, 6, 7, 8, static=False), 3, layers, "small", ("x", "y", "z"))


def assert_same(a: Network, b: Network) -> None:
    assert (a.input, a.timesteps, a.name, a.labels) == (b.input, b.timesteps, b.name, b.labels)
    assert len(a.layers) == len(b.layers)
    for x, y in zip(a.layers, b.layers, strict=True):
        assert (x.name, x.neuron, x.pool) == (y.name, y.neuron, y.pool)
        assert np.array_equal(x.bias, y.bias) and np.array_equal(x.threshold, y.threshold)
        for s, t in zip(x.synapses, y.synapses, strict=True):
            assert np.array_equal(s.weight, t.weight)
            assert (s.sources, s.stride, s.padding, s.sum_pool, s.bits) == (
                t.sources, t.stride, t.padding, t.sum_pool, t.bits)


def test_round_trip(tmp_path):
    path = tmp_path / "t.safetensors"
    info = {"seed": 0, "command": "python -m sw.find_ticket", "accuracy": 0.9, "note": "λ"}
    ticket.save(path, small_network(), info)
    loaded = ticket.load(path)
    assert_same(loaded.network, small_network())
    assert loaded.metadata == info
    assert [p.name for p in tmp_path.iterdir()] == ["t.safetensors"]


def gated_network() -> Network:
    """A map of 4x3 tokens, five of them kept, attention over these, a pool with padding."""
    rng = np.random.default_rng(4)

    def conv(name, source, channels_in, pool=None):
        return Layer(name, (Synapses(rng.integers(-7, 8, (8, channels_in, 1, 1)).astype(np.int8),
                                     (source,)),),
                     np.zeros(8, np.int64), np.full(8, 9, np.int64), Neuron(128), pool)
    mask = np.isin(np.arange(12), [0, 3, 4, 8, 11])
    attention = Layer("s", (), np.zeros(8, np.int64), np.full(8, 2, np.int64), Neuron(128), None,
                      Attention("k", "k", "k", 1))
    out = Layer("out", (Synapses(np.ones((2, 8, 1, 1), np.int8), ("k", "s")),),
                np.zeros(2, np.int64), np.zeros(2, np.int64), None)
    return Network(InputSpec(1, 8, 6, 2), 2, (
        conv("a", "input", 1, Pool("max", 3, 2, 1)), Gate("g", "static", 5, (4, 3), (), mask),
        Select("k", "a", "g"), attention, out))


def test_gates_attention_and_pools_round_trip():
    for seed in range(20):
        network = random_spikeformer(np.random.default_rng(seed), name=f"s{seed}")
        loaded = ticket.from_bytes(ticket.to_bytes(network)).network
        assert ticket.to_bytes(loaded) == ticket.to_bytes(network)
        assert loaded.shapes() == network.shapes()
        for x, y in zip(loaded.layers, network.layers, strict=True):
            assert type(x) is type(y) and x.sources == y.sources
            if isinstance(x, Layer):
                assert (x.attention, x.pool) == (y.attention, y.pool)
            elif isinstance(x, Gate):
                assert (x.mode, x.keep, x.grid, x.scores) == (y.mode, y.keep, y.grid, y.scores)
                assert np.array_equal(x.mask, y.mask)


def test_tickets_without_the_new_fields_are_written_as_before():
    whole = ticket.to_bytes(small_network())
    assert b"stride" in whole and b"attention" not in whole and b"gate" not in whole
    header = json.loads(whole[8:8 + int.from_bytes(whole[:8], "little")])
    pools = [layer["pool"] for layer in json.loads(header["__metadata__"]["network"])["layers"]]
    assert pools == [{"mode": "or", "size": 2}, None, {"mode": "max", "size": 3}, None]


def test_more_timesteps_and_numbers_by_axis_have_a_format_of_their_own(tmp_path):
    """The oldest format that holds a network: what older programs can run they can read."""
    def formats(network: Network) -> set[str]:
        data = ticket.to_bytes(network)
        assert ticket.to_bytes(ticket.from_bytes(data).network) == data
        return set(re.findall("spiketicket-.", data[:4000].decode(errors="replace")))

    small = small_network()
    assert formats(small) == {"spiketicket-1"}
    assert formats(replace(small, timesteps=17)) == {"spiketicket-2"}
    first = small.layers[0]
    for pool in (Pool("or", (2, 3)), Pool("or", 2, (2, 1)), Pool("max", (2, 2), 2, (0, 1))):
        wide = Layer("w", (Synapses(first.synapses[0].weight, padding=(1, 1)),), first.bias,
                     first.threshold, Neuron(), pool)
        read = (Synapses(np.ones((2, 5, 1, 1), np.int8), ("w",), (1, 2), (0, 1), (2, 1)),)
        out = Layer("out", read, np.zeros(2, np.int64), np.zeros(2, np.int64), None)
        network = Network(small.input, 3, (wide, out))
        assert formats(network) == {"spiketicket-2"}
        ticket.save(tmp_path / "wide", network)
        assert_same(ticket.load(tmp_path / "wide").network, network)


def test_the_bundled_tickets_are_written_as_they_are():
    for name in bundled.names():
        path = bundled.find(name)
        found = ticket.load(path)
        assert ticket.to_bytes(found.network, found.metadata) == path.read_bytes(), path.name


def test_empty_layers_round_trip(tmp_path):
    silent = Network(InputSpec(1, 1, 1), 1, (
        Layer("out", (Synapses(np.zeros((2, 1, 1, 1), np.int8)),), np.zeros(2, np.int64),
              np.zeros(2, np.int64), None),))
    ticket.save(tmp_path / "t", silent)
    assert_same(ticket.load(tmp_path / "t").network, silent)


def test_the_same_ticket_has_the_same_bytes():
    assert ticket.to_bytes(small_network(), {"b": 1, "a": 2}) == ticket.to_bytes(
        small_network(), {"a": 2, "b": 1})


def test_removed_weights_take_one_bit(tmp_path):
    weight = np.zeros((64, 64, 3, 3), np.int8)
    weight[0, 0, 0, 0] = 1
    network = Network(InputSpec(64, 3, 3), 1, (
        Layer("out", (Synapses(weight),), np.zeros(64, np.int64), np.zeros(64, np.int64), None),))
    assert len(ticket.to_bytes(network)) < weight.size / 8 + 4000


def test_every_truncation_is_refused(tmp_path):
    whole = ticket.to_bytes(small_network(), {"seed": 1})
    path = tmp_path / "cut.safetensors"
    for length in [*range(0, 40), *range(40, len(whole), 61), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(SpikeTicketError, match=r"cut\.safetensors: truncated, damaged"):
            ticket.load(path)


def test_every_flipped_bit_is_refused():
    whole = ticket.to_bytes(small_network(), {"seed": 1})
    for byte in range(len(whole)):
        damaged = bytearray(whole)
        damaged[byte] ^= 1 << byte * 5 % 8
        with pytest.raises(SpikeTicketError, match="flipped: ") as error:
            ticket.from_bytes(bytes(damaged), "flipped")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [
    b"", b"{}", b"\x89PNG\r\n\x1a\n" + bytes(100), b"PK\x03\x04" + bytes(100),
    pickle.dumps({"a": 1}), json.dumps({"weights": [1]}).encode(), b"\xff" * 1000,
], ids=["empty", "json", "png", "zip", "pickle", "json-data", "ones"])
def test_foreign_files(tmp_path, content):
    path = tmp_path / "foreign"
    path.write_bytes(content)
    with pytest.raises(SpikeTicketError, match="foreign: "):
        ticket.load(path)


def test_weights_of_a_network_are_no_ticket(tmp_path):
    """A state dict, in either of torch's ways, is named as what it is, with the way to a ticket."""
    state = {"0.weight": torch.zeros(2, 2)}
    torch.save(state, tmp_path / "new.pth")         # pickles: not run, whatever is in them
    torch.save({"model": state}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name, meta in (("w", None), ("hub", {"format": "pt"})):
        (tmp_path / f"{name}.safetensors").write_bytes(
            save({"0.weight": np.zeros((2, 2), np.float32)}, meta))
    for name, what in (("new.pth", "a file of torch.save"), ("old.pt", "a file of torch.save"),
                       ("w.safetensors", r"tensors without a network \(1, such as '0.weight'\)"),
                       ("hub.safetensors", "tensors without a network")):
        with pytest.raises(SpikeTicketError,
                           match=f"{name}: {what}.*, not a ticket; .*spiketicket import"):
            ticket.load(tmp_path / name)


def test_names_of_bundled_tickets_are_guessed():
    with pytest.raises(SpikeTicketError, match=r"did you mean fmnist-scnn or fmnist-scnn-wide"):
        bundled.find("fmnist-scn")
    with pytest.raises(SpikeTicketError, match=r"did you mean imp\?"):
        RunConfig(method="imb")


def test_another_safetensors(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(save({"w": np.zeros(3, np.float32)}, {"format": "other-1"}))
    with pytest.raises(SpikeTicketError, match=r"not a ticket of this version \(format 'other-1'"):
        ticket.load(path)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(SpikeTicketError, match="no such ticket"):
        ticket.load(tmp_path / "none")
    with pytest.raises(SpikeTicketError):
        ticket.load(tmp_path)
    with pytest.raises(SpikeTicketError, match="cannot be written"):
        ticket.save(tmp_path / "no" / "t", small_network())


def test_size_is_checked_before_reading(tmp_path, monkeypatch):
    path = tmp_path / "big"
    path.write_bytes(bytes(100))
    monkeypatch.setattr(ticket, "MAX_FILE_BYTES", 50)
    with pytest.raises(SpikeTicketError, match="more than the 50 bytes that a ticket may have"):
        ticket.load(path)


def forged(tmp_path, change, tensors_change=None, network=None):
    """A ticket with a valid checksum whose description is changed."""
    whole = ticket.to_bytes(network or small_network())
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8:8 + length])
    from safetensors.numpy import load
    tensors, meta = load(whole), header["__metadata__"]
    described = json.loads(meta["network"])
    change(described)
    if tensors_change:
        tensors_change(tensors)
    meta["network"] = json.dumps(described)
    meta["sha256"] = ticket._digest(meta, tensors)
    path = tmp_path / "forged"
    path.write_bytes(save(tensors, meta))
    return path


def put(path, value):
    def change(d):
        *keys, last = path
        for key in keys:
            d = d[key]
        d[last] = value
    return change


@pytest.mark.parametrize("path, value, message", [
    (("timesteps",), 17, "'spiketicket-1' has up to 16 timesteps"),
    (("timesteps",), 33, "timesteps 33 is outside 1..32"),
    (("layers", 0, "synapses", 0, "stride"), [1, 2], "differ|needs 'spiketicket-2'|not fit"),
    (("layers", 0, "synapses", 0, "stride"), [1, 1, 1], r"stride is \[1, 1, 1\]"),
    (("layers", 2, "pool", "size"), [3, 2.5], "pool size is 2.5"),
    (("timesteps",), "3", "timesteps is '3'"),
    (("timesteps",), True, "timesteps is True"),
    (("input", "bits"), 9, "input bits 9"),
    (("input", "static"), 1, "static is 1"),
    (("layers", 0, "neuron", "leak"), 300, "leak 300"),
    (("layers", 0, "neuron", "reset"), "none", "reset 'none'"),
    (("layers", 0, "pool", "mode"), "avg", "pool mode 'avg'"),
    (("layers", 0, "name"), 7, "name of layer 0 is 7"),
    (("layers", 0, "synapses", 0, "bits"), 2, "2 bits hold"),
    (("layers", 0, "synapses", 0, "stride"), 0, "stride 0"),
    (("layers", 0, "synapses", 0, "sources"), ["zz"], "'zz' is not an earlier map"),
    (("layers", 0, "synapses", 0, "shape"), [5, 2, 3], r"shape \[5, 2, 3\]"),
    (("layers", 0, "synapses", 0, "shape"), [1 << 20, 1 << 20, 1 << 20, 1], "more than"),
    (("layers", 0, "synapses", 0, "shape"), [5, 2, 3, 30], "mask of"),
    (("layers", 0, "synapses", 0, "shape"), [-5, 2, 3, 3], "shape"),
    (("layers",), [], "arrays that no layer uses"),
    (("layers",), 5, "not valid"),
    (("labels",), [1], "label is 1"),
])
def test_forged_descriptions(tmp_path, path, value, message):
    with pytest.raises(SpikeTicketError, match=message) as error:
        ticket.load(forged(tmp_path, put(path, value)))
    assert "forged: " in str(error.value)


@pytest.mark.parametrize("name, array, message", [
    ("layer.0.bias", None, "array layer.0.bias is missing"),
    ("layer.0.bias", np.zeros(5, np.float32), "float32"),
    ("layer.0.bias", np.full(5, 1 << 40), "bias exceeds 32 bits"),
    ("layer.0.bias", np.full(5, -(1 << 63)), "bias exceeds 32 bits"),
    ("layer.0.bias", np.zeros(4, np.int64), r"bias must be int64 \[5\]"),
    ("layer.0.synapses.0.values", np.zeros(2, np.int8), "2 values for"),
    ("layer.0.synapses.0.mask", np.full(12, 255, np.uint8), "beyond its 90 weights"),
    ("extra", np.zeros(1, np.int64), "no layer uses: extra"),
])
def test_forged_arrays(tmp_path, name, array, message):
    def change(tensors):
        if array is None:
            del tensors[name]
        else:
            tensors[name] = array
    with pytest.raises(SpikeTicketError, match=message):
        ticket.load(forged(tmp_path, lambda d: None, change))


@pytest.mark.parametrize("path, value, message", [
    ((0, "pool", "stride"), 0, "pool stride 0"),
    ((0, "pool", "padding"), 2, r"padding 2 is outside 0\.\.1"),
    ((0, "pool", "padding"), None, "pool padding is None"),
    ((1, "gate", "keep"), 4, "mask keeps 5 tokens, not 4"),
    ((1, "gate", "keep"), 0, "keep 0"),
    ((1, "gate", "keep"), "5", "keep is '5'"),
    ((1, "gate", "grid"), [4, 4], "mask has bits beyond|mask of|chooses from|not bool"),
    ((1, "gate", "grid"), [400, 300], "mask of|grid of 400x300"),
    ((1, "gate", "grid"), [-4, -3], "grid of -4x-3"),
    ((1, "gate", "grid"), [12], "not valid"),
    ((1, "gate", "mode"), "host", "no layer uses: layer.1.mask"),
    ((1, "gate", "mode"), ["x"], "not a string|not valid"),
    ((1, "gate", "scores"), ["a"], "the others have none"),
    ((1, "gate", "scores"), [3], "score is 3"),
    ((2, "select", "gate"), "h", "'h' is not an earlier gate"),
    ((2, "select", "source"), 1, "source is 1"),
    ((2, "select"), {}, "not valid"),
    ((3, "attention", "kind"), "soft", "attention 'soft' is not one of self, column"),
    ((3, "attention", "heads"), 3, "do not divide into 3 heads"),
    ((3, "attention", "heads"), 1.0, "heads is 1.0"),
    ((3, "attention", "key"), "a", "differ in shape"),
    ((3, "attention", "value"), None, "value is None"),
    ((3, "attention"), 7, "not valid"),
    ((4, "attention"), {"kind": "column", "query": "k", "key": "k", "value": "k"},
     "attention has a neuron"),
])
def test_forged_gates_and_attention(tmp_path, path, value, message):
    with pytest.raises(SpikeTicketError, match=message):
        ticket.load(forged(tmp_path, put(("layers", *path), value), None, gated_network()))


def test_forged_token_masks(tmp_path):
    for mask, message in ((None, "layer.1.mask is missing"),
                          (np.zeros(1, np.uint8), "mask of 1 bytes for 12 tokens"),
                          (np.full(2, 255, np.uint8), "bits beyond its 12 tokens"),
                          (np.zeros(2, np.uint8), "mask keeps 0 tokens, not 5")):
        def change(tensors, mask=mask):
            del tensors["layer.1.mask"]
            if mask is not None:
                tensors["layer.1.mask"] = mask
        with pytest.raises(SpikeTicketError, match=message):
            ticket.load(forged(tmp_path, lambda d: None, change, gated_network()))


def test_checksum_covers_names_types_and_values():
    meta = {"format": "f", "network": "n", "info": "i"}
    base = ticket._digest(meta, {"a": np.zeros(2, np.int8)})
    others = [{"b": np.zeros(2, np.int8)}, {"a": np.zeros(2, np.uint8)},
              {"a": np.array([0, 1], np.int8)}, {"a": np.zeros((2, 1), np.int8)}]
    assert len({base, *(ticket._digest(meta, t) for t in others)}) == 5
    assert len(base) == len(hashlib.sha256().hexdigest())
