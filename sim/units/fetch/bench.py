"""`hw.fetch.Fetch` against its model: which words are read and which jobs they become.

Random tap and plane tables over a random map memory; the bench blocks the map port and fills the
queues at random, and asks for words as attention does. Settings: config, seed, layers (how many),
weights (per layer).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, ReadOnly

from hw import layouts, program
from hw.config import CoreConfig
from sim.helpers import settings, start
from sim.streams import MODES, Codec, Source, Stalls, seeded
from sim.units.fetch import model
from sim.units.layers import DEFAULT_LAYER, layer_bits, wrap

WORD_TO_QUEUE = 4
"""Cycles from the request of a word to the push of its jobs, at most."""

MARKER_TO_QUEUE = 3
"""The same for a marker, exactly."""

PIPELINE = 14
"""Cycles from an item's arrival to its push, at most, if nothing holds it up."""


@dataclass
class Scene:
    """One layer: parameters, tables, weights and what they must become."""

    layer: dict
    taps: list[dict]
    planes: list[dict]
    items: list[dict]
    words: int = 0                                  # live map words: those with a spike
    weights: int = 0
    busy: int = 0                                   # cycles that the weights take at most
    pushes: list[dict[int, dict] | None] = field(default_factory=list)    # None: an end marker


def random_scene(rng: np.random.Generator, config: CoreConfig, memory: list[list[int]],
                 weights: int) -> Scene:
    window = config.window
    strip_words = int(rng.integers(1, config.tile_words + 1))
    last_words = int(rng.integers(1, strip_words + 1))
    row_words = int(rng.choice([1, 1, 2, 4]))
    top = 1 << layouts.value(config).width - 1
    planes_per_group = int(rng.integers(0, config.planes // 4 + 1))
    layer = DEFAULT_LAYER | {
        "strip_words": strip_words, "strip_words_last": last_words,
        "positions": strip_words * window,
        "positions_last": int(rng.integers((last_words - 1) * window + 1, last_words * window + 1)),
        "row_words_mask": row_words - 1, "planes_per_group": planes_per_group}
    planes = [{"offset": int(rng.integers(0, 100)), "shift": int(rng.integers(0, 8))}
              for _ in range(config.planes)]
    taps = [random_tap(rng, config) for _ in range(config.taps)]
    scene = Scene(layer, taps, planes, [])
    for _ in range(weights):
        if rng.random() < 0.08:
            scene.items.append({"end": 1, "tap": 0, "channel": 0, "value": 0, "timesteps": 0,
                                "strip_word": 0, "last_strip": 0, "group": 0})
            scene.pushes.append(None)
            scene.busy += 1
            continue
        tap = int(rng.integers(0, config.taps))
        strips = int(rng.integers(0, 4))
        item = {"end": 0, "tap": tap, "channel": int(rng.integers(0, 16)),
                "value": int(rng.choice([-top, top - 1, 1, -1, rng.integers(-top, top)])),
                "timesteps": int(rng.choice([15, rng.integers(1, 16)])) if config.attention else 0,
                "strip_word": strips * strip_words, "last_strip": int(rng.integers(0, 2)),
                "group": int(rng.integers(0, 4))}
        scene.items.append(item)
        scene.weights += 1
        for words in model.fetch_words(item, layer, taps[tap], planes, config):
            live = [word for word in words if any(memory[word[0]])]
            scene.words += len(live)
            scene.busy += max(1, len(live))
            scene.pushes += [
                model.deal_word(memory[address], j, wrap(weight, config.acc_bits), item,
                                 layer, taps[tap], config) for address, j, weight in live]
    return scene


def random_tap(rng: np.random.Generator, config: CoreConfig) -> dict:
    window = config.window
    reach = 3 * window
    shift = int(rng.choice([0, 1, -1, window, -window, rng.integers(-reach, reach)]))
    full = (1 << window) - 1
    mask = full if rng.random() < 0.5 else int.from_bytes(rng.bytes(window // 8), "little")
    return {
        "base": int(rng.integers(0, config.map_words // 2)),
        "channel_stride": int(rng.integers(0, 12)), "channels": int(rng.integers(1, 1 << 12)),
        "word_offset": shift // window + int(rng.choice([0, 0, 0, 1, -1])), "shift": shift,
        "extra": int(rng.integers(0, 2)), "mask": mask, "mask_low": mask & 0xFFFFFFFF,
        "mask_high": mask >> 32,
        "edge": int(rng.choice([program.EDGE_ALWAYS, program.EDGE_FIRST, program.EDGE_LAST])),
        "plane_start": int(rng.integers(0, config.planes // 8)),
        "plane_count": int(rng.integers(1, 4)), "channel_words": int(rng.integers(1, 14))}


def random_memory(rng: np.random.Generator, config: CoreConfig) -> list[list[int]]:
    """Spike masks of every word: silent, saturated, sparse and dense words."""
    shape = (config.map_words, config.window)
    lanes = rng.integers(0, 16, shape) * (rng.random(shape) < rng.choice(
        [0.0, 0.05, 0.3, 1.0], (config.map_words, 1)))
    lanes[rng.random(config.map_words) < 0.1] = 15
    return lanes.tolist()


@cocotb.test()
@cocotb.parametrize(mode=MODES)
async def layers(dut, mode):
    config = CoreConfig(**settings()["config"])
    rng = seeded(settings()["seed"], mode)
    memory = random_memory(rng, config)
    for name in ("layer", "channels_tap", "tap_write", "tap_index", "tap", "plane_write",
                 "plane_index", "plane", "map_data", "port_blocked", "almost_full", "live_write",
                 "live_address", "live"):
        getattr(dut, name).value = 0
    port = SharedPort(dut, rng) if config.attention else None
    source = Source(dut, "items", layouts.weight_item(config))
    await start(dut, 60_000)
    stalls = Stalls(mode, rng)
    for address, lanes in enumerate(memory):
        await FallingEdge(dut.clk)
        dut.live_write.value, dut.live_address.value, dut.live.value = 1, address, any(lanes)
    await FallingEdge(dut.clk)
    # What stands there without a write does not matter.
    dut.live_write.value, dut.live.value = 0, not any(memory[-1])
    for _ in range(settings()["layers"]):
        scene = random_scene(rng, config, memory, settings()["weights"])
        await load(dut, scene)
        await run_scene(dut, config, scene, memory, source, port, stalls, rng)


class SharedPort:
    """Asks for map words at random, and checks that it gets every cycle that is free."""

    def __init__(self, dut, rng: np.random.Generator):
        self._dut, self._rng = dut, rng
        self._address: int | None = None        # granted in the cycle before
        self._free: list[tuple[bool, bool]] = []    # free but for a marker, granted
        dut.request.value = dut.request_address.value = 0

    def drive(self) -> None:
        self._dut.request.value = int(self._rng.random() < 0.6)
        self._dut.request_address.value = int(
            self._rng.integers(1 << len(self._dut.request_address)))

    def sample(self, blocked: bool, marker: bool) -> None:
        """blocked: the port is taken. marker: one is pushed in this cycle."""
        dut = self._dut
        if self._address is not None:
            assert int(dut.map_address.value) == self._address
        granted, request = dut.granted.value == 1, dut.request.value == 1
        self._address = int(dut.request_address.value) if granted else None
        self._free.append((request and not blocked and dut.issued.value == 0, granted))
        if len(self._free) > MARKER_TO_QUEUE:
            free, granted = self._free.pop(0)
            assert granted == (free and not marker)


async def load(dut, scene: Scene) -> None:
    await FallingEdge(dut.clk)
    dut.layer.value = layer_bits(scene.layer)
    for index, plane in enumerate(scene.planes):
        await FallingEdge(dut.clk)
        dut.plane_write.value, dut.plane_index.value = 1, index
        dut.plane.value = program.pack(program.PLANE, plane)
    for index, tap in enumerate(scene.taps):
        await FallingEdge(dut.clk)
        dut.plane_write.value, dut.tap_write.value, dut.tap_index.value = 0, 1, index
        dut.tap.value = sum(word << 32 * n
                            for n, word in enumerate(program.pack_words(program.TAP, tap)))
    await FallingEdge(dut.clk)
    dut.tap_write.value = 0
    for index in (0, len(scene.taps) - 1):
        dut.channels_tap.value = index
        await ReadOnly()
        assert int(dut.channels.value) == scene.taps[index]["channels"]
        await FallingEdge(dut.clk)


async def run_scene(dut, config, scene, memory, source, port, stalls, rng):
    words = [sum(mask << 4 * n for n, mask in enumerate(lanes)) for lanes in memory]
    job = Codec(layouts.job(config))
    source.add(scene.items)
    pushed, issues, push_times = [], [], []
    blocked, write_now = False, False
    address = seen = weights = quiet = time = first = last = 0
    while quiet < PIPELINE:
        await FallingEdge(dut.clk)
        # The port's turn was taken by a write: what comes back is some other word.
        dut.map_data.value = words[rng.integers(0, len(words)) if write_now else address]
        write_now = blocked
        blocked = stalls.output() and bool(rng.random() < 0.5)
        full = stalls.output() and not blocked
        dut.port_blocked.value, dut.almost_full.value = blocked, full
        source.drive(stalls.input())
        if port:
            port.drive()
        await ReadOnly()
        time += 1
        address = int(dut.map_address.value)
        if source.sample() and not first:
            first = time
        if dut.issued.value == 1:
            issues.append(time)
            assert not blocked and not full, "issued although the port or a queue was not free"
        if dut.starved.value == 0:
            last = time
            assert not full or dut.queue_stall.value == 1
        seen += int(dut.queue_stall.value) + int(dut.port_stall.value)
        weights += int(dut.weight.value)
        push = int(dut.push.value)
        if push:
            bits = int(dut.jobs.value)
            pushed.append({u: job.unpack(bits >> u * job.width)
                           for u in range(config.units) if push >> u & 1})
            push_times.append(time)
        if port:
            marker = bool(push) and not any(job["active"] for job in pushed[-1].values())
            port.sample(blocked, marker)
        quiet = 0 if push or not source.idle or dut.idle.value == 0 else quiet + 1
    compare(scene, pushed, config)
    assert len(issues) == scene.words and weights == scene.weights
    delays = word_delays(scene, issues, push_times)
    assert len(delays) <= 1 and max(delays, default=0) <= WORD_TO_QUEUE, delays
    if not stalls.any:
        assert not seen
        took = last - first
        assert scene.words <= took <= scene.busy + PIPELINE, (scene.words, took, scene.busy)


def compare(scene: Scene, pushed: list[dict[int, dict]], config: CoreConfig) -> None:
    expected = [push for push in scene.pushes if push != {}]
    for number, (want, got) in enumerate(zip(expected, pushed, strict=False)):
        if want is None:
            assert set(got) == set(range(config.units)), "an end goes to every unit"
            assert all(not job["active"] for job in got.values())
            continue
        assert set(got) == set(want), f"push {number}: units {sorted(got)}, not {sorted(want)}"
        for unit, job in want.items():
            mine = got[unit]
            # Masks of lanes that are not active do not matter.
            for found in (mine, job):
                found["masks"] = [mask if job["active"] >> m & 1 else 0
                                  for m, mask in enumerate(found["masks"])]
            assert mine == job, f"push {number}, unit {unit}: {mine}, not {job}"
    assert len(pushed) == len(expected)


def word_delays(scene: Scene, issues: list[int], push_times: list[int]) -> set[int]:
    """Cycles from a word's request to its push (words without an active lane push nothing)."""
    times, requests = iter(push_times), iter(issues)
    delays = set()
    for push in scene.pushes:
        request = next(requests) if push is not None else None
        if push != {}:
            at = next(times)
            if request is not None:
                delays.add(at - request)
    return delays
