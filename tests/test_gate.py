"""The patch gate: which tokens stay, what the rest of the network sees, and what is refused."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sw.errors import SpikeTicketError
from sw.integer import reference, tokens
from sw.integer import spikingjelly as integer
from sw.integer.attention import Attention
from sw.integer.gate import Gate, Select, check_masks
from sw.integer.network import InputSpec, Layer, Network, Neuron, Synapses
from sw.integer.spikingjelly import IntegerNetwork

pytestmark = pytest.mark.usefixtures("one_thread")

CHANNELS, SIDE, STEPS = 8, 4, 3


def conv(name, sources, channels_in, seed, kernel=1, theta=5, sum_pool=1):
    w = np.random.default_rng(seed).integers(-3, 4, (CHANNELS, channels_in, kernel, kernel))
    syn = Synapses(w.astype(np.int8), sources, padding=kernel // 2, sum_pool=sum_pool)
    return Layer(name, (syn,), np.zeros(CHANNELS, np.int64), np.full(CHANNELS, theta, np.int64),
                 Neuron(128))


def gated(mode, keep, *, static=True, grid=(SIDE, SIDE), scores=("a", "b"), mask=None,
          bits=4) -> Network:
    """Two maps of 4x4 tokens from 8x8 inputs, gated; attention and a readout behind."""
    gate = Gate("gate", mode, keep, grid, scores if mode == "count" else (), mask)
    layers = [conv("a", ("input",), 2, 0, theta=20, sum_pool=2),
              conv("b", ("a",), CHANNELS, 1, kernel=3)]
    layers.insert(0 if mode == "input" else 2, gate)
    layers += [Select("ka", "a", "gate"), Select("kb", "b", "gate")]
    layers += [conv(name, ("ka", "kb"), CHANNELS, seed) for seed, name in enumerate("qkv", 2)]
    layers.append(Layer("s", (), np.zeros(CHANNELS, np.int64), np.full(CHANNELS, 2, np.int64),
                        Neuron(128), None, Attention("q", "k", "v", 1)))
    ones = np.ones((3, CHANNELS, 1, 1), np.int8)
    layers.append(Layer("out", (Synapses(ones, ("ka", "kb", "s")),), np.ones(3, np.int64),
                        np.zeros(3, np.int64), None))
    return Network(InputSpec(2, 8, 8, bits, static), STEPS, tuple(layers))


def both(network, x, masks=None):
    """The reference's run, after checking that the integer network gives the same."""
    run = reference.run(network, x, masks=masks)
    spikes, kept = {}, {}
    tensor = torch.from_numpy(x)
    logits = IntegerNetwork(network)(tensor if network.input.static else tensor.transpose(0, 1),
                                     spikes, None if masks is None else torch.from_numpy(masks),
                                     kept)
    assert np.array_equal(logits.numpy(), run.logits)
    assert np.array_equal(kept["gate"].numpy(), run.kept["gate"])
    for name, s in spikes.items():
        assert np.array_equal(s.numpy(), run.spikes[name]), name
    return run


def images(seed, static=True, batch=3, top=16):
    shape = (batch, 2, 8, 8) if static else (batch, STEPS, 2, 8, 8)
    rng = np.random.default_rng(seed)
    return (rng.integers(0, top, shape) * (rng.random(shape) < 0.5)).astype(np.uint8)


def by_rule(scores, keep):
    """The `keep` largest, ties to the lower index, by sorting pairs."""
    return [sorted(sorted(range(len(row)), key=lambda n: (-row[n], n))[:keep]) for row in scores]


def test_static_and_host_masks_choose_what_they_say():
    x = images(0)
    mask = np.zeros(16, bool)
    mask[[1, 6, 7, 15]] = True
    assert both(gated("static", 4, mask=mask), x).kept["gate"].tolist() == [[1, 6, 7, 15]] * 3
    masks = np.stack([np.roll(mask, shift) for shift in range(3)])
    run = both(gated("host", 4), x, masks)
    assert run.kept["gate"].tolist() == [[1, 6, 7, 15], [0, 2, 7, 8], [1, 3, 8, 9]]
    assert np.array_equal(both(gated("host", 4), x, masks.astype(np.uint8)).logits, run.logits)


