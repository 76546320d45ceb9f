"""The host's window on the memories of `hw.core.Core`.

Settings: seed, image (a compiled network), inputs (a .npy file).
"""

from __future__ import annotations

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, ReadOnly, RisingEdge

from hw.registers import Space
from sim.helpers import CoreBus, settings, start
from sim.streams import seeded
from sw.compile import image_file
from sw.compile.coding import encode_input

READ_CYCLES = 4


def memories(config) -> list[tuple[int, int, int]]:
    """(space, first address, words) of every memory that the host may write."""
    return [(Space.MAP, 0, config.map_words * config.map_bits // 32),
            *((Space.WEIGHT, pair * config.weight_stride, depth)
              for pair, depth in enumerate(config.weight_depths)),
            (Space.PROGRAM, 0, config.program_words), (Space.GATE, 0, config.gate_tokens // 32)]


@cocotb.test()
async def write_and_read(dut):
    """What is written comes back, in any order of addresses, 4 cycles after it was asked for."""
    config = image_file.load(settings()["image"]).config
    rng = seeded(settings()["seed"], "write_and_read")
    bus = CoreBus(dut, config)
    dut.first_layer_address.value = dut.stop_after.value = 0
    await start(dut, 60_000)
    lanes = config.map_bits // 32
    content: dict[tuple[int, int], int] = {}
    for space, first, size in memories(config):
        groups = size // lanes
        for group in {0, groups - 1, *rng.integers(0, groups, 40).tolist()}:
            words = rng.integers(0, 1 << 32, lanes).tolist()
            await bus.write(space, first + group * lanes, words)
            content |= {(space, first + group * lanes + n): word for n, word in enumerate(words)}
    keys = list(content)
    asked: list[tuple[int, int] | None] = []
    pending = [keys[n] for n in rng.permutation(len(keys))]
    time, got = 0, 0
    while got < len(keys):
        await FallingEdge(dut.clk)
        key = pending.pop() if pending and rng.random() < 0.7 else None
        dut.bus__r_en.value = key is not None
        if key is not None:
            dut.bus__space.value, dut.bus__addr.value = key
        asked.append(key)
        await ReadOnly()
        answered = asked[time - READ_CYCLES] if time >= READ_CYCLES else None
        assert bool(dut.bus__r_valid.value) == (answered is not None), f"cycle {time}: r_valid"
        if answered is not None:
            assert int(dut.bus__r_data.value) == content[answered], answered
            got += 1
        time += 1


@cocotb.test()
async def half_a_map_word(dut):
    """A map word changes only when its last 32 bits are written."""
    config = image_file.load(settings()["image"]).config
    bus = CoreBus(dut, config)
    dut.first_layer_address.value = dut.stop_after.value = 0
    await start(dut, 10_000)
    lanes = config.map_bits // 32
    await bus.write(Space.MAP, 5 * lanes, range(1, lanes + 1))
    await bus.write(Space.MAP, 5 * lanes, [77] * (lanes - 1))
    assert await bus.read(Space.MAP, 5 * lanes, lanes) == list(range(1, lanes + 1))


@cocotb.test()
async def locked_while_busy(dut):
    """While the core runs, the host's writes do nothing and its reads are not answered."""
    image = image_file.load(settings()["image"])
    config, array = image.config, np.load(settings()["inputs"])
    rng = seeded(settings()["seed"], "locked_while_busy")
    bus = CoreBus(dut, config)
    await start(dut, 60_000)

    async def load_input() -> None:
        for address, data in encode_input(image, array):
            await bus.write_map(address, data.tobytes())

    await bus.load(image)
    mask = rng.integers(0, 1 << 32, config.gate_tokens // 32).tolist()
    await bus.write(Space.GATE, 0, mask)
    await load_input()
    await bus.run()
    quiet = await bus.read_map(0, config.map_words), await bus.counters(len(image.layers))
    await load_input()

    dut.first_layer_address.value = dut.stop_after.value = 0
    dut.start.value = 1
    await FallingEdge(dut.clk)
    dut.start.value = 0
    while True:
        # Sampled before the edge: `busy` may fall in the cycle in which `bus` is still driven.
        dut.bus__w_en.value = int(rng.integers(0, 2))
        dut.bus__r_en.value = int(rng.integers(0, 2))
        dut.bus__space.value = int(rng.choice(
            sorted({space for space, *_ in memories(config)})))
        dut.bus__addr.value = int(rng.integers(0, config.pairs * config.weight_stride))
        dut.bus__w_data.value = int(rng.integers(0, 1 << 32))
        await ReadOnly()
        done = dut.done.value == 1
        assert dut.bus__r_valid.value == 0, "a read was answered while the core was busy"
        await FallingEdge(dut.clk)
        if done:
            break
    dut.bus__w_en.value = dut.bus__r_en.value = 0
    await FallingEdge(dut.clk)
    loud = await bus.read_map(0, config.map_words), await bus.counters(len(image.layers))
    assert loud == quiet
    assert await bus.read(Space.GATE, 0, len(mask)) == mask
    for offset, word in enumerate(await bus.read(Space.PROGRAM, 0, len(image.program))):
        assert word == image.program[offset]


@cocotb.test()
async def stop_and_go_on(dut):
    """Layer by layer (stop_after 1, from next_layer_address) gives what one run gives."""
    image = image_file.load(settings()["image"])
    config, array = image.config, np.load(settings()["inputs"])
    bus = CoreBus(dut, config)
    await start(dut, 60_000)
    for address, data in encode_input(image, array):
        await bus.write_map(address, data.tobytes())
    await bus.run()
    whole = await bus.read_map(0, config.map_words)
    await bus.write_map(0, bytes(len(whole)))
    for address, data in encode_input(image, array):
        await bus.write_map(address, data.tobytes())
    at = 0
    for _ in image.layers:
        await bus.run(first=at, layers=1)
        await RisingEdge(dut.clk)
        await FallingEdge(dut.clk)
        at = int(dut.next_layer_address.value)
    assert at == len(image.program)
    parts = await bus.read_map(0, config.map_words)
    layout_words = {layout.base + n for layout in image.maps.values() if layout.born >= 0
                    for n in range(layout.words)}
    size = config.map_bits // 8
    for word in layout_words | set(range(image.results, image.results + image.classes)):
        assert whole[word * size:(word + 1) * size] == parts[word * size:(word + 1) * size]
