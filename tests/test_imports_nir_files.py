"""NIR files from anywhere: damaged, huge by claim, or pointing out of themselves."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sw.errors import SpikeTicketError
from sw.imports import from_nir, nir_file
from tests.nir_writers import lif

nir = pytest.importorskip("nir")
h5py = pytest.importorskip("h5py")


@pytest.fixture
def path(tmp_path):
    """A small valid graph."""
    rng = np.random.default_rng(0)
    graph = nir.NIRGraph.from_list(
        nir.Input(np.array([6])), nir.Linear(rng.integers(-3, 4, (4, 6)).astype(np.float32)),
        lif((4,), 3.0), nir.Linear(rng.integers(-3, 4, (2, 4)).astype(np.float32)),
        nir.Output(np.array([2])))
    nir.write(tmp_path / "graph.nir", graph)
    return tmp_path / "graph.nir"


def refused(path, message):
    with pytest.raises(SpikeTicketError, match=message) as error:
        from_nir(path, timesteps=2)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


def test_the_file_is_read(path):
    assert [layer.name for layer in from_nir(path, timesteps=2).network.layers] == ["lif",
                                                                                    "readout"]


def test_other_files_are_refused(path, tmp_path):
    refused(tmp_path / "none.nir", "cannot be read")
    path.write_bytes(b"no HDF5 at all")
    refused(path, "no NIR graph")
    path.write_bytes(b"")
    refused(path, "no NIR graph")
    with h5py.File(path, "w") as file:
        file["weights"] = np.zeros(3)
    refused(path, "has no 'node', so it is not a NIR graph")
    nir.write(path, lif((4,), 1.0))
    refused(path, "no NIR graph")


def test_claims_are_checked_before_memory_is_asked_for(path):
    with h5py.File(path, "r+") as file:     # 32 TB in a chunk that was never written
        del file["node/nodes/linear/weight"]
        file["node/nodes/linear"].create_dataset("weight", (1 << 21, 1 << 21), np.float64,
                                                 chunks=(64, 64), compression="gzip")
    assert path.stat().st_size < 1 << 20
    refused(path, "'/node/nodes/linear/weight' claim 35184372[0-9]* bytes, more than the 268435456")


def test_a_small_file_takes_little_memory(path):
    """Zeros that a few bytes stand for: 520 MB are refused unread, the largest claim is bounded."""
    def peak(features: int, classes: int) -> tuple[float, str]:
        with h5py.File(path, "r+") as file:
            for name, shape in (("linear", (4, features)), ("linear_1", (classes, 4))):
                group = file[f"node/nodes/{name}"]
                del group["weight"]
                group.create_dataset("weight", shape, np.float32, chunks=(4, 4096),
                                     compression="gzip", maxshape=(None, None))
            file["node/nodes/input/shape"][...] = features
        assert path.stat().st_size < 1 << 17
        made = subprocess.run([sys.executable, "-c", MEASURED, str(path)], capture_output=True,
                              text=True, cwd=Path(__file__).resolve().parent.parent)
        before, after, said = made.stdout.split("|")
        return (float(after) - float(before)) / 1024, said

    grown, said = peak((520 << 20) // 16, 2)
    assert "more than the 268435456 of the largest graph" in said and grown < 64
    grown, said = peak(1 << 20, 2)
    assert grown < 700, (grown, said)


MEASURED = """
import resource, sys
from sw.errors import SpikeTicketError
from sw.imports import from_nir
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
try:
    from_nir(sys.argv[1], timesteps=2)
    said = "read"
except SpikeTicketError as error:
    said = str(error)
print(before, peak(), said, sep="|")
"""


def test_nothing_outside_the_file_is_opened(path, tmp_path):
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["w"] = np.ones((4, 6))

    def change(how):
        with h5py.File(path, "r+") as file:
            del file["node/nodes/linear/weight"]
            how(file["node/nodes/linear"])

    change(lambda g: g.__setitem__("weight", h5py.ExternalLink(str(secret), "w")))
    refused(path, "is a link out of its place")
    change(lambda g: g.__setitem__("weight", h5py.SoftLink("/node/edges")))
    refused(path, "is a link out of its place")
    layout = h5py.VirtualLayout((4, 6), np.float64)
    layout[:] = h5py.VirtualSource(str(secret), "w", (4, 6))
    change(lambda g: g.create_virtual_dataset("weight", layout))
    refused(path, "is stored outside the file")
    change(lambda g: g.create_dataset("weight", (4, 6), np.float64,
                                      external=[(str(secret), 0, 192)]))
    refused(path, "is stored outside the file")
    change(lambda g: g.create_dataset("weight", data=np.zeros(3, [("a", "f4"), ("b", "f4")])))
    refused(path, "are not a NIR graph's")


def test_groups_that_contain_themselves_are_refused(path):
    with h5py.File(path, "r+") as file:
        file["node/nodes/lif/again"] = file["node"]
    refused(path, "contains itself")


def test_long_files_are_not_opened(path, monkeypatch):
    monkeypatch.setattr(nir_file, "MAX_FILE_BYTES", 100)
    refused(path, "bytes are more than a graph's 100")
    monkeypatch.undo()
    monkeypatch.setattr(nir_file, "MAX_OBJECTS", 5)
    refused(path, "more than 5 objects")


def test_damaged_files_raise_one_error(path):
    data, rng = path.read_bytes(), np.random.default_rng(7)
    outcomes = set()
    for _ in range(150):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), rng.choice([1, 4, 32])):
            damaged[place] = rng.integers(256)
        if rng.random() < 0.2:
            damaged = damaged[:rng.integers(len(damaged))]
        path.write_bytes(damaged)
        try:
            from_nir(path, timesteps=2)
            outcomes.add("read")
        except SpikeTicketError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


def test_the_missing_package_is_named(monkeypatch):
    import builtins
    real = builtins.__import__

    def without(name, *rest, **options):
        if name == "nir":
            raise ImportError("No module named 'nir'")
        return real(name, *rest, **options)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SpikeTicketError, match=r"pip install 'spiketicket\[nir\]'"):
        from_nir("x.nir", timesteps=2)
