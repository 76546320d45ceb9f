"""Size of a core: one frozen dataclass, and the presets of the boards.

Plain Python, so that the host (compiler, cycle model, driver) needs no Amaranth.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from .sdram_timing import MOST_WORDS, cycles

TIMESTEPS_PER_GROUP = 4
"""Timesteps that one weight fetch serves: a spike mask has this many bits."""

WORD_BITS = 32
"""Width of a weight-memory and of a program-memory word."""

FETCH_QUEUE = 32
"""Places of the fetch's two queues: weights before the plane walk, planes before the word walk."""

QUEUE_MARGIN = 7
"""Places at which a queue asks its producer to stop: what is still on its way must find room."""

DRAIN_QUEUE = 32
"""Places of the drain's queue between neuron lanes and packer."""

DRAIN_MARGIN = 23
"""The same for this queue: all stages of the drain, and two cycles to notice."""


KEY_WORDS = 8
"""Map words of a channel that attention can read as k or v, at most."""

GATE_TOKENS = 256
"""Flat positions that a patch gate can choose from, at most."""

STREAM_BLOCK = 64
"""Words of a block in DRAM; the last one is the check of the others."""

STREAM_WORDS = STREAM_BLOCK - 1
"""Words of a stream in a block."""

SUM_PLANES = 7
"""Bit-planes of a residual sum, at most."""

SCORE_LATENCY = 2
"""Cycles from `gate.Scores.token` to `gate.Scores.score`."""


ACC_BITS = (8, 24)
"""Fewest and most bits that an accumulator can have."""

CURRENT_BITS = 16
"""Bits of a neuron's current, at least: of bit-planes it is the sum of all four accumulators."""

SWITCHES = ("attention", "gate", "sums", "dsp_adders", "sdram", "ddr3")
"""Parameters of a core that are True or False."""


def is_power_of_two(n: int) -> bool:
    return n > 0 and n & (n - 1) == 0


