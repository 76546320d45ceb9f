"""Masks and the rules of early stopping: exact sparsity, no regrowth, T' on a constructed case."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sw.errors import SpikeTicketError
from sw.tickets import masks
from sw.tickets.early import EarlyBird, divergence, search_timesteps

SHAPES = st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=3), min_size=1, max_size=4)
SPARSITY = st.floats(0, 0.999)


def weights(shapes, seed=0, values=None) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for i, shape in enumerate(shapes):
        w = torch.randn(shape, generator=generator)
        made[f"w{i}"] = w if values is None else (w * values).round() / values
    return made


@given(SHAPES, SPARSITY, st.integers(0, 9))
def test_masks_have_exactly_the_asked_sparsity(shapes, sparsity, seed):
    w = weights(shapes, seed, values=2)  # many ties, many zeros
    total = sum(x.numel() for x in w.values())
    for mask in (masks.by_score(w, sparsity), masks.random_masks(w, sparsity, seed)):
        alive = sum(int(m.sum()) for m in mask.values())
        assert alive == max(1, round((1 - sparsity) * total))
        assert masks.sparsity_of(mask) == pytest.approx(1 - alive / total)
    for name, m in masks.by_score(w, sparsity, "layer").items():
        assert int(m.sum()) == max(1, round((1 - sparsity) * w[name].numel()))


@given(SHAPES, st.lists(SPARSITY, min_size=2, max_size=4), st.sampled_from(masks.SCOPES))
def test_masks_never_grow(shapes, sparsities, scope):
    w = weights(shapes)
    before = None
    for sparsity in sorted(sparsities):
        # Zeros everywhere: ranks that tell survivors and removed weights apart by nothing.
        now = masks.by_score({n: torch.zeros_like(x) for n, x in w.items()}, sparsity, scope,
                             within=before)
        if before is not None:
            assert all(not (now[n] & ~before[n]).any() for n in now)
        before = now


@given(SHAPES, SPARSITY, st.integers(0, 9), st.floats(1e-3, 1e3))
def test_lamp_does_not_see_a_layer_s_scale(shapes, sparsity, seed, scale):
    w = weights(shapes, seed)
    total = sum(x.numel() for x in w.values())
    mask = masks.by_score(w, sparsity, "lamp")
    alive = max(1, round((1 - sparsity) * total))
    assert sum(int(m.sum()) for m in mask.values()) == alive
    if alive >= len(w):  # a layer's largest weight has the largest rank there is
        assert all(m.any() for m in mask.values())
    scores, scaled = masks.lamp(w["w0"].abs()), masks.lamp((w["w0"] * scale).abs())
    assert torch.allclose(scores, scaled, rtol=1e-5)
    assert float(scores.max()) == pytest.approx(1.0)
    assert torch.equal(masks.largest(scores, 2), masks.largest(w["w0"].abs(), 2))


def test_lamp_of_a_known_layer():
    scores = masks.lamp(torch.tensor([[1.0, 3.0], [-1.0, 2.0]]))  # -1: removed before
    assert scores.flatten().tolist() == pytest.approx([1 / 14, 1.0, -1.0, 4 / 13])
    assert masks.lamp(torch.zeros(3)).tolist() == [0, 0, 0]
    # Magnitudes alone would empty the layer of small weights.
    w = {"big": torch.arange(10.0, 20.0), "small": torch.arange(10.0, 20.0) / 1000}
    assert not masks.by_score(w, 0.5)["small"].any()
    assert masks.by_score(w, 0.5, "lamp")["small"].tolist() == [False] * 5 + [True] * 5


def test_growing_is_refused():
    w = {"a": torch.arange(10.0)}
    half = masks.by_score(w, 0.5)
    with pytest.raises(SpikeTicketError, match=r"keeps 8 weights, but only 5 are left"):
        masks.by_score(w, 0.2, within=half)


def test_ties_stay_with_the_earlier_weight():
    mask = masks.by_score({"a": torch.ones(3), "b": torch.ones(3)}, 0.5)
    assert mask["a"].all() and not mask["b"].any()


def test_overlap_and_distance():
    a = {"w": torch.tensor([True, True, False, False])}
    b = {"w": torch.tensor([True, False, True, False])}
    assert masks.overlap(a, a) == 1 and masks.distance(a, a) == 0
    assert masks.overlap(a, b) == pytest.approx(1 / 3) and masks.distance(a, b) == 0.5


@pytest.mark.parametrize("arguments, message", [
    ((1.0,), r"sparsity 1\.0"), ((-0.1,), r"sparsity -0\.1"), ((0.5, "row"), "scope 'row'")])
def test_bad_values_are_named(arguments, message):
    with pytest.raises(SpikeTicketError, match=message):
        masks.by_score({"a": torch.ones(3)}, *arguments)


# -- early bird, early time -----------------------------------------------------------------------


def row(*indices: int) -> masks.Masks:
    mask = torch.zeros(100, dtype=torch.bool)
    mask[list(indices)] = True
    return {"w": mask}


def test_early_bird_needs_a_whole_window_of_near_masks():
    bird = EarlyBird(limit=0.02, window=5)
    assert [bird.settled(row(0, 1)) for _ in range(6)] == [False] * 5 + [True]
    assert not bird.settled(row(0, 2))  # 2 of 100 places differ: 0.02 is not below 0.02
    assert [bird.settled(row(0, 2)) for _ in range(5)] == [False] * 4 + [True]
    assert not bird.settled(row(0, 1))


def test_early_bird_goes_on_from_a_checkpoint():
    bird, again = EarlyBird(window=2), EarlyBird(window=2)
    bird.settled(row(1))
    bird.settled(row(1))
    again.restore(bird.state())
    assert again.settled(row(1)) and bird.settled(row(1))


def test_early_time_is_the_first_timestep_below_the_threshold():
    """Logits whose divergences from the last are 4 : 2 : 1 : 0, up to their size."""
    full = torch.tensor([[2.0, 0.0, -1.0]])
    wanted = [0.4, 0.2, 0.1]
    outputs = []
    for kl in wanted:  # bisection for the perturbation that diverges this far
        low, high = 0.0, 20.0
        for _ in range(60):
            middle = (low + high) / 2
            near = divergence(full + torch.tensor([[-middle, 0, 0]]), full) < kl
            low, high = (middle, high) if near else (low, middle)
        outputs.append(full + torch.tensor([[-low, 0, 0]]))
    outputs.append(full)
    assert [divergence(o, full) for o in outputs] == pytest.approx([*wanted, 0], abs=1e-3)
    assert search_timesteps(outputs) == 2  # 0.2 / 0.4 = 0.5 < 0.6
    assert search_timesteps(outputs, threshold=0.4) == 3
    assert search_timesteps(outputs, threshold=0.1) == 4
    assert search_timesteps(outputs[-1:]) == 1


def test_early_time_with_equal_outputs_is_one_timestep():
    assert search_timesteps([torch.ones(2, 3)] * 4) == 1


def test_early_rules_name_bad_values():
    with pytest.raises(SpikeTicketError, match="threshold 0"):
        search_timesteps([torch.ones(2, 3)], 0)
    with pytest.raises(SpikeTicketError, match="at least one timestep"):
        search_timesteps([])
    with pytest.raises(SpikeTicketError, match="window 0"):
        EarlyBird(window=0)
