"""What a board is, from the identity that it tells: the configurations this version knows.

A board says a hash of its configuration (`hw.registers.identity`) and the first half of its build's
ID. Known are the presets at the clocks of the boards, and the builds in bitstreams/.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, replace
from pathlib import Path

from hw import registers
from hw.boards import BOARDS
from hw.config import PRESETS, CoreConfig

from .. import bounded
from ..errors import BadInput, SpikeTicketError

MAX_MANIFEST = 1 << 20
"""Bytes of a manifest at most; those there are take some thousands."""

BITSTREAMS = Path(__file__).parents[2] / "bitstreams"


@dataclass(frozen=True)
class Known:
    """A configuration and what is known of it.

    preset: its name in `hw.config.PRESETS`, "" if it is none. board: in `hw.boards`, "" where only
    the configuration is known. baud: the rate after power-up.
    """

    config: CoreConfig
    preset: str = ""
    board: str = ""
    build_id: str = ""
    baud: int = registers.DEFAULT_BAUD


def read_manifest(path: str | Path) -> Known:
    """A build's manifest. Raises SpikeTicketError if it is none, or of another version."""
    try:
        values = json.loads(bounded.read(path, MAX_MANIFEST, "a manifest"))
        config = registers.manifest_config(values)
        build_id, baud = values.get("build_id", ""), values.get("baud", registers.DEFAULT_BAUD)
        board = values.get("board", "")
        if build_id:
            registers.build_number(build_id)
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise BadInput(f"{path}: not a manifest for this version "
                       f"({' '.join(str(error).split())})") from None
    if not isinstance(board, str) or type(baud) is not int or not 1 <= baud <= 100_000_000:
        raise BadInput(f"{path}: board {board!r} or baud {baud!r} is no such thing")
    return Known(config, _preset(config), board, build_id, baud)


def _preset(config: CoreConfig) -> str:
    return next((name for name, preset in PRESETS.items()
                 if replace(preset, clock_hz=config.clock_hz) == config), "")


@functools.cache
def builds(folder: Path = BITSTREAMS) -> tuple[Known, ...]:
    """The builds in a folder; manifests of other versions are left out."""
    found = []
    for path in sorted(folder.glob("*/manifest.json")):
        try:
            found.append(read_manifest(path))
        except SpikeTicketError:
            continue
    return tuple(found)


def find(identity: int, build: int = 0) -> Known | None:
    """What has this identity; None if nothing that is known has.

    build: of registers BUILD_LOW and BUILD_HIGH, to tell builds of one configuration apart.
    """
    same = [known for known in builds() if registers.identity(known.config) == identity]
    for known in same:
        if build and known.build_id and registers.build_number(known.build_id) == build:
            return known
    if same:
        return Known(same[0].config, same[0].preset)
    clocks = {board.clock_hz for board in BOARDS.values()}
    for name, preset in PRESETS.items():
        for clock_hz in sorted(clocks | {preset.clock_hz}):
            config = replace(preset, clock_hz=clock_hz)
            if registers.identity(config) == identity:
                return Known(config, name)
    return None


def first_rates() -> tuple[int, ...]:
    """Rates that boards may have after power-up, the usual one first."""
    others = sorted({known.baud for known in builds()} - {registers.DEFAULT_BAUD})
    return registers.DEFAULT_BAUD, *others
