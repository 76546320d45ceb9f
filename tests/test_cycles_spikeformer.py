"""The cycle model with attention, patch gates and overlapping pools; `tests/test_core.py` holds it
to the RTL, cycle for cycle."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.config import PRESETS, TIMESTEPS_PER_GROUP
from sim.samples.networks import random_input
from sim.samples.spikeformers import random_masks, random_spikeformer
from sim.units.attention import model as attention_model
from sw.compile.compiler import DoesNotFit, compile_network
from sw.core import attention_items, cycles, machine, synthetic
from sw.core.steps import source
from sw.core.steps.inputs import END
from sw.errors import SpikeTicketError
from sw.integer import reference
from sw.integer.gate import MODES

CONFIGS = {
    "tiny": replace(PRESETS["tiny"], map_words=4096, weight_words=8192, program_words=4096),
    "two_lanes": replace(PRESETS["a100tf"], engines=3, map_words=4096),
}
WINDOW, WORDS = 8, 2048


def compiled(count: int, config, seed: int, modes=(None, *MODES), **options):
    """Random Spikeformers with image, input and mask."""
    rng = np.random.default_rng(seed)
    while count:
        network = random_spikeformer(rng, modes=modes, column=False, **options)
        array, masks = random_input(rng, network), random_masks(rng, network, 1)
        try:
            image = compile_network(network, config, keep_all=True)
        except DoesNotFit:
            continue
        count -= 1
        yield network, image, array, None if masks is None else masks[0]


# The source of items


@st.composite
def sources(draw):
    """An attention layer in a memory of random spikes: (memory, layer, rows, prepared items)."""
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    words, width = draw(st.integers(1, 8)), draw(st.integers(8, 20))
    density = draw(st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.0]))
    memory = (rng.random((WORDS, WINDOW, 4)) < density) @ np.array([1, 2, 4, 8])
    layer = {"words": words, "width": width, "channel_stride": words, "key": 5,
             "value": 5 + 3 * width * words, "group_stride": 6 * width * words}
    rows = np.sort(rng.choice(3 * width, 3, replace=False))
    silent = layer["value"] + int(rows[1]) * words
    memory[silent:silent + words] = 0
    bits = np.uint64(1) << np.arange(WINDOW, dtype=np.uint64)
    spikes = np.stack([((memory >> t & 1).astype(np.uint64) * bits).sum(1, dtype=np.uint64)
                       for t in range(TIMESTEPS_PER_GROUP)], axis=1)
    header = {"n_groups": 2, "key": layer["key"], "value": layer["value"], "key_words": words,
              "key_group_stride": layer["group_stride"], "head_width": width}
    return memory.tolist(), layer, rows, attention_items.prepare(spikes, rows, header)


def run_pass(state, number, row, prepared, layer, grants, takes_items):
    """Items with their cycles, and the cycle of the end; grants, takes_items: cycle -> bool."""
    steps, channels, starts, takes, silent = prepared
    source.source_begins(state, 0, number, row, starts)
    items, cycle = [], 0
    while True:
        granted = source.source_asks(state, 0) and grants(cycle)
        item = source.source_step(state, 0, granted, takes_items(cycle), layer["words"],
                                layer["width"], takes, silent)
        assert 0 <= state.level[0] <= 15
        if item == END:
            return items, cycle
        if item >= 0:
            items.append((cycle, int(channels[item]), int(steps[item])))
        cycle += 1
        assert cycle < 10_000


def wanted_items(memory, layer, row, group):
    sums = attention_model.pass_sums(memory, layer, row, group)
    head = row - row % layer["width"]
    return sums, [(item["channel"], item["timesteps"]) for i, total in enumerate(sums or [])
                  for item in attention_model.sums_to_items(total, head + i)]


def always(_):
    return True


@given(sources())
@settings(max_examples=25, deadline=None)
def test_source_has_the_timing_of_its_contract(drawn):
    memory, layer, rows, prepared = drawn
    state, before = source.new_source(1), 0
    for number in range(2 * len(rows)):
        row = int(rows[number // 2])
        sums, wanted = wanted_items(memory, layer, row, number % 2)
        times, end = attention_model.pass_cycles(layer, source.SLICES, row - before, sums)
        items, done = run_pass(state, number, row, prepared, layer, always, always)
        assert [item[1:] for item in items] == wanted
        assert [item[0] for item in items] == times
        assert done == end
        before = row


@given(sources(), st.integers(0, 1 << 32), st.floats(0.2, 1), st.floats(0.05, 1))
@settings(max_examples=25, deadline=None)
def test_source_loses_nothing_when_it_waits(drawn, seed, port, taker):
    memory, layer, rows, prepared = drawn
    rng, state = np.random.default_rng(seed), source.new_source(1)
    for number in range(2 * len(rows)):
        row = int(rows[number // 2])
        _, wanted = wanted_items(memory, layer, row, number % 2)
        items, _ = run_pass(state, number, row, prepared, layer, lambda _: rng.random() < port,
                            lambda _: rng.random() < taker)
        assert [item[1:] for item in items] == wanted


def test_constants_equal_the_gateware():
    from hw.attention import FULL, AttentionSource
    parallel = inspect.signature(AttentionSource).parameters["parallel"].default
    assert source.SLICES == TIMESTEPS_PER_GROUP // parallel
    assert source.QUEUE_FULL == FULL


# Whole networks


@pytest.mark.parametrize("name", CONFIGS)
def test_counts_equal_the_machine_and_replay_the_simulation(name):
    names = (("words", "words"), ("weights", "weights"), ("updates", "updates"),
             ("codes", "codes"), ("written", "writes"))
    kinds = set()
    for network, image, array, mask in compiled(12, CONFIGS[name], seed=8):
        modelled = cycles.simulate(image, array, mask)
        run = machine.run(image, array, mask=mask)
        expected = reference.run(network, array[None], masks=None if mask is None else mask[None])
        assert np.array_equal(machine.logits(image, run), expected.logits[0])
        for layer, trace, info in zip(modelled.layers, run.layers, image.layers, strict=True):
            kinds.add(info.kind)
            quiet = sum(c["silent_values"] for c in trace.counters)
            for ours, theirs in names:
                total = sum(c[theirs] for c in trace.counters)
                extra = layer.counters[ours] - total
                # k is asked for at most twice before it is known that v is silent.
                assert extra == 0 or (ours == "words" and 0 < extra <= 2 * quiet), (
                    network.name, layer.name, ours)
        assert sum(modelled.by_cause.values()) == pytest.approx(modelled.total)
        spikes = {name: s[:, 0] for name, s in expected.spikes.items()}
        assert cycles.replay(image, spikes, mask=mask).as_dict() == modelled.as_dict()
        assert cycles.forecast(image).total > 0
    assert kinds >= {"synapses", "attention", "gate", "select"}


SMALL_RUNS = """
from dataclasses import replace
import numpy as np
from hw import program
from sw.compile.listing import read_program
import sys
from tests import test_cycles, test_cycles_spikeformer as here
from sw.core import cycles, machine
from sw.core.weights import Weights
for network, image, array in test_cycles.compiled(8, here.CONFIGS["two_lanes"], 1):
    machine.run(image, array), cycles.simulate(image, array)
