"""Models of FPGA cells in `sim/cells` against plain arrays and products, on random traffic.

Settings: specs (see `sim.cell_wrappers.Cells`), promised (whether a port reads old data where
the other one writes in READ_FIRST mode), seed; for multipliers only the seed.
Under Icarus an unknown bit is X, so that a model that answers where the vendor does not is found.
"""

from __future__ import annotations

import cocotb
from cocotb.triggers import FallingEdge, ReadOnly

from sim.cell_wrappers import content
from sim.helpers import settings, start
from sim.streams import seeded

CYCLES = 2500
X = None


class Memory:
    """Bits of a memory, and what its two ports show; an unknown bit is None."""

    def __init__(self, spec: dict, promised: bool):
        self.spec, self.promised = spec, promised
        self.bits = [int(byte) >> k & 1 for byte in content(spec) for k in range(9)]
        self.out: list[list[int | None]] = [[0] * spec["read"][port] for port in (0, 1)]

    def window(self, width: int, address: int) -> range:
        """The bits that a port of this width means by an address."""
        byte = address // 8 % (len(self.bits) // 9)
        if width >= 9:
            first = byte // (width // 9) * width
        else:
            first = 9 * byte + address % 8 // width * width
        return range(first, first + width)

    def clock(self, accesses: list[tuple[int, int, int, int, int]]) -> None:
        """Both ports at an edge: (enable, reset, byte enables, address, data) each."""
        writes: list[dict[int, int]] = []
        for port, (enable, _, we, address, data) in enumerate(accesses):
            width = self.spec["write"][port]
            bits = self.window(width, address) if enable and width else range(0)
            writes.append({bit: data >> k & 1 for k, bit in enumerate(bits)
                           if we >> (k // 9 if width > 9 else 0) & 1})
        before, mode = {}, self.spec["mode"]
        for port in (0, 1):
            for bit in writes[port]:
                before.setdefault(bit, self.bits[bit])
        for bit in before:
            values = [write[bit] for write in writes if bit in write]
            self.bits[bit] = values[0] if len(set(values)) == 1 else X
        for port, (enable, reset, _, address, _) in enumerate(accesses):
            own, other = writes[port], writes[1 - port]
            width = self.spec["read"][port]
            if not enable or not width:
                continue
            if reset:
                value = self.spec["reset"][port]
                lanes = max(1, width // 9)
                order = [k % 9 + k // 9 * 8 if k % 9 < 8 else 8 * lanes + k // 9
                         for k in range(width)]
                self.out[port] = [value >> k & 1 for k in order]
                continue
            if own and mode[port] == "NO_CHANGE":
                continue
            shown = []
            for bit in self.window(width, address):
                if bit in own and mode[port] == "WRITE_FIRST":
                    shown.append(own[bit])
                elif bit in other and not (self.promised and mode[1 - port] == "READ_FIRST"):
                    shown.append(X)
                else:
                    shown.append(before.get(bit, self.bits[bit]))
            self.out[port] = shown


def text(bits: list[int | None]) -> str:
    return "".join("X" if bit is X else str(bit) for bit in reversed(bits))


@cocotb.test(skip="specs" not in settings())
async def memories(dut):
    chosen = settings()
    rng = seeded(chosen["seed"])
    models = [Memory(spec, chosen["promised"]) for spec in chosen["specs"]]
    for name in ("en", "reset", "we_a", "we_b", "address_a", "address_b", "di_a", "di_b"):
        getattr(dut, name).value = 0
    await start(dut, 2 * CYCLES)
    unknown = 0
    for cycle in range(CYCLES):
        await FallingEdge(dut.clk)
        accesses = []
        address = int(rng.integers(0, 1 << 16))
        for _ in (0, 1):
            # Mostly a few rows, so that the ports meet; the same address, another, or anything.
            kind = rng.random()
            if kind < 0.3:
                address = int(rng.integers(0, 1 << 16))
            elif kind < 0.9:
                address = address & 0x40 | int(rng.integers(0, 64))
            accesses.append((int(rng.random() < 0.9), int(rng.random() < chosen["resets"]),
                             int(rng.choice([0, 0, 255, rng.integers(0, 256)])), address,
                             int.from_bytes(rng.bytes(9), "little")))
        dut.en.value = accesses[0][0] | accesses[1][0] << 1
        dut.reset.value = accesses[0][1] | accesses[1][1] << 1
        for x, (_, _, we, address, data) in zip("ab", accesses, strict=True):
            getattr(dut, f"we_{x}").value = we
            getattr(dut, f"address_{x}").value = address
            getattr(dut, f"di_{x}").value = data
        await ReadOnly()
        for index, model in enumerate(models):
            for x, want in zip("ab", model.out, strict=True):
                got = str(getattr(dut, f"do_{x}{index}").value)[72 - len(want):]
                assert got.upper() == text(want), (
                    f"cycle {cycle}, port {x} of {model.spec}: {got}, expected {text(want)}")
                unknown += X in want
            model.clock(accesses)
    dut._log.info(f"{unknown} outputs with unknown bits")
    assert unknown > CYCLES // 50


@cocotb.test(skip="specs" in settings())
async def products(dut):
    rng = seeded(settings()["seed"])
    dut.a.value = dut.b.value = 0
    await start(dut, 2 * CYCLES)
    extremes = [0, 1, (1 << 17) - 1, 1 << 17, (1 << 18) - 1]
    for _ in range(CYCLES):
        await FallingEdge(dut.clk)
        a, b = (int(rng.choice(extremes)) if rng.random() < 0.3 else int(rng.integers(0, 1 << 18))
                for _ in range(2))
        dut.a.value, dut.b.value = a, b
        await ReadOnly()
        for index in range(4):
            x = a - (a >> 17 << 18) if index & 1 else a
            y = b - (b >> 17 << 18) if index & 2 else b
            assert int(getattr(dut, f"p{index}").value) == x * y % (1 << 36)