@pytest.mark.parametrize("keep", [1, 5, 16])
@pytest.mark.parametrize("scores", [("a",), ("a", "b")])
def test_counts_are_spikes_over_time_channels_and_maps(keep, scores):
    run = both(gated("count", keep, scores=scores), images(1))
    counts = sum(run.spikes[name].sum((0, 2)).reshape(3, 16).astype(int) for name in scores)
    assert len(np.unique(counts)) > 4
    assert run.kept["gate"].tolist() == by_rule(counts.tolist(), keep)


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("keep", [1, 6, 16])
def test_input_gates_rank_patches_and_zero_the_others(static, keep):
    x = images(2, static)
    run = both(gated("input", keep, static=static), x)
    patches = x.astype(int).reshape(3, -1, 4, 2, 4, 2).sum((1, 3, 5)).reshape(3, 16)
    assert run.kept["gate"].tolist() == by_rule(patches.tolist(), keep)
    for b in range(3):
        for n in range(16):
            r, c = divmod(n, 4)
            window = (b, ..., slice(2 * r, 2 * r + 2), slice(2 * c, 2 * c + 2))
            seen = run.spikes["input"][(slice(None), *window)]
            if n in run.kept["gate"][b]:
                assert (seen == (x[window][None] if static else x[window])).all()
            else:
                assert not seen.any()


@pytest.mark.parametrize("mode", ["count", "input"])
def test_silent_and_uniform_images_keep_the_lowest_indices(mode):
    x = np.stack([np.zeros((2, 8, 8), np.uint8), np.full((2, 8, 8), 15, np.uint8)])
    run = both(gated(mode, 5, scores=("a",)), x)        # a: no neighbours, so all counts are equal
    assert run.kept["gate"].tolist() == [[0, 1, 2, 3, 4]] * 2
    assert not run.spikes["ka"][:, 0].any()


def test_behind_the_gate_only_kept_tokens_exist():
    """Dropping the same tokens by hand and running the layers behind gives the same spikes."""
    network = gated("count", 6)
    run = both(network, images(3))
    for b in range(3):
        maps = {k: run.spikes[name][:, b:b + 1].reshape(STEPS, 1, CHANNELS, 1, 16)[
            ..., run.kept["gate"][b]] for k, name in (("ka", "a"), ("kb", "b"))}
        for layer in network.layers[5:]:
            current = reference.layer_current(network, layer, maps)
            assert current.shape[3:] == (1, 6)
            if layer.neuron is not None:
                maps[layer.name] = reference.fire(layer.neuron, layer.threshold, current, STEPS)
                assert np.array_equal(maps[layer.name][:, 0], run.spikes[layer.name][:, b])
            else:
                assert np.array_equal(current.sum((0, 1, 3, 4)), run.logits[b])


def test_keeping_all_tokens_changes_nothing_but_the_shape():
    x = images(4)
    every = both(gated("count", 16), x)
    ones = np.ones(16, bool)
    static = both(gated("static", 16, mask=ones), x)
    assert np.array_equal(every.logits, static.logits)
    assert np.array_equal(every.spikes["ka"].reshape(STEPS, 3, CHANNELS, 4, 4), every.spikes["a"])
    assert np.array_equal(both(gated("input", 16), x).spikes["s"], every.spikes["s"])


def test_batches_and_evaluation_pass_masks_on():
    x = images(5, batch=5)
    masks = np.random.default_rng(6).random((5, 16)).argsort(1) < 4
    network = gated("host", 4)
    whole, parts = (reference.run(network, x, masks=masks, batch=b) for b in (5, 2))
    assert np.array_equal(whole.logits, parts.logits)
    assert np.array_equal(whole.kept["gate"], parts.kept["gate"])
    assert integer.evaluate(network, x, whole.labels, batch=2, masks=masks)[0] == 1.0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), min_size=9, max_size=9), min_size=1, max_size=4),
       st.integers(1, 9))
def test_both_implementations_rank_by_the_rule(scores, keep):
    expected = by_rule(scores, keep)
    assert tokens.top_tokens(torch.tensor(scores), keep).tolist() == expected
    gate = Gate("gate", "input", keep, (3, 3))
    values = np.array(scores, np.uint8).reshape(1, -1, 1, 3, 3)
    assert gate.choose({"input": values}, None, len(scores)).tolist() == expected
    assert np.array_equal(tokens.patch_scores(torch.from_numpy(values), (3, 3)), scores)


def test_scores_stay_below_their_bound():
    network = gated("count", 3)
    shapes = network.shapes()
    gate = network.gates["gate"]
    assert gate.score_bound(network.input, shapes, STEPS) == STEPS * 2 * CHANNELS
    patch = Gate("g", "input", 1, (4, 4))
    assert patch.score_bound(network.input, shapes, STEPS) == 15 * 2 * 4
    events = InputSpec(2, 8, 8, 4, static=False)
    assert patch.score_bound(events, shapes, STEPS) == 15 * 2 * 4 * STEPS
    full = np.full((STEPS, 1, 2, 8, 8), 15, np.uint8)
    assert (patch.patch_sums(full) == 15 * 2 * 4 * STEPS).all()