for name in here.CONFIGS:
    for network, image, array, mask in here.compiled(6, here.CONFIGS[name], 2):
        machine.run(image, array, mask=mask), cycles.simulate(image, array, mask)
        cycles.forecast(image)
fields = [(program.plain(field), width) for word in program.HEADER for field, width in word]
rng = np.random.default_rng(5)
for network, image, array, mask in here.compiled(4, here.CONFIGS["tiny"], 6, max_blocks=1):
    for code in read_program(image.program, image.config):
        for at in rng.choice(len(fields), 8, replace=False):
            name, width = fields[at]
            wrong = replace(code, header=code.header | {name: int(rng.integers(1 << width))})
            shape = image.config.map_words, image.config.window
            lanes = rng.integers(0, 16, shape).astype(np.uint8)
            try:
                machine.run_layer(wrong, Weights.of(image).of_layer(code), lanes, image.config)
            except RuntimeError:
                pass
print("done")
"""


def test_kernels_stay_within_their_arrays(tmp_path):
    """Numba does not check indices otherwise; its cache does not know whether it did."""
    env = os.environ | {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", SMALL_RUNS], env=env, capture_output=True,
                         text=True)
    assert run.stdout == "done\n", run.stderr[-2000:]


def test_gate_takes_what_its_walks_take():
    for _, image, array, mask in compiled(6, CONFIGS["tiny"], seed=1, modes=("count", "host")):
        run = cycles.simulate(image, array, mask)
        gate, step = image.gate, run.layers[image.gate.step]
        tokens = int(gate.positions[-1]) + 1
        assert step.by_cause["gate"] == step.cycles - step.by_cause["program"] - 3
        assert step.cycles > tokens * (1 if gate.mode == "host" else 3)
        assert step.counters["updates"] == step.counters["neurons"] == 0


@pytest.mark.parametrize("mode", ["host", "count"])
def test_fewer_kept_patches_take_fewer_cycles(mode):
    network, *_ = next(
        case for case in compiled(20, CONFIGS["tiny"], seed=2, modes=(mode,), max_blocks=1)
        if case[0].gates["gate"].keep >= 8)

    def behind_the_gate(keep):
        gate = replace(network.gates["gate"], keep=keep)
        image = compile_network(replace(network, layers=tuple(
            gate if layer.name == "gate" else layer for layer in network.layers)), CONFIGS["tiny"])
        found = cycles.forecast(image, dict.fromkeys(image.maps, 0.5))
        return sum(layer.cycles for layer in found.layers[image.gate.step + 1:])

    keep = network.gates["gate"].keep
    taken = [behind_the_gate(n) for n in (keep, keep // 2, 1)]
    assert taken == sorted(taken, reverse=True) and taken[0] > taken[-1]


@given(st.integers(1, 16), st.floats(0, 1), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_synthetic_spikes_have_the_activity_they_should(timesteps, active, seed):
    chances = synthetic.independent(np.array([active, 0.0, 1.0]), timesteps)
    assert np.allclose(chances.sum(2), 1)
    assert np.allclose(1 - chances[:, :, 0], [active, 0, 1])
    spikes = synthetic.draw(np.random.default_rng(seed), chances, timesteps, (4, 6))
    assert spikes.shape == (timesteps, 3, 4, 6)
    found = np.stack([spikes[first:first + 4].any(0) for first in range(0, timesteps, 4)])
    counts = found.sum((2, 3))
    assert np.abs(counts[:, 0] - 24 * active).max() < 1.001
    assert (counts[:, 1] == 0).all() and (counts[:, 2] == 24).all()


# What the gate keeps in the software core


def chosen(scores, keep=4, *, pitch=4, valid=3, positions=11, host=None):
    """Kept flat positions of 3 rows of 3 tokens at pitch 4."""
    gate = machine.GateState.begin(PRESETS["tiny"], host)
    gate.scores[:len(scores)] = scores
    gate.enter({"gate": 1, "score_clear": 0, "gate_host": int(host is not None),
                "pitch_mask": pitch - 1, "row_valid": valid, "positions": positions,
                "out_pitch": keep, "strip_words": 6})
    assert np.array_equal(np.flatnonzero(gate.mask), gate.tokens[:gate.kept])
    return gate.tokens[:gate.kept].tolist()


def test_gate_takes_the_highest_scores_and_the_lower_position_of_equal_ones():
    assert chosen([1, 1, 9, 50, 1, 9, 1, 50, 1, 1, 1, 50]) == [0, 1, 2, 5]
    assert chosen([0] * 12) == [0, 1, 2, 4]
    assert chosen([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0], keep=1) == [10]
    assert chosen([7] * 12, keep=9) == [0, 1, 2, 4, 5, 6, 8, 9, 10]


def test_gate_takes_the_hosts_mask_where_there_are_tokens():
    assert chosen([], host=[0b1111_1000_0101, 0]) == [0, 2, 8, 9, 10]
    assert chosen([], host=[0xFFFFFFFF, 0xFFFFFFFF]) == [0, 1, 2, 4, 5, 6, 8, 9, 10]


def test_a_mask_that_the_gate_cannot_use_is_refused():
    _, image, array, mask = next(compiled(1, CONFIGS["tiny"], seed=4, modes=("host",)))
    for wrong in (None, mask[:-1], ~mask if mask.sum() * 2 != mask.size else mask & False):
        with pytest.raises(SpikeTicketError, match="gate"):
            cycles.simulate(image, array, wrong)
