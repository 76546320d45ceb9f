"""`sw.link_timeline`: what line and core do while inputs run one behind the other."""

import json
from itertools import pairwise

import numpy as np
import pytest

from hw.config import PRESETS
from sim.board import SimTransport
from sim.network import CabledBoard, LocalNetwork, SimUdpTransport
from sw import link_timeline
from sw.board.driver import Accelerator
from sw.cli.app import main
from sw.compile.compiler import compile_network
from sw.errors import BadInput
from sw.link_timeline import Passage, Timeline
from sw.plots.timeline import plot_timelines

from .test_link_speed import InputSpec, readout

TINY = PRESETS["tiny"]


def _line(library, ethernet):
    if not ethernet:
        return SimTransport(TINY, baud=3_000_000, library=library)
    board = CabledBoard(TINY, library=library)
    board.set_cable()
    return SimUdpTransport(LocalNetwork(board))


@pytest.mark.parametrize("ethernet", [False, True])
def test_the_next_input_arrives_while_one_is_computed(tiny_library, ethernet, tmp_path):
    """Every moment of the timeline follows from the one before it, nothing is in two places, and
    the line, which sets the pace here, never rests."""
    image = compile_network(readout(InputSpec(1, 16, 16, bits=4)), TINY)
    inputs = np.random.default_rng(1).integers(0, 16, (7, 1, 16, 16)).astype(np.uint8)
    transport = _line(tiny_library, ethernet)
    with Accelerator(transport, TINY) as board:
        board.load(image)
        found = link_timeline.record(board, image, inputs)
        again = link_timeline.record(board, image, inputs)
        assert "write" not in vars(transport), "the line is as it was"
        simulated, transport.simulated = transport.simulated, False
        with pytest.raises(BadInput, match="is of a simulated board"):
            link_timeline.record(board, image, inputs)
        transport.simulated = simulated
    # The link's own: 64 words of memory, 13 cycles at most each; datagrams reach it, and leave it,
    # when they are whole.
    few = (2000 if ethernet else 1000) / TINY.clock_hz
    passages = found.passages
    assert len(passages) == link_timeline.SHOWN and passages[0].there[0] == 0
    for one in passages:
        assert one.there[0] < one.there[1] <= one.core[0] < one.core[1] == one.back[0] < one.back[1]
    for one, following in pairwise(passages):
        assert following.there[0] == one.there[1]
        assert following.core[0] - max(following.there[1], one.core[1]) < few
        assert one.core[1] <= following.core[0] and one.back[1] <= following.back[0]
        assert following.there[0] < one.core[1], "nothing overlaps"
    assert 0.7 < found.overlapped <= 1
    assert again.overlapped == pytest.approx(found.overlapped, rel=0.02)
    path = tmp_path / "overlap.svg"
    plot_timelines(str(path), "two", [found, again])
    assert f"{found.line}: while the core computes" in path.read_text()


def test_what_overlaps():
    """Half of a run in which the next input arrives, none of the last run counted."""
    line = Timeline("a line", (Passage((0, 1), (1, 3), (3, 4)), Passage((2, 3), (3, 5), (5, 6))))
    assert line.overlapped == 0.5
    apart = Timeline("a line", (Passage((0, 1), (1, 3), (3, 4)), Passage((4, 5), (5, 7), (7, 8))))
    assert apart.overlapped == 0


def test_command(monkeypatch, capsys, tmp_path):
    line = Timeline("3 Mbaud", (Passage((0, 1), (1, 3), (3, 4)), Passage((2, 3), (3, 5), (5, 6))))
    monkeypatch.setattr(link_timeline, "measure", lambda name: (line,))
    assert main(["bench", "overlap"]) == 0
    assert "3 Mbaud: while the core computes, the next input arrives 50%" in capsys.readouterr().out
    path = tmp_path / "x.svg"
    assert main(["bench", "overlap", "--plot", str(path), "--json"]) == 0
    [found] = json.loads(capsys.readouterr().out)
    assert found["overlapped"] == 0.5 and found["passages"][1]["there"] == [2, 3]
    assert path.read_text().startswith("<?xml")
    assert main(["bench", "overlap", "--plot", str(tmp_path / "x.txt")]) == 2
    assert "must end in one of" in capsys.readouterr().err
