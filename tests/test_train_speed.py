"""`spiketicket bench train`: every way is measured in one run, on one thread."""

import json

import pytest
import torch

from sw import train_speed
from sw.cli.app import main


def test_every_way_is_measured(capsys):
    threads = torch.get_num_threads()
    assert main(["bench", "train", "--model", "4p-4p", "--batch-size", "4", "--rounds", "1",
                 "--json"]) == 0
    row, = json.loads(capsys.readouterr().out)["models"]
    assert set(row["images_per_s"]) == set(train_speed.WAYS)
    assert min(row["images_per_s"].values()) > 0 and row["times"] > 0
    assert torch.get_num_threads() == threads


def test_a_table_for_people(capsys):
    train_speed.show([{"model": "m", "images_per_s": dict.fromkeys(train_speed.WAYS, 12.34),
                       "times": 2.0}])
    head, line = capsys.readouterr().out.splitlines()
    assert "plain, bf16" in head and line.split()[1:] == ["12.3"] * 4 + ["2.00", "x"]


@pytest.mark.parametrize("model", ["vgg99", "4q"])
def test_an_unknown_model_is_one_line(model, capsys):
    assert main(["bench", "train", "--model", model]) == 2
    assert model in capsys.readouterr().err
