"""What can be built: boards with the cores that fit them, and the cores."""

from __future__ import annotations

import json

from hw.boards import BOARDS, DEVICES, Board
from hw.config import PRESETS

from . import fit


def show(as_json: bool) -> None:
    """Print the list."""
    found = listing()
    print(json.dumps(found, indent=1)) if as_json else _print(found)


def listing() -> dict:
    """Boards, with the presets that fit by the area model, and presets, JSON-ready."""
    def fitting(board: Board) -> list[str]:
        device = DEVICES[board.device]
        return [name for name, config in PRESETS.items()
                if board.has_memory_of(config) and all(
                    not use.short for use in fit.uses(device, fit.estimate(config, device)))]

    boards = {name: {"title": board.title, "part": board.part, "preset": board.preset,
                     "presets": fitting(board), "clock_mhz": board.clock_hz / 1e6,
                     "max_baud": board.max_baud}
              for name, board in BOARDS.items() if board.part}
    return {"boards": boards, "presets": {name: c.as_dict() for name, c in PRESETS.items()}}


def _print(found: dict) -> None:
    print("boards")
    for name, board in found["boards"].items():
        print(f"  {name:<12} {board['title']}, {board['part']}")
        print(f"  {'':<12} preset {board['preset']} at {board['clock_mhz']:g} MHz, UART to "
              f"{board['max_baud'] / 1e6:g} Mbaud; these fit: {', '.join(board['presets'])}")
    print("presets")
    for name, config in found["presets"].items():
        units = [unit for unit, has in (("attention", config["attention"]),
                                        ("patch gate", config["gate"]),
                                        ("residual sums", config["sums"])) if has]
        boards = [board for board, values in found["boards"].items() if name in values["presets"]]
        dram = f", {config['dram_words'] / (1 << 18):g} MB of DRAM" if config["dram_words"] else ""
        engines = f"{config['engines']} engine{'s' if config['engines'] > 1 else ''}"
        print(f"  {name:<12} {engines} x {config['units']} units, {config['lanes']} neuron "
              f"lane{'s' if config['lanes'] > 1 else ''} "
              f"{'an engine' if config['drain_engines'] == 1 else 'a pair of engines'}, "
              f"{config['acc_bits']}-bit "
              f"accumulators{' in DSP slices' if config['dsp_adders'] else ''}; "
              + (f"with {' and '.join(units)}" if units else "without attention and patch gate"))
        print(f"  {'':<12} {config['map_words']:,} map words, {config['weight_words']:,} weight "
              f"words a pair of engines{dram}; fits "
              f"{', '.join(boards) if boards else 'no board (for simulation)'}")
