"""Networks named FILE.py:NAME and their weights: `sw.imports.load_module`."""

import argparse
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sw.errors import SpikeTicketError
from sw.imports.load_module import load_module, read_weights

FILE = """\
import dataclasses
import torch
from torch import nn
from parts import Block

@dataclasses.dataclass
class Config:
    width: int = 3

class Net(nn.Module):
    def __init__(self, width=3):
        super().__init__()
        self.block = Block(Config(width).width)
        self.norm = nn.BatchNorm1d(width)

    def forward(self, x):
        return self.norm(self.block(x))

class Sized(nn.Module):
    def __init__(self, width, depth=1):
        super().__init__()

def small():
    return Net(2)

def broken():
    raise ValueError("no such width")

def late():
    import parts
    return parts.Block(4)

net = Net()
number = 7
"""
PARTS = """\
from torch import nn
class Block(nn.Linear):
    def __init__(self, n):
        super().__init__(2, n)
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "parts.py").write_text(PARTS)
    (tmp_path / "nets.py").write_text(FILE)
    before = list(sys.path)
    yield tmp_path / "nets.py"
    assert sys.path == before
    sys.modules.pop("parts", None)


def test_classes_functions_and_modules_are_found(file):
    assert load_module(f"{file}:Net").block.out_features == 3
    assert load_module(f"{file}:small").block.out_features == 2
    assert load_module(f"{file}:late").out_features == 4
    assert type(load_module(f"{file}:net")).__name__ == "Net"


def saved(folder, name, what):
    torch.save(what, folder / name)
    return folder / name


@pytest.mark.parametrize("wrap", [
    lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"net": s},
    lambda s: {"model": s, "args": argparse.Namespace(lr=0.1), "best": np.float64(91.5)},
    lambda s: {"model": {"state_dict": s}},
    lambda s: {f"module.{k}": v for k, v in s.items()},
    lambda s: {"state_dict": {f"_orig_mod.module.{k}": v for k, v in s.items()}},
    lambda s: {k: v for k, v in s.items() if "tracked" not in k},
], ids=["plain", "state_dict", "net", "model", "nested", "parallel", "compiled", "old"])
def test_weights_of_checkpoints_are_loaded(file, tmp_path, wrap):
    torch.manual_seed(5)
    wanted = {k: torch.randn_like(v) if v.is_floating_point() else v
              for k, v in load_module(f"{file}:Net").state_dict().items()}
    found = load_module(f"{file}:Net", saved(tmp_path, "w.pth", wrap(wanted))).state_dict()
    assert all(torch.equal(found[k], v) for k, v in wanted.items())


def test_safetensors_are_loaded(file, tmp_path):
    wanted = {k: v + 1 for k, v in load_module(f"{file}:Net").state_dict().items()}
    save_file(wanted, tmp_path / "w.safetensors")
    found = load_module(f"{file}:Net", tmp_path / "w.safetensors").state_dict()
    assert all(torch.equal(found[k], v) for k, v in wanted.items())


def message(call) -> str:
    with pytest.raises(SpikeTicketError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(("name", "text"), [
    (":Nat", "there is no 'Nat' in it; did you mean Net"),
    (":zzzzz", "there is no 'zzzzz' in it; choose from Net, Sized, small, broken, late, net"),
    ("", "name the network in it, "), (":number", "is a int, not a torch.nn.Module"),
    (":Sized", "needs arguments (width); name a function"),
    (":broken", "line 27: ValueError: no such width"),
    (":Config", "gives a Config, not a torch.nn.Module"),
])
def test_wrong_names_are_one_line(file, name, text):
    assert text in message(lambda: load_module(f"{file}{name}"))


@pytest.mark.parametrize(("code", "text"), [
    ("import no_such", "line 1: ModuleNotFoundError: No module named 'no_such'"),
    ("x = 1\ndef f(:\n", "line 2: SyntaxError: invalid syntax"),
    ("x = 1\n1 / 0", "line 2: ZeroDivisionError: division by zero"),
    ("raise SystemExit(3)", "line 1: SystemExit: 3"),
    ("y = 2", "no module, class of modules or function"),
])
def test_errors_of_the_file_are_one_line(tmp_path, code, text):
    (tmp_path / "bad.py").write_text(code)
    assert text in message(lambda: load_module(f"{tmp_path / 'bad.py'}:Net"))


def test_what_is_no_file_of_code(tmp_path):
    assert "there is no such file" in message(lambda: load_module(f"{tmp_path}/none.py:Net"))
    assert "is given as FILE.py:NAME" in message(lambda: load_module("vgg9"))


def test_weights_that_are_not_the_network_s(file, tmp_path):
    own = load_module(f"{file}:Net").state_dict()

    def said(state):
        path = saved(tmp_path, "w.pth", state)
        return message(lambda: load_module(f"{file}:Net", path))
    assert "block.weight is [2, 2], in" in said(load_module(f"{file}:small").state_dict())
    assert "lacks norm.weight" in said({k: v for k, v in own.items() if k != "norm.weight"})
    assert "beyond the network's, head.weight;" in said({**own, "head.weight": torch.zeros(1)})
    assert "lacks block.weight" in said({"a.x": torch.zeros(1), "b.y": torch.zeros(1)})
    assert "holds no state dict, but a dict of epoch" in said({"epoch": 1})
    assert "holds no state dict, but a Tensor" in said(torch.zeros(3))


def test_files_that_are_no_weights(file, tmp_path):
    path = saved(tmp_path, "whole.pth", nn.Linear(2, 3))
    assert "holds more than weights (torch.nn.modules.linear.Linear)" in message(
        lambda: read_weights(path))
    for name in ("w.pth", "w.safetensors"):
        (tmp_path / name).write_bytes(b"nothing of the kind")
        assert "damaged or not a" in message(lambda name=name: read_weights(tmp_path / name))
        (tmp_path / name).write_bytes(b"")
        assert "damaged or not a" in message(lambda name=name: read_weights(tmp_path / name))
    assert "cannot be read (No such file" in message(lambda: read_weights(tmp_path / "x.pth"))
    assert "cannot be read (Is a directory" in message(lambda: read_weights(tmp_path))
