"""Tickets with fewer tokens: accuracy and its control, cycles, the command, the page's table."""

import json
from dataclasses import replace

import numpy as np
import pytest

from sim.samples.networks import random_input
from sim.samples.spikeformers import random_spikeformer
from sw import bundled, ticket
from sw.cli.app import main
from sw.data.samples import Images
from sw.errors import BadInput
from sw.integer import reference
from sw.ladder import tokens, variants
from sw.plots.tokens import plot_tokens
from sw.results.page import Page

from .test_ladder import SMALL


def labelled(mode: str, seed: int, count: int = 3):
    """A small Spikeformer whose gate ranks, and samples with its own answers as labels."""
    rng = np.random.default_rng(seed)
    while True:
        network = random_spikeformer(rng, modes=(mode,), max_side=8, max_heads=1, max_blocks=1,
                                     max_timesteps=4, overlapping=False, column=False)
        gate = network.gates["gate"]
        if gate.tokens >= 8 and gate.mode == mode:      # "input" needs whole patches
            break
    values = np.stack([random_input(rng, network) for _ in range(count)])
    labels = reference.run(network, values).logits.argmax(1)
    return network, Images(values.astype(np.uint8), labels, source="drawn")


@pytest.mark.parametrize("mode", ["count", "input"])
def test_its_own_number_of_tokens_changes_nothing(mode):
    network, samples = labelled(mode, 3)
    gate = network.gates["gate"]
    told = []
    own, one = tokens.points(network, samples, [gate.keep, 1], SMALL, "drawn", 0, told.append)
    assert own.trained and not one.trained and own.accuracy == 1.0
    assert (own.tokens, own.keep, one.keep, own.images) == (gate.tokens, gate.keep, 1, 3)
    assert one.cycles < own.cycles and sum(told) == 2 * 2 * 3


@pytest.mark.parametrize("mode", ["count", "input"])
def test_the_control_keeps_other_tokens_and_nothing_else(mode):
    network, samples = labelled(mode, 4)
    gate = network.gates["gate"]
    keep = gate.tokens // 2
    control, images, masks = tokens.at_random(network, samples, keep, 1)
    assert masks.shape == (3, gate.tokens) and set(masks.sum(1)) == {keep}
    assert (images == samples.images).all() == (mode == "count")
    assert control.gates["gate"].mode == "host"
    # Given the tokens that the ticket would choose, the control answers as the ticket does.
    pruned = variants.with_keep(network, keep)
    ran = reference.run(pruned, samples.images)
    chosen = np.zeros_like(masks)
    np.put_along_axis(chosen, ran.kept["gate"], True, axis=1)
    values = samples.images
    if mode == "input":
        timed = values[None] if samples.static else values.swapaxes(0, 1)
        timed = gate.zero_input(timed, ran.kept["gate"])
        values = timed[0] if samples.static else timed.swapaxes(0, 1)
    assert (reference.run(control, values, masks=chosen).logits == ran.logits).all()


def test_a_network_without_room_has_no_cycles():
    network, samples = labelled("count", 3, count=1)
    small = replace(SMALL, map_words=16)
    (point,) = tokens.points(network, samples, [2], small)
    assert point.cycles is None
    tokens.show([point])


def test_the_command_prints_and_draws_and_its_output_makes_the_page_s_table(tmp_path, capsys):
    plot = tmp_path / "tokens.svg"
    arguments = ["bench", "tokens", "--ticket", "nmnist-spikeformer", "--keep", "8", "--keep", "38",
                 "--images", "4"]
    assert main([*arguments, "--plot", str(plot), "--json"]) == 0
    printed = capsys.readouterr().out
    found = json.loads(printed)
    assert [p["keep"] for p in found] == [38, 8] and plot.read_text().startswith("<?xml")
    (tmp_path / "tokens-nmnist-spikeformer.json").write_text(printed)
    page = Page(tmp_path, tmp_path)
    assert page.field_tokens("nmnist-spikeformer").startswith("| tokens kept | **38** | 8 |")
    assert page.field_tokens("none") == "(not run yet)"
    (tmp_path / "tokens-bad.json").write_text('[{"keep": 1}]')
    with pytest.raises(BadInput, match="not what `spiketicket bench tokens"):
        page.field_tokens("bad")


def test_what_cannot_be_is_refused_in_one_line(capsys):
    assert main(["bench", "tokens", "--ticket", "fmnist-scnn"]) == 2
    assert "no patch gate that ranks" in capsys.readouterr().err
    assert main(["bench", "tokens", "--ticket", "nmnist-spikeformer", "--keep", "65"]) == 2
    assert "--keep 65 is outside 1..64" in capsys.readouterr().err


def test_the_bundled_numbers_are_marked(tmp_path):
    keep = next(iter(ticket.load(bundled.find("nmnist-spikeformer")).network.gates.values())).keep
    points = [tokens.TokenPoint("a", 64, n, n == keep, 0.5, 0.4, None if n == 64 else 1e4 * n, 10)
              for n in (64, keep, 8)]
    assert plot_tokens(tmp_path / "a.png", points).stat().st_size > 5000
