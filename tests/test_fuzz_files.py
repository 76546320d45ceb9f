"""Loaders of files against damaged, hostile and mutated ones; see `sim.fuzz_targets`."""

import json
import os
import pickle
import resource
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hw.config import PRESETS
from sim import fuzz_files
from sim.fuzz_mutations import NUMBERS, tree
from sim.fuzz_targets import TARGETS, Target
from sw import ticket
from sw.cli.app import main
from sw.compile import image_file
from sw.compile.compiler import compile_network
from sw.data import arrays, events
from sw.errors import SpikeTicketError
from sw.tickets import config
from sw.typed import typed


@pytest.fixture(scope="module", params=sorted(TARGETS))
def fuzzed(request, tmp_path_factory):
    """A loader after its first files, its valid files, and a place for a file."""
    target = TARGETS[request.param]
    place = tmp_path_factory.mktemp("fuzz") / "case"
    fuzz_files.warm_up(target, place)
    return target, target.seeds(), place


@settings(max_examples=40, deadline=None, print_blob=True,
          suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(rng=st.randoms(use_true_random=False))
def test_mutated_files(fuzzed, rng):
    target, seeds, place = fuzzed
    assert fuzz_files.check(target, fuzz_files.mutated(target, seeds, rng), place) is None


def test_hostile_files(fuzzed):
    target, _, place = fuzzed
    for number, data in enumerate(target.hostile()):
        assert fuzz_files.check(target, data, place) is None, number


def test_empty_and_truncated_files(fuzzed):
    target, seeds, place = fuzzed
    data = min(seeds, key=len)
    for length in (0, 1, 7, 8, 9, len(data) // 2, len(data) - 1):
        assert fuzz_files.check(target, data[:length], place) is None, length


# what the checks themselves notice

def _open_for_writing(path):
    with open(path.with_name("trace"), "w"):
        pass


def _burn(_):
    while True:
        pass


@pytest.mark.parametrize("read, what", [
    (lambda path: 1 / 0, "ZeroDivisionError: division by zero at test_fuzz_files.py"),
    (lambda path: np.zeros(40 << 20, np.uint8), "holds 41,9"),
    (lambda path: os.system("true"), "Violation: os.system"),
    (_open_for_writing, "Violation: open"),
    (lambda path: pickle.loads(pickle.dumps(os.getpid)),
     "Violation: pickle.find_class"),
    (_burn, "takes more than"),
])
def test_what_a_loader_must_not_do(tmp_path, monkeypatch, read, what):
    monkeypatch.setattr(fuzz_files, "SECONDS", 0.2)
    found = fuzz_files.check(Target("", list, read), b"x" * 9, tmp_path / "case")
    assert found is not None and what in found


def test_messages_are_one_line_of_text(tmp_path):
    def read(path):
        raise SpikeTicketError(f"layer {path.read_bytes().decode()}: bad")
    data = b"\x1b[2J\nerror: all is well\0" + b"y" * 5000
    assert fuzz_files.check(Target("", list, read), data, tmp_path / "case") is None
    assert str(SpikeTicketError("a\x1b[2J\nb")) == "a\\x1b[2J b"


def test_command(tmp_path, capsys, monkeypatch):
    common = ["--out", str(tmp_path), "--json"]
    assert main(["check", "files", "--target", "manifest", "--cases", "30", *common]) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert (row["target"], row["files"], row["findings"]) == ("manifest", 30, 0)
    kept = fuzz_files._keep(tmp_path, "manifest", {"data": b"{}", "seed": 3, "what": "bad"})
    assert json.loads((tmp_path / "findings.jsonl").read_text())["seed"] == 3
    assert main(["check", "files", "--replay", str(kept)]) == 0
    assert "passes" in capsys.readouterr().out
    assert main(["check", "files", "--replay", str(tmp_path / "none-1")]) == 2
    assert main(["check", "files", "--cases", "0"]) == 2


def test_a_seed_gives_the_same_file(fuzzed):
    target, seeds, _ = fuzzed
    one, two = (fuzz_files.mutated(target, seeds, fuzz_files.random.Random(5)) for _ in range(2))
    assert one == two


def test_trees_keep_json(fuzzed):
    rng = fuzz_files.random.Random(1)
    for _ in range(50):
        json.dumps(tree(rng, {"a": [1, {"b": "x"}], "c": None}))
    assert max(NUMBERS) >= 1 << 64


# what fuzzing found

def test_a_claim_takes_no_memory(tmp_path):
    """Under a limit on the address space, headers that claim gigabytes are refused, not tried."""
    path = tmp_path / "images-idx3-ubyte"
    path.write_bytes(b"\0\0\x08\x04" + struct.pack(">4I", 1, 1 << 10, 1 << 10, 1 << 10))
    from sw.data.idx import read_idx
    old = resource.getrlimit(resource.RLIMIT_AS)
    held = int(fuzz_files.Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS,
                       (held * resource.getpagesize() + (256 << 20), old[1]))
    try:
        with pytest.raises(SpikeTicketError, match="header claims 1073741824 bytes"):
            read_idx(path)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, old)


def test_counts_are_the_same_by_table_and_by_sorting(monkeypatch):
    rng = np.random.default_rng(0)
    found = events.Events(rng.integers(0, 9, 500), rng.integers(0, 7, 500),
                          np.sort(rng.integers(0, 900, 500)), rng.integers(0, 2, 500), (9, 7))
    table = events.frames(found, 3, max_count=4)
    monkeypatch.setattr(events, "MAX_COUNTED", 1)
    assert (events.frames(found, 3, max_count=4) == table).all() and table.max() == 4


def test_devices_are_read_up_to_the_limit():
    with pytest.raises(SpikeTicketError, match="more than 1,000 bytes"):
        arrays.read_bytes(fuzz_files.Path("/dev/zero"), 1000)


def test_yaml_says_what_it_holds():
    for text, message in (("a: &x 1\nb: *x", "aliases"), ("[" * 30, "20 levels"),
                          ("a: 2001-01-01", "quotes"), ("a: 99999999999999999999", "64 bits"),
                          ("1: 2", "no name of a setting")):
        with pytest.raises(SpikeTicketError, match=message):
            config.parse_yaml(text)
    assert config.parse_yaml("a: [1, 2.5, x, true, null]") == {"a": [1, 2.5, "x", True, None]}
    with pytest.raises(SpikeTicketError, match="more than 1000 rounds"):
        config.RunConfig(prune_rate=1e-15, sparsity=0.9)


def test_typed():
    assert typed([1, 2], tuple[int, ...], "x") == (1, 2)
    assert typed({"a": [1.5]}, dict[str, list[float]], "x") == {"a": [1.5]}
    assert typed(None, int | None, "x") is None
    for value, hint in ((True, int), (1, bool), (1 << 60, int), ("1", int), ([1], tuple[int, int]),
                        (float("inf"), float), ([], dict[str, int]), ({}, list[int])):
        with pytest.raises(ValueError, match="x is"):
            typed(value, hint, "x")


def test_images_point_into_their_memories(tmp_path):
    path = tmp_path / "image.npz"
    network = next(ticket.from_bytes(data).network for data in TARGETS["ticket"].seeds())
    image = compile_network(network, PRESETS["tiny"])
    image_file.save(image, path)
    again = image_file.load(path)
    assert again.maps == image.maps and (again.program == image.program).all()
    assert again.config == image.config and again.layers == image.layers
    put = object.__setattr__        # frozen or not
    for change, message in ((lambda im: put(im, "results", 1 << 20), "beyond the map memory"),
                            (lambda im: put(im.inputs[0], "base", -1), "lies beyond"),
                            (lambda im: put(im.inputs[0], "pitch", 0), "rows beyond"),
                            (lambda im: put(im, "program", im.program[:3]), "breaks off"),
                            (lambda im: put(im, "classes", "x"), "classes is 'x'")):
        broken = image_file.load(path)
        change(broken)
        image_file.save(broken, tmp_path / "broken.npz")
        with pytest.raises(SpikeTicketError, match=message):
            image_file.load(tmp_path / "broken.npz")
