"""`hw.ddr3.Ddr3Buffer` before a memory whose lines come when they like: every word that is read is
the last that was written there, and comes so many cycles behind its command, refresh or not.

Settings: config, seed, latency of the buffer, late: the memory is so slow that words are late;
then some have to be.
"""

from __future__ import annotations

from collections import deque

import cocotb
from cocotb.triggers import FallingEdge, ReadOnly

from hw.config import STREAM_BLOCK, CoreConfig
from sim.helpers import settings, start
from sim.streams import seeded

WATCHDOG = 200_000


class LineUser:
    """The port's user: what it asks for, what must come, and when."""

    def __init__(self, dut, name: str):
        self.dut, self.config = dut, CoreConfig(**settings()["config"])
        self.rng = seeded(settings()["seed"], name)
        self.words: dict[int, int] = {}
        self.expected: deque[tuple[int, int, int]] = deque()    # (cycle, address, word)
        self.time, self.late, self.were_late = 0, settings()["late"], 0
        for name in ("cmd_valid", "cmd_we", "cmd_addr", "wdata_valid", "wdata_data", "wdata_we"):
            getattr(dut, f"port__{name}").value = 0
        dut.port__rdata_ready.value, dut.stuck.value = 1, 0

    async def cycle(self, address: int = -1, write: bool = False, word: int | None = None,
                    bytes_: int = 15) -> tuple[bool, bool]:
        """One cycle, with a command where there is an address, with a word to write where there is
        one. Returns whether each was taken."""
        dut = self.dut
        await FallingEdge(dut.clk)
        dut.port__cmd_valid.value = address >= 0
        dut.port__cmd_addr.value, dut.port__cmd_we.value = max(address, 0), write
        dut.port__wdata_valid.value = word is not None
        if word is not None:
            dut.port__wdata_data.value, dut.port__wdata_we.value = word, bytes_
        await ReadOnly()
        self.time += 1
        taken = address >= 0 and bool(dut.port__cmd_ready.value)
        if taken and not write:
            self.expected.append((self.time + settings()["latency"], address, self.words[address]))
        came = bool(dut.port__rdata_valid.value)
        due = bool(self.expected) and self.expected[0][0] == self.time
        assert came == due or self.late, f"cycle {self.time}: a word comes, or not"
        if came:
            when, place, word_ = self.expected.popleft()
            assert when <= self.time, f"cycle {self.time}: {place:#x} is early"
            self.were_late += when < self.time
            got = int(dut.port__rdata_data.value)
            assert got == word_, f"{place:#x}: {got:#010x}, not {word_:#010x}"
        return taken, word is not None and bool(dut.port__wdata_ready.value)

    async def write(self, address: int, word: int, bytes_: int = 15) -> None:
        """The word comes some cycles before or behind its command."""
        asks, gives = True, True
        late = int(self.rng.integers(-3, 6))
        while asks or gives:
            late -= 1
            shows = gives and late < 0
            taken, given = await self.cycle(address if asks else -1, True,
                                            word if shows else None, bytes_)
            asks, gives = asks and not taken, gives and not given
        lanes = sum(0xFF << 8 * n for n in range(4) if bytes_ >> n & 1)
        self.words[address] = self.words.get(address, 0) & ~lanes | word & lanes

    async def read(self, address: int) -> None:
        while not (await self.cycle(address))[0]:
            pass

    async def rest(self, cycles: int) -> None:
        for _ in range(cycles):
            await self.cycle()

    async def done(self) -> None:
        while self.expected:
            await self.cycle()
        assert not self.late or self.were_late


@cocotb.test()
async def what_is_written_is_read(dut):
    """Reads and writes of any bytes at random places, with pauses, over many refreshes."""
    user = LineUser(dut, "what_is_written_is_read")
    rng = user.rng
    await start(dut, WATCHDOG)
    places = [int(rng.integers(user.config.dram_words)) for _ in range(20)]
    places += [place ^ 1 for place in places] + [place ^ 3 for place in places]
    for place in places:
        await user.write(place, int(rng.integers(1 << 32)))
    for _ in range(1500):
        place = int(rng.choice(places))
        if rng.random() < 0.3:
            await user.write(place, int(rng.integers(1 << 32)), int(rng.integers(16)))
        else:
            await user.read(place)
            await user.rest(int(rng.choice([16, 20, 30, 200])))
    await user.done()


@cocotb.test()
async def blocks_of_a_stream(dut):
    """As the streamer asks: a word a cycle, blocks of other streams in turn, at all moments of the
    interval between refreshes; each word in its cycle."""
    user = LineUser(dut, "blocks_of_a_stream")
    rng = user.rng
    await start(dut, WATCHDOG)
    bases = [n * user.config.stream_stride for n in range(user.config.engines)]
    for base in bases:
        for word in range(2 * STREAM_BLOCK):
            await user.write(base + word, int(rng.integers(1 << 32)))
    for number in range(120):
        base = bases[number % len(bases)] + STREAM_BLOCK * int(rng.integers(2))
        for word in range(STREAM_BLOCK):
            taken, _ = await user.cycle(base + word)
            while not taken:
                assert user.late, "a block is asked for without a pause"
                taken, _ = await user.cycle(base + word)
        await user.rest(int(rng.choice([2, 3, 50, 400], p=[.4, .3, .2, .1])))
        while len(user.expected) > STREAM_BLOCK:        # two blocks on their way at most
            await user.cycle()
    await user.done()


@cocotb.test()
async def words_read_again(dut):
    """A word twice, backwards within a line, behind a write: never from before."""
    user = LineUser(dut, "words_read_again")
    await start(dut, WATCHDOG)
    for round_ in range(60):
        for word in range(8):
            await user.write(word, 16 * round_ + word)
        for word in (3, 3, 1, 2, 0, 5, 1, 1):
            await user.read(word)
        await user.write(1, 99 + round_)
        await user.read(1)
    await user.done()


@cocotb.test()
async def a_word_that_is_given_up(dut):
    """Its user goes away before the memory has taken it: nothing is written."""
    user = LineUser(dut, "a_word_that_is_given_up")
    await start(dut, WATCHDOG)
    for round_ in range(20):
        await user.write(8, round_)
        while not (await user.cycle(8, True))[0]:
            pass
        _, given = await user.cycle(word=12345)
        assert not given, "the memory cannot have it yet"
        await user.rest(300)
        await user.read(8)
    await user.rest(400)        # late or not
    user.late = False
    await user.done()
