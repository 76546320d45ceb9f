"""`hw.attention.AttentionSource` against its model: items of random passes.

The bench plays the map memory and grants requests late where the mode stalls the input. Settings:
config, parallel, seed, layers (how many a mode).
"""

from __future__ import annotations

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, ReadOnly

from hw.attention import attention_item, attention_layer
from hw.config import TIMESTEPS_PER_GROUP, CoreConfig
from hw.spike_counter import MAP_WORDS
from sim.helpers import settings, start
from sim.streams import MODES, Codec, Sink, Stalls, seeded
from sim.units.attention import model

MOST_READS = 260
"""Words of a pass; longer passes add time, not cases."""


def random_layer(rng: np.random.Generator, config: CoreConfig) -> tuple[dict, int, int]:
    """Layer, channels and groups."""
    words = int(rng.choice([1, 1, 2, 3, MAP_WORDS]))
    width = min(int(rng.choice([8, 9, 12, 32, 64])), MOST_READS // words)
    groups = int(rng.integers(1, 5))
    gap = int(rng.integers(0, 3))
    by_group = rng.random() < 0.5       # groups inside a channel or channels inside a group
    heads = int(rng.integers(1, 4))
    channel_stride = words + gap if by_group else groups * words + gap
    group_stride = channel_stride * width * heads if by_group else words
    return {
        "key": int(rng.integers(config.map_words)), "value": int(rng.integers(config.map_words)),
        "channel_stride": channel_stride, "channel_step": channel_stride - words + 1,
        "group_stride": group_stride % config.map_words, "words": words, "width": width,
    }, heads * width, groups


def random_memory(rng: np.random.Generator, config: CoreConfig) -> np.ndarray:
    """Masks [words][window]: silent, sparse, dense and full stretches."""
    shape = (config.map_words, config.window)
    masks = rng.integers(0, 1 << TIMESTEPS_PER_GROUP, shape)
    density = np.repeat(rng.choice([0.0, 0.05, 0.3, 1.0], config.map_words // 8), 8)
    masks *= rng.random(shape) < density[:, None]
    masks[np.repeat(rng.random(config.map_words // 8) < 0.15, 8)] = 15
    return masks


class Memory:
    """The map memory's read port: data two cycles after the grant, other words in between."""

    def __init__(self, dut, masks: np.ndarray, rng: np.random.Generator):
        self._dut, self._rng = dut, rng
        self.masks = masks.tolist()
        self._words = [sum(mask << 4 * lane for lane, mask in enumerate(word))
                       for word in self.masks]
        self._way: list[int | None] = [None, None]

    def silence(self, first: int, count: int) -> None:
        """Take the spikes out of `count` words."""
        for word in range(first, first + count):
            at = word % len(self._words)
            self._words[at], self.masks[at] = 0, [0] * len(self.masks[at])

    def drive(self, stalled: bool) -> None:
        """Answer the request of two cycles ago, and grant this cycle's unless stalled."""
        dut = self._dut
        arriving = self._way.pop(0)
        dut.data.value = self._words[
            int(self._rng.integers(len(self._words))) if arriving is None else arriving]
        granted = dut.request.value == 1 and not stalled
        dut.granted.value = granted
        self._way.append(int(dut.address.value) if granted else None)


@cocotb.test()
@cocotb.parametrize(mode=MODES)
async def passes(dut, mode):
    """Every item of every pass, in order; at full speed in the cycle that the contract says."""
    config, parallel = CoreConfig(**settings()["config"]), settings()["parallel"]
    rng = seeded(settings()["seed"], mode)
    stalls = Stalls(mode, rng)
    for name in ("layer", "reset_head", "start", "channel", "group", "granted", "data"):
        getattr(dut, name).value = 0
    memory = Memory(dut, random_memory(rng, config), rng)
    sink = Sink(dut, "items", attention_item(config))
    layer_codec = Codec(attention_layer(config))
    await start(dut, 120_000)
    silent = passed = 0
    for number in range(settings()["layers"]):
        layer, channels, groups = random_layer(rng, config)
        await FallingEdge(dut.clk)
        dut.layer.value, dut.reset_head.value = layer_codec.pack(layer), 1
        await FallingEdge(dut.clk)
        dut.reset_head.value, at = 0, 0
        for channel in sorted(rng.permutation(channels)[:int(rng.integers(1, 4))].tolist()):
            for group in range(groups if number % 2 else 1):
                passed += 1
                if passed % 4 == 0:
                    memory.silence(layer["value"] + channel * layer["channel_stride"]
                                   + group * layer["group_stride"], layer["words"])
                sums = model.pass_sums(memory.masks, layer, channel, group)
                silent += sums is None
                cycles, done = model.pass_cycles(
                    layer, TIMESTEPS_PER_GROUP // parallel, channel - at, sums)
                head = channel - channel % layer["width"]
                wanted = [item for i, m in enumerate(sums or [])
                          for item in model.sums_to_items(m, head + i)]
                items, times, time, reads = [], [], -1, 0
                at = channel
                dut.channel.value, dut.group.value, dut.start.value = channel, group, 1
                while True:
                    time += 1
                    memory.drive(stalls.input())
                    sink.drive(stalls.output())
                    await ReadOnly()
                    reads += int(dut.granted.value)
                    item = sink.sample()
                    if item is not None:
                        items.append(item)
                        times.append(time)
                    ended = dut.done.value == 1
                    await FallingEdge(dut.clk)
                    dut.start.value = 0
                    if ended:
                        break
                assert items == wanted, (layer, channel, group, items, wanted)
                if sums is not None:
                    assert reads == layer["words"] * (layer["width"] + 1)
                if not stalls.any:
                    assert (times, time) == (cycles, done), (layer, channel, times, cycles, done)
    cocotb.log.info("%d of %d passes with a silent v", silent, passed)
    assert 0 < silent < passed
