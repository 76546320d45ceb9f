"""The monitor's readings as something rich can draw."""

from __future__ import annotations

from collections.abc import Sequence

from rich.bar import Bar
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ..report import place
from .throughput import line_name

BLOCKS = "▁▂▃▄▅▆▇█"
BAR = 8
"""Columns of a bar."""
LAST = 30
"""Inputs whose cycles are drawn."""
WIDE = 98
"""Columns from which the line's figures stand beside the run's."""
BARS = 72
"""Columns from which layers have bars."""


def view(values: dict, width: int = WIDE, height: int | None = None) -> RenderableType:
    """Readings (`sw.board.readings.Readings.values`) as one picture.

    width, height: of the terminal; where the layers are more than fit, those with most cycles are
    shown, and what the others sum up to. height None: as many rows as it takes.
    """
    errors = _errors(values)
    wide = width >= WIDE
    head = (Columns([_run(values), _line(values)], padding=(0, 4)) if wide else
            _pairs(_brief(values)))
    taken = (7 if wide else len(_brief(values))) + 6 + 2 * wide   # all but the rows of layers
    rows = None if height is None else max(1, height - taken - 1)
    where = "simulated board" if values["simulated"] else values["board"]
    core = f", core {values['preset']}" if values["preset"] else ""
    place_of = (values[name] for name in ("board", "preset", "transport", "simulated"))
    title = place(*place_of) if wide else f"{where}{core}"
    return Panel(
        Group(head, Text(), _layers(values, width, rows), *([Text()] if wide else []), errors),
        title=f"[bold]{values['ticket']}[/] on {title}", title_align="left",
        border_style="red" if errors.style == "red" else "green",
        padding=(1, 2) if wide else (0, 1), expand=False)


def spark(numbers: Sequence[float]) -> str:
    """One block a number, from the lowest to the highest of them."""
    if not numbers:
        return ""
    low, high = min(numbers), max(numbers)
    top = len(BLOCKS) - 1
    return "".join(BLOCKS[round(top * (n - low) / (high - low)) if high > low else top // 2]
                   for n in numbers)


def _pairs(rows: dict[str, str]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(no_wrap=True)
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _run(values: dict) -> Table:
    recent = values["cycles_recent"][-LAST:]
    return _pairs({
        "inputs": f"{values['images']:,} in {values['seconds']:,.1f} s",
        "accuracy": f"{100 * values['accuracy']:.2f} %",
        "frames/s, core": f"{values['frames_per_s_core']:,.0f} at "
                          f"{values['clock_hz'] / 1e6:g} MHz",
        "frames/s, host": f"{values['frames_per_s_host']:,.1f}",
        "useful slots": f"{100 * values['useful_fraction']:.1f} % "
                        f"({values['useful_updates_per_cycle']:.1f} of {values['slots']})",
        "cycles per input": f"{values['cycles_per_image']:,.0f}",
        "the last ones": spark(recent)})


def _rate(link: dict) -> str:
    """Of the line in words, "" where there is none."""
    return line_name(link["baud"]) if link["baud"] or link["network"] else ""


def _line(values: dict) -> Table:
    link = values["link"]
    to, back = link["bytes_per_image"]
    return _pairs({
        "transport": values["transport"],
        "line": _rate(link) or "no UART (simulated)",
        "bytes to the board": f"{link['bytes_sent']:,} ({to:,.0f} an input)",
        "bytes back": f"{link['bytes_received']:,} ({back:,.0f} an input)",
        "bytes a second": f"{link['bytes_per_s']:,.0f}",
        "jobs done": f"{link['jobs']:,}",
        "frames, board": f"{values['board_counts'].get('frames', 0):,}"})


def _brief(values: dict) -> dict[str, str]:
    """The same where there are few columns and rows."""
    link = values["link"]
    to, back = link["bytes_per_image"]
    line = _rate(link) or "no UART"
    return {
        "inputs": f"{values['images']:,} in {values['seconds']:,.1f} s, "
                  f"{100 * values['accuracy']:.2f} % right",
        "frames/s": f"{values['frames_per_s_core']:,.0f} core, "
                    f"{values['frames_per_s_host']:,.1f} host",
        "cycles": f"{values['cycles_per_image']:,.0f} an input",
        "the last": spark(values["cycles_recent"][-LAST:]),
        "useful": f"{100 * values['useful_fraction']:.1f} % "
                  f"({values['useful_updates_per_cycle']:.1f} of {values['slots']} slots)",
        "line": f"{line}, {to:,.0f} + {back:,.0f} bytes an input"}


def _layers(values: dict, width: int, rows: int | None) -> Table:
    """Rows of the layers. rows: how many there may be."""
    bars, found = width >= BARS, values["layers"]
    table = Table(box=None, padding=(0, 2 if bars else 1, 0, 0), header_style="dim")
    for name in ("layer", "cycles", "useful", "queue", "starved"):
        table.add_column(name, justify="left" if name == "layer" else "right", no_wrap=True)
        if bars and name in ("cycles", "useful"):
            table.add_column("", no_wrap=True)
    longest = max(1.0, *(layer["cycles"] for layer in found))
    shown = found
    if rows is not None and len(found) > rows:
        most = sorted(found, key=lambda layer: -layer["cycles"])[:max(0, rows - 1)]
        shown = [layer for layer in found if layer in most]
    room = max(8, width - (60 if bars else 42))
    for layer in shown:
        name = layer["name"]
        name = name if len(name) <= room else "…" + name[1 - room:]     # the end tells them apart
        cells = [name, f"{layer['cycles']:,.0f}", f"{100 * layer['useful']:.1f} %",
                 *(f"{100 * layer[stall]:.1f} %" for stall in ("queue_stall", "starved"))]
        if bars:
            cells.insert(2, Bar(longest, 0, layer["cycles"], width=BAR, color="cyan"))
            cells.insert(4, Bar(1.0, 0, min(1.0, layer["useful"]), width=BAR, color="green"))
        table.add_row(*cells)
    if len(shown) < len(found):
        rest = sum(layer["cycles"] for layer in found if layer not in shown)
        table.add_row(f"{len(found) - len(shown)} more", f"{rest:,.0f}", style="dim")
    return table


def _errors(values: dict) -> Text:
    """Errors of the line, red if there were any."""
    counts = {"recoveries": values["link"]["recoveries"],
              **{name.replace("_", " "): values["board_counts"].get(name, 0)
                 for name in ("bad_frames", "overruns")}}
    text = "line errors: " + ", ".join(f"{n:,} {name}" for name, n in counts.items())
    return Text(text, style="red" if any(counts.values()) else "green")
