"""`hw.cluster.EngineCluster` of one engine, attention among other layers: the words that come out.

The bench plays the memories and takes the map port away at random. What must come out follows from
the models of the units, one after the other. Settings: config, seed, layers (how many a mode).
"""

from __future__ import annotations

from dataclasses import dataclass

import cocotb
import numpy as np
from amaranth.lib.wiring import In
from cocotb.triggers import FallingEdge, ReadOnly

from hw import layouts, program
from hw.cluster import EngineCluster
from hw.config import TIMESTEPS_PER_GROUP, CoreConfig
from sim.helpers import settings, start
from sim.streams import MODES, Sink, Stalls, seeded
from sim.units.attention import model as attention_model
from sim.units.decoder import model as decoder_model
from sim.units.decoder.model import Row
from sim.units.drain import model as drain_model
from sim.units.fetch import model as fetch_model
from sim.units.layers import DEFAULT_LAYER, layer_bits, stream_masks
from sim.units.unit import model as unit_model

MEMORY = {"query": 0, "key": 1, "value": 2, "out": 3}
"""Quarters of the map memory."""


@dataclass
class Scene:
    """A layer whose maps have a word for every image row; 1 x 1 weights, or attention."""

    layer: dict
    tap: dict
    planes: list[dict]
    rows: list[Row]
    items: list[list[dict]]                 # of every pass
    words: list[tuple[int, list[int]]]      # address and lanes, in the order they come


