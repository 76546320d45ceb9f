"""`hw.stream.Streamer` between a memory that takes its time and engines that take theirs.

What an engine may read is what its stream holds; nothing that it still needs is overwritten; every
block comes; a damaged one stops everything; the host's words are kept. Settings: config, seed.
"""

from __future__ import annotations

from collections import deque

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, ReadOnly

from hw.config import STREAM_BLOCK, CoreConfig
from hw.registers import Status
from hw.stream import PATIENCE
from sim.helpers import settings, start
from sim.streams import seeded
from sw.compile.dram import blocks

LATENCY = 40
"""Cycles from a command to its word, at most."""


class Memory:
    """Any latency, in order; refuses commands now and then, for long in a refresh."""

    def __init__(self, dut, rng: np.random.Generator, words: int):
        self.words = rng.integers(0, 1 << 32, words).tolist()
        self.dead = self.time = self.pause = 0
        self._dut, self._rng = dut, rng
        self._answers: deque[tuple[int, int]] = deque()
        self._writes: deque[int] = deque()

    def drive(self) -> None:
        dut, rng = self._dut, self._rng
        self.time += 1
        if self.pause == 0 and rng.random() < 0.01:
            self.pause = int(rng.integers(1, 60))
        self.pause = max(0, self.pause - 1)
        dut.port__cmd_ready.value = not (self.dead or self.pause or rng.random() < 0.1)
        dut.port__wdata_ready.value = not self.dead and rng.random() < 0.5
        come = bool(self._answers) and self._answers[0][0] <= self.time and rng.random() < 0.9
        come &= not self.dead
        dut.port__rdata_valid.value = come
        dut.port__rdata_data.value = self._answers.popleft()[1] if come else 0xDEAD

    def sample(self) -> None:
        dut = self._dut
        if dut.port__cmd_valid.value and dut.port__cmd_ready.value:
            address = int(dut.port__cmd_addr.value)
            if dut.port__cmd_we.value:
                self._writes.append(address)
            else:
                late = self.time + int(self._rng.integers(1, LATENCY))
                self._answers.append((late, self.words[address % len(self.words)]))
        if dut.port__wdata_valid.value and dut.port__wdata_ready.value:
            self._writes.append(int(dut.port__wdata_data.value))
        if len(self._writes) == 2:      # the command and its word, in any order of theirs
            address, word = self._writes if self._writes[0] < 1 << 24 else reversed(self._writes)
            self.words[address] = word
            self._writes.clear()


class Bench:
    """The streamer's surroundings, and what must be true of it in every cycle."""

    def __init__(self, dut, name: str):
        self.dut, self.config = dut, CoreConfig(**settings()["config"])
        self.rng = seeded(settings()["seed"], name)
        self.bits = (self.config.weight_words - 1).bit_length()
        self.memory = Memory(dut, self.rng, self.config.dram_words)
        self.go, self.streams = True, []
        for signal in ("restart", "stop", "go", "freed", "host_request", "host_write",
                       "host_address", "host_data"):
            getattr(dut, signal).value = 0
        self.begin([])

    def fill(self) -> list[list[int]]:
        """New streams in the memory, of any length."""
        config, found = self.config, []
        for engine in range(config.engines):
            words = self.rng.integers(0, 1 << 32, int(self.rng.integers(0, 700)), np.uint32)
            stored = blocks(words, engine, config)
            first = engine * config.stream_stride
            self.memory.words[first:first + len(stored)] = stored.tolist()
            found.append(stored.reshape(-1, STREAM_BLOCK)[:, :-1].ravel().tolist())
        return found

    def begin(self, streams: list[list[int]]) -> None:
        """The engines expect these words."""
        self.streams = streams
        self.freed, self.limit = ([0] * self.config.engines for _ in range(2))
        self.rings = [[None] * self.config.ring_words for _ in range(self.config.engines)]

    async def cycle(self, restart: bool = False, stop: bool = False) -> None:
        dut, config = self.dut, self.config
        await FallingEdge(dut.clk)
        self.memory.drive()
        dut.restart.value, dut.stop.value, dut.go.value = restart, stop, self.go
        mask = (1 << self.bits) - 1
        dut.freed.value = sum((freed & mask) << self.bits * n
                              for n, freed in enumerate(self.freed))
        await ReadOnly()
        self.memory.sample()
        if dut.write.value and self.streams:
            engine, word = int(dut.write_engine.value), int(dut.write_word.value)
            place = self.limit[engine] + ((word - self.limit[engine]) & mask)
            assert place < self.freed[engine] + config.ring_words, "a word still needed is lost"
            self.rings[engine][place % config.ring_words] = int(dut.write_data.value)
        if restart or stop:
            self.begin([])
        for engine, stream in enumerate(self.streams):
            seen = int(dut.limit.value) >> self.bits * engine & mask
            ahead = (seen - self.limit[engine]) & mask
            assert ahead in (0, STREAM_BLOCK - 1)
            self.limit[engine] += ahead
            at = range(self.limit[engine] - ahead, self.limit[engine])
            assert [self.rings[engine][n % config.ring_words] for n in at] == [
                stream[n] for n in at], f"engine {engine}: words of another place, or none"

    def consume(self) -> None:
        """Some engines free some of what they have."""
        for n in range(self.config.engines):
            if self.rng.random() < 0.05:
                most = self.limit[n] - self.freed[n]
                self.freed[n] += int(self.rng.integers(0, most + 1))

    async def restart(self, streams: list[list[int]]) -> None:
        await self.cycle(restart=True)
        await self.cycle()
        self.begin(streams)

    async def host(self, address: int, word: int | None = None) -> int:
        """A word to the memory, or from it."""
        dut = self.dut
        await FallingEdge(dut.clk)
        dut.host_request.value, dut.host_write.value = 1, word is not None
        dut.host_address.value, dut.host_data.value = address, word or 0
        for _ in range(2 * PATIENCE):
            await self.cycle()
            if dut.host_done.value:
                read = int(dut.host_read.value)
                await FallingEdge(dut.clk)
                dut.host_request.value = 0
                return read
        raise AssertionError("the host waits for ever")


