"""What the host can reach over the link: memory spaces, registers, frame headers, identity.

Plain Python, the one place for both sides: the gateware (`hw.link`) and the host
(`sw.board.protocol`) read these tables. `docs/link.md` explains them. Field tables are written as
in `hw.program`: least significant first, one table per 32-bit word.
"""

from __future__ import annotations

import hashlib
import json
from enum import IntEnum

from . import program
from .config import CoreConfig
from .ddr3_control import CONTROL_BITS, Control
from .program import Fields

PROTOCOL = 3
"""Version of the frames below; a board answers another version with `Status.VERSION`."""

MAGIC = int.from_bytes(b"SPKT", "little")

REQUEST: tuple[Fields, ...] = (
    (("version", 4), ("reply", 1), ("sync", 1), ("write", 1), ("run", 1), ("read", 1),
     ("digest", 1), ("packed", 1), ("unused", 5), ("seq", 16)),
    (("write_addr", 24), ("write_space", 4), ("expand", 4)),
    (("read_addr", 24), ("read_space", 4)),
    (("read_count", 16), ("read_stride", 16)),
    (("start", 16), ("stop_after", 8)),
    (("max_cycles", 32),),
)
"""Header of a frame to the board; the words to write follow, then the CRC."""

GROUP_WORDS = 8
"""Words of memory that one presence byte of a packed write tells of (`hw.packing`)."""

REPLY: tuple[Fields, ...] = (
    (("version", 4), ("reply", 1), ("unused", 3), ("status", 8), ("seq", 16)),
    (("expected", 16), ("count", 16)),
    (("cycles", 32),),
    (("epoch", 32),),
)
"""Header of a frame from the board; `count` words follow, then the CRC."""

EPOCH_POLYNOMIAL = 0x04C11DB7
"""Of `next_epoch`: primitive, so that x has the order 2^32 - 1 and no repetition of a frame that
anybody sends brings an epoch back."""


def next_epoch(epoch, crc):
    """A board's epoch after a request whose frame has this CRC: epoch * x + crc in GF(2^32).

    The epoch is 0 after a reset. Every request done in its order advances it, but for a `sync`
    that neither writes nor runs. For integers, and for Amaranth's values of 32 bits.
    """
    top = (epoch >> 31) & 1
    return ((epoch << 1) & 0xFFFFFFFF) ^ (-top & EPOCH_POLYNOMIAL) ^ crc


UDP_PORT = 21328
"""Of a board with Ethernet."""

FIRST_IP = 192 << 24 | 168 << 16 | 1 << 8 | 50
"""Address of a board with Ethernet after a reset: 192.168.1.50."""

CALL = b"SPKT?"
"""A datagram that asks whoever is there for its announcement; it disturbs no session."""

ANNOUNCEMENT: Fields = (
    ("magic", 32), ("protocol", 16), ("holder_port", 16), ("holder_ip", 32), ("idle", 32),
    ("identity", 64), ("build", 64), ("clock_hz", 32))
"""A datagram from a board: what it is and who holds it, least significant byte first.

holder_ip, holder_port: the host whose session it serves, 0 for the serial line. idle: since its
last byte, in 2^IDLE_SHIFT clock cycles, at most 65,535, which it is after a reset, too. No reply
begins like this: its second byte is that of a header.
"""

ANNOUNCEMENT_BYTES = sum(width for _, width in ANNOUNCEMENT) // 8
IDLE_SHIFT = 20

FRAME_WORDS = 512
"""Longest frame to the board in 32-bit words, header and CRC included."""

BUFFER_WORDS = 1024
"""Frames waiting in the board take their words and one more each of this buffer."""

MAX_DIGEST = (1 << 16) - 1
"""Most words that a digest can cover."""

MAX_READ = 1024
"""Most words the host asks for in one frame (a larger count works, but costs more to repeat)."""


class Space(IntEnum):
    """Memories the host can reach; addresses count 32-bit words."""

    MAP = 0
    """Map memory: map word * lanes + lane. A write commits a map word with its last lane."""
    WEIGHT = 1
    """Weight memory: pair * weight_stride + word."""
    PROGRAM = 2
    COUNTER = 3
    """Read only: COUNTER_WORDS per layer of the last run."""
    REGISTER = 4
    GATE = 5
    """Mask of the patch gate: flat position n is bit n mod 32 of word n / 32."""
    DRAM = 6
    """Of a core with the tier: engine * stream_stride + word."""
    DRAM_CONTROL = 7
    """Of a core with DDR3: registers of its controller (`hw.ddr3_control`)."""


class Status(IntEnum):
    """Why the board did or did not do what a frame asked for."""

    OK = 0
    BAD_FRAME = 1
    OVERRUN = 2
    ORDER = 3
    VERSION = 4
    RANGE = 5
    TIMEOUT = 6
    BAD_REQUEST = 7
    STOPPED = 8
    DAMAGED = 9
    OUT_OF_TURN = 10


STATUS_TEXT = {
    Status.BAD_FRAME: "a frame arrived damaged",
    Status.OVERRUN: "a frame arrived while the board's buffer was full",
    Status.ORDER: "a frame arrived out of order",
    Status.VERSION: "the board speaks another protocol version",
    Status.RANGE: "a write lies outside the memory",
    Status.TIMEOUT: "the run did not end within its cycle limit, the core was reset",
    Status.BAD_REQUEST: "the board does not know this request",
    Status.STOPPED: "a request to start anew ended this one",
    Status.DAMAGED: "weights in DRAM are damaged, or the memory does not answer",
    Status.OUT_OF_TURN: "a layer was run whose weights have not come, or have gone, from DRAM",
}