ONE = np.arange(16) == 3


@pytest.mark.parametrize("arguments, message", [
    (("g", "best", 1, (4, 4)), "mode 'best' is not one of static, host, count, input"),
    (("g", "host", 0, (4, 4)), "'g': keep 0 is outside 1..16"),
    (("g", "host", 17, (4, 4)), "keep 17 is outside 1..16"),
    (("g", "host", 1, (4, 0)), "grid"),
    (("g", "host", 1, (17, 16)), "272 tokens are more than 256"),
    (("g", "count", 1, (4, 4)), "'count' needs maps"),
    (("g", "input", 1, (4, 4), ("a",)), "the others have none"),
    (("g", "static", 1, (4, 4)), "mask belongs to mode 'static'"),
    (("g", "host", 1, (4, 4), (), ONE), "mask belongs to mode 'static'"),
    (("g", "static", 2, (4, 4), (), ONE), "mask keeps 1 tokens, not 2"),
    (("g", "static", 1, (4, 4), (), ONE[:15]), r"\[15\], not bool \[16\]"),
    (("g", "static", 1, (4, 4), (), ONE.astype(np.uint8)), "uint8"),
])
def test_gates_are_checked(arguments, message):
    with pytest.raises(SpikeTicketError, match=message):
        Gate(*arguments)


def test_networks_refuse_gates_that_do_not_fit():
    base = gated("count", 4)

    def build(*changes):
        layers = list(base.layers)
        for index, layer in changes:
            layers[index] = layer
        return Network(base.input, STEPS, tuple(layers))
    assert build((2, base.layers[2])).shapes() == base.shapes()
    for change, message in (
            ((2, Gate("gate", "count", 4, (4, 4), ("zz",))), "score 'zz' is not an earlier"),
            ((2, Gate("gate", "count", 4, (4, 4), ("input",))), "score 'input' is not an"),
            ((2, Gate("gate", "count", 4, (2, 8), ("a",))), "has 4x4 tokens, not 2x8"),
            ((2, Gate("gate", "host", 4, (2, 8))), "gate 'gate' chooses from 2x8"),
            ((2, Gate("gate", "input", 4, (4, 4))), "must come first"),
            ((3, Select("ka", "a", "door")), "'door' is not an earlier gate"),
            ((3, Select("ka", "input", "gate")), "source 'input' is not an earlier spike map"),
            ((3, Select("a", "a", "gate")), "'a': name used twice"),
            ((3, Select("gate", "a", "gate")), "'gate': name used twice")):
        with pytest.raises(SpikeTicketError, match=message):
            build(change)
    with pytest.raises(SpikeTicketError, match="second gate with masks from the host"):
        hosted = gated("host", 4).layers
        Network(base.input, STEPS, (*hosted[:2], Gate("g2", "host", 3, (4, 4)), *hosted[2:]))
    with pytest.raises(SpikeTicketError, match="8x8 inputs do not divide into 3x4"):
        gated("input", 4, grid=(3, 4))


@pytest.mark.parametrize("masks, message", [
    (None, r"takes a mask with every image; give bool \[3, 16\]"),
    (np.ones((3, 15), bool), r"masks of shape \[3, 15\]; give \[3, 16\]"),
    (np.ones((2, 16), bool), r"masks of shape \[2, 16\]"),
    (np.ones((3, 16), bool), "mask of image 0 keeps 16 tokens, not 4"),
    (np.zeros((3, 16), bool), "keeps 0 tokens, not 4"),
    (np.full((3, 16), 2), "other values than 0 and 1"),
    (np.ones((3, 16), np.float32), "float32"),
])
def test_masks_from_the_host_are_checked(masks, message):
    network = gated("host", 4)
    with pytest.raises(SpikeTicketError, match=message):
        reference.run(network, images(7), masks=masks)
    with pytest.raises(SpikeTicketError, match=message):
        IntegerNetwork(network)(torch.from_numpy(images(7)), None,
                                None if masks is None else torch.from_numpy(masks))


def test_masks_nobody_asked_for_are_refused():
    with pytest.raises(SpikeTicketError, match="no gate of this network takes them"):
        reference.run(gated("count", 4), images(8), masks=np.ones((3, 16), bool))
    assert check_masks({}, None, 3) is None
    with pytest.raises(SpikeTicketError, match="keep 17 is outside"):
        tokens.top_tokens(torch.zeros(1, 16), 17)
