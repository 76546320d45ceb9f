"""`hw.sdram.Sdram` with pads and chip: every word that is read is the last that was written there,
no rule of the chip is broken, and commands and words come in the cycles of `sw.core.steps.sdram`.

Settings: config, seed.
"""

from __future__ import annotations

from collections import deque

import cocotb
from cocotb.triggers import FallingEdge, ReadOnly

from hw.config import CoreConfig
from hw.sdram_timing import ROW_WORDS, cycles
from sim.helpers import settings, start
from sim.sdram import BOARDS_CHIP, violated
from sim.streams import seeded
from sw.core.jit import njit
from sw.core.steps.sdram import new_sdram, sdram_step

WATCHDOG = 200_000


@njit
def model_step(reg, t, asks, row):
    return sdram_step(reg, t, asks, row)


class User:
    """The port's user: what it asks for, what must come, what the cycle model says."""

    def __init__(self, dut, name: str):
        self.dut, self.config = dut, CoreConfig(**settings()["config"])
        self.rng = seeded(settings()["seed"], name)
        self.timing = cycles(self.config.clock_hz, BOARDS_CHIP)
        self.words: dict[int, int] = {}
        self.expected: deque[tuple[int, int]] = deque()     # (address, word)
        self.command: tuple[int, bool] | None = None        # (address, to write)
        self.writes: deque[tuple[int, int, int]] = deque()  # (address, word, bytes)
        self.model, self.coming = None, deque([False] * self.timing.latency)
        self.time = 0
        for name in ("cmd_valid", "cmd_we", "cmd_addr", "wdata_valid", "wdata_data", "wdata_we"):
            getattr(dut, f"port__{name}").value = 0
        dut.port__rdata_ready.value, dut.stuck.value = 1, 0

    def ask(self, address: int, word: int | None = None, bytes_: int = 15) -> None:
        assert self.command is None
        self.command = address, word is not None
        if word is not None:
            self.writes.append((address, word, bytes_))

    async def cycle(self, show: bool = True) -> bool:
        """One cycle; show: the word to write is there. Returns whether the command was taken."""
        dut = self.dut
        await FallingEdge(dut.clk)
        dut.port__cmd_valid.value = self.command is not None
        address, write = self.command or (0, False)
        dut.port__cmd_addr.value, dut.port__cmd_we.value = address, write
        shown = show and bool(self.writes)
        dut.port__wdata_valid.value = shown
        if shown:
            dut.port__wdata_data.value, dut.port__wdata_we.value = self.writes[0][1:]
        await ReadOnly()
        self.time += 1
        taken = self.command is not None and bool(dut.port__cmd_ready.value)
        if taken:
            if not write:
                self.expected.append((address, self.words.get(address)))
            self.command = None
        if shown and dut.port__wdata_ready.value:
            place, word, bytes_ = self.writes.popleft()
            lanes = sum(0xFF << 8 * n for n in range(4) if bytes_ >> n & 1)
            self.words[place] = self.words.get(place, 0) & ~lanes | word & lanes
        came = bool(dut.port__rdata_valid.value)
        if came:
            place, word = self.expected.popleft()
            if word is not None:        # what nobody wrote is unknown
                got = int(dut.port__rdata_data.value)
                assert got == word, f"{place:#x}: {got:#010x}, not {word:#010x}"
        if self.model is not None:
            asks = bool(dut.port__cmd_valid.value)
            same, reads = model_step(self.model, self.timing, asks, address // ROW_WORDS)
            assert same == taken, f"cycle {self.time}: a command is taken, or not"
            self.coming.append(reads)
            assert self.coming.popleft() == came, f"cycle {self.time}: a word comes, or not"
        broken = int(dut.violation.value)
        assert not broken, violated(broken)
        return taken

    async def write(self, address: int, word: int, bytes_: int = 15) -> None:
        self.ask(address, word, bytes_)
        while self.command is not None or self.writes:
            await self.cycle(show=self.rng.random() < 0.7)

    async def rest(self, cycles_: int) -> None:
        for _ in range(cycles_):
            await self.cycle()

    def address(self, near: int) -> int:
        """Random: in the same row as often as in others."""
        if self.rng.random() < 0.7:
            return near // ROW_WORDS * ROW_WORDS + int(self.rng.integers(ROW_WORDS))
        return int(self.rng.integers(self.config.dram_words))


@cocotb.test()
async def what_is_written_is_read(dut):
    """Reads and writes of any bytes, in bursts and with pauses, over dozens of refreshes."""
    user = User(dut, "what_is_written_is_read")
    rng, at = user.rng, 0
    await start(dut, WATCHDOG)
    places = [user.address(at) for _ in range(60)]
    for place in places:
        await user.write(place, int(rng.integers(1 << 32)))
    for _ in range(60):
        for _ in range(int(rng.integers(1, 80))):
            at = int(rng.choice(places))
            if rng.random() < 0.4:
                user.ask(at, int(rng.integers(1 << 32)), int(rng.integers(16)))
            else:
                user.ask(at)
            while not await user.cycle(show=rng.random() < 0.8):
                pass
            while user.writes:      # one word to write at a time
                await user.cycle(show=rng.random() < 0.8)
        await user.rest(int(rng.choice([1, 5, 20, 40, 300, 2000], p=[.3, .2, .2, .1, .1, .1])))
    while user.expected:
        await user.cycle()


@cocotb.test()
async def cycles_of_the_model(dut):
    """From any moment of a rest on: every command and every word in its cycle."""
    user = User(dut, "cycles_of_the_model")
    rng, at = user.rng, 0
    await start(dut, WATCHDOG)
    await user.write(0, 1)
    for number in range(20):
        user.model = None
        await user.rest(user.timing.rest + 40 + int(rng.integers(user.timing.interval)))
        user.model = new_sdram(user.timing)
        pause = rng.choice([0, .3, .9])     # how often nothing is asked for
        left = int(rng.integers(10, 600)) if number % 5 else 2500
        while left:
            if user.command is None and rng.random() >= pause:
                at = at + 1 if rng.random() < 0.8 else user.address(at)
                user.ask(at % user.config.dram_words)
            left -= await user.cycle()
            if rng.random() < 0.002:        # it may come to rest in between
                await user.rest(int(rng.integers(1, 60)))
        user.command = None
        while user.expected:
            await user.cycle()


@cocotb.test()
async def a_refresh_of_a_rest_is_unseen(dut):
    """A command in every cycle around a refresh that nobody sees is answered as at any other time.
    """
    user = User(dut, "a_refresh_of_a_rest_is_unseen")
    timing = user.timing
    await start(dut, WATCHDOG)
    await user.write(0, 1)
    await user.rest(timing.rest + timing.interval)
    before = 1 + timing.wake + timing.rp    # from a command to the refresh that ends the rest
    for late in range(-16, 17):
        user.model = new_sdram(timing)
        user.ask(0)
        while not await user.cycle():
            pass
        await user.rest(before + timing.interval + late)
        assert not user.expected


@cocotb.test()
async def every_address_is_another_word(dut):
    """The lines of rows, columns and banks."""
    user = User(dut, "every_address_is_another_word")
    await start(dut, WATCHDOG)
    lines = [0, *(1 << n for n in range((user.config.dram_words - 1).bit_length()))]
    for n, place in enumerate(lines):
        await user.write(place, 0x01010101 * n)
    for place in lines:
        user.ask(place)
        while not await user.cycle():
            pass
    while user.expected:
        await user.cycle()
    assert [user.words[place] for place in lines] == [0x01010101 * n for n in range(len(lines))]