def random_scene(rng: np.random.Generator, config: CoreConfig, memory: list[list[int]],
                 attention: bool) -> Scene:
    quarter, window = config.map_words // 4, config.window
    groups, words = int(rng.integers(1, 4)), int(rng.choice([1, 1, 2, 5]))
    width, heads = int(rng.integers(8, 12)), int(rng.integers(1, 3))
    channels = min(width * heads, quarter // (words * groups))
    width = min(width, channels)
    strips = -(-words // config.tile_words)
    strip_words = -(-words // strips)
    last_words = words - (strips - 1) * strip_words
    columns = int(rng.integers(window // 2, window + 1))
    counts = {f"count_{name}": 1 for name in ("kx", "ky", "px", "py")} | {
        "count_ox": columns, "count_oy": strip_words}
    increments = {f"inc_{name}": 0 for name in drain_model.LOOPS} | {"inc_ox": 1, "inc_oy": window}
    layer = DEFAULT_LAYER | counts | program.walk_steps(counts, increments) | {
        "attention": int(attention), "rice_k": 1, "value_bits": 3, "leak": 128, "n_groups": groups,
        "n_strips": strips, "strip_words": strip_words, "strip_words_last": last_words,
        "strip_step": strip_words, "count_oy_last": last_words, "planes_per_group": 1,
        "positions": strip_words * window, "positions_last": last_words * window,
        "pitch_mask": window - 1, "row_valid": columns, "out_pitch": window, "flush_strip": 1,
        "out_base": quarter * MEMORY["out"], "out_channel_stride": words * groups % 256,
        "out_group_stride": words, "strip_out_words": strip_words,
        "key": quarter * MEMORY["key"], "value": quarter * MEMORY["value"], "key_words": words,
        "key_group_stride": words * channels, "head_width": width}
    full = (1 << window) - 1
    tap = {"base": quarter * MEMORY["query"], "channel_stride": words, "word_offset": 0,
           "channels": channels, "shift": 0, "extra": 0, "edge": program.EDGE_ALWAYS,
           "mask_low": full & 0xFFFFFFFF, "mask_high": full >> 32, "mask": full, "plane_start": 0,
           "plane_count": 1, "channel_words": words}
    planes = [{"offset": group * words * channels, "shift": 0} for group in range(groups)]
    numbers = sorted(rng.permutation(channels)[:int(rng.integers(1, 4))].tolist())
    rows = [random_row(rng, channel, 0 if attention else channels) for channel in numbers]
    layer |= decoder_model.row_widths(rows)
    scene = Scene(layer, tap, planes, rows, [], [])
    if attention:
        fields = {"key": layer["key"], "value": layer["value"], "words": words, "width": width,
                  "channel_stride": words, "group_stride": layer["key_group_stride"]}
        sums = [[item for i, m in enumerate(attention_model.pass_sums(
                    memory, fields, row.channel, shared["group"]) or [])
                 for item in attention_model.sums_to_items(m, row.channel // width * width + i)]
                for row, _, shared in decoder_model.passes(rows, layer)]
        headers, scene.items = decoder_model.attend_rows(rows, layer, sums)
    else:
        headers, scene.items = decoder_model.decode_rows(rows, layer, [channels])
    drain = drain_model.RowDrain(layer, config)
    for header, items in zip(headers, scene.items, strict=True):
        drain.drain(header, currents(scene, items, memory, config))
    scene.words = drain.words
    return scene


def random_row(rng: np.random.Generator, channel: int, channels: int) -> Row:
    indices = np.flatnonzero(rng.random(channels) < 0.5).tolist()
    return Row(channel, int(rng.integers(-3, 4)), int(rng.integers(1, 40)), indices,
               rng.choice([-4, -2, -1, 1, 3], len(indices)).tolist())


def currents(scene: Scene, items: list[dict], memory, config: CoreConfig) -> list[list[int]]:
    """Currents [positions][4] of one pass."""
    jobs: list[list[dict]] = [[] for _ in range(config.units)]
    for item in items:
        for words in fetch_model.fetch_words(item, scene.layer, scene.tap, scene.planes, config):
            for address, j, weight in words:
                dealt = fetch_model.deal_word(memory[address], j, weight, item, scene.layer,
                                              scene.tap, config)
                for unit, job in dealt.items():
                    jobs[unit].append(job)
    units = [unit_model.accumulate(mine, config) for mine in jobs]
    return [units[q % config.units][q // config.units] for q in range(config.tile_positions)]


def random_memory(rng: np.random.Generator, config: CoreConfig) -> list[list[int]]:
    shape = (config.map_words, config.window)
    masks = rng.integers(0, 1 << TIMESTEPS_PER_GROUP, shape)
    masks &= rng.choice([0, 1, 15], shape, p=[0.4, 0.2, 0.4])
    masks[rng.random(config.map_words) < 0.2] = 0
    return masks.tolist()


@cocotb.test()
@cocotb.parametrize(mode=MODES)
async def layers(dut, mode):
    config = CoreConfig(**settings()["config"])
    rng = seeded(settings()["seed"], mode)
    cluster = EngineCluster(config, 1)
    for path, member, _ in cluster.signature.flatten(cluster):
        if member.flow is In:
            getattr(dut, "__".join(map(str, path))).value = 0
    sink = Sink(dut, "o", layouts.map_write(config))
    await start(dut, 300_000)
    memory = random_memory(rng, config)
    for address, lanes in enumerate(memory):
        await FallingEdge(dut.clk)
        dut.setup__live_write.value, dut.setup__live_address.value = 1, address
        dut.setup__live.value = any(lanes)
    await FallingEdge(dut.clk)
    dut.setup__live_write.value = 0
    for number in range(settings()["layers"]):
        scene = random_scene(rng, config, memory, number % 3 != 1)
        await load(dut, config, scene)
        await run_scene(dut, config, scene, memory, sink, Stalls(mode, rng), rng)


async def load(dut, config: CoreConfig, scene: Scene) -> None:
    dut.setup__layer.value = layer_bits(scene.layer)
    dut.setup__masks.value = stream_masks(scene.layer)
    dut.setup__sweep.value = dut.setup__tap_write.value = 1
    dut.setup__tap.value = sum(word << 32 * n for n, word in enumerate(
        program.pack_words(program.TAP, scene.tap)))
    await FallingEdge(dut.clk)
    dut.setup__sweep.value = dut.setup__tap_write.value = 0
    for index, plane in enumerate(scene.planes):
        dut.setup__plane_write.value, dut.setup__plane_index.value = 1, index
        dut.setup__plane.value = program.pack(program.PLANE, plane)
        await FallingEdge(dut.clk)
    dut.setup__plane_write.value = 0
    for _ in range(2 * config.acc_depth):
        await FallingEdge(dut.clk)


async def run_scene(dut, config, scene, memory, sink, stalls, rng) -> None:
    words = [sum(mask << 4 * n for n, mask in enumerate(lanes)) for lanes in memory]
    stream = decoder_model.encode_rows(scene.rows, scene.layer, [scene.tap["channels"]])
    begin = int(rng.integers(0, config.weight_words - len(stream)))
    weights = rng.integers(0, 1 << 32, config.weight_words).tolist()
    weights[begin:begin + len(stream)] = stream
    dut.memories__0__rows.value = program.pack(
        program.ENGINE, {"start": begin, "rows": len(scene.rows)})
    dut.setup__start.value = 1
    map_address = weight_address = got = 0
    written = [False, False]        # the port is taken now, in the next cycle
    finished: list[dict] = []
    while True:
        dut.memories__0__map_data.value = words[
            rng.integers(len(words)) if written[0] else map_address]
        dut.memories__0__weight_data.value = weights[weight_address]
        written = [written[1], stalls.input()]
        dut.memories__0__port_blocked.value = int(written[1])
        sink.drive(stalls.output())
        await ReadOnly()
        map_address = int(dut.memories__0__map_address.value)
        weight_address = int(dut.memories__0__weight_address.value)
        got += int(dut.memories__0__events__weights.value)
        word = sink.sample()
        if word is not None:
            finished.append(word)
        done = dut.done.value == 1
        await FallingEdge(dut.clk)
        dut.setup__start.value = 0
        if done:
            break
    lanes = [(word["address"], [word["data"] >> 4 * n & 15 for n in range(config.window)])
             for word in finished]
    assert got == sum(map(len, scene.items)), scene.layer
    assert lanes == scene.words, (scene.layer, lanes, scene.words)