def top_k_cycles(engines: int, tokens: int, bits: int, word: int = WORD_BITS, *,
                 host: bool = False) -> int:
    """Cycles from `gate.TopK.start` to `gate.TopK.done`: three walks, the second for every bit.

    tokens: of the gate. word: the last walk takes whole words of the mask.
    """
    whole = -(-tokens // word) * word
    if host:
        return whole + 3
    load = tokens + SCORE_LATENCY + (engines - 1).bit_length()
    return load + bits * (tokens + 4) + whole + 3


@dataclass(frozen=True)
class CoreConfig:
    """Parameters of one core. Raises ValueError naming the bad field.

    engines: independent row engines (each: weight decoder, map port, units, neuron lanes).
    units: accumulate units of an engine; unit u owns output positions q with q mod units == u.
    window: positions in one map word, a multiple of `units`, at most 64.
    acc_bits: accumulator width; the compiler refuses a network that could overflow it.
    dsp_adders: DSP slices add up the accumulators, where the FPGA has ones that can (7 series): a
        unit's take one, or two above 12 bits.
    acc_depth: output positions a unit can accumulate at a time (per ping-pong bank).
    queue_depth: synaptic jobs waiting in front of a unit.
    lanes: neuron lanes of a drain, 1 or 2 output positions per cycle.
    drain_engines: engines that share a drain, 1 or 2.
    map_words: depth of the spike-map memory, in words of window x 4 bits: a power of two, or a
        multiple of 1,024.
    weight_words: depth of the weight memory of a pair of engines, in 32-bit words: the same (1,024
        of them are a BRAM36).
    program_words: depth of the program memory, in 32-bit words.
    dram_words: 32-bit words of the DRAM behind the core, from which weights can stream; 0 without.
    ring_words: of a network whose weights stream, what each engine has of its pair's weight memory
        for them, in 32-bit words: a power of two; the rings are the memory's last words.
    sdram: the DRAM is an SDR SDRAM chip behind our controller (`hw.sdram`); else it may be any
        memory behind the core's port.
    ddr3: the DRAM is DDR3 behind LiteDRAM's controller and our buffer (`hw.ddr3`), which the host
        initialises.
    taps, planes: entries of an engine's tap and plane tables.
    attention: with units that compute spiking attention (about 415 LUTs an engine).
    gate: with the patch gate (about 110 LUTs a drain and 220 once).
    sums: with the adder that keeps residual sums as bit-planes (`hw.sums`, about 430 LUTs).
    clock_hz: clock the core is meant to run at.
    """

    engines: int = 4
    units: int = 8
    window: int = 32
    acc_bits: int = 16
    dsp_adders: bool = False
    acc_depth: int = 16
    queue_depth: int = 32
    lanes: int = 2
    drain_engines: int = 1
    map_words: int = 2048
    weight_words: int = 8192
    program_words: int = 1024
    dram_words: int = 0
    ring_words: int = 0
    sdram: bool = False
    ddr3: bool = False
    taps: int = 32
    planes: int = 32
    attention: bool = False
    gate: bool = False
    sums: bool = False
    clock_hz: int = 100_000_000

    def __post_init__(self):
        for name, value in self.as_dict().items():  # a manifest may hold anything
            if type(value) is not (bool if name in SWITCHES else int):
                raise ValueError(f"{name} is {value!r:.40}, not of the right type")
        if not 1 <= self.clock_hz <= 1_000_000_000:
            raise ValueError(f"clock_hz {self.clock_hz} is outside 1..1,000,000,000")
        powers = ("units", "window", "acc_depth", "queue_depth", "program_words", "taps", "planes")
        for name in powers:
            if not is_power_of_two(getattr(self, name)):
                raise ValueError(f"{name} must be a power of two, not {getattr(self, name)}")
        for name in ("map_words", "weight_words"):
            words = getattr(self, name)
            if words % 1024 and not is_power_of_two(words):
                raise ValueError(f"{name} must be a power of two or a multiple of 1,024, not "
                                 f"{words}")
        limits = {"engines": (1, 32), "units": (2, 32), "window": (8, 64), "acc_bits": ACC_BITS,
                  "queue_depth": (16, 64), "lanes": (1, 2), "map_words": (16, 1 << 14),
                  "weight_words": (16, 1 << 16), "program_words": (64, 1 << 14),
                  "taps": (2, 128), "planes": (2, 64), "acc_depth": (2, 64),
                  "drain_engines": (1, 2)}
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} {getattr(self, name)} is outside {low}..{high}")
        self._check_stream()
        if self.window % self.units:
            raise ValueError(f"window {self.window} is not a multiple of units {self.units}")
        if not 1 <= self.tile_words <= 8:
            raise ValueError(f"acc_depth {self.acc_depth} x units {self.units} must hold 1 to 8 "
                             f"windows of {self.window} positions")
        if self.gate and self.gate_tokens > GATE_TOKENS:
            raise ValueError(f"gate: acc_depth {self.acc_depth} x units {self.units} is above "
                             f"{GATE_TOKENS} positions")

    def _check_stream(self):
        """What DRAM and rings must be."""
        if not self.dram_words and not self.ring_words:
            for name in ("sdram", "ddr3"):
                if getattr(self, name):
                    raise ValueError(f"{name}: a core without dram_words has no use for it")
            return
        if self.sdram and self.ddr3:
            raise ValueError("sdram and ddr3: a core has one memory")
        if not is_power_of_two(self.dram_words) or not 1 << 12 <= self.dram_words <= 1 << 24:
            raise ValueError("dram_words must be 0 or a power of two from 4,096 to 16,777,216, "
                             f"not {self.dram_words}")
        if self.sdram:
            if self.dram_words > MOST_WORDS:
                raise ValueError(f"dram_words {self.dram_words} is above {MOST_WORDS}, what an SDR "
                                 "SDRAM chip has")
            cycles(self.clock_hz)       # refuses an impossible clock
        if not is_power_of_two(self.ring_words) or self.ring_words < 2 * STREAM_BLOCK:
            raise ValueError(f"ring_words must be a power of two, {2 * STREAM_BLOCK} or more, not "
                             f"{self.ring_words}")
        if min(self.ring_bases) < 0 or any(base % self.ring_words for base in self.ring_bases):
            raise ValueError(f"ring_words {self.ring_words}: a weight memory of "
                             f"{min(self.weight_depths)} words does not hold whole rings")

    @property
    def resident_depths(self) -> tuple[int, ...]:
        """Words of every pair's weight memory that rings leave."""
        return tuple(min(base for engine, base in enumerate(self.ring_bases) if engine // 2 == pair)
                     for pair in range(self.pairs)) if self.dram_words else self.weight_depths

    @property
    def ring_bases(self) -> tuple[int, ...]:
        """First word of every engine's ring in its pair's weight memory."""
        behind = [min(2 * pair + 2, self.engines) for pair in range(self.pairs)]
        return tuple(self.weight_depths[n // 2] - (behind[n // 2] - n) * self.ring_words
                     for n in range(self.engines))

    @property
    def stream_stride(self) -> int:
        """Words of DRAM from one engine's stream to the next one's: a power of two."""
        return self.dram_words >> (self.engines - 1).bit_length()

    @property
    def current_bits(self) -> int:
        """Width of the current that a neuron gets."""
        return max(self.acc_bits, CURRENT_BITS)

    @property
    def slice_bits(self) -> int:
        """Bits of a sum in a DSP slice, which holds 48 // slice_bits of them."""
        return 12 if self.acc_bits <= 12 else 24

    @property
    def subs(self) -> int:
        """Positions of a map word that belong to one unit."""
        return self.window // self.units

    @property
    def tile_words(self) -> int:
        """Map words whose positions fit the accumulators of an engine (one strip)."""
        return self.acc_depth * self.units // self.window

    @property
    def tile_positions(self) -> int:
        return self.tile_words * self.window

    @property
    def gate_tokens(self) -> int:
        """Flat positions that the patch gate can choose from: a strip's, in whole mask words."""
        return max(2 * WORD_BITS, self.tile_positions)

    @property
    def map_bits(self) -> int:
        """Width of a map word."""
        return self.window * TIMESTEPS_PER_GROUP

    @property
    def pairs(self) -> int:
        """Copies of the map memory and number of weight memories: one for two engines."""
        return (self.engines + 1) // 2

    @property
    def weight_stride(self) -> int:
        """Words from a weight memory to the next one in the host's addresses: a power of two."""
        return 1 << (self.weight_words - 1).bit_length()

    @property
    def weight_depths(self) -> tuple[int, ...]:
        """Words of every pair's weight memory: half as many for an engine without a partner, if
        there are others."""
        alone = self.engines > 1 and self.engines % 2
        return tuple(self.weight_words // 2 if alone and pair == self.pairs - 1
                     else self.weight_words for pair in range(self.pairs))

    @property
    def drains(self) -> int:
        """Drains, and so packers and sources of writes; the last one may have an engine less."""
        return -(-self.engines // self.drain_engines)

    @property
    def slots(self) -> int:
        """Accumulate slots per cycle: synaptic updates the core can do at most."""
        return self.engines * self.units

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


PRESETS: dict[str, CoreConfig] = {
    "tiny": CoreConfig(engines=2, units=4, window=16, acc_depth=16, map_words=512,
                       weight_words=1024, taps=32, planes=32, lanes=1, attention=True, gate=True,
                       sums=True),
    "a35t": CoreConfig(engines=5, drain_engines=2, map_words=2048, weight_words=6144, acc_bits=12,
                       dsp_adders=True),
    "a35tw": CoreConfig(engines=4, drain_engines=2, map_words=2048, weight_words=8192,
                        dsp_adders=True),
    "a35tf": CoreConfig(engines=4, drain_engines=2, map_words=2048, weight_words=8192,
                        dsp_adders=True, attention=True, gate=True, sums=True),
    "a35te": CoreConfig(engines=2, map_words=8192, weight_words=8192, dsp_adders=True,
                        acc_depth=32),
    "tinyd": CoreConfig(engines=3, drain_engines=2, units=4, window=16, acc_depth=16,
                        map_words=2048, weight_words=512, attention=True, gate=True, sums=True,
                        dram_words=1 << 15, ring_words=128),
    "a35td": CoreConfig(engines=4, drain_engines=2, map_words=4096, weight_words=6144,
                        program_words=2048, acc_bits=12, dsp_adders=True, dram_words=1 << 24,
                        ring_words=512, ddr3=True),
    "a35tde": CoreConfig(engines=2, drain_engines=2, units=16, window=64, map_words=6144,
                         weight_words=1024, program_words=2048, acc_bits=16, dsp_adders=True,
                         dram_words=1 << 24, ring_words=512),
    "a35tdf": CoreConfig(engines=2, units=16, window=64, map_words=4096, weight_words=8192,
                         program_words=4096, acc_bits=18, dsp_adders=True, attention=True,
                         gate=True, sums=True, dram_words=1 << 24, ring_words=512),
    "a100t": CoreConfig(engines=12, map_words=1024, weight_words=8192),
    "a100tf": CoreConfig(engines=10, map_words=4096, weight_words=8192, attention=True, gate=True,
                         sums=True),
    "a100tde": CoreConfig(engines=4, units=16, window=64, map_words=6144, weight_words=4096,
                          program_words=2048, acc_bits=16, dsp_adders=True, dram_words=1 << 24,
                          ring_words=1024),
    "a100tdf": CoreConfig(engines=8, window=64, map_words=3072, weight_words=5120,
                          program_words=4096, acc_bits=18, acc_depth=32, dsp_adders=True,
                          attention=True, gate=True, sums=True, dram_words=1 << 24,
                          ring_words=512),
    "micro": CoreConfig(engines=1, units=2, window=8, acc_depth=8, queue_depth=16, lanes=1,
                        map_words=256, weight_words=256, program_words=256, taps=16, planes=16,
                        attention=True, gate=True),
    "e45": CoreConfig(engines=2, lanes=1, map_words=2048, weight_words=16384),
    "e45f": CoreConfig(engines=2, lanes=1, map_words=2048, weight_words=16384, attention=True,
                       gate=True, sums=True),
    "e45d": CoreConfig(engines=2, lanes=1, map_words=4096, weight_words=16384, program_words=2048,
                       dram_words=1 << 23, ring_words=1024, sdram=True, clock_hz=80_000_000),
    "large": CoreConfig(engines=4, drain_engines=2, map_words=1 << 14, weight_words=1 << 16,
                        program_words=2048, attention=True, gate=True, sums=True),
    "e85": CoreConfig(engines=4, lanes=1, map_words=2048, weight_words=16384),
}
"""Named cores; hw.build maps boards to them. An f at the end: for Spikeformers, with attention and
patch gate. A w at the end: with the wider accumulators that a network's weights may need. An e:
with fewer engines for the map memory that event recordings of many pixels need. A d: with DRAM, for
weights that do not fit on chip; of the Artix-7's, "a35td" has a board's DDR3 behind it, the others
are so far in simulation only. With de and df map words are 64 positions wide: few engines with many
units, as each pair has its copy of the maps. "tiny", "tinyd" and "micro" are for tests and quick
simulation; "large" is "a35tf" with memories that no board here has, for simulating what does not
fit."""