class Register(IntEnum):
    """Addresses in `Space.REGISTER`; all read only but DIVISOR and IP."""

    MAGIC = 0
    PROTOCOL = 1
    ID_LOW = 2
    ID_HIGH = 3
    CLOCK_HZ = 4
    FRAMES = 5
    """Good frames since power-up, 32 bit, wrapping; the next two likewise."""
    BAD_FRAMES = 6
    OVERRUNS = 7
    UPTIME = 8
    """Clock cycles since power-up, 32 bit, wrapping."""
    DIVISOR = 9
    """Bit time of the UART in 1/16 clock cycles; takes effect after the reply has been sent."""
    BUILD_LOW = 10
    """First 64 bits of the build's ID (`build_number`), 0 where none was given; see `hw.build`."""
    BUILD_HIGH = 11
    IP = 12
    """Address of a board with Ethernet, 0 without; the next datagram is received there."""


def is_host_address(ip):
    """Whether a board can have this IPv4 address: none of 0.x, 127.x and 224.x on. For integers,
    and for Amaranth's values of 32 bits."""
    first = ip >> 24
    return (first != 0) & (first != 127) & (first < 224)


COUNTER_WORDS = 16
COUNTER_LAYERS = 32
"""Layers whose counters are kept; later layers of a longer program are not logged."""

COUNTERS = ("cycles", "words", "weights", "updates", "queue_stall", "port_stall", "starved",
            "bank_wait", "neurons", "written")
"""Counters of a layer, by word; stalls are summed over engines (bank_wait: over units)."""

DEFAULT_BAUD = 3_000_000
"""Rate of a board's UART after power-up and after a break; the host may change it."""

MIN_DIVISOR = 4 * 16
"""Four clock cycles a bit is the fastest UART setting."""


def map_lanes(config: CoreConfig) -> int:
    """32-bit lanes of a map word."""
    return max(1, config.map_bits // 32)


def space_words(config: CoreConfig) -> dict[Space, int]:
    """32-bit words that the host can address in each space."""
    return {
        Space.MAP: config.map_words * map_lanes(config),
        Space.WEIGHT: config.pairs * config.weight_stride,
        Space.PROGRAM: config.program_words,
        Space.COUNTER: COUNTER_WORDS * COUNTER_LAYERS,
        Space.REGISTER: len(Register),
        Space.GATE: config.gate_tokens // 32 if config.gate else 0,
    } | ({Space.DRAM: config.dram_words} if config.dram_words else {}) | (
        {Space.DRAM_CONTROL: 1 << CONTROL_BITS} if config.ddr3 else {})


def build_number(build_id: str) -> int:
    """What BUILD_LOW and BUILD_HIGH hold, high word first, of a build's ID in hexadecimal.

    Raises ValueError for text that is not hexadecimal or shorter than 16 digits.
    """
    digits = build_id[:16]
    if len(digits) < 16 or set(digits) - set("0123456789abcdef"):
        raise ValueError(f"build ID {build_id!r} is not 16 or more hexadecimal digits")
    return int(digits, 16)


def identity(config: CoreConfig) -> int:
    """64-bit identity of a board: a hash of everything the host must agree on with it.

    What adds up the accumulators is not the host's concern; a drain for every engine, no DRAM and
    no sums are what boards had before there was a choice.
    """
    agreed = {name: value for name, value in config.as_dict().items() if name != "dsp_adders"
              and (name, value) not in (("drain_engines", 1), ("dram_words", 0), ("ring_words", 0),
                                        ("sums", False), ("sdram", False), ("ddr3", False))}
    header = [[field for field in word if config.dram_words
               or field[0] not in program.STREAM_FIELDS] for word in program.HEADER]
    contract = {"protocol": PROTOCOL, "config": agreed, "request": REQUEST,
                "reply": REPLY, "program": [header, program.ENGINE, program.PLANE,
                                            program.TAP, program.ROW_HEADER],
                "counters": COUNTERS}
    if config.ddr3:
        contract["dram_control"] = {register.name: register.value for register in Control}
    text = json.dumps(contract, sort_keys=True, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def manifest(config: CoreConfig) -> dict:
    """What the host needs to drive a board of this configuration, as JSON-ready values."""
    return {
        "format": "spiketicket-manifest",
        "protocol": PROTOCOL,
        "id": f"{identity(config):016x}",
        "clock_hz": config.clock_hz,
        "config": config.as_dict(),
        "spaces": {space.name.lower(): words for space, words in space_words(config).items()},
    }


def manifest_config(values: dict) -> CoreConfig:
    """Configuration a manifest describes.

    Raises ValueError when it is no manifest, or its identity is not what its configuration and
    this program's tables give (it was edited, or written by another version).
    """
    if not isinstance(values, dict) or values.get("format") != "spiketicket-manifest":
        raise ValueError("not a SpikeTicket manifest")
    if values.get("protocol") != PROTOCOL:
        raise ValueError(f"a manifest of protocol {values.get('protocol')!r}, this version speaks "
                         f"{PROTOCOL}; build board and host from one version")
    try:
        config = CoreConfig(**values["config"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"manifest lacks a usable configuration: {error}") from None
    if values.get("id") != f"{identity(config):016x}":
        raise ValueError(f"manifest identity {values.get('id')} is not this version's "
                         f"{identity(config):016x}; build board and host from one version")
    return config


for _table in (*REQUEST, *REPLY):
    assert sum(width for _, width in _table) <= 32, _table
