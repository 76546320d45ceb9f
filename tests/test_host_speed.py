"""The board of a few lines that the host's own time is measured with."""

import json

import numpy as np
import pytest

from hw.config import PRESETS
from hw.registers import Space
from sw import bundled, host_speed, ticket
from sw.board.driver import Accelerator
from sw.cli.app import main
from sw.compile.compiler import compile_network
from sw.errors import SpikeTicketError


def test_it_holds_a_network_and_answers_in_order():
    config = PRESETS["a35tw"]
    board = host_speed.Answering(config)
    image = compile_network(ticket.load(bundled.find(bundled.DEFAULT)).network, config)
    with Accelerator(board, config) as accelerator:
        accelerator.load(image)
        batch = np.zeros((70, *image.input_shape), np.uint8)
        result = accelerator.infer(batch)
        assert result.logits.shape == (70, image.classes) and (result.cycles == 1).all()
        assert accelerator.statistics.recoveries == 0
        board._memory[Space.WEIGHT][0] ^= 1
        assert not accelerator.verify()
        with pytest.raises(SpikeTicketError):
            accelerator.infer(batch.astype(float))


def test_the_command(capsys):
    assert main(["bench", "host", "--ticket", bundled.DEFAULT, "--images", "40", "--json"]) == 0
    row, = json.loads(capsys.readouterr().out)["tickets"]
    assert row["ticket"] == bundled.DEFAULT and row["images"] == 40
    assert row["us_per_image"] * row["images_per_s"] == pytest.approx(1e6)
