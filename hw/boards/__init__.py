"""The boards SpikeTicket knows, as plain data (no Amaranth): what plan, driver and build need."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hw.config import PRESETS, CoreConfig


@dataclass(frozen=True)
class Board:
    """A board.

    preset: its core in `hw.config.PRESETS`. device: its FPGA, as in `DEVICES`.
    part: the FPGA's full name with package and speed grade, "" where nothing can be built.
    platform: module and class in `amaranth_boards`. clock_hz: of the core, made by a PLL where it
    is not the oscillator's. max_baud: what the board's USB bridge takes. usb: vendor, product and
    interface of the bridge's serial port. phy: kind of its Ethernet PHY, "mii" or "rgmii"; "" where
    there is none. sdram, ddr3: what its SDR SDRAM or DDR3 chip is, "" where there is none that we
    have a controller for.
    """

    name: str
    title: str
    preset: str
    device: str
    part: str = ""
    platform: tuple[str, str] = ("", "")
    clock_hz: int = 100_000_000
    max_baud: int = 12_000_000
    usb: tuple[int, int, int] | None = None
    phy: str = ""
    sdram: str = ""
    ddr3: str = ""

    @property
    def presets(self) -> tuple[str, ...]:
        """Its cores: `preset`, and those with wider accumulators, with a larger map memory, with
        attention and patch gate, or with the board's DRAM, where there are others."""
        ends = ("", "w", "e", "f", *(("d",) if self.dram else ()))
        return tuple(name for end in ends if (name := f"{self.preset}{end}") in PRESETS)

    @property
    def dram(self) -> str:
        """What its memory chip is, of either kind."""
        return self.sdram or self.ddr3

    def has_memory_of(self, config: CoreConfig) -> bool:
        """Whether what a core has behind its DRAM port, if anything, is on the board."""
        return not config.dram_words or (config.sdram and self.sdram != "") or (
            config.ddr3 and self.ddr3 != "")

    @property
    def config(self) -> CoreConfig:
        return replace(PRESETS[self.preset], clock_hz=self.clock_hz)


@dataclass(frozen=True)
class Device:
    """An FPGA: what it has. family: "xc7" or "ecp5"; ram: name of its block RAM.

    lut: 6-input LUTs (xc7), 4-input LUTs (ecp5). bram: RAMB36E1 (xc7), DP16KD of 18 Kbit (ecp5).
    dsp: DSP48E1 (xc7), MULT18X18D (ecp5).
    """

    name: str
    family: str
    lut: int
    ff: int
    bram: int
    dsp: int

    @property
    def ram(self) -> str:
        return {"xc7": "bram36", "ecp5": "dp16kd"}[self.family]

    @property
    def ram_bits(self) -> int:
        """Bits of all block RAM."""
        return self.bram * 1024 * {"xc7": 36, "ecp5": 18}[self.family]


DEVICES: dict[str, Device] = {device.name: device for device in (
    Device("XC7A35T", "xc7", 20_800, 41_600, 50, 90),
    Device("XC7A100T", "xc7", 63_400, 126_800, 135, 240),
    Device("LFE5U-45F", "ecp5", 43_848, 43_848, 108, 72),
    Device("LFE5U-85F", "ecp5", 83_640, 83_640, 208, 156),
)}

FT2232H, FT231X = (0x0403, 0x6010, 1), (0x0403, 0x6015, 0)
"""FTDI's USB bridges: vendor, product, interface of the serial line (the FT2232H has JTAG on its
first)."""

ARTY_DDR3 = "256 MB DDR3L SDRAM, MT41K128M16JT-125"

BOARDS: dict[str, Board] = {board.name: board for board in (
    Board("sim", "simulated board: the gateware of arty_a7 in Verilator", "a35t", "XC7A35T"),
    Board("arty_a7", "Digilent Arty A7-35T", "a35t", "XC7A35T", "xc7a35ticsg324-1L",
          ("arty_a7", "ArtyA7_35Platform"), usb=FT2232H, phy="mii", ddr3=ARTY_DDR3),
    Board("arty_a7_100", "Digilent Arty A7-100T", "a100t", "XC7A100T", "xc7a100ticsg324-1L",
          ("arty_a7", "ArtyA7_100Platform"), usb=FT2232H, phy="mii", ddr3=ARTY_DDR3),
    Board("ulx3s_85f", "Radiona ULX3S with LFE5U-85F", "e45", "LFE5U-85F", "LFE5U-85F-6BG381",
          ("ulx3s", "ULX3S_85F_Platform"), 80_000_000, 3_000_000, usb=FT231X,
          sdram="32 MB SDR SDRAM, MT48LC16M16A2 or one like it"),
    Board("ecpix5_85f", "LambdaConcept ECPIX-5 with LFE5UM5G-85F", "e45", "LFE5U-85F",
          "LFE5UM5G-85F-8BG554", ("ecpix5", "ECPIX585Platform"), usb=FT2232H, phy="rgmii"),
    Board("versa_ecp5", "Lattice ECP5 Versa with LFE5UM-45F", "e45", "LFE5U-45F",
          "LFE5UM-45F-8BG381", ("versa_ecp5", "VersaECP5Platform"), usb=FT2232H,
          phy="rgmii"),
)}
"""Boards by the names that `--board` takes."""

DEFAULT_BOARD = "sim"