@cocotb.test()
async def every_block_comes(dut):
    bench = Bench(dut, "every_block_comes")
    await start(dut, 80_000)
    for number in range(4):
        streams = bench.fill()
        await bench.restart(streams)
        if number % 3 == 2:         # somebody ends it in the middle
            for _ in range(int(bench.rng.integers(1, 300))):
                await bench.cycle()
                bench.consume()
            await bench.cycle(stop=True)
            for _ in range(200 if number == 2 else 3):      # the next one may begin at once
                await bench.cycle()
                assert not dut.write.value, "a word for a stream that has ended"
            continue
        while bench.limit != [len(stream) for stream in streams]:
            bench.go = bool(bench.rng.random() < 0.9)
            await bench.cycle()
            bench.consume()
        bench.go = False
        for _ in range(500):        # a block behind the last one may have been asked for
            await bench.cycle()
        assert dut.quiet.value and int(dut.fault.value) == Status.OK


@cocotb.test()
async def a_flipped_bit_stops_it(dut):
    """In any block, of words or check; or two blocks that have changed places."""
    bench = Bench(dut, "a_flipped_bit_stops_it")
    await start(dut, 80_000)
    config, rng = bench.config, bench.rng
    for number in range(4):
        streams = bench.fill()
        engine = max(range(config.engines), key=lambda n: len(streams[n]))
        first, count = engine * config.stream_stride, len(streams[engine]) // (STREAM_BLOCK - 1)
        words, block = bench.memory.words, int(rng.integers(0, count - 1))
        place = first + block * STREAM_BLOCK
        if number % 4 == 3:
            one, two = slice(place, place + STREAM_BLOCK), slice(
                place + STREAM_BLOCK, place + 2 * STREAM_BLOCK)
            words[one], words[two] = words[two], words[one]
        else:
            at = STREAM_BLOCK - 1 if number % 4 == 2 else int(rng.integers(0, STREAM_BLOCK))
            words[place + at] ^= 1 << int(rng.integers(0, 32))
        await bench.restart(streams)
        for _ in range(20_000):
            await bench.cycle()
            bench.consume()
            if int(dut.fault.value) != Status.OK:
                break
        assert int(dut.fault.value) == Status.DAMAGED
        assert bench.limit[engine] == block * (STREAM_BLOCK - 1), "words that are not right"
        reached = list(bench.limit)
        for _ in range(300):
            await bench.cycle()
        assert bench.limit == reached, "it goes on"
        await bench.cycle(stop=True)


@cocotb.test()
async def the_host_writes_and_reads(dut):
    """Also while blocks are on their way; and where nobody answers it is told all ones."""
    bench = Bench(dut, "the_host_writes_and_reads")
    await start(dut, 80_000)
    places = bench.rng.choice(bench.config.dram_words, 20, replace=False).tolist()
    await bench.restart(bench.fill())
    kept = {place: int(bench.rng.integers(1 << 24, 1 << 32)) for place in places}
    for place, word in kept.items():
        await bench.host(place, word)
    for place, word in kept.items():
        assert await bench.host(place) == word
    await bench.cycle(stop=True)
    bench.memory.dead = 1
    assert await bench.host(5) == 0xFFFFFFFF
    await bench.host(5, 7)
    await bench.cycle(restart=True)
    for _ in range(2 * PATIENCE):
        await bench.cycle()
    assert int(dut.fault.value) == Status.DAMAGED, "a dead memory"


@cocotb.test()
async def a_memory_comes_back(dut):
    """It dies in the middle of blocks and brings what it owes later: the next run is right."""
    bench = Bench(dut, "a_memory_comes_back")
    await start(dut, 80_000)
    for cycles in (60, 75, 90):
        await bench.restart(bench.fill())
        for _ in range(cycles):
            await bench.cycle()
            bench.consume()
        bench.memory.dead = 1
        while int(dut.fault.value) != Status.DAMAGED:
            await bench.cycle()
        await bench.cycle(stop=True)
        bench.memory.dead = 0
        for _ in range(200):
            await bench.cycle()
        streams = bench.fill()
        await bench.restart(streams)
        while bench.limit != [len(stream) for stream in streams]:
            await bench.cycle()
            bench.consume()
            assert int(dut.fault.value) == Status.OK
